package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aptmesh/aptmesh/node/admin"
	"github.com/aptmesh/aptmesh/proto"
)

// exporter is a node that has one snapshot. Its files have their paths as contents, except as spoilt says: "gone", "wrong" or
// "dies".
type exporter struct {
	files  []admin.SnapshotFile
	spoilt map[string]string
}

func newExporter(t *testing.T, spoilt map[string]string, paths ...string) (addr string, e *exporter) {
	t.Helper()
	e = &exporter{spoilt: spoilt}
	for i, path := range paths {
		e.files = append(e.files, admin.SnapshotFile{
			Kind: []string{"root", "index", "package"}[min(i, 2)], Archive: "a", Paths: []string{path}, SHA256: proto.DigestOf([]byte(path)), Size: int64(len(path)), Stored: true, Needed: i < 2 && path != "optional",
		})
	}
	server := httptest.NewServer(e)
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://"), e
}

func (e *exporter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/v1/snapshots/files" {
		fmt.Fprintln(w, `{"head":{"name":"w48","taken":"2026-11-01T00:00:00Z","record":"e30="}}`)
		for i := range e.files {
			json.NewEncoder(w).Encode(map[string]any{"file": &e.files[i]})
		}
		fmt.Fprintln(w, `{"end":{"unstored":3}}`)
		return
	}
	path := r.URL.Query().Get("path")
	switch e.spoilt[path] {
	case "gone":
		w.WriteHeader(http.StatusBadGateway)
		fmt.Fprint(w, `{"error":"upstream has it no more"}`)
	case "wrong":
		fmt.Fprint(w, strings.ToUpper(path))
	case "dies":
		panic(http.ErrAbortHandler)
	default:
		fmt.Fprint(w, path)
	}
}

func TestExport(t *testing.T) {
	for name, c := range map[string]struct {
		spoilt map[string]string
		args   []string
		code   int
		says   string // on both outputs
		whole  string // a file that is there; "" for none
	}{
		"a bundle":                     {nil, nil, 0, "w48: 4 files, 14 B, of which 14 B were written to ", "manifest.jsonl"},
		"a tree":                       {nil, []string{"--tree"}, 0, "current leads to it", "current/a/pool/x"},
		"what is not stored":           {nil, nil, 0, "3 packages left out, because the node does not have them; --all fetches them", "00001.tar"},
		"a package is gone":            {map[string]string{"pool/x": "gone"}, nil, exitIncomplete, "missing: a/pool/x: upstream has it no more", "manifest.jsonl"},
		"as JSON":                      {map[string]string{"pool/x": "gone"}, []string{"--json"}, exitIncomplete, `"error": "upstream has it no more"`, "manifest.jsonl"},
		"a package is another one":     {map[string]string{"pool/x": "wrong"}, nil, exitIncomplete, "missing: a/pool/x: ", "manifest.jsonl"},
		"a tree without a package":     {map[string]string{"pool/x": "gone"}, []string{"--tree"}, exitIncomplete, "missing: a/pool/x: upstream has it no more", "current/a/pool/y"},
		"a tree without an index":      {map[string]string{"i": "gone"}, []string{"--tree"}, exitIncomplete, "the tree stays as it was, because a/i cannot be had", ""},
		"a tree without a known index": {map[string]string{"i": "unknown"}, []string{"--tree"}, exitIncomplete, "the tree stays as it was, because a/i cannot be had", ""},
		"an unknown package":           {map[string]string{"pool/x": "unknown"}, []string{"--tree"}, exitIncomplete, "missing: a/pool/x: its sum is not known", "current/a/pool/y"},
		"a tree with another root":     {map[string]string{"r": "wrong"}, []string{"--tree"}, exitIncomplete, "the tree stays as it was, because a/r cannot be had", ""},
		"the node dies":                {map[string]string{"pool/x": "dies"}, nil, exitFailed, "the node does not answer", "manifest.partial"},
		"the node dies under a tree":   {map[string]string{"pool/x": "dies"}, []string{"--tree"}, exitFailed, "the node does not answer", ""},
		"a tree or a bundle":           {nil, []string{"--tree", "--bundle"}, exitUsage, "name one of them", ""},
		"a tree since":                 {nil, []string{"--tree", "--since", "w47"}, exitUsage, "are for bundles", ""},
		"a size":                       {nil, []string{"--chunk-size", "3 bananas"}, exitUsage, "no size of 1MiB or more", ""},
		"no such manifest":             {nil, []string{"--since", "./none"}, exitFailed, "--since: ", ""},
	} {
		t.Run(name, func(t *testing.T) {
			addr, e := newExporter(t, c.spoilt, "r", "i", "pool/x", "pool/y")
			for i := range e.files {
				if c.spoilt[e.files[i].Paths[0]] == "unknown" {
					e.files[i].Missing = "its sum is not known"
				}
			}
			dir := filepath.Join(t.TempDir(), "to")
			a, out, errs := testApp(t)
			code := run(t, a, append([]string{"export", "w48", "--to", dir, "--admin", addr}, c.args...)...)
			if said := out.String() + errs.String(); code != c.code || !strings.Contains(said, c.says) {
				t.Errorf("exit code %d, want %d and %q: %s", code, c.code, c.says, said)
			}
			if c.whole != "" {
				if _, err := os.Stat(filepath.Join(dir, c.whole)); err != nil {
					t.Error(err)
				}
			} else if _, err := os.Lstat(filepath.Join(dir, "current")); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("there is a tree: %v", err)
			}
		})
	}
	a, _, errs := testApp(t)
	if code := run(t, a, "export", "w48", "--admin", "127.0.0.1:1"); code != exitUsage || !strings.Contains(errs.String(), "--to is missing") {
		t.Errorf("without --to: %d, %s", code, errs)
	}
	a, _, errs = testApp(t)
	if code := run(t, a, "import", filepath.Join(t.TempDir(), "none"), "--admin", "127.0.0.1:1"); code != exitFailed || !strings.Contains(errs.String(), "no such file or directory") {
		t.Errorf("a directory that is not there: %d, %s", code, errs)
	}
}

