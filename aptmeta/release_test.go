package aptmeta

import (
	"fmt"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/ProtonMail/go-crypto/openpgp"

	"github.com/aptmesh/aptmesh/proto"
)

const fullRelease = `Origin: Example
Label: Example Label
Suite: stable
Version: 1.2
Codename: example
Date: Sat, 02 May 2026 08:09:10 UTC
Valid-Until: Sat, 9 May 2026 08:09:10 UTC
Acquire-By-Hash: yes
No-Support-for-Architecture-all: Packages
Architectures: all amd64 arm64
Components: main updates/contrib
Description: words
 and MD5Sum: words
MD5Sum:
 ` + hexMD5 + ` 0 main/binary-amd64/Packages
 ` + hexMD5 + `   10 main/binary-amd64/Packages.gz
SHA1:
 ` + hexSHA1 + ` 0 main/binary-amd64/Packages
SHA256:
 ` + hexSHA256 + ` 0 main/binary-amd64/Packages
 ` + hexSHA256 + ` 7 ./main/i18n//Translation-en
SHA512:
 ` + hexSHA512 + ` 0 main/binary-amd64/Packages
Snapshots: https://snapshot.example.org/
`

func TestParseRelease(t *testing.T) {
	for _, ending := range []string{"\n", "\r\n"} {
		r, err := ParseRelease([]byte(strings.ReplaceAll(fullRelease, "\n", ending)))
		if err != nil {
			t.Fatal(err)
		}
		members := r.Members
		r.Members = nil
		want := &Release{
			Origin: "Example", Label: "Example Label", Suite: "stable", Codename: "example", Version: "1.2",
			Date:          time.Date(2026, 5, 2, 8, 9, 10, 0, time.UTC),
			ValidUntil:    time.Date(2026, 5, 9, 8, 9, 10, 0, time.UTC),
			Architectures: []string{"all", "amd64", "arm64"}, Components: []string{"main", "updates/contrib"},
			AcquireByHash: true, NoSupportForAll: true,
		}
		if !reflect.DeepEqual(r, want) {
			t.Errorf("got %+v, want %+v", r, want)
		}
		if len(members) != 3 {
			t.Fatalf("%d members: %v", len(members), members)
		}
		m := members["main/binary-amd64/Packages"]
		if m.Size != 0 || m.Hex(MD5Sum) != hexMD5 || m.Hex(SHA1) != hexSHA1 || m.Hex(SHA256) != hexSHA256 || m.Hex(SHA512) != hexSHA512 || m.Strongest() != SHA512 {
			t.Errorf("merged member %+v", m)
		}
		m = members["main/binary-amd64/Packages.gz"]
		if m.Size != 10 || m.Hex(SHA256) != "" || !m.Has(MD5Sum) || m.Strongest() != MD5Sum || !m.Ref().IsZero() {
			t.Errorf("member with MD5 only %+v", m)
		}
		m = members["main/i18n/Translation-en"]
		if m.Path != "main/i18n/Translation-en" || m.Ref() != (proto.Ref{Digest: proto.DigestOf(nil), Size: 7}) {
			t.Errorf("member with an untidy path %+v", m)
		}
	}
}

// releaseDates are dates, and how apt reads them; zero: it cannot.
var releaseDates = []struct {
	text string
	want time.Time
}{
	{"Sat, 02 May 2026 08:09:10 UTC", aMay},
	{"Sat, 2 May 2026 08:09:10 GMT", aMay},
	{"Sat,  2 May 2026 8:9:10 Z", aMay},
	{"sat, 02 may 2026 08:09:10 +0000", aMay},
	{"Sat, 02 May 2026 08:09:10 -0000", aMay},
	{"Sat, 02 May 2026 08:09:10 0", aMay},
	{"Mon, 02 May 2026 08:09:10 UTC", aMay}, // the weekday is not compared
	{"Sat, 02May 2026 08:09:10 UTC", aMay},
	{"Sat, 02 Maybe 2026 08:09:10 UTC", aMay},
	{"Sat May  2 08:09:10 2026", aMay},
	{"Sat May 2 08:09:10 2026", aMay},
	{"Sat, 02 Xyz 2026 08:09:10 UTC", time.Date(2026, 1, 2, 8, 9, 10, 0, time.UTC)},
	{"Sat, 31 Feb 2026 08:09:10 UTC", time.Date(2026, 3, 3, 8, 9, 10, 0, time.UTC)},
	{"Sat, 02 May 2026 08:09:10.5 UTC", aMay},
	{"Saturday, 02-May-126 08:09:10 GMT", aMay},
	{"Saturday, 02-May-26 08:09:10 GMT", time.Time{}}, // 1926: no date that serves
	{"Sat, 02 May 2026 10:09:10 +0200", time.Time{}},
	{"Sat, 02 May 2026 08:09:10 CEST", time.Time{}},
	{"Sat, 02 May 2026 08:09:10", time.Time{}},
	{"Sat, 02 May 2026 08:09:10 UTC x", time.Time{}},
	{"Sat, 02 May 2026 25:09:10 UTC", time.Time{}},
	{"Sat, 02 May 2026 08:09 UTC", time.Time{}},
	{"Sat, 32 May 2026 08:09:10 UTC", time.Time{}},
	{"Sat, 00 May 2026 08:09:10 UTC", time.Time{}},
	{"Sat, 02 May 20260 08:09:10 UTC", time.Time{}},
	{"Sat, 02 May 26 08:09:10 UTC", time.Time{}}, // the year 26
	{"Saturday 02-May-26 08:09:10 GMT", time.Time{}},
	{"Saturday, 02-05 08:09:10 GMT", time.Time{}},
	{"Saturday, x-May-26 08:09:10 GMT", time.Time{}},
	{"Sa, 02 May 2026 08:09:10 UTC", time.Time{}},
	{"Sat 02 May 2026 08:09:10 UTC", time.Time{}},
	{"Sat. 02 May 2026 08:09:10 UTC", time.Time{}},
	{"Mon, Jan 08 2024 15:24:22 +0000", time.Time{}},
	{"2016-09-29 13:22:30 UTC", time.Time{}},
	{"三, 25 12月 2019 13:34:43 UTC", time.Time{}},
	{"02 May 2026 08:09:10 UTC", time.Time{}},
	{"yesterday", time.Time{}},
	{"", time.Time{}},
}

