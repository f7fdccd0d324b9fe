package peers

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/aptmesh/aptmesh/proto"
	"github.com/aptmesh/aptmesh/proto/bubble"
)

func wantAll() proto.PeerRequest {
	return proto.PeerRequest{Object: proto.ObjectRequest{Where: where}, Fill: true}
}

// wantFailed checks that err says that b failed, for that reason.
func wantFailed(t *testing.T, err error, reason error) {
	t.Helper()
	var failed *proto.PeerFailed
	if !errors.As(err, &failed) || failed.Peer != "b" || !errors.Is(err, reason) {
		t.Errorf("%v, want a failure of node b: %v", err, reason)
	}
}

// A peer that waits for upstream is waited for, before the first byte and in the
// middle.
func TestSilentUpstream(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := content(100)
		a, _, _ := inMemory(t, link{delay: 50 * time.Millisecond}, Config{}, func(context.Context, string, proto.PeerRequest) (*proto.Blob, error) {
			time.Sleep(7 * time.Second)
			return &proto.Blob{Ref: proto.Ref{Size: 100}, Tier: proto.TierUpstream, Stream: io.NopCloser(io.MultiReader(bytes.NewReader(b[:50]), pause(7*time.Second), bytes.NewReader(b[50:])))}, nil
		})
		began := time.Now()
		tr, err := a.Fetch(t.Context(), "b", wantAll())
		if err != nil {
			t.Fatal(err)
		}
		got, err := body(tr)
		if err != nil || !bytes.Equal(got, b) || time.Since(began) < 14*time.Second {
			t.Errorf("%d bytes, %v after %v", len(got), err, time.Since(began))
		}
	})
}

type pause time.Duration

func (p pause) Read([]byte) (int, error) {
	time.Sleep(time.Duration(p))
	return 0, io.EOF
}

// besideSilent is a node beside b, which takes requests and gives nothing but
// keepalives. tune makes b what else it is.
func besideSilent(t *testing.T, log *logged, tune func(b *Config)) *Mesh {
	t.Helper()
	meshes, _ := cluster(t, func(name string, cfg *Config) {
		if name != "b" {
			cfg.Logger = log.logger()
			return
		}
		cfg.Handler = handlerFunc(func(ctx context.Context, _ string, _ proto.PeerRequest) (*proto.Blob, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		})
		if tune != nil {
			tune(cfg)
		}
	}, "a", "b", "c")
	return meshes[0]
}

// statusOfB is b as a node sees it.
func statusOfB(m *Mesh) PeerStatus { return m.Peers()[0] }

// A peer that takes a request and then only says that it is there is left after a
// bounded time, whatever it says it waits for, whatever the size of the object, and
// although it is the only one.
func TestPeerThatOnlyKeepsAlive(t *testing.T) {
	hangs := func() time.Duration { return 2 * time.Second }
	// It does not know better than to wait.
	patient := Timing{Stuck: time.Hour, Progress: 24 * time.Hour}
	for _, test := range []struct {
		what    string
		stuck   func() time.Duration
		timing  Timing // of the one that is asked
		fill    bool
		want    error
		within  time.Duration
		healthy bool
	}{
		{"it waits for upstream", nil, Timing{}, true, proto.ErrSlowUpstream, 16 * time.Second, true},
		{"it waits for its disk", hangs, patient, true, errStalled, 4 * time.Second, false},
		{"it waits for its disk, and was not asked to get it", hangs, patient, false, errStalled, 4 * time.Second, false},
		{"it has found out that its disk hangs", hangs, Timing{}, true, errStuck, 3 * time.Second, false},
	} {
		for _, size := range []int64{100, 1 << 30} {
			bubble.Test(t, func(t *testing.T) {
				a := besideSilent(t, new(logged), func(b *Config) { b.Stuck, b.Timing = test.stuck, test.timing })
				peerReq := proto.PeerRequest{Object: proto.ObjectRequest{Ref: proto.Ref{Digest: blob(1), Size: size}, Where: where}, Fill: test.fill}
				began := time.Now()
				_, err := a.Fetch(t.Context(), "b", peerReq)
				took := time.Since(began)
				t.Logf("%s: %d bytes, left after %v: %v", test.what, size, took, err)
				wantFailed(t, err, test.want)
				if took > test.within {
					t.Errorf("%s: left after %v", test.what, took)
				}
				if got := statusOfB(a).Healthy; got != test.healthy {
					t.Errorf("%s: healthy: %v", test.what, got)
				}
			})
		}
	}
}

