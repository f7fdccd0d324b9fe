package differential

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"os/exec"
	"strings"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
)

// indexes are archives whose indexes are compressed, named, listed or written in odd ways.
func indexes() []row { return concat(compressed(), byHash(), listedOrNot(), texts()) }

// compressed are indexes in all formats that apt reads, and formats used in odd ways.
func compressed() []row {
	only := func(exts ...string) row {
		return row{name: "indexes in " + strings.ReplaceAll("plain "+strings.Join(exts, " "), "plain .", ".") + " alone", sources: debSrc, suite: testarchive.Suite{Compressions: exts}}
	}
	plain := only("")
	plain.name = "plain indexes alone"
	// by compresses with a program.
	by := func(name, ext string, command ...string) row {
		return row{name: name, tool: command[0], sources: debSrc,
			suite: testarchive.Suite{Compressions: []string{ext}, Pack: func(ext string, text []byte) []byte { return pipe(text, command...) }}}
	}
	late := func(r row) row {
		pack := r.suite.Pack
		r.name += ", only in generation 2"
		r.from, r.suite.Pack = 2, nil
		r.odd = func(_ int, s *testarchive.Suite) { s.Pack = pack }
		return r
	}
	altered := func(name, ext string, change func(text []byte) []byte) row {
		return row{name: name, suite: testarchive.Suite{Compressions: []string{ext}, Pack: func(_ string, text []byte) []byte { return change(text) }}}
	}
	pack := testarchive.Compress
	half := func(ext string) func([]byte) []byte {
		return func(text []byte) []byte {
			n := len(text) / 2
			return append(bytes.Clone(pack(ext, text[:n])), pack(ext, text[n:])...)
		}
	}
	bz2, lz4 := by("indexes in .bz2 alone", ".bz2", "bzip2", "-c"), by("indexes in .lz4 alone", ".lz4", "lz4", "-c", "-q")
	padded := altered("gzip with zero bytes behind it", ".gz", func(text []byte) []byte { return append(bytes.Clone(pack(".gz", text)), make([]byte, 10)...) })
	window := by("zstd with a window of 128 MiB", ".zst", "zstd", "--ultra", "-22", "-c", "-q")
	omitted := refused(row{name: "the Release lists no plain index", sources: debSrc, suite: testarchive.Suite{OmitPlain: true}})
	allForms := only(".xz", ".bz2", ".gz", ".lz4", ".zst", ".lzma", "")
	allForms.name, allForms.tool = "indexes in all formats", "lz4"
	allForms.suite.Pack = func(ext string, text []byte) []byte {
		switch ext {
		case ".bz2":
			return pipe(text, "bzip2", "-c")
		case ".lz4":
			return pipe(text, "lz4", "-c", "-q")
		}
		return nil
	}
	kept := row{name: "the host keeps indexes compressed", sources: debSrc, settings: []string{`Acquire::GzipIndexes "true";`}}
	order := row{name: "the host wants another format first", sources: debSrc, settings: []string{`Acquire::CompressionTypes::Order:: "gz";`}}
	changes := row{name: "the format changes in generation 2", sources: debSrc, odd: func(gen int, s *testarchive.Suite) {
		s.Compressions = [][]string{{".gz"}, {".zst"}}[gen-1]
	}}
	return []row{
		plain, only(".gz"), only(".xz"), only(".zst"), only(".lzma"), bz2, lz4, allForms, omitted, kept, order, changes,
		padded, late(padded),
		altered("gzip of two members", ".gz", half(".gz")),
		altered("gzip with a name and a comment", ".gz", func(text []byte) []byte {
			var b bytes.Buffer
			w := gzip.NewWriter(&b)
			w.Name, w.Comment, w.Extra = "Packages", "made by hand", []byte("xtra")
			_, _ = w.Write(text) // memory
			_ = w.Close()
			return b.Bytes()
		}),
		altered("gzip without compression", ".gz", func(text []byte) []byte {
			var b bytes.Buffer
			w, _ := gzip.NewWriterLevel(&b, gzip.NoCompression)
			_, _ = w.Write(text) // memory
			_ = w.Close()
			return b.Bytes()
		}),
		refused(altered("xz of two streams", ".xz", half(".xz"))),
		altered("xz with padding behind it", ".xz", func(text []byte) []byte { return append(bytes.Clone(pack(".xz", text)), make([]byte, 8)...) }),
		altered("zstd of two frames", ".zst", half(".zst")),
		by("xz with a dictionary of 128 MiB", ".xz", "xz", "--lzma2=dict=128MiB", "-c"),
		by("xz with SHA-256 as its check", ".xz", "xz", "--check=sha256", "-c"),
		by("xz without a check", ".xz", "xz", "--check=none", "-c"),
		by("xz in many blocks", ".xz", "xz", "--block-size=4096", "-T2", "-c"),
		by("xz with the filter for x86", ".xz", "xz", "--x86", "--lzma2", "-c"),
		by("xz with delta", ".xz", "xz", "--delta=dist=4", "--lzma2", "-c"),
		window, late(window), by("zstd with a long window", ".zst", "zstd", "--long=27", "-c", "-q"),
		by("lzma by xz", ".lzma", "xz", "--format=lzma", "-c"),
		by("lz4 in small blocks", ".lz4", "lz4", "-B4", "-BD", "-c", "-q"),
	}
}

