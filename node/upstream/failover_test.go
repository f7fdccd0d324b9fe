package upstream

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aptmesh/aptmesh/proto"
	"github.com/aptmesh/aptmesh/proto/bubble"
)

// headFaults are all ways in which a mirror can fail before the body. Those that
// nothing but a Range shows leave a Fetch of the whole alone.
var headFaults = []struct {
	name   string
	setUp  func(r *realm, i int)
	left   string // why the mirror was left, in its stats
	ranges bool
}{
	{"connection refused", func(r *realm, i int) { r.dialing(i, connectionRefused) }, leftUnreachable, false},
	{"black hole", func(r *realm, i int) { r.dialing(i, blackHole) }, leftUnreachable, false},
	{"silent", func(r *realm, i int) { r.at(i, silent) }, leftUnreachable, false},
	{"hangs up", func(r *realm, i int) { r.at(i, hangsUp) }, leftUnreachable, false},
	{"500", func(r *realm, i int) { r.at(i, answers(500)) }, leftErrors, false},
	{"503", func(r *realm, i int) { r.at(i, answers(503)) }, leftErrors, false},
	{"429", func(r *realm, i int) { r.at(i, answers(429)) }, leftErrors, false},
	{"429, Retry-After", func(r *realm, i int) { r.at(i, answers(429, "Retry-After", "20")) }, leftWait, false},
	{"503, Retry-After", func(r *realm, i int) { r.at(i, answers(503, "Retry-After", "20")) }, leftWait, false},
	{"404", func(r *realm, i int) { r.at(i, answers(404)) }, leftNotFound, false},
	{"410", func(r *realm, i int) { r.at(i, answers(410)) }, leftNotFound, false},
	{"403", func(r *realm, i int) { r.at(i, answers(403)) }, leftRefused, false},
	{"a loop", func(r *realm, i int) { r.at(i, answers(302, "Location", nameOf(i)+"/x.deb")) }, leftRefused, false},
	{"a page", func(r *realm, i int) { r.at(i, page) }, leftContent, false},
	{"too short", func(r *realm, i int) { r.at(i, gives(object[1:])) }, leftContent, false},
	{"too long", func(r *realm, i int) { r.at(i, gives(object+"!")) }, leftContent, false},
	{"another range", func(r *realm, i int) { r.at(i, answers(206, "Content-Range", "bytes 0-15/16")) }, "", true},
}

// TestFaultsBeforeTheBody: whatever the bad mirrors do, one good one is enough, for
// the whole and for the rest, and it is asked once.
func TestFaultsBeforeTheBody(t *testing.T) {
	for _, fault := range headFaults {
		for _, mirrors := range []struct{ all, bad int }{{2, 1}, {3, 1}, {3, 2}} {
			for _, offset := range []int64{0, 5} {
				if offset == 0 && fault.ranges {
					continue
				}
				t.Run(fmt.Sprintf("%s, %d of %d, from %d", fault.name, mirrors.bad, mirrors.all, offset), func(t *testing.T) {
					bubble.Test(t, func(t *testing.T) {
						r := newRealm(t, mirrors.all, inOrder)
						for i := range mirrors.bad {
							fault.setUp(r, i)
						}
						req := get("x.deb")
						req.Size, req.Offset = int64(len(object)), offset
						tr, got, err := fetchAll(t.Context(), r.Client, req)
						if err != nil {
							t.Fatal(err)
						}
						good := nameOf(mirrors.bad)
						if string(got) != object[offset:] || tr.Offset != offset || tr.From != good {
							t.Errorf("%q from %d, from %s; want %q from %s", got, tr.Offset, tr.From, object[offset:], good)
						}
						if gets, _ := r.requests(); gets[good] != 1 {
							t.Errorf("asked %v", gets)
						}
						for i := range mirrors.bad {
							if left := r.state(i).Failovers; fault.left != "" && (left[fault.left] != 1 || len(left) != 1) {
								t.Errorf("%s was left for %v, want %s", nameOf(i), left, fault.left)
							}
						}
					})
				})
			}
		}
	}
}

// inOrder has the mirrors asked in the order of their numbers, by priority.
func inOrder(cfg *Config) {
	for i := range cfg.Archives[0].Mirrors {
		cfg.Archives[0].Mirrors[i].Priority = i
	}
}

