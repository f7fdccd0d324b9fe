package peerfetch

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/aptmesh/aptmesh/proto"
	"github.com/aptmesh/aptmesh/proto/bubble"
)

// mirrorCase is one way for mirrors to fail.
type mirrorCase struct {
	name  string
	fault mirrorFault
	blind bool // upstream's client does not see through it
	// kind says what a client may notice while one mirror is left that does not fail:
	// nothing, or for a body that it is given as it arrives one failure per bad mirror.
	kind mirrorKind
	// ends is what the last try ends with where all fail.
	ends func(error) bool
}

type mirrorKind int

const (
	unnoticed mirrorKind = iota
	// breaking is not noticed where a digest will decide; elsewhere what has been
	// given out binds to one mirror.
	breaking
	lying
)

func mirrorCases(size int64) []mirrorCase {
	half := size / 2
	is := func(target error) func(error) bool { return func(err error) bool { return errors.Is(err, target) } }
	unavailable := func(err error) bool { return errors.As(err, new(*proto.Unavailable)) }
	corrupt := is(proto.ErrCorrupt)
	return []mirrorCase{
		{"refuses connections", says(errPathless), false, unnoticed, unavailable},
		{"says 503", says(errAnswered), false, unnoticed, unavailable},
		{"says 404", says(proto.ErrNotFound), false, unnoticed, is(proto.ErrNotFound)},
		{"says 403", says(&proto.Refused{Status: 403}), false, unnoticed, func(err error) bool { return errors.As(err, new(*proto.Refused)) }},
		{"says it works", says(fmt.Errorf("%w: a page", proto.ErrCorrupt)), false, unnoticed, corrupt},
		{"has another length", anotherLength, false, lying, corrupt},
		{"has another length unseen", anotherLength, true, lying, corrupt},
		{"breaks at 0", breaksAt(0), false, unnoticed, unavailable},
		{"breaks at half", breaksAt(half), false, breaking, unavailable},
		{"breaks before the last byte", breaksAt(size - 1), false, breaking, unavailable},
		{"stalls at half", onMirrorBody(func(body io.Reader, r proto.Request) io.Reader {
			return io.MultiReader(io.LimitReader(body, max(half-r.Offset, 0)), &late{3 * time.Second, errBroken})
		}), false, breaking, unavailable},
		{"begins later than asked", func(a answer, _ proto.Request) answer { a.offset++; return a }, false, unnoticed, corrupt},
		{"changes the first byte", corruptAt(0), false, lying, corrupt},
		{"changes the last byte", corruptAt(size - 1), false, lying, corrupt},
		{"goes on after the end", func(a answer, _ proto.Request) answer {
			if a.body != nil {
				a.body, a.size = io.MultiReader(a.body, strings.NewReader("more")), proto.UnknownSize
			}
			return a
		}, false, lying, corrupt},
	}
}

var anotherLength mirrorFault = func(a answer, _ proto.Request) answer { a.size++; return a }

// TestMirrorsFail has some or all mirrors of an archive do one wrong thing, the bad
// ones first, whatever the object is, on one node and on three: as long as one mirror
// does what it should, clients have the object at once, after no more failures than
// corrupt mirrors that were given a chance to show it; where none does, upstream is spared, and
// once they have healed, clients have what was promised.
func TestMirrorsFail(t *testing.T) {
	for _, o := range objects() {
		for _, f := range mirrorCases(int64(len(o.content))) {
			if o.name == "unlisted" && f.kind == lying {
				continue // nothing proves an unlisted file
			}
			if o.name == "unlisted" && f.name == "begins later than asked" || o.name == "named" && f.name == "goes on after the end" {
				continue // such a range can be of another version; such a body of any length
			}
			for mirrors := 1; mirrors <= 3; mirrors++ {
				for bad := 1; bad <= mirrors; bad++ {
					for _, nodes := range []int{1, 3} {
						t.Run(fmt.Sprintf("%s/%s/%d of %d/%d nodes", o.name, f.name, bad, mirrors, nodes), func(t *testing.T) {
							bubble.Test(t, func(t *testing.T) { mirrorsFail(t, o, f, mirrors, bad, nodes) })
						})
					}
				}
			}
		}
	}
}

