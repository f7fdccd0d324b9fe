package aptmeta

import (
	"bytes"
	"errors"
	"io"
	"os/exec"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/aptmesh/aptmesh/node/format/plain"
	"github.com/aptmesh/aptmesh/proto"
)

// stanzaText is a Stanza that stays.
type stanzaText struct {
	Package, Version, Arch, PreDepends, Depends string
	Path                                        string
	Size                                        int64
	SHA256                                      proto.Digest
	SHA512                                      proto.SHA512
}

func readStanzas(r io.Reader) ([]stanzaText, error) {
	var all []stanzaText
	err := ParseStanzas("dir/Packages", r, func(s *Stanza) error {
		all = append(all, stanzaText{string(s.Package), string(s.Version), string(s.Architecture), string(s.PreDepends), string(s.Depends),
			string(s.Path), s.Size, s.SHA256, s.SHA512})
		return nil
	})
	return all, err
}

// kernelPackages are stanzas as Ubuntu publishes them, shortened.
const kernelPackages = `Package: linux-image-generic
Architecture: amd64
Version: 6.8.0-51.52
Priority: optional
Section: kernel
Source: linux-meta
Origin: Ubuntu
Maintainer: Ubuntu Kernel Team <kernel-team@lists.example.org>
Installed-Size: 17
Depends: linux-image-6.8.0-51-generic, linux-modules-extra-6.8.0-51-generic, linux-firmware, intel-microcode, amd64-microcode
Recommends: thermald
Filename: pool/main/l/linux-meta/linux-image-generic_6.8.0-51.52_amd64.deb
Size: 9744
MD5sum: ` + hexMD5 + `
SHA1: ` + hexSHA1 + `
SHA256: ` + hexSHA256 + `
SHA512: ` + hexSHA512 + `
Description: Generic Linux kernel image
Task: ubuntu-live, server

Package: dpkg
Essential: yes
Architecture: amd64
Version: 1:22.6ubuntu6.1
pre-depends: libc6 (>= 2.38),
 libselinux1 (>= 3.1~),
	zlib1g (>= 1:1.2.3)
Depends: tar (>= 1.28-1)
Conflicts: x
 Depends: not-a-field
Filename: ./pool//d/dpkg_1%3a22.6_amd64.deb
Size: 12
Description-md5: ` + hexMD5 + `

Package: without-file
Depends: never-seen
Version: 9

Filename: pool/bare.deb
`

func TestParseStanzas(t *testing.T) {
	sum, err := proto.ParseDigest(hexSHA256)
	if err != nil {
		t.Fatal(err)
	}
	var strong proto.SHA512
	setSum(strong[:], []byte(hexSHA512))
	want := []stanzaText{
		{"linux-image-generic", "6.8.0-51.52", "amd64", "",
			"linux-image-6.8.0-51-generic, linux-modules-extra-6.8.0-51-generic, linux-firmware, intel-microcode, amd64-microcode",
			"pool/main/l/linux-meta/linux-image-generic_6.8.0-51.52_amd64.deb", 9744, sum, strong},
		{"dpkg", "1:22.6ubuntu6.1", "amd64", "libc6 (>= 2.38), libselinux1 (>= 3.1~), zlib1g (>= 1:1.2.3)", "tar (>= 1.28-1)",
			"pool/d/dpkg_1%3a22.6_amd64.deb", 12, proto.Digest{}, proto.SHA512{}},
		{Path: "pool/bare.deb", Size: proto.UnknownSize},
	}
	for _, ending := range []string{"\n", "\r\n"} {
		text := strings.ReplaceAll(kernelPackages, "\n", ending)
		for name, r := range map[string]io.Reader{
			"whole": strings.NewReader(text), "bytes": iotest.OneByteReader(strings.NewReader(text)),
			"data with EOF": iotest.DataErrReader(strings.NewReader(text)),
		} {
			if got, err := readStanzas(r); err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("%s, %q: %v\n got %+v\nwant %+v", name, ending, err, got, want)
			}
		}
	}
}

