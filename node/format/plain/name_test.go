package plain

import "testing"

func TestTrimCompression(t *testing.T) {
	tests := []struct{ in, base, ext string }{
		{"main/Packages.xz", "main/Packages", ".xz"},
		{"main/Packages", "main/Packages", ""},
		{"a.tar.zst", "a.tar", ".zst"},
		{"dists/x.gz/Release", "dists/x.gz/Release", ""},
		{"hello.deb", "hello.deb", ""},
	}
	for _, test := range tests {
		if base, ext := TrimCompression(test.in); base != test.base || ext != test.ext {
			t.Errorf("TrimCompression(%q) = %q, %q", test.in, base, ext)
		}
	}
}
