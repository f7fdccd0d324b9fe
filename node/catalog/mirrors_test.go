package catalog

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
	"github.com/aptmesh/aptmesh/node/catalog/suite"
	"github.com/aptmesh/aptmesh/proto"
)

// An archive publishes while one mirror lags: it is behind, not a rollback.
func TestMirrorLagsBehindPublication(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := mirroredWorld(t, mirrorA, mirrorB, mirrorC)
		w.upgrade()
		w.sync(mirrorA, mirrorC)
		time.Sleep(2 * time.Minute)
		current := w.file(nobleIn)
		w.serves(current)
		time.Sleep(30 * time.Minute)
		st := w.mirrorState(mirrorB)
		if st.Behind < 10*time.Minute || st.Err != nil || w.metric("aptmesh_suite_mirror_behind_seconds") != st.Behind.Seconds() {
			t.Errorf("%+v; metric %v", st, w.metric("aptmesh_suite_mirror_behind_seconds"))
		}
		if w.Stats()[0].Err != nil || w.metric("aptmesh_catalog_incomplete_total") != 0 {
			t.Errorf("%+v", w.Stats()[0])
		}
		// It is not asked but in its turn, and a body that is known to be old does not move.
		w.recount()
		time.Sleep(time.Hour)
		if n := w.asked(mirrorB); n < 3 || n > 10 || w.bodies(mirrorB) != 0 {
			t.Errorf("the mirror that is behind was asked %d times in an hour, and gave %d bodies", n, w.bodies(mirrorB))
		}
		// The others die: what is held is served, and said to be unchecked, not rolled back.
		w.fails(mirrorA, &proto.Unavailable{Reason: "no route"})
		w.fails(mirrorC, &proto.Unavailable{Reason: "no route"})
		if err := w.looks(); !unavailable(err) || !strings.Contains(err.Error(), "older than ours") {
			t.Errorf("%v", err)
		}
		w.serves(current)
		time.Sleep(10 * time.Minute)
		if e := w.must(nobleIn); !strings.Contains(e.Stale, "could not be checked") {
			t.Errorf("stale: %q", e.Stale)
		}
		// It catches up, and leads.
		w.sync(mirrorB)
		time.Sleep(2 * time.Minute)
		w.serves(current)
		if st := w.Stats()[0]; st.Err != nil || st.Stale != "" || w.primary() != mirrorB || w.mirrorState(mirrorB).Behind != 0 {
			t.Errorf("%s leads; %+v", w.primary(), st)
		}
	})
}

// A lead that falls behind is noticed, without many questions.
func TestLeadFallsBehind(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := mirroredWorld(t, mirrorA, mirrorB)
		time.Sleep(time.Hour)
		if a, b := w.asked(mirrorA), w.asked(mirrorB); a < 50 || a > 68 || b < 8 || b > 15 {
			t.Errorf("in an hour the lead was asked %d times, the other %d", a, b)
		}
		if w.bodies(mirrorA)+w.bodies(mirrorB) != 0 {
			t.Error("bodies moved though nothing changed")
		}
		w.upgrade()
		w.sync(mirrorB)
		time.Sleep(7 * time.Minute)
		w.serves(w.file(nobleIn))
		if w.primary() != mirrorB || w.mirrorState(mirrorA).Behind == 0 {
			t.Errorf("%s leads; %+v", w.primary(), w.mirrorState(mirrorA))
		}
		w.recount()
		time.Sleep(time.Hour)
		if a, b := w.asked(mirrorA), w.asked(mirrorB); b < 50 || b > 68 || a > 15 || w.bodies(mirrorB) != 0 {
			t.Errorf("in an hour the one behind was asked %d times, the lead %d", a, b)
		}
		// It catches up, and is preferred as before.
		w.sync(mirrorA)
		time.Sleep(10 * time.Minute)
		if w.primary() != mirrorA {
			t.Errorf("%s leads", w.primary())
		}
	})
}

// A mirror that stalls keeps no client that can be served from what is held, and costs
// one who cannot a few seconds.
func TestStallingMirrorsAreLeft(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := nobleWorld(t)
		w.publish()
		w.mirrored(mirrorA, mirrorB, mirrorC)
		stall := func(ctx context.Context, path string) error {
			if path == nobleIn {
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		}
		w.up.named(mirrorA).fault, w.up.named(mirrorB).fault = stall, stall
		w.open()
		start := time.Now()
		w.must(nobleIn)
		if took := time.Since(start); took != 2*suite.NextTimeout {
			t.Errorf("the first client waited %v", took)
		}
		time.Sleep(3 * time.Second)
		start = time.Now()
		w.must(nobleIn)
		if err := w.looks(); err != nil || w.primary() != mirrorC {
			t.Errorf("%v; %s leads", err, w.primary())
		}
		if took := time.Since(start); took > w.cfg.withDefaults().CheckWait+suite.CheckPause {
			t.Errorf("later ones waited %v", took)
		}
	})
}

