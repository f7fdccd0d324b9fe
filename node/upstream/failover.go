package upstream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/aptmesh/aptmesh/proto"
)

// failover is one Fetch over the mirrors of an archive.
type failover struct {
	client   *Client
	s        *settings
	archive  *archive
	req      proto.Request
	left     []*mirror
	failures []failedAttempt
}

// fetch asks the mirrors one at a time until one gives a body.
func (r *failover) fetch(ctx context.Context) (*proto.Transfer, error) {
	if t := r.atSite(ctx); t != nil {
		return t, nil
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	for m := r.next(); m != nil; m = r.next() {
		e := r.attempt(m, r.req)
		t, err := r.run(ctx, e)
		if err == nil {
			r.found(m)
			return t, nil
		}
		if errors.Is(err, errOtherMirrorFree) {
			r.left = append(r.left, m)
			continue
		}
		if ctx.Err() != nil || r.client.running.Err() != nil {
			return nil, err
		}
		r.failures = append(r.failures, failedAttempt{m, e.source, err})
	}
	if m := r.avoided(); m != nil {
		e := r.attempt(m, r.req)
		e.anyHost = true
		t, err := r.run(ctx, e)
		if err == nil || ctx.Err() != nil {
			return t, err
		}
		r.failures = append(slices.DeleteFunc(r.failures, func(f failedAttempt) bool { return f.mirror == m }), failedAttempt{m, e.source, err})
	}
	if m := r.unableToResume(); m != nil {
		whole := r.req
		whole.Offset = 0
		return r.try(ctx, m, whole)
	}
	if r.gone() {
		return r.past(ctx)
	}
	return nil, r.verdict()
}

// found notes which mirrors do not have an object that another mirror has.
func (r *failover) found(by *mirror) {
	for _, f := range r.failures {
		if errors.Is(f.err, proto.ErrNotFound) {
			r.client.lacks(f.source, r.req.Loc, r.req.Class == proto.ClassUnlisted, by.name)
		}
	}
}

// failedAttempt is the error of a mirror.
type failedAttempt struct {
	mirror *mirror
	source *health // the host that it redirected to, or itself
	err    error
}

// next returns the mirror to ask now, nil when all have been asked.
func (r *failover) next() *mirror {
	if len(r.left) == 0 {
		return nil
	}
	all := r.client.candidates(r.s, r.left, r.req)
	chosen := r.client.choose(all)
	for _, one := range all {
		// A healthy mirror serves this request, so the others are only probed.
		if one != chosen && (one.standing == halfOpen || one.standing == unhealthy && chosen.standing != healthy) {
			r.client.probe(r.s, r.archive, one.mirror, r.req)
		}
	}
	r.left = slices.DeleteFunc(slices.Clone(r.left), func(m *mirror) bool { return m == chosen.mirror })
	return chosen.mirror
}

// try asks one mirror, when it may be asked.
func (r *failover) try(ctx context.Context, m *mirror, req proto.Request) (*proto.Transfer, error) {
	return r.run(ctx, r.attempt(m, req))
}

// attempt is a request to one mirror.
func (r *failover) attempt(m *mirror, req proto.Request) *attempt {
	e := r.client.newAttempt(r.archive, m, req, r.left)
	if len(r.left) > 0 {
		e.otherMirrorFree = func() bool { return r.client.otherMirrorFree(r.s, e) }
	}
	return e
}

// run has a mirror asked, when it may be asked.
func (r *failover) run(ctx context.Context, e *attempt) (*proto.Transfer, error) {
	if err := e.mirror.health.admit(ctx); err != nil {
		return nil, err
	}
	return r.client.follow(ctx, r.s, e)
}

// avoided returns a mirror whose redirects were not followed because a better source was possible;
// nil if there is none.
func (r *failover) avoided() *mirror {
	for _, f := range r.failures {
		if errors.Is(f.err, errAvoided) {
			return f.mirror
		}
	}
	return nil
}

// unableToResume returns a mirror with an unusable answer to a Range request; nil if there is none.
func (r *failover) unableToResume() *mirror {
	for _, f := range r.failures {
		if errors.Is(f.err, errUselessRange) {
			return f.mirror
		}
	}
	return nil
}

// gone reports whether every mirror of the archive says "not found".
func (r *failover) gone() bool {
	for _, f := range r.failures {
		if !errors.Is(f.err, proto.ErrNotFound) {
			return false
		}
	}
	return len(r.failures) == len(r.archive.mirrors)
}

// verdict is the error of a Fetch that failed at every mirror. "Not found" is final for apt, so a
// single mirror that did not answer, or gave another answer, outweighs all the others.
func (r *failover) verdict() error {
	weight := func(err error) int {
		switch {
		case errors.As(err, new(*proto.Unavailable)):
			return 0
		case errors.Is(err, proto.ErrNotFound):
			return 3
		case errors.As(err, new(*proto.Refused)):
			return 2
		}
		return 1
	}
	worst := slices.MinFunc(r.failures, func(a, b failedAttempt) int { return cmp.Compare(weight(a.err), weight(b.err)) })
	var said []*proto.Unavailable
	for _, f := range r.failures {
		var busy *proto.Unavailable
		if errors.As(f.err, &busy) {
			said = append(said, busy)
		}
	}
	switch {
	case len(said) > 1:
		return r.unavailable(said)
	case len(r.failures) > 1 && errors.Is(worst.err, proto.ErrNotFound):
		return fmt.Errorf("%s: %w at any of %d mirrors", r.req.Loc, proto.ErrNotFound, len(r.failures))
	}
	return worst.err
}

// unavailable joins the errors of several mirrors. A retry makes sense when the first of them may
// be asked again. Another node would get the same answer only if every mirror did answer.
func (r *failover) unavailable(said []*proto.Unavailable) error {
	all := &proto.Unavailable{RetryAfter: said[0].RetryAfter, Answered: true}
	reasons := make([]string, len(said))
	causes := make([]error, 0, len(said))
	for i, one := range said {
		reasons[i] = one.Reason
		all.RetryAfter = min(all.RetryAfter, one.RetryAfter)
		all.Answered = all.Answered && one.Answered
		if one.Err != nil {
			causes = append(causes, one.Err)
		}
	}
	all.Reason = fmt.Sprintf("none of %d mirrors of %s could help: %s", len(r.archive.mirrors), r.archive.name, strings.Join(reasons, "; "))
	all.Err = errors.Join(causes...)
	return all
}
