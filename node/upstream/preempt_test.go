package upstream

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/proto"
	"github.com/aptmesh/aptmesh/proto/bubble"
)

// busy takes slots whose holders are never stalled, a second apart.
func busy(t *testing.T, g *scheduler, holders ...proto.Class) (held []*slot) {
	for _, class := range holders {
		p := take(t, g, class)
		p.enter(throttled)
		held = append(held, p)
		time.Sleep(time.Second)
	}
	return held
}

func TestSchedulerPreempts(t *testing.T) {
	for _, tc := range []struct {
		name    string
		limit   int // when the holders came
		lowered int // when the waiter comes; 0 = limit
		holders []proto.Class
		waiter  proto.Class
		victim  int // of the holders; none if negative
		had     bool
	}{
		{"the only place, a package's, to metadata", 1, 0, []proto.Class{pkg}, meta, 0, true},
		{"the only place, a prefetch's, to metadata", 1, 0, []proto.Class{prefetch}, meta, 0, true},
		{"the only place, a prefetch's, to a package", 1, 0, []proto.Class{prefetch}, pkg, 0, true},
		{"metadata waits for metadata", 1, 0, []proto.Class{meta}, meta, -1, false},
		{"a package waits for a package", 1, 0, []proto.Class{pkg}, pkg, -1, false},
		{"a package waits for metadata", 1, 0, []proto.Class{meta}, pkg, -1, false},
		{"a prefetch waits for a package", 1, 0, []proto.Class{pkg}, prefetch, -1, false},
		{"metadata has its own of two slots", 2, 0, []proto.Class{pkg}, meta, -1, true},
		{"and has had it", 2, 0, []proto.Class{pkg, meta}, meta, -1, false},
		{"packages and prefetch share one of two", 2, 0, []proto.Class{prefetch}, pkg, 0, true},
		{"also while metadata has the other", 2, 0, []proto.Class{prefetch, meta}, pkg, 0, true},
		{"three slots are enough for all", 3, 0, []proto.Class{prefetch, pkg}, meta, -1, true},
		{"a package waits for metadata, not for prefetch", 4, 0, []proto.Class{meta, meta, prefetch, prefetch}, pkg, -1, false},
		{"lowered under packages", 8, 2, []proto.Class{pkg, pkg, pkg, pkg}, meta, 3, true},
		{"lowered under metadata too", 8, 2, []proto.Class{pkg, pkg, meta, pkg}, meta, -1, false},
		{"the least urgent, the last of them", 8, 1, []proto.Class{prefetch, prefetch, pkg}, meta, 1, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				g := testScheduler(tc.limit)
				held := busy(t, g, tc.holders...)
				if tc.lowered > 0 {
					g.configure(tc.lowered, g.rules)
				}
				had, slots := make(chan string, 1), make(chan *slot, 1)
				queue(t, g, tc.waiter, "x", had, slots)
				if (len(slots) == 1) != tc.had {
					t.Errorf("had a slot at once: %v, want %v", len(slots) == 1, tc.had)
				}
				want := len(tc.holders)
				if tc.had && tc.victim < 0 {
					want++
				}
				if _, n, _, _ := g.count(); n != want {
					t.Errorf("%d slots are held, want %d", n, want)
				}
				time.Sleep(time.Minute)
				for i, p := range held {
					if p.wasEvicted() != (i == tc.victim) {
						t.Errorf("holder %d evicted: %v", i, p.wasEvicted())
					}
				}
			})
		})
	}
}

