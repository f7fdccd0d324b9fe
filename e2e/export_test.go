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

// exportWorld is a node with a snapshot w48, of which a host has installed all packages.
func exportWorld(t *testing.T) *world {
	suite := everything("noble")
	w := newWorld(t, suite, options{}, testarchive.Package{Name: "tool", Version: "1", Size: 20_000},
		testarchive.Package{Name: "big", Version: "1", Size: 900_000}, testarchive.Package{Name: "made", Version: "1", Size: 300, Source: true})
	host := w.host("mapped", "URL noble main")
	host.run("apt-get", "update")
	host.run("apt-get", "download", "tool", "big")
	w.node.do("snapshot", "create", "w48")
	return w
}

// site is a node without a link: its upstream is nowhere. It trusts the keys of a world's archive, or others.
func (w *world) site(trust string) *node {
	w.t.Helper()
	if trust == "" {
		trust = fmt.Sprintf("signed_by: [%q]", writeFile(w.t, filepath.Join(w.t.TempDir(), "archive.gpg"), w.archive.Keyring()))
	}
	n := newNode(w.t, fmt.Sprintf("archives:\n  debian:\n    upstream: http://127.0.0.1:9/debian\n    %s\n", trust))
	n.start()
	return n
}

// on is a host that uses a snapshot of a node.
func (w *world) on(n *node, id string) *apt {
	w.t.Helper()
	line := "[signed-by=KEYRING] " + n.URL + "/snapshot/debian/" + id + " noble main"
	return newApt(w.t, w.archive.Keyring(), "deb "+line)
}

// exits runs a command that must end with a code, and returns what it says.
func (n *node) exits(code int, args ...string) string {
	n.t.Helper()
	out, errs, got := n.run(append(args, "--config", n.ConfigFile())...)
	if got != code {
		n.t.Fatalf("aptmesh %s: exit code %d, want %d: %s%s", strings.Join(args, " "), got, code, out, errs)
	}
	return out + errs
}

// A snapshot that was carried to another site in a directory is installed from there, with no upstream at all, also after a
// restart; the next one brings only what is new.
func TestExportImport(t *testing.T) {
	t.Parallel()
	w := exportWorld(t)
	usb := filepath.Join(t.TempDir(), "usb")
	out := w.node.exits(0, "export", "w48", "--to", usb)
	t.Log(out)
	if again := w.node.exits(0, "export", "w48", "--to", usb); !strings.Contains(again, "0 B were written") {
		t.Errorf("an unchanged export writes: %s", again)
	}
	site := w.site("")
	t.Log(site.exits(0, "import", usb))
	check := func(id, version string) {
		t.Helper()
		host := w.on(site, id)
		host.run("apt-get", "update")
		if v := host.version("tool"); v != version {
			t.Errorf("%s has %s", id, v)
		}
		host.run("apt-get", "download", "tool", "big")
	}
	check("w48", "1")
	if again := site.exits(0, "import", usb); !strings.Contains(again, "0 B were new") {
		t.Errorf("an unchanged import: %s", again)
	}
	site.stop()
	site.start()
	check("w48", "1")

	w.archive.RemovePackage("noble", "tool")
	w.archive.AddPackage("noble", testarchive.Package{Name: "tool", Version: "2", Size: 21_000})
	w.archive.Publish(w.began.Add(time.Minute))
	w.refresh("noble")
	host := w.host("mapped", "URL noble main")
	host.run("apt-get", "update")
	host.run("apt-get", "download", "tool")
	w.node.do("snapshot", "create", "w49")
	second := filepath.Join(t.TempDir(), "second")
	t.Log(w.node.exits(0, "export", "w49", "--to", second, "--since", filepath.Join(usb, "manifest.jsonl")))
	if size := sizeOf(t, second); size > 200_000 {
		t.Errorf("the second bundle has %d bytes, though only one small package is new", size)
	}
	stranger := w.site("")
	if said := stranger.exits(4, "import", second); !strings.Contains(said, "big_1_amd64.deb: it is not in the bundle, which was written for a site that has it already") {
		t.Errorf("a site without the first bundle says %s", said)
	}
	t.Log(site.exits(0, "import", second, "--as", "january"))
	check("january", "2")
	check("w48", "1")
	if out := site.exits(3, "import", second, "--as", "w48"); !strings.Contains(out, "--as another name") {
		t.Errorf("a name that is taken: %s", out)
	}
	// Over the first directory, nothing is mixed.
	if out := w.node.exits(3, "export", "w49", "--to", usb); !strings.Contains(out, "another bundle") {
		t.Errorf("a directory that is taken: %s", out)
	}
}

// sizeOf is the size of all files below a directory.
func sizeOf(t *testing.T, dir string) (size int64) {
	t.Helper()
	err := filepath.Walk(dir, func(_ string, info os.FileInfo, err error) error {
		if err == nil && info.Mode().IsRegular() {
			size += info.Size()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return size
}