var aMay = time.Date(2026, 5, 2, 8, 9, 10, 0, time.UTC)

func TestParseReleaseDates(t *testing.T) {
	for _, test := range releaseDates {
		r, err := ParseRelease([]byte("SHA256:\n " + hexSHA256 + " 1 x\nDate: " + test.text + "\n"))
		if err != nil || !r.Date.Equal(test.want) {
			t.Errorf("%q: %v, %v", test.text, r, err)
			continue
		}
		if odd := len(r.Oddities) > 0; odd != test.want.IsZero() {
			t.Errorf("%q: oddities %q", test.text, r.Oddities)
		}
	}
	for text, want := range map[string]time.Time{
		"Sat, 02 May 2026 08:09:10 UTC":    aMay,
		"Saturday, 02-May-26 08:09:10 GMT": {}, // 1926: apt never lets it end
		"":                                 {},
	} {
		if r, err := ParseRelease([]byte("Suite: x\nValid-Until: " + text + "\n")); err != nil || !r.ValidUntil.Equal(want) {
			t.Errorf("valid until %q: %v, %v", text, r, err)
		}
	}
}

// TestDatesAsApt holds that the apt of this machine warns of the same dates.
func TestDatesAsApt(t *testing.T) {
	apt := newRealApt(t, binaryKeys(t, goodKey()))
	for _, test := range releaseDates {
		text := "Suite: noble\nDate: " + test.text + "\nSHA256:\n " + hexSHA256 + " 0 main/binary-amd64/Packages\n"
		apt.add(map[string][]byte{"InRelease": inRelease(t, text, at(now), goodKey()), "main/binary-amd64/Packages": nil})
	}
	accepted, said := apt.update("")
	for i, test := range releaseDates {
		_, ok := parseDate([]byte(test.text))
		warns := slices.ContainsFunc(strings.Split(said, "\n"), func(line string) bool {
			return strings.Contains(line, "Invalid 'Date'") && strings.Contains(line, apt.names[i]+"_")
		})
		if !accepted[i] || warns == ok {
			t.Errorf("%q: we read it: %t, apt warns: %t, apt accepts it: %t\n%s", test.text, ok, warns, accepted[i], apt.about(said, i))
		}
	}
}

func TestParseReleaseRefuses(t *testing.T) {
	tests := []struct{ name, text, mentions string }{
		{"empty", "", "no field"},
		{"blank", "\n\n", "no field"},
		{"page", "<html>\n<body>\n", "not a field"},
		{"page with a colon", "<html>\n<a href=\"http://x/\">\n", "none of the fields"},
		{"nothing but a folded line", " x\n", "no field"},
		{"lines that are no field at the end", "SHA256:\n " + hexSHA256 + " 1 x\ngarbage\n", "garbage"},
		{"valid-until", "Suite: x\nValid-Until: soon\n", "Valid-Until"},
		{"valid-until in another zone", "Suite: x\nValid-Until: Sat, 02 May 2026 10:09:10 +0200\n", "Valid-Until"},
		{"huge", strings.Repeat("A: b\n", MaxRelease/5+1), "larger"},
	}
	for _, test := range tests {
		_, err := ParseRelease([]byte(test.text))
		if err == nil || !strings.Contains(err.Error(), test.mentions) {
			t.Errorf("%s: error %v does not mention %q", test.name, err, test.mentions)
		}
	}
}