// The second one in a row to be preempted has had a second of its body; a lone one need
// not have had any.
func TestSchedulerLetsAHolderHaveItsTurn(t *testing.T) {
	for _, tc := range []struct {
		name   string
		idle   time.Duration // since the last one was preempted
		header time.Duration // from the slot to the answer
		wait   time.Duration // of the metadata, from when the slot is had
	}{
		{"soon after", 0, 200 * time.Millisecond, 1200 * time.Millisecond},
		{"the answer is late", 0, 1500 * time.Millisecond, 2500 * time.Millisecond},
		{"long after", preemptEvery, time.Hour, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				g := testScheduler(1)
				busy(t, g, pkg)
				g.release(take(t, g, meta))
				time.Sleep(tc.idle)
				second := take(t, g, pkg)
				second.enter(asking)
				time.AfterFunc(tc.header, func() { second.enter(throttled) })
				began := time.Now()
				if _, err := g.acquire(t.Context(), slotRequest{class: meta}, func(error) {}); err != nil {
					t.Fatal(err)
				}
				if took := time.Since(began); took < tc.wait || took > tc.wait+watchEvery || !second.wasEvicted() {
					t.Errorf("metadata had the place after %v, want %v", took, tc.wait)
				}
			})
		})
	}
}

// A waiter may leave just when a holder is preempted for it.
func TestSchedulerWaiterLeavesWhileAHolderPreempts(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		g := testScheduler(1)
		ctx, leave := context.WithCancel(t.Context())
		gone := make(chan struct{})
		var free atomic.Bool // the holder's connection is closed
		holder, err := g.acquire(t.Context(), slotRequest{class: pkg}, func(error) {
			leave()
			<-gone
			time.Sleep(10 * time.Millisecond)
			free.Store(true)
		})
		if err != nil {
			t.Fatal(err)
		}
		holder.enter(throttled)
		g.lastPreempted = time.Now() // so that it is not the waiter itself that sees to it
		go func() {
			if _, err := g.acquire(ctx, slotRequest{class: meta}, func(error) {}); err == nil {
				t.Error("a waiter that left had the place")
			}
			close(gone)
		}()
		began := time.Now()
		if _, err := g.acquire(t.Context(), slotRequest{class: pkg}, func(error) {}); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took > minBodyTime+watchEvery+10*time.Millisecond {
			t.Errorf("the place that nobody wanted came free after %v", took)
		}
		if !free.Load() {
			t.Error("the place was handed on before its last holder was done")
		}
		if _, held, _, waiting := g.count(); held != 1 || waiting != 0 {
			t.Errorf("%d held, %d waiting; want 1 and 0", held, waiting)
		}
	})
}

// However holders be preempted, stall, leave and come: never two have one slot.
func TestSchedulerNeverExceedsItsLimit(t *testing.T) {
	for limit := 1; limit <= 3; limit++ {
		bubble.Test(t, func(t *testing.T) {
			g := testScheduler(limit)
			var mu sync.Mutex
			open := 0
			count := func(by int) {
				mu.Lock()
				defer mu.Unlock()
				if open += by; open > limit {
					t.Errorf("%d connections in %d slots", open, limit)
				}
			}
			var wg sync.WaitGroup
			for i := range 40 {
				r := rand.New(rand.NewPCG(uint64(limit), uint64(i)))
				wg.Go(func() {
					for range 20 {
						wait, left := context.WithTimeout(t.Context(), time.Duration(r.IntN(2000))*time.Millisecond)
						ctx, cancel := context.WithCancelCause(wait)
						var conn sync.Once
						cut := func(err error) { cancel(err); conn.Do(func() { count(-1) }) }
						p, err := g.acquire(ctx, slotRequest{class: proto.Class(r.IntN(classes))}, func(err error) {
							// Not before the slot is had, whose connection this is.
							time.Sleep(time.Millisecond)
							cut(err)
						})
						if err != nil {
							left()
							continue
						}
						count(1)
						p.enter([]phase{asking, reading, throttled}[r.IntN(3)])
						select {
						case <-time.After(time.Duration(r.IntN(3000)) * time.Millisecond):
						case <-ctx.Done():
						}
						cut(nil)
						g.release(p)
						left()
					}
				})
			}
			wg.Wait()
			if _, held, _, waiting := g.count(); held != 0 || waiting != 0 {
				t.Errorf("%d held, %d waiting", held, waiting)
			}
		})
	}
}

