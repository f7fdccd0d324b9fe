package catalog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
	"github.com/aptmesh/aptmesh/proto"
)

// mirrorFaults are the states that a mirror can be in, and what a look at it alone
// makes of them. Each is set on a mirror that holds what is served.
var mirrorFaults = []struct {
	name string
	set  func(w *world, mirror string, gens []map[string]testarchive.File)
	// offers is the generation that it offers, -1 for none; is tests the error of a
	// look in which all mirrors are so.
	offers int
	is     func(error) bool
}{
	{"same", func(w *world, m string, g []map[string]testarchive.File) { w.up.named(m).files = g[1] }, 1, nil},
	{"ahead", func(w *world, m string, g []map[string]testarchive.File) { w.up.named(m).files = g[2] }, 2, nil},
	{"behind", func(w *world, m string, g []map[string]testarchive.File) { w.up.named(m).files = g[0] }, 0,
		func(err error) bool { return strings.Contains(err.Error(), "older than ours") }},
	{"404", func(w *world, m string, _ []map[string]testarchive.File) { w.up.named(m).files = nil }, -1,
		func(err error) bool { return errors.Is(err, proto.ErrNotFound) }},
	{"page", func(w *world, m string, _ []map[string]testarchive.File) {
		w.up.named(m).laid[nobleIn] = []byte("<html>It works!</html>")
	}, -1, isCorrupt},
	{"garbage", func(w *world, m string, g []map[string]testarchive.File) {
		w.up.named(m).laid[nobleIn] = bytes.Replace(g[1][nobleIn].Data, []byte("Codename"), []byte("Codenome"), 1)
	}, -1, isCorrupt},
	{"another key's", func(w *world, m string, _ []map[string]testarchive.File) {
		other := testarchive.New(7)
		other.AddSuite(testarchive.Suite{Name: "noble", ByHash: true, Keys: []*testarchive.Key{testarchive.NewKey("stranger", testarchive.KeyOptions{})}})
		other.Publish(day)
		f, _ := other.Lookup(nobleIn)
		w.up.named(m).laid[nobleIn] = f.Data
	}, -1, isCorrupt},
	{"unavailable", func(w *world, m string, _ []map[string]testarchive.File) {
		w.up.named(m).fault = func(context.Context, string) error { return &proto.Unavailable{Reason: "no route"} }
	}, -1, unavailable},
	{"refusing", func(w *world, m string, _ []map[string]testarchive.File) {
		w.up.named(m).fault = func(context.Context, string) error { return &proto.Refused{Status: 403, Reason: "forbidden"} }
	}, -1, func(err error) bool { var r *proto.Refused; return errors.As(err, &r) }},
	{"stalling", func(w *world, m string, _ []map[string]testarchive.File) {
		w.up.named(m).fault = func(ctx context.Context, _ string) error { <-ctx.Done(); return ctx.Err() }
	}, -1, unavailable},
}

func isCorrupt(err error) bool { return errors.Is(err, proto.ErrCorrupt) }

// files is what the archive has now.
func (w *world) files() map[string]testarchive.File {
	all := make(map[string]testarchive.File)
	for path := range w.a.Files() {
		all[path], _ = w.a.Lookup(path)
	}
	return all
}

// threeGenerations publishes three generations, and returns each as the archive had it.
func (w *world) threeGenerations() (gens []map[string]testarchive.File) {
	for i := range 3 {
		w.a.RemovePackage("noble", "hello")
		w.a.AddPackage("noble", testarchive.Package{Name: "hello", Version: fmt.Sprint(i)})
		w.a.Publish(day.Add(time.Duration(i-3) * time.Hour))
		gens = append(gens, w.files())
	}
	return gens
}

