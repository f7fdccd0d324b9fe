package peerfetch

import (
	"bytes"
	"context"
	"crypto/sha512"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aptmesh/aptmesh/proto"
	"github.com/aptmesh/aptmesh/proto/bubble"
)

func TestMissIsFetchedOnceAndKept(t *testing.T) {
	content := randomBytes(300_000, 1)
	w := newWorld(t, serve(content))
	var readers sync.WaitGroup
	for range 50 {
		readers.Go(func() {
			if got, err := w.read(wantOf(content)); err != nil || !bytes.Equal(got, content) {
				t.Errorf("got %d bytes, %v", len(got), err)
			}
		})
	}
	readers.Wait()
	w.settled(t)
	if n := w.up.count(); n != 1 {
		t.Errorf("%d upstream requests for one object", n)
	}
	blob, err := w.Open(context.Background(), wantOf(content))
	if err != nil || blob.Tier != proto.TierDisk || !blob.Verified {
		t.Fatalf("after the flight: %+v, %v", blob, err)
	}
	blob.Close()
	w.checkStore(t)
}

func TestFirstByteNowLastByteOnlyIfTrue(t *testing.T) {
	content := randomBytes(200_000, 2)
	for _, corruption := range []bool{false, true} {
		t.Run(fmt.Sprintf("lie=%v", corruption), func(t *testing.T) {
			sent := bytes.Clone(content)
			if corruption {
				sent[150_000] ^= 1
			}
			gate := newGated(sent)
			w := newWorld(t, func(int, proto.Request) answer {
				return answer{body: gate, size: int64(len(sent))}
			})
			gate.allow(1000)
			blob, err := w.Open(context.Background(), wantOf(content))
			if err != nil {
				t.Fatal(err)
			}
			defer blob.Close()
			if !blob.Modified.IsZero() {
				t.Error("an unproven body carries a validator")
			}
			head := make([]byte, 500)
			if _, err := io.ReadFull(blob.Stream, head); err != nil || !bytes.Equal(head, content[:500]) {
				t.Fatalf("the first bytes, while upstream still sends: %v", err)
			}
			gate.allow(len(sent))
			rest, err := io.ReadAll(blob.Stream)
			got := append(head, rest...)
			switch {
			case !corruption && (err != nil || !bytes.Equal(got, content)):
				t.Errorf("got %d bytes, %v", len(got), err)
			case corruption && !errors.Is(err, proto.ErrCorrupt):
				t.Errorf("a wrong body ended with %v", err)
			case corruption && len(got) >= len(content):
				t.Error("the last byte of a wrong body was given out")
			}
			w.settled(t)
			if w.store.has(proto.DigestOf(content)) == corruption {
				t.Error("kept what is wrong, or lost what is right")
			}
			w.checkStore(t)
		})
	}
}

func TestSmallBodyIsFetchedAgainUnnoticed(t *testing.T) {
	content := randomBytes(5000, 3)
	wrong := bytes.Clone(content)
	wrong[10] ^= 1
	for name, first := range map[string]answer{
		"wrong bytes":  {body: bytes.NewReader(wrong), size: 5000},
		"wrong length": {body: bytes.NewReader(content[:4000]), size: 4000},
		"too long":     {body: bytes.NewReader(append(bytes.Clone(content), 'x')), size: proto.UnknownSize},
		"absent":       {err: fmt.Errorf("%w: by-hash", proto.ErrNotFound)},
		"refused":      {err: &proto.Refused{Status: 403}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, func(i int, r proto.Request) answer {
				if i == 0 {
					return first
				}
				return answer{body: bytes.NewReader(content), size: 5000}
			})
			if got := w.mustRead(t, wantOf(content, "by-hash/x", "Packages")); !bytes.Equal(got, content) {
				t.Error("wrong content")
			}
			if w.up.request(1).Loc.Path != "Packages" {
				t.Error("the second place was not asked")
			}
		})
	}
}

