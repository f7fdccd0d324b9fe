package diff

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
	"github.com/aptmesh/aptmesh/node/format/deb"
	"github.com/aptmesh/aptmesh/node/format/pacman"
	"github.com/aptmesh/aptmesh/node/format/pacman/testrepo"
	"github.com/aptmesh/aptmesh/node/format/rpm"
	"github.com/aptmesh/aptmesh/node/format/rpm/rpmarchive"
	"github.com/aptmesh/aptmesh/proto"
)

// opens is what opening a root takes.
type opens interface {
	Format
	Forms(suite proto.Suite) []proto.Form
	Open(suite proto.Suite, files map[string][]byte, now time.Time) (*proto.Manifest, error)
}

// state is an archive at one moment.
type state struct {
	*testing.T
	format opens
	files  map[string][]byte
	gone   map[string]bool // by path: upstream has it no more
}

// listing opens a suite. kept are the members that are kept.
func (s *state) listing(id proto.Suite, kept ...string) proto.Listing {
	s.Helper()
	for _, form := range s.format.Forms(id) {
		files := make(map[string][]byte)
		for _, f := range form.Files {
			if data, ok := s.files[id.At(f.Name).Path]; ok {
				files[f.Name] = data
			}
		}
		if files[form.Files[0].Name] == nil {
			continue
		}
		m, err := s.format.Open(id, files, time.Now())
		if err != nil {
			s.Fatal(err)
		}
		l := proto.Listing{Manifest: m}
		l.Suite, l.Statement, l.Date = id, m.Statement, m.Date
		for _, k := range kept {
			l.Captured.Indexes = append(l.Captured.Indexes, proto.Captive{Path: k})
		}
		for i := range m.Members {
			if member := &m.Members[i]; member.Packages {
				l.Indexes = append(l.Indexes, proto.PackageIndex{Member: member, Object: proto.ObjectRequest{Ref: member.Ref, Where: proto.At(id.At(member.Path))}})
			}
		}
		return l
	}
	s.Fatalf("%s has no root", id)
	return proto.Listing{}
}

// reader reads from both states.
func reader(format Format, states ...*state) *Reader {
	return &Reader{
		Format: func(string) Format { return format },
		Open: func(_ context.Context, o proto.ObjectRequest) (*proto.Blob, error) {
			for _, s := range states {
				data, ok := s.files[o.Where.First.Path]
				if ok && !s.gone[o.Where.First.Path] && proto.DigestOf(data) == o.Ref.Digest {
					return &proto.Blob{Bytes: data, Ref: o.Ref}, nil
				}
			}
			return nil, proto.ErrNotFound
		},
	}
}

func every(proto.Suite) bool { return true }

