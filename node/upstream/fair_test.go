package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aptmesh/aptmesh/proto"
	"github.com/aptmesh/aptmesh/proto/bubble"
)

const unlisted = proto.ClassUnlisted

func TestWaitQueueTakesTurns(t *testing.T) {
	var q waitQueue
	var all []*waiter
	for i, client := range []string{"a", "a", "a", "b", "", "b", "", "c"} {
		w := &waiter{slot: &slot{client: client, waited: time.Duration(i)}}
		q.push(w)
		all = append(all, w)
	}
	if !q.remove(all[1]) || q.remove(all[1]) {
		t.Error("a waiter is taken out twice, or not at all")
	}
	if w := q.longest("c"); w != nil {
		t.Errorf("%d has more than c with one more", w.slot.waited)
	}
	if w := q.longest("d"); w != all[2] && w != all[5] {
		t.Errorf("the last one of a client with two is %v", w)
	}
	var order []int
	for q.n > 0 {
		first := q.first()
		if w := q.serve(); w != first {
			t.Error("another one was served than the first")
		} else {
			order = append(order, int(w.slot.waited))
		}
	}
	if want := []int{0, 3, 4, 6, 7, 2, 5}; !slices.Equal(order, want) || q.first() != nil || len(q.clients) != 0 || q.order.Len() != 0 {
		t.Errorf("served %v, want %v; left are %v", order, want, q.clients)
	}
}

// holders takes slots for clients, and tells whose are taken away.
func holders(t *testing.T, g *scheduler, class proto.Class, clients ...string) (lost chan string) {
	t.Helper()
	lost = make(chan string, len(clients))
	for _, client := range clients {
		p, err := g.acquire(t.Context(), slotRequest{class: class, client: client}, func(error) { lost <- client })
		if err != nil {
			t.Fatal(err)
		}
		p.enter(resting)
		time.Sleep(time.Millisecond) // so that one is the newest
	}
	return lost
}

// One client may have all slots while nobody else wants any, and no longer than its transfers
// take, or a second of them.
func TestOneClientDoesNotKeepOthersOut(t *testing.T) {
	for name, tc := range map[string]struct {
		limit  int
		class  proto.Class
		held   []string
		client string // that comes
		lost   string // who loses a slot; "" for nobody
	}{
		"another client":                  {4, pkg, []string{"a", "a", "a"}, "b", "a"},
		"a client that is not known":      {4, pkg, []string{"a", "a", "a"}, "", "a"},
		"the same client":                 {4, pkg, []string{"a", "a", "a"}, "a", ""},
		"each has one":                    {4, pkg, []string{"a", "b", "c"}, "d", ""},
		"of several, who has most":        {6, pkg, []string{"a", "a", "b", "b", "b"}, "c", "b"},
		"one place":                       {1, pkg, []string{"a"}, "b", ""},
		"metadata is not for packages":    {3, meta, []string{"a", "a", "a"}, "b", ""},
		"holders that are not known stay": {4, pkg, []string{"", "", ""}, "b", ""},
	} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				g := testScheduler(tc.limit)
				lost := holders(t, g, tc.class, tc.held...)
				ctx, cancel := context.WithCancel(t.Context())
				got := make(chan error, 1)
				go func() {
					_, err := g.acquire(ctx, slotRequest{class: pkg, client: tc.client}, func(error) {})
					got <- err
				}()
				synctest.Wait()
				if len(lost) > 0 {
					t.Errorf("%q lost a slot at once: a short transfer would have been over sooner than it comes again", <-lost)
				}
				time.Sleep(minBodyTime + watchEvery)
				synctest.Wait()
				loser := ""
				select {
				case loser = <-lost:
				default:
				}
				if loser != tc.lost || (len(got) == 1) != (tc.lost != "") {
					t.Errorf("%q lost a place, want %q; the request has one: %v", loser, tc.lost, len(got) == 1)
				}
				cancel()
				synctest.Wait()
			})
		})
	}
}

// What does not fit is turned away at once, and first what one client has too much of.
func TestSchedulerTurnsAway(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		g := testScheduler(1)
		holders(t, g, meta, "m")
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan string, 2*maxWaiting[unlisted])
		wait := func(client string) {
			go func() {
				_, err := g.acquire(ctx, slotRequest{class: unlisted, client: client}, func(error) {})
				if ctx.Err() != nil {
					return
				}
				if busy := unavailable(t, err); busy.RetryAfter != fullRetry || !strings.Contains(busy.Reason, "256 requests (unlisted) wait for the 1 connections to http://host already") {
					t.Errorf("%v, after %s", busy, busy.RetryAfter)
				}
				ended <- client
			}()
			synctest.Wait()
		}
		for range maxWaiting[unlisted] {
			wait("greedy")
		}
		if len(ended) != 0 {
			t.Errorf("%d were turned away below the bound", len(ended))
		}
		wait("greedy")
		wait("modest")
		wait("greedy")
		wait("")
		got := []string{<-ended, <-ended, <-ended, <-ended}
		if want := []string{"greedy", "greedy", "greedy", "greedy"}; !slices.Equal(got, want) {
			t.Errorf("turned away were %q, want %q", got, want)
		}
		if _, _, _, waiting := g.count(); waiting != maxWaiting[unlisted] {
			t.Errorf("%d wait, want %d", waiting, maxWaiting[unlisted])
		}
		// Other classes have room of their own.
		had, slots := make(chan string, 1), make(chan *slot, 1)
		queue(t, g, pkg, "package", had, slots)
		if _, _, _, waiting := g.count(); waiting != maxWaiting[unlisted]+1 {
			t.Errorf("a package was turned away")
		}
		cancel()
		synctest.Wait()
	})
}

