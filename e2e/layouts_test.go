package e2e

import (
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
)

// hello is what hosts download: a package with an awkward version, its source, a
// dependency, and enough others to make the indices look like indices.
func hello() []testarchive.Package {
	all := []testarchive.Package{
		{Name: "hello", Version: "1:2.10-1+b1~x", Size: 50_000, Depends: "libworld1 (>= 1.0)"},
		{Name: "libworld1", Version: "1.0", Arch: "all", Size: 100},
		{Name: "hello", Version: "1:2.10-1", Size: 3000, Source: true},
		{Name: "tool", Version: "3", Size: 300, Source: true},
	}
	for i := range 100 {
		all = append(all, testarchive.Package{Name: "filler" + strings.Repeat("x", i), Version: "1", Missing: true})
	}
	return all
}

// everything is a suite with all that a suite can have.
func everything(name string) testarchive.Suite {
	return testarchive.Suite{
		Name: name, Components: []string{"main", "universe"}, Architectures: []string{"amd64", "arm64"}, ByHash: true,
		ListedArchitectures: []string{"riscv64"}, Translations: true, Contents: true, DEP11: true, Commands: true,
		Installer: "20230607", ComponentRelease: true, ValidFor: 7 * 24 * time.Hour,
	}
}

// Every layout of an archive goes through the node to two hosts that name it in
// different ways; the second one's bytes come from here.
func TestLayouts(t *testing.T) {
	t.Parallel()
	slash := everything("jessie/updates")
	slash.Codename, slash.ComponentPrefix = "jessie", "updates/"
	fourHashes := everything("four")
	fourHashes.Hashes = []string{testarchive.MD5Sum, testarchive.SHA1, testarchive.SHA256, testarchive.SHA512}
	for _, test := range []struct {
		name   string
		suite  testarchive.Suite
		line   string
		modes  [2]string
		byHash string // the by-hash names that apt must use; "" for none
	}{
		{"xz and gz by hash", everything("noble"), "URL noble main universe", [2]string{"mapped", "proxy"}, "SHA256"},
		{"https upstream", everything("noble"), "URL noble main universe", [2]string{"https", "mapped"}, "SHA256"},
		{"a slash in the suite", slash, "URL jessie/updates main universe", [2]string{"proxy", "mapped"}, "SHA256"},
		{"all four hashes", fourHashes, "URL four main", [2]string{"mapped", "proxy"}, "SHA512"},
		{"SHA-512 only, zst", testarchive.Suite{Name: "x", Hashes: []string{testarchive.SHA512}, ByHash: true, Compressions: []string{".zst"}}, "URL x main", [2]string{"mapped", "proxy"}, "SHA512"},
		{"canonical names", testarchive.Suite{Name: "x"}, "URL x main", [2]string{"mapped", "proxy"}, ""},
		{"plain indices", testarchive.Suite{Name: "x", Compressions: []string{""}}, "URL x main", [2]string{"proxy", "mapped"}, ""},
		{"Release and Release.gpg", testarchive.Suite{Name: "x", NoInRelease: true, ByHash: true}, "URL x main", [2]string{"mapped", "proxy"}, "SHA256"},
		{"flat in a directory", testarchive.Suite{Name: "repo/deb", Flat: true, ByHash: true}, "URL/repo/deb ./", [2]string{"mapped", "proxy"}, "SHA256"},
		{"flat at the root", testarchive.Suite{Flat: true}, "URL /", [2]string{"proxy", "mapped"}, ""},
		{"flat with names from the root", testarchive.Suite{Name: "repo", Flat: true, FlatFromRoot: true}, "URL repo/", [2]string{"mapped", "proxy"}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, test.suite, options{tls: test.modes[0] == "https"}, hello()...)
			for _, mode := range test.modes {
				c := w.host(mode, test.line)
				c.run("apt-get", "update")
				c.run("apt-get", "download", "hello")
				c.run("apt-get", "source", "--download-only", "hello", "tool")
				c.run("apt-get", "-y", "--download-only", "install", "hello")
				c.checkHello(w)
			}
			if again := w.twice(); len(again) > 0 {
				t.Errorf("upstream was asked more than once for %q", again)
			}
			if n := strings.Count(strings.Join(w.server.Paths(), " "), "/by-hash/"+test.byHash+"/"); (n > 0) != (test.byHash != "") {
				t.Errorf("%d by-hash names of %q were asked for: %q", n, test.byHash, w.server.Paths())
			}
			w.checkSecondHost(test.modes[1])
			w.node.checkStored()
		})
	}
}

