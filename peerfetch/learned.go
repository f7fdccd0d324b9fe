package peerfetch

import (
	"sync"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// maxLearned bounds the table; a lost entry costs one more fetch.
const maxLearned = 16384

// learned is what a flight found out about an object that no SHA-256 names: the
// blob it turned out to be, and upstream's validators.
type learned struct {
	ref      proto.Ref
	modified time.Time
	etag     string
	from     string    // the mirror that gave it, whose ETag it is; "" where a node did
	checked  time.Time // when upstream last said so
}

// learnedTable keeps what was learned, in memory only: unlisted files are kept
// briefly and nobody vouches for them.
type learnedTable struct {
	mu sync.Mutex
	m  map[key]learned // guarded by mu
}

func newLearnedTable() *learnedTable { return &learnedTable{m: make(map[key]learned)} }

func (t *learnedTable) get(k key) (learned, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	l, ok := t.m[k]
	return l, ok
}

func (t *learnedTable) set(k key, l learned) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for old := range t.m { // any one will do
		if len(t.m) < maxLearned {
			break
		}
		delete(t.m, old)
	}
	t.m[k] = l
}