// What differs is found in every format, with what the format says of it.
func TestFormats(t *testing.T) {
	at := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		name   string
		format opens
		suite  proto.Suite
		render func(generation int) map[string][]byte
		kept   func(m *proto.Manifest) string
		source string // of tool
		part   string
	}{
		{
			name: "deb", format: deb.New(deb.Config{Unsigned: true}), suite: proto.Suite{Dir: "dists/noble"}, source: "toolkit", part: "main",
			render: func(generation int) map[string][]byte {
				a := testarchive.New(1)
				a.AddSuite(testarchive.Suite{Name: "noble", Unsigned: true})
				for _, p := range versions[generation] {
					name, version, _ := strings.Cut(p, " ")
					a.AddPackage("noble", testarchive.Package{Name: name, Version: version, Missing: true, Fields: []string{"Source: " + name + "kit (1.0)"}})
				}
				a.Publish(at.Add(time.Duration(generation) * time.Hour))
				return a.Files()
			},
			kept: func(*proto.Manifest) string { return "main/binary-amd64/Packages.xz" },
		},
		{
			name: "rpm", format: rpm.New(rpm.Config{Unsigned: true}), source: "tool",
			render: func(generation int) map[string][]byte {
				r := rpmarchive.Repo{Date: at.Add(time.Duration(generation) * time.Hour)}
				for _, p := range versions[generation] {
					name, version, _ := strings.Cut(p, " ")
					r.Packages = append(r.Packages, rpmarchive.Package{Name: name, Version: version})
				}
				return r.Render("")
			},
			kept: func(m *proto.Manifest) string {
				return m.Members[slices.IndexFunc(m.Members, func(m proto.Member) bool { return m.Slot == "primary" })].Path
			},
		},
		{
			name: "pacman", format: pacman.New(pacman.Config{Unsigned: true}), suite: proto.Suite{Dir: "core/os/x86_64", Name: "core.db"}, source: "tool",
			render: func(generation int) map[string][]byte {
				r := testrepo.Repo{Dir: "core/os/x86_64", Name: "core", Built: at} // a package has its date in it
				for _, p := range versions[generation] {
					name, version, _ := strings.Cut(p, " ")
					r.Packages = append(r.Packages, testrepo.Package{Name: name, Version: version + "-1"})
				}
				files := make(map[string][]byte)
				r.Render(files)
				return files
			},
			kept: func(*proto.Manifest) string { return "" },
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := &state{T: t, format: tt.format, files: tt.render(0)}
			after := &state{T: t, format: tt.format, files: tt.render(1)}
			listings := func(s *state) []proto.Listing {
				l := s.listing(tt.suite)
				return []proto.Listing{s.listing(tt.suite, tt.kept(l.Manifest))}
			}
			suites, err := reader(tt.format, before, after).Compare(t.Context(), listings(before), listings(after), every)
			if err != nil || len(suites) != 1 || len(suites[0].Skipped) > 0 {
				t.Fatalf("%+v, %v", suites, err)
			}
			var got []string
			for _, c := range suites[0].Changes {
				got = append(got, fmt.Sprint(c.Kind, " ", c.Name))
				v := cmp.Or(c.After, c.Before)
				if c.Name == "tool" && (v.Source != tt.source || v.Component != tt.part || v.Size <= 0) {
					t.Errorf("%+v", *v)
				}
			}
			if want := []string{"removed gone", "added new", "downgraded older", "upgraded tool"}; !slices.Equal(got, want) {
				t.Errorf("%q, want %q", got, want)
			}
		})
	}
}

// versions of the packages before and after.
var versions = [][]string{{"tool 1.9", "same 1", "gone 1", "older 2.0"}, {"tool 1.10", "same 1", "new 1", "older 1.0"}}

// updates makes three suites: a release, its updates and its security updates.
func updates(t *testing.T, generation int) *state {
	a := testarchive.New(1)
	for _, name := range []string{"noble", "noble-updates", "noble-security"} {
		a.AddSuite(testarchive.Suite{Name: name, Unsigned: true, Components: []string{"main", "universe"}})
	}
	version := fmt.Sprint(generation)
	a.AddPackage("noble", testarchive.Package{Name: "base", Version: "1", Missing: true})
	for _, p := range []testarchive.Package{
		{Name: "fixed", Version: version, Missing: true}, {Name: "improved", Version: version, Missing: true, Fields: []string{"Phased-Update-Percentage: 30"}},
		{Name: "halted", Version: version, Missing: true, Fields: []string{"Phased-Update-Percentage: 0"}},
		{Name: "done", Version: version, Missing: true, Fields: []string{"Phased-Update-Percentage: 100"}},
		{Name: "unused", Version: version, Missing: true, Component: "universe"},
	} {
		a.AddPackage("noble-updates", p)
	}
	a.AddPackage("noble-security", testarchive.Package{Name: "fixed", Version: version, Missing: true})
	a.Publish(time.Date(2026, 3, generation, 0, 0, 0, 0, time.UTC))
	return &state{T: t, format: deb.New(deb.Config{Unsigned: true}), files: a.Files()}
}

func (s *state) all(kept string, dirs ...string) (all []proto.Listing) {
	for _, dir := range dirs {
		all = append(all, s.listing(proto.Suite{Dir: dir}, kept))
	}
	return all
}

const mainXZ, mainGZ = "main/binary-amd64/Packages.xz", "main/binary-amd64/Packages.gz"

