package catalog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// follow goes after what was heard of until there is nothing left to be done now.
func (s *suite) follow() {
	for {
		unproven, err := s.adoptHeard()
		if unproven == nil || err != nil {
			return
		}
		s.prove(unproven)
	}
}

// adoptHeard adopts the newest of the generations that other nodes have told of. One
// that cannot be had or is not trusted is no error: the node that told of it is named
// in the log, and not listened to for a while. It returns one that no node's word
// will do for.
func (s *suite) adoptHeard() (unproven *offer, err error) {
	if err := s.following.take(s.ctx); err != nil {
		return nil, err
	}
	defer s.following.give()
	for {
		o, _ := s.nextOffer()
		if o == nil || s.ctx.Err() != nil {
			return nil, nil
		}
		err := s.adoptOffer(o)
		var lie *fault
		switch {
		case err == nil:
			s.adopted(o)
		case errors.Is(err, errUnproven):
			return o, nil
		case errors.As(err, &lie):
			// (Unless a newer one has been adopted meanwhile: then nobody has lied.)
			if s.weigh(s.held(), o.gen, o.checked) == "newer" {
				s.blame(o, lie)
			}
		default:
			s.postpone(o, err)
			return nil, err
		}
	}
}

// prove looks at upstream for a generation that a node's word will not do for.
func (s *suite) prove(o *offer) {
	select {
	case <-time.After(checkPause - s.sinceTry(s.c.cfg.Now(), true)):
	case <-s.ctx.Done():
		return
	}
	k := directCheck(false)
	k.proof = true
	for {
		if s.weigh(s.held(), o.gen, o.checked) != "newer" {
			return // somebody else has looked
		}
		running := s.join(k)
		err := running.wait(s.ctx)
		if s.ctx.Err() != nil {
			return
		}
		if running.direct {
			s.proven(o, err)
			return
		}
	}
}

func (s *suite) proven(o *offer, err error) {
	held := s.held()
	switch {
	case held != nil && held.Root.Digest == o.gen.Root.Digest:
		s.adopted(o)
	case err != nil:
		s.postpone(o, err)
	default:
		s.blame(o, &fault{"refused", errors.New("upstream has another Release, and the signature alone does not tell which is this suite's")})
	}
}

// errUnproven is that a signature does not tell whether a Release is one of this
// suite: then upstream has to.
var errUnproven = errors.New("only upstream can tell whether it is this suite's")

// fault is why a node's news is not believed.
type fault struct {
	kind string // for the metric
	err  error
}

func (f *fault) Error() string { return f.err.Error() }
func (f *fault) Unwrap() error { return f.err }

// adoptOffer fetches the root that was told of, and adopts it. A *fault is the
// tellers'.
func (s *suite) adoptOffer(o *offer) error {
	if s.unsigned() {
		return errUnproven
	}
	cand, err := s.offered(o)
	if err != nil {
		return err
	}
	err = s.adopt(cand, false)
	s.letGo(err)
	var r *refuse
	if errors.As(err, &r) && (r.kind == "older" || r.kind == "future") {
		return &fault{"refused", err}
	}
	return err
}

// offered fetches and verifies the root that was told of.
func (s *suite) offered(o *offer) (*candidate, error) {
	name := "InRelease"
	if !o.gen.Signature.IsZero() {
		name = "Release"
	}
	root, err := s.openTold(o.gen.Root, name, o.from)
	if err != nil {
		return nil, err
	}
	var signature []byte
	if !o.gen.Signature.IsZero() {
		if signature, err = s.openTold(o.gen.Signature, "Release.gpg", o.from); err != nil {
			return nil, err
		}
	}
	cand, err := s.newCandidate(root, signature, validators{Modified: s.plausible(o.gen.Modified)})
	if err != nil {
		return nil, &fault{"refused", err}
	}
	cand.validators = validators{} // upstream has not given any to this node
	cand.from, cand.pair = o.from, o.pair
	return cand, s.mayBring(cand, o)
}

