package deb

import (
	"slices"
	"strings"

	"github.com/aptmesh/aptmesh/aptmeta"
	"github.com/aptmesh/aptmesh/proto"
)

// Belongs judges whether a trusted root is one of the suite, by what the root calls itself.
//
// apt only warns of a root whose Suite and Codename both differ from what sources.list names
// ("Conflicting distribution", apt-pkg/metaindex.cc CheckDist), so a vendor whose Release says
// "Suite: stable" in dists/foo is not refused: its names neither fit nor exclude the suite. Later apt
// refuses a change of Origin, Label or Codename until somebody accepts it, and lets Suite and
// Version change (apt-pkg/acquire-item.cc, pkgAcqMetaBase::VerifyVendor;
// Acquire::AllowReleaseInfoChange). Hence:
//
//   - Names as before, or at first contact a Suite or Codename that is the directory's, are a yes.
//   - A change of Suite alone is a yes while the Codename is the directory's: dists/bookworm was
//     testing and became stable.
//   - A pocket in place of its suite (noble-updates for noble), its suite in place of a pocket, and
//     names that fitted the directory and now are entirely others, are a no.
//   - A root that lists the directory it is offered in as a part of itself is a no.
//   - All else is unsure.
func (f *Format) Belongs(suite proto.Suite, held *proto.Names, offered *proto.Manifest) proto.Belonging {
	n := offered.Names
	d := detailOf(offered)
	switch {
	case inside(suite.Dir, d, n):
		return proto.BelongsNo
	case held == nil:
		return firstContact(suite.Dir, d, n)
	case otherMachines(held.Architectures, n.Architectures):
		// archive.ubuntu.com and ports.ubuntu.com have suites of one name, signed by one key.
		return proto.BelongsUnsure
	case sameNames(*held, n):
		return proto.BelongsYes
	case fits(suite.Dir, d, n):
		if onlySuiteChanged(*held, n) {
			return proto.BelongsYes
		}
		return proto.BelongsUnsure
	case pocketOf(held.Suite, n.Suite), pocketOf(n.Suite, held.Suite), pocketOf(dirName(suite.Dir), n.Suite):
		return proto.BelongsNo
	case fits(suite.Dir, d, *held) && changed(held.Suite, n.Suite) && changed(held.Codename, n.Codename):
		return proto.BelongsNo
	}
	return proto.BelongsUnsure
}

func sameNames(a, b proto.Names) bool {
	a.Architectures, b.Architectures = "", ""
	return a == b
}

// onlySuiteChanged is the change that apt takes without asking anybody.
func onlySuiteChanged(held, n proto.Names) bool {
	held.Suite = n.Suite
	return n.Codename != "" && sameNames(held, n)
}

func changed(from, to string) bool { return from != to && from != "" && to != "" }

// otherMachines reports whether two lists of architectures have nothing in common. "all" is no
// machine.
func otherMachines(a, b string) bool {
	machines := func(s string) []string {
		return slices.DeleteFunc(strings.Fields(s), func(arch string) bool { return arch == "all" })
	}
	had, has := machines(a), machines(b)
	return len(had) > 0 && len(has) > 0 &&
		!slices.ContainsFunc(has, func(arch string) bool { return slices.Contains(had, arch) })
}

// pocketOf reports whether pocket is called after base, as noble-updates is after noble.
func pocketOf(base, pocket string) bool {
	return base != "" && len(pocket) > len(base)+1 && strings.HasPrefix(pocket, base+"-")
}

// firstContact judges a suite of which nothing is known but its directory.
func firstContact(dir string, d *detail, n proto.Names) proto.Belonging {
	if fits(dir, d, n) || len(afterDists(dir)) == 0 && d.flat {
		return proto.BelongsYes // a flat repository may be anywhere, whatever it calls itself
	}
	return proto.BelongsUnsure
}

