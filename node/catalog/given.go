package catalog

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/aptmesh/aptmesh/node/catalog/view"
	"github.com/aptmesh/aptmesh/proto"
)

// FreezeGiven is Freeze for suites from outside of the cluster. Their root files are given, by digest, and nobody else is
// asked for them; all of them are verified, those of forms that the suite is not read in as well. A root that no key
// vouches for is refused, unless unsigned says that its suite needs none. No index is read: ReadIndex does that.
func (c *Catalog) FreezeGiven(archive string, at time.Time, suites []proto.Captured, given map[proto.Digest][]byte, unsigned func(proto.Suite) bool) (*Frozen, error) {
	conf := c.archive(archive)
	if conf == nil {
		return nil, errUnknownArchive
	}
	f := &Frozen{c: c, conf: conf, at: at, of: suites, given: given}
	f.ctx, f.cancel = context.WithCancel(c.ctx)
	var opened []*view.Suite
	for _, s := range suites {
		s.Suite.Archive = archive
		g, err := f.openRoot(f.ctx, s)
		if err == nil {
			err = f.proveForms(s, unsigned(s.Suite))
		}
		if err != nil {
			f.cancel()
			return nil, err
		}
		opened = append(opened, &view.Suite{ID: s.Suite, Roots: rootNames(conf.Format, s.Suite), Current: g})
	}
	if err := f.show(opened); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// givenFile is readFile for files that are given.
func (f *Frozen) givenFile(ref proto.Ref, most int64) ([]byte, error) {
	data, ok := f.given[ref.Digest]
	switch {
	case !ok:
		return nil, fmt.Errorf("nobody has given it: %w", proto.ErrNotFound)
	case int64(len(data)) > most:
		return nil, fmt.Errorf("it has %d bytes: larger than one may be", len(data))
	case proto.DigestOf(data) != ref.Digest:
		return nil, errors.New("it is not what was captured")
	}
	return data, nil
}

// proveForms verifies every form of a captured root: each says the same, or is one that the publisher keeps beside it and
// is trusted by itself.
func (f *Frozen) proveForms(s proto.Captured, unsigned bool) error {
	names := map[string]proto.Companion{s.RootName: {Name: s.RootName, Ref: s.Root}}
	for _, c := range s.Companions {
		names[c.Name] = c
	}
	left := maps.Clone(names)
	for _, form := range f.conf.Format.Forms(s.Suite) {
		first, there := names[form.Files[0].Name]
		if !there {
			continue
		}
		files := make(map[string][]byte)
		for _, file := range form.Files {
			c, ok := names[file.Name]
			if !ok {
				continue
			}
			delete(left, file.Name)
			data, err := f.givenFile(c.Ref, file.MaxBytes)
			if err != nil {
				return fmt.Errorf("%s: %w", s.Suite.At(file.Name), err)
			}
			files[file.Name] = data
		}
		m, err := f.conf.Format.Open(s.Suite, files, f.at)
		switch {
		case err != nil:
			return fmt.Errorf("%s: %w", s.Suite.At(first.Name), err)
		case m.Statement != s.Statement && !first.Stray:
			return fmt.Errorf("%s says something else than %s", s.Suite.At(first.Name), s.RootName)
		case !m.Proven && !unsigned:
			return fmt.Errorf("no key vouches for %s, and nothing else can here: it is taken where the configuration of the archive says unsigned: true", s.Suite.At(first.Name))
		}
	}
	if len(left) > 0 {
		return fmt.Errorf("%s is no file of a root of %s", slices.Sorted(maps.Keys(left))[0], s.Suite)
	}
	return nil
}

// Means is Resolve without an effect: what a location of a listed file must turn out to be. index says that it is one that
// lists files, which count as listed when ReadIndex has read it. It fails with proto.ErrNotFound where nothing lists the
// location, or if that cannot be known.
func (f *Frozen) Means(loc proto.Location) (object proto.ObjectRequest, index bool, err error) {
	var e proto.Resolution
	info := f.conf.Format.PathInfo(loc.Path)
	found, ok := f.view.Load().Resolve(&e, loc, &info)
	switch {
	case found.Err != nil:
		return object, false, found.Err
	case !ok || !e.Listed:
		return object, false, proto.ErrNotFound
	}
	return e.Object, found.Member != nil && found.Member.Lists(), nil
}

// ReadIndex reads the index at a location, which should be stored, so that what it lists counts as listed.
func (f *Frozen) ReadIndex(ctx context.Context, loc proto.Location) error {
	var e proto.Resolution
	info := f.conf.Format.PathInfo(loc.Path)
	found, ok := f.view.Load().Resolve(&e, loc, &info)
	if !ok {
		return proto.ErrNotFound
	}
	m := found.Member
	if found.Root != "" {
		m = found.Generation.Member(found.Root) // a root that lists files itself
	}
	if m == nil || !m.Lists() {
		return proto.ErrNotFound
	}
	return f.add(ctx, found.Suite.ID, m)
}
