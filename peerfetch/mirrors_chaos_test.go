package peerfetch

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/proto"
	"github.com/aptmesh/aptmesh/proto/bubble"
)

// TestAnyMirrorAnything has the mirrors of an archive lie, stall, break and recover as
// the dice say, under clients of one node or of three. Nobody gets a wrong body, nothing
// wrong is kept, and no honest mirror is accused. Where one mirror stays honest all the
// time, everybody has everything in a few tries; and when all are well again, everybody
// has everything.
func TestAnyMirrorAnything(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for run := range uint64(16) {
		t.Run(fmt.Sprint(run), func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) { anyMirror(t, &dice{rng: rand.New(rand.NewPCG(seed, run))}) })
		})
	}
}

func anyMirror(t *testing.T, dice *dice) {
	kinds := objects()
	contents := make(map[string][]byte)
	for i := range kinds {
		contents[kinds[i].name] = kinds[i].content
		kinds[i].object.Where = proto.At(proto.Location{Archive: "a", Path: kinds[i].name})
	}
	archive := newArchiveOf(1+dice.n(4), contents)
	archive.blind = dice.n(2) == 0
	c := newCluster(t, five[:1+2*dice.n(2)], nil)
	archive.serveBy(c.up)
	fickle := archive.names
	anchored := dice.n(3) > 0
	if anchored {
		fickle = fickle[:len(fickle)-1] // the last one to be asked is always honest
	}

	stop := make(chan struct{})
	var weather, clients sync.WaitGroup
	for _, name := range fickle {
		weather.Go(func() {
			for {
				archive.fault(anyMirrorFault(dice), name)
				select {
				case <-time.After(dice.upTo(400 * time.Millisecond)):
				case <-stop:
					archive.fault(nil, name)
					return
				}
			}
		})
	}
	for _, n := range c.nodes {
		for range 4 {
			clients.Go(func() {
				for range 12 {
					time.Sleep(dice.upTo(200 * time.Millisecond))
					o := kinds[dice.n(len(kinds))]
					if dice.n(2) == 0 {
						for _, holder := range c.nodes {
							holder.evict(proto.DigestOf(o.content))
						}
					}
					if err := n.insist(o); err != nil && anchored {
						t.Errorf("%s was not had of %d mirrors: %v", o.name, len(archive.names), err)
					}
				}
			})
		}
	}
	clients.Wait()
	close(stop)
	weather.Wait()
	time.Sleep(time.Minute) // longer than anything that failed is held against anybody
	for _, n := range c.nodes {
		for _, o := range kinds {
			_, err := n.expect(o.content, o.object)
			if retryAfter(err) > 0 { // what an earlier flight had left was wrong: the client comes again
				time.Sleep(retryAfter(err))
				_, err = n.expect(o.content, o.object)
			}
			if err != nil {
				t.Errorf("when all mirrors were well again: %s on %s: %v", o.name, n.name, err)
			}
		}
	}
	checkBlames(t, c.up, fickle)
	total, _ := archive.requests()
	t.Logf("%d mirrors, anchored %v, %d requests, blamed %q", len(archive.names), anchored, total, c.up.blames())
	c.check(t)
	c.close()
}

// insist reads an object as apt does, some times if need be.
func (n *node) insist(o object) error {
	var err error
	for range 10 {
		if _, err = n.expect(o.content, o.object); err == nil {
			return nil
		}
		wait := time.Second
		if busy := (*proto.Unavailable)(nil); errors.As(err, &busy) && busy.RetryAfter > 0 {
			wait = busy.RetryAfter
		}
		time.Sleep(wait)
	}
	return err
}

// anyMirrorFault is what a mirror does for a while; nil: what it should. Of an unlisted
// file it tells no lie, for nobody could know.
func anyMirrorFault(dice *dice) mirrorFault {
	at := int64(dice.n(150_000))
	faults := []mirrorFault{
		nil, nil,
		says(errPathless), says(errAnswered), says(proto.ErrNotFound), says(&proto.Refused{Status: 403}),
		says(fmt.Errorf("%w: a page", proto.ErrCorrupt)),
		breaksAt(at), breaksAt(0), breaksAt(dice64(dice, 5000)),
		onMirrorBody(func(body io.Reader, r proto.Request) io.Reader {
			return io.MultiReader(io.LimitReader(body, max(at-r.Offset, 0)), &late{time.Second, errBroken})
		}),
		ofListed(anotherLength), ofListed(corruptAt(at)), ofListed(corruptAt(dice64(dice, 5000))),
		ofListed(both(corruptAt(at/2), breaksAt(at))),
	}
	return faults[dice.n(len(faults))]
}

func dice64(dice *dice, n int) int64 { return int64(dice.n(n)) }

func ofListed(f mirrorFault) mirrorFault {
	return func(a answer, r proto.Request) answer {
		if r.Loc.Path == "unlisted" {
			return a
		}
		return f(a, r)
	}
}
