package catalog

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/aptmesh/aptmesh/aptmeta"
	"github.com/aptmesh/aptmesh/proto"
)

// suiteDir is where the pointers of the suites lie among the state files.
const suiteDir = "suites/"

// record is a suite's state on disk: which generations are believed, and what of
// them is in the store. The content is in the blobs; losing this file loses no
// more than a first request would bring back.
type record struct {
	Suite    proto.Suite      `json:"suite"`
	Current  genRecord        `json:"current"`
	Retained []genRecord      `json:"retained,omitempty"`
	Uses     map[string]int64 `json:"uses,omitempty"`      // Unix seconds of the last request, by member path
	PairUsed int64            `json:"pair_used,omitempty"` // Unix seconds of the last request for Release or Release.gpg
	Asked    int64            `json:"asked"`               // Unix seconds
	Checked  int64            `json:"checked"`             // Unix seconds of the last good check
	// TakenBack is the Date, in Unix seconds, of the Release that an operator went
	// back from; 0 where he did not.
	TakenBack int64 `json:"taken_back,omitempty"`
	// Lead is the mirror that is asked first, and Mirrors what each one gave last.
	Lead    string              `json:"lead,omitempty"`
	Mirrors map[string]standing `json:"mirrors,omitempty"`
}

type genRecord struct {
	proto.Generation
	Superseded time.Time         `json:"superseded,omitzero"`
	Pair       *proto.Pair       `json:"pair,omitempty"`
	Staged     map[string]staged `json:"staged"`
}

// save writes the suite down as it stands, and pins its blobs. A suite without a
// generation has nothing to write.
func (s *suite) save() error {
	s.writing.Lock()
	defer s.writing.Unlock()
	s.c.mu.Lock()
	current, retained := s.current, s.retained
	s.c.mu.Unlock()
	if current == nil {
		return nil
	}
	s.pin()
	return s.write(current, retained)
}

func (s *suite) saveOrWarn() {
	if err := s.save(); err != nil {
		s.log.Warn("the suite's state could not be written; after a restart what has changed since is read again", "error", err)
	}
}

// write makes the suite's pointer durable: when it returns nil, a restart
// believes current. suite.writing is held.
func (s *suite) write(current *generation, retained []*generation) error {
	r := record{
		Suite:     s.id,
		Uses:      make(map[string]int64),
		Asked:     s.asked.Load(),
		Checked:   s.lastGood.Load() / int64(time.Second),
		TakenBack: s.takenBack.Load(),
		PairUsed:  s.pairUse.last.Load(),
	}
	r.Lead, r.Mirrors = s.standings()
	s.c.mu.Lock()
	r.Current = recordOf(current)
	for _, g := range retained {
		r.Retained = append(r.Retained, recordOf(g))
	}
	r.Retained = append(r.Retained, s.unread...)
	for path, u := range s.uses {
		if !u.had {
			continue
		}
		r.Uses[path] = u.last.Load()
	}
	s.c.mu.Unlock()
	data, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	if err := s.c.cfg.State.WriteFile(s.fileName(), data); err != nil {
		return err
	}
	s.saved = s.c.cfg.Now()
	return nil
}

// pin keeps all blobs of the suite from being evicted. suite.writing is held, so
// that an older set never takes the place of a newer one.
func (s *suite) pin() {
	var digests []proto.Digest
	s.c.mu.Lock()
	here := s.c.suites[s.id] == s
	if s.current != nil {
		digests = s.current.blobs()
	}
	for _, g := range s.retained {
		digests = append(digests, g.blobs()...)
	}
	s.c.mu.Unlock()
	for _, r := range s.unread {
		digests = append(digests, stub(r).blobs()...)
	}
	if here {
		s.c.cfg.Keeper.Pin(s.id.String(), digests)
	}
}

// fileName names the state file. Long names are cut, for a file system takes 255
// bytes; the sum keeps them apart.
func (s *suite) fileName() string {
	dir := escapeName(s.id.Dir)
	if len(dir) > 100 {
		dir = dir[:60] + "_-" + proto.DigestOf([]byte(s.id.Dir)).Short()
	}
	return suiteDir + escapeName(s.id.Archive) + "/" + dir + ".json"
}

// recordOf is what of g is written down. Catalog.mu is held.
func recordOf(g *generation) genRecord {
	return genRecord{Generation: g.Generation, Superseded: g.superseded, Pair: g.pair, Staged: maps.Clone(g.staged)}
}