// drip sends content at 1 MB/s, from where it is asked for.
func drip(w http.ResponseWriter, r *http.Request, content []byte) {
	var from int
	fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &from)
	w.Header().Set("Content-Length", fmt.Sprint(len(content)-from))
	if from > 0 {
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(content)-1, len(content)))
		w.WriteHeader(http.StatusPartialContent)
	}
	for rest := content[from:]; len(rest) > 0; time.Sleep(10 * time.Millisecond) {
		n, err := w.Write(rest[:min(10_000, len(rest))])
		if err != nil {
			return
		}
		w.(http.Flusher).Flush()
		rest = rest[n:]
	}
}

// fetchInParts fetches an object in as many transfers as it takes, going on at the
// byte where the last one ended, and returns how long each lasted.
func fetchInParts(t *testing.T, c *Client, path string) (got []byte, parts []time.Duration) {
	for {
		req := get(path)
		req.Offset = int64(len(got))
		began := time.Now()
		_, part, err := fetchAll(t.Context(), c, req)
		got = append(got, part...)
		parts = append(parts, time.Since(began))
		if err == nil {
			return got, parts
		}
		if busy := unavailable(t, err); busy.Answered || !strings.Contains(busy.Reason, "was preempted by more urgent work (metadata)") {
			t.Errorf("the transfer ended with %q", busy.Reason)
			return got, parts
		}
	}
}

// A node with one connection: a long download, and metadata meanwhile.
func TestMetadataDoesNotStandBehindADownload(t *testing.T) {
	content := bytes.Repeat([]byte("0123456789"), 500_000) // 5 s
	for _, tc := range []struct {
		every    time.Duration // a metadata request comes
		patience time.Duration // and it may take
		parts    int           // the download may take
	}{
		{20 * time.Second, 0, 2},
		// One after the other: each second of the download is followed by one of them.
		{time.Millisecond, minBodyTime + watchEvery, 7},
	} {
		bubble.Test(t, func(t *testing.T) {
			c, n := inMemory(t, func(w http.ResponseWriter, r *http.Request) {
				if strings.Contains(r.URL.Path, "pool") {
					drip(w, r, content)
					return
				}
				io.WriteString(w, "fine")
			})
			c.SetShare(func(string) int { return 1 }, 0)
			done := make(chan struct{})
			go func() {
				defer close(done)
				got, parts := fetchInParts(t, c, "pool/big.deb")
				if !bytes.Equal(got, content) {
					t.Errorf("%d bytes came, want %d equal ones", len(got), len(content))
				}
				if len(parts) < 2 || len(parts) > tc.parts {
					t.Errorf("the download took %d transfers, want 2 to %d: %v", len(parts), tc.parts, parts)
				}
				for _, lasted := range parts[1 : len(parts)-1] {
					if lasted < minBodyTime {
						t.Errorf("a transfer lasted only %v of %v", lasted, parts)
					}
				}
			}()
			time.Sleep(500 * time.Millisecond)
			for running := true; running; {
				req := get("dists/stable/InRelease")
				req.Class = meta
				began := time.Now()
				mustFetch(t, c, req)
				if took := time.Since(began); took > tc.patience {
					t.Errorf("metadata took %v, want %v at most", took, tc.patience)
				}
				select {
				case <-done:
					running = false
				case <-time.After(tc.every):
				}
			}
			if n.peak > 1 {
				t.Errorf("%d connections at once", n.peak)
			}
			if h := c.Stats().Hosts[0]; h.Requests[outcomePreempted] == 0 || h.Requests[outcomeUnavailable] != 0 {
				t.Errorf("stats: %+v", h)
			}
			time.Sleep(time.Second) // let the server see that we left
		})
	}
}

// Once the slot is gone, no connection is begun or kept for it.
func TestDialingEndsForGood(t *testing.T) {
	n := newNetwork()
	d := &dialing{}
	d.drop()
	d.begin()
	if _, err := d.run(t.Context(), func(context.Context) (net.Conn, error) {
		t.Error("it dialled")
		return nil, nil
	}); err == nil {
		t.Error("a dial succeeded")
	}
	go n.Accept()
	conn, err := n.dial(t.Context(), "", "")
	if err != nil {
		t.Fatal(err)
	}
	d.done(conn)
	if n.open != 0 {
		t.Error("a connection that came late stays open")
	}
}
