package snapshot

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/aptmesh/aptmesh/node/snapshot/names"
	"github.com/aptmesh/aptmesh/proto"
)

// Frozen answers for one archive as it was: see catalog.Frozen.
type Frozen interface {
	Resolve(proto.Location) (proto.Resolution, bool)
	Discover(context.Context, proto.Location) (proto.Resolution, error)
	// Listings are the suites with the indexes that their roots list.
	Listings() []proto.Listing
	// Dates are those of the generations that list a file.
	Dates(proto.Location) []time.Time
	// Current reports whether it was verified with the configuration that is in force.
	Current() bool
	Close()
}

// Catalog is what the node believes now.
type Catalog interface {
	// Capture returns the suites of an archive at one moment; none where the archive is not configured
	// or nothing of it is known.
	Capture(archive string) []proto.Captured
	// Held returns the generations that are held of an archive's suites, current or retained: of each suite the newest first.
	Held(archive string) []proto.Captured
	// Roots are the same with their roots, and without what these list.
	Roots(archive string) []proto.Listing
	Freeze(ctx context.Context, archive string, at time.Time, suites []proto.Captured) (Frozen, []proto.Missing, error)
	Resolve(proto.Location) (proto.Resolution, bool)
	Discover(ctx context.Context, loc proto.Location, fresh bool) (proto.Resolution, error)
	// RootOf names the suite whose root a location is a file of, and SuiteOf the suite that it lies in, if one is known.
	RootOf(proto.Location) (proto.Suite, bool)
	SuiteOf(proto.Location) (proto.Suite, bool)
}

// Store keeps blobs from being evicted.
type Store interface {
	Pin(owner string, digests []proto.Digest)
	Has(proto.Digest) bool
}

// Holds keeps packages of snapshots stored. Its methods are safe for concurrent use, and but for Indexes do not wait.
type Holds interface {
	// KeepSnapshot has what a level says of captured suites held from now on. Again, it changes nothing.
	KeepSnapshot(record, level string, taken time.Time, suites []proto.Captured)
	// LetSnapshotGo ends that.
	LetSnapshotGo(record string)
	// Indexes are the indexes of a captured suite that are held for any reason.
	Indexes(ctx context.Context, taken time.Time, suite proto.Captured) ([]proto.Captive, error)
	// SnapshotHeld fails if not all is held yet that is to be held on this node.
	SnapshotHeld(record string) error
}

// State keeps small files under names, durably.
type State interface {
	WriteFile(name string, data []byte) error
	ReadFile(name string) ([]byte, error)
	RemoveFile(name string) error
	ListFiles(prefix string) ([]string, error)
}

// Config is what a Keeper needs.
type Config struct {
	// Node is this node's name.
	Node    string
	Catalog Catalog
	Store   Store
	State   State
	// Holds may be nil where no Plan has a Hold.
	Holds Holds
	// Cluster is nil where the node stands alone.
	Cluster Cluster
	// Schedule is zero where nothing is done by itself.
	Schedule Schedule
	Logger   *slog.Logger
	Now      func() time.Time
}

// Where names and records lie among the state files.
const (
	namesFile   = "snapshots/names"
	damagedFile = "snapshots/names.damaged"
	recordDir   = "snapshots/records/"
)

