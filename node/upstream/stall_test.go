package upstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aptmesh/aptmesh/proto"
	"github.com/aptmesh/aptmesh/proto/bubble"
)

// hang sends what is given and then nothing, until the client leaves.
func hang(w http.ResponseWriter, r *http.Request, size int, head string) {
	w.Header().Set("Content-Length", strconv.Itoa(size))
	io.WriteString(w, head)
	w.(http.Flusher).Flush()
	<-r.Context().Done()
}

func TestStalledBodyFails(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c, _ := inMemory(t, func(w http.ResponseWriter, r *http.Request) { hang(w, r, 100, "some") })
		tr, err := c.Fetch(t.Context(), get("pool/x.deb"))
		if err != nil {
			t.Fatal(err)
		}
		defer tr.Body.Close()
		began := time.Now()
		got, err := io.ReadAll(tr.Body)
		if busy := unavailable(t, err); !strings.Contains(busy.Reason, "archive.example.org stalled: no byte for 5s") {
			t.Errorf("the reason is %q", busy.Reason)
		}
		if string(got) != "some" || time.Since(began) != stallTimeout {
			t.Errorf("%q came, and the end after %v", got, time.Since(began))
		}
		if _, again := tr.Body.Read(make([]byte, 1)); again != err {
			t.Errorf("a later Read says %v", again)
		}
	})
}

func TestSlowCallerIsNoStall(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		body := strings.Repeat("x", 256<<10)
		c, _ := inMemory(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, body) })
		tr, err := c.Fetch(t.Context(), get("pool/x.deb"))
		if err != nil {
			t.Fatal(err)
		}
		defer tr.Body.Close()
		buf, n := make([]byte, 64<<10), 0
		for err == nil {
			time.Sleep(time.Minute)
			var k int
			k, err = tr.Body.Read(buf)
			n += k
		}
		if err != io.EOF || n != len(body) {
			t.Errorf("%d bytes, then %v", n, err)
		}
	})
}

func TestTimeoutsBeforeTheBody(t *testing.T) {
	t.Run("header", func(t *testing.T) {
		bubble.Test(t, func(t *testing.T) {
			c, _ := inMemory(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
			began := time.Now()
			_, err := c.Fetch(t.Context(), get("pool/x.deb"))
			if busy := unavailable(t, err); !strings.Contains(busy.Reason, "archive.example.org did not answer within 8s") {
				t.Errorf("the reason is %q", busy.Reason)
			}
			if took := time.Since(began); took != headerTimeout {
				t.Errorf("it took %v", took)
			}
		})
	})
	t.Run("connection", func(t *testing.T) {
		bubble.Test(t, func(t *testing.T) {
			var aborted atomic.Bool
			c := client(t, "http://archive.example.org/", func(cfg *Config) {
				cfg.Dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
					<-ctx.Done()
					aborted.Store(true)
					return nil, ctx.Err()
				}
			})
			began := time.Now()
			_, err := c.Fetch(t.Context(), get("pool/x.deb"))
			if busy := unavailable(t, err); !strings.Contains(busy.Reason, "no connection to http://archive.example.org within 5s") {
				t.Errorf("the reason is %q", busy.Reason)
			}
			if took := time.Since(began); took != connectTimeout {
				t.Errorf("it took %v", took)
			}
			synctest.Wait()
			if !aborted.Load() {
				t.Error("the dial outlived its request")
			}
		})
	})
}

// Eight transfers that stall must not keep a healthy one out.
func TestStalledTransfersLoseTheirSlots(t *testing.T) {
	for _, stall := range []string{"body", "header", "dial"} {
		t.Run(stall, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				var dials atomic.Int32
				c, n := inMemory(t, func(w http.ResponseWriter, r *http.Request) {
					switch {
					case strings.Contains(r.URL.Path, "healthy"):
						io.WriteString(w, "fine")
					case stall == "body":
						hang(w, r, 10<<20, strings.Repeat("x", 5000))
					default:
						<-r.Context().Done()
					}
				})
				if stall == "dial" {
					real := n.dial
					cfg := c.settings.Load().cfg
					cfg.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
						if dials.Add(1) <= 8 {
							<-ctx.Done()
							return nil, ctx.Err()
						}
						return real(ctx, network, addr)
					}
					if err := c.Reconfigure(cfg); err != nil {
						t.Fatal(err)
					}
				}
				ended := make(chan error, 8)
				for i := range 8 {
					req := get(fmt.Sprintf("pool/stalled%d.deb", i))
					if i == 7 {
						req.Class = proto.ClassMetadata // the eighth slot is metadata's
					}
					go func() {
						_, _, err := fetchAll(t.Context(), c, req)
						ended <- err
					}()
				}
				synctest.Wait()
				began := time.Now()
				for i := range 3 {
					if _, got := mustFetch(t, c, get(fmt.Sprintf("pool/healthy%d.deb", i))); got != "fine" {
						t.Errorf("got %q", got)
					}
				}
				if took := time.Since(began); took > 2*time.Second+watchEvery {
					t.Errorf("the healthy transfers took %v", took)
				}
				busy := unavailable(t, <-ended)
				if !strings.Contains(busy.Reason, "stalled; gave its place to a waiting transfer") {
					t.Errorf("the stalled transfer ended with %q", busy.Reason)
				}
				if got := c.Stats().Hosts[0].Requests[outcomePreempted]; got != 1 {
					t.Errorf("%d transfers were pre-empted, want 1: its place serves all three", got)
				}
				for range 7 {
					unavailable(t, <-ended) // by their own timeouts
				}
				if n.peak > 8 {
					t.Errorf("%d connections at once, want at most 8", n.peak)
				}
			})
		})
	}
}

