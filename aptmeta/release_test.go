package aptmeta

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

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

func TestParseReleaseDates(t *testing.T) {
	for _, date := range []string{
		"Sat, 02 May 2026 08:09:10 UTC", "Sat, 2 May 2026 08:09:10 GMT", "Sat, 02 May 2026 08:09:10 Z",
		"Sat, 02 May 2026 08:09:10 +0000", "Sat, 02 May 2026 10:09:10 +0200",
	} {
		r, err := ParseRelease([]byte("Date: " + date + "\n"))
		if err != nil || !r.Date.Equal(time.Date(2026, 5, 2, 8, 9, 10, 0, time.UTC)) {
			t.Errorf("%s: %v, %v", date, r, err)
		}
	}
}

func TestParseReleaseRefuses(t *testing.T) {
	list := func(entry string) string { return "SHA256:\n " + entry + "\n" }
	tests := []struct{ name, text, mentions string }{
		{"empty", "", "empty"},
		{"blank", "\n\n", "empty"},
		{"page", "<html>\n<body>\n", "not a field"},
		{"continuation first", " x\n", "continuation"},
		{"date", "Date: yesterday\n", "not a date"},
		{"date in a named zone", "Date: Sat, 02 May 2026 08:09:10 CEST\n", "not a date"},
		{"valid-until", "Valid-Until: soon\n", "Valid-Until"},
		{"two words", list(hexSHA256 + " 1"), "a size and a path"},
		{"sum of another length", list(hexMD5 + " 1 x"), "64 hexadecimal digits"},
		{"sum without digits", list(strings.Repeat("x", 64) + " 1 x"), "hexadecimal"},
		{"negative size", list(hexSHA256 + " -1 x"), "size"},
		{"signed size", list(hexSHA256 + " +1 x"), "size"},
		{"overflowing size", list(hexSHA256 + " 99999999999999999999 x"), "size"},
		{"absolute", list(hexSHA256 + " 1 /etc/passwd"), "absolute"},
		{"dot dot", list(hexSHA256 + " 1 main/../../x"), ".."},
		{"backslash", list(hexSHA256 + ` 1 a\b`), "backslash"},
		{"control byte", list(hexSHA256 + " 1 a\x01b"), "control"},
		{"no name", list(hexSHA256 + " 1 ./"), "no file"},
		{"sizes differ", list(hexSHA256+" 1 x") + "MD5Sum:\n " + hexMD5 + " 2 x\n", "1 and with 2"},
		{"sums differ", list(hexSHA256 + " 1 x\n " + strings.Repeat("0", 64) + " 1 x"), "two different sums"},
		{"huge", strings.Repeat("A: b\n", MaxRelease/5+1), "larger"},
	}
	for _, test := range tests {
		_, err := ParseRelease([]byte(test.text))
		if err == nil || !strings.Contains(err.Error(), test.mentions) {
			t.Errorf("%s: error %v does not mention %q", test.name, err, test.mentions)
		}
	}
}

func TestParseReleaseTolerates(t *testing.T) {
	tests := []struct{ name, text string }{
		{"the same twice", "SHA256:\n " + hexSHA256 + " 1 x\n " + hexSHA256 + " 1 x\n"},
		{"a second stanza", "SHA256:\n " + hexSHA256 + " 1 x\n\n" + "SHA256:\n " + hexSHA256 + " 1 y\n"},
		{"leading empty lines", "\n\nSHA256:\n " + hexSHA256 + " 1 x\n"},
		{"tabs, other case", "sha256:\n\t" + strings.ToUpper(hexSHA256) + "\t1\tx\n"},
		{"no newline at the end", "SHA256:\n " + hexSHA256 + " 1 x"},
	}
	for _, test := range tests {
		r, err := ParseRelease([]byte(test.text))
		if err != nil || len(r.Members) != 1 || r.Members["x"].Hex(SHA256) != hexSHA256 {
			t.Errorf("%s: %+v, %v", test.name, r, err)
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
				if clean, err := CanonicalPath(EscapePath(path)); clean != path || err != nil || path == "" {
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