// TestVerdict: what a Fetch ends with that no mirror could help.
func TestVerdict(t *testing.T) {
	notFound := func(err error) bool { return errors.Is(err, proto.ErrNotFound) }
	corrupt := func(err error) bool { return errors.Is(err, proto.ErrCorrupt) }
	refused := func(err error) bool { return errors.As(err, new(*proto.Refused)) }
	busy := func(answered bool, retry time.Duration) func(error) bool {
		return func(err error) bool {
			var u *proto.Unavailable
			return errors.As(err, &u) && u.Answered == answered && u.RetryAfter == retry && !errors.Is(err, proto.ErrNotFound)
		}
	}
	for _, tc := range []struct {
		name string
		bad  []func(r *realm, i int)
		want func(error) bool
	}{
		{"none has it", []func(*realm, int){status(404), status(410), status(404)}, notFound},
		{"one refuses", []func(*realm, int){status(404), status(403)}, refused},
		{"one lies", []func(*realm, int){status(404), status(403), handler(page)}, corrupt},
		{"one is broken", []func(*realm, int){status(404), status(503), handler(page)}, busy(true, 0)},
		{"one is away", []func(*realm, int){status(404), refuses}, busy(false, 0)},
		{"one is broken, one away", []func(*realm, int){status(503), refuses}, busy(false, 0)},
		{"all broken", []func(*realm, int){status(503), status(500)}, busy(true, 0)},
		{"all ask us to wait", []func(*realm, int){waits("20"), waits("5"), waits("9")}, busy(true, 5*time.Second)},
		{"some ask us to wait", []func(*realm, int){waits("20"), status(503)}, busy(true, 0)},
		{"all lie", []func(*realm, int){handler(page), handler(gives("short"))}, corrupt},
	} {
		t.Run(tc.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				r := newRealm(t, len(tc.bad))
				for i, bad := range tc.bad {
					bad(r, i)
				}
				req := get("x.deb")
				req.Size = int64(len(object))
				_, err := r.Fetch(t.Context(), req)
				if !tc.want(err) {
					t.Errorf("error is %#v: %v", err, err)
				}
				for i := range tc.bad {
					if len(r.state(i).Failovers) != 1 {
						t.Errorf("%s: %v", nameOf(i), r.state(i).Failovers)
					}
				}
			})
		})
	}
}

func status(code int) func(*realm, int) { return handler(answers(code)) }
func waits(seconds string) func(*realm, int) {
	return handler(answers(429, "Retry-After", seconds))
}
func refuses(r *realm, i int) { r.dialing(i, connectionRefused) }
func handler(h http.HandlerFunc) func(*realm, int) {
	return func(r *realm, i int) { r.at(i, h) }
}

// Where nobody can resume, the whole is asked for, once.
func TestNobodyCanResume(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := newRealm(t, 2)
		for i := range 2 {
			r.at(i, func(w http.ResponseWriter, req *http.Request) {
				if req.Header.Get("Range") != "" {
					w.Header().Set("Content-Range", "bytes 1-2/3")
					w.WriteHeader(http.StatusPartialContent)
					return
				}
				honest(w, req)
			})
		}
		req := get("x.deb")
		req.Offset = 5
		tr, got := mustFetch(t, r.Client, req)
		if got != object || tr.Offset != 0 {
			t.Errorf("%q from %d", got, tr.Offset)
		}
		r.requests()
		for i := range 2 {
			r.wantState(i, BreakerClosed)
		}
	})
}

// TestFaultsInTheBody: a transfer that ends early goes on at that byte, and from
// another mirror.
func TestFaultsInTheBody(t *testing.T) {
	for _, fault := range []struct {
		name string
		then http.HandlerFunc
		in   error
	}{
		{"stall", silent, nil},
		{"break", hangsUp, io.ErrUnexpectedEOF},
	} {
		for _, n := range []int{1, len(object) / 2, len(object) - 1} {
			for _, mirrors := range []int{1, 2, 3} {
				t.Run(fmt.Sprintf("%s after %d, %d mirrors", fault.name, n, mirrors), func(t *testing.T) {
					bubble.Test(t, func(t *testing.T) {
						r := newRealm(t, mirrors, inOrder)
						r.at(0, after(n, fault.then))
						req := get("x.deb")
						tr, got, err := fetchAll(t.Context(), r.Client, req)
						if len(got) != n || tr.From != nameOf(0) || fault.in != nil && !errors.Is(unavailable(t, err), fault.in) {
							t.Fatalf("%q from %s, %v", got, tr.From, err)
						}
						unavailable(t, err)
						if mirrors == 1 {
							r.at(0, nil)
						}
						req.Offset = int64(n)
						next, rest := mustFetch(t, r.Client, req)
						if string(got)+rest != object || next.Offset != req.Offset || (next.From == tr.From) != (mirrors == 1) {
							t.Errorf("%q from %d, from %s", rest, next.Offset, next.From)
						}
						if r.state(0).Penalties != 1 || r.state(0).Failovers[leftBroke] != 1 {
							t.Errorf("%+v", r.state(0))
						}
						r.wantState(0, BreakerClosed)
					})
				})
			}
		}
	}
}