// A small file is whole when it is given out, listed or not, so it always has its Last-Modified. An unlisted one used to
// have it or not as time decided, and a host without it asked for the whole file again.
func TestSmallUnlistedFileIsWhole(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		content := randomBytes(5000, 17)
		body := newGated(content)
		w := newWorld(t, func(int, proto.Request) answer { return answer{body: body, size: 5000, modified: lastModified} })
		body.allow(4000)
		time.AfterFunc(time.Second, func() { body.allow(1000) })
		began := time.Now()
		blob, err := w.Open(context.Background(), proto.ObjectRequest{Where: proto.At(proto.Location{Archive: "a", Path: "pool/u.txt"})})
		if err != nil {
			t.Fatal(err)
		}
		if !blob.Modified.Equal(lastModified) || time.Since(began) != time.Second || blob.Verified {
			t.Errorf("after %v: modified %v, verified %v", time.Since(began), blob.Modified, blob.Verified)
		}
		if got, err := io.ReadAll(blob.Reader()); err != nil || !bytes.Equal(got, content) {
			t.Errorf("wrong content, %v", err)
		}
		blob.Close()
		w.Close()
	})
}

func TestLastModifiedIsThatOfTheRightBody(t *testing.T) {
	content := randomBytes(5000, 41)
	w := newWorld(t, func(i int, r proto.Request) answer {
		if i == 0 {
			return answer{body: bytes.NewReader(make([]byte, 5000)), size: 5000, modified: lastModified.Add(time.Hour)}
		}
		return answer{body: bytes.NewReader(content), size: 5000, modified: lastModified}
	})
	w.mustRead(t, wantOf(content, "by-hash/x", "Packages"))
	w.settled(t)
	blob, err := w.Open(context.Background(), wantOf(content))
	if err != nil || !blob.Modified.Equal(lastModified) {
		t.Fatalf("%+v, %v", blob, err)
	}
	blob.Close()
}

// "Not found" is final for a client, so it is said only if it is true of every name,
// in whatever order they answer, and however often one asks.
func TestNotFoundAtOneNameIsNotTheLastWord(t *testing.T) {
	content := randomBytes(5000, 40)
	notFound := answer{err: proto.ErrNotFound}
	wrong := func() answer { return answer{body: bytes.NewReader(make([]byte, 4000)), size: 4000} }
	for name, first := range map[string]bool{"the first": true, "the last": false} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, func(_ int, r proto.Request) answer {
				if (r.Loc.Path == "by-hash/x") == first {
					return notFound
				}
				return wrong()
			})
			for i := range 6 {
				if _, err := w.read(wantOf(content, "by-hash/x", "Packages")); errors.Is(err, proto.ErrNotFound) || err == nil {
					t.Errorf("try %d: %v", i, err)
				}
			}
		})
	}
}

func TestBadObjectCostsUpstreamThreeRequestsAMinute(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		content := randomBytes(5000, 4)
		bad := true
		w := newWorld(t, func(int, proto.Request) answer {
			if bad {
				return answer{body: bytes.NewReader(make([]byte, 5000)), size: 5000}
			}
			return answer{body: bytes.NewReader(content), size: 5000}
		})
		const minutes = 5
		for i := range minutes * 600 {
			if _, err := w.read(wantOf(content)); !errors.Is(err, proto.ErrCorrupt) {
				t.Fatalf("try %d: %v", i, err)
			}
			time.Sleep(100 * time.Millisecond)
		}
		if n := w.up.count(); n > 3*minutes {
			t.Errorf("%d upstream requests in %d minutes", n, minutes)
		}
		bad = false
		var busy *proto.Unavailable
		if _, err := w.read(wantOf(content)); errors.As(err, &busy) {
			if busy.RetryAfter <= 0 || busy.RetryAfter > 30*time.Second {
				t.Errorf("clients are told to wait for %s", busy.RetryAfter)
			}
			time.Sleep(busy.RetryAfter)
		}
		if got := w.mustRead(t, wantOf(content)); !bytes.Equal(got, content) {
			t.Error("not healed when we said so")
		}
		w.Close()
	})
}

func TestHealedUpstreamIsAskedAtOnce(t *testing.T) {
	content := randomBytes(5000, 5)
	w := newWorld(t, func(i int, r proto.Request) answer {
		if i == 0 {
			return answer{body: bytes.NewReader(make([]byte, 5000)), size: 5000}
		}
		return serve(content)(i, r)
	})
	if _, err := w.read(wantOf(content)); !errors.Is(err, proto.ErrCorrupt) {
		t.Fatal(err)
	}
	w.mustRead(t, wantOf(content))
}