// plausible is a Last-Modified that another node tells, or none where it lies so far
// ahead that upstream's clock can hardly be it: clients would be told for so long
// that nothing has changed.
func (s *suite) plausible(modified time.Time) time.Time {
	if modified.After(s.c.cfg.Now().Add(24 * time.Hour)) {
		return time.Time{}
	}
	return modified
}

// mayBring decides what the signature does not: whether a candidate that another node
// offers is one of this suite, and where the Release has no Date, which it has.
func (s *suite) mayBring(cand *candidate, o *offer) error {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if cand.gen.undated {
		// The date that the node has ordered it by that saw it first.
		cand.gen.Date = o.gen.Date
		if now := s.c.cfg.Now().UTC().Truncate(time.Second); cand.gen.Date.After(now) {
			cand.gen.Date = now
		}
		if slices.ContainsFunc(s.retained, func(g *generation) bool { return g.Root == cand.gen.Root }) {
			return errUnproven // it may be played back
		}
	}
	names := cand.gen.release.names
	switch {
	case s.isTakenBack(cand.gen.Date):
		return errUnproven // the operator may have been overruled, by upstream only
	case s.current != nil && names == s.current.release.names:
		return nil
	case s.current == nil && s.id.Flat() && !s.c.elsewhere(s.id, cand.gen.Root):
		return nil // it may be anywhere
	case s.current == nil && !s.id.Flat() && names.fit(s.id):
		return nil
	}
	return errUnproven
}

// elsewhere reports whether a root is one of another suite of the archive.
// Catalog.mu is held.
func (c *Catalog) elsewhere(id proto.Suite, root proto.Ref) bool {
	for other, s := range c.suites {
		if other.Archive != id.Archive || other == id {
			continue
		}
		for _, g := range append(s.retained[:len(s.retained):len(s.retained)], s.current) {
			if g != nil && g.Root == root {
				return true
			}
		}
	}
	return false
}

// fit reports whether a suite with components is to be found in the directory by what
// its Release calls itself: by its Suite or its Codename; but one like
// "noble-security" shares its Codename with others.
func (n releaseNames) fit(id proto.Suite) bool {
	_, name, _ := strings.Cut("/"+id.Dir, "/dists/")
	first, _, _ := strings.Cut(name, "/") // "jessie/updates" calls itself jessie
	if n.suite == name || n.suite == first {
		return n.suite != ""
	}
	pocket := strings.HasPrefix(n.suite, n.codename+"-")
	return n.codename != "" && !pocket && (n.codename == name || n.codename == first)
}

// toldTimeout bounds the reading of a small file from the nodes that told of it.
const toldTimeout = 10 * time.Second

// openTold reads a root, or what goes with it, from the nodes that told of it. Its
// errors are *fault.
func (s *suite) openTold(ref proto.Ref, name string, from []string) ([]byte, error) {
	if ref.Size > maxRoot {
		return nil, &fault{"refused", fmt.Errorf("%s of %d bytes: larger than one may be", name, ref.Size)}
	}
	ctx, cancel := context.WithTimeout(s.ctx, toldTimeout)
	defer cancel()
	b, err := s.c.cfg.Blobs.Open(ctx, proto.Want{
		Ref: ref, Where: []proto.Location{s.id.At(name)}, Class: proto.ClassMetadata, Holders: from, PeersOnly: true,
	})
	if err != nil {
		return nil, &fault{"unreachable", fmt.Errorf("%s cannot be had: %w", name, err)}
	}
	defer b.Close()
	data, err := io.ReadAll(io.LimitReader(b.Reader(), maxRoot+1))
	switch {
	case err != nil:
		return nil, &fault{"unreachable", fmt.Errorf("%s cannot be had: %w", name, err)}
	case proto.DigestOf(data) != ref.Digest:
		return nil, &fault{"refused", fmt.Errorf("%s is not what was told of", name)}
	}
	return data, nil
}
