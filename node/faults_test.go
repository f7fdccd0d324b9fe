package node_test

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
)

// fault is one way in which an upstream fails, on the object at its path.
type fault struct {
	name    string
	effects []testarchive.Effect
	// heals says that a client gets the right bytes in spite of the fault.
	heals bool
	// final says that the answer may be one that apt does not repeat.
	final bool
	// lie says that upstream's bytes are wrong: the answer may be our verdict about them.
	lie bool
}

// at is a byte in the middle of an object of n bytes.
func faultsFor(n int64) []fault {
	mid := n / 2
	return []fault{
		{name: "wrong bytes of equal length", effects: []testarchive.Effect{testarchive.WrongBytes(mid)}, lie: true},
		{name: "wrong last byte", effects: []testarchive.Effect{testarchive.WrongBytes(-1)}, lie: true},
		{name: "too long", effects: []testarchive.Effect{testarchive.WrongLength(10)}, lie: true},
		{name: "too short", effects: []testarchive.Effect{testarchive.WrongLength(-10)}, lie: true},
		{name: "truncated", effects: []testarchive.Effect{testarchive.Truncate(mid)}},
		{name: "stalled mid-body", effects: []testarchive.Effect{testarchive.Stall(mid)}},
		{name: "stalled before the header", effects: []testarchive.Effect{testarchive.Stall(-1)}},
		{name: "HTML with 200", effects: []testarchive.Effect{testarchive.HTML200()}, lie: true},
		{name: "404", effects: []testarchive.Effect{testarchive.Status(404, 0)}, final: true},
		{name: "429", effects: []testarchive.Effect{testarchive.Status(429, 1)}},
		{name: "500", effects: []testarchive.Effect{testarchive.Status(500, 0)}},
		{name: "503", effects: []testarchive.Effect{testarchive.Status(503, 0)}},
		{name: "503 without a body", effects: []testarchive.Effect{testarchive.EmptyStatus(503)}},
		{name: "slow drip", effects: []testarchive.Effect{testarchive.Drip(n * 3)}, heals: true},
		{name: "reset mid-body", effects: []testarchive.Effect{testarchive.Reset(mid)}},
		{name: "reset before the header", effects: []testarchive.Effect{testarchive.Reset(-1)}},
		{name: "no length", effects: []testarchive.Effect{testarchive.NoContentLength()}, heals: true},
		{name: "no ranges", effects: []testarchive.Effect{testarchive.NoRange(), testarchive.Truncate(mid)}},
		{name: "gzip nobody asked for", effects: []testarchive.Effect{testarchive.GzipEncoding()}, heals: true},
		{name: "no Last-Modified", effects: []testarchive.Effect{testarchive.NoLastModified()}, heals: true},
	}
}

// TestFaults lets an upstream fail in every way on every kind of object: what the
// client got is right, or an error that apt repeats, or a verdict about wrong bytes; nothing wrong is kept, and the
// next request after upstream has healed succeeds.
func TestFaults(t *testing.T) {
	objects := []struct {
		name string
		path func(*world) string
	}{
		{"large package", func(*world) string { return largeDeb }},
		{"small package", func(*world) string { return smallDeb }},
		{"index by hash", func(w *world) string { return w.byHash(packages) }},
		{"InRelease", func(*world) string { return inRelease }},
	}
	for _, object := range objects {
		t.Run(object.name, func(t *testing.T) {
			for _, f := range faultsFor(objectSize(object.path)) {
				t.Run(f.name, func(t *testing.T) {
					t.Parallel()
					w := newWorld(t, newArchive())
					path := object.path(w)
					if object.name != "InRelease" {
						w.mustGet(inRelease)
					}
					if path == largeDeb || path == smallDeb {
						w.mustGet(w.byHash(packages))
					}
					w.inflict(f, path)
				})
			}
		})
	}
}

// objectSize is the length of the object in a fresh archive.
func objectSize(path func(*world) string) int64 {
	a := newArchive()
	f, _ := a.Lookup(path(&world{archive: a, t: &testing.T{}}))
	return int64(len(f.Data))
}

