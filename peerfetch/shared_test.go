package peerfetch

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aptmesh/aptmesh/proto"
	"github.com/aptmesh/aptmesh/proto/bubble"
)

// in is want by its name in another archive.
func in(archive string, object proto.ObjectRequest) proto.ObjectRequest {
	object.Where.First.Archive = archive
	return object
}

// No archive holds up those who know the same object by the name of another one: neither one that says
// nothing, nor one that gives a byte now and then. What has arrived is not fetched again.
func TestSlowArchiveIsLeftForAnother(t *testing.T) {
	content := randomBytes(300_000, 91)
	object := wantOf(content)
	for name, slow := range map[string]func(proto.Request) answer{
		"silent": func(proto.Request) answer { return answer{after: time.Hour, err: errBroken} },
		"drips": func(r proto.Request) answer {
			a := serve(content)(0, r)
			a.body = &lazy{a.body, time.Second, 1000}
			return a
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				w := newWorld(t, func(i int, r proto.Request) answer {
					if r.Loc.Archive == "slow" {
						return slow(r)
					}
					return serve(content)(i, r)
				})
				ctx, leave := context.WithCancel(context.Background())
				go readAll(ctx, w, in("slow", object))
				time.Sleep(10 * time.Second)
				began := time.Now()
				if got, err := readAll(context.Background(), w, object); err != nil || !bytes.Equal(got, content) {
					t.Errorf("%d bytes, %v", len(got), err)
				}
				if took := time.Since(began); took > 2*firstSlice {
					t.Errorf("it took %s", took)
				}
				if n := w.up.count(); n != 2 {
					t.Errorf("%d requests", n)
				}
				if r := w.up.request(1); name == "drips" && r.Offset < 5000 {
					t.Errorf("the second one began at byte %d", r.Offset)
				}
				leave()
				w.Close()
			})
		})
	}
}

// An archive whose place is slow is not left where nobody knows the object otherwise.
func TestOnlyTargetIsNotLeft(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		content := randomBytes(100_000, 92)
		w := newWorld(t, func(i int, r proto.Request) answer {
			a := serve(content)(i, r)
			a.body = &lazy{a.body, time.Second, 1000}
			return a
		})
		w.mustRead(t, wantOf(content))
		if n := w.up.count(); n != 1 {
			t.Errorf("%d requests", n)
		}
		w.Close()
	})
}

// An archive that gives wrong bytes breaks the transfers of another archive's clients once at most.
func TestLyingArchiveIsKeptApart(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		first, second := randomBytes(300_000, 93), randomBytes(300_000, 94)
		content := map[string][]byte{"pool/1.deb": first, "pool/2.deb": second}
		w := newWorld(t, func(i int, r proto.Request) answer {
			a := serve(content[r.Loc.Path])(i, r)
			if r.Loc.Archive == "liar" {
				a.body = &lazy{bytes.NewReader(make([]byte, 300_000)), 10 * time.Millisecond, 10_000}
			}
			return a
		})
		failures := 0
		for path, right := range content {
			for range 2 {
				object := wantOf(right, path)
				go readAll(context.Background(), w, in("liar", object)) // it comes first
				synctest.Wait()
				got, err := readAll(context.Background(), w, object)
				switch {
				case err != nil:
					failures++
					if !errors.As(err, new(*proto.Unavailable)) {
						t.Errorf("a client of an honest archive was told: %v", err)
					}
				case !bytes.Equal(got, right):
					t.Error("a wrong body")
				}
				time.Sleep(20 * time.Second)
			}
		}
		if failures != 1 {
			t.Errorf("%d transfers of another archive broke", failures)
		}
		w.Close()
		w.checkStore(t)
	})
}

