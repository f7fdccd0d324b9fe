package rpm_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/aptmesh/aptmesh/node/format/formattest"
	"github.com/aptmesh/aptmesh/node/format/rpm"
	"github.com/aptmesh/aptmesh/node/format/rpm/rpmarchive"
	"github.com/aptmesh/aptmesh/proto"
)

// goldenTree makes two publications of an installation tree as an archive whose repositories are signed:
// nobody signs a .treeinfo.
func goldenTree(t *testing.T, dir string, tree rpmarchive.Tree) formattest.Archive {
	prefix := ""
	if dir != "" {
		prefix = dir + "/"
	}
	tree.Date = day1
	g := formattest.Archive{Name: tree.Family, Format: formatFor(t, true), Now: now, Files: tree.Render(prefix), Asked: map[string]string{}}
	for _, p := range tree.Paths(prefix) {
		g.Asked[p] = p
	}
	tree.Date, tree.Build = day2, "two"
	g.Next = tree.Render(prefix)
	for _, name := range []string{".treeinfo", "treeinfo"} {
		if _, ok := g.Files[prefix+name]; ok {
			g.Suites = append(g.Suites, proto.Suite{Dir: dir, Name: name})
		}
	}
	return g
}

func TestTrees(t *testing.T) {
	formattest.Run(t,
		goldenTree(t, "releases/40/Everything/x86_64/os", rpmarchive.Tree{Family: "Fedora"}),
		goldenTree(t, "9-stream/BaseOS/x86_64/os", rpmarchive.Tree{Family: "CentOS Stream", Names: []string{".treeinfo"}}),
		goldenTree(t, "", rpmarchive.Tree{Family: "CentOS", Old: true, Names: []string{".treeinfo"}, Images: []string{"images/pxeboot/vmlinuz", "LiveOS/squashfs.img", "isolinux/isolinux.bin", "EFI/BOOT/grubx64.efi"}}),
		goldenTree(t, "distribution/leap/15.6/repo/oss", rpmarchive.Tree{Family: "openSUSE", Images: []string{"boot/x86_64/loader/linux", "boot/x86_64/loader/initrd"}}),
	)
}

// Of a .treeinfo nothing is believed but sums that prove something, of files that it may speak for.
func TestTreeSums(t *testing.T) {
	sha256, sha512 := strings.Repeat("ab", 32), strings.Repeat("cd", 64)
	for text, want := range map[string]string{
		"[checksums]\na/x.img = sha256:" + sha256:                            "os/a/x.img",
		"[checksums]\nx.img=sha512:" + sha512:                                "os/x.img",
		"[checksums]\r\nx.img : sha256:" + sha256 + "\r\n":                   "os/x.img",
		"# made by hand\n[checksums]\n; no = more\nx.img = sha256:" + sha256: "os/x.img",
		"[checksums]\nx.img = md5:" + sha256[:32]:                            "",
		"[checksums]\nx.img = sha256:" + sha256[:32]:                         "",
		"[checksums]\nx.img = " + sha256:                                     "",
		"[other]\nx.img = sha256:" + sha256:                                  "",
		"[checksums]\n../../x.img = sha256:" + sha256:                        "",
		"[checksums]\nrepodata/repomd.xml = sha256:" + sha256:                "",
		"no INI file at all\n":                                               "",
	} {
		f, s := formatFor(t, true), proto.Suite{Dir: "os", Name: ".treeinfo"}
		m, err := f.Open(s, map[string][]byte{".treeinfo": []byte(text)}, now)
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		got := ""
		err = f.Parse(s, &m.Members[0], strings.NewReader(text), func(f proto.File) error {
			got += string(f.Path)
			return nil
		})
		if err != nil || got != want {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
	for _, page := range []string{"", " \n", "<!DOCTYPE html>\n<html>", "\xef\xbb\xbf<html>"} {
		if _, err := formatFor(t, true).Open(proto.Suite{Name: ".treeinfo"}, map[string][]byte{".treeinfo": []byte(page)}, now); err == nil {
			t.Errorf("%q opens", page)
		}
	}
}

// Where the .treeinfo of an image is looked for: once for each of its names, never for a package.
func TestTreeOfAPath(t *testing.T) {
	f := rpm.New(rpm.Config{})
	for path, dir := range map[string]string{
		"releases/40/os/images/pxeboot/vmlinuz": "releases/40/os",
		"images/boot.iso":                       "",
		"pub/images/9/os/isolinux/vmlinuz":      "pub/images/9/os",
		"os/EFI/BOOT/BOOTX64.EFI":               "os",
	} {
		if got := f.Suites(path); !slices.Equal(got, []proto.Suite{{Dir: dir, Name: ".treeinfo"}, {Dir: dir, Name: "treeinfo"}}) {
			t.Errorf("%s: %v", path, got)
		}
	}
	for _, path := range []string{"os/media.1/media", "os/RPM-GPG-KEY", "images"} {
		if got := f.Suites(path); got != nil {
			t.Errorf("%s: %v", path, got)
		}
	}
}
