package aptmeta

import (
	"encoding/hex"
	"reflect"
	"strings"
	"testing"

	"github.com/aptmesh/aptmesh/proto"
)

const (
	hexMD5    = "d41d8cd98f00b204e9800998ecf8427e"
	hexSHA1   = "da39a3ee5e6b4b0d3255bfef95601890afd80709"
	hexSHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	hexSHA512 = "cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e"
)

func TestClassify(t *testing.T) {
	tests := map[Kind][]string{
		KindRoot: {
			"dists/noble/InRelease", "dists/noble/Release", "dists/noble/Release.gpg", "dists/jessie/updates/InRelease",
			"InRelease", "Release", "flat/repo/Release.gpg", "debian/dists/sid/Release", "binary-amd64/Release",
		},
		KindIndex: {
			"dists/noble/main/binary-amd64/Packages", "dists/noble/main/binary-amd64/Packages.xz", "dists/noble/main/source/Sources.gz",
			"dists/noble/main/binary-amd64/Release", "dists/noble/main/source/Release", "dists/sid/main/debian-installer/binary-amd64/Release",
			"dists/noble/main/i18n/Translation-de.bz2", "dists/noble/main/i18n/Index", "dists/noble/Contents-amd64.gz",
			"dists/noble/main/dep11/Components-amd64.yml.xz", "dists/noble/main/dep11/icons-64x64.tar.gz", "dists/noble/main/cnf/Commands-amd64.xz",
			"dists/sid/main/binary-amd64/Packages.diff/Index", "flat/Packages.diff/Index.gz", "dists/bookworm/main/installer-amd64/current/images/SHA256SUMS",
			"dists/noble/main/dep11/CID-Index-amd64.json.gz", "Packages.gz", "flat/Sources", "flat/Packages.zst", "x/Translation-en",
		},
		KindByHash: {
			"dists/noble/main/binary-amd64/by-hash/SHA256/" + hexSHA256, "by-hash/MD5Sum/" + hexMD5, "flat/by-hash/SHA512/" + hexSHA512,
			"dists/sid/main/binary-amd64/Packages.diff/by-hash/SHA256/" + hexSHA256,
		},
		KindPackage: {
			"pool/main/h/hello/hello_2.10-3_amd64.deb", "pool/main/d/di/di_1_amd64.udeb", "pool/main/h/hello/hello-dbgsym_2.10-3_amd64.ddeb",
			"hello.deb", "dists/stable/main/binary-all/hello_1.deb",
		},
		KindSource: {
			"pool/main/h/hello/hello_2.10-3.dsc", "pool/main/h/hello/hello_2.10.orig.tar.gz", "pool/main/h/hello/hello_2.10-3.debian.tar.xz",
			"pool/main/h/hello/hello_2.10-3.diff.gz", "pool/main/h/hello/hello_2.10.orig.tar.gz.asc", "pool/main/d/x/x_1.tar.bz2",
			"pool/main/d/x/x_1.orig-sub.tar.zst", "flat/x_1.dsc",
		},
		KindPatch: {
			"dists/sid/main/binary-amd64/Packages.diff/T-2026-01-01-2000.00-F-2025-12-01-1400.00.gz",
			"dists/sid/main/Contents-amd64.diff/2026-01-01-2000.00.gz",
		},
		KindInstaller: {
			"dists/bookworm/main/installer-amd64/20230607+deb12u8/images/netboot/netboot.tar.gz",
			"dists/bookworm/main/installer-amd64/current/images/MANIFEST", "dists/focal/main/installer-amd64/current/legacy-images/cdrom/vmlinuz",
		},
		KindOther: {
			"", "README", "pool/main/h/hello/by-hash", "by-hash/SHA256/abc", "by-hash/SHA256/" + hexMD5, "doc/index.html", "project/trace/master",
		},
	}
	for kind, paths := range tests {
		for _, path := range paths {
			if got := Classify(path); got != kind {
				t.Errorf("Classify(%q) = %s, want %s", path, got, kind)
			}
		}
	}
}

func TestSplitRoot(t *testing.T) {
	tests := []struct {
		path, dir, name string
		ok              bool
	}{
		{"dists/noble/InRelease", "dists/noble", "InRelease", true},
		{"dists/jessie/updates/Release", "dists/jessie/updates", "Release", true},
		{"InRelease", "", "InRelease", true},
		{"flat/source/Release", "flat/source", "Release", true},
		{"dists/x/main/binary-amd64/Release", "", "", false},
		{"ubuntu/dists/x/main/source/Release", "", "", false},
		{"dists/noble/InRelease.gpg", "", "", false},
		{"dists/noble", "", "", false},
	}
	for _, test := range tests {
		dir, name, ok := SplitRoot(test.path)
		if dir != test.dir || name != test.name || ok != test.ok {
			t.Errorf("SplitRoot(%q) = %q, %q, %t", test.path, dir, name, ok)
		}
	}
}

