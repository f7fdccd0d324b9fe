package catalog

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta"
	"github.com/aptmesh/aptmesh/proto"
)

// maxRoot bounds an InRelease, Release or Release.gpg. Apt stops at 10 MB.
const maxRoot = aptmeta.MaxRelease

// candidate is a root that somebody offers, read and verified, not yet believed.
type candidate struct {
	gen        *generation
	text       []byte // what is signed
	root       []byte
	signature  []byte // of a Release root; nil with an InRelease
	signer     aptmeta.Signer
	validators validators // as upstream gave them with the root
	mirror     string     // that gave it; "" where nodes did
	// from are the nodes that offer it, and hold what it names; none where it is
	// upstream. pair is what they say its detached form is.
	from []string
	pair proto.Pair
}

// validators are what a conditional request for a root is made of.
type validators struct {
	Name     string    `json:"name"` // InRelease or Release
	Root     proto.Ref `json:"root"`
	ETag     string    `json:"etag,omitempty"`
	Modified time.Time `json:"modified,omitzero"`
}

// adopt is the one way a generation comes to be believed. cand has been read and
// verified by newCandidate.
func (s *suite) adopt(cand *candidate, older bool) error {
	if err := s.adopting.take(s.ctx); err != nil {
		return err
	}
	defer s.adopting.give()
	held := s.held()
	var before proto.Generation
	if held != nil {
		before = held.Generation
		if held.textSum == cand.gen.textSum && !held.detached() && cand.gen.detached() {
			// Upstream has lost its InRelease, or is about to write it. What it
			// says is what we hold.
			return nil
		}
	}
	switch order := before.Compare(cand.gen.Generation); {
	case order == proto.Same:
		return nil
	case order == proto.Past && !older:
		return s.older(cand.source(), cand.gen.Date, before.Date)
	case order == proto.Fork:
		if !s.settleFork(held, cand) {
			return nil
		}
	}
	if s.ahead(cand.gen.Date) {
		return refused("future", "the Release of %s is dated %s, %s ahead of this node's clock; apt would refuse it too",
			s.id, cand.gen.Date.Format(time.RFC3339), cand.gen.Date.Sub(s.c.cfg.Now()).Round(time.Second))
	}
	release, err := s.stage(cand)
	if err == nil {
		err = s.commit(cand)
	}
	release()
	if err != nil {
		return err
	}
	s.c.cleanLists(s.id.Archive)
	return nil
}

// source names who offers the candidate.
func (cand *candidate) source() string {
	if len(cand.from) > 0 {
		return "node " + cand.from[0]
	}
	return mirrorName(cand.mirror)
}

// older is the refusal of a Release that is older than the one held.
func (s *suite) older(source string, offered, held time.Time) error {
	return refused("older", "%s offers the Release of %s, older than ours of %s (a mirror that lags? if it was taken back on purpose: aptmesh refresh --allow-older %s)",
		source, offered.Format(time.RFC3339), held.Format(time.RFC3339), s.id)
}

// letGo ends the pins for staging, when what came of it is settled: of a candidate
// that is tried again soon, what has been staged is kept. Where another is being
// adopted at this moment, the pins are its own.
func (s *suite) letGo(err error) {
	if !s.adopting.try() {
		return
	}
	defer s.adopting.give()
	if s.pinned && (err == nil || s.ctx.Err() != nil) {
		s.unpinStaging()
	}
}

// settleFork decides between two roots of one date, on every node alike, and
// reports whether the offered one is taken.
func (s *suite) settleFork(held *generation, cand *candidate) bool {
	if held.textSum == cand.gen.textSum && held.detached() && !cand.gen.detached() {
		return true // the same Release, now also as an InRelease
	}
	if s.forked != cand.gen.Root {
		s.forked = cand.gen.Root
		s.c.metrics.forks.Inc()
		s.log.Error("two different Releases are signed with the same Date; the one with the higher digest is taken, on every node alike",
			"date", held.Date, "held", held.Root.Digest.String(), "offered", cand.gen.Root.Digest.String(), "by", cand.source(), "signer", cand.signer.Identity)
	}
	return held.ForkWinner(cand.gen.Generation)
}

func (s *suite) unsigned() bool {
	a, _ := s.c.archive(s.id.Archive)
	return a.Unsigned
}

