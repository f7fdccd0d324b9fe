package deb_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/aptmesh/aptmesh/node/format/deb"
	"github.com/aptmesh/aptmesh/proto"
)

func TestIdentity(t *testing.T) {
	for path, want := range map[string][2]string{
		"pool/main/h/hello/hello_2.10-3_amd64.deb":                   {"pool/main/h/hello/hello", "amd64"},
		"pool/main/d/dpkg/dpkg_1%3a22.6_arm64.deb":                   {"pool/main/d/dpkg/dpkg", "arm64"},
		"pool/main/g/gcc/libstdc++6_14:14.2.0-4ubuntu2~24_amd64.deb": {"pool/main/g/gcc/libstdc++6", "amd64"},
		"pool/main/b/busybox/busybox-udeb_1.36_amd64.udeb":           {"pool/main/b/busybox/busybox-udeb", "amd64"},
		"pool/main/h/hello/hello-dbgsym_2.10_amd64.ddeb":             {"pool/main/h/hello/hello-dbgsym", "amd64"},
		"tzdata_2026a_all.deb":                                       {"tzdata", "all"},
		"x/vendor_1.0_beta_amd64.deb":                                {"x/vendor", "amd64"},
		"pool/a_b/c_1_amd64.deb":                                     {"pool/a_b/c", "amd64"},
		// No package, or not dpkg's naming.
		"dists/noble/main/binary-amd64/Packages.gz": {}, "pool/h/hello_2.10.dsc": {}, "pool/h/hello_2.10.orig.tar.gz": {},
		"chrome.deb": {}, "chrome_amd64.deb": {}, "_1_amd64.deb": {}, "x/_1_amd64.deb": {}, "a__amd64.deb": {}, "a_1_.deb": {}, "": {}, ".deb": {}, "a_1/b_c.deb": {},
	} {
		id, ok := deb.New(deb.Config{}).Identity(path)
		if id.Name != want[0] || id.Arch != want[1] || ok != (want[0] != "") {
			t.Errorf("%q is of %+v, %v", path, id, ok)
		}
	}
}

func TestPackages(t *testing.T) {
	index := "Package: a\nVersion: 1:2\nArchitecture: all\nPre-Depends: p\nDepends: x (>= 2) | y:any, z:i386\nFilename: ./a.deb\nSize: 7\nSHA256: " + strings.Repeat("a0", 32) + "\n\n" +
		"Package: b\nArchitecture: amd64\nFilename: b.deb\n"
	var got []string
	f := deb.New(deb.Config{})
	err := f.Packages(proto.Suite{Dir: "x"}, &proto.Member{Path: "Packages", PlainSize: proto.UnknownSize}, strings.NewReader(index), func(p *proto.Package) error {
		got = append(got, string(p.Name)+" "+string(p.Path)+" in "+p.Group)
		if string(p.Name) == "a" && (!p.Universal || string(p.Version) != "1:2" || p.Size != 7 || p.SHA256[0] != 0xa0) {
			t.Errorf("%+v", p)
		}
		if string(p.Name) == "b" && (p.Universal || string(p.Arch) != "amd64" || len(f.Needs(string(p.Needs))) != 0) {
			t.Errorf("%+v", p)
		}
		if string(p.Name) != "a" {
			return nil
		}
		needs := f.Needs(string(p.Needs))
		if len(needs) != 3 || needs[0][0].Name != "p" || len(needs[1]) != 2 || needs[1][1] != (proto.Need{Name: "y"}) || needs[2][0].Arch != "i386" {
			t.Errorf("needs %+v", needs)
		}
		if f.Meets(needs[1][0], "1.9") || !f.Meets(needs[1][0], "2.0") || !f.Meets(needs[1][1], "0") {
			t.Error("versions")
		}
		return nil
	})
	if want := "a x/a.deb in x/, a a.deb in , b x/b.deb in x/, b b.deb in "; err != nil || strings.Join(got, ", ") != want {
		t.Errorf("%q, %v, want %q", strings.Join(got, ", "), err, want)
	}
	if f.Newer("1.9", "1.10") || !f.Newer("1:0", "2") || f.Newer("1", "1") {
		t.Error("the order of versions")
	}
	for path, want := range map[string]string{"main/binary-amd64/Packages.xz": "amd64", "main/binary-all/Packages": "", "Packages": ""} {
		if got := f.HostArch(&proto.Member{Path: path}); got != want {
			t.Errorf("%s is for hosts of %q", path, got)
		}
	}
}

// Where a package comes from, and which hosts may install it.
func TestSourceAndPhase(t *testing.T) {
	f := deb.New(deb.Config{})
	for fields, want := range map[string]string{
		"":                     "source , phased false",
		"Source: linux-meta\n": "source linux-meta, phased false",
		"Source: linux-meta (6.8-1)\nPhased-Update-Percentage: 10\n": "source linux-meta, phased true 10",
		"Phased-Update-Percentage: 0\n":                              "source , phased true 0",
		"Phased-Update-Percentage: 100\n":                            "source , phased false",
		"Phased-Update-Percentage: -1\n":                             "source , phased false",
		"Phased-Update-Percentage: x\n":                              "source , phased false",
	} {
		// The package behind it has neither.
		index := "Package: a\nVersion: 1\n" + fields + "Filename: a.deb\nSize: 7\n\nPackage: b\nFilename: b.deb\n"
		var got []string
		err := f.Packages(proto.Suite{}, &proto.Member{Path: "Packages", PlainSize: proto.UnknownSize}, strings.NewReader(index), func(p *proto.Package) error {
			said := fmt.Sprintf("source %s, phased %v", p.Source, p.Phased)
			if p.Phased {
				said += fmt.Sprint(" ", p.Phase)
			}
			got = append(got, said)
			return nil
		})
		if err != nil || !slices.Equal(got, []string{want, "source , phased false"}) {
			t.Errorf("%q: %q, %v", fields, got, err)
		}
	}
	for path, want := range map[string]string{
		"main/binary-amd64/Packages.gz": "main", "main/debian-installer/binary-amd64/Packages": "main", "updates/main/binary-all/Packages.xz": "updates/main", "Packages": "",
	} {
		if got := f.Component(&proto.Member{Path: path}); got != want {
			t.Errorf("%s is of %q", path, got)
		}
	}
}