func mirrorsFail(t *testing.T, o object, f mirrorCase, mirrors, bad, nodes int) {
	archive := newArchiveOf(mirrors, map[string][]byte{"pool/x.deb": o.content})
	archive.blind = f.blind
	faulty := archive.names[:bad]
	archive.fault(f.fault, faulty...)
	c := newCluster(t, five[:nodes], nil)
	archive.serveBy(c.up)
	requester := c.nodes[five[nodes-1]] // the first one is the owner

	tries := 1
	if f.kind != unnoticed && o.name != "small" && !(f.kind == breaking && o.object.Provable()) {
		tries += bad
	}
	var all sync.WaitGroup
	for range o.readers[0] + 4 {
		all.Go(func() {
			var err error
			for range tries {
				if _, err = requester.expect(o.content, o.object); err == nil {
					break
				}
			}
			switch {
			case bad < mirrors && err != nil:
				t.Errorf("not had in %d tries: %v", tries, err)
			case bad == mirrors && err == nil:
				t.Error("had from nowhere")
			case bad == mirrors && !f.ends(err) && !errors.As(err, new(*proto.Unavailable)):
				t.Errorf("ended with %v", err)
			}
		})
	}
	all.Wait()
	if bad == mirrors {
		allMirrorsFail(t, c, requester, archive, o)
	}
	checkBlames(t, c.up, faulty)
	c.check(t)
	c.close()
}

// allMirrorsFail goes on asking for some time, as many hosts do, and then heals the
// mirrors.
func allMirrorsFail(t *testing.T, c *cluster, requester *node, archive *archiveOf, o object) {
	for range 20 {
		time.Sleep(100 * time.Millisecond)
		requester.expect(o.content, o.object)
	}
	archive.fault(nil, archive.names...)
	var busy *proto.Unavailable
	wait := 30 * time.Second
	if _, err := requester.expect(o.content, o.object); err == nil {
		return
	} else if errors.As(err, &busy) && busy.RetryAfter > 0 {
		wait = busy.RetryAfter
	}
	time.Sleep(wait)
	if _, err := requester.expect(o.content, o.object); err != nil {
		t.Errorf("healed for %s: %v", wait, err)
	}
}

// TestLyingMirrorsAreSpared counts what wrong content costs upstream where all mirrors
// have it.
func TestLyingMirrorsAreSpared(t *testing.T) {
	for _, o := range objects()[:2] {
		for _, mirrors := range []int{1, 2, 3, 12} {
			t.Run(fmt.Sprint(o.name, " ", mirrors), func(t *testing.T) {
				bubble.Test(t, func(t *testing.T) {
					archive := newArchiveOf(mirrors, map[string][]byte{"pool/x.deb": o.content})
					archive.fault(corruptAt(5), archive.names...)
					w := newWorld(t, nil)
					archive.serveBy(w.up)
					const minutes = 5
					for range minutes * 600 {
						if _, err := w.read(o.object); !errors.Is(err, proto.ErrCorrupt) {
							t.Fatal(err)
						}
						time.Sleep(100 * time.Millisecond)
					}
					total, most := archive.requests()
					if limit := minutes * min(mirrors+2, 2+maxCorrupt+1); total > limit {
						t.Errorf("%d requests in %d minutes, want no more than %d", total, minutes, limit)
					}
					if most > 3*minutes {
						t.Errorf("one mirror was asked %d times in %d minutes", most, minutes)
					}
					w.Close()
				})
			})
		}
	}
}

// A body that two mirrors gave together and that is wrong is nobody's, and the next
// tries ask them one at a time.
func TestWrongBodyOfTwoMirrors(t *testing.T) {
	for i, o := range objects()[:3] {
		size := int64(len(o.content))
		for name, faults := range map[string][2]mirrorFault{
			"the first lies":  {both(corruptAt(5), breaksAt(size/2)), nil},
			"the second lies": {breaksAt(size / 2), corruptAt(size - 5)},
		} {
			t.Run(o.name+"/"+name, func(t *testing.T) {
				bubble.Test(t, func(t *testing.T) {
					archive := newArchiveOf(3, map[string][]byte{"pool/x.deb": o.content})
					archive.fault(faults[0], "m1")
					archive.fault(faults[1], "m2")
					archive.fault(says(errPathless), "m3")
					w := newWorld(t, nil)
					archive.serveBy(w.up)
					n := &node{world: w, c: &cluster{t: t}, name: "alone"}
					liar, tries := "m1", 2
					if faults[1] != nil {
						// The one that broke is the last of all to be asked, and breaks again.
						archive.fault(nil, "m3")
						archive.strike(byteSource{mirror: "m3", loc: o.object.Where.First}, 2)
						liar, tries = "m2", 3
					}
					if i == 0 {
						tries = 1 // it is held until it is proven
					}
					for try := range tries {
						if _, err := n.expect(o.content, o.object); (err == nil) != (try == tries-1) {
							t.Errorf("try %d of %d ended with %v", try+1, tries, err)
						}
					}
					w.settled(t)
					blames := w.up.blames()
					if len(blames) == 0 || blames[0] != "m1 m2" {
						t.Errorf("blamed %q", blames)
					}
					checkBlames(t, w.up, []string{liar})
					if got := testutil.ToFloat64(w.metrics.unattributed); got != 1 {
						t.Errorf("%g unattributed", got)
					}
					w.checkStore(t)
					w.Close()
				})
			})
		}
	}
}

