package main

import (
	"fmt"
	"sync"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
)

// What the archive is like.
const (
	latency   = 30 * time.Millisecond
	bandwidth = 20_000_000 // bytes per second, for all who ask together
	appSize   = 100_000
)

// archive is what the nodes stand in front of: it is far away, and its line is thin.
type archive struct {
	*testarchive.Archive
	format
	server    *testarchive.Server
	apps      []string // names of small packages
	big, huge string   // paths of large ones

	mu       sync.Mutex
	date     time.Time // of the last generation
	products []product // of it
}

// newArchive makes an archive with small packages and two large ones, and publishes
// its first generation.
func newArchive(f format, apps int, bigSize int64) *archive {
	a := &archive{Archive: testarchive.New(7), format: f, date: time.Now().Add(-time.Hour).Truncate(time.Second)}
	for i := range apps {
		a.apps = append(a.apps, fmt.Sprintf("app%02d", i))
		a.products = append(a.products, product{a.apps[i], 1, appSize})
	}
	a.products = append(a.products, product{"big", 1, bigSize}, product{"huge", 1, 2 * bigSize})
	paths := a.publish(a.Archive, a.date, a.products)
	a.big, a.huge = paths["big"], paths["huge"]
	a.server = testarchive.NewServer(a.Archive)
	a.server.SetLatency(latency)
	a.server.SetBandwidth(0, bandwidth)
	return a
}

// file is the content of a path.
func (a *archive) file(path string) []byte {
	f, _ := a.Lookup(path)
	return f.Data
}

// next publishes a generation in which the first application is newer, and returns
// its root.
func (a *archive) next() []byte {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.date = a.date.Add(time.Minute)
	a.products[0].version++
	a.publish(a.Archive, a.date, a.products)
	return a.file(a.root)
}

// tally is what the archive's server saw.
type tally struct {
	objects, bodies, most int   // most bodies of one object
	bytes, unique         int64 // sent, and of all objects once
	looks                 int   // at the root
}

// tally counts the bodies sent since the counters were reset. A root that had
// not changed has no body.
func (a *archive) tally() tally {
	var t tally
	bodies := make(map[string]int)
	for _, r := range a.server.Log() {
		if r.Path == a.root {
			t.looks++
		}
		if r.Bytes == 0 {
			continue
		}
		t.bodies++
		t.bytes += r.Bytes
		if bodies[r.Path]++; bodies[r.Path] == 1 {
			t.objects++
			t.unique += int64(len(a.file(r.Path)))
		}
		t.most = max(t.most, bodies[r.Path])
	}
	return t
}