func TestBrokenTransferGoesOnAtTheByteWhereItStopped(t *testing.T) {
	content := randomBytes(400_000, 6)
	w := newWorld(t, func(i int, r proto.Request) answer {
		rest := content[r.Offset:]
		if i < 3 {
			rest = rest[:100_000]
			return answer{body: breakOff(rest, errBroken), size: 400_000, offset: r.Offset}
		}
		return answer{body: bytes.NewReader(rest), size: 400_000, offset: r.Offset}
	})
	if got := w.mustRead(t, wantOf(content)); !bytes.Equal(got, content) {
		t.Error("wrong content")
	}
	for i, offset := range []int64{0, 100_000, 200_000, 300_000} {
		if got := w.up.request(i).Offset; got != offset {
			t.Errorf("request %d began at %d, want %d", i, got, offset)
		}
	}
}

func TestTransferThatCannotResumeIsPassedOver(t *testing.T) {
	content := randomBytes(400_000, 7)
	w := newWorld(t, func(i int, r proto.Request) answer {
		if i == 0 {
			return answer{body: breakOff(content[:150_000], errBroken), size: 400_000}
		}
		return answer{body: bytes.NewReader(content), size: 400_000} // from byte 0, whatever was asked
	})
	if got := w.mustRead(t, wantOf(content)); !bytes.Equal(got, content) {
		t.Error("wrong content")
	}
}

func TestDeadUpstreamIsAnErrorThatAptRetries(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		content := randomBytes(200_000, 8)
		w := newWorld(t, func(i int, r proto.Request) answer {
			if i == 0 {
				return answer{body: breakOff(content[:50_000], errBroken), size: 200_000}
			}
			return answer{err: errBroken}
		})
		_, err := w.read(wantOf(content))
		var busy *proto.Unavailable
		if !errors.As(err, &busy) {
			t.Errorf("got %v", err)
		}
		if n := w.up.count(); n != 1+maxBarren {
			t.Errorf("%d requests", n)
		}
		w.Close()
	})
}

func TestRetryAfterIsHonoured(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		content := randomBytes(1000, 9)
		w := newWorld(t, func(i int, r proto.Request) answer {
			if i == 0 {
				return answer{err: &proto.Unavailable{Reason: "429", RetryAfter: 10 * time.Second}}
			}
			return serve(content)(i, r)
		})
		for range 20 {
			var busy *proto.Unavailable
			if _, err := w.read(wantOf(content)); !errors.As(err, &busy) || busy.RetryAfter <= 0 {
				t.Fatalf("got %v", err)
			}
			time.Sleep(100 * time.Millisecond)
		}
		if n := w.up.count(); n != 1 {
			t.Errorf("%d requests while upstream asked for patience", n)
		}
		time.Sleep(10 * time.Second)
		w.mustRead(t, wantOf(content))
		w.Close()
	})
}

func TestFlightEndsWhenItsLastReaderHasLeft(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		content := randomBytes(8<<20, 10)
		gate := newGated(content)
		w := newWorld(t, func(int, proto.Request) answer { return answer{body: gate, size: int64(len(content))} })
		gate.allow(2 * worthLeaving)
		first, err := w.Open(context.Background(), wantOf(content))
		if err != nil {
			t.Fatal(err)
		}
		second, err := w.Open(context.Background(), wantOf(content))
		if err != nil {
			t.Fatal(err)
		}
		first.Close()
		time.Sleep(time.Hour)
		if len(w.Flights()) != 1 {
			t.Fatal("the flight ended with its first reader")
		}
		second.Close()
		time.Sleep(shortLinger / 2)
		third, err := w.Open(context.Background(), wantOf(content)) // within the linger
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		if len(w.Flights()) != 1 || w.up.count() != 1 {
			t.Fatal("a reader that came back did not find its flight")
		}
		third.Close()
		time.Sleep(2 * shortLinger)
		synctest.Wait()
		if len(w.Flights()) != 0 {
			t.Error("the flight goes on for nobody")
		}
		w.Close()
	})
}

