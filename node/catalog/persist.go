package catalog

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/aptmesh/aptmesh/node/catalog/suite"
	"github.com/aptmesh/aptmesh/node/catalog/view"
	"github.com/aptmesh/aptmesh/proto"
)

// suiteDir is where the pointers of the suites lie among the state files.
const suiteDir = "suites/"

// record is a suite's state on disk: which generations are believed, and what of them is in the
// store. The content is in the blobs. Intervals are ages in seconds and not dates, so that a clock
// that was wrong, then or now, forgets nothing.
type record struct {
	Suite    proto.Suite      `json:"suite"`
	Machine  suite.Record     `json:"machine"`
	Current  *genRecord       `json:"current,omitempty"` // nil where only the machine's memory is left
	Retained []genRecord      `json:"retained,omitempty"`
	Demand   map[string]int64 `json:"demand,omitempty"` // since the last request, by slot
	Asked    int64            `json:"asked"`            // since the last request for the root; -1 for never
	// Wanted is like Asked, for the hosts of any node; nil where nobody is known to have wanted the suite.
	Wanted *int64 `json:"wanted,omitempty"`
	// Changed is when the current generation was adopted. It is for people, so it is a date.
	Changed time.Time `json:"changed,omitzero"`
}

// genRecord is one generation on disk.
type genRecord struct {
	proto.Generation
	// Superseded is how long another has been in its place.
	Superseded int64                  `json:"superseded,omitempty"`
	Staged     map[string]view.Staged `json:"staged,omitempty"`
}

// blobs lists what must not be lost while the generation is to be read back.
func (r *genRecord) blobs() []proto.Digest {
	digests := []proto.Digest{r.Root.Digest}
	for _, c := range r.Companions {
		digests = append(digests, c.Ref.Digest)
	}
	for _, s := range r.Staged {
		digests = append(digests, s.Ref.Digest)
	}
	return slices.DeleteFunc(digests, proto.Digest.IsZero)
}

// saveOrWarn writes the suite down as it stands, and pins its blobs.
func (d *driver) saveOrWarn() {
	if d.forgotten {
		return
	}
	d.pin()
	if err := d.write(d.current, d.retained, d.machine.Record()); err != nil {
		d.log.Warn("the suite's state could not be written; after a restart what has changed since is read again", "error", err)
	}
}

// write makes the suite's pointer durable: when it returns nil, a restart believes current. A suite
// of which nothing is known has nothing to write.
func (d *driver) write(current *view.Generation, retained []*view.Generation, machine suite.Record) error {
	now := d.c.mono()
	r := record{Suite: d.id, Machine: machine, Demand: d.demand.record(now), Asked: -1}
	if wanted := d.lastWanted(); wanted != suite.Never {
		ago := int64(now.Sub(wanted) / time.Second)
		r.Wanted = &ago
	}
	if asked := suite.Mono(d.demand.asked.Load()); asked != suite.Never {
		r.Asked = int64(now.Sub(asked) / time.Second)
	}
	switch {
	case current != nil:
		c := d.recordOf(current, now)
		r.Current = &c
	case d.locked != nil:
		r.Current = d.locked.Current
	case machine.Floor.IsZero():
		return nil
	}
	if r.Current != nil {
		r.Changed = d.changed
	}
	for _, g := range retained {
		r.Retained = append(r.Retained, d.recordOf(g, now))
	}
	r.Retained = append(r.Retained, d.unread...)
	data, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	if err := d.c.cfg.State.WriteFile(d.fileName(), data); err != nil {
		return err
	}
	d.saved, d.checkSaved = now, !machine.Checked.IsZero()
	return nil
}

func (d *driver) recordOf(g *view.Generation, now suite.Mono) genRecord {
	r := genRecord{Generation: g.Generation, Staged: g.AllStaged()}
	if !g.Superseded.IsZero() {
		r.Superseded = int64(d.c.timeOf(now).Sub(g.Superseded) / time.Second)
	}
	return r
}

// pin keeps all blobs of the suite from being evicted.
func (d *driver) pin() {
	if d.forgotten {
		return
	}
	var digests []proto.Digest
	if d.current != nil {
		digests = d.current.Blobs()
	} else if d.locked != nil && d.locked.Current != nil {
		digests = d.locked.Current.blobs()
	}
	for _, g := range d.retained {
		digests = append(digests, g.Blobs()...)
	}
	for i := range d.unread {
		digests = append(digests, d.unread[i].blobs()...)
	}
	slices.SortFunc(digests, func(x, y proto.Digest) int { return bytes.Compare(x[:], y[:]) })
	d.c.cfg.Store.Pin(d.id.String(), slices.Compact(digests))
}