// oddRelease is a Release with an odd entry. The member x is listed with hexSHA256 and 0 bytes,
// whatever else there is.
type oddRelease struct {
	name, text string
	mentions   string // by the first oddity; "": there is none
	members    int
	apt        bool // apt accepts it
}

func oddReleases(x string) []oddRelease {
	head := "Suite: noble\nDate: Sat, 02 May 2026 08:09:10 UTC\n"
	right := "SHA256:\n " + hexSHA256 + " 0 " + x + "\n"
	other := strings.Repeat("0", 64)
	with := func(entry string) string { return head + right + " " + entry + "\n" }
	return []oddRelease{
		{"plain", head + right, "", 1, true},
		{"the same twice", with(hexSHA256 + " 0 " + x), "", 1, true},
		{"another sum behind", with(other + " 0 " + x), "two different sums", 1, true},
		{"another size behind", with(other + " 5 " + x), "0 and with 5", 1, true},
		{"another size in a weaker list", head + "MD5Sum:\n " + hexMD5 + " 5 " + x + "\n" + right, "5 bytes", 1, true},
		{"another sum of a file that nobody asks for", with(other + " 5 y\n " + hexSHA256 + " 6 y"), "5 and with 6", 2, true},
		{"an untidy spelling with another size", with(other + " 5 ./" + x), "another spelling", 1, true},
		{"an untidy spelling with another size first", head + "SHA256:\n " + other + " 5 ./" + x + "\n " + hexSHA256 + " 0 " + x + "\n", "another spelling", 1, true},
		{"an untidy spelling that says the same", with(hexSHA256 + " 0 .//" + x), "", 1, true},
		{"untidy spellings of another file", with(other + " 5 ./y\n " + hexSHA256 + " 5 .//y"), "two different sums", 2, true},
		{"absolute", with(other + " 5 /srv/" + x), "absolute", 1, true},
		{"dot dot", with(other + " 5 ../" + x), "..", 1, true},
		{"dot dot within", with(other + " 5 main/../../" + x), "..", 1, true},
		{"backslash", with(other + ` 5 a\b`), "backslash", 1, true},
		{"control byte", with(other + " 5 a\x01b"), "control", 1, true},
		{"a directory", with(other + " 0 main/"), "directory", 1, true},
		{"the directory itself", with(other + " 4096 ."), "no file", 1, true},
		{"the roots themselves", with(other + " 5 Release\n " + other + " 5 InRelease\n " + other + " 0 Release.gpg"), "", 4, true},
		{"a SHA-1 of 39 digits", head + right + "SHA1:\n " + strings.Repeat("a", 39) + " 5 y\n", "40 hexadecimal", 1, true},
		{"a SHA-256 of 63 digits", with(strings.Repeat("a", 63) + " 5 y"), "64 hexadecimal", 1, true},
		{"a sum without digits", with(strings.Repeat("x", 64) + " 5 y"), "hexadecimal", 1, true},
		{"a dash for the size", with(other + " - y"), "size", 1, true},
		{"a negative size", with(other + " -1 y"), "size", 1, true},
		{"a signed size", with(other + " +1 y"), "size", 1, true},
		{"an overflowing size", with(other + " 99999999999999999999 y"), "size", 1, true},
		{"two words", with(other + " y"), "a size and a path", 1, false},
		{"one word", with(other), "a size and a path", 1, false},
		{"a space in a path", with(other + " 5 a b"), "", 2, false},
		{"an empty line before the list", head + "SHA512:\n " + hexSHA512 + " 0 " + x + "\n\n" + right, "", 1, true},
		{"an empty line in the list", head + right + "\n " + other + " 5 y\n", "", 1, true},
		{"an empty line at the beginning", "\n" + head + right, "", 1, true},
		{"a second stanza", head + right + "\nSHA256:\n " + other + " 5 " + x + "\n", "", 1, true},
		{"a list twice: the last counts", head + "SHA256:\n " + other + " 5 " + x + "\n " + other + " 5 y\n" + right, "", 1, true},
		{"a line that is no field", head + "garbage\nOrigin: y\n" + right, "", 1, true},
		{"a comment before a field that is not needed", head + "# comment\nOrigin: y\n" + right, "", 1, true},
		{"white space before a colon", head + "SHA256 \t:\n " + hexSHA256 + " 0 " + x + "\n", "", 1, true},
		{"other case", head + "sha256:\n " + strings.ToUpper(hexSHA256) + " 0 " + x + "\n", "", 1, true},
		{"tabs in an entry", head + "SHA256:\n \t" + hexSHA256 + "\t0\t" + x + "\n", "", 1, true},
		{"an entry beside the colon", head + "SHA256: " + hexSHA256 + " 0 " + x + "\n", "", 1, true},
		{"CRLF", strings.ReplaceAll(head+right, "\n", "\r\n"), "", 1, true},
		{"no newline at the end", strings.TrimSpace(head + right), "", 1, true},
	}
}