// An index that clients can do without is left out.
func TestExportOptional(t *testing.T) {
	addr, _ := newExporter(t, map[string]string{"optional": "gone"}, "r", "optional", "pool/y")
	dir := filepath.Join(t.TempDir(), "to")
	a, out, errs := testApp(t)
	if code := run(t, a, "export", "w48", "--to", dir, "--tree", "--admin", addr); code != exitIncomplete || !strings.Contains(out.String(), "missing: a/optional: upstream has it no more") {
		t.Errorf("exit code %d: %s%s", code, out, errs)
	}
	if _, err := os.Stat(filepath.Join(dir, "current/a/pool/y")); err != nil {
		t.Error(err)
	}
}

// Paths that a node should never give lead nowhere.
func TestExportPaths(t *testing.T) {
	addr, _ := newExporter(t, nil, "r", "i", "../../evil", "pool/y")
	dir := filepath.Join(t.TempDir(), "to")
	a, out, errs := testApp(t)
	if code := run(t, a, "export", "w48", "--to", dir, "--tree", "--admin", addr); code != exitIncomplete || !strings.Contains(out.String(), `does not lie in the tree`) {
		t.Errorf("exit code %d: %s%s", code, out, errs)
	}
	if _, err := os.Stat(filepath.Join(dir, "current/a/pool/y")); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "../evil")); err == nil {
		t.Error("a file was written outside")
	}
}

// A tree is no bundle, and the command says so.
func TestImportTree(t *testing.T) {
	addr, _ := newExporter(t, nil, "r", "i", "pool/x")
	dir := filepath.Join(t.TempDir(), "to")
	a, _, _ := testApp(t)
	if code := run(t, a, "export", "w48", "--to", dir, "--tree", "--admin", addr); code != 0 {
		t.Fatal(code)
	}
	a, _, errs := testApp(t)
	if code := run(t, a, "import", dir, "--admin", addr); code != exitRefused || !strings.Contains(errs.String(), "export a bundle (without --tree)") {
		t.Errorf("exit code %d: %s", code, errs)
	}
}