// A look asks no more mirrors than it may.
func TestLookupsAreBounded(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var names []string
		for i := range 9 {
			names = append(names, fmt.Sprintf("http://%d.mirror.example.org", i))
		}
		w := mirroredWorld(t, names...)
		for _, name := range names {
			w.fails(name, &proto.Unavailable{Reason: "no route"})
		}
		w.recount()
		before := w.metric("aptmesh_catalog_checks_total")
		if err := w.looks(); !unavailable(err) {
			t.Error(err)
		}
		asked, looks := 0, int(w.metric("aptmesh_catalog_checks_total")-before) // the watcher's too
		for _, name := range names {
			asked += w.asked(name)
		}
		if asked > looks*suite.MaxMirrors {
			t.Errorf("%d mirrors were asked in %d looks", asked, looks)
		}
	})
}

// The whole archive goes back: that is refused as ever, and an operator may follow. A
// mirror that has not gone back yet does not bring forward what he went back from.
func TestAllMirrorsGoBack(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := mirroredWorld(t, mirrorA, mirrorB, mirrorC)
		first := w.file(nobleIn)
		w.upgrade()
		w.sync(mirrorA, mirrorB, mirrorC)
		time.Sleep(2 * time.Minute)
		current := w.file(nobleIn)
		w.serves(current)
		w.a.Show("noble", testarchive.At(0))
		w.sync(mirrorA, mirrorB)
		time.Sleep(20 * time.Minute) // one has not gone back: then nobody has
		if st := w.Stats()[0]; st.Err != nil || w.primary() != mirrorC {
			t.Errorf("%s leads: %+v", w.primary(), st)
		}
		w.serves(current)
		w.sync(mirrorC)
		if err := w.looks(); err == nil || !strings.Contains(err.Error(), "older than ours") || !isCorrupt(err) {
			t.Errorf("%v", err)
		}
		w.serves(current)
		changed, err := w.Refresh(t.Context(), noble(), true)
		if !changed || err != nil {
			t.Fatalf("an operator may go back: %v, %v", changed, err)
		}
		w.serves(first)
		back := w.primary()
		forward := mirrorA
		if back == mirrorA {
			forward = mirrorB
		}
		w.a.Show("noble", testarchive.At(1))
		w.sync(forward)
		for range 2 { // over a restart, too
			time.Sleep(time.Hour)
			w.serves(first)
			w.fails(back, &proto.Unavailable{Reason: "no route"})
			time.Sleep(10 * time.Minute)
			w.serves(first)
			w.fails(back, nil)
			time.Sleep(10 * time.Minute)
			if w.primary() != back {
				back = w.primary() // one that has what was gone back to
			}
			if back == forward {
				t.Fatalf("%s leads, which has what was taken back", back)
			}
			w = w.crash()
		}
		// What is newer than that is taken from anybody.
		w.a.AddPackage("noble", testarchive.Package{Name: "third", Version: "1"})
		w.publish()
		w.sync(forward)
		time.Sleep(20 * time.Minute)
		w.serves(w.file(nobleIn))
	})
}