// fileName names the state file. Long names are cut, because a file system takes 255 bytes; the sum
// keeps them apart.
func (d *driver) fileName() string { return fileNameOf(d.id) }

func fileNameOf(id proto.Suite) string {
	name := id.Dir
	if id.Name != "" {
		name += ":" + id.Name
	}
	dir := escapeName(name)
	if len(dir) > 100 {
		dir = dir[:60] + "_-" + proto.DigestOf([]byte(name)).Short()
	}
	return suiteDir + escapeName(id.Archive) + "/" + dir + ".json"
}

// escapeName makes one file name of any text, readable and without collisions.
func escapeName(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '.' && i > 0:
			b.WriteByte(c)
		default:
			b.WriteByte('_')
			b.WriteString(hex.EncodeToString([]byte{c}))
		}
	}
	if b.Len() == 0 {
		return "_"
	}
	return b.String()
}

// load reads the suites of these archives back from the files of that name. A suite of which the
// file makes no sense is left out with a message: the first request discovers it.
func (c *Catalog) load(names []string, archives map[string]bool) []*driver {
	if len(archives) == 0 {
		return nil
	}
	loaded := make([]*driver, len(names))
	var group errgroup.Group
	group.SetLimit(4)
	for i, name := range names {
		group.Go(func() error {
			d, err := c.loadSuite(name, archives)
			if err != nil {
				c.cfg.Logger.Warn("a suite's state is left aside; the first request reads it from upstream again", "file", name, "error", err)
			}
			loaded[i] = d
			return nil
		})
	}
	group.Wait() // what fails is left out
	return slices.DeleteFunc(loaded, func(d *driver) bool { return d == nil })
}

// readRecord reads a state file; nil where there is none.
func (c *Catalog) readRecord(name string) (*record, error) {
	data, err := c.cfg.State.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var r record
	if err := json.Unmarshal(data, &r); err != nil {
		return nil, err
	}
	return &r, nil
}

// loadSuite reads one suite back; nil if its archive is not among those wanted, or if only a memory
// of it is left.
func (c *Catalog) loadSuite(name string, archives map[string]bool) (*driver, error) {
	r, err := c.readRecord(name)
	if err != nil || r == nil {
		return nil, err
	}
	if !archives[r.Suite.Archive] || r.Current == nil {
		return nil, nil // its file waits in case the archive comes back, or a client asks for the suite
	}
	c.mu.Lock()
	a := c.archives[r.Suite.Archive]
	_, taken := c.drivers[r.Suite] // by a client that was quicker
	c.mu.Unlock()
	if taken || a == nil {
		return nil, nil
	}
	d := c.newDriver(r.Suite, a)
	d.restore(r)
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, taken := c.drivers[r.Suite]; taken {
		d.cancel()
		return nil, nil
	}
	c.drivers[r.Suite] = d
	d.pin()
	return d, nil
}

// restore restores what was known before a restart. If a root cannot be read or verified now, the
// record stays until the root can be verified or a newer one is adopted.
func (d *driver) restore(r *record) {
	now := d.c.mono()
	d.restored = true
	d.demand.restore(r.Demand, now)
	asked := suite.Never
	if r.Asked >= 0 {
		asked = now.Add(-time.Duration(r.Asked) * time.Second)
		d.demand.asked.Store(int64(asked))
	}
	d.wanted = now // what is not known must not make the suite be forgotten
	if r.Wanted != nil {
		d.wanted = now.Add(-time.Duration(*r.Wanted) * time.Second)
	}
	if !r.Changed.After(d.c.cfg.Now()) { // or a clock was wrong, then or now
		d.changed = r.Changed.UTC()
	}
	d.checkSaved = !r.Machine.Checked.IsZero()
	if r.Current != nil {
		if g, _, err := d.readBack(*r.Current); err == nil {
			d.current = g
		} else {
			d.locked, d.lockedBy = r, err
			d.log.Warn("the generation from before the restart cannot be verified now; it is kept, and verified again later", "date", r.Current.Date, "clock", d.c.cfg.Now().UTC(), "error", err)
		}
	}
	d.machine.Restore(suite.At{Mono: now, Wall: d.c.cfg.Now()}, d.rootOf(d.current), r.Machine, asked)
	if d.unread = r.Retained; len(r.Retained) > 0 {
		loading := make(chan struct{})
		d.loading = loading
		d.mail.post(func() { d.startLoading(loading) })
	}
	if d.current != nil {
		d.mail.post(d.readAgain)
	}
	d.publish()
}

