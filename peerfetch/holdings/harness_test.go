package holdings

import (
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/aptmesh/aptmesh/proto"
)

// digest is the same for the same i, and as evenly spread as real ones, for less:
// the finish of splitmix64.
func digest(i int) (d proto.Digest) {
	x := uint64(i+1) * 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	binary.BigEndian.PutUint64(d[:], x^x>>31)
	return d
}

func localOf(n int) *Local {
	l := NewLocal()
	for i := range n {
		l.Add(digest(i))
	}
	return l
}

func random(t *testing.T) *rand.Rand {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 1))
}

// follower is a Remote with the Cursor it hears.
type follower struct {
	*Cursor
	*Remote
	begins, updates int
}

func newFollower(l *Local) *follower { return &follower{Cursor: l.Follow(), Remote: NewRemote()} }

// step takes one Update, if there is one before ctx ends.
func (f *follower) step(ctx context.Context, t *testing.T) bool {
	t.Helper()
	u, err := f.Next(ctx)
	if err != nil {
		if ctx.Err() == nil || !errors.Is(err, ctx.Err()) {
			t.Fatalf("Next: %v", err)
		}
		return false
	}
	if len(u.Filter) > maxPiece || len(u.Added)+len(u.Removed) > maxBatch {
		t.Errorf("an update of %d bytes and %d changes", len(u.Filter), len(u.Added)+len(u.Removed))
	}
	f.updates++
	if u.Begin {
		f.begins++
	}
	if err := f.Apply(u); err != nil {
		t.Fatalf("Apply: %v", err)
	}
	return true
}

// catchUp takes all there is to hear by now.
func (f *follower) catchUp(t *testing.T) {
	t.Helper()
	for f.behind() {
		f.step(t.Context(), t)
	}
}

func (f *follower) behind() bool {
	f.l.mu.Lock()
	defer f.l.mu.Unlock()
	return !f.begun || len(f.unsent) > 0 || f.l.staleLocked(f.since) || f.next < f.l.nowLocked()
}

// mustAgree holds what the follower believes against what is so: nothing held may
// be missing, and of 0..n next to nothing more may be believed.
func (f *follower) mustAgree(t *testing.T, l *Local, n int) {
	t.Helper()
	wrong, absent := 0, 0
	for i := range n {
		d := digest(i)
		stored, believed := l.Has(d), f.Has(d)
		switch {
		case stored && !believed:
			t.Fatalf("digest %d of %d is held, and not believed to be", i, n)
		case !stored:
			absent++
			if believed {
				wrong++
			}
		}
	}
	if wrong > 5+absent/500 {
		t.Errorf("%d of %d that are not held are believed to be", wrong, absent)
	}
	if f.Remote.Len() != l.Len() {
		t.Errorf("%d blobs are held, %d were told of", l.Len(), f.Remote.Len())
	}
}