func TestSecurityAndPhased(t *testing.T) {
	before, after := updates(t, 1), updates(t, 2)
	r := reader(before.format, before, after)
	was := before.all(mainXZ, "dists/noble", "dists/noble-updates")
	// Hosts have used another compression since, and one suite is new.
	is := after.all(mainGZ, "dists/noble", "dists/noble-updates", "dists/noble-security")
	suites, err := r.Compare(t.Context(), was, is, every)
	if err != nil || len(suites) != 3 {
		t.Fatal(suites, err)
	}
	if s := suites[0]; s.Suite.Dir != "dists/noble" || len(s.Changes) > 0 {
		t.Errorf("nothing has changed there: %+v", s)
	}
	if s := suites[1]; s.Suite.Dir != "dists/noble-security" || !s.Before.IsZero() || s.After.IsZero() || len(s.Changes) > 0 {
		t.Errorf("it was not there before: %+v", s)
	}
	for _, c := range suites[2].Changes {
		if c.Security != (c.Name == "fixed") {
			t.Errorf("%s: security %v", c.Name, c.Security)
		}
		if phased := c.Name == "improved" || c.Name == "halted"; c.After.Phased != phased || phased && c.After.Phase != map[string]int{"improved": 30}[c.Name] {
			t.Errorf("%s: %+v", c.Name, c.After)
		}
	}
	if got := texts(suites[2].Changes); len(got) != 4 {
		t.Errorf("%q: universe is used by nobody", got)
	}
	want := []Phased{{"halted", "amd64", "2", 0}, {"improved", "amd64", "2", 30}}
	now := time.Date(2026, 3, 3, 0, 0, 0, 0, time.UTC)
	r.Used = func(loc proto.Location) time.Time {
		switch {
		case strings.Contains(loc.Path, "/fixed_"):
			return now
		case strings.Contains(loc.Path, "/halted_"):
			return now.Add(-time.Hour)
		}
		return time.Time{}
	}
	for _, tt := range []struct {
		since         time.Time
		used, lacking int
	}{{now.Add(-time.Minute), 1, 0}, {now.Add(-2 * time.Hour), 2, 1}, {now.Add(time.Minute), 0, 0}} {
		got, err := r.Survey(t.Context(), &is[1], tt.since, func(o proto.ObjectRequest) bool { return strings.Contains(o.Where.First.Path, "/fixed_") })
		if err != nil || !slices.Equal(got.Phased, want) || got.Used != tt.used || got.Lacking != tt.lacking || got.LackingBytes > 0 != (tt.lacking > 0) {
			t.Errorf("since %v: %+v, %v", tt.since, got, err)
		}
	}
	if suites, err = r.Compare(t.Context(), was, is, func(s proto.Suite) bool { return s.Dir == "dists/noble-updates" }); err != nil || len(suites) != 1 {
		t.Errorf("one suite is wanted: %d, %v", len(suites), err)
	}
}

// An index that one side does not keep and nobody has any more is named, and the others are compared.
func TestSkipped(t *testing.T) {
	before, after := updates(t, 1), updates(t, 2)
	r := reader(before.format, before, after)
	dir := "dists/noble-updates/"
	is := after.all(mainXZ, "dists/noble-updates")
	is[0].Captured.Indexes = append(is[0].Captured.Indexes, proto.Captive{Path: "universe/binary-amd64/Packages.xz"})
	before.gone = map[string]bool{dir + "universe/binary-amd64/Packages.xz": true, dir + "universe/binary-amd64/Packages.gz": true, dir + "universe/binary-amd64/Packages": true}
	suites, err := r.Compare(t.Context(), before.all(mainXZ, "dists/noble-updates"), is, every)
	if err != nil || len(suites[0].Changes) != 4 || len(suites[0].Skipped) != 1 || !strings.HasPrefix(suites[0].Skipped[0], "universe/binary-amd64/Packages cannot be compared: ") {
		t.Errorf("%+v, %v", suites, err)
	}
	before.gone = nil
	if suites, err = r.Compare(t.Context(), before.all(mainXZ, "dists/noble-updates"), is, every); err != nil || len(suites[0].Changes) != 5 || len(suites[0].Skipped) > 0 {
		t.Errorf("with it: %+v, %v", suites, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.Compare(ctx, before.all(mainXZ, "dists/noble-updates"), is, every); err == nil {
		t.Error("it goes on after the end of the request")
	}
}
