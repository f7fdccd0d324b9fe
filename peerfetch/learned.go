package peerfetch

import (
	"time"

	"github.com/aptmesh/aptmesh/proto"
	"github.com/aptmesh/aptmesh/proto/expiring"
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
	noted    time.Time // the time checked that is on the disk
	era      uint64    // of the archive (absentTable.era), before upstream was asked
}

// learnedTable keeps what was learned, without an end. What is on the disk is another
// matter (stale.go).
type learnedTable struct{ m *expiring.Map[key, learned] }

func newLearnedTable() learnedTable { return learnedTable{expiring.New[key, learned](maxLearned)} }

func (t learnedTable) get(k key) (learned, bool) { return t.m.Get(k, time.Time{}) }

// set keeps l, unless something is known that was learned after a later change of the archive.
func (t learnedTable) set(k key, l learned) {
	t.m.Update(k, time.Time{}, func(before learned, ok bool) (learned, time.Time) {
		if ok && before.era > l.era {
			l = before
		}
		return l, time.Time{}
	})
}
