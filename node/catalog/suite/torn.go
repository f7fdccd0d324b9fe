package suite

import (
	"slices"

	"github.com/aptmesh/aptmesh/proto"
)

// A publisher replaces a root and the signature beside it one after the other. Where a key vouches for
// the root, a check that comes in between brings nothing that is trusted. Where none does, the format
// still sees that the signature was made for other bytes (Manifest.Torn), and hosts that have the key
// would refuse the pair. So it waits, for Config.Patience at most: no publication takes longer, and then
// hosts get the two as upstream has them.

// waitForPair decides about a root that a mirror gives with the signature of another publication: it
// is an error while there is an earlier generation to serve. Without one the root is adopted at once,
// and hosts that ask for the signature have to wait for it.
func (m *Machine) waitForPair(c *Candidate) error {
	if len(c.From) > 0 {
		return nil // the node that offers it has waited
	}
	if c.Manifest.Torn == "" {
		m.tornSince = Never
		return nil
	}
	if m.tornSince == Never {
		m.tornSince = m.at.Mono
	}
	switch {
	case m.at.Mono.Sub(m.tornSince) >= m.cfg.Patience:
		return nil
	case m.current != nil:
		m.emit(Count{What: CountIncomplete})
		return refuse(KindTorn, "the root of %s waits at most %s: the %s beside it is that of another publication (mirror sync in progress?)", stamp(c.Gen.Date), m.cfg.Patience, c.Manifest.Torn)
	}
	c.Gen.Companions = slices.Clone(c.Gen.Companions)
	for i := range c.Gen.Companions {
		if c.Gen.Companions[i].Name == c.Manifest.Torn {
			c.Gen.Companions[i] = proto.Companion{Name: c.Manifest.Torn, Proof: true} // not known
		}
	}
	return nil
}

// betterNone reports whether the answer of a mirror, nil where it has nothing newer, is no reason to
// forget what an earlier mirror of the same check has shown: a newer root that has to wait.
func (m *Machine) betterNone(cand *Candidate, earlier answer) bool {
	st := m.book.known[earlier.mirror]
	switch {
	case incomplete(earlier.err):
		// Another mirror with the same root does not help: staging has tried all mirrors.
		return cand == nil || !m.betterThan(cand, earlier.mirror)
	case !isKind(earlier.err, KindTorn) || st == nil:
		return false
	case cand == nil:
		return m.current != nil && st.Statement != m.current.Gen.Statement
	}
	return cand.Gen.Date.Before(st.date)
}

// tearsPair reports whether a candidate only brings the signature of another publication beside the
// current root, of which this node has one that fits.
func (m *Machine) tearsPair(c *Candidate) bool {
	fits, ok := m.current.Gen.Companion(c.Manifest.Torn)
	return c.Manifest.Torn != "" && m.current.Manifest.Torn == "" && ok && fits.Known()
}
