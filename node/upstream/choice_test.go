package upstream

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aptmesh/aptmesh/proto/bubble"
)

// slowed answers honestly, after a while.
func slowed(d time.Duration) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		time.Sleep(d)
		honest(w, req)
	}
}

// TestTurn: requests are spread among equals by weight, those of a lower priority
// first, and quick ones before slow ones.
func TestTurn(t *testing.T) {
	for _, tc := range []struct {
		name     string
		priority []int
		weight   []int
		delay    []time.Duration
		want     []int // of 60 requests
	}{
		{name: "equals", weight: []int{0, 0, 0}, want: []int{20, 20, 20}},
		{name: "by weight", weight: []int{3, 2, 1}, want: []int{30, 20, 10}},
		{name: "one alone", weight: []int{7}, want: []int{60}},
		{name: "by priority", weight: []int{1, 1, 1}, priority: []int{2, 1, 1}, want: []int{0, 30, 30}},
		{name: "weight only among the first", weight: []int{9, 1, 2}, priority: []int{1, 0, 0}, want: []int{0, 20, 40}},
		// Each is tried, and then the slow one left.
		{name: "by latency", weight: []int{1, 1, 1}, delay: []time.Duration{time.Second, time.Millisecond, 2 * time.Millisecond}, want: []int{1, 29, 30}},
		{name: "about equal", weight: []int{1, 1}, delay: []time.Duration{140 * time.Millisecond, 100 * time.Millisecond}, want: []int{30, 30}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				r := newRealm(t, len(tc.weight), func(cfg *Config) {
					for i := range cfg.Archives[0].Mirrors {
						m := &cfg.Archives[0].Mirrors[i]
						m.Weight = tc.weight[i]
						if tc.priority != nil {
							m.Priority = tc.priority[i]
						}
					}
				})
				for i, d := range tc.delay {
					r.at(i, slowed(d))
				}
				for i := range 60 {
					r.from(fmt.Sprintf("pool/%d.deb", i))
				}
				want := map[string]int{}
				for i, n := range tc.want {
					if n > 0 {
						want[nameOf(i)] = n
					}
				}
				r.wantRequests(want)
			})
		})
	}
}

// A mirror that was slow gets another chance when what was measured is stale.
func TestSlowMirrorGetsAnotherChance(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := newRealm(t, 2)
		r.at(0, slowed(time.Second))
		for i := range 10 {
			r.from(fmt.Sprintf("%d.deb", i))
		}
		r.wantRequests(map[string]int{nameOf(0): 1, nameOf(1): 9})
		if got := r.Mirrors("a"); !slices.Equal(got, []string{nameOf(1), nameOf(0)}) {
			t.Errorf("in the order %v", got)
		}
		r.at(0, nil)
		time.Sleep(stale - time.Second)
		r.from("x.deb")
		r.wantRequests(map[string]int{nameOf(1): 1})
		time.Sleep(time.Second)
		if got := r.Mirrors("a"); !slices.Equal(got, []string{nameOf(0), nameOf(1)}) {
			t.Errorf("in the order %v", got)
		}
		for i := range 10 {
			r.from(fmt.Sprintf("%d.deb", i))
		}
		r.wantRequests(map[string]int{nameOf(0): 5, nameOf(1): 5})
	})
}

func TestMirrorsOfNoArchive(t *testing.T) {
	if got := client(t, "http://archive.example.org").Mirrors("b"); got != nil {
		t.Errorf("%v", got)
	}
}

// Where every place of one mirror's host is taken, an equal with a free one is asked,
// and the caps hold.
func TestFreeSlotGoesFirst(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := newRealm(t, 2, func(cfg *Config) {
			cfg.ConnectionsPerHost = 4
			cfg.Archives[0].Mirrors[0].Weight = 1000
		})
		release := make(chan struct{})
		for i := range 2 {
			r.at(i, func(w http.ResponseWriter, req *http.Request) { <-release; honest(w, req) })
		}
		var wg sync.WaitGroup
		var mu sync.Mutex
		given := map[string]int{}
		for i := range 6 { // packages may hold 3 of 4 slots
			wg.Go(func() {
				from := r.from(fmt.Sprintf("%d.deb", i))
				mu.Lock()
				defer mu.Unlock()
				given[from]++
			})
			synctest.Wait()
		}
		if want := map[string]int{"m0.example.org": 3, "m1.example.org": 3}; !maps.Equal(r.open, want) {
			t.Errorf("connections: %v, want %v", r.open, want)
		}
		close(release)
		wg.Wait()
		if given[nameOf(0)] != 3 || given[nameOf(1)] != 3 {
			t.Errorf("given by %v", given)
		}
	})
}