// A node is not suspected with a mirror, nor a mirror with a node: but the next try is
// made without the node, and finds out about the mirror.
func TestWrongBodyOfAPeerAndAMirror(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		o := objects()[1]
		archive := newArchiveOf(2, map[string][]byte{"pool/x.deb": o.content})
		archive.fault(corruptAt(int64(len(o.content)-5)), "m1")
		c := newCluster(t, five, nil)
		archive.serveBy(c.up)
		c.nodes["c"].hold(t, o.content)
		c.setFault("c", cuts(int64(len(o.content)/2)))
		c.noHealth = true
		for try := range 3 {
			if _, err := c.nodes["a"].expect(o.content, o.object); (err == nil) != (try == 2) {
				t.Errorf("try %d: %v", try, err)
			}
		}
		if got := c.up.blames(); !slices.Equal(got, []string{"m1"}) || c.distrusts("a") != nil {
			t.Errorf("blamed %q, distrusted %q", got, c.distrusts("a"))
		}
		c.check(t)
		c.close()
	})
}

// What mirrors say of a length that nobody signed is held against neither.
func TestMirrorsDisagreeOverALengthNobodySigned(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		o := objects()[2]
		archive := newArchiveOf(2, map[string][]byte{"pool/x.deb": o.content})
		archive.fault(both(anotherLength, breaksAt(1000)), "m1")
		w := newWorld(t, nil)
		archive.serveBy(w.up)
		if _, err := w.read(o.object); !errors.Is(err, proto.ErrCorrupt) {
			t.Errorf("the first try ended with %v", err)
		}
		w.mustRead(t, o.object)
		if got := w.up.blames(); !slices.Equal(got, []string{"m1 m2"}) {
			t.Errorf("blamed %q", got)
		}
		w.Close()
	})
}

func TestRequestsHaveTheSignedSize(t *testing.T) {
	for i, o := range objects() {
		w := newWorld(t, serve(o.content))
		w.mustRead(t, o.object)
		want := int64(len(o.content))
		if i >= 2 {
			want = 0 // nothing signed says it
		}
		if got := w.up.request(0).Size; got != want {
			t.Errorf("%s: asked for %d bytes", o.name, got)
		}
	}
}

// A transfer that breaks goes on at the very byte, at once, from another mirror.
func TestBrokenTransferGoesOnAtAnotherMirrorAtOnce(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		content := randomBytes(150_000, 70)
		archive := newArchiveOf(3, map[string][]byte{"pool/x.deb": content})
		archive.fault(breaksAt(100_000), "m1")
		archive.fault(breaksAt(0), "m2")
		w := newWorld(t, nil)
		archive.serveBy(w.up)
		began := time.Now()
		w.mustRead(t, wantOf(content))
		if took := time.Since(began); took > 100*time.Millisecond { // of the bubble's clock; the shortest pause is 500 ms
			t.Errorf("it took %s", took)
		}
		if a, b := w.up.request(1).Offset, w.up.request(2).Offset; a != 100_000 || b != 100_000 || w.up.count() != 3 {
			t.Errorf("%d requests, the second from byte %d, the third from byte %d", w.up.count(), a, b)
		}
		if got := testutil.ToFloat64(w.metrics.switched); got != 2 {
			t.Errorf("%g switches", got)
		}
		w.Close()
	})
}

