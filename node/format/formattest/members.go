package formattest

import (
	"bytes"
	"crypto/sha512"
	"errors"
	"maps"
	"path"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/aptmesh/aptmesh/proto"
)

// canonical is what proto.Location wants of a path.
func canonical(p string) bool {
	return p != "" && p[0] != '/' && path.Clean(p) == p && p != "." && p != ".." && !strings.HasPrefix(p, "../")
}

// members: what a manifest says of its members fits the files on the server.
func (a *Archive) members(t *testing.T, s proto.Suite) {
	m := a.open(t, a.Files, s)
	itself := 0
	if len(m.Members) == 0 {
		t.Fatal("the root lists nothing: the test needs a root that does")
	}
	last := ""
	slots := make(map[string]bool)
	found := 0
	for i := range m.Members {
		member := &m.Members[i]
		if member.Path <= last || !canonical(member.Path) {
			t.Errorf("member %q comes after %q", member.Path, last)
		}
		last = member.Path
		if member.Slot == "" {
			itself++
			if !a.isRoot(s, member.Path) || member.Ref.IsZero() {
				t.Errorf("%s has no slot, and is not the root itself", member.Path)
			}
		} else if slots[member.Slot] {
			t.Errorf("the slot %q of %s is not its own", member.Slot, member.Path)
		}
		slots[member.Slot] = true
		if len(member.Upstream) == 0 || member.Plain == "" {
			t.Errorf("%s has no name upstream, or none without compression", member.Path)
		}
		if member.Lists() && !member.Provable() {
			t.Errorf("%s lists files, and nothing proves it", member.Path)
		}
		if member.Provable() {
			found += a.member(t, s, member)
		}
	}
	if itself > 1 {
		t.Errorf("%d members are the root", itself)
	}
	if found == 0 {
		t.Error("no member is on the server: the test needs one")
	}
}

// isRoot reports whether a name is that of a root.
func (a *Archive) isRoot(s proto.Suite, name string) bool {
	return slices.ContainsFunc(a.Format.Forms(s), func(f proto.Form) bool { return f.Files[0].Name == name })
}

// member holds one member against its bytes, if they are there.
func (a *Archive) member(t *testing.T, s proto.Suite, m *proto.Member) int {
	data, ok := a.stored(s, m)
	if !ok {
		return 0
	}
	if !m.Ref.IsZero() && (m.Ref.Digest != proto.DigestOf(data) || m.Ref.Size != int64(len(data))) {
		t.Errorf("%s is listed as %v, and has %d bytes", m.Path, m.Ref, len(data))
	}
	if m.SHA512 != (proto.SHA512{}) && m.SHA512 != sha512.Sum512(data) {
		t.Errorf("the SHA-512 of %s is another one", m.Path)
	}
	for _, name := range m.Upstream {
		info := a.Format.PathInfo(s.At(name).Path)
		if info.Hash.Kind == 0 {
			continue
		}
		if !slices.Contains(m.Keys, info.Hash.Key()) || !info.Hash.Names(m) {
			t.Errorf("%s has the name %s, which does not lead back to it", m.Path, name)
		}
		if !info.Immutable {
			t.Errorf("%s is made of a sum, and not immutable", name)
		}
	}
	return 1
}

// tables: indexes with one table list the same.
func (a *Archive) tables(t *testing.T, s proto.Suite) {
	m := a.open(t, a.Files, s)
	byTable := make(map[string]map[string]sums)
	for i := range m.Members {
		member := &m.Members[i]
		if !member.Lists() {
			continue
		}
		data, ok := a.stored(s, member)
		if !ok {
			continue
		}
		files := a.parse(t, s, member, data)
		if listed := a.listedFiles(t, s, member, data); !maps.Equal(listed, files) {
			t.Errorf("%s has %d files where packages are chosen from it, and %d where it is read", member.Path, len(listed), len(files))
		}
		if same, ok := byTable[member.Table]; ok && !maps.Equal(same, files) {
			t.Errorf("%s lists other files than another index with its table", member.Path)
		}
		byTable[member.Table] = files
	}
}

// listers: the index that lists a file is among its listers, and lists it.
func (a *Archive) listers(t *testing.T) {
	for asked, real := range a.Asked {
		data, ok := a.Files[real]
		if !ok {
			t.Fatalf("%s is not in the archive", real)
		}
		if !a.listed(t, asked, data) {
			t.Errorf("%s is listed by none of its listers", asked)
		}
	}
}

func (a *Archive) listed(t *testing.T, asked string, want []byte) bool {
	for _, s := range a.Suites {
		m := a.open(t, a.Files, s)
		for _, group := range a.Format.Listers(s, m, asked) {
			for _, alternatives := range group {
				if a.listedBy(t, s, alternatives, asked, want) {
					return true
				}
			}
		}
	}
	return false
}