// newCandidate checks the signature and reads what is signed, whoever brought it.
func (s *suite) newCandidate(root, signature []byte, v validators) (*candidate, error) {
	text, signer, err := s.verify(root, signature)
	if err != nil {
		return nil, refused("signature", "the Release of %s is not trusted: %w", s.id, err)
	}
	release, err := aptmeta.ParseRelease(text)
	if err != nil {
		return nil, refused("corrupt", "the Release of %s cannot be read: %w", s.id, err)
	}
	g := proto.Generation{Suite: s.id, Date: release.Date, Root: refOfBytes(root), Modified: v.Modified}
	if g.Date.IsZero() {
		// The best there is to order it by. A clock ahead of ours is not signed
		// and is no reason to refuse the Release.
		g.Date = s.c.cfg.Now().UTC().Truncate(time.Second)
		if !v.Modified.IsZero() && v.Modified.Before(g.Date) {
			g.Date = v.Modified
		}
	}
	if signature != nil {
		g.Signature = refOfBytes(signature)
	}
	cand := &candidate{gen: newGeneration(g, release), text: text, root: root, signature: signature, signer: signer, validators: v}
	cand.gen.undated = release.Date.IsZero()
	cand.gen.textSum = textSum(text)
	cand.gen.plain = signature == nil && !bytes.HasPrefix(bytes.TrimSpace(root), []byte("-----BEGIN PGP SIGNED MESSAGE"))
	return cand, nil
}

// textSum names what a Release says, whichever way it is signed: clearsigning
// does not keep white space at the end of lines (RFC 9580, section 7.2).
func textSum(text []byte) proto.Digest {
	h := sha256.New()
	for line := range bytes.Lines(bytes.TrimRight(text, " \t\r\n")) {
		h.Write(bytes.TrimRight(line, " \t\r\n"))
		h.Write([]byte{'\n'})
	}
	return proto.Digest(h.Sum(nil))
}

// verify returns the signed text of a root.
func (s *suite) verify(root, signature []byte) ([]byte, aptmeta.Signer, error) {
	a, ok := s.c.archive(s.id.Archive)
	switch {
	case !ok:
		return nil, aptmeta.Signer{}, errUnknownArchive
	case a.Unsigned && signature == nil:
		text, err := aptmeta.SplitInRelease(root)
		return text, aptmeta.Signer{}, err
	case a.Unsigned:
		return root, aptmeta.Signer{}, nil
	case a.Keyring == nil:
		return nil, aptmeta.Signer{}, fmt.Errorf("archive %q has no key (see `signed_by:`)", s.id.Archive)
	case signature != nil:
		signer, err := a.Keyring.VerifyDetached(root, signature, s.c.cfg.Now())
		return root, signer, err
	default:
		return a.Keyring.VerifyInRelease(root, s.c.cfg.Now())
	}
}

// keepRoot puts the root into the store.
func (s *suite) keepRoot(cand *candidate) error {
	if _, err := s.c.cfg.Keeper.Put(cand.root, cand.gen.Modified); err != nil {
		return fmt.Errorf("keep the Release of %s: %w", s.id, err)
	}
	if cand.signature != nil {
		if _, err := s.c.cfg.Keeper.Put(cand.signature, cand.gen.Modified); err != nil {
			return fmt.Errorf("keep the Release.gpg of %s: %w", s.id, err)
		}
	}
	return nil
}

// commit makes a staged candidate the current generation: first the durable
// pointer, then the view. From the swap on every request sees it, and none sees
// half of it.
func (s *suite) commit(cand *candidate) error {
	now := s.c.cfg.Now()
	before := s.held()
	staged := len(cand.gen.staged) // from the swap on others add to it
	retained, err := s.replaceCurrent(cand.gen, now)
	if err != nil {
		return fmt.Errorf("write the new generation of %s: %w", s.id, err)
	}
	s.unpinStaging()
	s.c.compose(s.id.Archive)
	s.catchUp(cand.gen)
	s.tellFlip(before, cand.gen)
	if before == nil {
		s.c.spawn(func() { s.takeInOthers(cand.gen) })
	}
	s.mu.Lock()
	s.changed, s.source, s.attempts = now, "", nil
	if len(cand.from) > 0 {
		s.source = cand.from[0]
	}
	s.mu.Unlock()

	s.c.metrics.flips.Inc()
	attrs := []any{"date", cand.gen.Date.Format(time.RFC3339), "root", cand.gen.Root.Digest.Short(), "staged", staged,
		"retained", retained, "behind", now.Sub(cand.gen.Date).Round(time.Second).String()}
	if cand.signer.KeyID != "" {
		attrs = append(attrs, "signer", cand.signer.KeyID)
	}
	if len(cand.from) > 0 {
		attrs = append(attrs, "from", cand.from[0])
	}
	s.log.Info("adopted a generation", attrs...)
	return nil
}

