package main

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
)

// What the archive is like.
const (
	suite     = "noble"
	latency   = 30 * time.Millisecond
	bandwidth = 20_000_000 // bytes per second, for all who ask together
	appSize   = 100_000
)

// archive is what the nodes stand in front of: it is far away, and its line is thin.
type archive struct {
	*testarchive.Archive
	server    *testarchive.Server
	apps      []string // names of small packages
	big, huge string   // paths of large ones

	mu   sync.Mutex
	date time.Time // of the last generation
}

// newArchive makes an archive with small packages and two large ones, and publishes
// its first generation.
func newArchive(apps int, bigSize int64) *archive {
	a := &archive{Archive: testarchive.New(7), date: time.Now().Add(-time.Hour).Truncate(time.Second)}
	a.AddSuite(testarchive.Suite{Name: suite, ByHash: true, Translations: true})
	for i := range apps {
		name := fmt.Sprintf("app%02d", i)
		a.apps = append(a.apps, name)
		a.AddPackage(suite, testarchive.Package{Name: name, Version: "1", Size: appSize})
	}
	a.big = a.AddPackage(suite, testarchive.Package{Name: "big", Version: "1", Size: bigSize})
	a.huge = a.AddPackage(suite, testarchive.Package{Name: "huge", Version: "1", Size: 2 * bigSize})
	a.Publish(a.date)
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
// its InRelease.
func (a *archive) next() []byte {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.date = a.date.Add(time.Minute)
	a.AddPackage(suite, testarchive.Package{Name: a.apps[0], Version: "2", Size: appSize})
	a.Publish(a.date)
	return a.file("dists/" + suite + "/InRelease")
}

// tally is what the archive's server saw.
type tally struct {
	objects, bodies, most int   // most bodies of one object
	bytes, unique         int64 // sent, and of all objects once
	looks                 int   // at the InRelease
}

// tally counts the bodies sent since the counters were reset. An InRelease that had
// not changed has no body.
func (a *archive) tally() tally {
	var t tally
	bodies := make(map[string]int)
	for _, r := range a.server.Log() {
		if strings.HasSuffix(r.Path, "/InRelease") {
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