func TestParseByHash(t *testing.T) {
	for _, test := range []struct {
		t   HashType
		hex string
	}{{MD5Sum, hexMD5}, {SHA1, hexSHA1}, {SHA256, hexSHA256}, {SHA512, hexSHA512}} {
		for _, dir := range []string{"", "flat", "dists/noble/main/binary-amd64"} {
			member := "Packages"
			if dir != "" {
				member = dir + "/Packages"
			}
			path := ByHashPath(member, test.t, test.hex)
			gotDir, gotType, sum, ok := ParseByHash(path)
			if gotDir != dir || gotType != test.t || hex.EncodeToString(sum[:test.t.Size()]) != test.hex || !ok {
				t.Errorf("ParseByHash(%q) = %q, %s, %x, %t", path, gotDir, gotType, sum, ok)
			}
		}
	}
	if _, _, sum, ok := ParseByHash("by-hash/MD5Sum/" + strings.ToUpper(hexMD5)); !ok || hex.EncodeToString(sum[:16]) != hexMD5 {
		t.Errorf("upper-case digits: %x, %t", sum, ok)
	}
	for _, path := range []string{
		"by-hash/SHA256/" + hexMD5, "by-hash/MD5/" + hexMD5, "by-hash/sha256/" + hexSHA256, "by-hash/SHA256", hexMD5,
		"by-hash/SHA256/" + strings.Repeat("g", 64), "xby-hash/SHA256/" + hexSHA256, "by-hash/SHA256/x/" + hexSHA256,
	} {
		if _, _, _, ok := ParseByHash(path); ok {
			t.Errorf("ParseByHash(%q) accepted", path)
		}
	}
}

func TestGuessSuiteDirs(t *testing.T) {
	tests := []struct {
		path string
		want []string
	}{
		{"dists/noble/main/binary-amd64/by-hash/SHA256/" + hexSHA256, []string{"dists/noble"}},
		{"dists/noble/main/binary-amd64/Packages.xz", []string{"dists/noble"}},
		{"dists/bookworm/updates/main/binary-amd64/Packages.xz", []string{"dists/bookworm", "dists/bookworm/updates"}},
		{"dists/bookworm/main/by-hash/SHA256/" + hexSHA256, []string{"dists/bookworm", "dists/bookworm/main"}},
		{"dists/noble/by-hash/SHA256/" + hexSHA256, []string{"dists/noble"}},
		{"dists/noble/Contents-amd64.gz", []string{"dists/noble"}},
		{"dists/noble/InRelease", []string{"dists/noble"}},
		{"dists/jessie/updates/InRelease", []string{"dists/jessie", "dists/jessie/updates"}},
		{"ubuntu/dists/noble/universe/i18n/Translation-en", []string{"ubuntu/dists/noble"}},
		{"dists/sid/main/debian-installer/binary-amd64/Packages.gz", []string{"dists/sid"}},
		{"dists/bookworm/main/installer-amd64/current/images/SHA256SUMS", []string{"dists/bookworm"}},
		{"dists/sid/main/binary-amd64/Packages.diff/Index", []string{"dists/sid"}},
		{"dists/README", nil},
		{"pool/main/h/hello/hello_2.10-3_amd64.deb", nil},
		{"flat/Packages.gz", []string{"flat"}},
		{"Packages", []string{""}},
		{"flat/by-hash/SHA256/" + hexSHA256, []string{"flat"}},
		{"flat/Packages.diff/Index", []string{"flat"}},
	}
	for _, test := range tests {
		if got := GuessSuiteDirs(test.path); !reflect.DeepEqual(got, test.want) {
			t.Errorf("GuessSuiteDirs(%q) = %q, want %q", test.path, got, test.want)
		}
	}
	deep := "dists/" + strings.Repeat("a/", 1000) + "main/binary-amd64/Packages"
	if got := GuessSuiteDirs(deep); len(got) > maxSuiteDepth {
		t.Errorf("%d guesses", len(got))
	}
}

func TestOptional(t *testing.T) {
	for path, want := range map[string]bool{
		"main/binary-amd64/Packages.xz": false, "main/source/Sources": false, "Packages": false,
		"main/binary-amd64/Release": true, "main/i18n/Translation-en": true, "main/Contents-amd64.gz": true,
		"main/binary-amd64/Packages.diff/Index": true, "main/dep11/Components-amd64.yml.gz": true, "main/cnf/Commands-amd64.xz": true,
	} {
		if got := Optional(path); got != want {
			t.Errorf("Optional(%q) = %t", path, got)
		}
	}
}

// FuzzPaths holds that what is said of a path agrees with itself.
func FuzzPaths(f *testing.F) {
	for _, seed := range []string{
		"/ubuntu//dists/./noble/InRelease", "a%7eb%2b+", "%2e%2e/x", "a%", "by-hash/MD5Sum/" + hexMD5,
		"dists/noble/main/binary-amd64/Packages.diff/T-1.gz", "installer-amd64/1/images/x", "pool/x_1.diff.gz",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, escaped string) {
		path, err := proto.CanonicalPath(escaped)
		if err != nil {
			return
		}
		if Classify(path) == KindRoot != isRoot(path) {
			t.Fatalf("%q is a %s", path, Classify(path))
		}
		if dir, hash, sum, ok := ParseByHash(path); ok {
			digits := hex.EncodeToString(sum[:hash.Size()])
			member := "x"
			if dir != "" {
				member = dir + "/x"
			}
			if !strings.EqualFold(ByHashPath(member, hash, digits), path) {
				t.Fatalf("%q becomes %q", path, ByHashPath(member, hash, digits))
			}
		}
		for _, dir := range GuessSuiteDirs(path) {
			if dir != "" && !strings.HasPrefix(path, dir+"/") {
				t.Fatalf("%q is not in the guessed suite %q", path, dir)
			}
		}
	})
}

func isRoot(path string) bool {
	_, _, ok := SplitRoot(path)
	return ok
}
