package peerfetch

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/aptmesh/aptmesh/proto"
	"github.com/aptmesh/aptmesh/proto/expiring"
)

const (
	// hearsayFor is how long this node repeats a "not found" that it got from another
	// node. That is long enough for many hosts that ask at once. It is short, because the
	// node that asked upstream keeps the exact time.
	hearsayFor = 3 * time.Second
	// maxAbsent and maxAbsentPath bound the table: how many names, and of how many
	// bytes. A name that is not remembered costs one more request.
	maxAbsent     = 4096
	maxAbsentPath = 1024
)

// absence is what upstream said of a file that it does not have.
type absence struct {
	said, until time.Time
}

// err is the answer for clients until then.
func (a absence) err(now time.Time) error {
	return withheld(fmt.Errorf("%w %s ago, and not asked again for %s", proto.ErrNotFound,
		now.Sub(a.said).Round(time.Second), a.until.Sub(now).Round(time.Second)))
}

// absentTable remembers which names upstream has no file for. Only names that
// nothing signed lists are in it: what an index lists may be missing for a moment
// while a mirror is synchronised, and has its own, shorter pauses (budget). Safe for
// concurrent use.
type absentTable struct {
	m    *expiring.Map[proto.Location, absence]
	mu   sync.Mutex        // locked while a note and its era change
	eras map[string]uint64 // guarded by mu; by archive: how often it was forgotten
}

func newAbsentTable() *absentTable {
	return &absentTable{m: expiring.New[proto.Location, absence](maxAbsent), eras: make(map[string]uint64)}
}

// era is for a caller that is about to ask upstream; it goes to note with the answer. An
// answer that was on its way when the archive changed is out of date.
func (t *absentTable) era(archive string) uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.eras[archive]
}

func (t *absentTable) note(loc proto.Location, era uint64, now time.Time, ttl time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if ttl <= 0 || era != t.eras[loc.Archive] || len(loc.Path) > maxAbsentPath {
		return
	}
	t.m.Update(loc, now, func(a absence, _ bool) (absence, time.Time) {
		if until := now.Add(ttl); !a.until.After(until) {
			a = absence{said: now, until: until} // else upstream itself said so, and for longer
		}
		return a, a.until
	})
}

func (t *absentTable) get(loc proto.Location, now time.Time) (absence, bool) {
	return t.m.Get(loc, now)
}

// forget drops all names of an archive.
func (t *absentTable) forget(archive string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.eras[archive]++
	t.m.DeleteFunc(func(loc proto.Location, _ absence) bool { return loc.Archive == archive })
}

func (t *absentTable) len() int { return t.m.Len() }

// ArchiveChanged ends what is remembered of files that an archive did not have, and has upstream
// asked again about unlisted files of it: an index that no strong sum vouches for changes with its
// root. It is to be called whenever the archive may have published something: at each new
// generation. It takes microseconds.
func (f *Fetcher) ArchiveChanged(archive string) {
	f.absent.forget(archive)
	f.budget.forgetNotFound(archive)
}

// absence returns what is remembered of want's absence. A want that can be proven is
// never absent by hearsay: metadata that lists it is proof to the contrary.
func (f *Fetcher) absence(object proto.ObjectRequest, now time.Time) (absence, bool) {
	if object.Provable() {
		return absence{}, false
	}
	return f.absent.get(object.Where.First, now)
}

// mayAskUpstream returns nil if upstream may be asked for the object now, else what it
// said last time.
func (f *Fetcher) mayAskUpstream(k key, object proto.ObjectRequest, now time.Time) error {
	if a, ok := f.absence(object, now); ok {
		return a.err(now)
	}
	return f.budget.allowAny(k, &object, false, now)
}

// outdated reports whether the archive has published something since the flight of an unlisted file
// began: what it brings is of before that, perhaps.
func (fl *flight) outdated() bool {
	return !fl.object.Provable() && fl.era != fl.f.absent.era(fl.object.Where.First.Archive)
}

// refuse counts an answer that nobody was asked for, and passes it on.
func (f *Fetcher) refuse(err error) error {
	if errors.Is(err, proto.ErrNotFound) {
		f.metrics.notFoundAgain.Inc()
	}
	return err
}

// rememberAbsence notes that a flight for an unlisted file ended with "not found".
func (fl *flight) rememberAbsence(o outcome) {
	if fl.object.Provable() || o.verdict != absent {
		return
	}
	fl.mu.Lock()
	ttl := hearsayFor
	if fl.feed == feedUpstream {
		ttl = fl.f.cfg.NotFoundFor
	}
	fl.mu.Unlock()
	fl.f.absent.note(fl.object.Where.First, fl.era, time.Now(), min(ttl, fl.f.cfg.NotFoundFor))
}