func TestParseReleaseOddities(t *testing.T) {
	for _, test := range oddReleases("x") {
		t.Run(test.name, func(t *testing.T) {
			r, err := ParseRelease([]byte(test.text))
			if err != nil {
				t.Fatal(err)
			}
			x := r.Members["x"]
			if len(r.Members) != test.members || x.Size != 0 || x.Path != "x" || x.Has(SHA256) && x.Hex(SHA256) != hexSHA256 || !x.Has(SHA256) && !x.Has(SHA512) {
				t.Errorf("members %v", r.Members)
			}
			if odd := strings.Join(r.Oddities, "; "); (odd == "") != (test.mentions == "") || !strings.Contains(odd, test.mentions) {
				t.Errorf("oddities %q, want %q", odd, test.mentions)
			}
		})
	}
}

// TestParseReleaseAsApt holds that apt sees the member as we do: it gets the index whose sum we
// say is right.
func TestParseReleaseAsApt(t *testing.T) {
	apt := newRealApt(t, binaryKeys(t, goodKey()))
	tests := oddReleases("main/binary-amd64/Packages")
	for _, test := range tests {
		// Release and Release.gpg, because clearsigning does not keep all white space.
		sig := armoured(t, openpgp.SignatureType, detached(t, test.text, at(now), goodKey()))
		apt.add(map[string][]byte{"Release": []byte(test.text), "Release.gpg": sig, "main/binary-amd64/Packages": nil})
	}
	accepted, said := apt.update("")
	for i, test := range tests {
		if accepted[i] != test.apt {
			t.Errorf("%s: apt accepts it: %t\n%s", test.name, accepted[i], apt.about(said, i))
		}
	}
}

func TestParseReleaseBounds(t *testing.T) {
	var b strings.Builder
	b.WriteString("Suite: x\nMD5Sum:\n")
	for i := 0; b.Len() < MaxRelease-64; i++ {
		fmt.Fprintf(&b, " %s 1 %x\n", hexMD5, i)
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	r, err := ParseRelease([]byte(b.String()))
	runtime.GC()
	runtime.ReadMemStats(&after)
	if err != nil || len(r.Members) != MaxMembers || !r.Weak || !strings.Contains(strings.Join(r.Oddities, "; "), "more than 100000 files") {
		t.Fatalf("%d members, %v, %q", len(r.Members), err, r.Oddities)
	}
	if used := (after.HeapAlloc - before.HeapAlloc) / uint64(len(r.Members)); used > 400 {
		t.Errorf("%d bytes for each member", used)
	}
	odd := "Suite: x\nSHA256:\n" + strings.Repeat(" "+strings.Repeat("é", 2000)+"\n", 1000)
	if r, err = ParseRelease([]byte(odd)); err != nil || len(r.Oddities) != maxOddities || !strings.Contains(r.Oddities[maxOddities-1], "more") {
		t.Fatalf("%d oddities, %v", len(r.Oddities), err)
	}
	for _, text := range r.Oddities {
		if len(text) > maxOddity || !utf8.ValidString(text) {
			t.Errorf("%d bytes: %q", len(text), text)
		}
	}
}

// FuzzParseRelease holds that what comes out is safe, and says the same when it is
// written down and read again.
func FuzzParseRelease(f *testing.F) {
	f.Add([]byte(fullRelease))
	f.Add([]byte(releaseText))
	f.Add([]byte("MD5Sum:\n " + hexMD5 + " 1 a b\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := ParseRelease(text)
		if err != nil {
			return
		}
		var b strings.Builder
		b.WriteString("Suite: x\n")
		for hash := MD5Sum; hash <= SHA512; hash++ {
			fmt.Fprintf(&b, "%s:\n", hash)
			for path, m := range r.Members {
				if m.Path != path || m.Size < 0 || m.listed == 0 {
					t.Fatalf("member %q: %+v", path, m)
				}
				if clean, err := proto.CanonicalPath(proto.EscapePath(path)); clean != path || err != nil || path == "" {
					t.Fatalf("member %q is not canonical: %v", path, err)
				}
				if m.Has(hash) {
					fmt.Fprintf(&b, " %s %d %s\n", m.Hex(hash), m.Size, path)
				}
			}
		}
		again, err := ParseRelease([]byte(b.String()))
		if err != nil {
			t.Fatalf("%v in\n%s", err, b.String())
		}
		if !reflect.DeepEqual(again.Members, r.Members) {
			t.Fatalf("%v becomes %v", r.Members, again.Members)
		}
	})
}
