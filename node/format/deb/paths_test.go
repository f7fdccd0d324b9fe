package deb_test

import (
	"strings"
	"testing"

	"github.com/aptmesh/aptmesh/node/format/deb"
	"github.com/aptmesh/aptmesh/proto"
)

func TestPathInfo(t *testing.T) {
	const text, binary = "text/plain; charset=utf-8", "application/octet-stream"
	sum := strings.Repeat("A0", 32)
	for _, test := range []struct {
		path, kind, contentType string
		page                    bool
		proof                   proto.Proof
	}{
		{"pool/a_1_amd64.deb", "package", "application/vnd.debian.binary-package", false, proto.ProofNone},
		{"pool/a_1.orig.tar.xz", "source", "application/x-xz", false, proto.ProofNone},
		{"pool/a_1.dsc", "source", text, false, proto.ProofNone},
		{"dists/x/InRelease", "root", text, false, proto.ProofNone},
		{"dists/x/Release.gpg", "root", "application/pgp-signature", false, proto.ProofNone},
		{"dists/x/main/binary-amd64/Release", "index", text, false, proto.ProofNone},
		{"dists/x/main/binary-amd64/Packages.xz", "index", "application/x-xz", false, proto.ProofNone},
		{"dists/x/main/binary-amd64/Packages", "index", text, false, proto.ProofNone},
		{"dists/x/main/binary-amd64/Packages.gz", "index", "application/gzip", false, proto.ProofNone},
		{"dists/x/main/binary-amd64/by-hash/SHA256/" + sum, "by-hash", binary, false, proto.ProofSure},
		{"dists/x/main/binary-amd64/by-hash/SHA512/" + sum + sum, "by-hash", binary, false, proto.ProofSure},
		{"dists/x/main/binary-amd64/by-hash/MD5Sum/" + sum[:32], "by-hash", binary, false, proto.ProofNone},
		{"dists/x/main/binary-amd64/by-hash/SHA256/" + sum[:32], "index", text, false, proto.ProofNone},
		{"dists/x/main/binary-amd64/Packages.diff/T-2026-11-20-1000.00-F-2026.gz", "patch", "application/gzip", false, proto.ProofNone},
		{"evil.html", "other", binary, true, proto.ProofNone},
		{"evil.svg", "other", binary, true, proto.ProofNone},
		{"project/trace/master", "other", binary, true, proto.ProofNone},
		{"archive-keyring.gpg", "other", binary, false, proto.ProofNone},
		{"files.tar", "other", binary, false, proto.ProofNone},
		{"files.tar.gz", "other", "application/gzip", false, proto.ProofNone},
	} {
		info := deb.New(deb.Config{}).PathInfo(test.path)
		if info.Kind != test.kind || info.ContentType != test.contentType || info.Page != test.page || info.Proof != test.proof {
			t.Errorf("%s: %+v", test.path, info)
		}
		if info.Root != (test.kind == "root") || info.Package != (test.kind == "package") || info.Immutable != (test.kind == "by-hash") {
			t.Errorf("%s: %+v", test.path, info)
		}
		if n := testing.AllocsPerRun(100, func() { deb.New(deb.Config{}).PathInfo(strings.ToLower(test.path)) }); n > 1 && !strings.Contains(test.path, sum[:32]) {
			t.Errorf("%s: %v allocations", test.path, n)
		}
	}
	f := deb.New(deb.Config{})
	path := "dists/x/main/binary-amd64/by-hash/SHA256/" + strings.ToLower(sum)
	if n := testing.AllocsPerRun(100, func() { f.PathInfo(path) }); n != 0 {
		t.Errorf("%v allocations for a request", n)
	}
	info := f.PathInfo(path)
	if info.Hash.Kind != proto.HashSHA256 || info.Hash.Sum[0] != 0xa0 || info.Hash.Sum[31] != 0xa0 || info.Hash.Sum[32] != 0 {
		t.Errorf("%+v", info.Hash)
	}
}

func TestSuites(t *testing.T) {
	sum := strings.Repeat("a0", 32)
	for path, want := range map[string]string{
		"dists/noble/main/binary-amd64/Packages.xz":          "dists/noble",
		"dists/jessie/updates/main/binary-amd64/Packages.xz": "dists/jessie dists/jessie/updates",
		"dists/noble/main/by-hash/SHA256/" + sum:             "dists/noble dists/noble/main",
		"dists/stable/main/binary-amd64/x_1_amd64.deb":       "dists/stable",
		"pool/main/x/x/x_1_amd64.deb":                        "",
		"ubuntu/pool/main/x/x/x_1.dsc":                       "",
		"x_1_amd64.deb":                                      ".",
		"a/b/x_1_amd64.deb":                                  "a/b a .",
		"a/b/c/d/x_1.dsc":                                    "a/b/c/d a/b/c a/b",
		"a/Packages.gz":                                      "a",
		"noble/main/binary-amd64/Packages.gz":                "noble/main/binary-amd64 noble",
		"main/binary-amd64/by-hash/SHA256/" + sum:            "main/binary-amd64 .",
		"dists/noble/InRelease":                              "",
		"README":                                             "",
	} {
		var got []string
		for _, s := range deb.New(deb.Config{}).Suites(path) {
			got = append(got, s.Dir)
			if s.Dir == "" {
				got[len(got)-1] = "."
			}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
}
