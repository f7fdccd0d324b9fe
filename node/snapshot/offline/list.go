package offline

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/aptmesh/aptmesh/proto"
)

// Format is what this room must know of a repository format. It is pure and safe for concurrent use.
type Format interface {
	// Parse reads an index as it is stored (compressed) and emits what it lists; see catalog.Format.
	Parse(suite proto.Suite, m *proto.Member, stored io.Reader, emit func(proto.File) error) error
	// Names are those by which clients ask for a member, below the suite's directory, its Path first.
	Names(m *proto.Member) []string
	// Beside are files that clients ask for beside a listed one, though no index lists them.
	Beside(path string) []string
}

// Kind says what a file is. Files are listed, and must be taken in, in the order of the kinds: each is vouched for by
// files of the kind before.
type Kind string

// The kinds of files.
const (
	Root    Kind = "root"
	Index   Kind = "index"
	Package Kind = "package" // any file that an index lists
	Beside  Kind = "beside"  // what no index lists, and clients ask for with a package: nothing vouches for it
)

// File is a file of a snapshot.
type File struct {
	Kind    Kind
	Archive string
	// Paths are where clients ask for it, below the archive's root, at least one.
	Paths []string
	// Ref has a zero Digest where only Missing is known.
	Ref    proto.Ref
	Stored bool
	// Needed says that the suite is of no use to clients without it: roots, and indexes of packages.
	Needed bool
	// Missing says why it cannot be had, if that is known already.
	Missing string
}

// Left counts what is listed and left out.
type Left struct {
	// Unprovable are packages for which no strong sum is listed, Unstored those that this node does not have.
	Unprovable, Unstored int
	// Conflicting are files of which two suites list different contents under one name: the first is taken.
	Conflicting int
	// Unread says of which indexes nothing is known, a sentence each.
	Unread []string
}

// Lister lists the files of snapshots. Its fields must be set.
type Lister struct {
	Format func(archive string) Format
	// Open opens an object, wherever it comes from; Stored reports whether this node has it.
	Open   func(context.Context, proto.ObjectRequest) (*proto.Blob, error)
	Stored func(proto.ObjectRequest) bool
	// Unlisted opens a file that no index lists.
	Unlisted func(context.Context, proto.Location) (*proto.Blob, error)
}

// Order says what to list.
type Order struct {
	// All lists all packages, not only those that this node has. Beside adds the files that clients ask for beside them.
	All, Beside bool
}

// List emits the files of suites in the order of their kinds, each name once. It fails if ctx ends, or with an error of emit.
func (l *Lister) List(ctx context.Context, suites []proto.Listing, order Order, emit func(*File) error) (left Left, err error) {
	w := &walk{Lister: l, ctx: ctx, order: order, emit: emit, seen: make(map[proto.Location]proto.Digest)}
	for _, step := range []func(*proto.Listing) error{w.roots, w.indexes, w.packages} {
		for i := range suites {
			if err := step(&suites[i]); err != nil {
				return w.left, fmt.Errorf("%s: %w", suites[i].Suite, err)
			}
		}
	}
	return w.left, w.giveBeside()
}

// walk is one call of List.
type walk struct {
	*Lister
	ctx    context.Context
	order  Order
	emit   func(*File) error
	beside []proto.Location // of files that were emitted
	seen   map[proto.Location]proto.Digest
	left   Left
}

// give emits a file, if its first name is new.
func (w *walk) give(f *File) error {
	loc := proto.Location{Archive: f.Archive, Path: f.Paths[0]}
	if d, known := w.seen[loc]; known {
		if d != f.Ref.Digest {
			w.left.Conflicting++
		}
		return nil
	}
	w.seen[loc] = f.Ref.Digest
	return w.emit(f)
}

func (w *walk) roots(l *proto.Listing) error {
	files := []proto.Companion{{Name: l.RootName, Ref: l.Root}}
	for _, c := range l.Companions {
		if c.Known() {
			files = append(files, c)
		}
	}
	for _, c := range files {
		loc := l.Suite.At(c.Name)
		f := &File{Kind: Root, Archive: loc.Archive, Paths: []string{loc.Path}, Ref: c.Ref, Needed: true}
		f.Stored = w.Stored(proto.ObjectRequest{Ref: c.Ref, Where: proto.At(loc)})
		if err := w.give(f); err != nil {
			return err
		}
	}
	return nil
}

// indexes gives those that the snapshot keeps, and others that this node has.
func (w *walk) indexes(l *proto.Listing) error {
	for i := range l.Manifest.Members {
		m := &l.Manifest.Members[i]
		object := l.Object(m)
		stored := m.Provable() && w.Stored(object)
		if m.Slot == "" || !m.Provable() || !stored && !kept(l, m) {
			continue
		}
		f := &File{Kind: Index, Archive: l.Suite.Archive, Ref: m.Ref, Stored: stored, Needed: m.Needed}
		for _, name := range w.Format(l.Suite.Archive).Names(m) {
			f.Paths = append(f.Paths, l.Suite.At(name).Path)
		}
		w.settle(f, object)
		if err := w.give(f); err != nil {
			return err
		}
	}
	return nil
}

func kept(l *proto.Listing, m *proto.Member) bool {
	return slices.ContainsFunc(l.Captured.Indexes, func(c proto.Captive) bool { return c.Path == m.Path })
}

