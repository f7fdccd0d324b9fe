package catalog

import (
	"strings"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
	"github.com/aptmesh/aptmesh/node/catalog/suite"
	"github.com/aptmesh/aptmesh/proto"
)

// TestImmutableIsReadOnce: of an archive that never changes, a suite is read once for the whole cluster. In the
// months that follow, hosts of all nodes ask every few hours, also past caches, and upstream is asked for nothing.
func TestImmutableIsReadOnce(t *testing.T) {
	overKinds(t, func(t *testing.T, k kind) {
		for _, trusted := range []*testarchive.Key{testarchive.DefaultKey(), nil} {
			f := fleetOf(t, 3, k, trusted).slowly()
			first := k.published(1, testarchive.DefaultKey())
			f.nodes[0].lay(first)
			for i, n := range f.nodes {
				n.cfg.Archives[0].Immutable, n.cfg.LeaderVouches = true, true
				if i == 1 { // watched from the start, for good
					id := k.suite
					id.Archive = ""
					n.cfg.Archives[0].Suites = []proto.Suite{id}
				}
			}
			f.start()
			for _, n := range f.nodes[1:] { // not the one that leads
				n.used(first)
			}
			f.settled(time.Minute)
			f.nodes[0].used(first)
			if n := f.polls(); n != 1 {
				t.Errorf("to read it once, upstream was asked %d times: %s", n, f.polled())
			}
			f.forget()
			f.nodes[0].lay(k.published(2, testarchive.DefaultKey())) // what nobody is to see
			for day := range 100 {
				for _, n := range f.nodes {
					if e := n.whole(first); e.n != 1 {
						t.Fatalf("publication %d", e.n)
					}
					e, err := n.Discover(t.Context(), n.loc(k.root), true) // with no-cache
					if err != nil || e.Stale != "" || e.Mutable || e.Object.Ref != refOfBytes(first.files[k.root]) {
						t.Fatalf("after %d days: %+v, %v", day, e, err)
					}
				}
				if day == 50 {
					for _, n := range f.nodes {
						n.kill()
						n.resume()
					}
				}
				time.Sleep(24 * time.Hour)
			}
			if n := f.up.total(); n != 0 {
				t.Errorf("in 100 days upstream was asked %d times", n)
			}
			for _, n := range f.nodes {
				if bytes, files := n.Memory(); bytes != 0 || files != 2 {
					t.Errorf("%d bytes of memory for %d files", bytes, files)
				}
				if st := n.Stats()[0]; !st.Settled || st.Watched || st.Err != nil || st.Alarm != "" || st.Withheld {
					t.Errorf("%+v", st)
				}
			}
			// An operator may ask.
			if _, err := f.nodes[2].Refresh(t.Context(), k.suite, false); err != nil {
				t.Error(err)
			}
			if n := f.polls(); n != 1 {
				t.Errorf("upstream was asked %d times for an operator", n)
			}
		}
	})
}

// TestImmutableExpires: that its Valid-Until has passed changes nothing, also if upstream is down, or the node starts again.
func TestImmutableExpires(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newWorld(t, testarchive.Suite{Name: "noble", ByHash: true, ValidFor: 72 * time.Hour})
		w.a.AddPackage("noble", testarchive.Package{Name: "hello", Version: "1"})
		w.publish()
		time.Sleep(30 * 24 * time.Hour) // it has expired when it is first read
		w.cfg.Archives[0].Immutable = true
		w.open()
		w.use(nobleIn, noblePkgs)
		w.up.failing("", &proto.Unavailable{Reason: "no route to host"})
		for range 2 {
			for range 20 {
				time.Sleep(5 * 24 * time.Hour)
				if e := w.must(nobleIn); e.Stale != "" {
					t.Errorf("stale: %q", e.Stale)
				}
			}
			if n := w.metric("aptmesh_suite_checked_timestamp_seconds") + w.metric("aptmesh_suite_valid_until_timestamp_seconds"); n != 0 {
				t.Error("an alert on the age of the last check, or on Valid-Until, would go off")
			}
			if st := w.Stats()[0]; !st.Settled || !st.Expired || st.Withheld || st.Alarm != "" || !st.ServedUntil.IsZero() || st.Err != nil {
				t.Errorf("%+v", st)
			}
			time.Sleep(12 * time.Hour) // until it is written down that a host has asked
			w = w.crash()
			w.rest()
		}
	})
}

// TestImmutableWaitsForTheSignature: while upstream has trouble with a file beside the root, it is asked again.
func TestImmutableWaitsForTheSignature(t *testing.T) {
	overKinds(t, func(t *testing.T, k kind) {
		key := testarchive.DefaultKey()
		w, first := worldOf(t, k, nil), k.published(1, key)
		w.cfg.Archives[0].Immutable = true
		w.lay(first)
		w.up.failing(k.signature, &proto.Unavailable{Reason: "no route to host"})
		w.open()
		w.listedAs(k.root, first.files[k.root])
		w.notYet(k.signature)
		if w.Stats()[0].Settled {
			t.Error("settled without what upstream may have beside the root")
		}
		w.up.setFault(nil)
		time.Sleep(suite.HopeForForm + time.Minute)
		w.listedAs(k.signature, first.files[k.signature])
		time.Sleep(5 * time.Minute)
		w.up.reset()
		time.Sleep(24 * time.Hour)
		w.listedAs(k.root, first.files[k.root])
		if n := w.up.total(); n != 0 || !w.Stats()[0].Settled {
			t.Errorf("upstream was asked %d times; %+v", n, w.Stats()[0])
		}
	})
}

// TestImmutableTableIsLost: an index whose table is damaged on the disk is read again.
func TestImmutableTableIsLost(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := nobleWorld(t)
		w.publish()
		w.cfg.Archives[0].Immutable = true
		w.open()
		w.use(nobleIn, noblePkgs)
		w.listedAs(hello1, w.file(hello1))
		w.state = w.state.copyState()
		damaged := 0
		for name, data := range w.state.files {
			if strings.HasPrefix(name, tablePrefix("a")) {
				w.state.files[name], damaged = data[:len(data)/2], damaged+1
			}
		}
		w = w.crash()
		w.rest()
		w.listedAs(hello1, w.file(hello1))
		w.rest()
		if bytes, files := w.Memory(); damaged == 0 || bytes != 0 || files == 0 {
			t.Errorf("%d tables were damaged; %d bytes of memory for %d files", damaged, bytes, files)
		}
	})
}