// load reads the suites of these archives back. A suite that cannot be read, or
// whose root is no longer trusted, is left out with a message: the first request
// discovers it.
func (c *Catalog) load(archives map[string]bool) ([]*suite, error) {
	if len(archives) == 0 {
		return nil, nil
	}
	names, err := c.cfg.State.ListFiles(suiteDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	loaded := make([]*suite, len(names))
	var group errgroup.Group
	group.SetLimit(4)
	for i, name := range names {
		group.Go(func() error {
			s, err := c.loadSuite(name, archives)
			if err != nil {
				c.cfg.Logger.Warn("a suite's state is left aside; the first request reads it from upstream again", "file", name, "error", err)
			}
			loaded[i] = s
			return nil
		})
	}
	group.Wait() // what fails is left out
	return slices.DeleteFunc(loaded, func(s *suite) bool { return s == nil }), nil
}

// loadSuite reads one suite back; nil if its archive is not among those wanted.
func (c *Catalog) loadSuite(name string, archives map[string]bool) (*suite, error) {
	data, err := c.cfg.State.ReadFile(name)
	if err != nil {
		return nil, err
	}
	var r record
	if err := json.Unmarshal(data, &r); err != nil {
		return nil, err
	}
	if !archives[r.Suite.Archive] {
		return nil, nil // its file waits in case the archive comes back
	}
	archive, _ := c.archive(r.Suite.Archive)
	s := newSuite(c, r.Suite, archive)
	current, err := s.loadGeneration(r.Current)
	if err != nil {
		s.cancel()
		return nil, err
	}
	for path, last := range r.Uses {
		u := &use{had: true}
		u.last.Store(last)
		s.uses[path] = u
	}
	s.asked.Store(r.Asked)
	s.pairUse.last.Store(r.PairUsed)
	s.lastGood.Store(r.Checked * int64(time.Second))
	s.takenBack.Store(r.TakenBack)
	s.lead = r.Lead
	s.known = make(map[string]*standing, len(r.Mirrors))
	for mirror, st := range r.Mirrors {
		s.known[mirror] = &st
	}
	s.current = current
	s.saved = c.cfg.Now()
	s.linkUses(current)

	if s.unread = r.Retained; len(r.Retained) > 0 {
		s.loading = make(chan struct{})
	}
	c.mu.Lock()
	_, taken := c.suites[r.Suite] // by a client that was quicker
	if !taken {
		c.suites[r.Suite] = s
	}
	c.mu.Unlock()
	if taken {
		s.cancel()
		return nil, nil
	}
	s.writing.Lock()
	s.pin()
	s.writing.Unlock()
	if s.loading != nil && !c.spawn(func() { s.loadRetained(r.Retained) }) {
		close(s.loading)
	}
	return s, nil
}

// resume goes on where the last run stopped, once all suites are loaded.
func (s *suite) resume(now time.Time) {
	if asked := time.Unix(s.asked.Load(), 0); now.Sub(asked) < s.c.cfg.IdleAfter {
		s.ask(asked)
	}
	// An index whose table is lost is read again behind the start.
	s.c.mu.Lock()
	g := s.current
	again := make(map[*member]bool) // whether clients of this node use it
	for path, st := range g.staged {
		if m, ok := g.members[path]; ok && m.provable() && st.List == "" && aptmeta.IndexKindOf(path) != aptmeta.NotAnIndex {
			_, again[m] = s.uses[path]
		}
	}
	s.c.mu.Unlock()
	for m, ours := range again {
		s.c.takeIn(s, g, m, ours)
	}
}

// isLoading reports whether superseded generations are still being read back.
func (s *suite) isLoading() bool {
	if s.loading == nil {
		return false
	}
	select {
	case <-s.loading:
		return false
	default:
		return true
	}
}

// loadGeneration reads a generation's root from the store and verifies it as if
// it had just arrived: a disk is trusted no more than a mirror.
func (s *suite) loadGeneration(r genRecord) (*generation, error) {
	root, err := s.c.readBlob(r.Root)
	if err != nil {
		return nil, fmt.Errorf("read the Release of %s: %w", s.id, err)
	}
	var signature []byte
	if !r.Signature.IsZero() {
		if signature, err = s.c.readBlob(r.Signature); err != nil {
			return nil, fmt.Errorf("read the Release.gpg of %s: %w", s.id, err)
		}
	}
	cand, err := s.newCandidate(root, signature, validators{Modified: r.Modified})
	if err != nil {
		return nil, err
	}
	g := cand.gen
	if g.undated {
		g.Date = r.Date
	}
	g.superseded, g.pair = r.Superseded, r.Pair
	for path, st := range r.Staged {
		g.staged[path] = st
		if m, ok := g.members[path]; ok {
			m.learn(st.Ref)
		}
	}
	return g, nil
}

// stub is a generation as it is written down, its Release unread.
func stub(r genRecord) *generation {
	return &generation{Generation: r.Generation, pair: r.Pair, staged: r.Staged}
}

// loadRetained reads the superseded generations back behind the start. One whose
// root is no longer there or no longer trusted is dropped.
func (s *suite) loadRetained(records []genRecord) {
	defer close(s.loading)
	var loaded []*generation
	for _, r := range records {
		g, err := s.loadGeneration(r)
		if err != nil {
			s.log.Info("a superseded generation is dropped", "date", r.Date, "error", err)
			continue
		}
		loaded = append(loaded, g.retained())
	}
	s.addRetained(loaded)
	s.c.compose(s.id.Archive)
}

// addRetained appends generations older than those that are there already.
func (s *suite) addRetained(loaded []*generation) {
	s.writing.Lock()
	defer s.writing.Unlock()
	s.c.mu.Lock()
	all := slices.Clone(s.retained)
	for _, g := range loaded {
		if g.Root != s.current.Root && !slices.ContainsFunc(all, func(o *generation) bool { return o.Root == g.Root }) {
			all = append(all, g)
		}
	}
	s.retained = s.expire(all, s.c.cfg.Now())
	s.c.mu.Unlock()
	s.unread = nil
	s.pin()
}
