package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
)

// Two archives of one pattern, each with a key of its own, as hosts of apt-cacher-ng name PPAs: by the proxy setting and by a
// mapped URL. The second key is put beside the first while the node runs.
func TestPPAs(t *testing.T) {
	t.Parallel()
	bob := testarchive.NewKey("bob", testarchive.KeyOptions{})
	ppa := func(seed uint64, name string, keys ...*testarchive.Key) *testarchive.Archive {
		a := testarchive.New(seed)
		a.AddSuite(testarchive.Suite{Name: "noble", Architectures: []string{"amd64"}, ByHash: true, Keys: keys})
		a.AddPackage("noble", testarchive.Package{Name: name, Version: "1", Size: 20_000})
		a.Publish(time.Now().Add(-time.Hour))
		return a
	}
	tools, apps := ppa(1, "tool"), ppa(2, "app", bob)
	server := testarchive.NewServer(testarchive.New(3))
	t.Cleanup(server.Close)
	server.Mount("/alice/tools/ubuntu", tools)
	server.Mount("/bob/apps/ubuntu", apps)
	keys := t.TempDir()
	writeFile(t, filepath.Join(keys, "alice.gpg"), tools.Keyring())
	n := newNode(t, fmt.Sprintf("archives:\n  ppa:\n    upstream: %s/*/*/ubuntu\n    aliases: [\"http://ppa.example.org/*/*/ubuntu\"]\n    signed_by: [%q]\n", server.URL, keys))
	n.start()

	first := newApt(t, tools.Keyring(), "deb [signed-by=KEYRING] http://ppa.example.org/alice/tools/ubuntu noble main", proxy(n))
	first.run("apt-get", "update")
	first.run("apt-get", "download", "tool")

	second := newApt(t, bob.Public(), "deb [signed-by=KEYRING] "+n.URL+"/ppa/bob/apps noble main")
	if out, err := second.try("apt-get", "update"); err == nil || !strings.Contains(out, "403") {
		t.Fatalf("nobody vouches for the key, and apt is told: %v\n%s", err, out)
	}
	writeFile(t, filepath.Join(keys, "bob.gpg"), bob.Public())
	eventually(t, 20*time.Second, "the new key counts", func() bool {
		_, err := second.try("apt-get", "update")
		return err == nil
	})
	second.run("apt-get", "update")
	second.run("apt-get", "download", "app")

	eventually(t, 20*time.Second, "both archives are written down", func() bool {
		found := false
		_ = filepath.WalkDir(n.Dir, func(path string, _ os.DirEntry, _ error) error {
			if strings.Contains(path, "classes") {
				text, _ := os.ReadFile(path)
				found = found || strings.Contains(string(text), "ppa/alice/tools") && strings.Contains(string(text), "ppa/bob/apps")
			}
			return nil
		})
		return found
	})
	n.stop()
	server.Close()
	n.start()
	second.write("etc/apt/sources.list", "deb [signed-by="+filepath.Join(keys, "bob.gpg")+"] "+n.URL+"/ppa/bob/apps noble main\n")
	second.run("apt-get", "update")
	second.run("apt-get", "download", "app")
	n.checkStored()
}

// A host whose sources name one of Ubuntu's lists of mirrors is led to the archive of the node.
func TestUbuntuMirrorList(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testarchive.Suite{Name: "noble", Architectures: []string{"amd64"}, ByHash: true},
		options{archiveConfig: "suites: [noble]"}, testarchive.Package{Name: "hello", Version: "1", Size: 20_000})
	w.node.Settings = strings.Replace(w.node.Settings, "http://archive.example.org/debian", "http://archive.ubuntu.com/ubuntu", 1)
	w.node.stop()
	w.node.start()
	host := newApt(t, w.archive.Keyring(), "deb [signed-by=KEYRING] mirror+http://mirrors.ubuntu.com/DE.txt noble main", proxy(w.node))
	host.run("apt-get", "update")
	host.run("apt-get", "download", "hello")
}
