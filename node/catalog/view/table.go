package view

import (
	"errors"
	"fmt"
	"slices"
	"unsafe"

	"github.com/aptmesh/aptmesh/proto"
)

// MaxTableRows bounds a Table: about 1 GB of memory.
const MaxTableRows = 20_000_000

// Table is what the Lists of a set of generations list, in memory. It is never changed, and safe
// for concurrent use. A nil *Table lists nothing.
type Table struct {
	seed   Seed
	rows   chunks[row] // ascending, one for each path: the first content
	starts directory
	// extra are the further contents of paths whose row is marked, in the order of extraOf, their
	// hashes. Those of one path lie together, so that a look-up returns a slice of them.
	extra   []proto.Ref
	extraOf []uint64
	strong  []strongRow // ascending, one for each path
	names   []string
	current int // names[:current] are current
}

// directory says where the records of each range of hashes begin.
type directory struct {
	shift  uint // the range of a hash is hash>>shift
	starts []uint32
}

// newDirectory makes one for n records, about four to a range.
func newDirectory(n int, hash func(i int) uint64) directory {
	d := directory{shift: 64}
	for 4<<(64-d.shift) < n {
		d.shift--
	}
	d.starts = make([]uint32, 1<<(64-d.shift)+1)
	next := 0
	for i := range n {
		for at := int(hash(i) >> d.shift); next <= at; next++ {
			d.starts[next] = uint32(i)
		}
	}
	for ; next < len(d.starts); next++ {
		d.starts[next] = uint32(n)
	}
	return d
}

// LostList is a List that is not in a Table: it could not be read (Err is ErrList or what the
// source failed with), or the Table would have grown over its bound (ErrTooManyRows).
type LostList struct {
	Name string
	Err  error
}

// BuildTable joins Lists, as Tables names them. Any current listing of a path vouches for it;
// retained ones count where no current one lists the path. maxRows 0 means MaxTableRows. Lists that
// cannot be read, or have no room, are left out and returned. Memory is that of the result.
func BuildTable(seed Seed, src ListSource, current, retained []string, maxRows int) (*Table, []LostList) {
	if maxRows <= 0 {
		maxRows = MaxTableRows
	}
	var lost []LostList
	names, now := slices.Concat(current, retained), len(current)
	for {
		t := &Table{seed: seed, names: names, current: now}
		err := t.build(src, maxRows)
		var one *listError
		var many *overflow
		switch {
		case errors.As(err, &one):
			lost = append(lost, LostList{names[one.index], one.err})
			names = slices.Delete(slices.Clone(names), one.index, one.index+1)
			if one.index < now {
				now--
			}
		case errors.As(err, &many):
			for _, name := range names[many.fit:] {
				lost = append(lost, LostList{name, fmt.Errorf("%w: the archive would have more than %d", ErrTooManyRows, maxRows)})
			}
			names, now = names[:many.fit], min(now, many.fit)
		default:
			return t, lost
		}
	}
}

// overflow says that only the first lists have room for certain.
type overflow struct{ fit int }

func (*overflow) Error() string { return ErrTooManyRows.Error() }

// overflowOf finds how many lists fit whatever they have in common.
func overflowOf(m *merger, maxRows int) *overflow {
	sum := uint64(0)
	for i, n := range m.totals {
		if sum += n; n > uint64(maxRows) || sum > uint64(maxRows) {
			return &overflow{i}
		}
	}
	return &overflow{len(m.totals)} // not reached: there are no more different rows than rows
}

// build fills the table from the lists in names.
func (t *Table) build(src ListSource, maxRows int) error {
	m, err := openLists(src, t.seed, t.names)
	if err != nil {
		return err
	}
	defer m.close()
	err = m.each(func(group []ranked[row]) error {
		t.addRows(group)
		return t.bounded(m, maxRows)
	}, func(group []ranked[strongRow]) error {
		t.addStrong(group)
		return t.bounded(m, maxRows)
	})
	if err != nil {
		return err
	}
	t.rows.clip()
	t.extra, t.extraOf, t.strong = slices.Clip(t.extra), slices.Clip(t.extraOf), slices.Clip(t.strong)
	t.starts = newDirectory(t.rows.n, func(i int) uint64 { return t.rows.at(i).hash })
	return nil
}