// pipe has a program read the text and returns what it writes.
func pipe(text []byte, command ...string) []byte {
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stdin = bytes.NewReader(text)
	out, err := cmd.Output()
	if err != nil {
		panic(fmt.Sprintf("%q: %v", command, err))
	}
	return out
}

// byHash are archives with names by hash which are not as announced.
func byHash() []row {
	without := func(s *site, part string) {
		for name := range s.archive.Files() {
			if strings.Contains(name, part) {
				s.archive.Delete(name)
			}
		}
	}
	four := []string{testarchive.MD5Sum, testarchive.SHA1, testarchive.SHA256, testarchive.SHA512}
	return []row{
		{name: "by hash", sources: debSrc, suite: testarchive.Suite{ByHash: true}, everywhere: true},
		{name: "by hash alone, no plain names", suite: testarchive.Suite{ByHash: true}, sources: debSrc, lay: func(s *site, _ int) {
			for name := range s.archive.Files() {
				if strings.HasPrefix(name, "dists/noble/main/") && !strings.Contains(name, "by-hash") {
					s.archive.Delete(name)
				}
			}
		}},
		{name: "by hash, the generations before are gone", suite: testarchive.Suite{ByHash: true, Retain: 1}},
		{name: "by hash, SHA256 of two sums is there", suite: testarchive.Suite{ByHash: true, Hashes: four},
			lay: func(s *site, _ int) { without(s, "by-hash/SHA512") }},
		{name: "by hash, SHA512 of four sums is there", suite: testarchive.Suite{ByHash: true, Hashes: four},
			lay: func(s *site, _ int) { without(s, "by-hash/SHA256") }},
		{name: "by hash is announced, and no such file is there", suite: testarchive.Suite{ByHash: true}, lay: func(s *site, _ int) { without(s, "/by-hash/") }},
		{name: "by hash is not announced, and the host insists", suite: testarchive.Suite{ByHash: true}, sources: "deb [signed-by=KEYRING by-hash=force] URL noble main",
			odd: func(_ int, s *testarchive.Suite) {
				s.Edit = func(text string) string { return drop(text, "Acquire-By-Hash") }
			}},
		{name: "by hash is not announced, no plain names, and the host insists", suite: testarchive.Suite{ByHash: true}, settings: []string{`Acquire::By-Hash "force";`},
			odd: func(_ int, s *testarchive.Suite) {
				s.Edit = func(text string) string { return set(text, "Acquire-By-Hash", "no") }
			},
			lay: func(s *site, _ int) {
				for name := range s.archive.Files() {
					if strings.HasPrefix(name, "dists/noble/main/") && !strings.Contains(name, "by-hash") {
						s.archive.Delete(name)
					}
				}
			}},
		{name: "by hash is announced, and the host does not want it", suite: testarchive.Suite{ByHash: true}, sources: "deb [signed-by=KEYRING by-hash=no] URL noble main"},
		{name: "by hash begins in generation 2", from: 2, odd: func(_ int, s *testarchive.Suite) { s.ByHash = true }},
		{name: "by hash ends in generation 2", odd: func(gen int, s *testarchive.Suite) { s.ByHash = gen == 1 }},
		{name: "by hash for another name of the component", suite: testarchive.Suite{ByHash: true, ComponentPrefix: "updates/"}},
	}
}

