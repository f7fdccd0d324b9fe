package deb_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/aptmesh/aptmesh/node/format/deb"
	"github.com/aptmesh/aptmesh/proto"
)

// manifest opens a Release with these names that lists these members.
func manifest(t *testing.T, dir string, n proto.Names, components string, members ...string) *proto.Manifest {
	t.Helper()
	text := fmt.Sprintf("Origin: %s\nLabel: %s\nSuite: %s\nCodename: %s\nArchitectures: %s\nComponents: %s\nDate: Thu, 25 Apr 2024 15:00:00 UTC\nSHA256:\n",
		n.Origin, n.Label, n.Suite, n.Codename, n.Architectures, components)
	for _, m := range members {
		text += fmt.Sprintf(" %s 1 %s\n", strings.Repeat("a0", 32), m)
	}
	m, err := deb.New(deb.Config{Unsigned: true}).Open(proto.Suite{Dir: dir}, map[string][]byte{"Release": []byte(text)}, now)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestBelongs(t *testing.T) {
	names := func(suite, codename string) proto.Names {
		return proto.Names{Origin: "Ubuntu", Label: "Ubuntu", Suite: suite, Codename: codename, Architectures: "amd64 i386"}
	}
	held := func(suite, codename string) *proto.Names { n := names(suite, codename); return &n }
	vendor := names("stable", "")
	vendor.Origin = "Vendor"
	ports := names("noble", "noble")
	ports.Architectures = "arm64 s390x"
	grown := names("noble", "noble")
	grown.Architectures = "amd64 arm64"
	const no, unsure, yes = proto.BelongsNo, proto.BelongsUnsure, proto.BelongsYes
	for _, test := range []struct {
		why        string
		dir        string
		held       *proto.Names
		offered    proto.Names
		components string
		member     string // "": of a suite with components
		want       proto.Belonging
	}{
		{"its Suite is the directory's", "dists/noble", nil, names("noble", "noble"), "", "", yes},
		{"its Codename is the directory's", "dists/bookworm", nil, names("stable", "bookworm"), "", "", yes},
		{"an alias for what changes", "dists/stable", nil, names("stable", "bookworm"), "", "", yes},
		{"a pocket", "dists/noble-updates", nil, names("noble-updates", "noble"), "", "", yes},
		{"a suite of more than one directory", "dists/focal/mongodb-org/6.0", nil, names("focal", "focal/mongodb-org/6.0"), "", "", yes},
		{"security, old", "dists/jessie/updates", nil, names("oldstable", "jessie"), "updates/main", "", yes},
		{"security, without a prefix", "dists/jessie/updates", nil, names("oldstable", "jessie"), "main", "", yes},
		{"below a directory", "ubuntu/dists/noble", nil, names("noble", "noble"), "", "", yes},
		{"the archive's root is dists", "noble", nil, names("noble", "noble"), "", "", yes},
		{"flat, whatever it says", "a/b", nil, names("x", "y"), "", "Packages", yes},
		{"flat, without a name", "", nil, proto.Names{}, "", "Packages", yes},

		{"a vendor", "dists/foo", nil, vendor, "", "", unsure},
		{"no name at all", "dists/foo", nil, proto.Names{}, "", "", unsure},
		{"a pocket in place of its suite, at first contact", "dists/noble", nil, names("noble-updates", "noble"), "", "", unsure},
		{"a directory below that it does not list", "dists/noble/x", nil, names("noble", "noble"), "", "", unsure},
		{"a suite with components, where apt looks for a flat one", "x", nil, names("noble", "noble"), "", "", unsure},

		{"nested", "dists/noble/main/binary-amd64", nil, names("noble", "noble"), "", "", no},
		{"nested, the component", "dists/noble/main", nil, names("noble", "noble"), "", "", no},
		{"nested, of a vendor", "dists/foo/main/binary-amd64", nil, vendor, "", "", no},
		{"nested, and held", "dists/noble/main/binary-amd64", held("noble", "noble"), names("noble", "noble"), "", "", no},

		{"as before", "dists/noble", held("noble", "noble"), names("noble", "noble"), "", "", yes},
		{"as before, of a vendor", "dists/foo", &vendor, vendor, "", "", yes},
		{"another architecture more", "dists/noble", held("noble", "noble"), grown, "", "", yes},
		{"the archive of other machines", "dists/noble", held("noble", "noble"), ports, "", "", unsure},
		{"testing becomes stable", "dists/bookworm", held("testing", "bookworm"), names("stable", "bookworm"), "", "", yes},
		{"testing has another Codename", "dists/testing", held("testing", "bookworm"), names("testing", "trixie"), "", "", unsure},
		{"another Origin", "dists/noble", held("noble", "noble"), proto.Names{Origin: "Other", Label: "Ubuntu", Suite: "noble", Codename: "noble", Architectures: "amd64"}, "", "", unsure},
		{"a vendor names it anew", "dists/foo", &vendor, names("stable", "new"), "", "", unsure},
		{"it heals", "dists/noble", held("noble-updates", "noble"), names("noble", "noble"), "", "", yes},

		{"its pocket, as Ubuntu names it", "dists/noble", held("noble", "noble"), names("noble-updates", "noble"), "", "", no},
		{"its pocket, as Debian names it", "dists/bookworm", held("stable", "bookworm"), names("stable-updates", "bookworm-updates"), "", "", no},
		{"the suite for its pocket", "dists/noble-security", held("noble-security", "noble"), names("noble", "noble"), "", "", no},
		{"another suite", "dists/noble", held("noble", "noble"), names("jammy", "jammy"), "", "", no},
		{"another suite, by an alias", "dists/stable", held("stable", "trixie"), names("testing", "forky"), "", "", no},
	} {
		member := test.member
		if member == "" {
			member = "main/binary-amd64/Packages"
		}
		m := manifest(t, test.dir, test.offered, test.components, member)
		f := deb.New(deb.Config{Unsigned: true})
		if got := f.Belongs(proto.Suite{Dir: test.dir}, test.held, m); got != test.want {
			t.Errorf("%s: %v, want %v", test.why, got, test.want)
		}
		bare := *m
		bare.Detail = nil // a manifest that was not made by Open
		if got := f.Belongs(proto.Suite{Dir: test.dir}, test.held, &bare); got != test.want && test.components == "" {
			t.Errorf("%s, without Detail: %v, want %v", test.why, got, test.want)
		}
	}
}

func TestPocket(t *testing.T) {
	for dir, want := range map[string][2]string{
		"dists/noble": {"dists/noble", ""}, "dists/noble-updates": {"dists/noble", "updates"}, "dists/bookworm-security": {"dists/bookworm", "security"},
		"dists/bookworm-proposed-updates": {"dists/bookworm", "proposed-updates"}, "dists/noble-proposed": {"dists/noble", "proposed"}, "": {"", ""},
		"dists/noble-backports": {"dists/noble", "backports"}, "ubuntu/dists/noble-updates": {"ubuntu/dists/noble", "updates"},
	} {
		release, pocket := deb.New(deb.Config{}).Pocket(proto.Suite{Archive: "a", Dir: dir})
		if release != (proto.Suite{Archive: "a", Dir: want[0]}) || pocket != want[1] {
			t.Errorf("%q: %v, %q", dir, release, pocket)
		}
	}
}