func (t *Table) bounded(m *merger, maxRows int) error {
	if t.rows.n+len(t.extra)+len(t.strong) > maxRows {
		return overflowOf(m, maxRows)
	}
	return nil
}

func (t *Table) addRows(group []ranked[row]) {
	var few [MaxContents]row
	found, retained := contents(few[:0], group, t.current)
	first := found[0]
	if retained {
		first.size |= markRetained
	}
	if len(found) > 1 {
		first.size |= markSeveral
	}
	t.rows.add(first)
	for _, r := range found[1:] {
		t.extra, t.extraOf = append(t.extra, r.ref()), append(t.extraOf, r.hash)
	}
}

// addStrong takes the first content only: no ObjectRequest has room for several that are known by
// SHA-512.
func (t *Table) addStrong(group []ranked[strongRow]) {
	var few [MaxContents]strongRow
	found, retained := contents(few[:0], group, t.current)
	first := found[0]
	if retained {
		first.size |= markRetained
	}
	t.strong = append(t.strong, first)
}

// Built reports whether the table holds just these Lists: nothing was lost, and none has changed.
func (t *Table) Built(current, retained []string) bool {
	return t != nil && t.current == len(current) && slices.Equal(t.names[:t.current], current) && slices.Equal(t.names[t.current:], retained)
}

// Lookup implements Files. It never fails.
func (t *Table) Lookup(path string) (Listed, bool, error) {
	if t == nil {
		return Listed{}, false, nil
	}
	l, ok := t.find(t.seed.hash([]byte(path)))
	return l, ok, nil
}

func (t *Table) find(h uint64) (Listed, bool) {
	r := t.findRow(h)
	if r == nil || r.size&markRetained != 0 {
		if s := t.findStrong(h); s != nil && (r == nil || s.size&markRetained == 0) {
			return Listed{Ref: proto.Ref{Size: s.size.bytes()}, SHA512: s.sum, Retained: s.size&markRetained != 0}, true
		}
	}
	if r == nil {
		return Listed{}, false
	}
	l := Listed{Ref: r.ref(), Retained: r.size&markRetained != 0}
	if r.size&markSeveral != 0 {
		from, _ := slices.BinarySearch(t.extraOf, h)
		to := from
		for to < len(t.extraOf) && t.extraOf[to] == h {
			to++
		}
		l.Others = t.extra[from:to:to]
	}
	return l, true
}

func (t *Table) findRow(h uint64) *row {
	if t.rows.n == 0 {
		return nil
	}
	in := h >> t.starts.shift
	for i, end := int(t.starts.starts[in]), int(t.starts.starts[in+1]); i < end; i++ {
		if r := t.rows.at(i); r.hash == h {
			return r
		}
	}
	return nil
}

func (t *Table) findStrong(h uint64) *strongRow {
	i, ok := slices.BinarySearchFunc(t.strong, h, func(r strongRow, h uint64) int {
		switch {
		case r.hash < h:
			return -1
		case r.hash > h:
			return 1
		}
		return 0
	})
	if !ok {
		return nil
	}
	return &t.strong[i]
}

// Len is the number of rows: of different pairs of a path and a content.
func (t *Table) Len() int {
	if t == nil {
		return 0
	}
	return t.rows.n + len(t.extra) + len(t.strong)
}

// Bytes is the memory that the table takes.
func (t *Table) Bytes() int64 {
	if t == nil {
		return 0
	}
	n := len(t.starts.starts)*4 + cap(t.extra)*int(unsafe.Sizeof(proto.Ref{})) + cap(t.extraOf)*8 + cap(t.strong)*int(unsafe.Sizeof(strongRow{}))
	for _, p := range t.rows.parts {
		n += cap(p)*int(unsafe.Sizeof(row{})) + int(unsafe.Sizeof(p))
	}
	return int64(n)
}