// With every mirror dead in the middle there is a pause behind each round, and an end.
func TestAllMirrorsBreak(t *testing.T) {
	for _, tt := range []struct{ mirrors, requests int }{{1, 4}, {2, 7}, {3, 10}, {20, 15}} {
		bubble.Test(t, func(t *testing.T) {
			content := randomBytes(150_000, 71)
			archive := newArchiveOf(tt.mirrors, map[string][]byte{"pool/x.deb": content})
			archive.fault(breaksAt(50_000), archive.names...)
			w := newWorld(t, nil)
			archive.serveBy(w.up)
			began := time.Now()
			if _, err := w.read(wantOf(content)); !errors.As(err, new(*proto.Unavailable)) {
				t.Error(err)
			}
			if w.up.count() > tt.requests || w.up.count() <= min(tt.mirrors, maxAtOnce) {
				t.Errorf("%d mirrors: %d requests", tt.mirrors, w.up.count())
			}
			if took := time.Since(began); took < time.Second || took > 5*time.Second {
				t.Errorf("%d mirrors: it took %s", tt.mirrors, took)
			}
			w.Close()
		})
	}
}

// The mirrors' versions of an unlisted file are never put together.
func TestUnlistedFileIsOfOneMirror(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		content := randomBytes(150_000, 72)
		object := unlistedWant("pool/x.deb")
		archive := newArchiveOf(2, map[string][]byte{"pool/x.deb": content})
		var once sync.Once
		archive.fault(func(a answer, r proto.Request) answer {
			once.Do(func() { a = breaksAt(100_000)(a, r) })
			return a
		}, "m1")
		w := newWorld(t, nil)
		archive.serveBy(w.up)
		w.mustRead(t, object)
		if r := w.up.request(1); r.Mirror != "m1" || r.Offset != 100_000 || r.IfRange != `"m1"` {
			t.Errorf("went on with %+v", r)
		}
		time.Sleep(time.Minute)
		w.mustRead(t, object) // asks the mirror whose ETag it is
		if r := w.up.request(2); r.Mirror != "m1" || r.IfNoneMatch != `"m1"` || w.up.count() != 3 {
			t.Errorf("revalidated with %+v", r)
		}
		archive.fault(says(errPathless), "m1")
		time.Sleep(time.Minute)
		w.mustRead(t, object)
		if r := w.up.request(4); r.Mirror != "" || r.IfNoneMatch != "" || r.Offset != 0 {
			t.Errorf("when its mirror was dead, asked with %+v", r)
		}
		w.Close()
	})
}

// A source that goes on with another mirror's bytes all the same is not believed.
func TestRestOfAnUnlistedFileFromAnotherMirrorIsRefused(t *testing.T) {
	content := randomBytes(150_000, 73)
	w := newWorld(t, func(i int, r proto.Request) answer {
		a := answer{body: breakOff(content[r.Offset:][:50_000], errBroken), size: 150_000, offset: r.Offset, etag: `"e"`}
		a.from = fmt.Sprintf("m%d", i)
		return a
	})
	got, err := w.read(unlistedWant("u"))
	if !errors.Is(err, proto.ErrCorrupt) || len(got) > 50_000 {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

// Who reads of a flight can see from which mirror it has its bytes.
func TestFlightNamesItsMirror(t *testing.T) {
	content := randomBytes(300_000, 74)
	gate := newGated(content)
	c := newCluster(t, five, func(int, proto.Request) answer {
		return answer{body: gate, size: 300_000, from: "http://mirror.example.org/pub"}
	})
	gate.allow(1000)
	blob, err := c.nodes["b"].Open(t.Context(), wantOf(content))
	if err != nil {
		t.Fatal(err)
	}
	defer blob.Close()
	if fl := c.nodes["a"].Flights(); len(fl) != 1 || fl[0].Mirror != "http://mirror.example.org/pub" || fl[0].Source != "upstream" {
		t.Errorf("on the owner: %+v", fl)
	}
	if fl := c.nodes["b"].Flights(); len(fl) != 1 || fl[0].Mirror != "" || fl[0].Source != "a" {
		t.Errorf("on the asker: %+v", fl)
	}
	if got := c.nodes["a"].Plan(wantOf(content)); !strings.Contains(got[0], "from upstream (http://mirror.example.org/pub): 1000 of 300000 bytes") {
		t.Errorf("%q", got)
	}
	gate.allow(len(content))
	c.check(t)
}

// Where the only mirror that can be reached is the one that lied, a client is not made
// to wait for its lie again, nor for long: the others may be back at any moment.
func TestOnlyTheCorruptSourceIsLeft(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		o := objects()[0]
		archive := newArchiveOf(3, map[string][]byte{"pool/x.deb": o.content})
		archive.fault(corruptAt(5), "m1")
		archive.fault(says(errPathless), "m2", "m3")
		w := newWorld(t, nil)
		archive.serveBy(w.up)
		_, err := w.read(o.object)
		var busy *proto.Unavailable
		if !errors.As(err, &busy) || busy.RetryAfter != rejected || !strings.Contains(err.Error(), "m1") {
			t.Fatalf("ended with %v", err)
		}
		if got := archive.asked["m1"]; got != 2 {
			t.Errorf("the liar was asked %d times", got)
		}
		if got := testutil.ToFloat64(w.metrics.bytes.WithLabelValues("upstream")); got != float64(len(o.content)) {
			t.Errorf("%g bytes were taken", got)
		}
		archive.fault(nil, "m3")
		time.Sleep(busy.RetryAfter)
		w.mustRead(t, o.object)
		w.Close()
	})
}

