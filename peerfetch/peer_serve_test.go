package peerfetch

import (
	"bytes"
	"context"
	"crypto/sha512"
	"errors"
	"io"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/aptmesh/aptmesh/proto"
	"github.com/aptmesh/aptmesh/proto/bubble"
)

// rest reads what a blob gives.
func rest(t *testing.T, blob *proto.Blob) []byte {
	t.Helper()
	b, err := io.ReadAll(blob.Reader())
	if err != nil {
		t.Error(err)
	}
	return b
}

func (n *node) servedToPeers(result string) float64 {
	return testutil.ToFloat64(n.metrics.servedToPeers.WithLabelValues(result))
}

func TestServePeerFromTheStore(t *testing.T) {
	content := randomBytes(100_000, 60)
	c := newCluster(t, five, serve(content))
	a := c.nodes["a"]
	a.hold(t, content)
	for _, offset := range []int64{0, 1, 99_999, 100_000} {
		blob, err := a.ServePeer(context.Background(), "b", proto.PeerRequest{Object: wantOf(content), Offset: offset})
		if err != nil {
			t.Fatal(err)
		}
		if got := rest(t, blob); !bytes.Equal(got, content[offset:]) {
			t.Errorf("from byte %d: %d bytes", offset, len(got))
		}
		if blob.Ref != wantOf(content).Ref || !blob.Modified.Equal(lastModified) || blob.Tier != proto.TierDisk {
			t.Errorf("from byte %d: %+v", offset, blob)
		}
		blob.Close()
	}
	for _, offset := range []int64{-1, 100_001} {
		if _, err := a.ServePeer(context.Background(), "b", proto.PeerRequest{Object: wantOf(content), Offset: offset}); err == nil || toldByUpstream(err) {
			t.Errorf("from byte %d: %v", offset, err)
		}
	}
	// Nothing needs to say where it is upstream, for it is not looked for there.
	nowhere := wantOf(content)
	nowhere.Where = proto.Where{}
	blob, err := a.ServePeer(context.Background(), "b", proto.PeerRequest{Object: nowhere})
	if err != nil {
		t.Fatal(err)
	}
	blob.Close()
	for _, req := range []proto.PeerRequest{{Object: nowhere, Fill: true}, {Object: proto.ObjectRequest{}}} {
		if _, err := c.nodes["b"].ServePeer(context.Background(), "c", req); err == nil || toldByUpstream(err) {
			t.Errorf("an ask about nothing: %v", err)
		}
	}
	if a.servedToPeers("stored") != 5 || a.servedToPeers("failed") != 2 {
		t.Error("answers are not counted")
	}
}

func TestServePeerFromMemory(t *testing.T) {
	content := []byte("0123456789")
	blob := &proto.Blob{Ref: proto.Ref{Digest: proto.DigestOf(content), Size: 10}, Bytes: content}
	got, _, err := fromStore(blob, proto.PeerRequest{Object: wantOf(content), Offset: 4})
	if err != nil || string(got.Bytes) != "456789" || got.Ref.Size != 10 {
		t.Errorf("%+v, %v", got, err)
	}
	empty := newWorld(t, serve(nil))
	blob, err = empty.ServePeer(context.Background(), "b", proto.PeerRequest{Object: wantOf(nil), Fill: true})
	if err != nil || blob.Bytes == nil || len(blob.Bytes) > 0 {
		t.Errorf("the empty object: %+v, %v", blob, err)
	}
}

// A reader that begins in the middle gets the same bytes as one that began before.
func TestServePeerFromAFlight(t *testing.T) {
	content := randomBytes(300_000, 61)
	for name, limit := range map[string]func(*memStore){
		"kept":               func(*memStore) {},
		"on a full disk":     func(s *memStore) { s.refuse = true },
		"on a disk that ran": func(s *memStore) { s.room = 150_000 },
	} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				gate := newGated(content)
				w := newWorld(t, func(int, proto.Request) answer {
					return answer{body: gate, size: int64(len(content)), modified: lastModified}
				})
				limit(w.store)
				var all sync.WaitGroup
				for i, offset := range []int64{0, 1, 100_000, 200_000, 299_999, 300_000} {
					all.Go(func() {
						time.Sleep(time.Duration(i) * time.Millisecond) // the first begins it
						blob, err := w.ServePeer(context.Background(), "b", proto.PeerRequest{Object: wantOf(content), Offset: offset, Fill: i == 0})
						if err != nil {
							t.Errorf("from byte %d: %v", offset, err)
							return
						}
						defer blob.Close()
						if got := rest(t, blob); !bytes.Equal(got, content[offset:]) {
							t.Errorf("from byte %d: %d bytes", offset, len(got))
						}
						if got := blob.Stream.(interface{ Modified() time.Time }).Modified(); !got.Equal(lastModified) {
							t.Errorf("Last-Modified %s", got)
						}
					})
				}
				for range 30 {
					time.Sleep(10 * time.Millisecond)
					gate.allow(10_000)
				}
				all.Wait()
				w.Close()
			})
		})
	}
}

