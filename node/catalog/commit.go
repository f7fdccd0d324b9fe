package catalog

import (
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/aptmesh/aptmesh/node/catalog/suite"
	"github.com/aptmesh/aptmesh/node/catalog/view"
	"github.com/aptmesh/aptmesh/proto"
)

// commit makes a staged candidate the current generation: first the durable pointer, then the view.
// From the swap on every request sees it, and none sees half of it.
func (d *driver) commit(a *suite.Commit) error {
	next, before, now := d.staged, d.current, d.c.mono()
	if next == nil || next.Statement != a.Candidate.Gen.Statement {
		return fmt.Errorf("commit the new generation of %s: it is not staged", d.id)
	}
	next = d.withDate(next, a)
	retained := d.retained
	if a.Revision {
		next = next.WithAllStaged(before.AllStaged())
	} else {
		retained = d.supersede(next, now)
	}
	changed := d.changed
	d.changed = d.c.cfg.Now()
	if err := d.write(next, retained, a.Record); err != nil {
		d.changed = changed
		return fmt.Errorf("write the new generation of %s: %w", d.id, err)
	}
	// At this point a restart believes the new generation; from the next line on, so does this
	// process.
	d.current, d.retained, d.locked = next, retained, nil
	clear(d.untaken) // it will be said of the new one, if it is so
	d.loadAgain()
	d.source = ""
	d.c.failing.Delete(d.id)
	if len(a.Candidate.From) > 0 {
		d.source = a.Candidate.From[0]
	}
	d.demand.staged(stagedSlots(next))
	d.pin()
	d.unpinStaging()
	d.notifySuperseded()
	d.show()
	if !a.Revision {
		d.announceSwitch(before, next)
	}
	d.mail.post(d.catchUp)
	if before == nil {
		d.wanted = now // by whoever had it read, or announced it
		d.mail.post(d.takeInRemote)
	}
	if !a.Revision {
		d.c.cleanTables(d.id.Archive)
		d.c.metrics.switches.Inc()
	}
	d.logCommit(a, next)
	return nil
}

// stagedSlots are the slots of the staged members.
func stagedSlots(g *view.Generation) []string {
	var slots []string
	for path := range g.AllStaged() {
		if m := g.Member(path); m != nil {
			slots = append(slots, m.Slot)
		}
	}
	return slots
}

// withDate gives an undated generation the date that the machine has ordered it by.
func (d *driver) withDate(g *view.Generation, a *suite.Commit) *view.Generation {
	if g.Date.Equal(a.Candidate.Gen.Date) {
		return g
	}
	gen := g.Generation
	gen.Date = a.Candidate.Gen.Date
	return withGeneration(g, gen)
}

func (d *driver) logCommit(a *suite.Commit, g *view.Generation) {
	attrs := []any{"date", g.Date.Format(time.RFC3339), "root", g.Root.Digest.Short(), "staged", len(g.AllStaged()), "retained", len(d.retained)}
	if signer := g.Manifest.Signer; signer != "" {
		attrs = append(attrs, "signer", signer)
	}
	if d.source != "" {
		attrs = append(attrs, "from", d.source)
	}
	if n := len(g.Manifest.Oddities); n > 0 {
		attrs = append(attrs, "oddities", n, "first_oddity", g.Manifest.Oddities[0])
	}
	what := "adopted a generation"
	if a.Revision {
		what = "adopted the current generation as it is signed now"
	}
	d.log.Info(what, attrs...)
}

// supersede is what is retained once next is current.
func (d *driver) supersede(next *view.Generation, now suite.Mono) []*view.Generation {
	var retained []*view.Generation
	if d.current != nil {
		retained = append(retained, d.current.Retained(d.c.timeOf(now)))
	}
	for _, g := range d.retained {
		if g.Statement != next.Statement {
			retained = append(retained, g)
		}
	}
	return d.expire(retained)
}

// expire drops retained generations that are too old or too many; the newest one always stays, for
// clients that are in the middle of an update.
func (d *driver) expire(retained []*view.Generation) []*view.Generation {
	now := d.c.mono()
	kept := make([]*view.Generation, 0, len(retained))
	for i, g := range retained {
		if i > 0 && (i >= d.c.cfg.Retain.Generations || d.c.timeOf(now).Sub(g.Superseded) > d.c.cfg.Retain.For) {
			continue
		}
		kept = append(kept, g)
	}
	return kept
}

