package upstream

import (
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aptmesh/aptmesh/proto"
	"github.com/aptmesh/aptmesh/proto/bubble"
)

func some(n int) func(string) int { return func(string) int { return n } }

// limits are the slots of all hosts known.
func limits(c *Client) map[string]int {
	of := make(map[string]int)
	for _, h := range c.Stats().Hosts {
		of[h.Host] = h.Limit
	}
	return of
}

func TestShareOfConnections(t *testing.T) {
	const host = "http://archive.example.org"
	for _, tc := range []struct {
		name  string
		share func(string) int
		want  int
	}{
		{"none set", nil, 8},
		{"a part", some(3), 3},
		{"no place of its own", some(0), 1},
		{"nonsense", some(-5), 1},
		{"more than there are", some(9), 8},
	} {
		bubble.Test(t, func(t *testing.T) {
			c, n := inMemory(t, func(w http.ResponseWriter, _ *http.Request) {
				time.Sleep(10 * time.Millisecond)
				io.WriteString(w, "fine")
			})
			c.SetShare(tc.share, 0)
			var wg sync.WaitGroup
			for range 50 {
				wg.Go(func() {
					req := get("x")
					req.Class = meta
					mustFetch(t, c, req)
				})
			}
			wg.Wait()
			if got := limits(c)[host]; got != tc.want || n.peak != tc.want {
				t.Errorf("%s: the limit is %d, the most connections at once were %d; want %d", tc.name, got, n.peak, tc.want)
			}
		})
	}
}

func TestShareIsAskedForByHost(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c, _ := inMemory(t, func(w http.ResponseWriter, r *http.Request) {
			if r.Host == "archive.example.org" {
				http.Redirect(w, r, "http://Mirror.example.org:8080/x", http.StatusFound)
			}
		})
		mustFetch(t, c, get("x"))
		want := map[string]int{"http://archive.example.org": 3, "http://mirror.example.org:8080": 5}
		for range 2 { // the hosts are known, and then they are not
			c.SetShare(nil, 0)
			c.SetShare(func(host string) int {
				n, ok := want[host]
				if !ok {
					t.Errorf("asked about %q", host)
				}
				return n
			}, 0)
			mustFetch(t, c, get("x"))
			if got := limits(c); !maps.Equal(got, want) {
				t.Errorf("the limits are %v, want %v", got, want)
			}
			c.mu.Lock()
			clear(c.hosts)
			c.mu.Unlock()
		}
	})
}

func TestShareStaysAcrossReconfigure(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c, _ := inMemory(t, func(http.ResponseWriter, *http.Request) {})
		mustFetch(t, c, get("x"))
		c.SetShare(some(5), 1000)
		cfg := c.settings.Load().cfg
		for _, step := range []struct {
			connections int
			rate        int64
			wantLimit   int
			wantRate    float64
		}{{20, 4000, 5, 1000}, {3, 500, 3, 500}, {connectionsPerHost, 0, 5, 1000}} {
			cfg.ConnectionsPerHost, cfg.Rate = step.connections, step.rate
			if err := c.Reconfigure(cfg); err != nil {
				t.Fatal(err)
			}
			if limit, rate := c.Stats().Hosts[0].Limit, c.limiter.bucket.Load().Limit(); limit != step.wantLimit || float64(rate) != step.wantRate {
				t.Errorf("of %d connections and %d B/s: %d and %v, want %d and %v", step.connections, step.rate, limit, rate, step.wantLimit, step.wantRate)
			}
		}
		c.SetShare(nil, 0)
		if got := c.Stats().Hosts[0].Limit; got != connectionsPerHost || c.limiter.mayWait() {
			t.Errorf("without a share the limit is %d", got)
		}
	})
}

// What runs goes on under a lower share, nothing starts before there is room, and
// nothing is kept open beyond it. A higher one lets what waits go on at once.
func TestShareIsLoweredAndRaised(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var release [6]chan struct{}
		for i := range release {
			release[i] = make(chan struct{})
		}
		c, n := inMemory(t, func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, "fi")
			w.(http.Flusher).Flush()
			if r.Host == "other.example.org" {
				return
			}
			<-release[r.URL.Path[len(r.URL.Path)-1]-'0']
			io.WriteString(w, "ne")
		}, func(cfg *Config) {
			cfg.Archives = append(cfg.Archives, Archive{Name: "b", Mirrors: []Mirror{{URL: &url.URL{Scheme: "http", Host: "other.example.org"}}}})
		})
		open := func() int {
			synctest.Wait()
			n.mu.Lock()
			defer n.mu.Unlock()
			return n.open
		}
		done := make(chan string, 6)
		start := func(i byte) {
			req := get("x" + string('0'+i))
			req.Class = meta
			go func() { _, got := mustFetch(t, c, req); done <- got }()
			synctest.Wait()
		}
		for i := range byte(5) {
			start(i)
		}
		close(release[4])
		<-done
		if got := open(); got != 5 {
			t.Fatalf("%d connections are open, want four in use and one kept", got)
		}

		c.SetShare(some(2), 0)
		if got := open(); got != 4 {
			t.Errorf("%d connections are open, want the four in use", got)
		}
		// Replicated business goes on, so that the transport keeps connections again.
		mustFetch(t, c, proto.Request{Loc: proto.Location{Archive: "b", Path: "x"}})
		start(5)
		for i, want := range []int{4, 3, 3} { // one of them to the other host
			close(release[i])
			<-done
			if got := open(); got != want {
				t.Errorf("%d connections are open after %d transfers more have ended, want %d", got, i+1, want)
			}
		}
		if h := c.Stats().Hosts[0]; h.InUse != 2 || h.Waiting != 0 {
			t.Errorf("%d in use, %d waiting; want 2 and 0", h.InUse, h.Waiting)
		}

		start(0) // its channel is closed: it needs a slot, and nothing else
		c.SetShare(some(3), 0)
		<-done
		close(release[3])
		close(release[5])
		<-done
		<-done
		if h := c.Stats().Hosts[0]; h.Requests[outcomeOK] != 7 || n.peak != 5 {
			t.Errorf("%v, %d connections at once", h.Requests, n.peak)
		}
	})
}

