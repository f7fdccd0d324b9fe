package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
)

// A root that the configured keys do not vouch for is not passed on, and the
// answer says why; a host that tries keeps what it had.
func TestRootsThatAreNotTrusted(t *testing.T) {
	t.Parallel()
	stranger := testarchive.NewKey("stranger", testarchive.KeyOptions{})
	for _, test := range []struct {
		name  string
		spoil func(*testarchive.Suite)
		says  string
	}{
		{"signed by a stranger", func(s *testarchive.Suite) { s.Keys = []*testarchive.Key{stranger} }, stranger.KeyID()},
		{"altered after it was signed", func(s *testarchive.Suite) { s.Forged = true }, "signature"},
		{"not signed", func(s *testarchive.Suite) { s.Unsigned = true }, "sign"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := small(t, options{})
			c := w.host("mapped", "URL noble main")
			c.runDownload(w)
			good := w.began
			w.archive.ChangeSuite("noble", test.spoil)
			w.archive.AddPackage("noble", testarchive.Package{Name: "evil", Version: "1"})
			w.archive.Publish(w.began.Add(time.Minute))

			out, errs, code := w.node.run("refresh", "debian/noble", "--config", w.node.ConfigFile())
			if code == 0 || !strings.Contains(errs, test.says) {
				t.Errorf("refresh: exit code %d: %s%s; want %q in it", code, out, errs, test.says)
			}
			if s, _ := w.node.suite("dists/noble"); s.State != "failing" || !s.Generation.Equal(good) || !strings.Contains(s.Error, test.says) {
				t.Errorf("status: %+v; want %q in the error", s, test.says)
			}
			c.runDownload(w) // as before

			fresh := newNode(t, "")
			fresh.Settings = w.node.Settings
			fresh.start()
			resp, body := fresh.get("/debian/dists/noble/InRelease")
			if resp.StatusCode < 400 || len(body) == 0 {
				t.Errorf("a fresh node: %s: %.200s", resp.Status, body)
			}
			w.node.checkStored()
		})
	}
}

// The very first request of a fresh node, for a package, is checked like any other
// where the suite is configured.
func TestFirstRequestIsChecked(t *testing.T) {
	t.Parallel()
	w := small(t, options{archiveConfig: "suites: [noble]"})
	path, want := w.find("/hello_")
	w.server.Inject("*/hello_*", 1, testarchive.WrongBytes(-100))
	resp, err := http.Get(w.node.URL + "/debian/" + path)
	if err == nil {
		var got []byte
		got, err = readAll(resp)
		if err == nil && resp.StatusCode == http.StatusOK {
			t.Errorf("a wrong body of %d bytes was given out whole", len(got))
		}
	}
	if resp, got := w.node.get("/debian/" + path); resp.StatusCode != http.StatusOK || string(got) != string(want) {
		t.Errorf("after healing: %s, %d bytes", resp.Status, len(got))
	}
	for _, a := range w.node.accessLog() {
		if a.Kind == "package" && a.Status == 200 && !a.Listed {
			t.Errorf("%s was not vouched for", a.URL)
		}
	}
	w.node.checkStored()
}

// Hosts that hold the InRelease of before get its indices after the flip, though
// upstream has them no more.
func TestOldIndicesStay(t *testing.T) {
	t.Parallel()
	suite := testarchive.Suite{Name: "noble", ByHash: true, Retain: 1}
	w := newWorld(t, suite, options{}, hello()...)
	_, root := w.find("dists/noble/InRelease")
	old := indexURL(root)
	c := w.host("mapped", "URL noble main")
	c.run("apt-get", "update")
	for i := range 3 {
		w.archive.AddPackage("noble", testarchive.Package{Name: "new", Version: fmt.Sprint(i)})
		w.archive.Publish(w.began.Add(time.Duration(i+1) * time.Minute))
		w.refresh("noble")
		if resp, _ := w.node.get(old); resp.StatusCode != http.StatusOK {
			t.Errorf("after flip %d: %s", i+1, resp.Status)
		}
	}
	w.node.stop()
	w.node.start()
	if resp, _ := w.node.get(old); resp.StatusCode != http.StatusOK {
		t.Errorf("after a restart: %s", resp.Status)
	}
	if resp, body := w.node.get(old[:len(old)-4] + "0000"); resp.StatusCode != http.StatusNotFound || len(body) == 0 {
		t.Errorf("an index that never was: %s: %s", resp.Status, body)
	}
}