// Where nothing is kept, one can still join at what is to come.
func TestServePeerJoinsWhatPassesBy(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		content := randomBytes(300_000, 69)
		gate := newGated(content)
		w := newWorld(t, func(int, proto.Request) answer { return answer{body: gate, size: 300_000} },
			func(c *Config) { c.Window = 64 << 10 })
		w.store.refuse = true
		var all sync.WaitGroup
		all.Go(func() { w.mustRead(t, wantOf(content)) })
		for range 20 {
			gate.allow(10_000)
			time.Sleep(10 * time.Millisecond)
		}
		if _, err := w.ServePeer(context.Background(), "b", proto.PeerRequest{Object: wantOf(content), Offset: 1000}); !errors.As(err, new(*proto.NotStored)) {
			t.Errorf("what has gone by: %v", err)
		}
		all.Go(func() {
			blob, err := w.ServePeer(context.Background(), "b", proto.PeerRequest{Object: wantOf(content), Offset: 250_000})
			if err != nil {
				t.Errorf("what is to come: %v", err)
				return
			}
			defer blob.Close()
			if !bytes.Equal(rest(t, blob), content[250_000:]) {
				t.Error("wrong content")
			}
		})
		synctest.Wait()
		gate.allow(len(content))
		all.Wait()
		w.Close()
	})
}

func TestServePeerBeyondTheEndOfAFlight(t *testing.T) {
	content := randomBytes(300_000, 62)
	named := wantOf(content)
	named.Ref.Size = proto.UnknownSize
	for name, object := range map[string]proto.ObjectRequest{"its size is known": wantOf(content), "its size is not known": named} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, func(int, proto.Request) answer {
				return answer{body: bytes.NewReader(content), size: proto.UnknownSize}
			})
			_, err := w.ServePeer(context.Background(), "b", proto.PeerRequest{Object: object, Offset: 300_001, Fill: true})
			if err == nil || toldByUpstream(err) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// A node sends others to whom it believes to hold the object, but fills when they
// come back.
func TestServePeerRedirectsOnce(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		content := randomBytes(1000, 63)
		c := newCluster(t, five, serve(content))
		c.falsely["d"] = true
		a := c.nodes["a"]
		fill := proto.PeerRequest{Object: wantOf(content), Fill: true}
		sentTo := func(from string, req proto.PeerRequest) []string {
			t.Helper()
			blob, err := a.ServePeer(context.Background(), from, req)
			if err == nil {
				blob.Close()
				synctest.Wait()
				a.evict(req.Object.Ref.Digest)
				return nil
			}
			var elsewhere *proto.NotStored
			if !errors.As(err, &elsewhere) || elsewhere.Busy || elsewhere.Peer != "a" {
				t.Fatal(err)
			}
			return elsewhere.Try
		}
		if got := sentTo("b", proto.PeerRequest{Object: wantOf(content)}); !slices.Equal(got, []string{"d"}) {
			t.Errorf("who may not fill is sent to %v", got)
		}
		if got := sentTo("b", fill); !slices.Equal(got, []string{"d"}) {
			t.Errorf("who comes first is sent to %v", got)
		}
		if got := sentTo("b", fill); got != nil {
			t.Errorf("who comes back is sent to %v", got)
		}
		if got := sentTo("d", fill); got != nil {
			t.Errorf("the only one to hold it is sent to %v", got)
		}
		time.Sleep(redirectedFor)
		if got := sentTo("b", fill); !slices.Equal(got, []string{"d"}) {
			t.Errorf("who comes much later is sent to %v", got)
		}
		if a.servedToPeers("redirected") != 2 || a.servedToPeers("not_stored") != 1 || a.servedToPeers("filled") != 2 {
			t.Error("answers are not counted")
		}
		c.check(t)
		c.close()
	})
}

