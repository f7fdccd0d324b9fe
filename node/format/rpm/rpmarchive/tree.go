package rpmarchive

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
)

// Tree is what an installer boots, beside a repository or alone.
type Tree struct {
	Date   time.Time
	Family string
	// Images are the paths of its files; none: those of Fedora.
	Images []string
	// Build is part of the content of every image.
	Build string
	// Names are those of the description; none: .treeinfo and treeinfo.
	Names []string
	// Old writes the description as it was before productmd, with dates as fractions.
	Old bool
	// Edit changes the text of the description; nil: nothing is changed.
	Edit func(text string) string
}

// Render makes the files of the tree, by path; prefix is its directory with a slash behind it, or "".
func (tr Tree) Render(prefix string) map[string][]byte {
	if tr.Images == nil {
		tr.Images = []string{"images/boot.iso", "images/efiboot.img", "images/install.img", "images/pxeboot/initrd.img", "images/pxeboot/vmlinuz"}
	}
	if tr.Names == nil {
		tr.Names = []string{".treeinfo", "treeinfo"}
	}
	files := make(map[string][]byte)
	var sums strings.Builder
	for _, path := range tr.Images {
		data := content(tr.Build+path, 3000)
		files[prefix+path] = data
		fmt.Fprintf(&sums, "%s = sha256:%s\n", path, testarchive.Sum(testarchive.SHA256, data))
	}
	text := fmt.Sprintf("[header]\ntype = productmd.treeinfo\nversion = 1.2\n\n[checksums]\n%srepodata/repomd.xml = sha256:%064d\n\n"+
		"[general]\n; WARNING.0 = This section provides compatibility with pre-productmd treeinfos.\narch = x86_64\nfamily = %s\ntimestamp = %d\n\n"+
		"[images-x86_64]\ninitrd = images/pxeboot/initrd.img\nkernel = images/pxeboot/vmlinuz\n\n[stage2]\nmainimage = images/install.img\n\n"+
		"[tree]\narch = x86_64\nbuild_timestamp = %d\nplatforms = x86_64,xen\n", sums.String(), 0, tr.Family, tr.Date.Unix(), tr.Date.Unix())
	if tr.Old {
		text = fmt.Sprintf("[general]\nname = %s\nfamily = %s\ntimestamp = %d.55\narch = x86_64\n\n[images-x86_64]\nkernel = images/pxeboot/vmlinuz\n\n[checksums]\n%s",
			tr.Family, tr.Family, tr.Date.Unix(), sums.String())
	}
	if tr.Edit != nil {
		text = tr.Edit(text)
	}
	for _, name := range tr.Names {
		files[prefix+name] = []byte(text)
	}
	return files
}

// Paths are those of its images below prefix.
func (tr Tree) Paths(prefix string) []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(tr.Render(prefix))), func(p string) bool { return strings.HasSuffix(p, "treeinfo") })
}
