package e2e

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
)

// world is an archive, its server, and a node in front of it that calls it
// "debian" and takes archive.example.org for it in proxy mode.
type world struct {
	t       *testing.T
	archive *testarchive.Archive
	server  *testarchive.Server
	node    *node
	began   time.Time // of the first generation
}

// options of a world; the zero value will do.
type options struct {
	archiveConfig string // further keys of the archive, each on a line of its own
	config        string // further sections of the configuration
	tls           bool   // upstream speaks https only
}

// newWorld publishes the suite with its packages, and starts a node.
func newWorld(t *testing.T, suite testarchive.Suite, o options, packages ...testarchive.Package) *world {
	t.Helper()
	w := &world{t: t, archive: testarchive.New(7), began: time.Now().Add(-time.Hour).Truncate(time.Second)}
	w.archive.AddSuite(suite)
	for _, p := range packages {
		w.archive.AddPackage(suite.Name, p)
	}
	w.archive.Publish(w.began)
	if o.tls {
		w.server = testarchive.NewTLSServer(w.archive)
	} else {
		w.server = testarchive.NewServer(w.archive)
	}
	t.Cleanup(w.server.Close)

	keyring := writeFile(t, filepath.Join(t.TempDir(), "archive.gpg"), w.archive.Keyring())
	w.node = newNode(t, fmt.Sprintf(`archives:
  debian:
    upstream: %s
    aliases: ["http://archive.example.org/debian"]
    signed_by: [%q]
%s
%s`, w.server.URL, keyring, indent(o.archiveConfig), o.config))
	if o.tls {
		w.node.Env = append(w.node.Env, "SSL_CERT_FILE="+writeFile(t, filepath.Join(t.TempDir(), "ca.pem"), w.server.CA()))
	}
	w.node.start()
	return w
}

func indent(text string) string {
	if text == "" {
		return ""
	}
	return "    " + strings.ReplaceAll(text, "\n", "\n    ")
}

// host makes a client. In line, URL stands for the archive in the way of the mode:
// "mapped", "proxy", or "https" for an archive that speaks https only.
func (w *world) host(mode, line string, settings ...string) *apt {
	w.t.Helper()
	var url string
	switch mode {
	case "mapped":
		url = w.node.URL + "/debian"
	case "proxy":
		url, settings = "http://archive.example.org/debian", append(settings, proxy(w.node))
	case "https": // as apt-cacher-ng's users write it
		url, settings = "http://HTTPS///"+strings.TrimPrefix(w.server.URL, "https://"), append(settings, proxy(w.node))
	default:
		w.t.Fatalf("there is no mode %q", mode)
	}
	line = strings.ReplaceAll("[signed-by=KEYRING] "+line, "URL", url)
	return newApt(w.t, w.archive.Keyring(), "deb "+line+"\ndeb-src "+line, settings...)
}

// find returns the only file of the archive whose path has all these parts.
func (w *world) find(parts ...string) (path string, data []byte) {
	w.t.Helper()
	for p, b := range w.archive.Files() {
		all := true
		for _, part := range parts {
			all = all && strings.Contains("/"+p, part)
		}
		if !all {
			continue
		}
		if path != "" {
			w.t.Fatalf("both %s and %s have %q", path, p, parts)
		}
		path, data = p, b
	}
	if path == "" {
		w.t.Fatalf("no file has %q", parts)
	}
	return path, data
}

// refresh has the node look for a new generation, and demands that it finds one.
func (w *world) refresh(suite string) {
	w.t.Helper()
	out, errs, code := w.node.run("refresh", "debian/"+suite, "--config", w.node.ConfigFile())
	if code != 0 || !strings.Contains(out, "adopted") {
		w.t.Fatalf("aptmesh refresh: exit code %d: %s%s", code, out, errs)
	}
}

// twice lists the paths that upstream was asked for more than once.
func (w *world) twice() (paths []string) {
	for _, p := range w.server.Paths() {
		if n := w.server.Requests(p); n > 1 {
			paths = append(paths, fmt.Sprintf("%s (%d times)", p, n))
		}
	}
	return paths
}
