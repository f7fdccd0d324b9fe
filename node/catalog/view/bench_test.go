package view

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/aptmesh/aptmesh/proto"
)

// benchView is an archive of three suites with 2,000 members and two retained generations each, and
// n packages in three lists.
func benchView(t testing.TB, n int) (*View, map[string]string) {
	var suites []*Suite
	for _, dir := range []string{"dists/noble", "dists/noble-updates", "dists/noble-security"} {
		var members []proto.Member
		for i := range 2000 {
			members = append(members, member(fmt.Sprintf("main/binary-%d/Packages.xz", i), fmt.Sprint(dir, i), true))
		}
		m := members[7]
		g := gen(dir, 0, members...).WithStaged(m.Path, Staged{Ref: m.Ref, Table: dir})
		suites = append(suites, suite(g, gen(dir, 1, member(m.Path, "old", true)), gen(dir, 2, member(m.Path, "older", true))))
	}
	src := memLists{}
	for i, s := range suites {
		var files []proto.File
		for j := i * n / 3; j < (i+1)*n/3; j++ {
			files = append(files, file(poolPath(j), fmt.Sprint(j)))
		}
		src[s.ID.Dir] = fileOf(t, listOf(t, files...))
	}
	current, retained := Tables(suites)
	const index = "main/binary-7/Packages.xz"
	return BuildView(BuildArchive("a", suites, tableOf(t, src, current, retained))), map[string]string{
		"package":          poolPath(n / 2),
		"index":            "dists/noble/" + index,
		"by-hash":          "dists/noble/" + hashPath(index, proto.HashSHA256, "dists/noble7"),
		"retained by-hash": "dists/noble/" + hashPath(index, proto.HashSHA256, "older"),
		"root":             "dists/noble/InRelease",
	}
}

func BenchmarkResolve(b *testing.B) {
	v, paths := benchView(b, 300_000)
	for name, path := range paths {
		b.Run(name, func(b *testing.B) {
			l, info := loc(path), infoOf(path)
			b.ReportAllocs()
			for b.Loop() {
				var e proto.Resolution
				if _, ok := v.Resolve(&e, l, info); !ok {
					b.Fatal("not resolved")
				}
			}
		})
	}
	b.Run("packages at random", func(b *testing.B) {
		all := make([]string, 1<<16)
		for i := range all {
			all[i] = poolPath(i * 40503 % 300_000)
		}
		info := infoOf("x")
		i := 0
		for b.Loop() {
			var e proto.Resolution
			if _, ok := v.Resolve(&e, loc(all[i%len(all)]), info); !ok {
				b.Fatal("not resolved")
			}
			i++
		}
	})
}

func benchLists(b testing.TB, lists, n int) (memLists, []string) {
	src := memLists{}
	var names []string
	for i := range lists {
		builder := NewListBuilder(testSeed, 0)
		for j := range n {
			builder.Add(file(poolPath(j+i*n/100), "x")) // neighbours share 99 in 100
		}
		l, _ := builder.List()
		names = append(names, fmt.Sprint(i))
		src[names[i]] = fileOf(b, l)
	}
	return src, names
}

// BenchmarkFrozen looks files up in a table of a million rows on disk.
func BenchmarkFrozen(b *testing.B) {
	src, names := benchLists(b, 1, 1_000_000)
	name := filepath.Join(b.TempDir(), "frozen")
	w, err := os.Create(name)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := WriteFrozen(w, testSeed, src, names); err != nil {
		b.Fatal(err)
	}
	w.Close()
	clear(src)
	r, err := os.Open(name)
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	st, _ := r.Stat()
	f, err := OpenFrozen(r, st.Size())
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(st.Size())/float64(f.Len()), "file-bytes/row")
	all := make([]string, 1<<14)
	for i := range all {
		all[i] = poolPath(i * 40503 % 1_000_000)
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		if _, ok, err := f.Lookup(all[i%len(all)]); !ok || err != nil {
			b.Fatal(err)
		}
		i++
	}
}

func BenchmarkBuildList(b *testing.B) {
	for _, n := range []int{64_000, 1_000_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			files := make([]proto.File, n)
			for i := range files {
				files[i] = file(poolPath(i), "x")
			}
			b.ReportAllocs()
			for b.Loop() {
				builder := NewListBuilder(testSeed, 0)
				for i := range files {
					builder.Add(files[i])
				}
				if l, err := builder.List(); err != nil || l.Len() != n {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkBuildTable joins 32 lists of 64,000 files that share nearly all: what a generation switch
// costs beside the reading of its indexes.
func BenchmarkBuildTable(b *testing.B) {
	src, names := benchLists(b, 32, 64_000)
	b.ReportAllocs()
	for b.Loop() {
		if t, lost := BuildTable(testSeed, src, names[:4], names[4:], 0); len(lost) > 0 || t.Len() < 64_000 {
			b.Fatal(t.Len(), lost)
		}
	}
}

func BenchmarkReadList(b *testing.B) {
	src, _ := benchLists(b, 1, 64_000)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ReadList(bytes.NewReader(src["0"]), testSeed); err != nil {
			b.Fatal(err)
		}
	}
}