// A herd keeps to the cap of each host, with several mirrors on one host, too, and
// whatever they do.
func TestCapsHoldWithManyMirrors(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := newRealm(t, 4, func(cfg *Config) {
			cfg.ConnectionsPerHost = 3
			for i := range 2 { // two more roots on the first host
				u := *cfg.Archives[0].Mirrors[0].URL
				u.Path = fmt.Sprintf("/other%d", i)
				cfg.Archives[0].Mirrors = append(cfg.Archives[0].Mirrors, Mirror{URL: &u})
			}
		})
		// Each takes a moment, so that no dial is called off for a connection that comes
		// free while it is under way: the other end may see such a one for a moment.
		r.at(0, slowed(time.Millisecond))
		for i := range 2 {
			r.handlers[fmt.Sprintf("http://m0.example.org/other%d", i)] = slowed(time.Millisecond)
		}
		r.at(1, func(w http.ResponseWriter, req *http.Request) {
			time.Sleep(time.Millisecond)
			answers(503)(w, req)
		})
		r.at(2, func(w http.ResponseWriter, req *http.Request) {
			time.Sleep(time.Millisecond)
			after(3, hangsUp)(w, req)
		})
		r.at(3, silent)
		var wg sync.WaitGroup
		for i := range 200 {
			wg.Go(func() {
				req := get(fmt.Sprintf("%d.deb", i))
				got := ""
				for try := 0; got != object; try++ {
					if try == 20 {
						t.Errorf("%s: no success in 20 tries", req.Loc)
						return
					}
					req.Offset = int64(len(got))
					_, part, _ := fetchAll(t.Context(), r.Client, req)
					got += string(part)
				}
			})
		}
		wg.Wait()
		for host, n := range r.peak {
			if n > 3 {
				t.Errorf("%d connections to %s", n, host)
			}
		}
		if r.peak["m0.example.org"] != 2 { // the third is left to metadata
			t.Errorf("the most connections at once: %v", r.peak)
		}
	})
}

// A mirror of whose host this node has no share comes after those of which it has one.
func TestMirrorWithoutAShareComesLast(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := newRealm(t, 3, inOrder)
		share := func(mine ...string) {
			r.SetShare(func(host string) int {
				if slices.Contains(mine, host) {
					return 2
				}
				return 0
			}, 0)
		}
		share("http://m1.example.org")
		if got := r.from("x.deb"); got != nameOf(1) {
			t.Errorf("from %s", got)
		}
		r.at(1, answers(404))
		if got := r.from("y.deb"); got != nameOf(0) {
			t.Errorf("from %s", got)
		}
		if got := r.Mirrors("a"); !slices.Equal(got, []string{nameOf(1), nameOf(0), nameOf(2)}) {
			t.Errorf("in the order %v", got)
		}
		share()
		if got := r.from("z.deb"); got != nameOf(0) {
			t.Errorf("without a share at all, from %s", got)
		}
	})
}

// An archive keeps what is known of its mirrors over a change of the configuration,
// and what no archive has any more is forgotten.
func TestHealthOutlivesConfigurations(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := newRealm(t, 2, inOrder)
		r.at(0, answers(429, "Retry-After", "500"))
		r.from("x.deb")
		cfg := r.settings.Load().cfg
		again := func(mirrors ...Mirror) {
			next := cfg
			next.Archives = []Archive{{Name: "b", Mirrors: mirrors}}
			if err := r.Reconfigure(next); err != nil {
				t.Fatal(err)
			}
		}
		both := cfg.Archives[0].Mirrors
		again(both[1], both[0])
		r.wantState(0, BreakerOpen)
		again(both[1])
		again(both...)
		r.wantState(0, BreakerClosed)
	})
}

// TestSpeed: what a mirror is measured at, from samples of bytes and seconds.
func TestSpeed(t *testing.T) {
	type sample struct {
		bytes int64
		spent time.Duration
	}
	repeat := func(n int, s sample) []sample { return slices.Repeat([]sample{s}, n) }
	fast, slow := sample{1 << 20, 10 * time.Millisecond}, sample{20 << 10, time.Second}
	for _, tc := range []struct {
		name     string
		samples  []sample
		min, max float64 // 0, 0: not known
	}{
		{"none", nil, 0, 0},
		{"came with the header", repeat(1, sample{2000, time.Microsecond}), 0, 0},
		{"nothing came", repeat(5, sample{0, time.Second}), 0, 0},
		{"fast", repeat(3, fast), 100e6, 110e6},
		{"slow", repeat(4, slow), 20e3, 21e3},
		{"became slow", slices.Concat(repeat(1000, fast), repeat(4, slow)), 20e3, 32e3},
		{"became fast", slices.Concat(repeat(100, slow), repeat(20, fast)), 50e6, 110e6},
	} {
		var s speed
		now := time.Now()
		for _, one := range tc.samples {
			s.received(one.bytes, one.spent, now)
		}
		if rate, ok := s.rate(now); rate < tc.min || rate > tc.max || ok != (tc.max > 0) {
			t.Errorf("%s: %f, %v", tc.name, rate, ok)
		}
		if rate, ok := s.rate(now.Add(stale)); ok {
			t.Errorf("%s: still %f", tc.name, rate)
		}
	}
}

// TestQuickest: who is about as quick as the best, and what a full host costs.
func TestQuickest(t *testing.T) {
	const s = time.Second
	for _, tc := range []struct {
		name string
		all  []candidate
		want []int
	}{
		{"about equal", []candidate{{tested: true, expected: 10 * s}, {tested: true, expected: 15 * s}, {tested: true, expected: 16 * s}}, []int{0, 1}},
		{"the untested", []candidate{{tested: true, expected: 10 * s}, {}, {tested: true, expected: 40 * s}}, []int{0, 1}},
		{"a free one that is a little slower", []candidate{{tested: true, expected: 10 * s, full: true}, {tested: true, expected: 25 * s}}, []int{1}},
		{"a free one that is much slower", []candidate{{tested: true, expected: 10 * s, full: true}, {tested: true, expected: 40 * s}}, []int{0}},
		{"all full", []candidate{{tested: true, expected: 10 * s, full: true}, {tested: true, expected: 11 * s, full: true}}, []int{0, 1}},
	} {
		var all []*candidate
		for i := range tc.all {
			all = append(all, &tc.all[i])
		}
		var got []int
		for _, one := range quickest(all) {
			got = append(got, slices.Index(all, one))
		}
		if !slices.Equal(got, tc.want) {
			t.Errorf("%s: %v, want %v", tc.name, got, tc.want)
		}
	}
}