// listedOrNot are files that a Release lists and the server does not have, and files that
// are empty.
func listedOrNot() []row {
	absent := func(name string, suite testarchive.Suite, settings []string, part string) row {
		return row{name: name, suite: suite, settings: settings, lay: func(s *site, _ int) {
			for path := range s.archive.Files() {
				if strings.Contains(path, part) {
					s.archive.Delete(path)
				}
			}
		}}
	}
	contents := []string{`Acquire::IndexTargets::deb::Contents-deb { MetaKey "$(COMPONENT)/Contents-$(ARCHITECTURE)"; ShortDescription "Contents"; Description "$(RELEASE)/$(COMPONENT) Contents"; };`}
	dep11 := []string{`Acquire::IndexTargets::deb::DEP-11 { MetaKey "$(COMPONENT)/dep11/Components-$(NATIVE_ARCHITECTURE).yml"; ShortDescription "dep11"; Description "$(RELEASE)/$(COMPONENT) DEP-11"; };`}
	rich := testarchive.Suite{Translations: true, Contents: true, DEP11: true, Commands: true, Installer: "20230607", ComponentRelease: true}
	i386 := []string{`APT::Architectures { "amd64"; "i386"; };`}
	apart := testarchive.Suite{Architectures: []string{"amd64", "all"}}
	both := apart
	both.Fields = []string{"No-Support-for-Architecture-all: Packages"}
	few := func(gen int) []testarchive.Package { return usual(gen)[:2] }
	hollow := row{name: "an empty suite beside a full one", sources: deb + "\ndeb [signed-by=KEYRING] URL noble-backports main", lay: func(s *site, gen int) {
		text := string(s.rendered(release))
		for _, ext := range []string{"", ".gz", ".xz"} {
			line, data := entry(text, packages+ext), testarchive.Compress(ext, nil)
			text = strings.Replace(text, line, fmt.Sprintf(" %s %d %s\n", testarchive.Sum(testarchive.SHA256, data), len(data), packages+ext), 1)
			s.put("dists/noble-backports/"+packages+ext, data, gen)
		}
		head, sums := split(text)
		text = strings.ReplaceAll(head, "noble", "noble-backports") + sums[strings.Index(sums, "SHA256:"):]
		s.put("dists/noble-backports/InRelease", testarchive.ClearSign([]byte(text), date(gen), testarchive.DefaultKey()), gen)
	}}
	nothing := row{name: "no packages at all but in generation 1", packages: func(gen int) []testarchive.Package {
		if gen == 1 {
			return usual(1)
		}
		return []testarchive.Package{{Name: "hello", Version: "2.0-1", Arch: "all", Size: 10}}
	}}
	return []row{
		{name: "all optional files are there and the host wants them", suite: rich, settings: append(contents, dep11...), sources: debSrc},
		refused(absent("Translation is listed and absent", testarchive.Suite{Translations: true}, nil, "/i18n/")),
		absent("Translation is listed and absent, nobody wants it", testarchive.Suite{Translations: true}, []string{`Acquire::Languages "none";`}, "/i18n/"),
		absent("Contents is listed and absent, nobody wants it", testarchive.Suite{Contents: true}, nil, "/Contents-"),
		absent("DEP-11 is listed and absent, nobody wants it", testarchive.Suite{DEP11: true}, nil, "/dep11/"),
		absent("Sources is listed and absent, nobody wants it", testarchive.Suite{}, nil, "/source/"),
		absent(".xz is listed and absent, .gz is there", testarchive.Suite{}, nil, "Packages.xz"),
		absent(".gz is listed and absent, .xz is there", testarchive.Suite{}, nil, "Packages.gz"),
		{name: "wanted and not listed at all", settings: append(contents, dep11...)},
		{name: "an architecture is listed and absent", suite: testarchive.Suite{ListedArchitectures: []string{"arm64"}}},
		{name: "two architectures", suite: testarchive.Suite{Architectures: []string{"amd64", "i386"}}, settings: i386},
		{name: "an architecture of the host is not there", settings: i386},
		{name: "packages for all architectures apart", suite: apart, packages: few},
		{name: "packages for all architectures in both places", suite: both, packages: few},
		{name: "packages for all architectures alone", suite: testarchive.Suite{Architectures: []string{"all"}}, packages: func(gen int) []testarchive.Package {
			return []testarchive.Package{{Name: "hello", Version: version(gen), Arch: "all", Size: 100}}
		}},
		{name: "pdiffs one by one", suite: testarchive.Suite{PDiffs: true}, packages: filled},
		{name: "pdiffs merged, by hash", suite: testarchive.Suite{MergedPDiffs: true, ByHash: true}, packages: filled},
		absent("pdiffs are announced and the patches absent", testarchive.Suite{PDiffs: true}, nil, "Packages.diff/T-"),
		absent("pdiffs are announced and absent", testarchive.Suite{PDiffs: true}, nil, "Packages.diff/"),
		hollow, nothing,
		{name: "Packages of size 0, plain alone", suite: testarchive.Suite{Compressions: []string{""}, Components: []string{"main", "contrib"}},
			sources: "deb [signed-by=KEYRING] URL noble main contrib"},
		{name: "empty compressed Packages", suite: testarchive.Suite{Components: []string{"main", "contrib"}}, sources: "deb [signed-by=KEYRING] URL noble main contrib"},
		{name: "an empty component's files are absent", suite: testarchive.Suite{Components: []string{"main", "contrib"}, Compressions: []string{""}}, sources: "deb [signed-by=KEYRING] URL noble main contrib",
			lay: func(s *site, _ int) { s.archive.Delete("dists/noble/contrib/binary-amd64/Packages") }},
	}
}