func TestPreemptedTransferIsResumed(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		content := []byte(strings.Repeat("0123456789", 10_000))
		var tries atomic.Int32
		c, _ := inMemory(t, func(w http.ResponseWriter, r *http.Request) {
			if strings.Contains(r.URL.Path, "big") && tries.Add(1) == 1 {
				hang(w, r, len(content), string(content[:30_000]))
				return
			}
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
		}, func(cfg *Config) { cfg.ConnectionsPerHost = 1 })

		whole := make(chan []byte)
		go func() {
			var got []byte
			for {
				req := get("pool/big.deb")
				req.Offset = int64(len(got))
				tr, part, err := fetchAll(t.Context(), c, req)
				if tr != nil && tr.Offset != req.Offset {
					t.Errorf("resumed at %d, asked for %d", tr.Offset, req.Offset)
				}
				got = append(got, part...)
				if err == nil {
					whole <- got
					return
				}
			}
		}()
		synctest.Wait()
		mustFetch(t, c, get("pool/small.deb"))
		if got := <-whole; !bytes.Equal(got, content) {
			// fetchAll drops nothing: what came before the break counts
			t.Errorf("%d bytes after the resume, want %d equal ones", len(got), len(content))
		}
	})
}

func TestRateLimit(t *testing.T) {
	const limit, size = 256 << 10, 1 << 20
	timeOf := func(t *testing.T, limit int64, requests ...proto.Request) time.Duration {
		var took time.Duration
		bubble.Test(t, func(t *testing.T) {
			body := strings.Repeat("x", size)
			c, _ := inMemory(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Length", strconv.Itoa(size))
				io.WriteString(w, body)
			}, func(cfg *Config) { cfg.Rate = limit })
			began := time.Now()
			done := make(chan error)
			for _, req := range requests {
				go func() {
					_, got, err := fetchAll(t.Context(), c, req)
					if len(got) != size && err == nil {
						err = errors.New("short")
					}
					done <- err
				}()
			}
			for range requests {
				if err := <-done; err != nil {
					t.Error(err)
				}
			}
			took = time.Since(began)
		})
		return took
	}
	of := func(class proto.Class) proto.Request {
		return proto.Request{Loc: proto.Location{Archive: "a", Path: "x"}, Class: class}
	}
	near := func(what string, got, want time.Duration) {
		if got < want*9/10 || got > want*11/10 {
			t.Errorf("%s took %v, want about %v", what, got, want)
		}
	}
	near("a package", timeOf(t, limit, of(pkg)), 4*time.Second)
	near("two packages", timeOf(t, limit, of(pkg), of(pkg)), 8*time.Second)
	near("a prefetch", timeOf(t, limit, of(prefetch)), 4*time.Second)
	near("a package beside a prefetch", timeOf(t, limit, of(pkg), of(prefetch)), 8*time.Second)
	// Pauses add up to far more than StallTimeout:
	// a wait for the limit is no stall.
	near("a package over a trickle", timeOf(t, 16<<10, of(pkg)), 64*time.Second)
	if took := timeOf(t, limit, of(meta)); took > 0 {
		t.Errorf("metadata waited %v", took)
	}
	if took := timeOf(t, 0, of(pkg)); took > 0 {
		t.Errorf("without a limit a package waited %v", took)
	}
}

// One big index must not hold up packages for longer than the debt that is allowed.
func TestMetadataRunsUpABoundedDebt(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		const limit = 64 << 10
		l := newLimiter()
		l.set(limit)
		for range 1000 {
			if err := l.take(t.Context(), meta, 8<<10); err != nil {
				t.Fatal(err)
			}
		}
		began := time.Now()
		if err := l.take(t.Context(), pkg, 8<<10); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took < metadataDebt || took > metadataDebt+time.Second {
			t.Errorf("a package waited %v", took)
		}
	})
}

