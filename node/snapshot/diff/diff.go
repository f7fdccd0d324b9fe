package diff

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// Format is what this room must know of a repository format. It is pure and safe for concurrent use.
type Format interface {
	// Packages reads an index of packages as it is stored (compressed) and calls emit for each package that it lists,
	// once for each place that it may lie at. It stops with an error of emit.
	Packages(suite proto.Suite, m *proto.Member, stored io.Reader, emit func(*proto.Package) error) error
	// Component names the part of the suite that an index is of; "" where there are none.
	Component(m *proto.Member) string
	// Newer reports whether version a comes after b.
	Newer(a, b string) bool
}

// Reader reads what suites list. Its fields must be set, except Used.
type Reader struct {
	// Format returns the format of an archive.
	Format func(archive string) Format
	// Open opens an object, wherever it comes from.
	Open func(context.Context, proto.ObjectRequest) (*proto.Blob, error)
	// Used is when a host last took a version of the package at a location; zero for never.
	Used func(proto.Location) time.Time
}

// Suite is what differs in one suite.
type Suite struct {
	Suite proto.Suite
	// Before and After are the dates of the two generations; zero where the suite is not there.
	Before, After time.Time
	Changes       []Change
	// Skipped says which indexes could not be compared, and why, a sentence each.
	Skipped []string
}

// Compare says what differs between two states of the suites that are wanted. Indexes that are kept on one side are compared; one that the other
// side does not keep is fetched, and skipped where nobody has it any more. It fails if ctx ends, or a suite differs by
// more than can be listed.
func (r *Reader) Compare(ctx context.Context, before, after []proto.Listing, wanted func(proto.Suite) bool) ([]Suite, error) {
	security, err := r.security(ctx, after)
	if err != nil {
		return nil, err
	}
	var all []Suite
	for _, id := range suitesOf(before, after) {
		if !wanted(id) {
			continue
		}
		b, a := find(before, id), find(after, id)
		s := Suite{Suite: id}
		if b != nil {
			s.Before = b.Date
		}
		if a != nil {
			s.After = a.Date
		}
		if b != nil && a != nil && b.Statement != a.Statement {
			if err := r.suite(ctx, b, a, &s); err != nil {
				return nil, fmt.Errorf("compare %s: %w", id, err)
			}
			for i := range s.Changes {
				c := &s.Changes[i]
				c.Security = c.After != nil && security[hash(0, []byte(c.Name), []byte(c.Arch), []byte(c.After.Version))]
			}
		}
		all = append(all, s)
	}
	return all, nil
}

func suitesOf(sides ...[]proto.Listing) (ids []proto.Suite) {
	for _, l := range slices.Concat(sides...) {
		if !slices.Contains(ids, l.Suite) {
			ids = append(ids, l.Suite)
		}
	}
	slices.SortFunc(ids, func(a, b proto.Suite) int { return strings.Compare(a.String(), b.String()) })
	return ids
}

func find(all []proto.Listing, id proto.Suite) *proto.Listing {
	i := slices.IndexFunc(all, func(l proto.Listing) bool { return l.Suite == id })
	if i < 0 {
		return nil
	}
	return &all[i]
}

// suite compares one suite.
func (r *Reader) suite(ctx context.Context, before, after *proto.Listing, s *Suite) error {
	var was, is []*proto.PackageIndex
	for _, plain := range keptPlains(before, after) {
		b, wrongBefore := r.obtain(ctx, before, plain)
		a, wrongAfter := r.obtain(ctx, after, plain)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case wrongBefore != nil || wrongAfter != nil:
			s.Skipped = append(s.Skipped, fmt.Sprintf("%s cannot be compared: %v", plain, cmp.Or(wrongBefore, wrongAfter)))
		case b != nil && a != nil && !b.Object.Ref.IsZero() && b.Object.Ref == a.Object.Ref:
		default:
			was, is = append(was, b), append(is, a)
		}
	}
	format := r.Format(s.Suite.Archive)
	var used func([]byte) time.Time
	if r.Used != nil {
		used = func(path []byte) time.Time {
			return r.Used(proto.Location{Archive: s.Suite.Archive, Path: string(path)})
		}
	}
	var err error
	s.Changes, err = compare(format.Newer, r.listing(ctx, before.Suite, was), r.listing(ctx, after.Suite, is), used)
	return err
}

// keptPlains are the indexes, without compression, of which hosts used a form on one side. Of a root that lists packages itself
// there is no choice.
func keptPlains(sides ...*proto.Listing) (plains []string) {
	for _, l := range sides {
		for _, index := range l.Indexes {
			if (index.Member.Slot == "" || kept(l, index.Member)) && !slices.Contains(plains, index.Member.Plain) {
				plains = append(plains, index.Member.Plain)
			}
		}
	}
	slices.Sort(plains)
	return plains
}

func kept(l *proto.Listing, m *proto.Member) bool {
	return slices.ContainsFunc(l.Captured.Indexes, func(c proto.Captive) bool { return c.Path == m.Path })
}