func TestFlightNearItsEndIsFinished(t *testing.T) {
	content := randomBytes(2<<20, 11)
	gate := newGated(content)
	w := newWorld(t, func(int, proto.Request) answer { return answer{body: gate, size: int64(len(content))} },
		func(c *Config) { c.Linger = time.Millisecond })
	gate.allow(3 << 19)
	blob, err := w.Open(context.Background(), wantOf(content))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(io.Discard, blob.Stream, 3<<19-10); err != nil {
		t.Fatal(err)
	}
	blob.Close()
	gate.allow(len(content))
	w.settled(t)
	if !w.store.has(proto.DigestOf(content)) {
		t.Error("given up though nearly done")
	}
}

func TestFullDiskStillServes(t *testing.T) {
	content := randomBytes(3<<20, 12)
	for name, fill := range map[string]func(*memStore){
		"from the start": func(s *memStore) { s.refuse = true },
		"in the middle":  func(s *memStore) { s.room = 1 << 20 },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, serve(content), func(c *Config) { c.Window = 128 << 10 })
			fill(w.store)
			var readers sync.WaitGroup
			for i := range 10 {
				readers.Go(func() {
					blob, err := w.Open(context.Background(), wantOf(content))
					if err != nil {
						t.Error(err)
						return
					}
					defer blob.Close()
					var got bytes.Buffer
					if i%2 == 0 {
						_, err = io.Copy(&got, blob.Stream)
					} else {
						_, err = io.Copy(&got, struct{ io.Reader }{blob.Stream})
					}
					if err != nil || !bytes.Equal(got.Bytes(), content) {
						t.Errorf("got %d bytes, %v", got.Len(), err)
					}
				})
			}
			readers.Wait()
			w.settled(t)
			if w.store.has(proto.DigestOf(content)) {
				t.Error("something was kept on a full disk")
			}
		})
	}
}

func TestFullDiskDoesNotWaitForADeadReader(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		content := randomBytes(1<<20, 13)
		gate := newGated(content)
		w := newWorld(t, func(int, proto.Request) answer { return answer{body: gate, size: int64(len(content))} },
			func(c *Config) { c.Window = 64 << 10 })
		w.store.refuse = true
		gate.allow(1000)
		dead, err := w.Open(context.Background(), wantOf(content)) // never reads
		if err != nil {
			t.Fatal(err)
		}
		alive, err := w.Open(context.Background(), wantOf(content))
		if err != nil {
			t.Fatal(err)
		}
		gate.allow(len(content))
		got, err := io.ReadAll(alive.Stream)
		if err != nil || !bytes.Equal(got, content) {
			t.Errorf("the living reader got %d bytes, %v", len(got), err)
		}
		if _, err := io.ReadAll(dead.Stream); err == nil {
			t.Error("the dead reader was given a body that has gone by")
		}
		alive.Close()
		dead.Close()
		w.Close()
	})
}

