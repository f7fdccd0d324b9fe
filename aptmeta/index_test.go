package aptmeta

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/aptmesh/aptmesh/node/format/plain"
	"github.com/aptmesh/aptmesh/proto"
)

// listed is a File with a path that stays.
type listed struct {
	Path   string
	Size   int64
	SHA256 string // "" for none
	SHA512 string
}

func parseAll(kind IndexKind, member string, r io.Reader) ([]listed, error) {
	var all []listed
	err := ParseIndex(kind, member, r, func(f File) error {
		l := listed{Path: string(f.Path), Size: f.Size}
		if !f.SHA256.IsZero() {
			l.SHA256 = f.SHA256.String()
		}
		if f.SHA512 != (proto.SHA512{}) {
			l.SHA512 = fmt.Sprintf("%x", f.SHA512[:])
		}
		all = append(all, l)
		return nil
	})
	return all, err
}

func TestParseIndex(t *testing.T) {
	tests := []struct {
		name   string
		kind   IndexKind
		member string
		text   string
		want   []listed
	}{
		{"packages", Packages, "main/binary-amd64/Packages", `Package: hello
Source: hello-src
Section: devel
Depends: libc6,
 libx
Filename: pool/main/h/hello/hello_2.10_amd64.deb
Size: 100
MD5sum: ` + hexMD5 + `
SHA1: ` + hexSHA1 + `
SHA256: ` + hexSHA256 + `

Package: without-file

Package: both
SHA512: ` + hexSHA512 + `
SHA256:` + strings.ToUpper(hexSHA256) + `
size: 7
filename: pool/b.deb
`, []listed{
			{"pool/main/h/hello/hello_2.10_amd64.deb", 100, hexSHA256, ""},
			{"pool/b.deb", 7, hexSHA256, hexSHA512},
		}},
		{"packages of a flat repository", Packages, "Packages", "Filename: ./a//b.deb\nSize: 1\nSHA256: " + hexSHA256 + "\n\n\n\nFilename: b~1+2.deb\n\nFilename: pool/x/../c#d.deb\n",
			[]listed{{"a/b.deb", 1, hexSHA256, ""}, {"b~1+2.deb", proto.UnknownSize, "", ""}, {"pool/c#d.deb", proto.UnknownSize, "", ""}}},
		{"packages with weak sums only", Packages, "Packages", "Filename: a.deb\nSize: 1\nMD5sum: " + hexMD5 + "\nSHA1: " + hexSHA1 + "\n",
			[]listed{{"a.deb", 1, "", ""}}},
		{"packages with malformed values", Packages, "Packages", "Filename: a.deb\nSize: many\nSHA256: 12\n\nFilename: b.deb\nSize: -1\nSHA256: " + strings.Repeat("z", 64) + "\n",
			[]listed{{"a.deb", -1, "", ""}, {"b.deb", -1, "", ""}}},
		{"packages with paths nobody can ask for", Packages, "Packages", "Filename: ../a.deb\n\nFilename: a/../../b.deb\n\nFilename: a/..;/b.deb\n\nFilename: a\x01.deb\n\nFilename: /\n\nFilename: a\\b\n\nFilename: ok.deb\n",
			[]listed{{"ok.deb", -1, "", ""}}},
		{"packages without newline at the end", Packages, "Packages", "Filename: a.deb\nSize: 1", []listed{{"a.deb", 1, "", ""}}},
		{"continuation lines that look like fields", Packages, "Packages", "Filename: a.deb\nDescription: x\n Filename: b.deb\n\tSize: 3\n\n", []listed{{"a.deb", -1, "", ""}}},
		{"nothing", Packages, "Packages", "", nil},
		{"a page", Packages, "Packages", "<html>\n<body>", nil},
		{"sources", Sources, "main/source/Sources", `Package: hello
Binary: hello
Directory: pool/main/h/hello
Files:
 ` + hexMD5 + ` 10 hello_1.dsc
 ` + hexMD5 + ` 20 hello_1.tar.gz
Checksums-Sha1:
 ` + hexSHA1 + ` 10 hello_1.dsc
Checksums-Sha256:
 ` + hexSHA256 + ` 10 hello_1.dsc
 ` + hexSHA256 + ` 20 hello_1.tar.gz

Package: without-files
Checksums-Sha512:
 ` + hexSHA512 + ` 2 b.dsc
 ` + hexSHA512 + ` 1 a.dsc
Checksums-Sha256:
 ` + hexSHA256 + ` 1 a.dsc
 ` + hexSHA256 + ` 2 b.dsc
Directory: pool/w

Package: flat
Directory: .
Checksums-Sha256: ` + hexSHA256 + ` 3 c.dsc
Package-List:
 ` + hexSHA256 + ` 3 not-a-file

Package: weak
Files:
 ` + hexMD5 + ` 4 d.dsc
 too few
`, []listed{
			{"pool/main/h/hello/hello_1.dsc", 10, hexSHA256, ""},
			{"pool/main/h/hello/hello_1.tar.gz", 20, hexSHA256, ""},
			{"pool/w/b.dsc", 2, hexSHA256, hexSHA512},
			{"pool/w/a.dsc", 1, hexSHA256, hexSHA512},
			{"c.dsc", 3, hexSHA256, ""},
			{"d.dsc", 4, "", ""},
		}},
		{"diff index", DiffIndex, "main/binary-amd64/Packages.diff/Index", `SHA1-Current: ` + hexSHA1 + ` 100
SHA256-Current: ` + hexSHA256 + ` 100
SHA256-History:
 ` + hexSHA256 + ` 99 2026-01-01-0000.00
SHA256-Patches:
 ` + hexSHA256 + ` 50 T-2-F-1
SHA256-Download:
 ` + hexSHA256 + ` 30 T-2-F-1.gz
X-Patch-Precedence: merged
X-Unmerged-SHA256-Download:
 ` + hexSHA256 + ` 31 2026-01-01-0000.00.gz
`, []listed{
			{"main/binary-amd64/Packages.diff/T-2-F-1.gz", 30, hexSHA256, ""},
			{"main/binary-amd64/Packages.diff/2026-01-01-0000.00.gz", 31, hexSHA256, ""},
		}},
		{"diff index of a flat repository", DiffIndex, "Packages.diff/Index", "SHA256-Download:\n " + hexSHA256 + " 1 ../../x\n " + hexSHA256 + " 1 x.gz\n",
			[]listed{{"Packages.diff/x.gz", 1, hexSHA256, ""}}},
		{"sums", SHA256Sums, "main/installer-amd64/current/images/SHA256SUMS",
			hexSHA256 + "  ./netboot/netboot.tar.gz\n" + hexSHA256 + " *cdrom/vmlinuz\n# comment\n\nbad  x\n" + hexSHA256 + "  ../../../../../x\n" + hexSHA256 + "  last",
			[]listed{
				{"main/installer-amd64/current/images/netboot/netboot.tar.gz", -1, hexSHA256, ""},
				{"main/installer-amd64/current/images/cdrom/vmlinuz", -1, hexSHA256, ""},
				{"main/installer-amd64/current/images/last", -1, hexSHA256, ""},
			}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			for _, ending := range []string{"\n", "\r\n"} {
				text := strings.ReplaceAll(test.text, "\n", ending)
				for name, r := range map[string]io.Reader{
					"whole": strings.NewReader(text), "bytes": iotest.OneByteReader(strings.NewReader(text)),
					"data with EOF": iotest.DataErrReader(strings.NewReader(text)),
				} {
					got, err := parseAll(test.kind, test.member, r)
					if err != nil {
						t.Fatalf("%s: %v", name, err)
					}
					if !reflect.DeepEqual(got, test.want) {
						t.Errorf("%s, %q: got %v, want %v", name, ending, got, test.want)
					}
				}
			}
		})
	}
}

