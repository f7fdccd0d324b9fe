package peers

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aptmesh/aptmesh/proto"
	"github.com/aptmesh/aptmesh/proto/bubble"
)

var modified = time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)

// carriers are the ways in which a handler may give the rest of b from offset on.
func carriers(t *testing.T, b []byte, offset int64) map[string]func() *proto.Blob {
	path := filepath.Join(t.TempDir(), "blob")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	ref := proto.Ref{Digest: proto.DigestOf(b), Size: int64(len(b))}
	return map[string]func() *proto.Blob{
		"bytes": func() *proto.Blob {
			return &proto.Blob{Ref: ref, Modified: modified, Verified: true, Tier: proto.TierMemory, Bytes: b[offset:]}
		},
		"file": func() *proto.Blob {
			f, err := os.Open(path)
			if err != nil {
				panic(err)
			}
			if _, err := f.Seek(offset, io.SeekStart); err != nil {
				panic(err)
			}
			return &proto.Blob{Ref: ref, Modified: modified, Verified: true, Tier: proto.TierDisk, File: f}
		},
		"stream": func() *proto.Blob {
			return &proto.Blob{Ref: ref, Verified: true, Tier: proto.TierUpstream, Stream: &datedStream{bytes.NewReader(b[offset:]), modified}}
		},
		"stream of unknown size": func() *proto.Blob {
			return &proto.Blob{Ref: proto.Ref{Size: proto.UnknownSize}, Tier: proto.TierUpstream, Stream: &datedStream{bytes.NewReader(b[offset:]), modified}}
		},
	}
}

// datedStream learns of Last-Modified at its end.
type datedStream struct {
	io.Reader
	modified time.Time
}

func (*datedStream) Close() error          { return nil }
func (s *datedStream) Modified() time.Time { return s.modified }

// Every carrier of a blob, every way of reading, from several offsets.
func TestFetch(t *testing.T) {
	var give func() *proto.Blob
	var asked proto.PeerRequest
	var from string
	a, _ := pair(t, Config{}, func(_ context.Context, f string, peerReq proto.PeerRequest) (*proto.Blob, error) {
		from, asked = f, peerReq
		return give(), nil
	})
	for _, size := range []int{0, 1, chunkSize, 3*chunkSize + 17} {
		b := content(size)
		for _, offset := range []int64{0, int64(size) / 3, int64(size)} {
			for name, blob := range carriers(t, b, offset) {
				give = blob
				for _, way := range []string{"Read", "WriteTo"} {
					peerReq := askFor(b, offset)
					tr, err := a.Fetch(t.Context(), "b", peerReq)
					if err != nil {
						t.Fatalf("%s of %d from %d: %v", name, size, offset, err)
					}
					got := new(bytes.Buffer)
					if way == "Read" {
						_, err = got.ReadFrom(struct{ io.Reader }{tr.Body})
					} else {
						_, err = tr.Body.(io.WriterTo).WriteTo(got)
					}
					if err != nil || !bytes.Equal(got.Bytes(), b[offset:]) {
						t.Fatalf("%s of %d from %d by %s: %d bytes, %v", name, size, offset, way, got.Len(), err)
					}
					if n, err := tr.Body.Read(make([]byte, 1)); n != 0 || err != io.EOF {
						t.Errorf("after the end: %d, %v", n, err)
					}
					wantSize := int64(size)
					if name == "stream of unknown size" {
						wantSize = proto.UnknownSize
					}
					if tr.Size != wantSize || tr.Offset != offset || tr.Tier != proto.TierPeer || tr.NotModified || !tr.Modified.Equal(modified) {
						t.Errorf("%s of %d from %d: %+v", name, size, offset, tr)
					}
					if err := tr.Body.Close(); err != nil {
						t.Error(err)
					}
					if from != "a" || asked.Offset != offset || !asked.Fill || asked.Object.Ref != peerReq.Object.Ref ||
						asked.Object.Where.First != where.First || asked.Object.Class != proto.ClassPackage {
						t.Errorf("%s asked for %+v", from, asked)
					}
				}
			}
		}
	}
}

// The node that is asked knows whose requests it works for.
func TestFetchNamesProxies(t *testing.T) {
	var via []string
	a, _ := pair(t, Config{}, func(ctx context.Context, _ string, _ proto.PeerRequest) (*proto.Blob, error) {
		via = proto.Via(ctx)
		return &proto.Blob{Ref: proto.Ref{Size: 1}, Bytes: []byte("x")}, nil
	})
	for _, want := range [][]string{nil, {"aptmesh-1", "proxy:3128"}} {
		tr, err := a.Fetch(proto.WithVia(t.Context(), want), "b", askFor([]byte("x"), 0))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := body(tr); err != nil || !slices.Equal(via, want) {
			t.Errorf("%q became %q, %v", want, via, err)
		}
	}
}

