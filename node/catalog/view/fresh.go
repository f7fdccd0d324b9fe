package view

import (
	"errors"
	"slices"
)

// Fresh is the set of files that a generation lists and the generation before it did not list, or
// listed with other content. It is safe for concurrent use. A nil *Fresh is empty.
type Fresh struct {
	seed   Seed
	hashes []uint64 // ascending
}

// BuildFresh compares the package indexes of two generations of a suite. Nothing of an index is new
// if the index was not staged before, or if its List cannot be read, because its earlier content is
// unknown. Memory is that of the result.
func BuildFresh(seed Seed, src ListSource, before, after *Generation) *Fresh {
	then, now := packageLists(before), packageLists(after)
	f := &Fresh{seed: seed}
	for {
		f.hashes = nil
		names, old := freshLists(then, now)
		if old == len(names) {
			return f // nothing to compare
		}
		err := f.build(src, names, old)
		var failed *listError
		if !errors.As(err, &failed) {
			slices.Sort(f.hashes)
			f.hashes = slices.Clip(slices.Compact(f.hashes))
			return f
		}
		lost := names[failed.index]
		for _, lists := range []map[string]string{then, now} {
			for plain, name := range lists {
				if name == lost {
					delete(lists, plain)
				}
			}
		}
	}
}

// packageLists names the Lists of a generation's package indexes by the plain path of the index.
func packageLists(g *Generation) map[string]string {
	lists := make(map[string]string)
	for _, m := range g.PackageIndexes() {
		lists[m.Plain] = g.staged[m.Path].Table
	}
	return lists
}

// freshLists names the Lists to compare: first the old ones, old of them, then those that are new
// of indexes that were known before.
func freshLists(then, now map[string]string) (names []string, old int) {
	var next []string
	for _, name := range then {
		names = append(names, name)
	}
	slices.Sort(names)
	names = slices.Compact(names)
	for plain, name := range now {
		if _, known := then[plain]; known && !slices.Contains(names, name) {
			next = append(next, name)
		}
	}
	slices.Sort(next)
	return append(names, slices.Compact(next)...), len(names)
}

func (f *Fresh) build(src ListSource, names []string, old int) error {
	m, err := openLists(src, f.seed, names)
	if err != nil {
		return err
	}
	defer m.close()
	return m.each(func(group []ranked[row]) error {
		if isFresh(group, old) {
			f.hashes = append(f.hashes, group[0].t.hash)
		}
		return nil
	}, func(group []ranked[strongRow]) error {
		if isFresh(group, old) {
			f.hashes = append(f.hashes, group[0].t.hash)
		}
		return nil
	})
}

// isFresh reports whether a list of rank old or more has a content that none of the others has.
func isFresh[T record[T]](group []ranked[T], old int) bool {
	before := slices.IndexFunc(group, func(g ranked[T]) bool { return g.rank >= old })
	if before < 0 {
		return false
	}
	for _, g := range group[before:] {
		if !slices.ContainsFunc(group[:before], func(o ranked[T]) bool { return o.t.alike(g.t) }) {
			return true
		}
	}
	return false
}

// Has reports whether the file of a path below the archive's root is new.
func (f *Fresh) Has(path string) bool {
	if f == nil {
		return false
	}
	_, ok := slices.BinarySearch(f.hashes, f.seed.hash([]byte(path)))
	return ok
}

// Len is the number of new files.
func (f *Fresh) Len() int {
	if f == nil {
		return 0
	}
	return len(f.hashes)
}