func TestReconfigureClosesOldConnections(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		c, n := inMemory(t, func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, "slow") {
				<-release
			}
			io.WriteString(w, "fine")
		})
		done := make(chan error)
		go func() { _, _, err := fetchAll(t.Context(), c, get("slow")); done <- err }()
		mustFetch(t, c, get("quick"))
		synctest.Wait()
		if err := c.Reconfigure(c.settings.Load().cfg); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		n.mu.Lock()
		if n.open != 1 {
			t.Errorf("%d connections are open, want the one in use", n.open)
		}
		n.mu.Unlock()
		close(release)
		if err := <-done; err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if n.open != 0 {
			t.Errorf("%d connections are open after the last transfer", n.open)
		}
	})
}

func TestPackagesGoBeforePrefetchUnderTheRateLimit(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		const size = 4 << 20
		c, _ := inMemory(t, func(w http.ResponseWriter, r *http.Request) {
			w.Write(make([]byte, size))
		}, func(cfg *Config) { cfg.Rate = 1 << 20 })
		order := make(chan proto.Class, 2)
		for _, class := range []proto.Class{prefetch, pkg} {
			go func() {
				if _, _, err := fetchAll(t.Context(), c, proto.Request{Loc: proto.Location{Archive: "a", Path: "x"}, Class: class}); err != nil {
					t.Error(err)
				}
				order <- class
			}()
		}
		began := time.Now()
		if first := <-order; first != pkg {
			t.Errorf("%s was done first", first)
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("the package took %v beside a prefetch, 4 s alone", took)
		}
		<-order
	})
}

func TestCapHoldsInAHerd(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var now, peak atomic.Int32
		c, n := inMemory(t, func(w http.ResponseWriter, r *http.Request) {
			if k := now.Add(1); k > peak.Load() {
				peak.Store(k)
			}
			time.Sleep(10 * time.Millisecond)
			io.WriteString(w, "fine")
			now.Add(-1)
		})
		done := make(chan error)
		for i := range 200 {
			req := get("x")
			req.Class = proto.Class(i % classes)
			go func() { _, _, err := fetchAll(t.Context(), c, req); done <- err }()
		}
		for range 200 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		if n.peak > 8 || peak.Load() > 8 {
			t.Errorf("%d connections and %d requests at once, want at most 8", n.peak, peak.Load())
		}
		if h := c.Stats().Hosts[0]; h.InUse != 0 || h.Waiting != 0 || h.Requests[outcomeOK] != 200 || h.Bytes != 800 {
			t.Errorf("stats: %+v", h)
		}
	})
}

func TestCallerLeaves(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c, _ := inMemory(t, func(w http.ResponseWriter, r *http.Request) { hang(w, r, 100, "some") })
		ctx, cancel := context.WithCancel(t.Context())
		tr, err := c.Fetch(ctx, get("x"))
		if err != nil {
			t.Fatal(err)
		}
		cancel()
		// The caller's own end is no trouble of the upstream's.
		var busy *proto.Unavailable
		if _, err := io.ReadAll(tr.Body); !errors.Is(err, context.Canceled) || errors.As(err, &busy) {
			t.Errorf("the body ended with %v", err)
		}
		if h := c.Stats().Hosts[0]; h.InUse != 0 || h.LastError != "" {
			t.Errorf("stats: %+v", h)
		}
		tr.Body.Close()
	})
}

func TestCallerLeavesTheQueue(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c, _ := inMemory(t, func(w http.ResponseWriter, r *http.Request) { hang(w, r, 100, "") },
			func(cfg *Config) { cfg.ConnectionsPerHost = 1 })
		go fetchAll(t.Context(), c, get("x"))
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		_, err := c.Fetch(ctx, get("y"))
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "archive.example.org/debian/y") {
			t.Errorf("error is %v", err)
		}
		if h := c.Stats().Hosts[0]; h.InUse != 1 || h.Waiting != 0 || h.Requests[outcomeCancelled] != 1 {
			t.Errorf("stats: %+v", h)
		}
	})
}

func TestCloseInterruptsARead(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c, _ := inMemory(t, func(w http.ResponseWriter, r *http.Request) { hang(w, r, 100, "some") })
		began := time.Now()
		tr, err := c.Fetch(t.Context(), get("x"))
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan error)
		go func() { _, err := io.ReadAll(tr.Body); ended <- err }()
		synctest.Wait()
		tr.Body.Close()
		if err := <-ended; !errors.Is(err, http.ErrBodyReadAfterClose) {
			t.Errorf("the Read ended with %v", err)
		}
		tr, err = c.Fetch(t.Context(), get("x"))
		if err != nil {
			t.Fatal(err)
		}
		go func() { _, err := io.ReadAll(tr.Body); ended <- err }()
		synctest.Wait()
		c.Close()
		if err := <-ended; !errors.Is(err, errClosed) {
			t.Errorf("after the client's Close the Read ended with %v", err)
		}
		if _, err := c.Fetch(t.Context(), get("x")); !errors.Is(err, errClosed) {
			t.Errorf("Fetch after Close says %v", err)
		}
		if took := time.Since(began); took > 0 {
			t.Errorf("it took %v", took)
		}
	})
}