func TestUnlistedFileIsRevalidatedAndNeverSpliced(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		one, two := randomBytes(200_000, 14), randomBytes(200_000, 15)
		now, etag := one, `"one"`
		w := newWorld(t, func(i int, r proto.Request) answer {
			if r.IfNoneMatch == etag {
				return answer{same: true}
			}
			return answer{body: bytes.NewReader(now), size: 200_000, etag: etag}
		})
		object := proto.ObjectRequest{Where: proto.At(proto.Location{Archive: "a", Path: "pool/u.deb"})}
		read := func(content []byte) {
			t.Helper()
			blob, err := w.Open(context.Background(), object)
			if err != nil {
				t.Fatal(err)
			}
			defer blob.Close()
			if got, err := io.ReadAll(blob.Reader()); err != nil || !bytes.Equal(got, content) {
				t.Errorf("wrong content, %v", err)
			}
			if blob.Verified {
				t.Error("an unlisted file passes for verified")
			}
		}
		read(one)
		synctest.Wait()
		read(one)
		if w.up.count() != 1 {
			t.Error("a fresh unlisted file was fetched again")
		}
		time.Sleep(time.Minute)
		read(one) // 304
		if w.up.count() != 2 {
			t.Errorf("%d requests, want a revalidation", w.up.count())
		}
		now, etag = two, `"two"`
		time.Sleep(time.Minute)
		read(two)
		// What the archive publishes ends the freshness of what nothing vouches for, and of no other archive's.
		now, etag = one, `"one"`
		w.ArchiveChanged("b")
		read(two)
		w.ArchiveChanged("a")
		read(one)
		asked := w.up.count()
		w.ArchiveChanged("a")
		read(one)
		read(one)
		if got := w.up.count() - asked; got != 1 {
			t.Errorf("asked %d times whether it is still the same, want once", got)
		}
		// An answer that was on its way when the archive changed says nothing about what it has now.
		now, etag = two, `"two"`
		w.ArchiveChanged("a")
		blob, err := w.Open(context.Background(), object)
		if err != nil {
			t.Fatal(err)
		}
		w.ArchiveChanged("a")
		if _, err := io.Copy(io.Discard, blob.Reader()); err != nil {
			t.Error(err)
		}
		blob.Close()
		synctest.Wait()
		now, etag = one, `"one"`
		read(one)
		w.Close()
	})
}

func TestUnlistedFileThatChangesMidwayFails(t *testing.T) {
	one, two := randomBytes(200_000, 16), randomBytes(200_000, 17)
	w := newWorld(t, func(i int, r proto.Request) answer {
		if i == 0 {
			return answer{body: breakOff(one[:100_000], errBroken), size: 200_000, etag: `"one"`}
		}
		if r.IfRange != `"one"` {
			t.Errorf("resumed without a validator: %+v", r)
		}
		return answer{body: bytes.NewReader(two), size: 200_000, etag: `"two"`} // 200, not 206
	})
	got, err := w.read(proto.ObjectRequest{Where: proto.At(proto.Location{Archive: "a", Path: "u"})})
	if err == nil || len(got) > 100_000 || !bytes.Equal(got, one[:len(got)]) {
		t.Errorf("%d bytes, %v: two versions spliced?", len(got), err)
	}
}

func TestObjectListedBySHA512Only(t *testing.T) {
	content := randomBytes(100_000, 18)
	object := proto.ObjectRequest{Ref: proto.Ref{Size: 100_000}, SHA512: sha512.Sum512(content), Where: proto.At(proto.Location{Archive: "a", Path: "p"})}
	w := newWorld(t, serve(content))
	if got := w.mustRead(t, object); !bytes.Equal(got, content) {
		t.Error("wrong content")
	}
	w.settled(t)
	blob, err := w.Open(context.Background(), object)
	if err != nil || blob.File == nil || !blob.Verified || w.up.count() != 1 {
		t.Errorf("second time: %+v, %v, %d requests", blob, err, w.up.count())
	}
	blob.Close()

	object.SHA512[0] ^= 1
	if _, err := w.read(object); !errors.Is(err, proto.ErrCorrupt) {
		t.Errorf("another SHA-512: %v", err)
	}
}

func TestUnknownSizes(t *testing.T) {
	for _, n := range []int{0, 1, 2, 100_000} {
		content := randomBytes(n, 19)
		w := newWorld(t, func(int, proto.Request) answer {
			return answer{body: bytes.NewReader(content), size: proto.UnknownSize}
		})
		unlisted := proto.ObjectRequest{Ref: proto.Ref{Size: proto.UnknownSize}, Where: proto.At(proto.Location{Archive: "a", Path: "u"})}
		if got := w.mustRead(t, unlisted); !bytes.Equal(got, content) {
			t.Errorf("%d bytes of no announced length: got %d", n, len(got))
		}
		byName := wantOf(content)
		byName.Ref.Size = proto.UnknownSize
		if got := w.mustRead(t, byName); !bytes.Equal(got, content) {
			t.Errorf("%d bytes by digest alone: got %d", n, len(got))
		}
	}
}

