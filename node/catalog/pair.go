package catalog

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta"
	"github.com/aptmesh/aptmesh/proto"
)

// touchPair notes that a client wants Release or Release.gpg beside an InRelease:
// they are staged with each generation from then on.
func (s *suite) touchPair(now time.Time) { s.pairUse.touch(now) }

// errSkew is upstream's Release not saying what the InRelease says: the three
// root files change one after the other when an archive publishes.
var errSkew = errors.New("upstream's Release and InRelease are of different generations")

// readPair fetches Release and Release.gpg from one mirror, that of the InRelease if it
// can be, and proves that they say what text, the signed text of the InRelease, says.
// The bytes are kept in the store. It is a skew where one mirror has one.
func (s *suite) readPair(text []byte, of string) (*proto.Pair, error) {
	var answers []answer
	mirrors := s.toAskForPair(of)
	for i, mirror := range mirrors {
		timeout := nextTimeout
		if i == len(mirrors)-1 {
			timeout = rootTimeout
		}
		p, err := s.readPairFrom(text, mirror, timeout)
		if err == nil {
			return p, nil
		}
		answers = append(answers, answer{mirror, err})
		if s.ctx.Err() != nil {
			break
		}
	}
	for _, a := range answers {
		if errors.Is(a.err, errSkew) {
			return nil, a.err
		}
	}
	return nil, verdict(answers)
}

func (s *suite) readPairFrom(text []byte, mirror string, timeout time.Duration) (*proto.Pair, error) {
	ctx, cancel := context.WithTimeoutCause(s.ctx, timeout,
		&proto.Unavailable{Reason: fmt.Sprintf("Release and Release.gpg of %s were not complete after %s", s.id, timeout)})
	defer cancel()
	release, v, err := s.fetchSmall(ctx, "Release", query{mirror: mirror})
	if err != nil {
		return nil, err
	}
	if !aptmeta.SameText(release, text) {
		return nil, errSkew // the other file cannot fit either
	}
	signature, signed, err := s.fetchSmall(ctx, "Release.gpg", query{mirror: mirror})
	if err != nil {
		return nil, err
	}
	return s.keepPair(text, release, signature, v.Modified, signed.Modified)
}

// toldPair reads the pair from nodes that hold it, and proves the same of it.
func (s *suite) toldPair(text []byte, told proto.Pair, from []string) (*proto.Pair, error) {
	if told.Release.IsZero() || told.Signature.IsZero() {
		return nil, errNoPair
	}
	release, err := s.openTold(told.Release, "Release", from)
	if err != nil {
		return nil, err
	}
	signature, err := s.openTold(told.Signature, "Release.gpg", from)
	if err != nil {
		return nil, err
	}
	return s.keepPair(text, release, signature, s.plausible(told.Modified), s.plausible(told.Signed))
}

// errNoPair is that other nodes tell of no pair.
var errNoPair = errors.New("no other node tells of a Release and Release.gpg")

// keepPair proves a pair and puts it into the store.
func (s *suite) keepPair(text, release, signature []byte, modified, signed time.Time) (*proto.Pair, error) {
	if !aptmeta.SameText(release, text) {
		return nil, errSkew
	}
	if _, _, err := s.verify(release, signature); err != nil {
		return nil, fmt.Errorf("%w: %w", errSkew, err)
	}
	p := &proto.Pair{Modified: modified, Signed: signed}
	var err error
	if p.Release, err = s.c.cfg.Keeper.Put(release, modified); err != nil {
		return nil, err
	}
	if p.Signature, err = s.c.cfg.Keeper.Put(signature, signed); err != nil {
		return nil, err
	}
	return p, nil
}

// stagePair readies the pair with a candidate, if clients use it: from the nodes that
// offer the candidate, or else from upstream.
func (s *suite) stagePair(cand *candidate) error {
	if cand.gen.detached() || !s.pairWanted(s.c.cfg.Now()) {
		return nil
	}
	p, err := s.toldPair(cand.text, cand.pair, cand.from)
	if errors.Is(err, errNoPair) && len(cand.from) > 0 && !s.leads() {
		p, err = s.askForPair(cand.gen.Root, cand.text) // a hint does not tell
	}
	if err != nil {
		p, err = s.readPair(cand.text, cand.mirror)
	}
	if err != nil {
		if errors.Is(err, proto.ErrNotFound) {
			return nil // upstream has stopped keeping them
		}
		return err
	}
	cand.gen.pair = p
	return nil
}