// However many names are made up, a listed package waits for one of them at most, and they still get on.
func TestMadeUpNamesDoNotDelayPackages(t *testing.T) {
	for _, limit := range []int{1, 2, 3, 8} {
		t.Run(fmt.Sprint(limit), func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				const answer = time.Second
				c, _ := inMemory(t, func(w http.ResponseWriter, r *http.Request) {
					time.Sleep(answer)
					if strings.Contains(r.URL.Path, "by-hash") {
						http.NotFound(w, r)
						return
					}
					io.WriteString(w, content)
				}, func(cfg *Config) { cfg.ConnectionsPerHost = limit })
				ctx, cancel := context.WithCancel(t.Context())
				bogus := make(chan error, 200)
				for i := range 200 {
					go func() {
						req := get(fmt.Sprintf("dists/x/by-hash/SHA256/%064x", i))
						req.Class, req.Client = unlisted, "10.0.0.1"
						_, err := c.Fetch(ctx, req)
						bogus <- err
					}()
				}
				synctest.Wait()
				for i := range 3 {
					began := time.Now()
					req := get(fmt.Sprintf("pool/p%d.deb", i))
					req.Client = "10.0.0.1"
					if _, got := mustFetch(t, c, req); got != content {
						t.Errorf("%q", got)
					}
					if took := time.Since(began); took > 2*answer+100*time.Millisecond {
						t.Errorf("package %d took %s among made-up names, where an answer takes %s", i, took, answer)
					}
				}
				err := <-bogus
				for errors.As(err, new(*proto.Unavailable)) { // it was preempted, and would be asked for again
					err = <-bogus
				}
				if !errors.Is(err, proto.ErrNotFound) {
					t.Errorf("a made-up name: %v", err)
				}
				cancel()
				time.Sleep(2 * answer) // what the server has begun ends
			})
		})
	}
}

// Names that nothing lists are served in the end, whatever else there is to do.
func TestUnlistedNamesAreNotForgotten(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		g := testScheduler(3)
		began := time.Now()
		ctx, cancel := context.WithCancel(t.Context())
		for i := range 6 { // more than there are slots, and each comes again
			go func() {
				for ctx.Err() == nil {
					p, err := g.acquire(ctx, slotRequest{class: pkg, client: fmt.Sprint(i)}, func(error) {})
					if err != nil {
						return
					}
					p.enter(throttled)
					time.Sleep(time.Second)
					g.release(p)
				}
			}()
		}
		synctest.Wait()
		ctx, cancelWait := context.WithTimeout(ctx, 10*waitedLong)
		defer cancelWait()
		p, err := g.acquire(ctx, slotRequest{class: unlisted, client: "u"}, func(error) {})
		if took := time.Since(began); err != nil || took < 2*time.Second || took > waitedLong+2*time.Second {
			t.Fatalf("an unlisted name had its place after %s, %v", took, err)
		}
		g.release(p)
		cancel()
		time.Sleep(time.Minute) // those that hold a slot let go of it
	})
}

// A request that waits at a slow mirror goes to a better one as soon as that has room.
func TestWaitingRequestsChooseAgain(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		c, _ := inMemory(t, func(w http.ResponseWriter, r *http.Request) {
			if strings.HasPrefix(r.URL.Path, "/debian/hold") {
				w.WriteHeader(http.StatusOK)
				http.NewResponseController(w).Flush()
				<-release
			}
			io.WriteString(w, r.Host)
		}, func(cfg *Config) {
			second, _ := url.Parse("http://second.example.org/debian")
			cfg.Archives[0].Mirrors = append(cfg.Archives[0].Mirrors, Mirror{URL: second})
			cfg.ConnectionsPerHost, cfg.StallTimeout, cfg.HeaderTimeout = 1, time.Hour, time.Hour
		})
		const first, second = "http://archive.example.org/debian", "http://second.example.org/debian"
		hold := func(mirror string, path string) *proto.Transfer {
			req := get(path)
			req.Mirror = mirror
			tr, err := c.Fetch(t.Context(), req)
			if err != nil {
				t.Fatal(err)
			}
			return tr
		}
		busy, other := hold(first, "hold1"), hold(second, "hold2")
		defer busy.Body.Close()
		from := make(chan string, 1)
		go func() {
			tr, err := c.Fetch(t.Context(), get("x"))
			if err != nil {
				t.Error(err)
				from <- ""
				return
			}
			io.Copy(io.Discard, tr.Body)
			from <- tr.From
		}()
		synctest.Wait()
		var waits, has *host
		for _, h := range []string{"http://archive.example.org", "http://second.example.org"} {
			c.mu.Lock()
			one := c.hosts[h]
			c.mu.Unlock()
			if _, _, _, n := one.scheduler.count(); n > 0 {
				waits = one
			} else {
				has = one
			}
		}
		if waits == nil || has == nil {
			t.Fatal("the request waits nowhere")
		}
		// Room at the mirror where it does not wait.
		if has.name == "http://second.example.org" {
			other.Body.Close()
		} else {
			busy.Body.Close()
		}
		began := time.Now()
		if got := <-from; !strings.HasPrefix(got, has.name) || time.Since(began) > 2*recheckEvery {
			t.Errorf("from %s after %s, and %s had room", got, time.Since(began), has.name)
		}
		other.Body.Close()
		close(release)
	})
}
