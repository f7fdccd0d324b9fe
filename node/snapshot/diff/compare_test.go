package diff

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// of lists packages given as NAME VERSION [CONTENT [ARCH]].
func of(lines ...string) packages {
	return func(emit func(listed) error) error {
		for _, line := range lines {
			f := append(strings.Fields(line), "", "")
			p := proto.Package{Name: []byte(f[0]), Version: []byte(f[1]), Arch: []byte(cmp.Or(f[3], "amd64"))}
			p.File = proto.File{Path: []byte("pool/" + f[0]), Size: 10, SHA256: proto.DigestOf([]byte(f[0] + f[1] + f[2]))}
			if err := emit(listed{&p, "main"}); err != nil {
				return err
			}
		}
		return nil
	}
}

func newerNumber(a, b string) bool {
	x, _ := strconv.Atoi(a)
	y, _ := strconv.Atoi(b)
	return x > y
}

func texts(changes []Change) (all []string) {
	for _, c := range changes {
		text := string(c.Kind) + " " + c.Name + " " + c.Arch
		for _, v := range []*Version{c.Before, c.After} {
			if v != nil {
				text += " " + v.Version
			}
		}
		all = append(all, text)
	}
	return all
}

func TestCompare(t *testing.T) {
	for _, tt := range []struct {
		name          string
		before, after packages
		want          []string
	}{
		{"the same in another order", of("a 1", "b 2"), of("b 2", "a 1"), nil},
		{"added and removed", of("a 1"), of("b 1"), []string{"removed a amd64 1", "added b amd64 1"}},
		{"upgraded", of("a 9", "b 1"), of("a 10", "b 1"), []string{"upgraded a amd64 9 10"}},
		{"downgraded", of("a 10"), of("a 9"), []string{"downgraded a amd64 10 9"}},
		{"replaced in place", of("a 1 x"), of("a 1 y"), []string{"replaced a amd64 1 1"}},
		{"another architecture", of("a 1", "a 1 x arm64"), of("a 1", "a 2 x arm64"), []string{"upgraded a arm64 1 2"}},
		{"the old version stays", of("a 1"), of("a 1", "a 2"), []string{"upgraded a amd64 1 2"}},
		{"an older version goes", of("a 1", "a 2"), of("a 2"), nil},
		{"the newest goes", of("a 1", "a 2"), of("a 1"), []string{"downgraded a amd64 2 1"}},
		{"listed twice", of("a 1", "a 1"), of("a 1"), nil},
		{"all is new", of(), of("a 1"), []string{"added a amd64 1"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := compare(newerNumber, tt.before, tt.after, nil)
			if err != nil || !slices.Equal(texts(got), tt.want) {
				t.Errorf("%q, %v, want %q", texts(got), err, tt.want)
			}
		})
	}
}

// Used is the latest of all versions' and places'.
func TestCompareUsed(t *testing.T) {
	day := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	got, err := compare(newerNumber, of("a 1", "b 1"), of("a 2", "b 2"), func(path []byte) time.Time {
		if string(path) == "pool/a" {
			return day
		}
		return time.Time{}
	})
	if err != nil || len(got) != 2 || !got[0].Used.Equal(day) || !got[1].Used.IsZero() {
		t.Errorf("%+v, %v", got, err)
	}
}

// The comparison in two readings says what one of whole lists does.
func TestCompareModel(t *testing.T) {
	for seed := range uint64(500) {
		r := rand.New(rand.NewPCG(seed, 2))
		lists := [2][]string{}
		newest := [2]map[string]string{{}, {}} // by name, version and content of the newest
		for side := range lists {
			for range r.IntN(12) {
				name, version, content := string(rune('a'+r.IntN(4))), r.IntN(4), r.IntN(2)
				// Within one archive a version has one content.
				if slices.ContainsFunc(lists[side], func(l string) bool { return strings.HasPrefix(l, fmt.Sprint(name, " ", version, " ")) }) {
					continue
				}
				lists[side] = append(lists[side], fmt.Sprint(name, " ", version, " ", content))
				if now, ok := newest[side][name]; !ok || newerNumber(strconv.Itoa(version), now[:1]) {
					newest[side][name] = fmt.Sprint(version, content)
				}
			}
		}
		var want []string
		names := maps.Clone(newest[0])
		maps.Copy(names, newest[1])
		for _, name := range slices.Sorted(maps.Keys(names)) {
			was, before := newest[0][name]
			is, after := newest[1][name]
			switch {
			case !before:
				want = append(want, "added "+name+" amd64 "+is[:1])
			case !after:
				want = append(want, "removed "+name+" amd64 "+was[:1])
			case was == is:
			default:
				kind := map[int]string{-1: "upgraded", 0: "replaced", 1: "downgraded"}[cmp.Compare(was[0], is[0])]
				want = append(want, kind+" "+name+" amd64 "+was[:1]+" "+is[:1])
			}
		}
		got, err := compare(newerNumber, of(lists[0]...), of(lists[1]...), nil)
		if err != nil || !slices.Equal(texts(got), want) {
			t.Fatalf("seed %d: %q and %q: %q, %v, want %q", seed, lists[0], lists[1], texts(got), err, want)
		}
	}
}

// Memory grows with what differs: what is the same takes its 16 bytes and no more.
func TestCompareMemory(t *testing.T) {
	const n = 200_000
	many := func(changed int) packages {
		return func(emit func(listed) error) error {
			var p proto.Package
			for i := range n {
				p.Name = strconv.AppendInt(append(p.Name[:0], "a-package-with-a-name-"...), int64(i), 10)
				p.Version, p.Arch, p.Path = append(p.Version[:0], '1'), append(p.Arch[:0], "amd64"...), p.Name
				if i < changed {
					p.Version[0] = '2'
				}
				if err := emit(listed{&p, "main"}); err != nil {
					return err
				}
			}
			return nil
		}
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	got, err := compare(newerNumber, many(0), many(100), nil)
	runtime.ReadMemStats(&after)
	if err != nil || len(got) != 100 {
		t.Fatal(len(got), err)
	}
	// A slice that grows is copied: in all that is up to six times its size.
	if took := after.TotalAlloc - before.TotalAlloc; took > 2*n*16*6 {
		t.Errorf("%d bytes for each of %d packages", took/n, n)
	}
	if _, err := compare(newerNumber, of(), many(0), nil); err != nil {
		t.Error("as many as may differ:", err)
	}
}

func TestCompareBound(t *testing.T) {
	many := func(emit func(listed) error) error {
		for i := range maxChanged + 1 {
			p := proto.Package{Name: strconv.AppendInt(nil, int64(i), 10)}
			if err := emit(listed{&p, ""}); err != nil {
				return err
			}
		}
		return nil
	}
	if _, err := compare(newerNumber, of(), many, nil); err == nil {
		t.Error("a difference beyond the bound is listed")
	}
}