// A flight that a peer feeds, or may, is not passed on.
func TestServePeerIsOneHop(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		content := randomBytes(300_000, 68)
		gate := newGated(content)
		c := newCluster(t, five, func(int, proto.Request) answer { return answer{body: gate, size: 300_000} })
		b := c.nodes["b"]
		var all sync.WaitGroup
		all.Go(func() { b.expect(content, wantOf(content)) })
		for _, feeding := range []bool{false, true} {
			synctest.Wait() // asking, for nothing has come; fed
			for _, fill := range []bool{true, false} {
				_, err := b.ServePeer(context.Background(), "c", proto.PeerRequest{Object: wantOf(content), Fill: fill})
				var elsewhere *proto.NotStored
				if !errors.As(err, &elsewhere) || !elsewhere.Busy || !slices.Equal(elsewhere.Try, []string{"a"}) || elsewhere.Peer != "b" {
					t.Errorf("fed: %v: %v", feeding, err)
				}
			}
			if fed := b.flightBytes() > 0; fed != feeding {
				t.Errorf("fed: %v", fed)
			}
			gate.allow(1000)
			time.Sleep(time.Second)
		}
		gate.allow(len(content))
		all.Wait()
		if got := b.servedToPeers("busy"); got != 4 {
			t.Errorf("%g times busy", got)
		}
		c.check(t)
		c.close()
	})
}

// What is not decided is waited for: an owner that has just begun itself does not
// send everybody away.
func TestServePeerWaitsForTheDecision(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		o := objects()[1]
		slow := &slowStore{}
		c := newCluster(t, []string{"a", "b"}, o.archive(), func(cfg *Config) {
			slow.Store = cfg.Store
			cfg.Store = slow
		})
		a := c.nodes["a"]
		slow.Store = a.store
		a.cfg.Store = slow
		var all sync.WaitGroup
		all.Go(func() { a.expect(o.content, o.object) })
		time.Sleep(time.Millisecond)
		all.Go(func() {
			blob, err := a.ServePeer(context.Background(), "b", proto.PeerRequest{Object: o.object})
			if err != nil {
				t.Errorf("while a flight begins: %v", err)
				return
			}
			if !bytes.Equal(rest(t, blob), o.content) {
				t.Error("wrong content")
			}
			blob.Close()
		})
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
		defer cancel()
		if _, err := a.ServePeer(ctx, "b", proto.PeerRequest{Object: o.object}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("who leaves gets %v", err)
		}
		all.Wait()
		c.close()
	})
}

// slowStore takes its time to make a file.
type slowStore struct{ Store }

func (s *slowStore) Create(size int64) (Writer, error) {
	time.Sleep(50 * time.Millisecond)
	return s.Store.Create(size)
}

func (s *slowStore) Resume(ref proto.Ref, scope string) (Writer, error) {
	time.Sleep(50 * time.Millisecond)
	return s.Store.Resume(ref, scope)
}

// A flight for a peer serves this node's clients too, and goes upstream for them.
func TestServePeerFlightIsSharedWithClients(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		o := objects()[1]
		c := newCluster(t, five, o.archive())
		e := c.nodes["e"] // owns nothing here
		var all sync.WaitGroup
		all.Go(func() {
			blob, err := e.ServePeer(context.Background(), "b", proto.PeerRequest{Object: o.object, Fill: true})
			if err != nil {
				t.Error(err)
				return
			}
			defer blob.Close()
			if !bytes.Equal(rest(t, blob), o.content) {
				t.Error("wrong content")
			}
		})
		synctest.Wait()
		all.Go(func() {
			if _, err := e.expect(o.content, o.object); err != nil {
				t.Error(err)
			}
		})
		all.Wait()
		if c.up.count() != 1 || c.asked("e") != "" {
			t.Errorf("%d fetches, asked %q", c.up.count(), c.asked("e"))
		}
		c.check(t)
		c.close()
	})
}

func TestServePeerReadersKeepTheFlight(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		content := randomBytes(8<<20, 64)
		gate := newGated(content)
		w := newWorld(t, func(int, proto.Request) answer { return answer{body: gate, size: int64(len(content))} })
		gate.allow(1000)
		ctx, cancel := context.WithCancel(context.Background())
		blob, err := w.ServePeer(ctx, "b", proto.PeerRequest{Object: wantOf(content), Fill: true})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		if len(w.Flights()) != 1 {
			t.Fatal("the flight ended under a peer that reads")
		}
		cancel()
		if _, err := io.ReadAll(blob.Stream); !errors.Is(err, context.Canceled) {
			t.Errorf("after its context has ended: %v", err)
		}
		blob.Close()
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if len(w.Flights()) != 0 {
			t.Error("the flight goes on for nobody")
		}
		w.Close()
	})
}

// A node that shuts down says nothing about objects.
func TestServePeerAtShutdown(t *testing.T) {
	content := randomBytes(300_000, 65)
	gate := newGated(content)
	w := newWorld(t, func(int, proto.Request) answer { return answer{body: gate, size: int64(len(content))} })
	gate.allow(1000)
	req := proto.PeerRequest{Object: wantOf(content), Fill: true}
	blob, err := w.ServePeer(context.Background(), "b", req)
	if err != nil {
		t.Fatal(err)
	}
	defer blob.Close()
	w.Close()
	if _, err := io.ReadAll(blob.Stream); err == nil || toldByUpstream(err) {
		t.Errorf("a stream ends with %v", err)
	}
	if _, err := w.ServePeer(context.Background(), "b", req); err == nil || toldByUpstream(err) {
		t.Errorf("an ask ends with %v", err)
	}
}

