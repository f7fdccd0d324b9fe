package catalog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta"
	"github.com/aptmesh/aptmesh/proto"
)

// rootTimeout bounds the reading of a root, so that an upstream that drips bytes
// cannot hold the checks of a suite for ever; nextTimeout does where there is another
// mirror to ask: at a slow 32 KiB/s the largest of Ubuntu's InReleases takes less.
const (
	rootTimeout = 2 * time.Minute
	nextTimeout = 10 * time.Second
)

// query is one question to one mirror for a suite's root.
type query struct {
	mirror  string        // "" for whichever there is
	held    *generation   // may be nil
	whole   bool          // the root is wanted even where it is one that is known to be older
	timeout time.Duration // for all of the files that it takes
}

// fetchRoot asks one mirror for the root; nil if it is the one we hold. Where the
// mirror still has one that it is known to be behind with, the error is that of an
// older Release, and no body has moved.
func (s *suite) fetchRoot(q query) (*candidate, error) {
	ctx, cancel := context.WithTimeoutCause(s.ctx, q.timeout,
		&proto.Unavailable{Reason: fmt.Sprintf("the Release of %s was not complete after %s", s.id, q.timeout)})
	defer cancel()
	root, v, err := s.fetchSmall(ctx, "InRelease", q)
	if errors.Is(err, proto.ErrNotFound) {
		return s.fetchDetached(ctx, q)
	}
	if err != nil || root == nil {
		return nil, err
	}
	cand, err := s.candidateOf(root, nil, v, q.mirror)
	if errors.Is(err, aptmeta.ErrNotSigned) || errors.Is(err, aptmeta.ErrBadSignature) {
		return nil, &lied{err}
	}
	return cand, err
}

// lied is that a mirror gave bytes as InRelease that nobody can have signed so: a page,
// or a Release that was tampered with. (That of a key which is not known to us may be
// good all the same, and a Release beside its signature may be on the way.)
type lied struct{ error }

func (l *lied) Unwrap() error { return l.error }

// fetchDetached reads Release and Release.gpg where a mirror has no InRelease: both
// from the same one, for they change one after the other.
func (s *suite) fetchDetached(ctx context.Context, q query) (*candidate, error) {
	root, v, err := s.fetchSmall(ctx, "Release", q)
	if err != nil {
		return nil, fmt.Errorf("upstream has no InRelease: %w", err)
	}
	if root == nil {
		return nil, nil
	}
	signature, _, err := s.fetchSmall(ctx, "Release.gpg", query{mirror: q.mirror})
	switch {
	case errors.Is(err, proto.ErrNotFound) && !s.unsigned():
		// Not "not found": there is a Release, and the operator must know.
		return nil, refused("signature", "%s has a Release, but neither InRelease nor Release.gpg: it is not signed (to accept it all the same: `unsigned: true`)", s.id)
	case errors.Is(err, proto.ErrNotFound):
		signature = nil
	case err != nil:
		return nil, fmt.Errorf("upstream has no InRelease: %w", err)
	}
	return s.candidateOf(root, signature, v, q.mirror)
}

func (s *suite) candidateOf(root, signature []byte, v validators, mirror string) (*candidate, error) {
	cand, err := s.newCandidate(root, signature, v)
	if err != nil {
		return nil, err
	}
	cand.mirror = mirror
	return cand, nil
}

// fetchSmall reads one of the three root files; nil bytes if it is the root of q.held.
func (s *suite) fetchSmall(ctx context.Context, name string, q query) ([]byte, validators, error) {
	req := proto.Request{Loc: s.id.At(name), Class: proto.ClassMetadata, Mirror: q.mirror}
	if s.offline() {
		return nil, validators{}, s.errOffline()
	}
	known := s.conditionFor(name, q)
	req.IfNoneMatch, req.IfModifiedSince = known.ETag, known.Modified
	t, err := s.c.cfg.Upstream.Fetch(ctx, req)
	if err != nil {
		return nil, validators{}, fmt.Errorf("read %s: %w", req.Loc, orCause(ctx, err))
	}
	if t.NotModified {
		if t.Body != nil {
			t.Body.Close()
		}
		switch {
		case req.IfNoneMatch == "" && req.IfModifiedSince.IsZero():
			return nil, validators{}, &proto.Unavailable{Reason: fmt.Sprintf("read %s: upstream says 304 to a request without conditions", req.Loc)}
		case known.Root != q.held.Root:
			return nil, validators{}, s.older(mirrorName(q.mirror), known.Date, q.held.Date)
		}
		return nil, validators{}, nil
	}
	b, err := readRoot(t)
	if err != nil {
		return nil, validators{}, fmt.Errorf("read %s: %w", req.Loc, orCause(ctx, err))
	}
	return b, validators{Name: name, Root: refOfBytes(b), ETag: t.ETag, Modified: t.Modified}, nil
}

// orCause says why ctx ended, if that is what made err.
func orCause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

func refOfBytes(b []byte) proto.Ref {
	return proto.Ref{Digest: proto.DigestOf(b), Size: int64(len(b))}
}

func readRoot(t *proto.Transfer) ([]byte, error) {
	defer t.Body.Close()
	b, err := io.ReadAll(io.LimitReader(t.Body, maxRoot+1))
	var typed *proto.Unavailable
	switch {
	case errors.As(err, &typed) || errors.Is(err, proto.ErrCorrupt):
		return nil, err
	case err != nil:
		return nil, &proto.Unavailable{Reason: "the transfer broke", Err: err}
	case len(b) > maxRoot:
		return nil, refused("corrupt", "it is larger than %d MiB", maxRoot>>20)
	case t.Size != proto.UnknownSize && t.Size != int64(len(b)):
		return nil, &proto.Unavailable{Reason: fmt.Sprintf("it ended after %d of %d bytes", len(b), t.Size)}
	}
	return b, nil
}