func TestFetchUnlisted(t *testing.T) {
	b := content(1000)
	have := proto.DigestOf([]byte("old"))
	var asked proto.PeerRequest
	a, _ := pair(t, Config{}, func(_ context.Context, _ string, peerReq proto.PeerRequest) (*proto.Blob, error) {
		asked = peerReq
		if peerReq.Have == have {
			return &proto.Blob{Ref: proto.Ref{Digest: have, Size: 3}, Modified: modified, NotModified: true}, nil
		}
		return &proto.Blob{Ref: proto.Ref{Size: 1000}, Bytes: b[peerReq.Offset:]}, nil
	})
	// A size that nobody vouches for does not bound the offset.
	tr, err := a.Fetch(t.Context(), "b", proto.PeerRequest{Object: proto.ObjectRequest{Where: where}, Offset: 10})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := body(tr); err != nil || !bytes.Equal(got, b[10:]) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if asked.Object.Provable() || asked.Object.Ref.Size != proto.UnknownSize || asked.Fill || asked.Offset != 10 {
		t.Errorf("asked for %+v", asked)
	}
	tr, err = a.Fetch(t.Context(), "b", proto.PeerRequest{Object: proto.ObjectRequest{Where: where}, Have: have, Fill: true})
	if err != nil || !tr.NotModified || tr.Body != nil || !tr.Modified.Equal(modified) || tr.Size != 3 {
		t.Errorf("%+v, %v", tr, err)
	}
	if n := a.peer("b").runningNow(); n != 0 {
		t.Errorf("%d transfers still count as running", n)
	}
}

func (p *peer) runningNow() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.running
}

// What arrives at the peer is here before the next arrives there.
func TestFetchCutThrough(t *testing.T) {
	r, w := io.Pipe()
	a, _ := pair(t, Config{}, func(context.Context, string, proto.PeerRequest) (*proto.Blob, error) {
		return &proto.Blob{Ref: proto.Ref{Size: 6}, Stream: r}, nil
	})
	tr, err := a.Fetch(t.Context(), "b", proto.PeerRequest{Object: proto.ObjectRequest{Where: where}, Fill: true})
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Body.Close()
	for _, part := range []string{"a", "bc", "def"} {
		go w.Write([]byte(part))
		got := make([]byte, len(part))
		if _, err := io.ReadFull(tr.Body, got); err != nil || string(got) != part {
			t.Fatalf("%q, %v", got, err)
		}
	}
	w.Close()
	if _, err := tr.Body.Read(make([]byte, 1)); err != io.EOF {
		t.Error(err)
	}
}