// An requester whose version of an unlisted file is still the one is told so, and asks
// only when it has not heard lately.
func TestUnlistedFilesAreRevalidatedThroughTheOwner(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		o := objects()[3]
		c := newCluster(t, []string{"a", "b"}, o.archive())
		read := func(content []byte) {
			t.Helper()
			if _, err := c.nodes["b"].expect(content, o.object); err != nil {
				t.Error(err)
			}
			synctest.Wait()
		}
		read(o.content)
		read(o.content)
		if got := c.asked("b"); got != "a+" {
			t.Errorf("a fresh file: asked %q", got)
		}
		time.Sleep(time.Minute) // old on both: the owner asks upstream, which has the same
		read(o.content)
		if c.up.count() != 2 || c.nodes["a"].servedToPeers("not_modified") != 1 {
			t.Errorf("an old file: %d requests", c.up.count())
		}
		if have := c.asksOf("b")[1].Have; have != proto.DigestOf(o.content) {
			t.Errorf("asked with %s", have)
		}
		time.Sleep(20 * time.Second)
		read(o.content)
		if len(c.asksOf("b")) != 2 {
			t.Error("a file known to be unchanged was asked for again")
		}
		changed := randomBytes(100_000, 66)
		c.up.heal(func(_ int, r proto.Request) answer {
			return answer{body: bytes.NewReader(changed), size: 100_000, modified: lastModified.Add(time.Hour)}
		})
		time.Sleep(time.Minute)
		read(changed)
		c.check(t)
		c.close()
	})
}

// One unlisted file does not come to stand for another on a peer's word.
func TestUnlistedFileHasOneName(t *testing.T) {
	c := newCluster(t, []string{"a"}, trickling(map[string][]byte{"evil": []byte("evil")}))
	object := unlistedWant("good")
	object.Where = proto.At(object.Where.First, proto.Location{Archive: "a", Path: "evil"})
	if _, err := c.nodes["a"].ServePeer(context.Background(), "b", proto.PeerRequest{Object: object, Fill: true}); !errors.Is(err, proto.ErrNotFound) {
		t.Errorf("got %v", err)
	}
}

// Upstream serves each client in turn, also one that another node asks for.
func TestClientsOfAPeer(t *testing.T) {
	o := objects()[0]
	for client, want := range map[string]string{"192.0.2.1": "b 192.0.2.1", "": ""} {
		c := newCluster(t, []string{"a"}, o.archive())
		req := proto.PeerRequest{Object: o.object, Fill: true}
		req.Object.Client = client
		blob, err := c.nodes["a"].ServePeer(context.Background(), "b", req)
		if err != nil {
			t.Fatal(err)
		}
		blob.Close()
		if got := c.up.request(0).Client; got != want {
			t.Errorf("upstream is asked for %q, want %q", got, want)
		}
	}
}

func TestSHA512AcrossTheCluster(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		content := randomBytes(100_000, 67)
		req := proto.ObjectRequest{Ref: proto.Ref{Size: 100_000}, SHA512: sha512.Sum512(content), Where: proto.At(proto.Location{Archive: "a", Path: "p"})}
		c := newCluster(t, five, trickling(map[string][]byte{"p": content}))
		c.readEverywhere(t, object{content: content, object: req}, 3)
		if c.up.count() != 1 {
			t.Errorf("%d fetches", c.up.count())
		}
		c.check(t)
		c.close()
	})
}

func TestMetricsHaveNames(t *testing.T) {
	c := newCluster(t, five, serve(nil))
	registry := prometheus.NewPedanticRegistry()
	if err := errors.Join(registerAll(registry, c.nodes["a"].Collectors())...); err != nil {
		t.Fatal(err)
	}
	c.nodes["a"].metrics.peerFailures.WithLabelValues("busy").Inc()
	c.nodes["a"].metrics.servedToPeers.WithLabelValues("stored").Inc()
	if problems, err := testutil.GatherAndLint(registry); err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
	for _, name := range []string{"peer_failures_total", "served_to_peers_total", "hedged_total", "unattributed_total"} {
		if n, err := testutil.GatherAndCount(registry, "aptmesh_flight_"+name); n != 1 || err != nil {
			t.Errorf("%s: %d, %v", name, n, err)
		}
	}
}

func registerAll(registry *prometheus.Registry, collectors []prometheus.Collector) []error {
	var errs []error
	for _, collector := range collectors {
		errs = append(errs, registry.Register(collector))
	}
	return errs
}