// A node that asks the owner in vain hears for how long the owner is not going to ask.
func TestRequesterGetsTheTimeToWait(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		o := objects()[1]
		archive := newArchiveOf(2, map[string][]byte{"pool/x.deb": o.content})
		archive.fault(corruptAt(5), archive.names...)
		c := newCluster(t, five, nil)
		archive.serveBy(c.up)
		var busy *proto.Unavailable
		for range 10 {
			_, err := c.nodes["e"].expect(o.content, o.object)
			if errors.As(err, &busy) && busy.RetryAfter > 0 {
				break
			}
		}
		if busy == nil || busy.RetryAfter <= 20*time.Second || busy.RetryAfter > 30*time.Second {
			t.Fatalf("told to wait by %v", busy)
		}
		asked := len(c.asksOf("e"))
		if asked < 4 || asked > 12 {
			t.Errorf("nodes were asked %d times, want one for each of the tries of two, and one each to hear of the pause", asked)
		}
		for range 10 {
			c.nodes["e"].expect(o.content, o.object)
		}
		if got := len(c.asksOf("e")); got != asked {
			t.Errorf("the owner was asked %d times all the same", got-asked)
		}
		archive.fault(nil, archive.names...)
		time.Sleep(busy.RetryAfter)
		if _, err := c.nodes["e"].expect(o.content, o.object); err != nil {
			t.Error(err)
		}
		c.check(t)
		c.close()
	})
}

// So does one that follows a flight that finds only its first name worth a try.
func TestFollowerGetsTheTimeToWait(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		o := objects()[1]
		archive := newArchiveOf(1, map[string][]byte{"pool/x.deb": o.content})
		archive.fault(corruptAt(5), "m1")
		c := newCluster(t, five, nil)
		archive.serveBy(c.up)
		object := wantOf(o.content, "gone.deb", "pool/x.deb")
		follow := func() error {
			blob, err := c.nodes["a"].ServePeer(t.Context(), "e", proto.PeerRequest{Object: object, Fill: true})
			if err != nil {
				return err
			}
			defer blob.Close()
			_, err = io.Copy(io.Discard, blob.Reader())
			return err
		}
		for range 2 {
			if err := follow(); !errors.Is(err, proto.ErrCorrupt) {
				t.Error(err)
			}
		}
		time.Sleep(notFoundAllowance.within)
		var busy *proto.Unavailable
		if err := follow(); !errors.As(err, &busy) || busy.RetryAfter <= 20*time.Second || !errors.As(err, new(*proto.Rejected)) {
			t.Errorf("told %v", err)
		}
		c.check(t)
		c.close()
	})
}

// An owner whose mirror turns out to lie says that what it passed on is wrong. The requester does not go on with
// it at another node; when it asks again, the owner takes the next mirror: each is asked once.
func TestOwnersMirrorsLieOneAfterTheOther(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		o := objects()[1]
		archive := newArchiveOf(3, map[string][]byte{"pool/x.deb": o.content})
		archive.fault(corruptAt(75_000), "m1", "m2")
		c := newCluster(t, five, nil)
		archive.serveBy(c.up)
		tries := 0
		for ; tries < 4; tries++ { // as apt does
			_, err := c.nodes["e"].expect(o.content, o.object)
			if err == nil {
				break
			}
			if !errors.As(err, new(*proto.Unavailable)) {
				t.Errorf("told %v", err)
			}
			time.Sleep(time.Second)
		}
		if total, _ := archive.requests(); tries != 2 || total != 3 {
			t.Errorf("had after %d tries in vain, the mirrors were asked %d times", tries, total)
		}
		if got := c.asked("e"); got != "a+ a+ a+" {
			t.Errorf("e asked %q", got)
		}
		c.check(t)
		c.close()
	})
}