// A name that nobody lists, of a digest that is listed, fails alone, however long upstream takes to
// say so: whoever was first.
func TestMadeUpNameFailsAlone(t *testing.T) {
	content := randomBytes(300_000, 95)
	object := wantOf(content)
	madeUp := object
	madeUp.Ref.Size = proto.UnknownSize
	madeUp.Where = proto.At(proto.Location{Archive: "a", Path: "dists/zz/by-hash/SHA256/x"})
	for _, firstIs := range []string{"made up", "listed"} {
		t.Run(firstIs, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				w := newWorld(t, func(i int, r proto.Request) answer {
					if r.Loc == madeUp.Where.First {
						return answer{after: 3 * time.Second, err: proto.ErrNotFound}
					}
					a := serve(content)(i, r)
					a.body = &lazy{a.body, time.Millisecond, 10_000}
					return a
				})
				reqs := []proto.ObjectRequest{madeUp, object}
				if firstIs == "listed" {
					reqs = []proto.ObjectRequest{object, madeUp}
				}
				for range 3 {
					ends := make(chan error, 2)
					for _, object := range reqs {
						go func() {
							_, err := readAll(context.Background(), w, object)
							if object.Listed() {
								ends <- err
							}
						}()
						synctest.Wait()
					}
					began := time.Now()
					if err := <-ends; err != nil || time.Since(began) > time.Second {
						t.Errorf("after %s: %v", time.Since(began), err)
					}
					time.Sleep(5 * time.Second)
					w.store.remove(object.Ref.Digest)
				}
				w.Close()
			})
		})
	}
}

// Too many fetches are refused with a sentence and a time to wait; those of files that nobody lists
// leave room for the others.
func TestFetchesHaveABound(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		content := randomBytes(1000, 96)
		w := newWorld(t, func(i int, r proto.Request) answer {
			if r.Loc.Path == "pool/x.deb" {
				return serve(content)(i, r)
			}
			return answer{after: time.Hour, err: errBroken}
		})
		ctx, leave := context.WithCancel(context.Background())
		refused := 0
		for i := range maxUnlistedFlights + 10 {
			go func() {
				_, err := w.Open(ctx, unlistedWant("junk/"+string(rune('a'+i%26))+time.Duration(i).String()))
				var busy *proto.Unavailable
				if errors.As(err, &busy) && busy.RetryAfter > 0 {
					refused++
				}
			}()
			synctest.Wait()
		}
		if refused != 10 {
			t.Errorf("%d refused", refused)
		}
		blob, err := w.Open(context.Background(), wantOf(content))
		if err != nil {
			t.Fatalf("a listed object: %v", err)
		}
		if got, err := io.ReadAll(blob.Reader()); err != nil || !bytes.Equal(got, content) {
			t.Error(err)
		}
		blob.Close()
		leave()
		w.Close()
	})
}

// A mirror that gives other bytes than what nodes say of an unlisted name is not to blame.
func TestHearsayBlamesNobody(t *testing.T) {
	for _, hearsay := range []bool{true, false} {
		bubble.Test(t, func(t *testing.T) {
			said, given := randomBytes(100_000, 97), randomBytes(100_000, 98)
			w := newWorld(t, func(_ int, r proto.Request) answer {
				a := serve(given)(0, r)
				a.from = "m1"
				return a
			})
			w.up.mirrors = []string{"m1"}
			object := wantOf(said)
			object.Hearsay = hearsay
			if _, err := w.read(object); !errors.Is(err, proto.ErrCorrupt) {
				t.Error(err)
			}
			if got := w.up.blames(); (len(got) == 0) != hearsay {
				t.Errorf("blamed %q", got)
			}
			w.Close()
		})
	}
}

// Made-up names do not make what is known of bad listed objects be forgotten.
func TestMadeUpNamesHavePenaltiesOfTheirOwn(t *testing.T) {
	b := newBudget()
	now := time.Now()
	listed := wantOf(randomBytes(100, 99))
	bad := attempt{key: keyOf(listed), loc: listed.Where.First}
	for range corruptAllowance.free + 1 {
		b.failed(bad, proto.ErrCorrupt, now)
	}
	for i := range maxPenalties + 10 {
		junk := listed
		junk.Ref = proto.Ref{Digest: proto.DigestOf([]byte{byte(i), byte(i >> 8)}), Size: proto.UnknownSize}
		b.failed(attempt{key: keyOf(junk), loc: listed.Where.First}, proto.ErrNotFound, now)
	}
	if b.allow(bad, now) == nil {
		t.Error("forgotten")
	}
}
