package deb

import (
	"strings"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// The sources of a host, in both forms that apt reads.
func TestSnapshotSources(t *testing.T) {
	suite := func(dir string, change func(*proto.HostSuite)) proto.HostSuite {
		s := proto.HostSuite{Dir: dir, Indexes: []string{"main/binary-amd64/Packages.xz", "main/debian-installer/binary-amd64/Packages.xz", "main/i18n/Translation-en.xz"}}
		if change != nil {
			change(&s)
		}
		return s
	}
	expires := func(s *proto.HostSuite) { s.ValidUntil = time.Unix(1, 0) }
	const keys = "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nabc\n=x\n-----END PGP PUBLIC KEY BLOCK-----\n"
	for what, tt := range map[string]struct {
		archive      proto.HostArchive
		stanzas      string
		lines, notes string
	}{
		"suites with much in common are in one stanza": {
			proto.HostArchive{Name: "u", SignedBy: []string{"/k.gpg"}, Keys: keys, Suites: []proto.HostSuite{suite("dists/noble", nil), suite("dists/noble-updates", nil)}},
			"Types: deb\nURIs: http://n/snapshot/u/s\nSuites: noble noble-updates\nComponents: main\nSigned-By: /k.gpg\n",
			"deb [signed-by=/k.gpg] http://n/snapshot/u/s noble main\ndeb [signed-by=/k.gpg] http://n/snapshot/u/s noble-updates main\n", "",
		},
		"only what stays as it is needs no Valid-Until": {
			proto.HostArchive{Name: "d", SignedBy: []string{"/a", "/b"}, Keys: keys, Suites: []proto.HostSuite{
				suite("dists/x", expires), suite("dists/x-security", func(s *proto.HostSuite) { expires(s); s.Live = true }),
			}},
			"Types: deb\nURIs: http://n/snapshot/d/s\nSuites: x\nComponents: main\nSigned-By: /a /b\nCheck-Valid-Until: no\n\nTypes: deb\nURIs: http://n/snapshot/d/s\nSuites: x-security\nComponents: main\nSigned-By: /a /b\n",
			"deb [signed-by=/a,/b check-valid-until=no] http://n/snapshot/d/s x main\ndeb [signed-by=/a,/b] http://n/snapshot/d/s x-security main\n", "",
		},
		"keys that hosts do not have": {
			proto.HostArchive{Name: "v/t", Keys: keys, Suites: []proto.HostSuite{suite("dists/x", nil)}},
			"Types: deb\nURIs: http://n/snapshot/v/t/s\nSuites: x\nComponents: main\nSigned-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n abc\n =x\n -----END PGP PUBLIC KEY BLOCK-----\n",
			"deb [signed-by=/etc/apt/keyrings/aptmesh-v-t.asc] http://n/snapshot/v/t/s x main\n", "put those of v/t on hosts as /etc/apt/keyrings/aptmesh-v-t.asc",
		},
		"no keys": {
			proto.HostArchive{Name: "v", Suites: []proto.HostSuite{suite("dists/x", func(s *proto.HostSuite) { s.Unsigned = true })}},
			"Types: deb\nURIs: http://n/snapshot/v/s\nSuites: x\nComponents: main\nTrusted: yes\n", "deb [trusted=yes] http://n/snapshot/v/s x main\n", "",
		},
		"sources, and components of their own": {
			proto.HostArchive{Name: "v", SignedBy: []string{"/k"}, Suites: []proto.HostSuite{
				suite("dists/x", func(s *proto.HostSuite) { s.Indexes = append(s.Indexes, "contrib/source/Sources.gz") }), suite("dists/y", nil),
			}},
			"Types: deb deb-src\nURIs: http://n/snapshot/v/s\nSuites: x\nComponents: contrib main\nSigned-By: /k\n\nTypes: deb\nURIs: http://n/snapshot/v/s\nSuites: y\nComponents: main\nSigned-By: /k\n",
			"deb http://n/snapshot/v/s x contrib main\ndeb-src http://n/snapshot/v/s x contrib main\ndeb http://n/snapshot/v/s y main\n", "",
		},
		"suites that differ in sources or in trust": {
			proto.HostArchive{Name: "v", Keys: keys, SignedBy: []string{"/k"}, Suites: []proto.HostSuite{
				suite("dists/x", nil), suite("dists/y", func(s *proto.HostSuite) { s.Indexes = append(s.Indexes, "main/source/Sources.gz") }), suite("dists/z", func(s *proto.HostSuite) { s.Unsigned = true }),
			}},
			"Types: deb\nURIs: http://n/snapshot/v/s\nSuites: x\nComponents: main\nSigned-By: /k\n\nTypes: deb deb-src\nURIs: http://n/snapshot/v/s\nSuites: y\nComponents: main\nSigned-By: /k\n\nTypes: deb\nURIs: http://n/snapshot/v/s\nSuites: z\nComponents: main\nTrusted: yes\n",
			"deb [signed-by=/k] http://n/snapshot/v/s x main\ndeb [signed-by=/k] http://n/snapshot/v/s y main\ndeb-src [signed-by=/k] http://n/snapshot/v/s y main\ndeb [trusted=yes] http://n/snapshot/v/s z main\n", "",
		},
		"flat repositories, and one below a directory": {
			proto.HostArchive{Name: "v", Suites: []proto.HostSuite{
				suite("", func(s *proto.HostSuite) { s.Indexes = []string{"Packages"} }), suite("x/y", func(s *proto.HostSuite) { s.Indexes = nil }), suite("debian/dists/z/updates", nil),
			}},
			"Types: deb\nURIs: http://n/snapshot/v/s\nSuites: ./\n\nTypes: deb\nURIs: http://n/snapshot/v/s\nSuites: x/y/\n\nTypes: deb\nURIs: http://n/snapshot/v/s/debian\nSuites: z/updates\nComponents: main\n",
			"deb http://n/snapshot/v/s ./\ndeb http://n/snapshot/v/s x/y/\ndeb http://n/snapshot/v/s/debian z/updates main\n", "",
		},
		"a suite that nobody uses": {
			proto.HostArchive{Name: "v", Suites: []proto.HostSuite{suite("dists/x", func(s *proto.HostSuite) { s.Indexes = nil })}}, "", "", "x of v is left out",
		},
	} {
		for form, want := range map[bool]string{false: tt.stanzas, true: tt.lines} {
			f, notes := SnapshotSources("http://n", "s", []proto.HostArchive{tt.archive}, form)
			if f.Text != want {
				t.Errorf("%s: printed\n%s\nwant\n%s", what, f.Text, want)
			}
			said := strings.Join(notes, "\n")
			if (form || strings.Contains(tt.notes, "left out")) && !strings.Contains(said, tt.notes) || !strings.Contains(said, "apt takes the newest") {
				t.Errorf("%s: notes %q", what, notes)
			}
		}
	}
}

// apt finds the snapshots of each archive at the node.
func TestSnapshotServers(t *testing.T) {
	archive := func(name, origin string, labels []string, urls ...string) proto.HostArchive {
		a := proto.HostArchive{Name: name, URLs: urls}
		for _, l := range labels {
			a.Suites = append(a.Suites, proto.HostSuite{Origin: origin, Label: l})
		}
		return a
	}
	lines := func(of ...string) (text string) {
		for i := 0; i < len(of); i += 2 {
			text += `"Acquire::Snapshots::URI::` + of[i] + `" "http://n/snapshot/` + of[i+1] + `";` + "\n"
		}
		return text
	}
	for what, tt := range map[string]struct {
		archives []proto.HostArchive
		want     string
		note     string
	}{
		"one archive": {
			[]proto.HostArchive{archive("ubuntu", "Ubuntu", []string{"Ubuntu", "Ubuntu"}, "http://archive.ubuntu.com/ubuntu", "http://*.archive.ubuntu.com/ubuntu", "http://a.*.org/x", "http://m:8080/u")},
			lines("Override::Origin::Ubuntu", "ubuntu/@SNAPSHOTID@/", "Host::archive.ubuntu.com", "ubuntu/@SNAPSHOTID@/", "Host::.archive.ubuntu.com", "ubuntu/@SNAPSHOTID@/", "Host::m", "ubuntu/@SNAPSHOTID@/"), "",
		},
		"archives of one origin and one host, told apart by label and path": {
			[]proto.HostArchive{archive("debian", "Debian", []string{"Debian", "Debian Backports"}, "http://d/debian"), archive("debian-security", "Debian", []string{"Debian-Security"}, "http://d/debian-security")},
			lines("Override::Label::Debian", "debian/@SNAPSHOTID@/", "Override::Label::Debian Backports", "debian/@SNAPSHOTID@/", "Override::Label::Debian-Security", "debian-security/@SNAPSHOTID@/",
				"Override::Origin::Debian", "debian/@SNAPSHOTID@/", "Host::d", "@PATH@/@SNAPSHOTID@/"), "",
		},
		"archives that are not told apart": {
			[]proto.HostArchive{archive("a", "Ubuntu", []string{"Ubuntu"}, "http://d/x"), archive("b", "Ubuntu", []string{"Ubuntu"}, "http://d/b")},
			lines("Override::Origin::Ubuntu", "a/@SNAPSHOTID@/"), "apt cannot tell a and b apart: the snapshots of all come from a",
		},
		"names that apt cannot read": {[]proto.HostArchive{archive("a", `x" "y`, nil)}, "", ""},
		"nothing is known":           {[]proto.HostArchive{archive("a", "", []string{""})}, "", ""},
	} {
		got, notes := snapshotServers("http://n", tt.archives)
		if got != tt.want || strings.Join(notes, "") != tt.note {
			t.Errorf("%s: %q\n%s\nwant\n%s", what, notes, got, tt.want)
		}
	}
	expires := archive("d", "D", []string{"D"})
	expires.Suites[0].Dir, expires.Suites[0].ValidUntil = "dists/x", time.Unix(1, 0)
	for id, said := range map[string]bool{"stable": true, "": false} {
		if _, notes := SnapshotConf("http://n", id, []proto.HostArchive{expires}); strings.Contains(strings.Join(notes, ""), "apt refuses x of d") != said {
			t.Errorf("%q: %q", id, notes)
		}
	}
	files, _ := SnapshotConf("http://n", "stable", []proto.HostArchive{archive("a", "A", []string{"A"})})
	if want := HostFile("http://n").Text + "\"APT::Snapshot\" \"stable\";\n" + lines("Override::Origin::A", "a/@SNAPSHOTID@/"); len(files) != 1 || files[0].Text != want {
		t.Errorf("%+v", files)
	}
}