// One named mirror is asked, and no other.
func TestNamedMirror(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := newRealm(t, 3)
		req := get("dists/noble/InRelease")
		req.Mirror = nameOf(1)
		for range 5 {
			if tr, _ := mustFetch(t, r.Client, req); tr.From != req.Mirror {
				t.Errorf("from %s", tr.From)
			}
		}
		r.at(1, answers(404))
		if _, err := r.Fetch(t.Context(), req); !errors.Is(err, proto.ErrNotFound) {
			t.Errorf("error is %v", err)
		}
		r.at(1, silent)
		began := time.Now()
		unavailable(t, second(r.Fetch(t.Context(), req)))
		if took := time.Since(began); took != headerTimeout {
			t.Errorf("it was waited for %v though no other may be asked", took)
		}
		r.wantRequests(map[string]int{nameOf(1): 7})

		req.Mirror = "http://elsewhere.example.org"
		if err := unavailable(t, second(r.Fetch(t.Context(), req))); !strings.Contains(err.Error(), "not a mirror") {
			t.Errorf("error is %v", err)
		}
	})
}

func second[A, B any](_ A, b B) B { return b }

// A mirror that keeps us waiting is left for one that may do better, and not where
// there is none, or none that is left.
func TestLessPatienceWhereAnotherMirrorMayDoBetter(t *testing.T) {
	slowly := func(h http.HandlerFunc) http.HandlerFunc {
		return func(w http.ResponseWriter, req *http.Request) {
			select {
			case <-time.After(headerTimeout - time.Second):
				h(w, req)
			case <-req.Context().Done():
			}
		}
	}
	for _, tc := range []struct {
		name   string
		others []http.HandlerFunc
		want   time.Duration
		from   int
	}{
		{"no other", nil, headerTimeout - time.Second, 0},
		{"a quick one", []http.HandlerFunc{nil}, headerTimeout / 4, 1},
		{"one without it", []http.HandlerFunc{answers(404)}, headerTimeout, -1},
		{"all slow", []http.HandlerFunc{slowly(honest)}, headerTimeout/4 + headerTimeout - time.Second, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				r := newRealm(t, 1+len(tc.others), inOrder)
				r.at(0, slowly(honest))
				for i, h := range tc.others {
					r.at(i+1, h)
				}
				began := time.Now()
				tr, err := r.Fetch(t.Context(), get("x.deb"))
				took := time.Since(began)
				if tc.from < 0 {
					unavailable(t, err)
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				tr.Body.Close()
				if tr.From != nameOf(tc.from) || took != tc.want {
					t.Errorf("from %s after %v, want %s after %v", tr.From, took, nameOf(tc.from), tc.want)
				}
			})
		})
	}
}

func TestOffline(t *testing.T) {
	for name, edit := range map[string]func(*Config){
		"the node":    func(cfg *Config) { cfg.Offline = true },
		"the archive": func(cfg *Config) { cfg.Archives[0].Offline = true },
	} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				r := newRealm(t, 2, edit)
				err := unavailable(t, second(r.Fetch(t.Context(), get("x.deb"))))
				if err.Reason != "this node is offline (offline: true): it serves only what it holds" {
					t.Error(err)
				}
				if len(r.peak) > 0 {
					t.Errorf("dialled %v", r.peak)
				}
			})
		})
	}
}

// Patience that grows while a request waits is had by that request, too, and ends.
func TestPatienceGrowsWhileARequestWaits(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := newRealm(t, 2, inOrder)
		const slow = headerTimeout/4 - 100*time.Millisecond
		r.at(0, func(w http.ResponseWriter, req *http.Request) {
			if strings.HasSuffix(req.URL.Path, "/slow.deb") {
				slowed(slow)(w, req)
				return
			}
			silent(w, req)
		})
		var wg sync.WaitGroup
		wg.Go(func() {
			began := time.Now()
			if from := r.from("never.deb"); from != nameOf(1) || time.Since(began) != 2*slow {
				t.Errorf("from %s after %v, want %s after %v", from, time.Since(began), nameOf(1), 2*slow)
			}
		})
		synctest.Wait()
		r.from("slow.deb")
		wg.Wait()
	})
}