func TestBodyCompleteBeforeATransferFails(t *testing.T) {
	content := randomBytes(100_000, 20)
	w := newWorld(t, func(i int, r proto.Request) answer {
		return answer{body: breakOff(content, errBroken), size: proto.UnknownSize}
	})
	if got := w.mustRead(t, wantOf(content)); !bytes.Equal(got, content) || w.up.count() != 1 {
		t.Errorf("%d bytes in %d requests", len(got), w.up.count())
	}
}

func TestEvictedBetweenFlightAndOpen(t *testing.T) {
	content := randomBytes(100_000, 21)
	w := newWorld(t, serve(content))
	w.mustRead(t, wantOf(content))
	w.settled(t)
	w.store.remove(proto.DigestOf(content))
	if got := w.mustRead(t, wantOf(content)); !bytes.Equal(got, content) || w.up.count() != 2 {
		t.Errorf("%d bytes in %d requests", len(got), w.up.count())
	}
}

func TestReaderLeavesWithItsContext(t *testing.T) {
	content := randomBytes(4<<20, 22)
	gate := newGated(content)
	w := newWorld(t, func(int, proto.Request) answer { return answer{body: gate, size: int64(len(content))} })
	gate.allow(100)
	ctx, cancel := context.WithCancel(context.Background())
	blob, err := w.Open(ctx, wantOf(content))
	if err != nil {
		t.Fatal(err)
	}
	defer blob.Close()
	cancel()
	if _, err := io.ReadAll(blob.Stream); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestCloseEndsFlights(t *testing.T) {
	content := randomBytes(4<<20, 23)
	gate := newGated(content)
	w := newWorld(t, func(int, proto.Request) answer { return answer{body: gate, size: int64(len(content))} })
	gate.allow(100)
	blob, err := w.Open(context.Background(), wantOf(content))
	if err != nil {
		t.Fatal(err)
	}
	defer blob.Close()
	w.Close()
	var busy *proto.Unavailable
	if _, err := io.ReadAll(blob.Stream); !errors.As(err, &busy) {
		t.Errorf("a reader was left with %v", err)
	}
	if _, err := w.Open(context.Background(), wantOf(content)); err == nil {
		t.Error("a closed fetcher opens flights")
	}
}

// TestReaderThatComesLateToAFailure has had no byte yet when the flight fails: it
// is told why, and not that a file is missing.
func TestReaderThatComesLateToAFailure(t *testing.T) {
	content := randomBytes(200_000, 24)
	wrong := bytes.Clone(content)
	wrong[5000] ^= 1
	gate := newGated(wrong)
	w := newWorld(t, func(int, proto.Request) answer { return answer{body: gate, size: 200_000} })
	gate.allow(100_000)
	blob, err := w.Open(context.Background(), wantOf(content))
	if err != nil {
		t.Fatal(err)
	}
	defer blob.Close()
	gate.allow(100_000)
	w.settled(t)
	if _, err := io.ReadAll(blob.Stream); !errors.Is(err, proto.ErrCorrupt) {
		t.Errorf("got %v", err)
	}
}

// TestAnyFaultAnyReader lets upstream do anything and readers come and go, and
// holds the two sentences that matter: no complete wrong body, nothing wrong kept.
func TestAnyFaultAnyReader(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	var rngMu sync.Mutex
	pick := func(n int) int {
		rngMu.Lock()
		defer rngMu.Unlock()
		return rng.IntN(n)
	}
	var contents [4][]byte
	for i := range contents {
		contents[i] = randomBytes([]int{1, 3000, 90_000, 700_000}[i], uint64(30+i))
	}
	script := func(_ int, r proto.Request) answer {
		content := contents[int(r.Loc.Path[0]-'0')]
		rest := content[min(r.Offset, int64(len(content))):]
		a := answer{size: int64(len(content)), offset: r.Offset}
		switch pick(8) {
		case 0:
			return answer{err: errBroken}
		case 1:
			a.body = breakOff(rest[:pick(len(rest)+1)], errBroken)
		case 2:
			wrong := bytes.Clone(rest)
			if len(wrong) > 0 {
				wrong[pick(len(wrong))] ^= 1
			}
			a.body = bytes.NewReader(wrong)
		case 3:
			a.size++
			a.body = bytes.NewReader(rest)
		case 4:
			a.body, a.offset = bytes.NewReader(content), 0
		default:
			a.body = bytes.NewReader(rest)
		}
		return a
	}
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t, script, func(c *Config) { c.Linger = time.Millisecond; c.Window = 100 << 10 })
		w.budget = newBudget()
		var readers sync.WaitGroup
		for range 16 {
			readers.Go(func() {
				for range 12 {
					i := pick(len(contents))
					if pick(10) == 0 {
						w.store.remove(proto.DigestOf(contents[i]))
					}
					if pick(10) == 0 {
						w.store.mu.Lock()
						w.store.refuse = !w.store.refuse
						w.store.mu.Unlock()
					}
					object := wantOf(contents[i], fmt.Sprint(i), fmt.Sprint(i, "b"))
					for loc := range object.Where.All() {
						w.budget.succeeded(attempt{key: keyOf(object), loc: loc})
					}
					blob, err := w.Open(context.Background(), object)
					if err != nil {
						continue
					}
					if pick(4) == 0 {
						io.CopyN(io.Discard, blob.Reader(), int64(pick(len(contents[i])+1)))
						blob.Close()
						continue
					}
					got, err := io.ReadAll(blob.Reader())
					blob.Close()
					if err == nil && !bytes.Equal(got, contents[i]) {
						t.Errorf("a complete wrong body of %d bytes", len(got))
					}
					if err != nil && len(got) >= len(contents[i]) {
						t.Error("the last byte of a body that failed was given out")
					}
				}
			})
		}
		readers.Wait()
		w.settled(t)
		w.checkStore(t)
		w.Close()
	})
}