// apt shows why a suite is not there. Of an InRelease that it can do without it shows the usual line.
func TestMissingSuiteOnTheScreen(t *testing.T) {
	t.Parallel()
	w := small(t, options{})
	w.archive.ChangeSuite("noble", func(s *testarchive.Suite) { s.NoInRelease = true })
	w.archive.Publish(w.began.Add(time.Minute))
	good := w.host("mapped", "URL noble main")
	if out, err := good.try("apt-get", "update", "-o", "Acquire::Progress::Ignore::ShowErrorText=1"); err != nil || !strings.Contains(out, "InRelease\n  404  Not Found [IP: ") {
		t.Error(out)
	}
	typo := w.host("mapped", "URL nobel main")
	out, err := typo.try("apt-get", "update")
	for _, want := range []string{
		"nobel Release\n  404  Not Found: the archive has no such suite; see the suite in the host's sources, or \"upstream\" of the archive in the node's configuration [IP: ",
		"does not have a Release file",
	} {
		if err == nil || !strings.Contains(out, want) {
			t.Errorf("%v, %s: no %q", err, out, want)
		}
	}
}

// What is secret stays secret.
func TestCredentials(t *testing.T) {
	t.Parallel()
	const password = "correct-horse"
	dir := t.TempDir()
	file := writeFile(t, filepath.Join(dir, "password"), []byte(password+"\n"))
	w := small(t, options{archiveConfig: fmt.Sprintf("credentials: {user: bearer, password_file: %q}", file)})
	w.server.RequireBasic("bearer", password)
	w.host("mapped", "URL noble main").runDownload(w)
	w.server.RequireBasic("bearer", "another")
	path, _ := w.find("/other_")
	if resp, body := w.node.get("/debian/" + path); resp.StatusCode != http.StatusForbidden || !strings.Contains(string(body), "credentials") {
		t.Errorf("with a wrong password: %s: %s", resp.Status, body)
	}
	shown, _, _ := w.node.run("config", "show", w.node.ConfigFile())
	stat := string(w.node.adminGet("/v1/status"))
	w.node.stop()
	for name, text := range map[string]string{"log": w.node.err.String(), "access log": w.node.out.String(), "config show": shown, "status": stat} {
		if strings.Contains(text, password) {
			t.Errorf("the password is in the %s", name)
		}
	}
}

// A cache that is far too small serves everything all the same, and stays small.
func TestSmallCache(t *testing.T) {
	t.Parallel()
	const limit = 4 << 20
	var packages []testarchive.Package
	for i := range 20 {
		packages = append(packages, testarchive.Package{Name: fmt.Sprintf("pkg%02d", i), Version: "1", Size: 700_000})
	}
	packages = append(packages, testarchive.Package{Name: "huge", Version: "1", Size: 2 * limit}, testarchive.Package{Name: "other", Version: "1"})
	w := newWorld(t, testarchive.Suite{Name: "noble", ByHash: true}, options{}, packages...)
	w.node.stop()
	w.node.Settings = strings.Replace(w.node.Settings, "max_size: 2GiB", "max_size: 4MiB", 1)
	w.node.start()
	w.readIndices()
	for path, want := range w.archive.Files() {
		if !strings.HasSuffix(path, ".deb") {
			continue
		}
		resp, got := w.node.get("/debian/" + path)
		if resp.StatusCode != http.StatusOK || string(got) != string(want) {
			t.Errorf("%s: %s, %d of %d bytes", path, resp.Status, len(got), len(want))
		}
		if used := diskUsage(t, w.node.DataDir()); used > limit+limit/4 {
			t.Fatalf("the data directory has %d bytes, the limit is %d", used, limit)
		}
	}
	w.node.checkStored()
}

func diskUsage(t *testing.T, dir string) (sum int64) {
	t.Helper()
	err := filepath.Walk(dir, func(_ string, info os.FileInfo, err error) error {
		if err == nil && info.Mode().IsRegular() {
			sum += info.Size()
		}
		return nil // what is gone meanwhile takes no room
	})
	if err != nil {
		t.Fatal(err)
	}
	return sum
}