func TestIndexKindOf(t *testing.T) {
	for path, want := range map[string]IndexKind{
		"main/binary-amd64/Packages": Packages, "main/binary-amd64/Packages.xz": Packages, "Packages": Packages,
		"main/source/Sources.zst": Sources, "main/binary-amd64/Packages.diff/Index": DiffIndex, "Contents-amd64.diff/Index": DiffIndex,
		"main/installer-amd64/current/images/SHA256SUMS": SHA256Sums, "main/i18n/Index": NotAnIndex, "main/binary-amd64/Release": NotAnIndex,
		"main/Contents-amd64.gz": NotAnIndex, "main/i18n/Translation-en": NotAnIndex, "Packages.diff": NotAnIndex,
	} {
		if got := IndexKindOf(path); got != want {
			t.Errorf("IndexKindOf(%q) = %s, want %s", path, got, want)
		}
	}
}

func TestParseIndexErrors(t *testing.T) {
	boom := errors.New("boom")
	if err := ParseIndex(Packages, "x/Packages", strings.NewReader("Filename: a\n"), func(File) error { return boom }); !errors.Is(err, boom) {
		t.Errorf("emit's error: %v", err)
	}
	r := io.MultiReader(strings.NewReader("Filename: a\n\nFilename: b"), iotest.ErrReader(boom))
	got, err := parseAll(Packages, "x/Packages", r)
	if !errors.Is(err, boom) || !strings.Contains(err.Error(), "x/Packages") || len(got) != 1 {
		t.Errorf("the reader's error: %v, %v", got, err)
	}
	if err := ParseIndex(NotAnIndex, "x", strings.NewReader(""), nil); err == nil {
		t.Error("an unknown kind is accepted")
	}
	if err := ParseIndex(Packages, "x", silent{}, nil); !errors.Is(err, errNoProgress) {
		t.Errorf("a reader that gives nothing: %v", err)
	}
}