// Keeper is the snapshots and channels of this node. Safe for concurrent use.
type Keeper struct {
	cfg   Config
	table atomic.Pointer[table]

	acting  sync.Mutex // one change of the names at a time
	orphans []orphan   // names given up, guarded by acting
	off     bool       // it was off for long, and has met nobody since; guarded by acting
	met     time.Time  // when something was, as written down; guarded by acting

	opening sync.Mutex // guards what follows
	opened  map[openKey]*opened
	moments map[momentKey]moment
	meeting map[string]bool   // nodes that names are being exchanged with
	failed  map[string]string // why, by what schedules could not do
	later   *time.Timer       // records are asked for again then; nil: they are not

	moved  *prometheus.CounterVec
	uses   atomic.Int64    // counts up with each use
	ctx    context.Context // ends what is being opened
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// table is all names at one moment. It is never changed.
type table struct {
	names   *names.Map
	data    []byte             // of names
	sum     uint64             // of data
	records map[string]*Record // by digest
	needed  map[string]bool    // by digest: the records that are kept
	orphans []orphan
}

// written is the file of the names.
type written struct {
	Names *names.Map `json:"names"`
	// Met is when other nodes were last heard of.
	Met time.Time `json:"met,omitzero"`
	// Orphans are names that this node has given up.
	Orphans []orphan `json:"orphans,omitempty"`
}

// openKey is an archive of a record.
type openKey struct{ digest, archive string }

// opened is an archive of a snapshot that is being served.
type opened struct {
	ready  chan struct{}
	frozen Frozen // valid after ready, if err is nil
	err    error
	used   atomic.Int64
}

// maxOpen is how many archives of snapshots are open at one time: each takes the memory of its parsed roots.
const maxOpen = 16

// New reads the names and records back, and pins what they need.
func New(cfg Config) (*Keeper, error) {
	k := &Keeper{cfg: cfg, opened: make(map[openKey]*opened), moments: make(map[momentKey]moment), meeting: make(map[string]bool), moved: newMoved()}
	k.ctx, k.cancel = context.WithCancel(context.Background())
	w, damaged, err := k.readNames()
	if err != nil {
		return nil, err
	}
	k.orphans = w.Orphans
	t := &table{names: w.Names, records: make(map[string]*Record), needed: neededBy(w.Names, w.Orphans, cfg.Now()), orphans: w.Orphans}
	if t.data, t.sum, err = sumOf(t.names); err != nil {
		return nil, err
	}
	k.met = w.Met // zero for a new node: it counts as one that was off
	k.off = cfg.Now().Sub(w.Met) > awayFor
	for digest := range t.needed {
		r, err := k.readRecord(digest)
		if err != nil {
			cfg.Logger.Error("a snapshot cannot be served: its record cannot be read", "snapshot", t.nameOf(digest), "record", digest[:min(12, len(digest))], "error", err)
			continue
		}
		t.records[digest] = r
		k.pin(digest, r)
	}
	for _, n := range t.names.List(names.Channel) {
		k.moved.WithLabelValues(n.Name) // the series is there before the first move
	}
	k.table.Store(t)
	if damaged {
		if err := k.recover(); err != nil {
			return nil, err
		}
	}
	k.removeRecords(k.table.Load())
	k.removeKept(k.table.Load())
	if cfg.Cluster != nil {
		k.wg.Go(k.meetNowAndThen)
	}
	k.wg.Go(k.tendNowAndThen)
	return k, nil
}

// readNames reads the file of the names. A damaged one is set aside: what else the node serves does not depend on it.
func (k *Keeper) readNames() (w written, damaged bool, err error) {
	w.Names = &names.Map{}
	data, err := k.cfg.State.ReadFile(namesFile)
	if errors.Is(err, fs.ErrNotExist) {
		return w, false, nil
	}
	if err != nil {
		return w, false, fmt.Errorf("read the names of snapshots: %w", err)
	}
	var read written
	if broken := json.Unmarshal(data, &read); broken != nil || read.Names == nil {
		if err := k.cfg.State.WriteFile(damagedFile, data); err != nil {
			return w, false, fmt.Errorf("set the damaged names of snapshots aside: %w", err)
		}
		k.cfg.Logger.Error("the names of snapshots and channels on the disk are damaged and set aside. Other nodes of the cluster know them; "+
			"a node that stands alone calls its snapshots recovered-… and has no channel", "file", damagedFile, "error", broken)
		return w, true, nil
	}
	return read, false, nil
}

// recover gives names to the records of a node that stands alone and has lost its names.
func (k *Keeper) recover() error {
	k.acting.Lock()
	defer k.acting.Unlock()
	next, found := k.table.Load().names.Clone(), make(map[string]*Record)
	files, err := k.cfg.State.ListFiles(recordDir)
	if err != nil {
		return err
	}
	for _, file := range files {
		digest := strings.TrimPrefix(file, recordDir)
		r, err := k.readRecord(digest)
		if err != nil || k.cfg.Cluster != nil {
			continue
		}
		if _, err := next.Set(names.Key{Kind: names.Snapshot, Name: "recovered-" + digest[:8]}, names.Act{Target: digest, Node: k.cfg.Node}, k.cfg.Now()); err != nil {
			return err
		}
		found[digest] = r
	}
	return k.commit(next, found)
}

func (k *Keeper) readRecord(digest string) (*Record, error) {
	data, err := k.cfg.State.ReadFile(recordDir + digest)
	if err != nil {
		return nil, err
	}
	if proto.DigestOf(data).String() != digest {
		return nil, errors.New("its text has been changed")
	}
	return decode(data)
}

// removeRecords removes records that nothing stands for: their grace has ended, or an act was not carried to its end.
func (k *Keeper) removeRecords(t *table) {
	files, err := k.cfg.State.ListFiles(recordDir)
	if err != nil {
		return
	}
	for _, file := range files {
		digest := strings.TrimPrefix(file, recordDir)
		if !t.needed[digest] {
			if err := cmp.Or(k.cfg.State.RemoveFile(keptDir+digest), k.cfg.State.RemoveFile(file)); err != nil {
				k.cfg.Logger.Warn("the record of a snapshot that is no more cannot be removed", "file", file, "error", err)
			}
		}
	}
}

func pinOwner(digest string) string { return "snapshot " + digest }

func (k *Keeper) pin(digest string, r *Record) {
	var digests []proto.Digest
	for _, ref := range r.Blobs() {
		digests = append(digests, ref.Digest)
	}
	k.cfg.Store.Pin(pinOwner(digest), digests)
	k.cfg.Store.Pin(keptOwner(digest), k.readKept(digest))
	if r.Hold != "" && k.cfg.Holds != nil {
		var suites []proto.Captured
		for _, a := range r.Archives {
			suites = append(suites, a.Suites...)
		}
		k.cfg.Holds.KeepSnapshot(digest, r.Hold, r.Taken, suites)
	}
}

// Close ends the serving of snapshots.
func (k *Keeper) Close() error {
	k.opening.Lock()
	k.cancel() // from here on, nobody begins to open one
	if k.later != nil {
		k.later.Stop()
	}
	k.opening.Unlock()
	k.wg.Wait()
	k.opening.Lock()
	defer k.opening.Unlock()
	for key := range k.opened {
		k.drop(key)
	}
	return nil
}

// Plan is what to capture.
type Plan struct {
	// Archives to capture, by name.
	Archives []string
	// Suites are patterns (path.Match) of the directories to capture, or of the last part of them; none means all.
	Suites []string
	// At is the moment to capture, as far as the node holds what was current then; zero for now.
	At   time.Time
	Note string
	// Expires is after how long it is removed, unless a channel stands for it then; 0 for never.
	Expires time.Duration
	// Hold is the level at which packages are held; "" for none.
	Hold string
	// By is the operator.
	By string
	// Taken is what the snapshot counts as taken at; zero for now. Rule is the name of the rule that it is taken by.
	Taken time.Time
	Rule  string
}

// Snapshot is a snapshot as operators see it.
type Snapshot struct {
	Name string
	// Digest is that of its record.
	Digest string
	// By, Node and At say who gave the name, where and when.
	By, Node string
	At       time.Time
	// Record is nil where it is lost.
	Record *Record
	// Bytes is what it keeps stored.
	Bytes int64
	// Unreached are nodes that could not be told of a new snapshot; they hear of it when they answer.
	Unreached []string
}

// ErrExists is that a name is taken, ErrUnknown that it is not, ErrInUse that a channel stands for it.
var (
	ErrExists  = errors.New("is there already")
	ErrUnknown = errors.New("there is no such name here")
	ErrInUse   = errors.New("is in use")
)

// Create captures archives as they are at this moment under a name. What belongs to the snapshot and
// is not stored yet is fetched; what cannot be had is returned as missing, and the snapshot is there
// nevertheless. It fails with ErrExists, or where there is nothing to capture, or a disk fails.
func (k *Keeper) Create(ctx context.Context, name string, plan Plan) (*Snapshot, []proto.Missing, error) {
	k.MeetAll(ctx) // another node may have given the name
	if err := k.free(name); err != nil {
		return nil, nil, err
	}
	r, err := k.capture(ctx, plan)
	if err != nil {
		return nil, nil, err
	}
	data, sum, err := r.encode()
	if err != nil {
		return nil, nil, err
	}
	digest := sum.String()
	// First what the name will need, then the name: a crash leaves what nobody refers to.
	k.pin(digest, r)
	missing, err := k.fetch(ctx, digest, r)
	var act names.Act
	if err == nil {
		act, err = k.name(name, digest, plan.By, data, r)
	}
	if err != nil {
		k.letGo(digest)
		return nil, nil, fmt.Errorf("create the snapshot %s: %w", name, err)
	}
	k.cfg.Logger.Info("a snapshot was taken", "snapshot", name, "by", plan.By, "record", digest[:12], "missing", len(missing))
	s := snapshotOf(names.Named{Key: names.Key{Kind: names.Snapshot, Name: name}, Act: act}, r)
	s.Unreached = k.MeetAll(ctx)
	return &s, missing, nil
}

// free reports whether a name can be given.
func (k *Keeper) free(name string) error {
	if err := names.CheckName(name); err != nil {
		return err
	}
	for _, kind := range []names.Kind{names.Snapshot, names.Channel} {
		if _, taken := k.table.Load().names.Get(names.Key{Kind: kind, Name: name}); taken {
			return fmt.Errorf("a %s %q %w", kind, name, ErrExists)
		}
	}
	return nil
}

// name gives a name to a record.
func (k *Keeper) name(name, digest, by string, data []byte, r *Record) (names.Act, error) {
	k.acting.Lock()
	defer k.acting.Unlock()
	if err := k.free(name); err != nil {
		return names.Act{}, err
	}
	if err := k.cfg.State.WriteFile(recordDir+digest, data); err != nil {
		return names.Act{}, err
	}
	next := k.table.Load().names.Clone()
	act, err := next.Set(names.Key{Kind: names.Snapshot, Name: name}, names.Act{Target: digest, Node: k.cfg.Node, By: by}, k.cfg.Now())
	if err != nil {
		return names.Act{}, err
	}
	return act, k.commit(next, map[string]*Record{digest: r})
}

// letGo ends the pins of a record that no name stands for.
func (k *Keeper) letGo(digest string) {
	if k.table.Load().records[digest] == nil {
		k.cfg.Store.Pin(pinOwner(digest), nil)
		if k.cfg.Holds != nil {
			k.cfg.Holds.LetSnapshotGo(digest)
		}
		k.cfg.Store.Pin(keptOwner(digest), nil)
		k.closeRecord(digest)
	}
}

// Capture is the record that Create would name.
func (k *Keeper) Capture(ctx context.Context, plan Plan) (*Record, error) {
	return k.capture(ctx, plan)
}

// capture makes a record of archives as they are now.
func (k *Keeper) capture(ctx context.Context, plan Plan) (*Record, error) {
	r := &Record{Taken: k.cfg.Now().UTC().Truncate(time.Second), Note: plan.Note, Hold: plan.Hold, Rule: plan.Rule}
	if !plan.Taken.IsZero() {
		r.Taken = plan.Taken.UTC().Truncate(time.Second)
	}
	if plan.Expires > 0 {
		r.Expires = r.Taken.Add(max(plan.Expires.Truncate(time.Second), time.Second))
	}
	if !plan.At.IsZero() {
		r.Taken = plan.At.UTC().Truncate(time.Second)
	}
	archives := slices.Clone(plan.Archives)
	slices.Sort(archives)
	for _, archive := range slices.Compact(archives) {
		a := Archive{Name: archive}
		suites := k.cfg.Catalog.Capture(archive)
		if !plan.At.IsZero() {
			var err error
			if suites, err = k.captureAt(r, archive, plan); err != nil {
				return nil, err
			}
		}
		for _, s := range suites {
			if Wanted(plan.Suites, s.Suite) {
				k.addHeld(ctx, r.Taken, &s)
				a.Suites = append(a.Suites, s)
			}
		}
		if len(a.Suites) == 0 {
			return nil, fmt.Errorf("the archive %s has no suite here to capture: hosts have asked for none, or the patterns fit none (aptmesh status lists the suites)", archive)
		}
		r.Archives = append(r.Archives, a)
	}
	if len(r.Archives) == 0 {
		return nil, errors.New("no archive is named")
	}
	return r, nil
}

// addHeld adds the indexes that mirrors hold to those that hosts use: a mirror is there for hosts to come.
func (k *Keeper) addHeld(ctx context.Context, taken time.Time, s *proto.Captured) {
	if k.cfg.Holds == nil {
		return
	}
	held, err := k.cfg.Holds.Indexes(ctx, taken, *s)
	if err != nil {
		k.cfg.Logger.Warn("which indexes of a suite mirrors hold cannot be told; a snapshot has those that hosts use", "suite", s.Suite.String(), "error", err)
	}
	s.Indexes = slices.Concat(s.Indexes, held)
	slices.SortFunc(s.Indexes, func(a, b proto.Captive) int { return strings.Compare(a.Path, b.Path) })
	s.Indexes = slices.CompactFunc(s.Indexes, func(a, b proto.Captive) bool { return a.Path == b.Path })
}

// Wanted reports whether a suite is meant by the patterns of a Plan.
func Wanted(patterns []string, id proto.Suite) bool {
	for _, p := range patterns {
		for _, name := range []string{id.Path(), path.Base(id.Path())} {
			if ok, _ := path.Match(p, name); ok {
				return true
			}
		}
	}
	return len(patterns) == 0
}

// CheckPattern says why a pattern of suites cannot be used.
func CheckPattern(pattern string) error {
	_, err := path.Match(pattern, "")
	return err
}

// fetch brings what a record names into the store, by opening it.
func (k *Keeper) fetch(ctx context.Context, digest string, r *Record) (missing []proto.Missing, err error) {
	for _, a := range r.Archives {
		f, lacking, err := k.cfg.Catalog.Freeze(ctx, a.Name, r.Taken, a.Suites)
		if err != nil {
			return nil, err
		}
		missing = append(missing, lacking...)
		k.keepOpen(openKey{digest, a.Name}, f)
	}
	return missing, nil
}

// commit makes names those in force: on disk first. added are records that are new. The caller holds acting.
func (k *Keeper) commit(next *names.Map, added map[string]*Record) error {
	next.Forget(k.forgetsBefore())
	now := k.cfg.Now()
	k.orphans = slices.DeleteFunc(k.orphans, func(o orphan) bool { return o.over(next, now) })
	t := &table{names: next, records: make(map[string]*Record), needed: neededBy(next, k.orphans, now), orphans: slices.Clone(k.orphans)}
	var err error
	if t.data, t.sum, err = sumOf(next); err != nil {
		return err
	}
	data, err := json.Marshal(written{next, k.met, k.orphans})
	if err != nil {
		return err
	}
	if err := k.cfg.State.WriteFile(namesFile, data); err != nil {
		return err
	}
	old := k.table.Load()
	for _, n := range next.List(names.Channel) {
		if was, _ := old.names.Get(n.Key); !same(was, n.Act) {
			k.moved.WithLabelValues(n.Name).Inc()
		}
	}
	for _, n := range old.names.List(names.Channel) {
		if _, stays := next.Get(n.Key); !stays {
			k.moved.DeleteLabelValues(n.Name)
		}
	}
	for digest := range t.needed {
		if r := cmp.Or(added[digest], old.records[digest]); r != nil {
			t.records[digest] = r
		}
	}
	k.table.Store(t)
	for digest, r := range added {
		k.pin(digest, r)
	}
	for digest := range old.records {
		if t.records[digest] == nil {
			k.letGo(digest)
		}
	}
	k.removeRecords(t)
	return nil
}

// Remove takes a snapshot away. What only it kept may be evicted after graceFor; until then Restore brings it back. It fails with ErrUnknown, and with
// ErrInUse while a channel stands for it, or while other snapshots share its name.
func (k *Keeper) Remove(ctx context.Context, name, by string) (unreached []string, err error) {
	k.MeetAll(ctx)
	if err := k.remove(name); err != nil {
		return nil, err
	}
	k.cfg.Logger.Info("a snapshot was removed", "snapshot", name, "by", by)
	return k.MeetAll(ctx), nil
}

func (k *Keeper) remove(name string) error {
	k.acting.Lock()
	defer k.acting.Unlock()
	t := k.table.Load()
	key := names.Key{Kind: names.Snapshot, Name: name}
	if _, ok := t.names.Get(key); !ok {
		return fmt.Errorf("snapshot %q: %w", name, ErrUnknown)
	}
	for _, c := range t.names.List(names.Channel) {
		if c.Target == name {
			return fmt.Errorf("the snapshot %s %w: the channel %s stands for it; move or remove that first", name, ErrInUse, c.Name)
		}
	}
	for _, n := range t.names.List(names.Snapshot) {
		if strings.HasPrefix(n.Name, name+"~") {
			return fmt.Errorf("the name %s %w by two snapshots, and without this one it would stand for %s: remove that first", name, ErrInUse, n.Name)
		}
	}
	next := t.names.Clone()
	next.Remove(key, k.cfg.Node, k.cfg.Now())
	if err := k.commit(next, nil); err != nil {
		return fmt.Errorf("remove the snapshot %s: %w", name, err)
	}
	return nil
}

// closeRecord closes what is open of a record.
func (k *Keeper) closeRecord(digest string) {
	k.opening.Lock()
	defer k.opening.Unlock()
	for key := range k.opened {
		if key.digest == digest {
			k.drop(key)
		}
	}
}

// List returns the snapshots by name.
func (k *Keeper) List() []Snapshot {
	t := k.table.Load()
	var all []Snapshot
	for _, n := range t.names.List(names.Snapshot) {
		all = append(all, snapshotOf(n, t.records[n.Target]))
	}
	return all
}

func snapshotOf(n names.Named, r *Record) Snapshot {
	s := Snapshot{Name: n.Name, Digest: n.Target, By: n.By, Node: n.Node, At: n.At(), Record: r}
	if r != nil {
		for _, ref := range r.Blobs() {
			s.Bytes += max(ref.Size, 0)
		}
	}
	return s
}