// fits reports whether what a root calls itself is the name of the directory. A pocket shares its
// Codename with its suite in some archives, so there the Codename says nothing.
func fits(dir string, d *detail, n proto.Names) bool {
	names := afterDists(dir)
	if len(names) == 0 {
		_, last := splitDir(dir)
		names = []string{dir, last}
	}
	for _, name := range names {
		if named(name, n) {
			return true
		}
		// "jessie/updates" calls itself jessie: apt leaves the last part out, too (CheckDist). That part
		// begins the names of its components (Components: updates/main).
		first, rest := splitDir(name)
		if first != "" && named(first, n) && (rest == "updates" || d.componentsBelow(rest)) {
			return true
		}
	}
	return false
}

func named(name string, n proto.Names) bool {
	if name == "" {
		return false
	}
	return n.Suite == name || n.Codename == name && !pocketOf(n.Codename, n.Suite)
}

// dirName is the name of the suite that sources.list gives for a directory.
func dirName(dir string) string {
	if names := afterDists(dir); len(names) > 0 {
		return names[0]
	}
	_, last := splitDir(dir)
	return last
}

// inside reports whether a directory is a part of the suite that the root describes: the root calls
// itself as a directory above does, or the directory can only be a part of a suite, and it lists files
// where the directory would be. Without this a mirror could give the root of dists/noble for
// dists/noble/main/binary-amd64, and with it hide what dists/noble lists there.
func inside(dir string, d *detail, n proto.Names) bool {
	for _, name := range afterDists(dir) {
		part := false
		for up, last := splitDir(name); up != ""; up, last = splitDir(up) {
			part = part || isPart(last)
			if (part || named(up, n)) && d.dirs[name[len(up)+1:]] {
				return true
			}
		}
	}
	return false
}

// isPart reports whether a directory of this name only occurs within a suite.
func isPart(name string) bool {
	switch name {
	case "source", "i18n", "dep11", "cnf", "debian-installer", "by-hash":
		return true
	}
	return strings.HasPrefix(name, "binary-") || strings.HasPrefix(name, "installer-") || strings.HasSuffix(name, ".diff")
}

// detail is what a Format needs to know of a root besides the manifest.
type detail struct {
	architectures, components []string
	noAll                     bool // packages for "all" stand in each architecture's index
	// flat says that an index lies beside the root, where apt looks for that of a flat repository.
	flat    bool
	dirs    map[string]bool // the directories of all members, and those above them
	listers []*lister       // by directory and name
}

func newDetail(r *aptmeta.Release, m *proto.Manifest) *detail {
	d := &detail{architectures: r.Architectures, components: r.Components, noAll: r.NoSupportForAll}
	d.read(m.Members)
	return d
}

// read reads the members of a manifest.
func (d *detail) read(members []proto.Member) {
	d.dirs = make(map[string]bool)
	for i := range members {
		m := &members[i]
		for dir, _ := splitDir(m.Path); dir != "" && !d.dirs[dir]; dir, _ = splitDir(dir) {
			d.dirs[dir] = true
		}
		if fromBase(m.Path) && !strings.Contains(m.Path, "/") {
			d.flat = true
		}
	}
	d.listers = listersOf(members)
}

// detailOf is the detail of a manifest; made of its members where it was not made by Open.
func detailOf(m *proto.Manifest) *detail {
	if d, ok := m.Detail.(*detail); ok {
		return d
	}
	d := &detail{architectures: strings.Fields(m.Names.Architectures)}
	d.read(m.Members)
	return d
}

// componentsBelow reports whether components of the suite are called dir/….
func (d *detail) componentsBelow(dir string) bool {
	return slices.ContainsFunc(d.components, func(c string) bool { return strings.HasPrefix(c, dir+"/") })
}

// pockets are the parts that Debian and Ubuntu publish beside a release, by the end of the suite's name.
var pockets = []string{"updates", "security", "backports", "proposed", "proposed-updates"}

// Pocket splits a suite into the release that it belongs to and what it adds to that: noble-updates into noble and
// updates. The release itself has the pocket "".
func (f *Format) Pocket(suite proto.Suite) (release proto.Suite, pocket string) {
	for _, pocket := range pockets {
		if dir, ok := strings.CutSuffix(suite.Dir, "-"+pocket); ok {
			release = suite
			release.Dir = strings.TrimSuffix(dir, "-proposed") // of bookworm-proposed-updates
			return release, strings.TrimPrefix(suite.Dir[len(release.Dir):], "-")
		}
	}
	return suite, ""
}