// Who was not asked to get an object and waits for upstream does not have it yet.
func TestHolderThatWaitsForUpstream(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		a := besideSilent(t, new(logged), nil)
		peerReq := wantAll()
		peerReq.Fill = false
		began := time.Now()
		_, err := a.Fetch(t.Context(), "b", peerReq)
		var busy *proto.NotStored
		if !errors.As(err, &busy) || !busy.Busy || busy.Peer != "b" || time.Since(began) > 4*time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		if p := statusOfB(a); !p.Healthy || p.Lags {
			t.Errorf("%+v", p)
		}
	})
}

// A byte now and then is no progress, neither of upstream nor of what the peer has at
// hand; that the peer claims to have no more makes no difference.
func TestDrippingPeer(t *testing.T) {
	for _, test := range []struct {
		tier   proto.Tier
		every  time.Duration
		want   error
		within time.Duration
	}{
		{proto.TierUpstream, 2 * time.Second, proto.ErrSlowUpstream, 18 * time.Second},
		{proto.TierUpstream, 500 * time.Millisecond, proto.ErrSlowUpstream, 17 * time.Second}, // it never says what it waits for
		{proto.TierDisk, 2 * time.Second, errStalled, 6 * time.Second},
		{proto.TierMemory, 500 * time.Millisecond, errStalled, 4 * time.Second},
	} {
		bubble.Test(t, func(t *testing.T) {
			b := content(100_000)
			a, _, _ := inMemory(t, link{delay: 50 * time.Millisecond}, Config{}, func(context.Context, string, proto.PeerRequest) (*proto.Blob, error) {
				return &proto.Blob{Ref: proto.Ref{Size: int64(len(b))}, Tier: test.tier, Stream: io.NopCloser(&trickle{bytes.NewReader(b), 1, test.every})}, nil
			})
			began := time.Now()
			tr, err := a.Fetch(t.Context(), "b", wantAll())
			if err != nil {
				t.Fatal(err)
			}
			_, err = body(tr)
			took := time.Since(began)
			t.Logf("a byte every %v of %s: left after %v: %v", test.every, test.tier, took, err)
			wantFailed(t, err, test.want)
			if took > test.within {
				t.Errorf("left after %v", took)
			}
		})
	}
}

// A peer that was left because it gave nothing is not asked by other transfers for a
// while, though it answers pings, and everybody can see it.
func TestStalledPeerIsAvoided(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		log := new(logged)
		a := besideSilent(t, log, func(b *Config) {
			b.Stuck, b.Timing.Stuck = func() time.Duration { return 2 * time.Second }, time.Hour
		})
		stall := func() {
			t.Helper()
			_, err := a.Fetch(t.Context(), "b", wantAll())
			wantFailed(t, err, errStalled)
		}
		away := func() time.Duration {
			began := time.Now()
			for !a.usableName("b") {
				time.Sleep(100 * time.Millisecond)
			}
			return time.Since(began)
		}
		stall()
		time.Sleep(5 * time.Second)
		if p := statusOfB(a); p.Healthy || !p.Stalled || !strings.Contains(p.LastError, "its disk") {
			t.Errorf("after it stalled: %+v", p)
		}
		if first := away() + 5*time.Second; first < 14*time.Second || first > 18*time.Second {
			t.Errorf("it was left alone for %v", first)
		}
		stall()
		if second := away(); second < 29*time.Second || second > 33*time.Second {
			t.Errorf("the second time it was left alone for %v", second)
		}
		if !strings.Contains(log.String(), "gives nothing") {
			t.Errorf("the log says:\n%s", log)
		}
		if n := testutil.ToFloat64(a.metrics.stalls.WithLabelValues("b", "peer")); n != 2 {
			t.Errorf("%v stalls are counted", n)
		}
	})
}

// A node whose disk hangs tells so when it is pinged: nobody needs to find out with a
// transfer.
func TestNodeKnowsThatItsDiskHangs(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var hangs atomic.Int64
		a := besideSilent(t, new(logged), func(b *Config) { b.Stuck = func() time.Duration { return time.Duration(hangs.Load()) } })
		if !a.usableName("b") {
			t.Fatal("b cannot be asked")
		}
		hangs.Store(int64(10 * time.Second))
		time.Sleep(2 * time.Second)
		if p := statusOfB(a); p.Healthy || !p.Stalled || !strings.Contains(p.LastError, errStuck.Error()) {
			t.Errorf("while its disk hangs: %+v", p)
		}
		if !a.reachableName("b") {
			t.Error("it cannot be asked for what needs no disk")
		}
		hangs.Store(0)
		time.Sleep(2 * time.Second)
		if p := statusOfB(a); !p.Healthy || p.Stalled {
			t.Errorf("when its disk answers again: %+v", p)
		}
	})
}