// unlock tries again to read back what a restart could not verify. It runs on the driver's
// goroutine.
func (d *driver) unlock() {
	if d.locked == nil || d.current != nil {
		return
	}
	g, _, err := d.readBack(*d.locked.Current)
	if err != nil {
		d.lockedBy = err
		return
	}
	d.log.Info("the generation from before the restart is verified now", "date", g.Date)
	r := d.machine.Record()
	d.current, d.locked = g, nil
	d.machine.Restore(d.at(), d.rootOf(g), r, suite.Mono(d.demand.asked.Load()))
	d.loadAgain()
	d.show()
	d.publish()
}

// rootOf is a generation as the machine knows it.
func (d *driver) rootOf(g *view.Generation) *suite.Root {
	if g == nil {
		return nil
	}
	form := 0
	for i, f := range d.forms() {
		if f.Files[0].Name == g.RootName {
			form = i
		}
	}
	return &suite.Root{Gen: g.Generation, Manifest: g.Manifest, Undated: g.Manifest.Date.IsZero(), Form: form}
}

// readBack reads a generation's root from the store and verifies it as if it had just arrived: the
// disk is not trusted more than a mirror.
func (d *driver) readBack(r genRecord) (*view.Generation, *suite.Candidate, error) {
	for i, form := range d.forms() {
		if form.Files[0].Name != r.RootName {
			continue
		}
		files := make(map[string]*rootFile, len(form.Files))
		data, err := d.c.readBlob(r.Root, form.Files[0].MaxBytes)
		if err != nil {
			return nil, nil, fmt.Errorf("read the root of %s: %w", d.id, err)
		}
		files[r.RootName] = &rootFile{data: data, modified: r.Modified}
		for _, beside := range form.Files[1:] {
			c, ok := r.Companion(beside.Name)
			if !ok || !c.Known() {
				continue
			}
			if data, err = d.c.readBlob(c.Ref, beside.MaxBytes); err != nil {
				return nil, nil, fmt.Errorf("read %s of %s: %w", beside.Name, d.id, err)
			}
			files[beside.Name] = &rootFile{data: data, modified: c.Modified}
		}
		cand, err := d.candidate(i, form, files)
		if err != nil {
			return nil, nil, err
		}
		g := cand.Gen
		g.Companions, g.Base, g.Date, g.Back = r.Companions, r.Base, r.Date, r.Back
		if !cand.Undated {
			g.Date = cand.Gen.Date
		}
		return view.NewGeneration(g, cand.Manifest, filesOf(g)...).WithAllStaged(r.Staged), cand, nil
	}
	return nil, nil, fmt.Errorf("%q is no root file of this archive", r.RootName)
}

// readAgain reads indexes again of which the table is lost.
func (d *driver) readAgain() {
	if d.current == nil { // lost before its turn came
		return
	}
	for path, st := range d.current.AllStaged() {
		m := d.current.Member(path)
		if m == nil || !m.Provable() || !m.Lists() || st.Table != "" {
			continue
		}
		d.takeIn(m, d.demand.wasFetched(m.Slot))
	}
}

// startLoading reads the superseded generations back behind the start, and closes loading then.
func (d *driver) startLoading(loading chan struct{}) {
	records, locked := d.unread, d.locked != nil
	if !d.c.spawn(func() { d.loadRetained(records, locked, loading) }) {
		close(loading)
	}
}

// loadAgain reads superseded generations that the start could not verify, because the clock was
// wrong then.
func (d *driver) loadAgain() {
	if d.unread == nil {
		return
	}
	select {
	case <-d.loading:
		d.loading = make(chan struct{})
		d.startLoading(d.loading)
	default: // it is going on
	}
}

// loadRetained does the work of startLoading. A generation of which the root is no longer there or
// no longer trusted is dropped, unless only the clock may be at fault: then the current one cannot
// be verified either.
func (d *driver) loadRetained(records []genRecord, locked bool, loading chan struct{}) {
	var loaded []*view.Generation
	var failed []genRecord
	now := d.c.mono()
	for _, r := range records {
		g, _, err := d.readBack(r)
		if err != nil {
			d.log.Info("a superseded generation cannot be read back", "date", r.Date, "error", err)
			failed = append(failed, r)
			continue
		}
		loaded = append(loaded, g.Retained(d.c.timeOf(now).Add(-time.Duration(r.Superseded)*time.Second)))
	}
	posted := d.mail.post(func() {
		d.unread = nil
		if locked {
			d.unread = failed // nil for none
		}
		for _, g := range loaded {
			known := d.current != nil && d.current.Root == g.Root || slices.ContainsFunc(d.retained, func(o *view.Generation) bool { return o.Root == g.Root })
			if !known {
				d.retained = append(d.retained, g)
			}
		}
		d.retained = d.expire(d.retained)
		d.pin()
		d.notifySuperseded()
		d.show()
		close(loading)
		if locked && d.locked == nil { // the clock was set right meanwhile
			d.loadAgain()
		}
		d.publish()
	})
	if !posted {
		close(loading)
	}
}