// A body that fails at the peer fails here, after all bytes that came before.
func TestFetchFailsMidway(t *testing.T) {
	b := content(2 * chunkSize)
	why := &proto.Unavailable{Reason: "the mirror broke off", Answered: true}
	a, _ := pair(t, Config{}, func(context.Context, string, proto.PeerRequest) (*proto.Blob, error) {
		return &proto.Blob{Ref: proto.Ref{Size: 1 << 20}, Stream: io.NopCloser(io.MultiReader(bytes.NewReader(b), failing{why}))}, nil
	})
	tr, err := a.Fetch(t.Context(), "b", proto.PeerRequest{Object: proto.ObjectRequest{Where: where}, Fill: true})
	if err != nil {
		t.Fatal(err)
	}
	got, err := body(tr)
	var busy *proto.Unavailable
	if !bytes.Equal(got, b) || !errors.As(err, &busy) || !busy.Answered {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// A peer whose object is not as long as it says has failed; the bytes that came
// until then were given out.
func TestFetchWrongLength(t *testing.T) {
	b := content(100)
	for name, size := range map[string]int64{"shorter": 99, "longer": 101} {
		for carrier, give := range carriers(t, b, 0) {
			if carrier == "stream of unknown size" {
				continue
			}
			blob := give()
			blob.Ref.Size = size
			a, _ := pair(t, Config{}, func(context.Context, string, proto.PeerRequest) (*proto.Blob, error) { return blob, nil })
			tr, err := a.Fetch(t.Context(), "b", proto.PeerRequest{Object: proto.ObjectRequest{Where: where}, Fill: true})
			if err != nil {
				t.Fatal(err)
			}
			_, err = body(tr)
			if failed := new(proto.PeerFailed); !errors.As(err, &failed) || failed.Peer != "b" {
				t.Errorf("%s %s: %v", name, carrier, err)
			}
		}
	}
}

// Who loses interest ends the work at the other end.
func TestFetchCancel(t *testing.T) {
	for _, when := range []string{"waiting", "streaming", "closed"} {
		t.Run(when, func(t *testing.T) {
			ended := make(chan error, 1)
			began := make(chan struct{})
			a, b := pair(t, Config{}, func(ctx context.Context, _ string, _ proto.PeerRequest) (*proto.Blob, error) {
				if when == "waiting" {
					close(began)
					<-ctx.Done()
					ended <- ctx.Err()
					return nil, ctx.Err()
				}
				return &proto.Blob{Ref: proto.Ref{Size: 1 << 30}, Stream: &endless{ctx, ended}}, nil
			})
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			gone := errors.New("the client went away")
			if when == "waiting" {
				go func() {
					<-began
					cancel(gone)
				}()
			}
			tr, err := a.Fetch(ctx, "b", proto.PeerRequest{Object: proto.ObjectRequest{Where: where}, Fill: true})
			if when != "waiting" {
				if err != nil {
					t.Fatal(err)
				}
				if when == "closed" {
					io.ReadFull(tr.Body, make([]byte, 10))
					tr.Body.Close()
					if _, err := io.Copy(io.Discard, tr.Body); err == nil {
						t.Error("a closed body can be read")
					}
					err = gone
				} else {
					go cancel(gone)
					_, err = body(tr)
				}
			}
			if when != "closed" && err != gone {
				t.Errorf("the asker is told %v", err)
			}
			if err := <-ended; err != context.Canceled {
				t.Errorf("the handler ended with %v", err)
			}
			if err := b.Stop(t.Context()); err != nil { // no upload is left
				t.Error(err)
			}
		})
	}
}

// endless streams until its context ends.
type endless struct {
	ctx   context.Context
	ended chan<- error
}

func (e *endless) Read(b []byte) (int, error) {
	if err := e.ctx.Err(); err != nil {
		return 0, err
	}
	return len(b), nil
}

func (e *endless) Close() error {
	e.ended <- e.ctx.Err()
	return nil
}

func TestFetchFromNobody(t *testing.T) {
	a := newMesh(t, "a", Config{})
	_, err := a.Fetch(t.Context(), "ghost", proto.PeerRequest{Object: proto.ObjectRequest{Where: where}})
	if failed := new(proto.PeerFailed); !errors.As(err, &failed) || failed.Peer != "ghost" {
		t.Error(err)
	}
}

// More transfers than run at the same time wait for each other and for nothing else.
func TestFetchMany(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		a, _, _ := inMemory(t, link{}, Config{}, func(context.Context, string, proto.PeerRequest) (*proto.Blob, error) {
			time.Sleep(10 * time.Second)
			return &proto.Blob{Ref: proto.Ref{Size: 1}, Bytes: []byte("x")}, nil
		})
		var running sync.WaitGroup
		for range maxStreams + 1 {
			running.Go(func() {
				tr, err := a.Fetch(t.Context(), "b", wantAll())
				if err != nil {
					t.Error(err)
				} else if got, err := body(tr); string(got) != "x" || err != nil {
					t.Errorf("%q, %v", got, err)
				}
			})
		}
		synctest.Wait()
		ctx, cancel := context.WithCancelCause(t.Context())
		gone := errors.New("the client went away")
		cancel(gone)
		if _, err := a.Fetch(ctx, "b", wantAll()); err != gone {
			t.Errorf("who waits for a place is told %v", err)
		}
		running.Wait()
	})
}

// A node that sends to as many as it can lets others wait for a while, and tells them so; those
// for whom it has nothing need not wait for that.
func TestUploadsWait(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		a, b, _ := inMemory(t, link{}, Config{}, func(ctx context.Context, from string, peerReq proto.PeerRequest) (*proto.Blob, error) {
			if !peerReq.Fill {
				return nil, &proto.NotStored{}
			}
			return said(ctx, from, peerReq)
		})
		for range maxUploads {
			b.uploads <- struct{}{}
		}
		time.AfterFunc(10*time.Second, func() { <-b.uploads })
		began := time.Now()
		if _, err := a.Fetch(t.Context(), "b", proto.PeerRequest{Object: proto.ObjectRequest{Where: where}}); !errors.As(err, new(*proto.NotStored)) || time.Since(began) > time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		if got, err := tell(t, a); got != "a" || err != nil || time.Since(began) < 10*time.Second {
			t.Errorf("%q, %v after %v", got, err, time.Since(began))
		}
		b.uploads <- struct{}{} // and for ever
		began = time.Now()
		// Another way is quicker than the same one once more.
		if _, err := tell(t, a); !errors.Is(err, proto.ErrSlowUpstream) || time.Since(began) > 16*time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	})
}

// A request that cannot be written down is not held against the peer.
func TestFetchUnspeakable(t *testing.T) {
	a, _ := pair(t, Config{}, said)
	_, err := a.Fetch(t.Context(), "b", proto.PeerRequest{Object: proto.ObjectRequest{Where: proto.At(proto.Location{Archive: "ubuntu", Path: "\xff"})}})
	if !isPeerFailed(err) || a.peer("b").runningNow() != 0 {
		t.Error(err)
	}
	if got, err := tell(t, a); got != "a" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}