// A node for which upstream is slow is asked after the others, until it delivers.
func TestLaggingOwnerIsAskedLast(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		a := besideSilent(t, new(logged), nil)
		names := []string{"b", "a", "c"}
		if got := a.lagsLast(slices.Clone(names)); !slices.Equal(got, names) {
			t.Errorf("%v", got)
		}
		a.peer("b").health.lagging(proto.ErrSlowUpstream, time.Now())
		if got := a.lagsLast(slices.Clone(names)); !slices.Equal(got, []string{"a", "c", "b"}) {
			t.Errorf("b lags: %v", got)
		}
		a.peer("b").health.delivered(false)
		if got := a.lagsLast(slices.Clone(names)); got[2] != "b" {
			t.Errorf("b gave what it held: %v", got)
		}
		a.peer("b").health.delivered(true)
		if got := a.lagsLast(slices.Clone(names)); !slices.Equal(got, names) {
			t.Errorf("b delivered: %v", got)
		}
		a.peer("b").health.lagging(proto.ErrSlowUpstream, time.Now())
		time.Sleep(lagFor)
		if got := a.lagsLast(slices.Clone(names)); !slices.Equal(got, names) {
			t.Errorf("after a while: %v", got)
		}
	})
}

// A peer behind a connection that swallows everything is given up: after a second
// where nothing has come yet, after three in the middle, long before the
// connection itself is.
func TestBlackHole(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		a, _, n := inMemory(t, link{delay: 50 * time.Millisecond}, Config{}, func(ctx context.Context, _ string, _ proto.PeerRequest) (*proto.Blob, error) {
			return &proto.Blob{Ref: proto.Ref{Size: 100}, Stream: io.NopCloser(io.MultiReader(strings.NewReader("x"), until(release), until(ctx.Done())))}, nil
		})
		tr, err := a.Fetch(t.Context(), "b", wantAll())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(tr.Body, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		n.swallow()
		began := time.Now()
		_, err = body(tr)
		wantFailed(t, err, errNoProgress)
		if took := time.Since(began); took < 2*time.Second || took > 3*time.Second {
			t.Errorf("given up after %v", took)
		}
		began = time.Now()
		_, err = a.Fetch(t.Context(), "b", wantAll())
		wantFailed(t, err, errNoAccept)
		if took := time.Since(began); took != time.Second {
			t.Errorf("given up after %v", took)
		}
		close(release)
	})
}

// A node on the other side of the world is given the time that it needs.
func TestLongRoundTrip(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		a, _, _ := inMemory(t, link{delay: 600 * time.Millisecond}, Config{}, said)
		time.Sleep(time.Minute) // the round trip is measured
		if got, err := tell(t, a); got != "a" || err != nil {
			t.Errorf("%q, %v", got, err)
		}
	})
}

// until reads nothing until its channel is closed.
type until <-chan struct{}

func (u until) Read([]byte) (int, error) {
	<-u
	return 0, io.EOF
}

// A connection that delivers more slowly than the floor what the peer has is
// given up, whatever carries the bytes there; one that is a little faster is not.
func TestThrottledPeer(t *testing.T) {
	b := content(1 << 20)
	for name, blob := range carriers(t, b, 0) {
		for _, rate := range []int64{40 << 10, 100 << 10} {
			t.Run(name, func(t *testing.T) {
				bubble.Test(t, func(t *testing.T) {
					a, _, _ := inMemory(t, link{delay: 50 * time.Millisecond, rate: rate}, Config{}, func(context.Context, string, proto.PeerRequest) (*proto.Blob, error) {
						return blob(), nil
					})
					began := time.Now()
					tr, err := a.Fetch(t.Context(), "b", askFor(b, 0))
					if err != nil {
						t.Fatal(err)
					}
					got, err := body(tr)
					if rate > 64<<10 {
						if err != nil || !bytes.Equal(got, b) {
							t.Errorf("at %d bytes/s: %d bytes, %v", rate, len(got), err)
						}
						return
					}
					wantFailed(t, err, errTooSlow)
					if took := time.Since(began); took > 10*time.Second {
						t.Errorf("given up after %v", took)
					}
				})
			})
		}
	}
}

