package view

import (
	"cmp"
	"io"
)

// merger reads several list files at a time, in the order of paths.
type merger struct {
	readers []*listReader
	totals  []uint64 // the numbers of rows that the lists announce
	files   []io.Closer
}

// listError is that of one of several lists.
type listError struct {
	index int
	err   error
}

func (e *listError) Error() string { return e.err.Error() }

// openLists opens lists to be merged. It fails with *listError.
func openLists(src ListSource, seed Seed, names []string) (*merger, error) {
	m := &merger{}
	for i, name := range names {
		f, err := src.OpenList(name)
		if err == nil {
			m.files = append(m.files, f)
			var lr *listReader
			if lr, err = readHeader(f, seed); err == nil {
				m.readers = append(m.readers, lr)
				m.totals = append(m.totals, lr.rows.left+lr.strong.left)
			}
		}
		if err != nil {
			m.close()
			return nil, &listError{i, err}
		}
	}
	return m, nil
}

func (m *merger) close() {
	for _, f := range m.files {
		f.Close()
	}
}

// each yields what the lists say, path by path: the rows of all paths first, then those with SHA-512
// only. The slices are valid until the function returns. It fails with *listError, or with the error
// of a function.
func (m *merger) each(rows func([]ranked[row]) error, strong func([]ranked[strongRow]) error) error {
	var a []*cursor[row]
	var b []*cursor[strongRow]
	for i, lr := range m.readers {
		a = append(a, &cursor[row]{ranked: ranked[row]{rank: i}, s: &lr.rows, r: lr.r})
	}
	if err := mergeSections(a, rows); err != nil {
		return err
	}
	for i, lr := range m.readers {
		b = append(b, &cursor[strongRow]{ranked: ranked[strongRow]{rank: i}, s: &lr.strong, r: lr.r})
	}
	if err := mergeSections(b, strong); err != nil {
		return err
	}
	for i, lr := range m.readers {
		if err := lr.end(); err != nil {
			return &listError{i, err}
		}
	}
	return nil
}

// ranked is a record, and which list it is of.
type ranked[T record[T]] struct {
	t    T
	rank int
}

func (a *ranked[T]) compare(b *ranked[T]) int {
	if x, y := a.t.path(), b.t.path(); x != y {
		return cmp.Compare(x, y)
	}
	return cmp.Or(cmp.Compare(a.rank, b.rank), a.t.compare(b.t))
}

// cursor is where the reading of one list stands.
type cursor[T record[T]] struct {
	ranked[T]
	s *section[T]
	r io.Reader
}

func (c *cursor[T]) advance() (more bool, err error) {
	c.t, more, err = c.s.next(c.r)
	if err != nil {
		err = &listError{c.rank, err}
	}
	return more, err
}

func mergeSections[T record[T]](cursors []*cursor[T], each func([]ranked[T]) error) error {
	var heap []*cursor[T] // the least first, children of i at 2i+1 and 2i+2
	for _, c := range cursors {
		more, err := c.advance()
		if err != nil {
			return err
		}
		if more {
			heap = append(heap, c)
		}
	}
	for i := len(heap)/2 - 1; i >= 0; i-- {
		sink(heap, i)
	}
	var group []ranked[T]
	for len(heap) > 0 {
		if len(group) > 0 && group[0].t.path() != heap[0].t.path() {
			if err := each(group); err != nil {
				return err
			}
			group = group[:0]
		}
		group = append(group, heap[0].ranked)
		more, err := heap[0].advance()
		if err != nil {
			return err
		}
		if !more {
			heap[0] = heap[len(heap)-1]
			heap = heap[:len(heap)-1]
		}
		sink(heap, 0)
	}
	if len(group) > 0 {
		return each(group)
	}
	return nil
}

func sink[T record[T]](heap []*cursor[T], i int) {
	for {
		least := i
		for c := 2*i + 1; c <= 2*i+2 && c < len(heap); c++ {
			if heap[c].compare(&heap[least].ranked) < 0 {
				least = c
			}
		}
		if least == i {
			return
		}
		heap[i], heap[least] = heap[least], heap[i]
		i = least
	}
}

// contents picks, of what lists say of one path, the contents that count, the most trusted first:
// those of the first current lists, or where none is current those of the others. It appends them
// to into.
func contents[T record[T]](into []T, group []ranked[T], current int) (found []T, retained bool) {
	retained = group[0].rank >= current
	for _, g := range group {
		if !retained && g.rank >= current || len(into) == MaxContents {
			break
		}
		if i := indexAlike(into, g.t); i < 0 {
			into = append(into, g.t)
		} else if into[i].length() == unknownSize {
			into[i] = g.t
		}
	}
	return into, retained
}

func indexAlike[T record[T]](records []T, t T) int {
	for i, r := range records {
		if r.alike(t) {
			return i
		}
	}
	return -1
}