// An object that the disk does not give is forgotten by the store and comes from upstream; one that
// nothing proves does not, for it may be another by now.
func TestReopen(t *testing.T) {
	content := randomBytes(200_000, 1)
	w := newWorld(t, serve(content))
	w.mustRead(t, wantOf(content))
	w.settled(t)
	for _, object := range []proto.ObjectRequest{wantOf(content), unlistedWant("x")} {
		blob, err := w.Open(context.Background(), wantOf(content))
		if err != nil || blob.File == nil {
			t.Fatal(err)
		}
		again, err := w.Reopen(context.Background(), object, blob, errBroken)
		blob.Close()
		if object.Ref.IsZero() {
			if again != nil || err != errBroken {
				t.Errorf("unlisted: %v, %v", again, err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(again.Reader()); err != nil || !bytes.Equal(got, content) || w.up.count() != 2 {
			t.Errorf("%d bytes, %v, %d requests", len(got), err, w.up.count())
		}
		again.Close()
		w.settled(t)
	}
}

// counted is a context that knows how many others wait for its end.
type counted struct {
	context.Context
	waiting atomic.Int64
}

func (c *counted) Value(any) any { return nil } // else package context looks for what is inside

func (c *counted) AfterFunc(f func()) func() bool {
	c.waiting.Add(1)
	stop := context.AfterFunc(c.Context, f)
	return func() bool {
		c.waiting.Add(-1)
		return stop()
	}
}

// TestRefusedFlightsLeaveNothingBehind: a request that is turned away costs no memory for longer than it lasts.
func TestRefusedFlightsLeaveNothingBehind(t *testing.T) {
	w := newWorld(t, func(int, proto.Request) answer { return answer{err: errBroken, after: time.Hour} })
	root := &counted{Context: w.Fetcher.ctx}
	w.Fetcher.ctx = root
	ctx, stop := context.WithCancel(context.Background())
	var all sync.WaitGroup
	defer all.Wait()
	defer stop()
	for i := range maxUnlistedFlights {
		all.Go(func() { _, _ = w.Open(ctx, unlistedWant(fmt.Sprint("x", i))) })
	}
	for len(w.Flights()) < maxUnlistedFlights {
		time.Sleep(time.Millisecond)
	}
	for i := range 10 {
		if _, err := w.Open(ctx, unlistedWant(fmt.Sprint("y", i))); verdictOf(err) != untried {
			t.Fatal(err)
		}
	}
	if n := root.waiting.Load(); n != maxUnlistedFlights {
		t.Errorf("%d flights, and %d wait for the end of the node", maxUnlistedFlights, n)
	}
}
