package differential

import (
	"strings"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
)

// layouts are archives whose files lie where apt's rules for URLs allow: an index below the
// directory of its Release, a package anywhere below the URL of sources.list
// (debReleaseIndex::MetaIndexURI, ArchiveURI).
func layouts() []row {
	flat := func(name, sources string, suite testarchive.Suite) row {
		suite.Flat = true
		rest := strings.TrimPrefix(sources, "deb")
		return row{name: name, suite: suite, sources: "deb [signed-by=KEYRING]" + rest + "\ndeb-src [signed-by=KEYRING]" + rest}
	}
	at := func(name string, path, listed func(gen int) string) row {
		return row{name: name, packages: func(gen int) []testarchive.Package {
			p := testarchive.Package{Name: "hello", Version: version(gen), Size: 4000, Path: path(gen)}
			if listed != nil {
				p.Listed = listed(gen)
			}
			return []testarchive.Package{p, {Name: "libworld1", Version: "1.0", Arch: "all", Size: 100}}
		}}
	}
	in := func(name, dir string) row {
		return at(name, func(gen int) string { return strings.TrimPrefix(dir+"/hello_"+version(gen)+"_amd64.deb", "/") }, nil)
	}
	listedAs := func(name, dir, listed string) row {
		file := func(gen int) string { return "hello_" + version(gen) + "_amd64.deb" }
		return at(name, func(gen int) string { return dir + "/" + file(gen) }, func(gen int) string { return listed + file(gen) })
	}
	suite := func(name string, components ...string) row {
		s := testarchive.Suite{Name: name, ByHash: true}
		if components != nil {
			s.Components = components
		}
		return row{name: strings.TrimSpace("suite " + name + " " + strings.Join(components, " ")), suite: s,
			sources: "deb [signed-by=KEYRING] URL " + name + " " + strings.Join(append(components, "main")[:max(1, len(components))], " ")}
	}
	source := func(name, path, listed string) row {
		return row{name: name, sources: debSrc, packages: func(gen int) []testarchive.Package {
			all := usual(gen)
			all[2].Path, all[2].Listed = path, listed
			return all
		}}
	}
	linked := func(name, sources string, from, to string) row {
		return row{name: name, suite: testarchive.Suite{Name: from, ByHash: true}, sources: sources,
			lay: func(s *site, _ int) { s.copyTree("dists/"+from, "dists/"+to) }}
	}
	between := flat("flat, Filename relative to a directory in between", "deb URL/repo deb/", testarchive.Suite{Name: "repo/deb"})
	between.packages = func(gen int) []testarchive.Package {
		v := version(gen)
		return []testarchive.Package{
			{Name: "hello", Version: v, Size: 4000, Listed: "deb/hello_" + v + "_amd64.deb"},
			{Name: "tool", Version: v, Size: 100, Source: true, Listed: "deb"},
		}
	}
	deep := flat("flat, a directory of an architecture", "deb URL/ubuntu noble/amd64/", testarchive.Suite{Name: "ubuntu/noble/amd64"})
	deep.packages = func(gen int) []testarchive.Package {
		return []testarchive.Package{
			{Name: "hello", Version: version(gen), Size: 4000, Listed: "noble/amd64/hello_" + version(gen) + "_amd64.deb"},
			{Name: "tool", Version: version(gen), Size: 100, Source: true, Listed: "noble/amd64"},
		}
	}
	top := flat("a flat Release at the top of an archive with dists", "deb URL ./", testarchive.Suite{})
	top.sources += "\n" + deb
	top.lay = func(s *site, gen int) {
		text := "Suite: noble\nCodename: noble\nArchitectures: amd64\nComponents: main\nDate: " + date(gen).UTC().Format("Mon, 02 Jan 2006 15:04:05 MST") + "\nSHA256:\n"
		for _, ext := range []string{"", ".gz"} {
			index := []byte(strings.Replace(string(gunzip(s.rendered("Packages.gz"))), "Package: hello", "Package: goodbye", 1))
			if ext != "" {
				index = testarchive.Compress(ext, index)
			}
			text += " " + testarchive.Sum(testarchive.SHA256, index) + " " + itoa(len(index)) + " " + packages + ext + "\n"
			s.put("dists/noble/"+packages+ext, index, gen)
		}
		s.put(inRelease, testarchive.ClearSign([]byte(text), date(gen), testarchive.DefaultKey()), gen)
	}
	twoSuites := row{name: "two suites disagree about a path", sources: deb + "\ndeb [signed-by=KEYRING] URL noble-old main", lay: func(s *site, gen int) {
		// The older suite lists the same file with other bytes, as before a rebuild in place.
		text := strings.Replace(string(gunzip(s.rendered("dists/noble/"+packages+".gz"))), "Version: "+version(gen), "Version: 0.1", 1)
		i := strings.Index(text, "SHA256: ") + len("SHA256: ")
		text = text[:i] + strings.Repeat("0", 64) + text[i+64:]
		head := "Suite: noble-old\nCodename: noble-old\nArchitectures: amd64\nComponents: main\nDate: " + date(gen).UTC().Format("Mon, 02 Jan 2006 15:04:05 MST") + "\nSHA256:\n"
		for _, ext := range []string{"", ".gz"} {
			index := testarchive.Compress(ext, []byte(text))
			head += " " + testarchive.Sum(testarchive.SHA256, index) + " " + itoa(len(index)) + " " + packages + ext + "\n"
			s.put("dists/noble-old/"+packages+ext, index, gen)
		}
		s.put("dists/noble-old/InRelease", testarchive.ClearSign([]byte(head), date(gen), testarchive.DefaultKey()), gen)
	}}
	slash := suite("noble/updates")
	slash.name, slash.everywhere = "a suite with a slash", true
	snapshot := row{name: "a URL like that of a snapshot", path: "/archive/debian/20250101T000000Z"}
	user := row{name: "a URL with a tilde", path: "/~user/debian"}
	plus := row{name: "a URL with a plus and a port", path: "/c++/deb"}
	slashes := row{name: "a URL with a slash at its end", sources: "deb [signed-by=KEYRING] URL/ noble main"}
	double := row{name: "a URL with a double slash", sources: "deb [signed-by=KEYRING] URL// noble main"}
	dots := flat("flat by several dots", "deb URL repo/./", testarchive.Suite{Name: "repo", FlatFromRoot: true})
	return []row{
		flat("flat at the root, a slash alone", "deb URL /", testarchive.Suite{}),
		flat("flat at the root, a dot and a slash", "deb URL ./", testarchive.Suite{}),
		flat("flat in a directory", "deb URL/repo/deb ./", testarchive.Suite{Name: "repo/deb", ByHash: true}),
		flat("flat, Filename relative to the root", "deb URL repo/", testarchive.Suite{Name: "repo", FlatFromRoot: true}),
		deep, between, top, twoSuites, dots, slash,
		in("packages beside their index", "dists/noble/main/binary-amd64"),
		in("a pool below dists", "dists/noble/pool/main/h/hello"),
		in("a pool below dists of no suite", "dists/pool/hello"),
		in("a package at the top", ""),
		in("a pool in another directory", "packages/all of them/hello"),
		in("a pool with hidden directories", ".pool/.hello"),
		in("a package below by-hash", "pool/by-hash/SHA256"),
		in("a pool below a directory called dists", "pool/dists/noble/main"),
		listedAs("an absolute Filename", "pool/hello", "/pool/hello/"),
		listedAs("a Filename that begins with ./", "pool/hello", "./pool/hello/"),
		listedAs("a Filename with a double slash", "pool/hello", "pool//hello/"),
		listedAs("a Filename with dots inside", "pool/hello", "pool/x/../hello/"),
		listedAs("a Filename with a dot inside", "pool/hello", "pool/./hello/"),
		suite("noble-updates"), suite("noble/snapshots/20250101T000000Z"), suite("noble", "non-free/firmware"),
		suite("noble", "main", "contrib"), suite("12.5"), suite("noble+security~1"), suite("a.b_c-d"),
		row{name: "components with a slash, as of security", suite: testarchive.Suite{Name: "jessie/updates", Codename: "jessie", ComponentPrefix: "updates/", ByHash: true},
			sources: "deb [signed-by=KEYRING] URL jessie/updates main"},
		linked("one Release under two directories, the link is asked", "deb [signed-by=KEYRING] URL stable main", "bookworm", "stable"),
		linked("one Release under two directories, both are asked", "deb [signed-by=KEYRING] URL stable main\ndeb [signed-by=KEYRING] URL bookworm main", "bookworm", "stable"),
		source("a source in another directory", "sources/tool", ""),
		source("a source with a slash behind its Directory", "pool/main/t/tool", "pool/main/t/tool/"),
		source("a source with an absolute Directory", "pool/main/t/tool", "/pool/main/t/tool"),
		source("a source with ./ before its Directory", "pool/main/t/tool", "./pool/main/t/tool"),
		snapshot, user, plus, slashes, double,
	}
}
