package proto

import (
	"strings"
	"testing"
)

func TestCanonicalPath(t *testing.T) {
	tests := []struct {
		in, want string
		fails    bool
	}{
		{in: "/ubuntu/pool/main/h/hello/hello_2.10_amd64.deb", want: "ubuntu/pool/main/h/hello/hello_2.10_amd64.deb"},
		{in: "pool//main///h", want: "pool/main/h"},
		{in: "a%7eb", want: "a~b"},
		{in: "a%7Eb", want: "a~b"},
		{in: "g%2b%2b+x", want: "g+++x"},
		{in: "1%3a2.0", want: "1:2.0"},
		{in: "a%20b", want: "a b"},
		{in: "100%25", want: "100%"},
		{in: "a%252e", want: "a%2e"}, // decoded once
		{in: "./InRelease", want: "InRelease"},
		{in: "repo/./Packages.gz", want: "repo/Packages.gz"},
		{in: "repo/", want: "repo"},
		{in: "", want: ""},
		{in: "/", want: ""},
		{in: "a%2fb", want: "a/b"},
		{in: "...", want: "..."},
		{in: "..a/b..", want: "..a/b.."},
		{in: "caf%c3%a9", want: "café"},
		{in: "a/../b", want: "b"},
		{in: "a/b/../../c/./d", want: "c/d"},
		{in: "a//../b", want: "b"},
		{in: "a/..", want: ""},
		{in: "a/b/..", want: "a"},
		{in: "a/%2e%2e/b", want: "b"},
		{in: "a/.%2E%2fb", want: "b"},
		{in: "..", fails: true},
		{in: "../a", fails: true},
		{in: "/./../a", fails: true},
		{in: "a/../../b", fails: true},
		{in: "a/%2e%2e/%2e%2e/b", fails: true},
		{in: "a/..;/b", fails: true},
		{in: "a/..;x=y/b", fails: true},
		{in: "a/%2e%2e%3b/b", fails: true},
		{in: "a/.;/b", fails: true},
		{in: "..;", fails: true},
		{in: ".;", fails: true},
		{in: "a;b/..c;d/...;e/.f;", want: "a;b/..c;d/...;e/.f;"},
		{in: "a%00b", fails: true},
		{in: "a%0ab", fails: true},
		{in: "a\nb", fails: true},
		{in: "a%7fb", fails: true},
		{in: `a\b`, fails: true},
		{in: "a%5cb", fails: true},
		{in: "a?b", fails: true},
		{in: "a#b", want: "a#b"}, // apt sends it so
		{in: "a%23b", want: "a#b"},
		{in: "a%3fb", want: "a?b"},
		{in: "a%", fails: true},
		{in: "a%2", fails: true},
		{in: "a%zz", fails: true},
		{in: strings.Repeat("a", maxPath), want: strings.Repeat("a", maxPath)},
		{in: strings.Repeat("a", maxPath+1), fails: true},
		{in: strings.Repeat("%61", maxPath+1), fails: true},
	}
	for _, test := range tests {
		got, err := CanonicalPath(test.in)
		if got != test.want || (err != nil) != test.fails {
			t.Errorf("CanonicalPath(%.80q) = %.80q, %v, want %.80q", test.in, got, err, test.want)
		}
	}
}

func TestEscapePath(t *testing.T) {
	tests := []struct{ in, want string }{
		{"pool/main/g/g++/g++_4:12.2~rc1-3_amd64.deb", "pool/main/g/g%2b%2b/g%2b%2b_4:12.2%7erc1-3_amd64.deb"},
		{"a b", "a%20b"},
		{"100%", "100%25"},
		{"a?b#c", "a%3fb%23c"},
		{"café", "caf%c3%a9"},
		{"!$&'()*,;=:@-._", "!$&'()*,;=:@-._"},
		{"", ""},
	}
	for _, test := range tests {
		if got := EscapePath(test.in); got != test.want {
			t.Errorf("EscapePath(%q) = %q, want %q", test.in, got, test.want)
		}
	}
}

// FuzzCanonicalPath holds that a canonical path is safe, stays itself through
// escaping, and that CleanPath leaves it as it is.
func FuzzCanonicalPath(f *testing.F) {
	for _, seed := range []string{
		"/ubuntu//dists/./noble/InRelease", "a%7eb%2b+", "%2e%2e/x", "a%", "", "a/%00",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, escaped string) {
		path, err := CanonicalPath(escaped)
		if err != nil {
			return
		}
		if strings.HasPrefix(path, "/") || strings.HasSuffix(path, "/") || strings.Contains(path, "//") || strings.ContainsAny(path, "\x00\n\\") {
			t.Fatalf("%q is not canonical", path)
		}
		for _, segment := range strings.Split(path, "/") {
			if segment == "." || segment == ".." {
				t.Fatalf("%q has a segment %q", path, segment)
			}
		}
		if again, err := CanonicalPath(EscapePath(path)); again != path || err != nil {
			t.Fatalf("%q becomes %q, %v", path, again, err)
		}
		if clean, err := CleanPath(path); clean != path || err != nil {
			t.Fatalf("%q is cleaned to %q, %v", path, clean, err)
		}
	})
}