// Whatever state the lead and another mirror are in, a look ends with the best that one
// of the two, asked in this order, has to give; with clients served all the while; and
// with no more questions than it takes.
func TestLeadAndOther(t *testing.T) {
	for _, primary := range mirrorFaults {
		for _, other := range mirrorFaults {
			t.Run(primary.name+"/"+other.name, func(t *testing.T) {
				inBubble(t, func(t *testing.T) {
					w := newWorld(t, testarchive.Suite{Name: "noble", ByHash: true})
					gens := w.threeGenerations()
					w.mirrored(mirrorA, mirrorB)
					w.up.named(mirrorA).files, w.up.named(mirrorB).files = gens[1], gens[1]
					w.open()
					w.must(nobleIn)
					w.use(noblePkgs)
					w.rest()
					time.Sleep(2 * time.Second)
					if got := w.primary(); got != mirrorA {
						t.Fatalf("%s leads", got)
					}
					w.recount()
					primary.set(w, mirrorA, gens)
					other.set(w, mirrorB, gens)
					want, good := 1, true
					switch {
					case primary.is == nil:
						want = primary.offers
					case other.is == nil:
						want = other.offers
					default:
						good = false
					}
					before := w.must(nobleIn)
					err := w.looks()
					if (err == nil) != good {
						t.Errorf("the look ended with %v", err)
					}
					w.serves(gens[want][nobleIn].Data)
					if _, ok := w.Explain(w.loc(fmt.Sprintf("pool/main/h/hello/hello_%d_amd64.deb", want))); !ok {
						t.Error("its packages are not known")
					}
					if before.Generation.After(w.date()) {
						t.Error("it went back")
					}
					if !good && !(primary.is(err) || other.is(err)) {
						t.Errorf("the error is neither mirror's: %v", err)
					}
					if !good && errors.Is(err, proto.ErrNotFound) && !(primary.name == "404" && other.name == "404") {
						t.Errorf("it is called missing: %v", err)
					}
					if n := w.asked(mirrorB); primary.is == nil && n != 0 {
						t.Errorf("the other mirror was asked %d times though the lead answered", n)
					}
					if a, b := w.asked(mirrorA), w.asked(mirrorB); a > 2 || b > 2 {
						t.Errorf("%d and %d questions", a, b)
					}
					if got := w.primary(); good && primary.is != nil && got != mirrorB || primary.is == nil && got != mirrorA {
						t.Errorf("%s leads now", got)
					}
					liar := primary.name == "page" || primary.name == "garbage"
					if blamed := w.blamed(); (len(blamed) == 1 && blamed[0] == mirrorA) != (liar && good) || len(blamed) > 1 {
						t.Errorf("blamed: %v", blamed)
					}
				})
			})
			t.Run("first contact/"+primary.name+"/"+other.name, func(t *testing.T) {
				inBubble(t, func(t *testing.T) {
					w := newWorld(t, testarchive.Suite{Name: "noble", ByHash: true})
					gens := w.threeGenerations()
					w.mirrored(mirrorA, mirrorB)
					w.up.named(mirrorA).files, w.up.named(mirrorB).files = gens[1], gens[1]
					primary.set(w, mirrorA, gens)
					other.set(w, mirrorB, gens)
					w.open()
					e, err := w.get(nobleIn)
					// What the lead offers, or a glance at the other, if it was as quick.
					got := func(n int) bool { return n >= 0 && err == nil && e.Object.Ref == refOfBytes(gens[n][nobleIn].Data) }
					switch {
					case primary.offers >= 0 && !got(primary.offers) && !got(max(primary.offers, other.offers)), primary.offers < 0 && other.offers >= 0 && !got(other.offers):
						t.Errorf("the Release of %v, %v", e.Generation, err)
					case primary.offers < 0 && other.offers < 0 && (err == nil || !primary.is(err) && !other.is(err)):
						t.Errorf("%v", err)
					case errors.Is(err, proto.ErrNotFound) && !(primary.name == "404" && other.name == "404"):
						t.Errorf("it is called missing: %v", err)
					}
					// What was passed over at first is found at a glance.
					w.rest()
					if primary.offers >= 0 && other.offers >= 0 {
						time.Sleep(time.Minute)
						w.serves(gens[max(primary.offers, other.offers)][nobleIn].Data)
					}
				})
			})
		}
	}
}