// A Release whose indices cannot be had yet is no reason to go by another mirror's older
// one, but a newer one elsewhere is taken at once.
func TestIncompleteOnOneMirror(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newWorld(t, testarchive.Suite{Name: "noble", ByHash: true, Retain: 1})
		gens := w.threeGenerations()
		w.mirrored(mirrorA, mirrorB, mirrorC)
		for _, m := range w.up.mirrors {
			m.files = gens[0]
		}
		w.open()
		w.must(nobleIn)
		w.use(noblePkgs)
		time.Sleep(20 * time.Minute)
		w.up.mu.Lock()
		half := make(map[string]testarchive.File)
		for path, f := range gens[0] {
			half[path] = f
		}
		half[nobleIn] = gens[1][nobleIn]
		w.up.named(mirrorA).files = half
		w.up.mu.Unlock()
		if w.primary() != mirrorA {
			t.Fatalf("%s leads", w.primary())
		}
		w.recount()
		before := w.metric("aptmesh_catalog_checks_total")
		if err := w.looks(); !isRefused(err, suite.KindIncomplete) {
			t.Errorf("%v", err)
		}
		w.serves(gens[0][nobleIn].Data)
		looks := int(w.metric("aptmesh_catalog_checks_total") - before) // the watcher's too
		if n := w.asked(mirrorB) + w.asked(mirrorC); n > looks {
			t.Errorf("%d other mirrors were asked in %d looks", n, looks)
		}
		checked := w.Stats()[0].Checked
		time.Sleep(10 * time.Second)
		if st := w.Stats()[0]; st.Checked.After(checked) || st.Err == nil {
			t.Errorf("a mirror that is behind has vouched for what is held: %+v", st)
		}
		w.up.mu.Lock()
		w.up.named(mirrorB).files, w.up.named(mirrorC).files = gens[2], gens[2]
		w.up.mu.Unlock()
		if err := w.looks(); err != nil {
			t.Error(err)
		}
		w.serves(gens[2][nobleIn].Data)
		w.must("pool/main/h/hello/hello_2_amd64.deb")
	})
}

// Release and Release.gpg are of one mirror: that of the InRelease, or else another.
func TestPairIsOfOneMirror(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := mirroredWorld(t, mirrorA, mirrorB)
		first := w.files()
		w.listedAs(nobleRelease, w.file(nobleRelease))
		time.Sleep(2 * time.Second)
		w.upgrade()
		w.sync(mirrorA, mirrorB)
		// A's signature is that of the generation before, B's Release.
		w.gives(mirrorA, nobleGPG, first[nobleGPG].Data)
		w.gives(mirrorB, nobleRelease, first[nobleRelease].Data)
		if err := w.looks(); err == nil || !strings.Contains(err.Error(), errApart.Error()) {
			t.Errorf("a pair was made of two mirrors' halves: %v", err)
		}
		w.sync(mirrorB)
		time.Sleep(20 * time.Second)
		w.serves(w.file(nobleIn))
		w.listedAs(nobleRelease, w.file(nobleRelease))
		w.listedAs(nobleGPG, w.file(nobleGPG))
		if w.primary() != mirrorA {
			t.Errorf("%s leads", w.primary())
		}
	})
	// And where there is no InRelease.
	inBubble(t, func(t *testing.T) {
		w := newWorld(t, testarchive.Suite{Name: "noble", ByHash: true, NoInRelease: true})
		w.a.AddPackage("noble", testarchive.Package{Name: "hello", Version: "1"})
		w.publish()
		first := w.files()
		w.mirrored(mirrorA, mirrorB)
		w.open()
		w.must(nobleRelease)
		w.upgradeAgain()
		w.sync(mirrorA, mirrorB)
		w.gives(mirrorA, nobleGPG, first[nobleGPG].Data)
		w.gives(mirrorB, nobleRelease, first[nobleRelease].Data)
		w.looks() // which B alone would pass: its Release has not changed
		if e := w.must(nobleRelease); e.Object.Ref != refOfBytes(first[nobleRelease].Data) {
			t.Error("a pair was made of two mirrors' halves")
		}
		w.fails(mirrorB, &proto.Unavailable{Reason: "no route"})
		if err := w.looks(); !unavailable(err) || !strings.Contains(err.Error(), "not trusted") {
			t.Errorf("%v", err)
		}
		w.sync(mirrorB)
		if err := w.looks(); err != nil {
			t.Error(err)
		}
		w.listedAs(nobleRelease, w.file(nobleRelease))
		w.listedAs(nobleGPG, w.file(nobleGPG))
		if len(w.blamed()) != 0 {
			t.Errorf("a mirror that is publishing was blamed: %v", w.blamed())
		}
	})
}