func TestParseStanzasErrors(t *testing.T) {
	boom := errors.New("boom")
	text := strings.NewReader("Filename: a\n\nFilename: b\n")
	if err := ParseStanzas("x/Packages", text, func(*Stanza) error { return boom }); !errors.Is(err, boom) {
		t.Errorf("emit's error: %v", err)
	}
	got, err := readStanzas(io.MultiReader(strings.NewReader("Filename: a\n\nFilename: b"), iotest.ErrReader(boom)))
	if !errors.Is(err, boom) || !strings.Contains(err.Error(), "dir/Packages") || len(got) != 1 {
		t.Errorf("the reader's error: %v, %v", got, err)
	}
	limits := Limits{Rows: 10_000, Bytes: 32 << 20}
	for text, is := range map[string]error{
		"x": plain.ErrTooLarge, "Package: x\n": plain.ErrTooLarge, " x\n": plain.ErrTooLarge, "Filename: x\n\n": ErrTooManyRows,
	} {
		e := &endless{text: strings.Repeat(text, 1000)}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		err := ParseStanzasWithin(limits, "x", e, func(*Stanza) error { return nil })
		runtime.ReadMemStats(&after)
		if !errors.Is(err, is) || e.n > limits.Bytes+maxLine {
			t.Errorf("%q without end: %v after %d bytes", text, err, e.n)
		}
		if used := after.TotalAlloc - before.TotalAlloc; used > 8<<20 {
			t.Errorf("%q without end: allocated %d bytes", text, used)
		}
	}
	// Of a folded field without end the beginning is kept.
	e := io.MultiReader(strings.NewReader("Filename: a\nDepends: a,\n"), &endless{text: " libsomething (>= 1.2.3),\n"})
	end := io.MultiReader(io.LimitReader(e, 20<<20), strings.NewReader("\nSize: 5\n"))
	longest := 0
	err = ParseStanzasWithin(limits, "x", end, func(s *Stanza) error { longest = len(s.Depends); return nil })
	if err != nil || longest < maxLine/2 || longest > maxLine {
		t.Errorf("a field of 20 MiB: %d bytes kept, %v", longest, err)
	}
}

