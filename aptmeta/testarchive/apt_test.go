package testarchive_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
)

// apt is a client with a root of its own.
type apt struct {
	t    *testing.T
	root string
}

// newApt makes a client for one line of sources.list, in which KEYRING stands
// for the archive's keyring.
func newApt(t *testing.T, a *testarchive.Archive, sources string) *apt {
	t.Helper()
	if _, err := exec.LookPath("apt-get"); err != nil {
		t.Skip("apt-get is not installed: the archive is not checked against the real apt")
	}
	root := t.TempDir()
	for _, dir := range []string{"etc/apt/apt.conf.d", "etc/apt/preferences.d", "etc/apt/trusted.gpg.d", "state/lists/partial", "cache/archives/partial", "log", "work"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	keyring := filepath.Join(root, "keyring.gpg")
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("keyring.gpg", string(a.Keyring()))
	write("status", "")
	write("etc/apt/sources.list", strings.ReplaceAll(sources, "KEYRING", keyring)+"\n")
	write("apt.conf", fmt.Sprintf(`
Dir "%[1]s";
Dir::Etc "%[1]s/etc/apt";
Dir::State "%[1]s/state";
Dir::State::status "%[1]s/status";
Dir::Cache "%[1]s/cache";
Dir::Log "%[1]s/log";
APT::Architecture "amd64";
APT::Architectures { "amd64"; };
APT::Sandbox::User "root";
Debug::NoLocking "1";
Acquire::Languages "en";
Acquire::Retries "0";
`, root))
	return &apt{t, root}
}

// run runs a command and fails the test if it fails or says a word of warning.
func (c *apt) run(name string, args ...string) string {
	c.t.Helper()
	out, err := c.try(name, args...)
	if err != nil || strings.Contains(out, "W: ") || strings.Contains(out, "E: ") {
		c.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return out
}

func (c *apt) try(name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.Dir = filepath.Join(c.root, "work")
	cmd.Env = append(slices.DeleteFunc(os.Environ(), func(e string) bool {
		return strings.Contains(strings.ToLower(e), "_proxy=")
	}), "APT_CONFIG="+filepath.Join(c.root, "apt.conf"), "LC_ALL=C.UTF-8")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (c *apt) work(name string) []byte {
	c.t.Helper()
	b, err := os.ReadFile(filepath.Join(c.root, "work", name))
	if err != nil {
		c.t.Fatal(err)
	}
	return b
}

// wholeSuite has everything a suite can have.
func wholeSuite(name string) testarchive.Suite {
	return testarchive.Suite{
		Name: name, Components: []string{"main", "universe"}, Architectures: []string{"amd64", "arm64"}, ByHash: true,
		ListedArchitectures: []string{"riscv64"}, Translations: true, Contents: true, DEP11: true, Commands: true,
		Installer: "20230607", ComponentRelease: true, ValidFor: 7 * 24 * time.Hour,
	}
}

func fill(a *testarchive.Archive, suite string) {
	a.AddPackage(suite, testarchive.Package{Name: "hello", Version: "1:2.10-1+b1~x", Size: 5000, Depends: "libworld1 (>= 1.0)"})
	a.AddPackage(suite, testarchive.Package{Name: "libworld1", Version: "1.0", Arch: "all", Size: 100})
	a.AddPackage(suite, testarchive.Package{Name: "hello", Version: "1:2.10-1", Size: 3000, Source: true})
	a.AddPackage(suite, testarchive.Package{Name: "tool", Version: "3", Size: 300, Source: true})
	for i := range 200 {
		a.AddPackage(suite, testarchive.Package{Name: fmt.Sprintf("filler%03d", i), Version: "1", Missing: true})
	}
}

func TestRealApt(t *testing.T) {
	now := time.Now().Add(-time.Hour)
	for _, test := range []struct {
		name    string
		suite   testarchive.Suite
		sources string // URL and KEYRING are replaced
		byHash  string // directory of by-hash names that are asked for; "" none
	}{
		{"ubuntu", wholeSuite("noble"), "[signed-by=KEYRING] URL noble main universe", "SHA256"},
		{"slash", func() testarchive.Suite {
			s := wholeSuite("jessie/updates")
			s.Codename, s.ComponentPrefix = "jessie", "updates/"
			return s
		}(), "[signed-by=KEYRING] URL jessie/updates main universe", "SHA256"},
		{"sha512 only", testarchive.Suite{Name: "x", Hashes: []string{testarchive.SHA512}, ByHash: true, Compressions: []string{".zst"}}, "[signed-by=KEYRING] URL x main", "SHA512"},
		{"sha256 only without by-hash", testarchive.Suite{Name: "x", Hashes: []string{testarchive.SHA256}, Compressions: []string{".lzma"}}, "[signed-by=KEYRING] URL x main", ""},
		{"plain indices", testarchive.Suite{Name: "x", Compressions: []string{""}}, "[signed-by=KEYRING] URL x main", ""},
		{"Release and Release.gpg", testarchive.Suite{Name: "x", NoInRelease: true}, "[signed-by=KEYRING] URL x main", ""},
		{"signed by a subkey", testarchive.Suite{Name: "x", Keys: []*testarchive.Key{testarchive.NewKey("sub", testarchive.KeyOptions{SigningSubkey: true})}}, "[signed-by=KEYRING] URL x main", ""},
		{"signed by two", testarchive.Suite{Name: "x", Keys: []*testarchive.Key{testarchive.NewKey("one", testarchive.KeyOptions{}), testarchive.NewKey("two", testarchive.KeyOptions{})}}, "[signed-by=KEYRING] URL x main", ""},
		{"flat", testarchive.Suite{Name: "repo/deb", Flat: true, ByHash: true}, "[signed-by=KEYRING] URL/repo/deb ./", "SHA256"},
		{"flat at the root", testarchive.Suite{Flat: true}, "[signed-by=KEYRING] URL /", ""},
		{"flat with names from the root", testarchive.Suite{Name: "repo", Flat: true, FlatFromRoot: true}, "[signed-by=KEYRING] URL repo/", ""},
		{"all apart", testarchive.Suite{Name: "x", Architectures: []string{"amd64", "all"}}, "[signed-by=KEYRING] URL x main", ""},
		{"all in both", testarchive.Suite{Name: "x", Architectures: []string{"amd64", "all"}, Fields: []string{"No-Support-for-Architecture-all: Packages"}}, "[signed-by=KEYRING] URL x main", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := testarchive.New(7)
			a.AddSuite(test.suite)
			fill(a, test.suite.Name)
			a.Publish(now)
			s := testarchive.NewServer(a)
			defer s.Close()
			line := strings.ReplaceAll(test.sources, "URL", s.URL)
			c := newApt(t, a, "deb "+line+"\ndeb-src "+line)

			c.run("apt-get", "update")
			c.run("apt-get", "download", "hello")
			if got := c.work("hello_1%3a2.10-1+b1~x_amd64.deb"); !bytes.Equal(got, findFile(t, a, "_amd64.deb")) {
				t.Error("the .deb differs from the archive's")
			}
			info := c.run("dpkg-deb", "-I", "hello_1%3a2.10-1+b1~x_amd64.deb")
			if !strings.Contains(info, "Package: hello") {
				t.Errorf("dpkg-deb -I: %s", info)
			}
			c.run("apt-get", "-y", "--download-only", "install", "hello")
			c.run("apt-get", "source", "--download-only", "hello", "tool")
			c.run("apt-get", "update") // nothing has changed

			byHash := slices.DeleteFunc(s.Paths(), func(p string) bool { return !strings.Contains(p, "/by-hash/") })
			for _, p := range byHash {
				if !strings.Contains(p, "/by-hash/"+test.byHash+"/") || test.byHash == "" {
					t.Errorf("apt asked for %s", p)
				}
			}
			if test.byHash != "" && len(byHash) == 0 {
				t.Error("apt asked for no by-hash name")
			}
		})
	}
}

func findFile(t *testing.T, a *testarchive.Archive, suffix string) []byte {
	t.Helper()
	for path, data := range a.Files() {
		if strings.Contains(path, "hello") && strings.HasSuffix(path, suffix) {
			return data
		}
	}
	t.Fatalf("no file ends in %s", suffix)
	return nil
}

func TestRealDpkgSource(t *testing.T) {
	if _, err := exec.LookPath("dpkg-source"); err != nil {
		t.Skip("dpkg-source is not installed")
	}
	a := testarchive.New(7)
	a.AddSuite(testarchive.Suite{Name: "x"})
	fill(a, "x")
	a.Publish(time.Now().Add(-time.Hour))
	s := testarchive.NewServer(a)
	defer s.Close()
	c := newApt(t, a, "deb-src [signed-by=KEYRING] "+s.URL+" x main")
	c.run("apt-get", "update")
	c.run("apt-get", "source", "--download-only", "hello", "tool")
	c.run("dpkg-source", "--no-check", "-x", "hello_2.10-1.dsc")
	c.run("dpkg-source", "--no-check", "-x", "tool_3.dsc")
	if len(c.work("hello-2.10/payload")) != 3000 || len(c.work("tool-3/payload")) != 300 {
		t.Error("the unpacked payload has the wrong length")
	}
}

func TestRealAptUsesPDiffs(t *testing.T) {
	for _, merged := range []bool{false, true} {
		t.Run(fmt.Sprintf("merged=%v", merged), func(t *testing.T) {
			now := time.Now().Add(-time.Hour)
			a := testarchive.New(7)
			a.AddSuite(testarchive.Suite{Name: "sid", PDiffs: !merged, MergedPDiffs: merged, ByHash: true})
			fill(a, "sid")
			a.Publish(now)
			s := testarchive.NewServer(a)
			defer s.Close()
			c := newApt(t, a, "deb [signed-by=KEYRING] "+s.URL+" sid main")
			c.run("apt-get", "update")

			// Two steps at once: one changes, one adds at both ends and removes.
			a.AddPackage("sid", testarchive.Package{Name: "filler100", Version: "1.1", Missing: true})
			a.Publish(now.Add(time.Minute))
			a.RemovePackage("sid", "filler000")
			a.RemovePackage("sid", "filler150")
			a.AddPackage("sid", testarchive.Package{Name: "aaa", Version: "1", Missing: true})
			a.AddPackage("sid", testarchive.Package{Name: "zzz", Version: "1"})
			a.Publish(now.Add(2 * time.Minute))
			s.ResetCounters()
			c.run("apt-get", "update")

			patches, want := 0, 2
			if merged {
				want = 1
			}
			for _, p := range s.Paths() {
				if strings.Contains(p, "/Packages.diff/") && strings.HasSuffix(p, ".gz") {
					patches++
				}
				if strings.Contains(p, "binary-amd64/by-hash/") || strings.HasSuffix(p, "Packages.xz") || strings.HasSuffix(p, "Packages.gz") {
					t.Errorf("apt asked for the whole index: %s", p)
				}
			}
			if patches != want {
				t.Errorf("apt asked for %d patches, want %d: %q", patches, want, s.Paths())
			}
			if out := c.run("apt-cache", "policy", "zzz", "filler000", "filler100"); !strings.Contains(out, "zzz:") || strings.Contains(out, "filler000:") || !strings.Contains(out, "Candidate: 1.1") {
				t.Errorf("the patched index is not the new one:\n%s", out)
			}
		})
	}
}
