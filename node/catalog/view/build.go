package view

import (
	"errors"
	"fmt"
	"slices"

	"github.com/aptmesh/aptmesh/proto"
)

// MaxContents is how many contents of one path are accepted at most.
const MaxContents = 8

// MaxListRows bounds what one index may list, in different pairs of a path and a content. The
// largest index known has some 100,000 files.
const MaxListRows = 5_000_000

// ErrTooManyRows says that an index lists more than the bound given to its ListBuilder, or that the
// Lists of a set have more rows than a Table may.
var ErrTooManyRows = errors.New("too many files are listed")

// ListBuilder takes what one index lists and makes a List of it. It needs memory for the different
// rows and a quarter of that, whatever is added. Not safe for concurrent use.
type ListBuilder struct {
	seed    Seed
	maxRows int
	rows    sorter[row]
	strong  sorter[strongRow]
}

// NewListBuilder makes a builder for at most maxRows different rows; 0 means MaxListRows. The bound
// is checked now and then, so about a fifth more rows may be in memory for a moment.
func NewListBuilder(seed Seed, maxRows int) *ListBuilder {
	if maxRows <= 0 {
		maxRows = MaxListRows
	}
	return &ListBuilder{seed: seed, maxRows: maxRows}
}

// Add takes one listed file: it is what Format.Parse emits to. A file without a sum that proves it
// is passed over. It fails with ErrTooManyRows only; what was added before stays.
func (b *ListBuilder) Add(f proto.File) error {
	var full bool
	switch h := b.seed.hash(f.Path); {
	case !f.SHA256.IsZero():
		full = b.rows.add(row{h, sizeOf(f.Size), f.SHA256}, b.maxRows)
	case f.SHA512 != proto.SHA512{}:
		full = b.strong.add(strongRow{h, sizeOf(f.Size), f.SHA512}, b.maxRows)
	}
	if full {
		return b.check()
	}
	return nil
}

func (b *ListBuilder) check() error {
	if n := b.rows.done.n + b.strong.done.n; n > b.maxRows {
		return fmt.Errorf("%w: more than %d in one index", ErrTooManyRows, b.maxRows)
	}
	return nil
}

// List returns what was added. It fails with ErrTooManyRows as Add does, and then the List holds
// what was added before. The builder is not to be used any more.
func (b *ListBuilder) List() (*List, error) {
	b.rows.flush()
	b.strong.flush()
	b.rows.done.clip()
	b.strong.done.clip()
	return &List{seed: b.seed, rows: b.rows.done, strong: b.strong.done}, b.check()
}

// sorter sorts records and drops those that say nothing new, a run at a time.
type sorter[T record[T]] struct {
	done chunks[T] // ascending and distinct
	run  []T
}

// minRun is how many records are sorted at a time at least. A longer list sorts a quarter of itself
// at a time, so that the work grows as that of one sort.
const minRun = 16384

// add takes one record, and reports whether a run was full: then done has grown. maxRows makes runs
// short where the bound is small.
func (s *sorter[T]) add(t T, maxRows int) (flushed bool) {
	s.run = append(s.run, t)
	if len(s.run) < max(min(minRun, maxRows+1), s.done.n/4) {
		return false
	}
	s.flush()
	return true
}

// flush merges the run into done. Parts of done are used again as soon as they are merged.
func (s *sorter[T]) flush() {
	slices.SortFunc(s.run, func(a, b T) int { return a.compare(b) })
	var old chunks[T]
	old, s.done = s.done, chunks[T]{}
	var d distinct[T]
	take := func(t T) {
		if d.keeps(t) {
			s.done.add(t)
		}
	}
	i := 0
	next := func() T {
		t := *old.at(i)
		if i++; i%chunkLen == 0 {
			s.done.spare = append(s.done.spare, old.parts[i/chunkLen-1])
			old.parts[i/chunkLen-1] = nil
		}
		return t
	}
	for _, t := range s.run {
		for i < old.n && (*old.at(i)).compare(t) <= 0 {
			take(next())
		}
		take(t)
	}
	for i < old.n {
		take(next())
	}
	s.run = s.run[:0]
	s.done.spare = nil
}