// TestParseStanzasAgrees holds the two readers of Packages against each other.
func TestParseStanzasAgrees(t *testing.T) {
	data := syntheticPackages(1 << 20)
	files, err := parseAll(Packages, "Packages", bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	stanzas, err := readStanzas(bytes.NewReader(data))
	if err != nil || len(stanzas) != len(files) || len(files) < 1000 {
		t.Fatalf("%d stanzas, %d files, %v", len(stanzas), len(files), err)
	}
	for i, f := range files {
		s := stanzas[i]
		if s.Path != f.Path || s.Size != f.Size || s.SHA256.String() != f.SHA256 {
			t.Fatalf("stanza %+v, file %+v", s, f)
		}
		if deps := Dependencies(s.Depends); len(deps) == 0 || deps[0][0] != (Dependency{"libc6", "", ">=", "2.34"}) || s.Arch != "amd64" {
			t.Fatalf("%+v: %v", s, deps)
		}
	}
	r := bytes.NewReader(data)
	allocs := testing.AllocsPerRun(5, func() {
		r.Reset(data)
		if err := ParseStanzas("Packages", r, func(*Stanza) error { return nil }); err != nil {
			t.Fatal(err)
		}
	})
	if allocs > 30 {
		t.Errorf("%v allocations for %d stanzas", allocs, len(stanzas))
	}
}

func FuzzParseStanzas(f *testing.F) {
	f.Add([]byte(kernelPackages))
	f.Add([]byte("Package: a\r\nDepends: b,\r\n c\r\nFilename: a.deb\r\n\r\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		whole, err := readStanzas(bytes.NewReader(data))
		if err != nil && len(data) < maxLine {
			t.Fatal(err)
		}
		files, _ := parseAll(Packages, "dir/Packages", bytes.NewReader(data))
		if len(files) != len(whole) {
			t.Fatalf("%d stanzas, %d files", len(whole), len(files))
		}
		for i, s := range whole {
			if s.Path != files[i].Path || s.Size != files[i].Size {
				t.Fatalf("stanza %+v, file %+v", s, files[i])
			}
			if strings.Contains(s.Package+s.Version+s.Arch+s.Depends+s.PreDepends, "\n") {
				t.Fatalf("a line end in %+v", s)
			}
		}
		if pieces, _ := readStanzas(iotest.OneByteReader(bytes.NewReader(data))); !reflect.DeepEqual(whole, pieces) {
			t.Fatalf("%v in one piece, %v in many", whole, pieces)
		}
	})
}

func TestDependencies(t *testing.T) {
	for field, want := range map[string][][]Dependency{
		"":   nil,
		" ,": nil,
		"libc6 (>= 2.34), libx": {
			{{"libc6", "", ">=", "2.34"}}, {{"libx", "", "", ""}},
		},
		"default-mta | mail-transport-agent,python3:any (>=3.8~),\n perl:native( <<5.40 ),": {
			{{"default-mta", "", "", ""}, {"mail-transport-agent", "", "", ""}},
			{{"python3", "any", ">=", "3.8~"}},
			{{"perl", "native", "<<", "5.40"}},
		},
		"libfoo:i386 (= 1:2.0-1ubuntu3~22.04.1+b2) | libbar (< 3) | libbaz (>4)": {
			{{"libfoo", "i386", "=", "1:2.0-1ubuntu3~22.04.1+b2"}, {"libbar", "", "<=", "3"}, {"libbaz", "", ">=", "4"}},
		},
		"debhelper (>= 13) [linux-any !hppa] <!nocheck>, g++[amd64], x <stage1>": {
			{{"debhelper", "", ">=", "13"}}, {{"g++", "", "", ""}}, {{"x", "", "", ""}},
		},
		// What cannot be read is passed over, the rest stays.
		"${shlibs:Depends}, a b, ok | (>= 1), broken (>= 1, broken2 (1), broken3 (>=), -dash, a:, broken4 (=> 1)": {
			{{"a", "", "", ""}}, {{"ok", "", "", ""}},
		},
	} {
		if got := Dependencies(field); !reflect.DeepEqual(got, want) {
			t.Errorf("%q:\n got %v\nwant %v", field, got, want)
		}
	}
}

// FuzzDependencies holds that what comes out can be written down and read again.
func FuzzDependencies(f *testing.F) {
	f.Add("libc6 (>= 2.34), default-mta | mail-transport-agent, python3:any (<< 3.13)")
	f.Add("a [amd64] <!x>, b(=1)")
	f.Fuzz(func(t *testing.T, field string) {
		deps := Dependencies(field)
		var groups []string
		for _, alternatives := range deps {
			var texts []string
			for _, d := range alternatives {
				text := d.Name
				if d.Arch != "" {
					text += ":" + d.Arch
				}
				if d.Relation != "" {
					text += " (" + d.Relation + " " + d.Version + ")"
				}
				texts = append(texts, text)
				if d.Name == "" || !strings.Contains(field, d.Name) || (d.Relation == "") != (d.Version == "") {
					t.Fatalf("%+v", d)
				}
			}
			groups = append(groups, strings.Join(texts, " | "))
		}
		if again := Dependencies(strings.Join(groups, ", ")); !reflect.DeepEqual(again, deps) {
			t.Fatalf("%v becomes %v", deps, again)
		}
	})
}

// inOrder are versions from old to new, by dpkg's order.
var inOrder = []string{
	"0~~", "0~~a", "0~", "0", "0+", "0.1", "0.9", "0.10~rc1", "0.10", "0.10-0ubuntu1", "0.10-1", "0.10-1+b1", "0.10-1.1", "0.10-2~bpo12+1", "0.10-2",
	"1.0~beta", "1.0", "1.0-1ubuntu0.22.04.1", "1.0-1ubuntu1", "1.0a", "1.0+dfsg", "1.0.1", "1.00000000000000000000000000001.5", "2", "10", "20240101-1", "a", "b", "1:0", "1:0.1", "2:0",
}

func TestCompareVersions(t *testing.T) {
	dpkg, _ := exec.LookPath("dpkg")
	for i, a := range inOrder {
		for j, b := range inOrder {
			if got := CompareVersions(a, b); got < 0 != (i < j) || got > 0 != (i > j) {
				t.Errorf("CompareVersions(%q, %q) = %d", a, b, got)
			}
		}
		if i == 0 || dpkg == "" || !isDigit(a[0]) || !isDigit(inOrder[i-1][0]) { // dpkg warns of versions that begin with a letter
			continue
		}
		if out, err := exec.Command(dpkg, "--compare-versions", inOrder[i-1], "lt", a).CombinedOutput(); err != nil {
			t.Errorf("dpkg does not take %q for older than %q: %v %s", inOrder[i-1], a, err, out)
		}
	}
	for _, same := range [][2]string{{"1.0", "0:1.0"}, {"1.01", "1.1"}, {"1.0-0", "1.0"}, {"1.0", "1.00"}, {"", "0"}} {
		if CompareVersions(same[0], same[1]) != 0 {
			t.Errorf("%q and %q differ", same[0], same[1])
		}
	}
	for relation, want := range map[string][]bool{"": {true, true, true}, "<<": {true, false, false}, "<=": {true, true, false},
		"=": {false, true, false}, ">=": {false, true, true}, ">>": {false, false, true}} {
		d := Dependency{Name: "x", Relation: relation, Version: "1.5"}
		if got := []bool{d.Allows("1.4"), d.Allows("1.5-0"), d.Allows("1:1")}; !slices.Equal(got, want) {
			t.Errorf("%q allows %v, want %v", relation, got, want)
		}
	}
}

// FuzzCompareVersions holds that it is an order.
func FuzzCompareVersions(f *testing.F) {
	f.Add("1.0~rc1", "1.0", "1.0-1")
	f.Add("1:2", "a", "")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		sign := func(n int) int { return min(max(n, -1), 1) }
		ab, ba, bc, ac := CompareVersions(a, b), CompareVersions(b, a), CompareVersions(b, c), CompareVersions(a, c)
		if sign(ab) != -sign(ba) || CompareVersions(a, a) != 0 {
			t.Fatalf("%q %q: %d and %d", a, b, ab, ba)
		}
		if ab <= 0 && bc <= 0 && ac > 0 {
			t.Fatalf("%q <= %q <= %q, but not the first and the last", a, b, c)
		}
	})
}

// BenchmarkParseStanzas is BenchmarkParseIndex with all that a Stanza has.
func BenchmarkParseStanzas(b *testing.B) {
	data := benchPackages()
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		stanzas := 0
		if err := ParseStanzas("Packages", bytes.NewReader(data), func(*Stanza) error { stanzas++; return nil }); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(stanzas), "stanzas")
	}
}