type silent struct{}

func (silent) Read([]byte) (int, error) { return 0, nil }

// endless repeats a text for ever and counts what was read of it.
type endless struct {
	text string
	n    int64
}

func (e *endless) Read(p []byte) (int, error) {
	n := copy(p, e.text[e.n%int64(len(e.text)):])
	e.n += int64(n)
	return n, nil
}

// TestParseIndexHostile feeds streams without end. Each must end at a limit, in bounded memory.
func TestParseIndexHostile(t *testing.T) {
	tests := []struct {
		name string
		kind IndexKind
		text string
		is   error
	}{
		{"a line without end", Packages, "x", plain.ErrTooLarge},
		{"a name without end", Packages, "Filename: ", plain.ErrTooLarge},
		{"a line without end in Sources", Sources, "x", plain.ErrTooLarge},
		{"a line without end in sums", SHA256Sums, "x", plain.ErrTooLarge},
		{"a stanza without end", Packages, "Filename: x\n", plain.ErrTooLarge},
		{"a stanza without end in Sources", Sources, "Package: x\n", plain.ErrTooLarge},
		{"a continuation without end", DiffIndex, " x\n", plain.ErrTooLarge},
		{"empty stanzas without end", Packages, "\n", plain.ErrTooLarge},
		{"the same files without end", Sources, "Files:\n " + hexMD5 + " 1 a\n b 1 b\n", plain.ErrTooLarge},
		{"rows without end", Packages, "Filename: x\n\n", ErrTooManyRows},
		{"rows without end in Sources", Sources, "Files:\n " + hexMD5 + " 1 a\n\n", ErrTooManyRows},
		{"rows without end in sums", SHA256Sums, hexSHA256 + " a\n", ErrTooManyRows},
	}
	limits := Limits{Rows: 100_000, Bytes: 64 << 20}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			e := &endless{text: strings.Repeat(test.text, 1000)}
			rows := int64(0)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			err := ParseIndexWithin(limits, test.kind, "x", e, func(File) error { rows++; return nil })
			runtime.ReadMemStats(&after)
			if !errors.Is(err, test.is) {
				t.Fatalf("error %v", err)
			}
			if e.n > limits.Bytes+maxLine || rows > limits.Rows {
				t.Errorf("read %d bytes, %d rows", e.n, rows)
			}
			if used := after.TotalAlloc - before.TotalAlloc; used > 8<<20 {
				t.Errorf("allocated %d bytes", used)
			}
		})
	}
}

// endlessNames lists files with ever new names in one stanza.
type endlessNames struct {
	rest []byte
	n    int
}

func (e *endlessNames) Read(p []byte) (int, error) {
	if len(e.rest) == 0 {
		e.rest = fmt.Appendf(nil, " %s 1 f%d\n", hexSHA256, e.n)
		if e.n == 0 {
			e.rest = append([]byte("Directory: d\nChecksums-Sha256:\n"), e.rest...)
		}
		e.n++
	}
	n := copy(p, e.rest)
	e.rest = e.rest[n:]
	return n, nil
}