// checkHello demands that what was downloaded is what the archive has.
func (c *apt) checkHello(w *world) {
	c.t.Helper()
	_, deb := w.find("/hello_", "_amd64.deb")
	c.same("hello_1%3a2.10-1+b1~x_amd64.deb", deb)
	for _, name := range []string{"hello_2.10-1.dsc", "hello_2.10.orig.tar.xz", "hello_2.10-1.debian.tar.xz", "tool_3.dsc", "tool_3.tar.xz"} {
		_, want := w.find("/" + name)
		c.same(name, want)
	}
	if _, err := exec.LookPath("dpkg-source"); err != nil {
		c.t.Log("dpkg-source is not installed: the sources are not unpacked")
		return
	}
	c.run("dpkg-source", "--no-check", "-x", "hello_2.10-1.dsc")
	if n := len(c.file("hello-2.10/payload")); n != 3000 {
		c.t.Errorf("the unpacked payload has %d bytes", n)
	}
}

// checkSecondHost demands that all a host got in that mode came from memory or
// disk, and that every package was vouched for. Mapped requests are told from
// those of a proxy by their URL.
func (w *world) checkSecondHost(mode string) {
	w.t.Helper()
	seen := 0
	for _, a := range w.node.accessLog() {
		if mapped := strings.HasPrefix(a.URL, "/"); mapped != (mode == "mapped") || a.Status != 200 {
			continue
		}
		seen++
		if a.Tier != "memory" && a.Tier != "disk" {
			w.t.Errorf("the second host got %s from %q (%s)", a.URL, a.Tier, a.Result)
		}
		if a.Kind != "root" && !a.Listed {
			w.t.Errorf("%s was not vouched for", a.URL)
		}
	}
	if seen == 0 {
		w.t.Error("the access log knows nothing of the second host")
	}
}

// A host that holds an old index gets the patches, not the new index, and the
// node fetches each patch once.
func TestPDiffs(t *testing.T) {
	t.Parallel()
	for _, merged := range []bool{false, true} {
		t.Run(map[bool]string{false: "one by one", true: "merged"}[merged], func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, testarchive.Suite{Name: "sid", PDiffs: !merged, MergedPDiffs: merged, ByHash: true}, options{}, hello()...)
			hosts := []*apt{w.host("mapped", "URL sid main"), w.host("proxy", "URL sid main")}
			for _, c := range hosts {
				c.run("apt-get", "update")
			}
			w.archive.AddPackage("sid", testarchive.Package{Name: "fillerx", Version: "1.1", Missing: true})
			w.archive.Publish(w.began.Add(time.Minute))
			w.archive.RemovePackage("sid", "fillerxx")
			w.archive.AddPackage("sid", testarchive.Package{Name: "zzz", Version: "1"})
			w.archive.Publish(w.began.Add(2 * time.Minute))
			w.refresh("sid")
			w.server.ResetCounters()

			for _, c := range hosts {
				c.run("apt-get", "update")
				out := c.run("apt-cache", "policy", "zzz", "fillerxx", "fillerx")
				if !strings.Contains(out, "zzz:") || strings.Contains(out, "fillerxx:") || !strings.Contains(out, "Candidate: 1.1") {
					t.Errorf("the patched index is not the new one:\n%s", out)
				}
			}
			patches, whole := 0, 0
			for _, a := range w.node.accessLog() {
				if strings.Contains(a.URL, "/Packages.diff/T-") || strings.Contains(a.URL, "/Packages.diff/20") {
					patches++
					if !a.Listed || a.Status != 200 {
						t.Errorf("patch %s: status %d, listed %v", a.URL, a.Status, a.Listed)
					}
				}
				if strings.Contains(a.URL, "/binary-amd64/by-hash/") {
					whole++
				}
			}
			want := map[bool]int{false: 2, true: 1}[merged] * len(hosts)
			if patches != want {
				t.Errorf("the hosts asked for %d patches, want %d", patches, want)
			}
			if whole != len(hosts) {
				t.Errorf("the hosts asked %d times for a whole index, want once each, at first", whole)
			}
			for _, again := range w.twice() {
				if !strings.Contains(again, "InRelease") {
					t.Errorf("upstream was asked for %s", again)
				}
			}
			w.node.checkStored()
		})
	}
}