func TestShareOfTheRate(t *testing.T) {
	for _, tc := range []struct {
		configured, share, want int64
	}{{0, 0, 0}, {0, 9, 9}, {7, 0, 7}, {7, 3, 3}, {7, 9, 7}, {7, -1, 7}} {
		cfg := Config{Settings: Settings{Rate: tc.configured}}
		if got := (share{nil, tc.share}).rate(cfg); got != tc.want {
			t.Errorf("%d of %d: %d, want %d", tc.share, tc.configured, got, tc.want)
		}
	}
	bubble.Test(t, func(t *testing.T) {
		const size = 1 << 20
		c, _ := inMemory(t, func(w http.ResponseWriter, _ *http.Request) { w.Write(make([]byte, size)) },
			func(cfg *Config) { cfg.Rate = 1 << 20 })
		for _, part := range []int64{1, 4, 1} {
			c.SetShare(nil, 1<<20/part)
			began := time.Now()
			mustFetch(t, c, get("x"))
			want := time.Duration(part) * time.Second
			if took := time.Since(began); took < want*8/10 || took > want*11/10 {
				t.Errorf("at 1/%d of the rate it took %v, want about %v", part, took, want)
			}
		}
	})
}

// What metadata ran up under the whole rate is not paid off under a small part of it.
func TestLowerShareBeginsWithoutDebt(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		l := newLimiter()
		l.set(1 << 20)
		for range 1000 {
			if err := l.take(t.Context(), meta, 64<<10); err != nil {
				t.Fatal(err)
			}
		}
		l.set(1 << 20) // no change, and no remission
		began := time.Now()
		if err := l.take(t.Context(), pkg, 8<<10); err != nil || time.Since(began) < metadataDebt {
			t.Errorf("the same limit again: a package waited %v (%v), want %v", time.Since(began), err, metadataDebt)
		}
		for range 1000 {
			if err := l.take(t.Context(), meta, 64<<10); err != nil {
				t.Fatal(err)
			}
		}
		l.set(1 << 16)
		began = time.Now()
		for range 8 {
			if err := l.take(t.Context(), pkg, 8<<10); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(began); took > time.Second {
			t.Errorf("a second's worth under the lower limit took %v", took)
		}
	})
}

func TestHostsOf(t *testing.T) {
	at := func(scheme, host, path string) Mirror {
		return Mirror{URL: &url.URL{Scheme: scheme, Host: host, Path: path}}
	}
	c := client(t, "http://archive.example.org/debian", func(cfg *Config) {
		cfg.Archives = append(cfg.Archives, Archive{Name: "b", Mirrors: []Mirror{
			at("HTTPS", "ESM.example.org:8443", "/x"), at("http", "archive.example.org:80", "/x"), at("https", "esm.example.org:8443", "/y"),
		}})
	})
	for archive, want := range map[string][]string{
		"a": {"http://archive.example.org"},
		"b": {"https://esm.example.org:8443", "http://archive.example.org"},
		"c": nil,
	} {
		if got := c.HostsOf(archive); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", archive, got, want)
		}
	}
}

// Shares change while requests come and hosts become known.
func TestShareUnderLoad(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c, n := inMemory(t, func(w http.ResponseWriter, _ *http.Request) {
			time.Sleep(5 * time.Millisecond)
			io.WriteString(w, "fine")
		})
		var wg sync.WaitGroup
		for i := range 100 {
			wg.Go(func() {
				for range 10 {
					req := get("x")
					req.Class = proto.Class(i % classes)
					for {
						_, got, err := fetchAll(t.Context(), c, req)
						if err == nil {
							if string(got) != "fine" {
								t.Errorf("got %q", got)
							}
							break
						}
						if busy := unavailable(t, err); !strings.Contains(busy.Reason, "was preempted") {
							t.Error(busy)
							break
						}
					}
				}
			})
		}
		for i := range 50 {
			time.Sleep(7 * time.Millisecond)
			c.SetShare(some(i%5+1), int64(i%3)*1e6)
		}
		c.SetShare(nil, 0)
		wg.Wait()
		if h := c.Stats().Hosts[0]; h.InUse != 0 || h.Waiting != 0 || h.Requests[outcomeOK] != 1000 || n.peak > 8 {
			t.Errorf("%+v, %d connections at once", h, n.peak)
		}
	})
}