// filled are so many packages that patches are smaller than the index.
func filled(gen int) []testarchive.Package {
	all := usual(gen)
	for i := range 300 {
		all = append(all, testarchive.Package{Name: fmt.Sprintf("filler%03d", i), Version: "1", Missing: true})
	}
	return all
}

// texts are indexes with odd stanzas. Two listings of a path may disagree: each current one
// vouches for what it says.
func texts() []row {
	index := func(name string, change func(path, text string) string) row {
		return row{name: name, sources: debSrc, odd: func(_ int, s *testarchive.Suite) { s.EditIndex = change }}
	}
	pkgs := func(name string, change func(text string) string) row {
		return index(name, func(path, text string) string {
			if strings.HasSuffix(path, "Packages") {
				return change(text)
			}
			return text
		})
	}
	srcs := func(name string, change func(text string) string) row {
		return index(name, func(path, text string) string {
			if strings.HasSuffix(path, "Sources") {
				return change(text)
			}
			return text
		})
	}
	without := func(field string) func(string) string { return func(text string) string { return drop(text, field) } }
	stanza := func(text, field, line string) string { return strings.Replace(text, field+":", line+"\n"+field+":", 1) }
	wrong := func(field string, list int) func(string) string {
		return func(text string) string { // a second stanza of the same file with another sum, before or behind
			first, _, _ := strings.Cut(text, "\n\n")
			i := strings.Index(first, field+": ") + len(field) + 2
			spoilt := first[:i] + strings.Repeat("0", 64) + first[i+64:]
			spoilt = strings.Replace(spoilt, "Version: ", "Version: 0.", 1)
			if list == 0 {
				return spoilt + "\n\n" + text
			}
			return text + spoilt + "\n\n"
		}
	}
	long := func(n int) func(string) string {
		return func(text string) string {
			return stanza(text, "Description", "Build-Ids:"+strings.Repeat(" 0123456789abcdef0123456789abcdef01234567", n))
		}
	}
	longLate := pkgs("a line of 900 KiB, only in generation 2", long(22000))
	longLate.from = 2
	manyFiles := srcs("a source of 5000 files", func(text string) string {
		var b strings.Builder
		b.WriteString("Package: many\nBinary: many\nFormat: 3.0 (quilt)\nArchitecture: any\nVersion: 1\nMaintainer: x <x@example.org>\nDirectory: pool\nChecksums-Sha256:\n")
		for i := range 5000 {
			fmt.Fprintf(&b, " %s %d many_%d.tar\n", other, i, i)
		}
		return text + b.String() + "\n"
	})
	manyLate := manyFiles
	manyLate.name, manyLate.from = manyFiles.name+", only in generation 2", 2
	twoSources := srcs("two source stanzas that disagree about a file", func(text string) string {
		// What went before is listed still, with another sum for the shared tarball.
		first, _, _ := strings.Cut(text, "\n\n")
		spoilt := strings.Replace(strings.Replace(first, "tool", "older-tool", 2), "Version: ", "Version: 0.", 1)
		at := strings.Index(spoilt, "Checksums-Sha256:\n ") + len("Checksums-Sha256:\n ")
		return spoilt[:at] + strings.Repeat("0", 64) + spoilt[at+64:] + "\n\n" + text
	})
	// apt reads such an index, and does not download what it lists.
	undownloadable := func(r row) row {
		r.debs, r.srcs = []string{}, []string{}
		return r
	}
	return []row{
		pkgs("a line of 900 KiB", long(22000)), longLate, manyFiles, manyLate, twoSources,
		pkgs("the same package again with another sum, the right one last", wrong("SHA256", 0)),
		pkgs("the same package again with another sum, the right one first", wrong("SHA256", 1)),
		pkgs("all packages twice", func(text string) string { return text + text }),
		pkgs("line ends of DOS in Packages", func(text string) string { return strings.ReplaceAll(text, "\n", "\r\n") }),
		pkgs("many empty lines in Packages", func(text string) string { return strings.ReplaceAll(text, "\n\n", "\n\n\n\n") }),
		pkgs("lines of spaces between stanzas", func(text string) string { return strings.ReplaceAll(text, "\n\n", "\n \n\n") }),
		pkgs("fields in other letters in Packages", func(text string) string {
			return strings.NewReplacer("Filename:", "filename:", "SHA256:", "Sha256:", "Size:", "SIZE:").Replace(text)
		}),
		pkgs("no spaces after colons in Packages", func(text string) string { return strings.ReplaceAll(text, ": ", ":") }),
		undownloadable(pkgs("sums in capitals in Packages", func(text string) string {
			var b strings.Builder
			for line := range strings.Lines(text) {
				if rest, ok := strings.CutPrefix(line, "SHA256: "); ok {
					line = "SHA256: " + strings.ToUpper(rest)
				}
				b.WriteString(line)
			}
			return b.String()
		})),
		undownloadable(pkgs("packages without SHA256, SHA1 is there", without("SHA256"))),
		pkgs("packages without MD5sum and SHA1", func(text string) string { return drop(drop(text, "MD5sum"), "SHA1") }),
		undownloadable(pkgs("no Size", without("Size"))),
		pkgs("a stanza without Filename", func(text string) string {
			return text + "Package: nowhere\nArchitecture: amd64\nVersion: 1\nMaintainer: x <x@example.org>\nDescription: no file\n\n"
		}),
		pkgs("a stanza with an empty Filename", func(text string) string {
			return text + "Package: nowhere\nArchitecture: amd64\nVersion: 1\nFilename:\nSize: 5\nMaintainer: x <x@example.org>\nDescription: no file\n\n"
		}),
		pkgs("a stanza with a size of no digits", func(text string) string {
			return text + "Package: nowhere\nArchitecture: amd64\nVersion: 1\nFilename: pool/x.deb\nSize: five\nSHA256: " + other + "\nMaintainer: x <x@example.org>\nDescription: no size\n\n"
		}),
		pkgs("a stanza with a sum of no digits", func(text string) string {
			return text + "Package: nowhere\nArchitecture: amd64\nVersion: 1\nFilename: pool/x.deb\nSize: 5\nSHA256: none\nMaintainer: x <x@example.org>\nDescription: no sum\n\n"
		}),
		pkgs("text in Latin-1", func(text string) string { return strings.ReplaceAll(text, "test package", "Pr\xfcfpaket") }),
		pkgs("a field twice in a stanza", func(text string) string { return stanza(text, "Description", "Section: libs") }),
		pkgs("a comment in Packages", func(text string) string { return stanza(text, "Description", "# by hand") }),
		pkgs("unknown fields in Packages", func(text string) string {
			return stanza(text, "Description", "Phased-Update-Percentage: 100\nX-Foo_Bar+Baz: 1")
		}),
		srcs("sources without Files", func(text string) string {
			a, b := strings.Index(text, "Files:\n"), strings.Index(text, "Checksums-Sha1:")
			return text[:a] + text[b:]
		}),
		srcs("all sources twice", func(text string) string { return text + text }),
	}
}
