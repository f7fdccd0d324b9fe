package blobstore

import (
	"errors"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"testing"

	"github.com/aptmesh/aptmesh/proto"
)

// picture is what an observer comes to believe of a store.
type picture struct {
	t     *testing.T
	mu    sync.Mutex
	blobs map[proto.Digest]bool
	log   []string
}

func newPicture(t *testing.T) *picture {
	return &picture{t: t, blobs: make(map[proto.Digest]bool)}
}

func (p *picture) Added(d proto.Digest) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.blobs[d] {
		p.t.Errorf("told twice that %s was added", d.Short())
	}
	p.blobs[d] = true
	p.log = append(p.log, "+"+d.Short())
}

func (p *picture) Removed(d proto.Digest) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.blobs[d] {
		p.t.Errorf("told that %s was removed, which was not there", d.Short())
	}
	delete(p.blobs, d)
	p.log = append(p.log, "-"+d.Short())
}

// reported returns what came since the last call.
func (p *picture) reported() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	log := p.log
	p.log = nil
	return log
}

// compare checks that the picture is the index of a store at rest.
func (p *picture) compare(s *Store) {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := s.index.len(); n != len(p.blobs) {
		p.t.Errorf("the observer knows %d blobs, the index %d", len(p.blobs), n)
	}
	for d := range p.blobs {
		if s.index.shard(d).get(d) == nil {
			p.t.Errorf("the observer believes in %s", d.Short())
		}
	}
}

// deaf is an observer that remembers nothing.
type deaf struct{}

func (deaf) Added(proto.Digest)   {}
func (deaf) Removed(proto.Digest) {}

func TestObserverSeesEachChange(t *testing.T) {
	a, b, c := randomBytes(1, 100), randomBytes(2, 100), randomBytes(3, 100)
	da, db, dc := proto.DigestOf(a), proto.DigestOf(b), proto.DigestOf(c)
	up, down := "+"+da.Short(), "-"+da.Short()
	p := newPicture(t)
	s := open(t, Config{MaxBytes: 250, Observer: p})
	waitScanned(s)
	for _, step := range []struct {
		what string
		do   func()
		want []string
	}{
		{"stored", func() { mustPut(t, s, a) }, []string{up}},
		{"stored again", func() { mustPut(t, s, a) }, nil},
		{"read", func() { body(t, s, da) }, nil},
		{"removed", func() { _ = s.Remove(da) }, []string{down}},
		{"removed again", func() { _ = s.Remove(da) }, nil},
		{"missed", func() { wantMiss(t, s, da) }, nil},
		{"evicted", func() { mustPut(t, s, a); mustPut(t, s, b); mustPut(t, s, c) }, []string{up, "+" + db.Short(), down, "+" + dc.Short()}},
		{"evicted in turn", func() { mustPut(t, s, a) }, []string{"-" + db.Short(), up}},
		{"vanished", func() { _ = os.Remove(s.dirs.blob(da)); wantMiss(t, s, da) }, []string{down}},
		{"damaged", func() { mustPut(t, s, a); _ = os.Truncate(s.dirs.blob(da), 10); wantMiss(t, s, da) }, []string{up, down}},
		{"aborted", func() { w, _ := s.Create(1); _, _ = w.Write(a[:1]); w.Abort() }, nil},
	} {
		step.do()
		if got := p.reported(); !slices.Equal(got, step.want) {
			t.Errorf("%s: the observer was told %v, want %v", step.what, got, step.want)
		}
	}
}

// What was there at the start is told of once, whether the scan or a hit finds it
// first.
func TestObserverSeesTheScan(t *testing.T) {
	cfg := Config{Dir: fastDir(t)}
	s := open(t, cfg)
	var digests []proto.Digest
	for i := range 300 {
		digests = append(digests, mustPut(t, s, randomBytes(uint64(i), 10)))
	}
	s.Close()
	for range 5 {
		p := newPicture(t)
		cfg.Observer = p
		s := open(t, cfg)
		for _, d := range digests {
			body(t, s, d)
		}
		wantWhole(t, s)
		if got := p.reported(); len(got) != len(digests) {
			t.Errorf("told of %d blobs, want %d", len(got), len(digests))
		}
		s.Close()
	}
}

// TestObserverUnderChurn: few blobs come and go in all ways at once, from the
// first moment of a store that has some.
func TestObserverUnderChurn(t *testing.T) {
	cfg := Config{Dir: fastDir(t), MaxBytes: 10_000, ScrubBytesPerSecond: 1 << 30}
	var contents [30][]byte
	var digests [30]proto.Digest
	for i := range contents {
		contents[i] = randomBytes(uint64(i), 700)
		digests[i] = proto.DigestOf(contents[i])
	}
	for round := range 5 {
		s := open(t, cfg)
		var wg sync.WaitGroup
		for g := range 8 {
			r := rand.New(rand.NewPCG(uint64(round), uint64(g)))
			wg.Go(func() {
				for range 200 {
					i := r.IntN(len(contents))
					switch r.IntN(8) {
					case 0:
						_ = s.Remove(digests[i])
					case 1:
						_ = os.Remove(s.dirs.blob(digests[i]))
					case 2:
						_ = os.Truncate(s.dirs.blob(digests[i]), 10)
					case 3, 4:
						if b, err := s.Get(digests[i]); err == nil {
							b.Close()
						}
					default:
						if _, err := s.Put(contents[i], someDay); err != nil && !errors.Is(err, proto.ErrNoSpace) {
							t.Error(err)
						}
					}
				}
			})
		}
		wg.Wait()
		for i := range contents { // what lies there damaged or not at all is found out
			if _, err := s.Put(contents[i], someDay); err != nil {
				t.Error(err)
			}
			if b, err := s.Get(digests[i]); err == nil {
				b.Close()
			}
		}
		for _, d := range digests {
			if b, err := s.Get(d); err == nil {
				b.Close()
			}
		}
		wantWhole(t, s)
		s.Close()
	}
}
