package peerfetch

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/proto"
	"github.com/aptmesh/aptmesh/proto/bubble"
)

// TestAnythingAnywhere lets everything go wrong at once, under rings that differ:
// nodes refuse, hang, cut, lie and die, upstream does what it likes, clients come and
// go. Nobody gets a wrong body, nothing wrong is kept, no request takes a second hop,
// and everybody has an answer in the end.
func TestAnythingAnywhere(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for run := range uint64(8) {
		bubble.Test(t, func(t *testing.T) { anything(t, rand.New(rand.NewPCG(seed, run))) })
	}
}

// dice is a generator for many goroutines.
type dice struct {
	mu  sync.Mutex
	rng *rand.Rand
}

func (d *dice) n(n int) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.rng.IntN(n)
}

func (d *dice) upTo(most time.Duration) time.Duration {
	return time.Duration(d.n(int(most)))
}

func anything(t *testing.T, rng *rand.Rand) {
	dice := &dice{rng: rng}
	kinds := objects()
	contents := make(map[string][]byte)
	for i := range kinds {
		path := kinds[i].name
		contents[path] = kinds[i].content
		kinds[i].object.Where = proto.At(proto.Location{Archive: "a", Path: path})
	}
	// "large" and "named" are one object in two ways of naming it.
	healthy := trickling(contents)
	c := newCluster(t, five, func(i int, r proto.Request) answer {
		a := healthy(i, r)
		if a.same {
			return a
		}
		listed := r.Loc.Path != "unlisted"
		switch k := dice.n(12); {
		case k == 0:
			return answer{err: errPathless}
		case k == 1:
			return answer{err: errAnswered}
		case k == 2:
			a.body = &trickle{breakOff(contents[r.Loc.Path][r.Offset:][:dice.n(len(contents[r.Loc.Path])-int(r.Offset)+1)], errPathless)}
		case k == 3 && listed:
			a.body = &flipped{a.body, r.Offset, int64(dice.n(len(contents[r.Loc.Path])))}
		case k == 4 && listed:
			a.size++
		}
		return a
	}, func(cfg *Config) { cfg.Linger = 10 * time.Millisecond })

	rings := make(map[string][]string)
	common := shuffled(dice, five)
	for _, name := range five {
		rings[name] = common
		if dice.n(3) == 0 {
			rings[name] = shuffled(dice, five)[:dice.n(6)]
		}
	}
	c.ring = func(self string) []string { return rings[self] }
	c.noHealth = dice.n(2) == 0
	ways := make(map[string]time.Duration)
	for _, from := range five {
		for _, to := range five {
			ways[from+to] = dice.upTo(60 * time.Millisecond)
		}
		c.setFault(from, chaotic(dice))
	}
	c.latency = func(from, to string) time.Duration { return ways[from+to] }

	var all sync.WaitGroup
	for _, name := range five {
		for range 6 {
			all.Go(func() {
				for range 6 {
					time.Sleep(dice.upTo(200 * time.Millisecond))
					anyClient(t, c.nodes[name], kinds[dice.n(len(kinds))], dice)
				}
			})
		}
	}
	if dice.n(3) == 0 {
		all.Go(func() {
			time.Sleep(dice.upTo(time.Second))
			c.kill("c")
			c.nodes["c"].Close()
		})
	}
	all.Wait()
	c.check(t)
	c.close()
}

// anyClient does what one client may do.
func anyClient(t *testing.T, n *node, o object, dice *dice) {
	began := time.Now()
	object := o.object
	switch dice.n(10) {
	case 0:
		n.evict(object.Ref.Digest)
	case 1:
		object.PeersOnly = !object.Ref.IsZero()
		object.Holders = shuffled(dice, five)[:2]
	case 2:
		leaveEarly(n, o, dice)
		return
	}
	_, err := n.expect(o.content, object)
	if took := time.Since(began); took > time.Minute {
		t.Errorf("%s of %s took %s: %v", o.name, n.name, took, err)
	}
	if err != nil && !toldByUpstream(err) {
		t.Errorf("a client was told: %v", err)
	}
}

// leaveEarly reads a part and goes, or waits no longer than a moment.
func leaveEarly(n *node, o object, dice *dice) {
	ctx, cancel := context.WithTimeout(context.Background(), dice.upTo(100*time.Millisecond))
	defer cancel()
	blob, err := n.Open(ctx, o.object)
	if err != nil {
		return
	}
	defer blob.Close()
	got, _ := io.ReadAll(io.LimitReader(blob.Reader(), int64(dice.n(len(o.content)+1))))
	if !bytes.HasPrefix(o.content, got) && o.name == "small" {
		n.c.t.Errorf("%s gave a wrong part of a small body", n.name)
	}
}

// chaotic is a peer that does anything, but mostly what it should.
func chaotic(dice *dice) fault {
	faults := map[string]fault{"refuses": refuses, "blackholes": blackholes, "not held": saysNotHeld, "busy": saysBusy,
		"wrong size": wrongSize, "lengthens": lengthens, "pathless": reports(errPathless), "503": reports(errAnswered)}
	names := slices.Sorted(maps.Keys(faults))
	return func(ctx context.Context, a ask, honest func() (*proto.Transfer, error)) (*proto.Transfer, error) {
		at := int64(dice.n(150_000))
		listed := !a.Object.Ref.IsZero()
		switch k := dice.n(40); {
		case k < len(names) && (listed || k > 0 && names[k] != "wrong size" && names[k] != "lengthens"):
			return faults[names[k]](ctx, a, honest)
		case k == 20:
			return cuts(at)(ctx, a, honest)
		case k == 21:
			return stalls(at)(ctx, a, honest)
		case k == 22 && listed:
			return flips(at)(ctx, a, honest)
		case k == 23:
			return delays(dice.upTo(time.Second))(ctx, a, honest)
		case k == 24:
			return reportsAt(at, errPathless)(ctx, a, honest)
		case k == 25:
			return nil, errors.New("an error that nobody has heard of")
		}
		return honest()
	}
}

func shuffled(dice *dice, names []string) []string {
	names = slices.Clone(names)
	dice.mu.Lock()
	defer dice.mu.Unlock()
	dice.rng.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	return names
}
