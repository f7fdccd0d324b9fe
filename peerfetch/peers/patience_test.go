package peers

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

func wantAll() proto.Ask { return proto.Ask{Want: proto.Want{Where: where}, Fill: true} }

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
	synctest.Test(t, func(t *testing.T) {
		b := content(100)
		a, _, _ := inMemory(t, link{delay: 50 * time.Millisecond}, Config{}, func(context.Context, string, proto.Ask) (*proto.Blob, error) {
			time.Sleep(time.Minute)
			return &proto.Blob{Ref: proto.Ref{Size: 100}, Stream: io.NopCloser(io.MultiReader(bytes.NewReader(b[:50]), pause(time.Minute), bytes.NewReader(b[50:])))}, nil
		})
		began := time.Now()
		tr, err := a.Fetch(t.Context(), "b", wantAll())
		if err != nil {
			t.Fatal(err)
		}
		got, err := body(tr)
		if err != nil || !bytes.Equal(got, b) || time.Since(began) < 2*time.Minute {
			t.Errorf("%d bytes, %v after %v", len(got), err, time.Since(began))
		}
	})
}

type pause time.Duration

func (p pause) Read([]byte) (int, error) {
	time.Sleep(time.Duration(p))
	return 0, io.EOF
}

// A peer behind a connection that swallows everything is given up: after a second
// where nothing has come yet, after three in the middle, long before the
// connection itself is.
func TestBlackHole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		a, _, n := inMemory(t, link{delay: 50 * time.Millisecond}, Config{}, func(ctx context.Context, _ string, _ proto.Ask) (*proto.Blob, error) {
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
	synctest.Test(t, func(t *testing.T) {
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
				synctest.Test(t, func(t *testing.T) {
					a, _, _ := inMemory(t, link{delay: 50 * time.Millisecond, rate: rate}, Config{}, func(context.Context, string, proto.Ask) (*proto.Blob, error) {
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
	synctest.Test(t, func(t *testing.T) {
		b := content(100 << 10)
		a, _, _ := inMemory(t, link{delay: 50 * time.Millisecond}, Config{}, func(context.Context, string, proto.Ask) (*proto.Blob, error) {
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
	synctest.Test(t, func(t *testing.T) {
		b := content(2 << 20)
		a, _, _ := inMemory(t, link{delay: 50 * time.Millisecond, rate: 40 << 10}, Config{}, func(context.Context, string, proto.Ask) (*proto.Blob, error) {
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
	// The window must be longer than a loaded machine takes to send the first half.
	timing := Timing{Keepalive: 50 * time.Millisecond, FloorWindow: 2 * time.Second, Progress: time.Minute, Accept: time.Minute}
	a, _ := pair(t, Config{Timing: timing}, func(ctx context.Context, _ string, _ proto.Ask) (*proto.Blob, error) {
		context.AfterFunc(ctx, func() { stuck.Close() }) // else nothing would end the read
		return &proto.Blob{Ref: proto.Ref{Size: 20}, File: stuck}, nil
	})
	tr, err := a.Fetch(t.Context(), "b", wantAll())
	if err != nil {
		t.Fatal(err)
	}
	got, err := body(tr)
	wantFailed(t, err, errTooSlow)
	if string(got) != "half of it" {
		t.Errorf("%q", got)
	}
}

// A reader that takes its time is not the peer's fault either.
func TestSlowReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := content(12 << 20)
		a, _, _ := inMemory(t, link{delay: 50 * time.Millisecond, rate: 100 << 20}, Config{}, func(context.Context, string, proto.Ask) (*proto.Blob, error) {
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
	synctest.Test(t, func(t *testing.T) {
		b := content(200 << 10)
		a, _, _ := inMemory(t, link{delay: 50 * time.Millisecond, rate: 700 << 10, buffer: 128 << 10}, Config{}, func(context.Context, string, proto.Ask) (*proto.Blob, error) {
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
