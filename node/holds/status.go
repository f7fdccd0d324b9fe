package holds

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/aptmesh/aptmesh/node/holds/rows"
	"github.com/aptmesh/aptmesh/node/holds/want"
	"github.com/aptmesh/aptmesh/proto"
)

// Count is a number of files and their bytes. Files whose size no index lists count none.
type Count struct {
	Files int
	Bytes int64
}

func (c *Count) add(ref proto.Ref) {
	c.Files++
	c.Bytes += max(ref.Size, 0)
}

// Status is a hold at one moment.
type Status struct {
	Name string
	// Generations are what is held, the newest first.
	Generations []GenerationStatus
	// Listed is all that is to be held in the cluster, Share what this node is to hold of it, and Held what it does;
	// Own is what of that no other hold of this node has. Cluster is what this node or another one is believed to
	// store. Each file counts once, whatever the copies.
	Listed, Share, Held, Own, Cluster Count
	// Missing is Share without Held.
	Missing Count
	Phase   Phase
	// Failure is why the last run did not end well; "" if it did.
	Failure string
	// Unchecked is why upstream could not say whether there is something newer, when it was last asked; "" if it did.
	Unchecked string
	// Next is when it goes on by itself; zero: when a suite changes.
	Next time.Time
	Progress
	// Lost are files that could not be had in the last run, the first of LostCount.
	Lost      []proto.Missing
	LostCount int
	// Unresolved are dependencies that nothing meets, the first of UnresolvedCount; of the last plan since the node
	// was started.
	Unresolved      []want.Unresolved
	UnresolvedCount int
	// Unprovable, Unsized: see want.Result. Absent: see generation.
	Unprovable, Unsized, Absent int
	// Checked is what the last verification has read since the node was started, and of how many bytes.
	Checked Count
	CheckOf int64
	Damaged int
}

// Progress is how far the current run is, or the last one was.
type Progress struct {
	// Total is what is to be there in the end, Done what is.
	Total, Done Count
	// Fetched is how many bytes this run has fetched, ToFetch how many it was to.
	Fetched, ToFetch int64
	// Rate is in bytes per second, Remaining how long the rest takes at that; zero where nobody knows.
	Rate      int64
	Remaining time.Duration
}

// GenerationStatus is a generation that is held.
type GenerationStatus struct {
	Taken  time.Time
	Suites []proto.Captured
	Whole  bool
	Count
}

func (k *Keeper) status(w *worker, name string) Status {
	s := k.count(w)
	s.Name = name
	w.mu.Lock()
	defer w.mu.Unlock()
	s.Phase, s.Next, s.Unchecked = w.phase, w.next, w.unchecked
	if w.failure != nil {
		s.Failure = w.failure.Error()
	}
	if w.chosen != nil {
		s.Unresolved = w.chosen.Unresolved
	}
	s.Checked, s.CheckOf, s.Damaged = Count{w.checked.files, w.checked.bytes}, w.checked.of, w.checked.damaged
	w.progress.tell(&s, w.phase == Fetching)
	return s
}

// countedFor is how long numbers of files are good for while nothing begins or ends: each file is looked up for them.
const countedFor = 2 * time.Second

// count counts what a hold lists and has here and in the cluster.
func (k *Keeper) count(w *worker) Status {
	w.counting.Lock()
	defer w.counting.Unlock()
	if entered := w.entered.Load(); entered != w.counted.entered || time.Now().After(w.counted.until) {
		w.counted.Status, w.counted.entered, w.counted.until = k.countNow(w), entered, time.Now().Add(countedFor)
	}
	return w.counted.Status
}

func (k *Keeper) countNow(w *worker) (s Status) {
	generations, others := k.holdOf(w)
	k.mu.Lock()
	share, err := k.unite(slices.Values(generations))
	k.mu.Unlock()
	if err == nil {
		err = rows.Guard(func() { k.countAll(&s, generations, others, share) })
	}
	if err != nil {
		k.log.Error("what is held cannot be counted", "hold", w.owner, "error", err)
	}
	return s
}

func (k *Keeper) countAll(s *Status, generations, others []*generation, share *rows.Set) {
	var parts []rows.Part
	for _, g := range generations {
		parts = append(parts, rows.Part{Set: g.indexes}, rows.Part{Set: g.files})
	}
	all, err := rows.Unite(parts...)
	if err != nil {
		return // Guard will say it
	}
	for ref := range all.Rows() {
		s.Listed.add(ref)
		if k.stored(ref) || len(k.cfg.Holders(ref.Digest)) > 0 {
			s.Cluster.add(ref)
		}
	}
	for ref := range share.Rows() {
		s.Share.add(ref)
		switch {
		case !k.stored(ref):
			s.Missing.add(ref)
			continue
		case !slices.ContainsFunc(others, func(g *generation) bool { return g.indexes.Has(ref.Digest) || g.files.Has(ref.Digest) }):
			s.Own.add(ref)
		}
		s.Held.add(ref)
	}
	for i, g := range generations {
		count := Count{g.indexes.Len() + g.files.Len() + g.Unknown, g.indexes.Bytes() + g.files.Bytes() + g.UnknownBytes}
		s.Generations = append(s.Generations, GenerationStatus{Taken: g.Taken, Suites: g.Suites, Whole: g.Whole, Count: count})
		s.Missing.Files, s.Missing.Bytes = s.Missing.Files+g.Unknown, s.Missing.Bytes+g.UnknownBytes
		if i == 0 {
			s.Unprovable, s.Unsized, s.Absent, s.UnresolvedCount = g.Unprovable, g.Unsized, g.Absent, g.Unresolved
		}
	}
}

