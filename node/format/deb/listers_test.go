package deb_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/aptmesh/aptmesh/node/format/deb"
	"github.com/aptmesh/aptmesh/proto"
)

// TestRootsAreNoMembers: nothing but a signature vouches for a root.
func TestRootsAreNoMembers(t *testing.T) {
	m := manifest(t, "dists/x", proto.Names{Suite: "x"}, "main", "InRelease", "Release", "Release.gpg", "main/binary-amd64/Release", "main/binary-amd64/Packages")
	var paths []string
	for _, member := range m.Members {
		paths = append(paths, member.Path)
	}
	if want := []string{"main/binary-amd64/Packages", "main/binary-amd64/Release"}; !slices.Equal(paths, want) {
		t.Errorf("members %q, want %q", paths, want)
	}
}

// TestListers tells groups apart by ";", indexes by ",", and compressions by "|".
func TestListers(t *testing.T) {
	suite := proto.Suite{Dir: "dists/x"}
	names := proto.Names{Suite: "x", Architectures: "all amd64 s390x"}
	members := []string{
		"main/binary-amd64/Packages", "main/binary-amd64/Packages.gz", "main/binary-amd64/Packages.xz", "main/binary-s390x/Packages.xz", "main/binary-all/Packages.xz",
		"main/debian-installer/binary-amd64/Packages.xz", "main/extra/binary-amd64/Packages.xz", "other/binary-amd64/Packages.xz",
		"main/source/Sources.xz", "other/source/Sources.xz", "main/binary-amd64/Packages.diff/Index", "main/installer-amd64/1/images/SHA256SUMS", "main/i18n/Translation-en.xz",
	}
	m := manifest(t, suite.Dir, names, "main main/extra other", members...)
	for path, want := range map[string]string{
		"pool/main/a/a_1_amd64.deb":                    "main/binary-amd64/Packages.xz|main/binary-amd64/Packages.gz|main/binary-amd64/Packages,main/extra/binary-amd64/Packages.xz",
		"pool/main/extra/a/a_1_amd64.deb":              "main/extra/binary-amd64/Packages.xz",
		"pool/other/a/a_1_amd64.deb":                   "other/binary-amd64/Packages.xz",
		"pool/main/a/a_1_s390x.deb":                    "main/binary-s390x/Packages.xz",
		"pool/main/a/a_1_riscv64.deb":                  "",
		"pool/other/a/a_1_all.deb":                     "main/binary-all/Packages.xz;other/binary-amd64/Packages.xz;main/binary-s390x/Packages.xz",
		"pool/other/a/chrome.deb":                      "main/binary-all/Packages.xz;other/binary-amd64/Packages.xz;main/binary-s390x/Packages.xz",
		"pool/main/a/a_1_amd64.udeb":                   "main/debian-installer/binary-amd64/Packages.xz",
		"pool/other/a/a_1.dsc":                         "other/source/Sources.xz",
		"somewhere/a_1.dsc":                            "main/source/Sources.xz,other/source/Sources.xz",
		"dists/x/main/binary-amd64/Packages.diff/1.gz": "main/binary-amd64/Packages.diff/Index",
		"dists/x/main/installer-amd64/1/images/linux":  "main/installer-amd64/1/images/SHA256SUMS",
		"dists/x/main/installer-amd64/2/images/linux":  "",
		"dists/x/main/binary-amd64/Packages.xz":        "",
		"README":                                       "",
		"dists/x/main/binary-amd64/a_1_amd64.deb":      "main/binary-amd64/Packages.xz|main/binary-amd64/Packages.gz|main/binary-amd64/Packages,main/extra/binary-amd64/Packages.xz,other/binary-amd64/Packages.xz",
	} {
		var groups []string
		for _, group := range deb.New(deb.Config{}).Listers(suite, m, path) {
			var indexes []string
			for _, alternatives := range group {
				var one []string
				for _, member := range alternatives {
					one = append(one, member.Path)
				}
				indexes = append(indexes, strings.Join(one, "|"))
			}
			groups = append(groups, strings.Join(indexes, ","))
		}
		if got := strings.Join(groups, ";"); got != want {
			t.Errorf("%s:\n got %s\nwant %s", path, got, want)
		}
	}
	if got := deb.New(deb.Config{}).Listers(proto.Suite{Dir: "y/dists/x"}, m, "pool/main/a/a_1_amd64.deb"); got != nil {
		t.Errorf("a file above the base of a suite is looked for: %v", got)
	}
}