// fetchPair brings the pair of the current generation in because a client asks for
// it. proto.ErrNotFound where there is none.
func (s *suite) fetchPair(ctx context.Context) error {
	s.touchPair(s.c.cfg.Now())
	return s.attachShared(ctx, s.leads())
}

// readyPair is fetchPair for another node: no third one is asked, and what came of it
// the news will tell.
func (s *suite) readyPair(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, s.c.cfg.CheckWait)
	defer cancel()
	s.attachShared(ctx, true)
}

// attachShared is attachPair for all who want it at one time. Those who wait for
// another node are apart from those whom another node waits for.
func (s *suite) attachShared(ctx context.Context, direct bool) error {
	key := "through the node that leads"
	if direct {
		key = "from upstream"
	}
	result := make(chan error, 1)
	started := s.c.spawn(func() {
		_, err, _ := s.pairing.Do(key, func() (any, error) { return nil, s.attachPair(direct) })
		result <- err
	})
	if !started {
		return errClosed
	}
	select {
	case err := <-result:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (s *suite) attachPair(direct bool) error {
	held := s.held()
	switch {
	case held.detached():
		return proto.ErrNotFound
	case held.pair != nil:
		return nil
	}
	var p *proto.Pair
	err := errNoPair
	if !direct {
		p, err = s.pairThroughLeader(held)
	}
	if err != nil {
		p, err = s.pairOf(held)
	}
	if errors.Is(err, errSkew) && (!direct || s.leads()) {
		// Upstream may have published since we looked: then the new generation
		// brings its pair along.
		s.checkNow(s.ctx, false, true)
		if held = s.held(); held.pair != nil {
			return nil
		}
		p, err = s.pairOf(held)
	}
	if errors.Is(err, errSkew) {
		return &proto.Unavailable{Reason: fmt.Sprintf("%s is being published upstream", s.id), RetryAfter: 5 * time.Second, Err: err}
	}
	if err != nil {
		return err
	}
	if !s.addPair(held.Root, p) {
		return nil // flipped meanwhile; the next request asks again
	}
	s.c.compose(s.id.Archive)
	s.saveOrWarn()
	return nil
}

func (s *suite) pairThroughLeader(held *generation) (*proto.Pair, error) {
	text, err := s.textOf(held)
	if err != nil {
		return nil, err
	}
	return s.askForPair(held.Root, text)
}

// askForPair has the node that leads bring the pair of a root in, so that it is read
// from upstream once. text is what the root says.
func (s *suite) askForPair(root proto.Ref, text []byte) (*proto.Pair, error) {
	ctx, cancel := context.WithTimeout(s.ctx, toldTimeout)
	defer cancel()
	from, news, err := s.askLeader(ctx, false)
	if err != nil {
		return nil, err
	}
	s.c.Hear(from, news)
	if news.Generation.Root.Digest != root.Digest {
		return nil, errNoPair
	}
	return s.toldPair(text, news.Pair, []string{from})
}

// addPair gives the current generation its pair, if it is still the one of root.
func (s *suite) addPair(root proto.Ref, p *proto.Pair) bool {
	s.writing.Lock()
	defer s.writing.Unlock()
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if s.current.Root != root {
		return false
	}
	with := *s.current
	with.pair = p
	s.current = &with
	return true
}

// pairOf reads the pair that goes with the generation's InRelease from upstream.
func (s *suite) pairOf(g *generation) (*proto.Pair, error) {
	text, err := s.textOf(g)
	if err != nil {
		return nil, err
	}
	return s.readPair(text, "")
}

// textOf is the signed text of a generation whose root is an InRelease.
func (s *suite) textOf(g *generation) ([]byte, error) {
	root, err := s.c.readBlob(g.Root)
	if err != nil {
		return nil, fmt.Errorf("read the InRelease held: %w", err)
	}
	text, _, err := s.verify(root, nil)
	return text, err
}