func (a *Archive) listedBy(t *testing.T, s proto.Suite, alternatives []*proto.Member, asked string, want []byte) bool {
	for _, m := range alternatives {
		if !m.Lists() {
			t.Errorf("%s is called a lister of %s, and lists nothing", m.Path, asked)
		}
		data, ok := a.stored(s, m)
		if !ok {
			continue
		}
		got, ok := a.parse(t, s, m, data)[asked]
		return ok && got.prove(want)
	}
	return false
}

// names: what is said of each name on the server agrees with itself.
func (a *Archive) names(t *testing.T) {
	for p := range a.Files {
		checkPath(t, a.Format, p)
	}
	for p := range a.Asked {
		checkPath(t, a.Format, p)
	}
}

// checkPath holds what a format says of any path against the rules.
func checkPath(t *testing.T, f Format, p string) {
	t.Helper()
	info := f.PathInfo(p)
	suite, name, isRoot := f.RootOf(p)
	if isRoot != info.Root {
		t.Errorf("%q: RootOf says %v and PathInfo %v", p, isRoot, info.Root)
	}
	if isRoot && suite.At(name).Path != p {
		t.Errorf("%q is split into %v and %q", p, suite, name)
	}
	if info.Class == proto.ClassMetadata && !info.Root {
		t.Errorf("%q is metadata by its name alone", p)
	}
	if info.Kind == "" || info.ContentType == "" || strings.Contains(info.ContentType, "html") {
		t.Errorf("%q: %+v", p, info)
	}
	if info.Proof != proto.ProofNone && info.Hash.Kind == 0 {
		t.Errorf("%q proves something by no sum", p)
	}
	if info.Proof == proto.ProofSure && (!info.Immutable || info.Hash.Kind < proto.HashSHA256) {
		t.Errorf("%q: %+v", p, info)
	}
	suites := f.Suites(p)
	if len(suites) > 3 {
		t.Errorf("%q is looked for in %d suites", p, len(suites))
	}
	for _, s := range suites {
		if s.Archive != "" || s.Dir != "" && !strings.HasPrefix(p, s.Dir+"/") {
			t.Errorf("%q is looked for in %v", p, s)
		}
	}
}

var errEnough = errors.New("enough")

// hostileIndexes: changed bytes end in an error or in files; an error of the receiver ends the parse.
func (a *Archive) hostileIndexes(t *testing.T, s proto.Suite) {
	m := a.open(t, a.Files, s)
	for i := range m.Members {
		member := &m.Members[i]
		data, ok := a.stored(s, member)
		if !member.Lists() || !ok {
			continue
		}
		emitted := 0
		err := a.Format.Parse(s, member, bytes.NewReader(data), func(proto.File) error {
			emitted++
			return errEnough
		})
		if emitted > 0 && !errors.Is(err, errEnough) || emitted > 1 {
			t.Errorf("%s goes on after an error of its receiver: %d files, %v", member.Path, emitted, err)
		}
		step := max(len(data)/20, 1)
		for at := 0; at < len(data); at += step {
			a.tryIndex(t, s, member, data[:at])
			a.tryIndex(t, s, member, slices.Concat(data[:at], []byte{data[at] ^ 0x55}, data[at+1:]))
		}
	}
}

func (a *Archive) tryIndex(t *testing.T, s proto.Suite, m *proto.Member, data []byte) {
	_ = a.Format.Parse(s, m, bytes.NewReader(data), func(f proto.File) error {
		if len(f.Outside) == 0 && !canonical(string(f.Path)) {
			t.Errorf("%s, changed, lists %q, which is not canonical", m.Path, f.Path)
		}
		return nil
	})
}

// Bombs: reading each allocates less than most bytes in all, whatever it would unpack to.
func Bombs(t *testing.T, f Format, most uint64, bombs ...Bomb) {
	for _, b := range bombs {
		t.Run(b.Name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			files := 0
			err := f.Parse(b.Suite, b.Member, bytes.NewReader(b.Stored), func(proto.File) error {
				files++
				return nil
			})
			runtime.ReadMemStats(&after)
			if took := after.TotalAlloc - before.TotalAlloc; took > most {
				t.Errorf("%d bytes took %d bytes of memory; %d files, %v", len(b.Stored), took, files, err)
			}
			if b.Refused && err == nil {
				t.Errorf("it was read to its end: %d files", files)
			}
		})
	}
}

// FuzzPaths feeds arbitrary canonical paths to what a format says of names.
func FuzzPaths(f *testing.F, format Format, seeds ...string) {
	for _, s := range seeds {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, p string) {
		if canonical(p) {
			checkPath(t, format, p)
		}
	})
}
