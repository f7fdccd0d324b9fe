package ring

import (
	"strconv"
	"testing"
	"time"
)

// TestFifty measures a cluster of the size that this is made for (a smaller one with
// the race detector), with the intervals of production, by the clock of a bubble.
func TestFifty(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		const n = fifty
		ms := make([]*Members, n)
		for i := range ms {
			cfg := c.config("node"+strconv.Itoa(i+1), addr(i))
			cfg.Logger = nil
			cfg.Keys = [][]byte{testKey(1)}
			cfg.Seeds = []string{addr(0), addr(1), addr(2)}
			ms[i] = c.start(cfg)
		}
		began := time.Now()
		for _, m := range ms {
			go m.Join(t.Context())
		}
		c.whole(ms...)
		together := time.Since(began)
		for _, m := range ms {
			if m.View().Ring.Hash() != ms[0].View().Ring.Hash() {
				t.Fatalf("%s has another ring", m.cfg.Name)
			}
		}
		in, out := traffic(ms)
		t.Logf("%d nodes that start at once are one ring after %v; until then a node had received %d KiB, sent %d KiB and built %d rings",
			n, together.Round(10*time.Millisecond), in/n>>10, out/n>>10, built(ms)/n)

		time.Sleep(30 * time.Second) // it calms down
		in, out = traffic(ms)
		const while = 2 * time.Minute
		time.Sleep(while)
		later, sent := traffic(ms)
		t.Logf("at rest a node receives %.1f and sends %.1f KiB/s", float64(later-in)/n/1024/while.Seconds(), float64(sent-out)/n/1024/while.Seconds())
		if perSecond := (sent - out) / n / uint64(while.Seconds()); perSecond > 16<<10 {
			t.Errorf("%d bytes a second are too many", perSecond)
		}
		for _, m := range ms {
			if s := m.Stats(); len(s.Silent)+len(s.Missing) > 0 || s.Dropped > 0 {
				t.Errorf("%s: %+v", m.cfg.Name, s)
			}
		}

		before := built(ms[1:])
		ms[0].Close()
		began = time.Now()
		c.whole(ms[1:]...)
		t.Logf("one of them crashed, and was dropped by all after %v, with %.1f rings built by each",
			time.Since(began).Round(time.Second), float64(built(ms[1:])-before)/(n-1))
	})
}

func traffic(ms []*Members) (in, out uint64) {
	for _, m := range ms {
		s := m.Stats()
		in, out = in+s.BytesIn, out+s.BytesOut
	}
	return in, out
}

func built(ms []*Members) (rings uint64) {
	for _, m := range ms {
		rings += m.Stats().Changes
	}
	return rings
}