// notifySuperseded lets the machine know what was current before.
func (d *driver) notifySuperseded() {
	statements := make([]proto.Digest, len(d.retained))
	for i, g := range d.retained {
		statements[i] = g.Statement
	}
	d.machine.Superseded(statements)
}

// tidyEvery is how often expired generations are dropped. saveEvery is how often the demand is
// saved if nothing else writes the state file: a restart needs it, because members without demand
// are not staged.
const (
	tidyEvery = 10 * time.Minute
	saveEvery = time.Hour
)

// tidy drops expired generations, saves the demand, and forgets a suite without demand.
func (d *driver) tidy() {
	now := d.c.mono()
	d.tidied = now
	d.c.tablesOf(d.id.Archive).drain()
	if d.current == nil {
		d.unlock()
		d.reap()
		return
	}
	kept := d.expire(d.retained)
	if len(kept) != len(d.retained) {
		d.retained = kept
		d.notifySuperseded()
		d.saveOrWarn()
		d.show()
		d.c.cleanTables(d.id.Archive)
	} else if now.Sub(d.saved) >= saveEvery {
		d.saveOrWarn()
	}
	if !d.configured() && d.machine.Idle() && now.Sub(d.lastWanted()) > d.c.cfg.UseFor && d.machine.Belief(d.at()).Failure == nil {
		d.log.Info("no client has asked for a long time; the suite is forgotten")
		d.forget()
	}
}

// lastWanted is when anybody last wanted the suite.
func (d *driver) lastWanted() suite.Mono {
	return max(suite.Mono(d.demand.asked.Load()), d.machine.LastWanted(), d.wanted)
}

func (d *driver) configured() bool { return d.archive.Load().watches(d.id) }

// forget drops the state of a suite that no client uses. How new its root was is remembered, so
// that nobody can bring an older one.
func (d *driver) forget() {
	if d.configured() || d.forgotten {
		return
	}
	if err := d.lose(suite.Record{Floor: d.machine.Record().Floor}); err != nil {
		d.log.Warn("the suite's state could not be written", "error", err)
	}
}

// lose drops the state of a suite, except what is written down instead; nothing is, where r has no
// floor.
func (d *driver) lose(r suite.Record) error {
	d.current, d.retained, d.locked, d.unread = nil, nil, nil, nil
	var err error
	if r.Floor.IsZero() {
		if err = d.c.cfg.State.RemoveFile(d.fileName()); errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
	} else {
		err = d.write(nil, nil, r)
	}
	d.drop()
	d.c.compose(d.id.Archive)
	d.c.cleanTables(d.id.Archive)
	return err
}

// drop ends the driver and takes it off the list. From then on its file and its pins are those of
// the driver that the next request makes.
func (d *driver) drop() {
	d.c.mu.Lock()
	d.takeOffLocked()
	d.c.mu.Unlock()
	d.end()
}

// takeOffLocked takes the driver off the list, unless a new driver has its place by now. It removes
// the pins first, because the pins of a new driver have the same name. The caller holds Catalog.mu.
func (d *driver) takeOffLocked() {
	if d.c.drivers[d.id] != d {
		return
	}
	d.c.cfg.Store.Pin(d.id.String(), nil)
	d.c.cfg.Store.Pin(d.stagingOwner(), nil)
	delete(d.c.drivers, d.id)
}

// end ends a driver that is off the list. What it has under way comes to nothing.
func (d *driver) end() {
	d.forgotten = true
	d.cancel()
	d.publish()
}

// reapAfter is how long a suite that turned out not to exist is kept, so that its last result
// answers a burst of requests.
const reapAfter = time.Second

// reap drops a suite that nothing is known of and nobody waits for, so that requests for arbitrary
// names leave nothing behind. A suite that could not be read just now is dropped too: the next
// request makes it again.
func (d *driver) reap() {
	if d.current != nil || d.locked != nil || d.configured() || !d.machine.Idle() || len(d.ingests) > 0 ||
		d.c.mono().Sub(max(d.machine.LastCheck(), d.made)) < reapAfter {
		return
	}
	d.drop()
}

// withGeneration is g with other facts of its root; the members are the same.
func withGeneration(g *view.Generation, gen proto.Generation) *view.Generation {
	next := *g
	next.Generation = gen
	return &next
}
