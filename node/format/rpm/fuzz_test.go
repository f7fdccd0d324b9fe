package rpm_test

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/aptmesh/aptmesh/node/format/formattest"
	"github.com/aptmesh/aptmesh/node/format/rpm/rpmarchive"
	"github.com/aptmesh/aptmesh/proto"
)

func FuzzPaths(f *testing.F) {
	formattest.FuzzPaths(f, formatFor(f, false), "repodata/repomd.xml", "a/repodata/repomd.xml.asc", "a/b/repodata/repomd.xml.key",
		"x/Packages/h/hello-1-1.x86_64.rpm", "drpms/a.drpm", "media.1/media", "repodata/"+strings.Repeat("0", 64)+"-primary.xml.gz", "repodata/x")
}

// FuzzRepomd holds that whatever is opened fits the rules of members, and is the same when it is
// opened again.
func FuzzRepomd(f *testing.F) {
	for _, repos := range rpmarchive.Golden() {
		for _, repo := range repos {
			repo.Date = day1
			f.Add(repo.Render("")[root])
		}
	}
	format := formatFor(f, false)
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := format.Open(proto.Suite{}, map[string][]byte{root: data}, now)
		if err != nil {
			return
		}
		if m.Date.After(now) {
			t.Fatalf("dated %v", m.Date)
		}
		slots := make(map[string]bool)
		for i, member := range m.Members {
			if clean, err := proto.CleanPath(member.Path); err != nil || clean != member.Path || member.Path == root {
				t.Fatalf("member %q", member.Path)
			}
			if i > 0 && m.Members[i-1].Path >= member.Path || member.Slot == "" || slots[member.Slot] {
				t.Fatalf("member %q with slot %q", member.Path, member.Slot)
			}
			slots[member.Slot] = true
			if member.Lists() && !member.Provable() || member.Ref.Size < proto.UnknownSize {
				t.Fatalf("member %+v", member)
			}
		}
	})
}

// FuzzPrimary holds that all that is listed has a path, and that Packages lists the same files as
// Parse.
func FuzzPrimary(f *testing.F) {
	for _, repos := range rpmarchive.Golden() {
		for _, repo := range repos {
			repo.Date = day1
			repo.Edit = func(kind, text string) string {
				if kind == "primary" || kind == "prestodelta" {
					f.Add(kind == "primary", []byte(text))
				}
				return text
			}
			repo.Render("")
		}
	}
	format := formatFor(f, false)
	f.Fuzz(func(t *testing.T, primary bool, data []byte) {
		m := &proto.Member{Path: "repodata/x.xml", Slot: "prestodelta", PlainSize: proto.UnknownSize, Table: "x"}
		if primary {
			m.Slot = "primary"
		}
		files := 0
		err := format.Parse(proto.Suite{Dir: "a/b"}, m, bytes.NewReader(data), func(f proto.File) error {
			if len(f.Outside) > 0 && len(f.Path) == 0 {
				return nil
			}
			files++
			if clean, err := proto.CleanPath(string(f.Path)); err != nil || clean != string(f.Path) || clean == "" || f.Size < proto.UnknownSize {
				t.Fatalf("it lists %q of %d bytes", f.Path, f.Size)
			}
			return nil
		})
		if !primary {
			return
		}
		packages := 0
		err2 := format.Packages(proto.Suite{Dir: "a/b"}, m, bytes.NewReader(data), func(p *proto.Package) error {
			packages++
			format.Needs(string(p.Needs))
			return nil
		})
		if err == nil && err2 == nil && files != packages {
			t.Fatalf("%d files, %d packages", files, packages)
		}
	})
}

// FuzzZchunk holds the bound on what comes out.
func FuzzZchunk(f *testing.F) {
	text := []byte(strings.Repeat("<package>some text</package>\n", 300))
	f.Add(rpmarchive.Zchunk(text, []byte("<package>")))
	f.Add(rpmarchive.Zchunk(nil, []byte("x")))
	f.Add([]byte("\x00ZCK1\x81\x85"))
	format := formatFor(f, false)
	f.Fuzz(func(t *testing.T, data []byte) {
		m := &proto.Member{Path: "repodata/x.zck", Slot: "primary_zck", PlainSize: 1 << 20, Table: "x"}
		_ = format.Parse(proto.Suite{}, m, io.LimitReader(bytes.NewReader(data), 1<<20), func(proto.File) error { return nil })
	})
}

func FuzzVersions(f *testing.F) {
	f.Add("1:1.0~rc1-1", "1.0^git1-2.fc40")
	format := formatFor(f, false)
	f.Fuzz(func(t *testing.T, a, b string) {
		if format.Newer(a, b) && format.Newer(b, a) || format.Newer(a, a) {
			t.Fatalf("%q and %q", a, b)
		}
	})
}