// catchUp takes in what clients asked for while g was being staged.
func (s *suite) catchUp(g *generation) {
	var late []*member
	s.c.mu.Lock()
	for path := range s.uses {
		_, staged := g.staged[path]
		_, missing := s.missing[path]
		if m, ok := g.members[path]; ok && !staged && !missing && m.provable() {
			late = append(late, m)
		}
	}
	s.c.mu.Unlock()
	for _, m := range late {
		s.c.takeIn(s, g, m, true)
	}
}

// replaceCurrent writes next down and makes it the current generation of the
// suite. It returns how many superseded ones are kept.
func (s *suite) replaceCurrent(next *generation, now time.Time) (int, error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	s.c.mu.Lock()
	retained := slices.DeleteFunc(slices.Clone(s.retained), func(g *generation) bool { return g.Root == next.Root })
	if s.current != nil {
		old := s.current.retained()
		old.superseded = now
		retained = slices.Insert(retained, 0, old)
	}
	retained = s.expire(retained, now)
	s.c.mu.Unlock()

	was := s.takenBack.Load()
	s.takenBack.Store(s.takenBackWith(next))
	if err := s.write(next, retained); err != nil {
		s.takenBack.Store(was)
		return 0, err
	}
	s.c.mu.Lock()
	s.current, s.retained = next, retained
	s.linkUses(next)
	s.c.mu.Unlock()
	s.pin()
	return len(retained), nil
}

// takenBackWith is what is remembered of an operator's going back once next is
// current: other nodes still hold the Release that he has gone back from, or one in
// between, and their word must not bring it back. Upstream's may. Unix seconds of its
// Date. suite.writing is held.
func (s *suite) takenBackWith(next *generation) int64 {
	before, held := s.takenBack.Load(), s.held()
	if held != nil && next.Date.Before(held.Date) {
		return max(before, held.Date.Unix())
	}
	if next.Date.Unix() >= before {
		return 0
	}
	return before
}

// expire drops retained generations that are too old or too many; the newest one
// always stays, for clients that are in the middle of an update.
func (s *suite) expire(retained []*generation, now time.Time) []*generation {
	kept := make([]*generation, 0, len(retained))
	for i, g := range retained {
		if i > 0 && (i >= s.c.cfg.RetainMax || now.Sub(g.superseded) > s.c.cfg.RetainFor) {
			continue
		}
		kept = append(kept, g)
	}
	return kept
}

// linkUses lets the members of a new generation go on with the use records of
// their paths. One that was asked for while the generation was being staged is
// left out: the next request takes it in. Catalog.mu is held.
func (s *suite) linkUses(g *generation) {
	for path, u := range s.uses {
		if _, staged := g.staged[path]; !staged {
			continue
		}
		u.had = true
		if m, ok := g.members[path]; ok {
			m.use.Store(u)
		}
	}
}

// readBlob reads a small object that the store must hold.
func (c *Catalog) readBlob(ref proto.Ref) ([]byte, error) {
	if ref.Size > maxRoot {
		return nil, fmt.Errorf("%s is larger than a root may be", ref)
	}
	b, err := c.cfg.Keeper.Get(ref.Digest)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	data, err := io.ReadAll(io.LimitReader(b.Reader(), maxRoot+1))
	if err != nil {
		return nil, err
	}
	if proto.DigestOf(data) != ref.Digest {
		return nil, fmt.Errorf("%s is damaged in the store: %w", ref, fs.ErrNotExist)
	}
	return data, nil
}

// open returns a verified member as a stream of its stored (compressed) bytes.
func (c *Catalog) open(ctx context.Context, m *member, holders ...string) (*proto.Blob, error) {
	want := m.want()
	want.Holders = holders
	return c.cfg.Blobs.Open(ctx, want)
}
