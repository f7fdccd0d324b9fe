package upstream

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/proto/bubble"
)

const big = 4 << 20

// fetchBig fetches big bytes as peerfetch does: where a transfer ends, the rest is
// asked for. It returns who gave how much.
func fetchBig(r *realm, path string) (given map[string]int64, took time.Duration) {
	r.t.Helper()
	given = make(map[string]int64)
	began := time.Now()
	req := get(path)
	req.Size = big
	for try := 0; req.Offset < big; try++ {
		if try == 10 {
			r.t.Fatalf("%d bytes after ten transfers", req.Offset)
		}
		tr, err := r.Fetch(r.t.Context(), req)
		if err != nil {
			r.t.Fatal(err)
		}
		if tr.Offset != req.Offset {
			r.t.Fatalf("asked for byte %d on, got %d on", req.Offset, tr.Offset)
		}
		n, err := io.Copy(io.Discard, tr.Body)
		if err != nil && !errors.Is(unavailable(r.t, err), errSlow) {
			r.t.Fatal(err)
		}
		tr.Body.Close()
		given[tr.From] += n
		req.Offset += n
	}
	return given, time.Since(began)
}

// A mirror at 20 KB/s beside a fast one is left at the byte where it has got to, and
// is no client's first choice any more.
func TestRateFloor(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := newRealm(t, 2, inOrder)
		r.at(0, rated(big, 20<<10))
		r.at(1, rated(big, 1<<20))
		given, took := fetchBig(r, "big.deb")
		if slow := given[nameOf(0)]; slow < 60<<10 || slow > 120<<10 || given[nameOf(1)] != big-slow {
			t.Errorf("given: %v", given)
		}
		if took > floorWindow+6*time.Second {
			t.Errorf("took %v", took)
		}
		if got := r.state(0); got.State != BreakerClosed || got.Failovers[leftSlow] != 1 || got.Penalties != 1 || got.BytesPerSecond < 15<<10 || got.BytesPerSecond > 25<<10 {
			t.Errorf("%+v", got)
		}
		if given, _ = fetchBig(r, "other.deb"); given[nameOf(1)] != big {
			t.Errorf("given: %v", given)
		}
	})
}

// Below the floor or not, a transfer goes on where nothing better is known.
func TestRateFloorLeavesAlone(t *testing.T) {
	dead := func(r *realm) {
		r.at(1, answers(503))
		for i := range tripAt {
			req := get(fmt.Sprintf("%d", i))
			req.Mirror = nameOf(1)
			unavailable(r.t, second(r.Fetch(r.t.Context(), req)))
		}
	}
	const floor = 32 << 10
	slow := rated(big, 30<<10)
	for _, tc := range []struct {
		name  string
		n     int
		floor int64
		at    http.HandlerFunc
		set   func(r *realm)
		read  time.Duration // that the caller takes over a piece
		limit int64
	}{
		{name: "a single mirror", n: 1, floor: floor, at: slow},
		{name: "no floor", n: 2, at: slow},
		{name: "a lower floor", n: 2, floor: 10 << 10, at: slow},
		{name: "at the floor", n: 2, floor: floor, at: rated(big, 34<<10)},
		{name: "the other is dead", n: 2, floor: floor, at: slow, set: dead},
		{name: "the other is as slow", n: 2, floor: floor, at: slow, set: func(r *realm) { r.at(1, slow); r.measure(1) }},
		{name: "the other lied", n: 2, floor: floor, at: slow, set: func(r *realm) { r.Blame(get("big.deb").Loc, []string{nameOf(1)}, errors.New("wrong hash")) }},
		{name: "the caller is slow", n: 2, floor: floor, at: rated(big, 10<<20), read: 5 * time.Second},
		{name: "our own limit", n: 2, floor: floor, at: rated(big, 10<<20), limit: 20 << 10},
	} {
		t.Run(tc.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				r := newRealm(t, tc.n, inOrder, func(cfg *Config) { cfg.RateFloor, cfg.Rate = tc.floor, tc.limit })
				if tc.set != nil {
					tc.set(r)
				}
				r.at(0, tc.at)
				req := get("big.deb")
				req.Size = big
				tr, err := r.Fetch(t.Context(), req)
				if err != nil {
					t.Fatal(err)
				}
				defer tr.Body.Close()
				if tr.From != nameOf(0) {
					t.Fatalf("from %s", tr.From)
				}
				for got := 0; got < 1<<20; {
					n, err := tr.Body.Read(make([]byte, 64<<10))
					if err != nil {
						t.Fatalf("after %d bytes: %v", got, err)
					}
					got += n
					time.Sleep(tc.read)
				}
			})
		})
	}
}

// measure lets a mirror be measured, by half a minute of a body.
func (r *realm) measure(i int) {
	r.t.Helper()
	req := get("measure.deb")
	req.Mirror = nameOf(i)
	tr, err := r.Fetch(r.t.Context(), req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer tr.Body.Close()
	began := time.Now()
	for time.Since(began) < 30*time.Second {
		if _, err := tr.Body.Read(make([]byte, 64<<10)); err != nil {
			r.t.Fatal(err)
		}
	}
}

// Shortly before its end a transfer is not worth another request.
func TestRateFloorNearTheEnd(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := newRealm(t, 2, inOrder)
		const size = 150 << 10 // 7.5 s
		r.at(0, rated(size, 20<<10))
		_, got := mustFetch(t, r.Client, get("small.deb"))
		if len(got) != size {
			t.Errorf("%d bytes", len(got))
		}
		if left := r.state(0).Failovers; len(left) != 0 {
			t.Errorf("left for %v", left)
		}
	})
}

// A mirror of the first priority that is below the floor is asked after those of a
// higher number, until its measurement is stale.
func TestMirrorBelowTheFloorComesLast(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := newRealm(t, 2, inOrder)
		r.at(0, rated(big, 20<<10))
		r.measure(0)
		r.at(0, nil)
		if got := r.from("x.deb"); got != nameOf(1) {
			t.Errorf("from %s", got)
		}
		time.Sleep(stale)
		if got := r.from("y.deb"); got != nameOf(0) {
			t.Errorf("from %s", got)
		}
	})
}
