package view

import (
	"slices"

	"github.com/aptmesh/aptmesh/proto"
)

// Demand says what a look-up asked for. The caller records it or acts on it. It is a value.
type Demand struct {
	// Suite is the suite that the path lies in; nil if the answer came from Files, or if there is
	// none. If nothing was found, it is the deepest suite around the path.
	Suite *Suite
	// Generation is the one that answered; nil for none.
	Generation *Generation
	// Member is the member that was asked for; nil for anything else.
	Member *proto.Member
	// BySum says that the member was asked for by a name made of its sum.
	BySum bool
	// Root is the name of a file of the suite's root, whether or not the generation has it; "" for
	// anything else. Whether the root is fresh enough to be given out is for the caller to judge.
	Root string
	// Current says that the current generation answered.
	Current bool
	// Err says that the answer cannot be known, because Files failed.
	Err error
}

// Resolve writes into e what a location means, without waiting and without an effect. info is what
// the path alone says (Format.PathInfo). It returns false if the set knows nothing of the location;
// then e means nothing.
//
// The order is: names of a root, for which the deepest suite with that name answers alone; members
// of the current generations of the suites around the path, the deepest first (if several list the
// name, or indexes list it, too, each content is accepted); members of retained generations, for
// names that no current generation lists; files that indexes list.
//
// It allocates only for members that are not staged, and if listings of a path disagree.
func (a *Archive) Resolve(e *proto.Resolution, loc proto.Location, info *proto.PathInfo) (Demand, bool) {
	*e = proto.Resolution{}
	var d Demand
	for s, name := range a.Enclosing(loc.Path) {
		if slices.Contains(s.Roots, name) {
			return Demand{Suite: s, Generation: s.Current, Root: name, Current: true}, s.Current.fillRoot(e, loc, name)
		}
		found, ok := s.resolve(name, info)
		switch {
		case ok && d.Current: // by a suite further in
			if !d.BySum {
				accept(&e.Object, found.contentRef())
			}
		case ok && (d.Generation == nil || found.Current):
			d = found
			d.fill(e, loc)
		case d.Suite == nil:
			d.Suite = s
		}
	}
	if d.BySum || a.Files == nil {
		return d, d.Generation != nil
	}
	return a.resolveFile(e, loc, d)
}

// resolve finds the member that a name below the suite's directory stands for.
func (s *Suite) resolve(name string, info *proto.PathInfo) (Demand, bool) {
	if m := s.Current.BySum(&info.Hash, name); m != nil {
		return Demand{Suite: s, Generation: s.Current, Member: m, BySum: true, Current: true}, true
	}
	if info.Hash.Kind != 0 {
		for _, g := range s.Retained {
			if m := g.BySum(&info.Hash, name); m != nil {
				return Demand{Suite: s, Generation: g, Member: m, BySum: true}, true
			}
		}
	}
	if m := s.Current.Member(name); m != nil {
		return Demand{Suite: s, Generation: s.Current, Member: m, Current: true}, m.Provable()
	}
	for _, g := range s.Retained {
		if m := g.Member(name); m != nil && m.Provable() {
			return Demand{Suite: s, Generation: g, Member: m}, true
		}
	}
	return Demand{}, false
}

// contentRef is what the member's content must be, as far as it is known.
func (d *Demand) contentRef() proto.Ref {
	if !d.Current {
		return proto.Ref{}
	}
	if d.Member.Ref.IsZero() {
		return d.Generation.known[d.Generation.byPath[d.Member.Path]].learned
	}
	return d.Member.Ref
}

// fill makes e the entry of the member.
func (d *Demand) fill(e *proto.Resolution, loc proto.Location) {
	*e = proto.Resolution{Listed: true, Mutable: !d.BySum, Generation: d.Generation.Date}
	e.Object.Class = proto.ClassMetadata
	d.Generation.fill(&e.Object, d.Member)
	if d.BySum && e.Object.Where.First != loc {
		d.Generation.nameFirst(&e.Object, d.Member, loc)
	}
}

// nameFirst has a member asked for by the name that a client uses, before the others.
func (g *Generation) nameFirst(w *proto.ObjectRequest, m *proto.Member, loc proto.Location) {
	info, ok := g.known[g.byPath[m.Path]]
	if !ok {
		info.where = g.whereOf(m)
	}
	w.Where = proto.Where{First: loc, Others: info.where}
}

// fillRoot makes e the entry of a file of the root; false if the generation does not have the file.
func (g *Generation) fillRoot(e *proto.Resolution, loc proto.Location, name string) bool {
	f, ok := g.File(name)
	if !ok {
		return false
	}
	*e = proto.Resolution{Listed: true, Mutable: true, Generation: g.Date, Modified: f.Modified}
	e.Object = proto.ObjectRequest{Ref: f.Ref, Where: proto.At(loc), Class: proto.ClassMetadata}
	return true
}

// resolveFile answers from what indexes list, or adds that to what a suite has answered (d).
func (a *Archive) resolveFile(e *proto.Resolution, loc proto.Location, d Demand) (Demand, bool) {
	found, listed, err := a.Files.Lookup(loc.Path)
	switch {
	case err != nil && d.Generation == nil:
		d.Err = err
		return d, false
	case err != nil, !listed, d.Generation != nil && found.Retained:
		return d, d.Generation != nil
	case d.Current:
		accept(&e.Object, found.Ref)
		for _, ref := range found.Others {
			accept(&e.Object, ref)
		}
		return d, true
	}
	*e = proto.Resolution{Listed: true, Mutable: len(found.Others) > 0}
	e.Object = proto.ObjectRequest{Ref: found.Ref, SHA512: found.SHA512, Others: found.Others, Where: proto.At(loc), Class: proto.ClassPackage}
	return Demand{}, true
}

// accept adds a content to those that are as right as the first.
func accept(w *proto.ObjectRequest, ref proto.Ref) {
	if ref.IsZero() || ref.Digest == w.Ref.Digest || len(w.Others) >= MaxContents-1 {
		return
	}
	for _, other := range w.Others {
		if other.Digest == ref.Digest {
			return
		}
	}
	w.Others = append(w.Others, ref)
}
