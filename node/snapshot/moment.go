package snapshot

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// momentForm is the form of an ID that is a moment, as snapshot services have it.
const momentForm = "20060102T150405Z"

// moment is what this node holds of an archive as it was at a moment.
type moment struct {
	digest string  // of record
	record *Record // nil: nothing is held
	// lacking are the suites that are known, and of which nothing is held.
	lacking []proto.Suite
	until   time.Time // it is looked for again then
}

type momentKey struct {
	archive string
	at      time.Time
}

const (
	// momentFor is for how long it counts what is held of a moment: generations are retained for some time, and
	// snapshots come and go.
	momentFor = 10 * time.Second
	// maxMoments bounds the moments that are remembered, whatever clients ask for.
	maxMoments = 256
)

// heldAt returns what is held of an archive as it was at a moment that an ID names: of each suite the generation that was
// the newest then, by its date. Those that are retained follow each other. Of one that only a snapshot has it is known that
// it was the newest until that was taken. ok: the ID is a moment.
func (k *Keeper) heldAt(id, archive string) (held moment, ok bool) {
	at, err := time.Parse(momentForm, id)
	if err != nil {
		return moment{}, false
	}
	now, key := k.cfg.Now(), momentKey{archive, at}
	k.opening.Lock()
	held, known := k.moments[key]
	k.opening.Unlock()
	if known && now.Before(held.until) {
		return held, true
	}
	held = moment{until: now.Add(momentFor)}
	if !at.After(now) {
		k.look(&held, key)
	}
	k.opening.Lock()
	defer k.opening.Unlock()
	if len(k.moments) >= maxMoments {
		clear(k.moments)
	}
	k.moments[key] = held
	return held, true
}

// look fills in what is held of an archive at a moment.
func (k *Keeper) look(held *moment, key momentKey) {
	best := make(map[proto.Suite]*proto.Captured) // nil: the suite is known, and nothing is held
	record := &Record{}
	// offer takes a generation that counts as one of the moment, if none with a later date does. It was proven at a time.
	offer := func(c *proto.Captured, proven time.Time, counts bool) {
		was := best[c.Suite]
		if !counts || c.Date.After(key.at) || was != nil && !c.Date.After(was.Date) {
			best[c.Suite] = was
			return
		}
		best[c.Suite] = c
		if proven.After(record.Taken) {
			record.Taken = proven
		}
	}
	all := k.cfg.Catalog.Held(key.archive)
	for i := range all {
		proven := all[i].Date
		if all[i].Signed.After(proven) {
			proven = all[i].Signed
		}
		offer(&all[i], proven, true)
	}
	for _, r := range k.table.Load().records {
		if a := r.archive(key.archive); a != nil {
			for i := range a.Suites {
				offer(&a.Suites[i], r.Taken, !key.at.After(r.Taken))
			}
		}
	}
	a := Archive{Name: key.archive}
	for suite, c := range best {
		if c == nil {
			held.lacking = append(held.lacking, suite)
			continue
		}
		a.Suites = append(a.Suites, *c)
	}
	if len(a.Suites) == 0 {
		return
	}
	slices.SortFunc(a.Suites, func(x, y proto.Captured) int {
		return cmp.Or(cmp.Compare(x.Suite.Dir, y.Suite.Dir), cmp.Compare(x.Suite.Name, y.Suite.Name))
	})
	record.Archives = []Archive{a}
	if _, sum, err := record.encode(); err == nil {
		held.record, held.digest = record, sum.String()
	}
}

// Whole reports whether all suites of an archive that are known are held as they were at the moment that an ID names;
// true for an ID that is no moment.
func (k *Keeper) Whole(id, archive string) bool {
	held, ok := k.heldAt(id, archive)
	return !ok || held.record != nil && len(held.lacking) == 0
}

// captureAt returns the suites of an archive as they were at the moment of a plan. The record is of no earlier time than
// their signatures. It fails if nothing is held of a suite that is wanted.
func (k *Keeper) captureAt(r *Record, archive string, plan Plan) ([]proto.Captured, error) {
	id := plan.At.UTC().Format(momentForm)
	if plan.At.After(k.cfg.Now()) {
		return nil, fmt.Errorf("%s lies ahead: there is nothing to capture", id)
	}
	held, _ := k.heldAt(id, archive)
	var lacking []string
	for _, suite := range held.lacking {
		if Wanted(plan.Suites, suite) {
			lacking = append(lacking, suite.String())
		}
	}
	if slices.Sort(lacking); len(lacking) > 0 {
		return nil, fmt.Errorf("this node does not hold %s as of %s: it keeps superseded generations as `retain` says, and those of snapshots; leave it out with --suite, or take a later moment", strings.Join(lacking, ", "), id)
	}
	if held.record == nil {
		return nil, nil
	}
	if held.record.Taken.After(r.Taken) {
		r.Taken = held.record.Taken
	}
	return held.record.Archives[0].Suites, nil
}

// young reports whether another generation of the moment may still be found: publications take a while to arrive.
func (k *Keeper) young(id string) bool {
	at, err := time.Parse(momentForm, id)
	return err == nil && k.cfg.Now().Sub(at) < pastFor
}