// settle finds the SHA-256 of a file that is listed by another sum: only its bytes have it.
func (w *walk) settle(f *File, object proto.ObjectRequest) {
	if !f.Ref.IsZero() && f.Ref.Size >= 0 {
		return
	}
	b, err := OpenStored(w.ctx, w.Open, object)
	if err != nil {
		f.Missing = err.Error()
		return
	}
	defer b.Close()
	f.Ref, f.Stored = b.Ref, b.Stream == nil
	if f.Ref.IsZero() || f.Ref.Size < 0 {
		f.Missing = "its SHA-256 and size are not known, because this node has no room to store it"
	}
}

// packages gives what the indexes list. Of the compressions of an index, the first that can be read counts.
func (w *walk) packages(l *proto.Listing) error {
	var plains []string
	forms := make(map[string][]*proto.Member)
	for i := range l.Manifest.Members {
		m := &l.Manifest.Members[i]
		if !m.Lists() || !m.Provable() || m.Slot != "" && !kept(l, m) && !w.Stored(l.Object(m)) {
			continue
		}
		if forms[m.Plain] == nil {
			plains = append(plains, m.Plain)
		}
		forms[m.Plain] = append(forms[m.Plain], m)
	}
	for _, plain := range plains {
		var failed error
		for _, m := range forms[plain] {
			if failed = w.index(l, m); failed == nil || w.ctx.Err() != nil || errors.As(failed, new(*emitError)) {
				break
			}
		}
		switch {
		case failed == nil:
		case w.ctx.Err() != nil:
			return context.Cause(w.ctx)
		case errors.As(failed, new(*emitError)):
			return failed
		default:
			w.left.Unread = append(w.left.Unread, fmt.Sprintf("%s cannot be read, so what it lists is left out: %v", l.Suite.At(plain), failed))
		}
	}
	return nil
}

// emitError is an error of emit.
type emitError struct{ error }

func (e *emitError) Unwrap() error { return e.error }

// index gives what one index lists.
func (w *walk) index(l *proto.Listing, m *proto.Member) error {
	b, err := OpenStored(w.ctx, w.Open, l.Object(m))
	if err != nil {
		return err
	}
	defer b.Close()
	if b.Stream != nil {
		return fmt.Errorf("%w: it is not kept", proto.ErrNoSpace)
	}
	return w.Format(l.Suite.Archive).Parse(l.Suite, m, b.Reader(), func(listed proto.File) error {
		if err := w.ctx.Err(); err != nil {
			return &emitError{context.Cause(w.ctx)}
		}
		if err := w.listed(l.Suite.Archive, &listed); err != nil {
			return &emitError{err}
		}
		return nil
	})
}

func (w *walk) listed(archive string, listed *proto.File) error {
	if len(listed.Path) == 0 {
		return nil // outside of the archive
	}
	loc := proto.Location{Archive: archive, Path: string(listed.Path)}
	object := proto.ObjectRequest{Ref: proto.Ref{Digest: listed.SHA256, Size: listed.Size}, SHA512: listed.SHA512, Where: proto.At(loc), Class: proto.ClassPrefetch}
	if _, known := w.seen[loc]; !known && !object.Provable() {
		w.left.Unprovable++
		return nil
	}
	f := &File{Kind: Package, Archive: archive, Paths: []string{strings.Clone(loc.Path)}, Ref: object.Ref, Stored: object.Provable() && w.Stored(object)}
	if !f.Stored && !w.order.All {
		w.left.Unstored++
		return nil
	}
	w.settle(f, object)
	if w.order.Beside {
		for _, path := range w.Format(archive).Beside(loc.Path) {
			w.beside = append(w.beside, proto.Location{Archive: archive, Path: path})
		}
	}
	return w.give(f)
}

// besideParallel is how many files that no index lists are looked for at one time: their sums are known only when they are there.
const besideParallel = 8

// giveBeside gives files that no index lists, if there are any.
func (w *walk) giveBeside() error {
	var mu sync.Mutex
	var found []*File
	var group errgroup.Group
	group.SetLimit(besideParallel)
	for _, loc := range w.beside {
		if _, listed := w.seen[loc]; listed {
			continue
		}
		group.Go(func() error {
			if w.ctx.Err() != nil {
				return context.Cause(w.ctx)
			}
			f := &File{Kind: Beside, Archive: loc.Archive, Paths: []string{loc.Path}}
			b, err := w.Unlisted(w.ctx, loc)
			switch {
			case errors.Is(err, proto.ErrNotFound):
				return nil
			case err != nil:
				f.Missing = err.Error()
			default:
				f.Ref, f.Stored = b.Ref, true
				b.Close()
			}
			mu.Lock()
			defer mu.Unlock()
			found = append(found, f)
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	slices.SortFunc(found, func(a, b *File) int {
		return cmp.Or(strings.Compare(a.Archive, b.Archive), strings.Compare(a.Paths[0], b.Paths[0]))
	})
	for _, f := range found {
		if err := w.give(f); err != nil {
			return err
		}
	}
	return nil
}

// OpenStored opens an object that is stored; one that is not, once it was read to its end, so that whatever is wrong with
// it shows before its first byte. Only where the store does not keep it, it is a stream.
func OpenStored(ctx context.Context, open func(context.Context, proto.ObjectRequest) (*proto.Blob, error), object proto.ObjectRequest) (*proto.Blob, error) {
	b, err := open(ctx, object)
	if err != nil || b.Stream == nil {
		return b, err
	}
	_, err = io.Copy(io.Discard, b.Reader())
	b.Close()
	if err != nil {
		return nil, err
	}
	return open(ctx, object)
}
