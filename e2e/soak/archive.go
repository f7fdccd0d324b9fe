package main

import (
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
)

// What the archive is like.
const (
	suite       = "noble"
	packageKind = 40 // packages by name
	keptOnes    = 6  // versions of a package that the pool keeps after the suite has left them
)

// archive publishes for as long as the soak lasts. Its methods are safe for
// concurrent use.
type archive struct {
	*testarchive.Archive
	mirrors []*testarchive.Server

	mu    sync.Mutex
	rnd   *rand.Rand             // guarded by mu
	date  time.Time              // of the last generation; guarded by mu
	known map[[32]byte]time.Time // InReleases that there ever were, and their dates; guarded by mu
	pool  map[string][]string    // paths of a package by name, oldest first; guarded by mu
	old   []testarchive.File     // InReleases, oldest first; guarded by mu
}

// newArchive publishes the first generation on so many mirrors. They have addresses
// of their own, where nobody takes the port of one that refuses for a while.
func newArchive(seed uint64, mirrors int) (*archive, error) {
	a := &archive{
		Archive: testarchive.New(seed), rnd: rand.New(rand.NewPCG(seed, 1)),
		date: time.Now().Add(-24 * time.Hour).Truncate(time.Second), known: make(map[[32]byte]time.Time), pool: make(map[string][]string),
	}
	a.AddSuite(testarchive.Suite{Name: suite, ByHash: true, Retain: 4, Compressions: []string{".gz"}})
	for i := range packageKind {
		a.version(i, 1)
	}
	a.publish()
	for i := range mirrors {
		m, err := testarchive.NewServerAt(a.Archive, fmt.Sprintf("127.1.1.%d", i+1))
		if err != nil {
			a.close()
			return nil, err
		}
		a.mirrors = append(a.mirrors, m)
	}
	return a, nil
}

func (a *archive) close() {
	for _, m := range a.mirrors {
		m.Close()
	}
}

// version adds a version of a package in place of the one before; a.mu is held, or
// nobody else knows a yet.
func (a *archive) version(i, version int) {
	name := fmt.Sprintf("app%02d", i)
	a.RemovePackage(suite, name)
	size := int64(1000 + a.rnd.IntN(40_000))
	if i%8 == 0 {
		size *= 20
	}
	paths := append(a.pool[name], a.AddPackage(suite, testarchive.Package{Name: name, Version: fmt.Sprint(version), Size: size}))
	if len(paths) > keptOnes {
		a.Delete(paths[0]) // gone upstream
		paths = paths[1:]
	}
	a.pool[name] = paths
}

// publish brings the next generation.
func (a *archive) publish() {
	a.date = a.date.Add(time.Second)
	a.Publish(a.date)
	f, _ := a.Lookup("dists/" + suite + "/InRelease")
	a.known[sha256.Sum256(f.Data)] = a.date
	a.old = append(a.old, f)
}

// next publishes newer versions of some packages.
func (a *archive) next() {
	a.mu.Lock()
	defer a.mu.Unlock()
	generation := len(a.old) + 1
	for _, i := range a.rnd.Perm(packageKind)[:1+a.rnd.IntN(12)] {
		a.version(i, generation)
	}
	a.publish()
}

// dateOf is the date of an InRelease that was published; false if it never was.
func (a *archive) dateOf(inRelease []byte) (time.Time, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	date, ok := a.known[sha256.Sum256(inRelease)]
	return date, ok
}

// outdated is an InRelease of some generations ago.
func (a *archive) outdated(n int) testarchive.File {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.old[max(0, len(a.old)-1-n)]
}

// listed is a file as a Release or an index lists it.
type listed struct {
	path   string
	sha256 string // lower-case hex
	size   int64
}

// indexOf finds the entry of the suite's index in an InRelease; false if there is none.
func indexOf(inRelease []byte) (listed, bool) {
	inSums := false
	for line := range strings.Lines(string(inRelease)) {
		if !strings.HasPrefix(line, " ") {
			inSums = strings.HasPrefix(line, "SHA256:")
			continue
		}
		var l listed
		if !inSums || !strings.HasSuffix(strings.TrimSpace(line), "main/binary-amd64/Packages.gz") {
			continue
		}
		if _, err := fmt.Sscan(line, &l.sha256, &l.size, &l.path); err == nil {
			l.path = "dists/" + suite + "/main/binary-amd64/by-hash/SHA256/" + l.sha256
			return l, true
		}
	}
	return listed{}, false
}

// packagesOf reads the entries of an index.
func packagesOf(index []byte) ([]listed, error) {
	r, err := gzip.NewReader(strings.NewReader(string(index)))
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	var all []listed
	for stanza := range strings.SplitSeq(string(text), "\n\n") {
		var l listed
		for line := range strings.Lines(stanza) {
			key, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
			switch key {
			case "Filename":
				l.path = value
			case "SHA256":
				l.sha256 = value
			case "Size":
				_, _ = fmt.Sscan(value, &l.size)
			}
		}
		if l.path != "" {
			all = append(all, l)
		}
	}
	return all, nil
}
