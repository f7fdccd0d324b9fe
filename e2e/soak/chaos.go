package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"syscall"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
)

// trouble is one way in which a mirror fails for a while.
type trouble struct {
	name   string
	effect func(a *archive, rnd *rand.Rand) testarchive.Effect
}

func is(e testarchive.Effect) func(*archive, *rand.Rand) testarchive.Effect {
	return func(*archive, *rand.Rand) testarchive.Effect { return e }
}

// somewhere is an offset that all files have, and that a signature covers.
func somewhere(rnd *rand.Rand) int64 { return int64(rnd.IntN(500)) }

var troubles = []trouble{
	{"refuses connections", nil},
	{"never answers", is(testarchive.Stall(-1))},
	{"resets before the head", is(testarchive.Reset(-1))},
	{"closes in the head", is(testarchive.InHead(testarchive.BrokenOff))},
	{"stalls in the head", is(testarchive.InHead(testarchive.BrokenBySilence))},
	{"429", is(testarchive.Status(429, 2))},
	{"503", is(testarchive.Status(503, 0))},
	{"404", is(testarchive.Status(404, 0))},
	{"HTML page", is(testarchive.HTML200())},
	{"too long", is(testarchive.WrongLength(5))},
	{"too short", is(testarchive.WrongLength(-20))},
	{"wrong byte", func(_ *archive, rnd *rand.Rand) testarchive.Effect { return testarchive.WrongBytes(somewhere(rnd)) }},
	{"truncates", func(_ *archive, rnd *rand.Rand) testarchive.Effect { return testarchive.Truncate(somewhere(rnd)) }},
	{"stalls", func(_ *archive, rnd *rand.Rand) testarchive.Effect { return testarchive.Stall(somewhere(rnd)) }},
	{"resets", func(_ *archive, rnd *rand.Rand) testarchive.Effect { return testarchive.Reset(somewhere(rnd)) }},
	{"20 KB/s", is(testarchive.Drip(20_000))},
	{"slow to answer", is(testarchive.Latency(700 * time.Millisecond))},
	{"no ranges", is(testarchive.NoRange())},
	{"no length", is(testarchive.NoContentLength())},
	{"behind", nil},
}

// chaos makes trouble until its context ends; it draws everything from its seed.
type chaos struct {
	archive *archive
	nodes   []*node
	binary  string
	say     func(string, ...any)

	mu       sync.Mutex
	happened map[string]int // troubles by name; guarded by mu
}

// mirror makes trouble at one mirror after another: now and then at all of them.
func (c *chaos) mirror(ctx context.Context, i int, rnd *rand.Rand) {
	for pause(ctx, time.Duration(rnd.IntN(4000))*time.Millisecond) {
		t := troubles[rnd.IntN(len(troubles))]
		pattern := []string{"*", "dists/*", "pool/*", "dists/*/by-hash/*"}[rnd.IntN(4)]
		end := c.begin(t, c.archive.mirrors[i], pattern, rnd)
		c.mu.Lock()
		c.happened[t.name]++
		c.mu.Unlock()
		pause(ctx, time.Second+time.Duration(rnd.IntN(9000))*time.Millisecond)
		end()
	}
}

// begin starts a trouble and returns what ends it.
func (c *chaos) begin(t trouble, m *testarchive.Server, pattern string, rnd *rand.Rand) (end func()) {
	switch t.name {
	case "refuses connections":
		m.Refuse()
		return func() {
			// Only if somebody else took the port meanwhile; he will be gone soon.
			for range 600 {
				if m.Accept() == nil {
					return
				}
				time.Sleep(100 * time.Millisecond)
			}
			c.say("the mirror %s cannot have its port back", m.URL)
		}
	case "behind":
		f := m.Inject("dists/"+suite+"/InRelease", 0, testarchive.As(c.archive.outdated(1+rnd.IntN(5))))
		return f.Remove
	}
	f := m.Inject(pattern, 0, t.effect(c.archive, rnd))
	return func() {
		f.Remove()
		f.Release() // what stalls goes on, if anybody still waits
	}
}

// publish has the archive publish.
func (c *chaos) publish(ctx context.Context, rnd *rand.Rand) {
	for pause(ctx, time.Second+time.Duration(rnd.IntN(3000))*time.Millisecond) {
		c.archive.next()
		c.mu.Lock()
		c.happened["publications"]++
		c.mu.Unlock()
	}
}

// restart ends and starts nodes, one at a time; the last one is left alone, to see
// what time does to a process.
func (c *chaos) restart(ctx context.Context, rnd *rand.Rand) error {
	for pause(ctx, 15*time.Second+time.Duration(rnd.IntN(20_000))*time.Millisecond) {
		n := c.nodes[rnd.IntN(len(c.nodes)-1)]
		signal, what := syscall.SIGTERM, "stopped"
		if rnd.IntN(2) == 0 {
			signal, what = syscall.SIGKILL, "killed"
		}
		n.stop(signal)
		c.mu.Lock()
		c.happened["nodes "+what]++
		c.mu.Unlock()
		time.Sleep(time.Duration(rnd.IntN(4000)) * time.Millisecond)
		// The soak may be over meanwhile; the node is wanted for its end.
		if err := n.start(context.WithoutCancel(ctx), c.binary); err != nil {
			return fmt.Errorf("start %s again: %w", n.Name, err)
		}
	}
	return nil
}

// pause waits, and reports false if the context has ended.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}