// holdOf is what a worker holds, and what all others do.
func (k *Keeper) holdOf(w *worker) (generations, others []*generation) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, other := range k.workers {
		if other != w {
			others = append(others, other.hold.Generations...)
		}
	}
	return w.hold.Generations, others
}

// Trouble is a hold that did not come about in the last attempt.
type Trouble struct {
	Hold    string
	Phase   Phase
	Failure string
}

// Troubles are the holds of which this node could not hold its share in the last attempt.
func (k *Keeper) Troubles() (all []Trouble) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, owner := range slices.Sorted(maps.Keys(k.workers)) {
		w := k.workers[owner]
		w.mu.Lock()
		if w.failure != nil {
			all = append(all, Trouble{label(owner), w.phase, w.failure.Error()})
		}
		w.mu.Unlock()
	}
	return all
}

func (p *progress) tell(s *Status, running bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s.Total, s.Done = Count{p.files, p.bytes}, Count{p.done, p.have}
	s.Fetched, s.ToFetch = p.moved, p.fetch
	s.Lost, s.LostCount = slices.Clone(p.missing), p.lost
	if took := time.Since(p.began); running && p.moved > 0 && took > 0 {
		s.Rate = int64(float64(p.moved) / took.Seconds())
		s.Remaining = time.Duration(float64(max(p.fetch-p.moved, 0)) / float64(max(s.Rate, 1)) * float64(time.Second)).Round(time.Second)
	}
}

// Forecast is what a hold will take.
type Forecast struct {
	Suites []proto.Captured
	// Unchecked is as in Request.
	Unchecked string
	// Indexes are roots and indexes, Packages all other files, in the cluster; each counts once.
	Indexes, Packages Count
	// Share is what this node is to hold, Stored what of it is stored already.
	Share, Stored Count
	// Nodes is the part of each node of the cluster; empty where this node stands alone.
	Nodes map[string]Count
	// Need is how many bytes this node is to hold more, besides Held, of Limit. Refused says why that does not fit; ""
	// if it does.
	Need, Held, Limit int64
	Refused           string
	Largest           []HoldSize
	Unresolved        []want.Unresolved
	UnresolvedCount   int
	// Unprovable and Unsized are as in want.Result.
	Unprovable, Unsized int
}

// Forecast says what a request would take if it were held now for an owner, in the place of what it holds. The indexes
// that list what is wanted are fetched for it, and nothing is held.
func (k *Keeper) Forecast(ctx context.Context, owner string, r Request) (*Forecast, error) {
	p, err := k.draw(ctx, r)
	if err != nil {
		return nil, err
	}
	f := &Forecast{Suites: r.Suites, Unchecked: r.Unchecked, Unresolved: p.chosen.Unresolved, UnresolvedCount: p.chosen.UnresolvedCount, Unprovable: p.chosen.Unprovable, Unsized: p.chosen.Unsized}
	k.mu.Lock()
	ring, copies := k.ring, r.Copies
	k.mu.Unlock()
	if ring != nil {
		f.Nodes = make(map[string]Count)
		for _, name := range ring.Names() {
			f.Nodes[name] = Count{}
		}
	}
	for _, o := range p.indexes {
		f.Indexes.add(o.Ref)
		for name, c := range f.Nodes {
			c.add(o.Ref)
			f.Nodes[name] = c
		}
	}
	for i := range p.files {
		f.Packages.add(p.files[i].Ref)
		if ring == nil {
			continue
		}
		owners := ring.Names()
		if copies > 0 && copies < len(owners) {
			owners = ring.Owners(p.files[i].key(), copies)
		}
		for _, name := range owners {
			c := f.Nodes[name]
			c.add(p.files[i].Ref)
			f.Nodes[name] = c
		}
	}
	k.changing.Lock() // for the sets
	defer k.changing.Unlock()
	mine, g, indexes, files, err := k.sort(ctx, p)
	if err != nil {
		return nil, err
	}
	for i := range mine {
		f.Share.add(mine[i].Ref)
		if k.has(&mine[i]) {
			f.Stored.add(mine[i].Ref)
		}
	}
	for _, s := range []struct {
		refs []proto.Ref
		set  **rows.Set
	}{{indexes, &g.indexes}, {files, &g.files}} {
		if _, _, *s.set, err = setOf(s.refs); err != nil {
			return nil, err
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	f.Held, f.Limit, f.Largest = k.union.Bytes(), k.cfg.MaxPinned(k.cfg.Store.Limit()), k.largest(3)
	f.Need, err = k.fits(owner, g)
	if err != nil {
		var large *TooLarge
		if !errors.As(err, &large) {
			return nil, err
		}
		f.Refused = large.Error()
	}
	return f, nil
}