// TestParseListsManyFiles holds that a stanza may list any number of files.
func TestParseListsManyFiles(t *testing.T) {
	for _, files := range []int{5000, maxListed, maxListed + 1000} {
		var text strings.Builder
		text.WriteString("Package: many\nDirectory: pool\n")
		for _, list := range []string{"Files:\n", "Checksums-Sha256:\n"} {
			text.WriteString(list)
			for i := range files {
				sum := hexMD5
				if list[0] == 'C' {
					sum = hexSHA256
				}
				fmt.Fprintf(&text, " %s 1 f%d\n", sum, i)
			}
		}
		got, err := parseAll(Sources, "Sources", strings.NewReader(text.String()))
		if err != nil || len(got) != files {
			t.Fatalf("%d files: %d rows, %v", files, len(got), err)
		}
		seen := make(map[string]bool)
		for _, l := range got {
			seen[l.Path] = true
			if l.Size != 1 || !strings.HasPrefix(l.Path, "pool/f") || l.SHA256 != hexSHA256 {
				t.Fatalf("%d files: %+v", files, l)
			}
		}
		if len(seen) != files {
			t.Errorf("%d files: %d different ones", files, len(seen))
		}
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	err := ParseIndexWithin(Limits{Rows: 300_000}, Sources, "Sources", &endlessNames{}, func(File) error { return nil })
	runtime.GC()
	runtime.ReadMemStats(&after)
	if !errors.Is(err, ErrTooManyRows) {
		t.Fatal(err)
	}
	if used := after.TotalAlloc - before.TotalAlloc; used > 160<<20 {
		t.Errorf("allocated %d bytes in all", used)
	}
	// Where files lie must be known before they are emitted by themselves.
	var late strings.Builder
	late.WriteString("Checksums-Sha256:\n")
	for i := range maxListed + 10 {
		fmt.Fprintf(&late, " %s 1 f%d\n", hexSHA256, i)
	}
	late.WriteString("Directory: pool\n")
	got, err := parseAll(Sources, "Sources", strings.NewReader(late.String()))
	if err != nil || len(got) != maxListed {
		t.Fatalf("a late Directory: %d rows, %v", len(got), err)
	}
	for _, l := range got {
		if !strings.HasPrefix(l.Path, "pool/f") {
			t.Fatalf("a late Directory: %+v", l)
		}
	}
}

// TestParseIndexLongLines holds that a long line costs no more than its own field.
func TestParseIndexLongLines(t *testing.T) {
	for _, length := range []int{maxLine - 100, maxLine - 1, maxLine, maxLine + 1, 3*maxLine + 7, 50 << 20} {
		long := strings.Repeat("x", length)
		text := "Filename: a.deb\nProvides: " + long + "\nSize: 5\n\nFilename: " + long + "\nSize: 6\n\nFilename: c.deb\nSHA256: " + long + "\nSize: 7\n"
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		got, err := parseAll(Packages, "Packages", strings.NewReader(text))
		runtime.ReadMemStats(&after)
		if err != nil || len(got) != 2 || got[0].Path != "a.deb" || got[0].Size != 5 || got[1].Path != "c.deb" || got[1].Size != 7 {
			t.Errorf("%d bytes: %v, %v", length, got, err)
		}
		if used := after.TotalAlloc - before.TotalAlloc; used > 6<<20 {
			t.Errorf("%d bytes: allocated %d", length, used)
		}
	}
	source := "Directory: pool\nChecksums-Sha256:\n " + hexSHA256 + " 1 " + strings.Repeat("y", 2*maxLine) + "\n " + hexSHA256 + " 1 b\n"
	if got, err := parseAll(Sources, "Sources", strings.NewReader(source)); err != nil || len(got) != 1 || got[0].Path != "pool/b" {
		t.Errorf("a long line of Sources: %v, %v", got, err)
	}
}

// TestParsePackagesAllocates nothing per stanza.
func TestParsePackagesAllocates(t *testing.T) {
	data := syntheticPackages(1 << 20)
	r := bytes.NewReader(data)
	files := 0
	allocs := testing.AllocsPerRun(5, func() {
		r.Reset(data)
		files = 0
		if err := ParseIndex(Packages, "Packages", r, func(File) error { files++; return nil }); err != nil {
			t.Fatal(err)
		}
	})
	if files < 1000 || allocs > 10 {
		t.Errorf("%v allocations for %d files", allocs, files)
	}
	if want := bytes.Count(data, []byte("\nFilename:")); files != want {
		t.Errorf("%d files, want %d", files, want)
	}
}

// FuzzParseIndex holds that paths are canonical, and that the answer does not
// depend on how the stream is cut into reads.
func FuzzParseIndex(f *testing.F) {
	f.Add(uint8(Packages), []byte("Filename: ./a.deb\nSize: 1\nSHA256: "+hexSHA256+"\n\nFilename: b\r\n\r\n"))
	f.Add(uint8(Sources), []byte("Directory: d\nFiles:\n "+hexMD5+" 1 x\nChecksums-Sha256:\n "+hexSHA256+" 1 x\n"))
	f.Add(uint8(DiffIndex), []byte("SHA256-Download:\n "+hexSHA256+" 1 x.gz\n"))
	f.Add(uint8(SHA256Sums), []byte(hexSHA256+"  ./x\n"))
	f.Fuzz(func(t *testing.T, kind uint8, data []byte) {
		k := IndexKind(kind%4) + Packages
		whole, err := parseAll(k, "dir/index", bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range whole {
			if l.Path == "" || l.Size < proto.UnknownSize {
				t.Fatalf("%+v", l)
			}
			if path, err := proto.CanonicalPath(proto.EscapePath(l.Path)); path != l.Path || err != nil {
				t.Fatalf("%q is not canonical: %v", l.Path, err)
			}
		}
		if pieces, _ := parseAll(k, "dir/index", iotest.OneByteReader(bytes.NewReader(data))); !reflect.DeepEqual(whole, pieces) {
			t.Fatalf("%v in one piece, %v in many", whole, pieces)
		}
	})
}