// inflict asks during the fault and after it.
func (w *world) inflict(f fault, path string) {
	t := w.t
	want := w.file(path)
	// The plain name of an index is bad as well, or the node would heal itself.
	injected := w.up.Inject(path, 0, f.effects...)
	if path == w.byHash(packages) {
		w.up.Inject(packages, 0, f.effects...)
	}
	r := w.get(path)
	complete := r.status == 200 && r.err == nil
	switch {
	case complete && !bytes.Equal(r.body, want):
		t.Errorf("a complete wrong body: %d bytes", len(r.body))
	case r.status == 200 && len(r.body) == len(want) && !bytes.Equal(r.body, want):
		t.Error("every byte of a wrong body was given out")
	case f.heals && !complete:
		t.Errorf("%d, %v: %.200s", r.status, r.err, r.body)
	case !complete && !r.aptRetries() && !(f.final && r.status == 404 && len(r.body) > 0) && !(f.lie && r.status == 403 && len(r.body) > 0):
		t.Errorf("apt would not repeat this: %d, %v: %.200s", r.status, r.err, r.body)
	}
	if injected.Hits() == 0 {
		t.Error("the fault never struck: the test tests nothing")
	}
	w.up.ClearFaults()
	w.checkStore()
	w.eventually("the object can be had after upstream has healed", func() bool {
		r := w.get(path)
		return r.status == 200 && r.err == nil && bytes.Equal(r.body, want)
	})
	w.checkStore()
}

// TestNextRequestAfterHealing is the sharper form of the end of TestFaults: after
// one bad answer the very next request must succeed, without any waiting.
func TestNextRequestAfterHealing(t *testing.T) {
	w := newWorld(t, newArchive())
	w.update()
	for _, e := range []testarchive.Effect{testarchive.WrongBytes(100), testarchive.HTML200(), testarchive.Status(404, 0), testarchive.Status(503, 0)} {
		path := w.archive.AddPackage("noble", testarchive.Package{Name: "fresh" + fmt.Sprint(w.archive.Latest("noble")), Version: "1", Size: 200 << 10})
		w.archive.Publish(epoch.Add(time.Duration(w.archive.Latest("noble")+1) * time.Minute))
		if _, err := w.node.Refresh(context.Background(), "ubuntu/noble", false); err != nil {
			t.Fatal(err)
		}
		fault := w.up.Inject(path, 0, e)
		if r := w.get(path); r.status == 200 && r.err == nil {
			t.Error("a bad object was served as good")
		}
		if fault.Hits() == 0 {
			t.Error("the fault never struck")
		}
		w.up.ClearFaults()
		w.mustGet(path)
	}
}

// TestBadObjectCostsLittle: a bad object is asked for at most three times a
// minute, and no client hangs.
func TestBadObjectCostsLittle(t *testing.T) {
	w := newWorld(t, newArchive())
	w.update()
	bad := w.up.Inject(largeDeb, 0, testarchive.WrongBytes(5000))
	for range 50 {
		if r := w.get(largeDeb); r.status == 200 && r.err == nil {
			t.Fatal("served as good")
		}
	}
	if hits := bad.Hits(); hits > 3 {
		t.Errorf("%d requests upstream for one bad object", hits)
	}
}

// TestStalledTransfersLeaveRoom: as many stalled transfers as there may be
// connections do not keep a healthy one waiting.
func TestStalledTransfersLeaveRoom(t *testing.T) {
	a := newArchive()
	for i := range 12 {
		a.AddPackage("noble", testarchive.Package{Name: fmt.Sprintf("stall%02d", i), Version: "1", Size: 300 << 10})
	}
	a.Publish(epoch.Add(time.Minute))
	w := newWorld(t, a)
	w.cfg.UpstreamClient.StallTimeout = 20 * time.Second // the watch must not be what saves us
	w.stop()
	w.start()
	w.update()
	stalled := w.up.Inject("pool/main/s/stall*", 0, testarchive.Stall(100<<10))
	defer stalled.Release()
	for i := range 12 {
		go w.get(fmt.Sprintf("pool/main/s/stall%02d/stall%02d_1_amd64.deb", i, i))
	}
	for range 7 { // as many as packages may have at one time
		select {
		case <-stalled.Stalled():
		case <-time.After(10 * time.Second):
			t.Fatal("the transfers do not stall")
		}
	}
	start := time.Now()
	w.mustGet(largeDeb)
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("the healthy transfer waited %s for the stalled ones", took)
	}
}

// What `why` says of a root that is not held is true: it is checked, or not given out.
func TestWhyOfARootThatIsNotStored(t *testing.T) {
	w := newWorld(t, newArchive())
	why := w.node.Why("/ubuntu/dists/nonesuch/InRelease")
	if said := strings.Join(why.Sentences, " "); why.Kind != "root" || !strings.Contains(said, "never passed on unchecked") {
		t.Errorf("%s: %q", why.Kind, said)
	}
	why = w.node.Why("/ubuntu/pool/main/n/none_1_amd64.deb")
	if said := strings.Join(why.Sentences, " "); !strings.Contains(said, "passed on from upstream as it is") {
		t.Errorf("%s: %q", why.Kind, said)
	}
}