// What is known of each mirror outlives a restart, and goes with the mirror.
func TestMirrorsOverRestartAndReconfiguration(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := mirroredWorld(t, mirrorA, mirrorB)
		w.fails(mirrorA, &proto.Unavailable{Reason: "no route"})
		time.Sleep(5 * time.Minute)
		if w.primary() != mirrorB {
			t.Fatalf("%s leads", w.primary())
		}
		w.Close() // in good order
		w.recount()
		w = w.crash()
		time.Sleep(30 * time.Second) // one look, and a glance
		if n := w.asked(mirrorA); n > 1 || w.primary() != mirrorB {
			t.Errorf("%s leads; the mirror that did not lead was asked %d times", w.primary(), n)
		}
		time.Sleep(90 * time.Second)
		if w.asked(mirrorB) == 0 || w.bodies(mirrorB) != 0 {
			t.Errorf("%s leads; B was asked %d times and gave %d bodies", w.primary(), w.asked(mirrorB), w.bodies(mirrorB))
		}
		w.up.mu.Lock()
		gone := w.up.mirrors
		w.up.mirrors = slices.Clone(gone[:1])
		w.up.mu.Unlock()
		w.fails(mirrorA, nil)
		if err := w.looks(); err != nil || w.primary() != mirrorA || w.mirrorState(mirrorB).Mirror != "" {
			t.Errorf("%v; %s leads; %+v", err, w.primary(), w.Stats()[0].Mirrors)
		}
		w.up.mu.Lock()
		w.up.mirrors = nil // as while the configuration changes
		w.up.mu.Unlock()
		if err := w.looks(); err != nil {
			t.Error(err)
		}
	})
}

// A Release dated ahead of the clock on one mirror keeps nobody from another's.
func TestFutureOnOneMirror(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := mirroredWorld(t, mirrorA, mirrorB)
		now := w.files()
		w.a.AddPackage("noble", testarchive.Package{Name: "tomorrow", Version: "1"})
		w.a.Publish(time.Now().Add(time.Hour))
		w.sync(mirrorA)
		if err := w.looks(); err != nil || w.primary() != mirrorB {
			t.Errorf("%v; %s leads", err, w.primary())
		}
		time.Sleep(30 * time.Minute)
		w.serves(now[nobleIn].Data)
		if st := w.Stats()[0]; st.Err != nil || w.mirrorState(mirrorB).Behind != 0 {
			t.Errorf("%+v", st)
		}
		time.Sleep(40 * time.Minute)
		w.serves(w.file(nobleIn))
	})
}

// A cluster asks no more often than one node, and one glance in five looks.
func TestMirrorsOfACluster(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFleet(t, 5)
		f.publish()
		f.nodes[0].mirrored(mirrorA, mirrorB, mirrorC)
		f.start()
		for _, n := range f.nodes {
			n.use(nobleIn, noblePkgs)
		}
		f.settled(20 * time.Minute)
		f.forget()
		time.Sleep(time.Hour)
		if n := f.polls(); n < 60 || n > 82 || f.nodes[0].up.requests(nobleIn) != n {
			t.Errorf("in an hour upstream was asked by %s", f.polled())
		}
		// One mirror is ahead: the node that leads finds out, and tells all.
		f.upgrade("2")
		f.nodes[0].sync(mirrorC)
		f.settled(12 * time.Minute)
		f.agree(noblePkgs, hello2)
		if got := f.nodes[0].primary(); got != mirrorC {
			t.Errorf("%s leads", got)
		}
		// The node that takes over has to find that out itself; nobody goes back.
		f.set(func() { f.ill["n1"], f.dead["n1"] = true, true })
		f.settled(30 * time.Minute)
		f.agree(noblePkgs, hello2)
		if got := f.nodes[1].primary(); got != mirrorC {
			t.Errorf("%s leads on the node that took over", got)
		}
		if st := f.nodes[1].Stats()[0]; st.Err != nil || st.Stale != "" {
			t.Errorf("%+v", st)
		}
	})
}

// Looks, glances, publications and mirrors that come and go, all at once.
func TestMirrorsRace(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := mirroredWorld(t, mirrorA, mirrorB, mirrorC)
		stop := make(chan struct{})
		for range 3 {
			go func() {
				for {
					select {
					case <-stop:
						return
					case <-time.After(300 * time.Millisecond):
						w.Discover(context.Background(), w.loc(nobleIn), true)
						w.Stats()
						w.Collectors()
					}
				}
			}()
		}
		last := w.date()
		names := []string{mirrorA, mirrorB, mirrorC}
		for i := range 60 {
			w.a.AddPackage("noble", testarchive.Package{Name: fmt.Sprintf("p%d", i), Version: "1"})
			w.a.Publish(time.Now().Add(-time.Second))
			w.sync(names[i%3])
			w.fails(names[(i+1)%3], &proto.Unavailable{Reason: "no route"})
			time.Sleep(17 * time.Second)
			w.fails(names[(i+1)%3], nil)
			if now := w.date(); now.Before(last) {
				t.Errorf("it went back from %v to %v", last, now)
			} else {
				last = now
			}
		}
		close(stop)
		synctest.Wait()
		w.sync(names...)
		time.Sleep(2 * time.Minute)
		w.serves(w.file(nobleIn))
	})
}