// An upstream as slow as that is not the peer's fault.
func TestSlowUpstream(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := content(100 << 10)
		a, _, _ := inMemory(t, link{delay: 50 * time.Millisecond}, Config{}, func(context.Context, string, proto.PeerRequest) (*proto.Blob, error) {
			return &proto.Blob{Ref: proto.Ref{Size: int64(len(b))}, Stream: io.NopCloser(&trickle{bytes.NewReader(b), 1 << 10, 100 * time.Millisecond})}, nil
		})
		tr, err := a.Fetch(t.Context(), "b", wantAll())
		if err != nil {
			t.Fatal(err)
		}
		if got, err := body(tr); err != nil || !bytes.Equal(got, b) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
	})
}

// trickle gives n bytes per pause.
type trickle struct {
	r     io.Reader
	n     int
	pause time.Duration
}

func (s *trickle) Read(b []byte) (int, error) {
	time.Sleep(s.pause)
	return s.r.Read(b[:min(len(b), s.n)])
}

// Where a connection swallows a lot before it slows down the sender, it is told by
// how late the bytes come: at no moment has the peer more than it has sent.
func TestThrottledBehindBuffers(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := content(2 << 20)
		a, _, _ := inMemory(t, link{delay: 50 * time.Millisecond, rate: 40 << 10}, Config{}, func(context.Context, string, proto.PeerRequest) (*proto.Blob, error) {
			return &proto.Blob{Ref: proto.Ref{Size: int64(len(b))}, Stream: io.NopCloser(&trickle{bytes.NewReader(b), 10 << 10, 100 * time.Millisecond})}, nil
		})
		began := time.Now()
		tr, err := a.Fetch(t.Context(), "b", wantAll())
		if err != nil {
			t.Fatal(err)
		}
		_, err = body(tr)
		wantFailed(t, err, errTooSlow)
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("given up after %v", took)
		}
	})
}

// A peer that cannot read its own disk any more has the bytes, and does not deliver
// them.
func TestStuckDisk(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Skip(err)
	}
	stuck, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stuck.WriteString("half of it"); err != nil {
		t.Fatal(err)
	}
	// It must be longer than a loaded machine takes to send the first half.
	timing := Timing{Keepalive: 50 * time.Millisecond, Stuck: 2 * time.Second, Progress: time.Minute, Accept: time.Minute}
	a, _ := pair(t, Config{Timing: timing}, func(ctx context.Context, _ string, _ proto.PeerRequest) (*proto.Blob, error) {
		context.AfterFunc(ctx, func() { stuck.Close() }) // else nothing would end the read
		return &proto.Blob{Ref: proto.Ref{Size: 20}, File: stuck}, nil
	})
	tr, err := a.Fetch(t.Context(), "b", wantAll())
	if err != nil {
		t.Fatal(err)
	}
	got, err := body(tr)
	wantFailed(t, err, errStuck)
	if string(got) != "half of it" {
		t.Errorf("%q", got)
	}
}

// A reader that takes its time is not the peer's fault either.
func TestSlowReader(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := content(12 << 20)
		a, _, _ := inMemory(t, link{delay: 50 * time.Millisecond, rate: 100 << 20}, Config{}, func(context.Context, string, proto.PeerRequest) (*proto.Blob, error) {
			return &proto.Blob{Ref: proto.Ref{Size: int64(len(b))}, Bytes: b}, nil
		})
		tr, err := a.Fetch(t.Context(), "b", wantAll())
		if err != nil {
			t.Fatal(err)
		}
		defer tr.Body.Close()
		got := 0
		for buf := make([]byte, 1<<20); ; {
			n, err := io.ReadFull(tr.Body, buf)
			got += n
			if err != nil {
				break
			}
			time.Sleep(time.Minute)
		}
		if got != len(b) {
			t.Errorf("%d bytes", got)
		}
	})
}

// Many transfers that share a slow link are all carried to their end, though each
// is slower than the floor and more silent than one alone may be.
func TestCrowdedLink(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := content(200 << 10)
		a, _, _ := inMemory(t, link{delay: 50 * time.Millisecond, rate: 700 << 10, buffer: 128 << 10}, Config{}, func(context.Context, string, proto.PeerRequest) (*proto.Blob, error) {
			return &proto.Blob{Ref: proto.Ref{Size: int64(len(b))}, Bytes: b}, nil
		})
		var running sync.WaitGroup
		for range 40 {
			running.Go(func() {
				tr, err := a.Fetch(t.Context(), "b", wantAll())
				if err != nil {
					t.Error(err)
					return
				}
				if got, err := body(tr); err != nil || !bytes.Equal(got, b) {
					t.Errorf("%d bytes, %v", len(got), err)
				}
			})
		}
		running.Wait()
	})
}