// obtain brings one form of an index into the store: one that is kept, if there is one. nil without an error: the suite has no
// such index.
func (r *Reader) obtain(ctx context.Context, l *proto.Listing, plain string) (found *proto.PackageIndex, err error) {
	var forms []*proto.PackageIndex
	for i := range l.Indexes {
		if l.Indexes[i].Member.Plain == plain {
			forms = append(forms, &l.Indexes[i])
		}
	}
	slices.SortStableFunc(forms, func(a, b *proto.PackageIndex) int { return rank(l, a) - rank(l, b) })
	for _, form := range forms {
		var b *proto.Blob
		if b, err = r.open(ctx, form.Object); err == nil {
			return form, b.Close()
		}
	}
	return nil, err
}

// rank puts first what is kept.
func rank(l *proto.Listing, index *proto.PackageIndex) int {
	if kept(l, index.Member) {
		return 0
	}
	return 1
}

// listing reads indexes of a suite; nil among them are passed over.
func (r *Reader) listing(ctx context.Context, suite proto.Suite, indexes []*proto.PackageIndex) packages {
	format := r.Format(suite.Archive)
	return func(emit func(listed) error) error {
		for _, index := range indexes {
			if index == nil {
				continue
			}
			if err := r.read(ctx, format, suite, index, emit); err != nil {
				return fmt.Errorf("read %s: %w", suite.At(index.Member.Path), err)
			}
		}
		return nil
	}
}

func (r *Reader) read(ctx context.Context, format Format, suite proto.Suite, index *proto.PackageIndex, emit func(listed) error) error {
	b, err := r.open(ctx, index.Object)
	if err != nil {
		return err
	}
	defer b.Close()
	component := format.Component(index.Member)
	return format.Packages(suite, index.Member, b.Reader(), func(p *proto.Package) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		return emit(listed{p, component})
	})
}

// open opens an object that the store has; one that it does not have, once it was read to its end: a decompressor is no
// place for bytes of unknown origin.
func (r *Reader) open(ctx context.Context, object proto.ObjectRequest) (*proto.Blob, error) {
	for range 2 {
		b, err := r.Open(ctx, object)
		if err != nil || b.Stream == nil {
			return b, err
		}
		_, err = io.Copy(io.Discard, b.Reader())
		b.Close()
		if err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("%w: it does not keep %s", proto.ErrNoSpace, object.Ref)
}

// security are the packages, with their versions, of the suites that carry security updates.
func (r *Reader) security(ctx context.Context, all []proto.Listing) (map[uint64]bool, error) {
	known := make(map[uint64]bool)
	for i := range all {
		if l := &all[i]; l.Manifest.Security {
			err := r.each(ctx, l, func(p listed) { known[hash(0, p.Name, p.Arch, p.Version)] = true })
			if err != nil {
				return nil, err
			}
		}
	}
	return known, nil
}

// each reads the indexes of a suite that are kept; one that cannot be had any more is passed over.
func (r *Reader) each(ctx context.Context, l *proto.Listing, do func(listed)) error {
	for _, plain := range keptPlains(l) {
		index, err := r.obtain(ctx, l, plain)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil || index == nil {
			continue
		}
		err = r.listing(ctx, l.Suite, []*proto.PackageIndex{index})(func(p listed) error { do(p); return nil })
		if err != nil {
			return err
		}
	}
	return nil
}

// Survey is what an operator should know of the packages of a suite.
type Survey struct {
	// Phased are the packages that only some hosts may install, by name.
	Phased []Phased
	// Used counts the packages that hosts of this node use. Lacking are those of them that the node has not stored, with
	// their bytes.
	Used, Lacking int
	LackingBytes  int64
}

// Phased is a package that only some hosts may install.
type Phased struct {
	Name, Arch, Version string
	// Percent of the hosts; 0 is none: its publisher has withdrawn it.
	Percent int
}

// Survey looks at the packages of a suite that are listed in indexes which are kept. since is from when on a package counts as
// used; stored reports whether the node has a file. It fails if ctx ends, or an index cannot be read.
func (r *Reader) Survey(ctx context.Context, l *proto.Listing, since time.Time, stored func(proto.ObjectRequest) bool) (*Survey, error) {
	s, seen := &Survey{}, make(map[uint64]bool)
	err := r.each(ctx, l, func(p listed) {
		if p.Phased && len(s.Phased) < maxChanged {
			s.Phased = append(s.Phased, Phased{string(p.Name), string(p.Arch), string(p.Version), p.Phase})
		}
		loc := proto.Location{Archive: l.Suite.Archive, Path: string(p.Path)}
		if r.Used == nil || r.Used(loc).Before(since) {
			return
		}
		id := full(p.Package) // several indexes, or places, may have it
		object := proto.ObjectRequest{Ref: proto.Ref{Digest: p.SHA256, Size: p.Size}, SHA512: p.SHA512, Where: proto.At(loc)}
		if seen[id] || !object.Provable() {
			return
		}
		seen[id] = true
		s.Used++
		if !stored(object) {
			s.Lacking++
			s.LackingBytes += max(p.Size, 0)
		}
	})
	slices.SortFunc(s.Phased, func(a, b Phased) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Arch, b.Arch), strings.Compare(a.Version, b.Version))
	})
	s.Phased = slices.Compact(s.Phased)
	return s, err
}
