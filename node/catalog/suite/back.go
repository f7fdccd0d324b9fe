package suite

import (
	"errors"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// A publisher may take back what it has published, and some clients accept that without a word. A
// root that is older than the current one is taken when all mirrors have shown older ones for
// Config.AcceptOlder: a mirror that lags behind is not enough. From then on it counts as newer than
// what was taken back (proto.Back), on all nodes and over restarts; so a mirror or a node that still
// has that brings it back only in the same way, when all mirrors have shown it for as long.
//
// Where a witness vouches for roots, it has to name the root as the current one: mirrors alone prove
// nothing there, and a mirror with an earlier root that the witness still lets pass only lags.
//
// A node that hears of it from another one does not wait as long again: it takes the root when the
// leader's word is enough, or when its own check of upstream brings the same root.

// noteOlder notes, at the end of a check, whether all mirrors show older roots than the current one.
func (m *Machine) noteOlder(k *check) {
	switch {
	case k.err == nil || k.looked && m.newestOlder() == nil:
		m.olderSince = Never
	case k.looked && (m.olderSince == Never || m.fresh.Good > m.olderSince):
		m.olderSince = m.at.Mono
	}
}

// mayGoBack is what a check may go back to: the root that other nodes have gone back to and that
// upstream has to prove, or the newest that the mirrors show, if all have shown older ones for long
// enough.
func (m *Machine) mayGoBack() (target proto.Digest, back proto.Back) {
	if o := m.proving; o != nil && !o.gen.Back.IsZero() {
		return o.gen.Statement, o.gen.Back
	}
	if m.cfg.AcceptOlder <= 0 || m.olderSince == Never || m.fresh.Good > m.olderSince || m.at.Mono.Sub(m.olderSince) < m.cfg.AcceptOlder {
		return proto.Digest{}, proto.Back{}
	}
	if st := m.newestOlder(); st != nil {
		return st.Statement, m.backNow()
	}
	return proto.Digest{}, proto.Back{}
}

// backNow takes back all that is not newer than what is known to have been current.
func (m *Machine) backNow() proto.Back {
	b := proto.Back{From: m.floor, At: m.at.Wall.UTC().Truncate(time.Second)}
	if m.current != nil {
		b.From = m.current.Gen.Age()
		if earliest := m.current.Gen.Back.At.Add(time.Second); b.At.Before(earliest) {
			b.At = earliest
		}
	}
	return b
}

// newestOlder is the newest root that a mirror shows, if all show older ones than the current root,
// and if no witness names another one as current.
// A mirror that is down counts with what it showed last, and one that has never shown a root, or
// says that it has none, does not count.
func (m *Machine) newestOlder() (newest *standing) {
	for _, name := range m.at.Mirrors {
		st, ok := m.book.known[name]
		switch {
		case !ok:
			return nil // not asked yet
		case st.date.IsZero() || errors.Is(st.err, proto.ErrNotFound):
		case !m.isOlder(proto.Generation{Statement: st.Statement, Root: st.Root, Date: st.date}):
			return nil
		case !st.superseded && (newest == nil || st.date.After(newest.date)):
			newest = st
		}
	}
	return newest
}

// isOlder reports whether a root is ordered before what this node has, or had last.
func (m *Machine) isOlder(g proto.Generation) bool {
	if m.current == nil {
		return g.Age().Before(m.floor)
	}
	return m.current.Gen.Compare(g) == proto.Past
}

// letsBack reports whether a check lets a root in although it is older.
func (k *check) letsBack(c *Candidate) bool {
	return k.older || !k.target.IsZero() && k.target == c.Gen.Statement && !c.Manifest.Superseded
}

// goBack makes a root that a check lets in count as newer than what is taken back by it.
func (m *Machine) goBack(k *check, c *Candidate) {
	switch {
	case !k.target.IsZero() && k.target == c.Gen.Statement:
		c.Gen.Back = k.back
	case m.cfg.AcceptOlder > 0 && m.isOlder(c.Gen): // an operator's word
		c.Gen.Back = m.backNow()
	}
}

// checkBack drops what a node says of going back where this one goes back for nobody, or where it
// would outlast all that is published from now on.
func (m *Machine) checkBack(g *proto.Generation) {
	if m.cfg.AcceptOlder <= 0 || m.ahead(g.Back.From) {
		g.Back = proto.Back{}
	}
}
