package names

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Kind is what a name is of. Names of two kinds have nothing to do with each other.
type Kind string

// The kinds.
const (
	Snapshot Kind = "snapshot"
	Channel  Kind = "channel"
)

// Key is a name of one kind.
type Key struct {
	Kind Kind
	Name string
}

// Act is one thing that an operator did: he gave a name a target.
type Act struct {
	// Version is the time of the act on the hybrid clock, in milliseconds since 1970. The acts of one
	// node have ascending versions.
	Version uint64 `json:"version"`
	// Node is where it was done, and By who did it.
	Node string `json:"node"`
	By   string `json:"by,omitempty"`
	// Target is what the name stands for.
	Target string `json:"target"`
	// Live are patterns of suites, with a space between, that a channel serves as they are now.
	Live string `json:"live,omitempty"`
	// Back says that a channel went back to where it was before.
	Back bool `json:"back,omitempty"`
	// Hold says that schedules leave a channel where it is.
	Hold bool `json:"hold,omitempty"`
	// Gone is the version of the removal of a snapshot; 0 while its act is in force.
	Gone uint64 `json:"gone,omitempty"`
}

// At is when it was done, by the hybrid clock.
func (a Act) At() time.Time { return time.UnixMilli(int64(a.Version)).UTC() }

// newerFirst orders acts in the same way on every node.
func newerFirst(a, b Act) int {
	return cmp.Or(cmp.Compare(b.Version, a.Version), cmp.Compare(b.Node, a.Node), cmp.Compare(b.Target, a.Target), cmp.Compare(b.Live, a.Live), cmp.Compare(order(b.Back), order(a.Back)), cmp.Compare(order(b.Hold), order(a.Hold)), cmp.Compare(b.Gone, a.Gone))
}

func order(b bool) int {
	if b {
		return 1
	}
	return 0
}

// Entry is what is known of one name.
type Entry struct {
	// Acts are those in force, the newest first. None: the name was taken away. Several: nodes acted
	// without knowing of each other.
	Acts []Act `json:"acts,omitempty"`
	// Past are the acts of a channel, the newest first, those in force included. Of a snapshot they are
	// those that were taken away, with Gone.
	Past []Act `json:"past,omitempty"`
	// Seen is the newest version of each node that this entry knows of. An act that is covered by it
	// and is not among Acts has been replaced.
	Seen map[string]uint64 `json:"seen"`
}

// covers reports whether the entry knows of an act.
func (e *Entry) covers(a Act) bool { return a.Version <= e.Seen[a.Node] }

// last is the newest version that the entry knows of.
func (e *Entry) last() uint64 {
	var last uint64
	for _, v := range e.Seen {
		last = max(last, v)
	}
	return last
}

func (e *Entry) clone() *Entry {
	return &Entry{Acts: slices.Clone(e.Acts), Past: slices.Clone(e.Past), Seen: maps.Clone(e.Seen)}
}

// merge returns what two nodes know of a name together.
func merge(a, b *Entry) *Entry {
	m := &Entry{Seen: maps.Clone(a.Seen)}
	if m.Seen == nil {
		m.Seen = make(map[string]uint64)
	}
	for node, v := range b.Seen {
		m.Seen[node] = max(m.Seen[node], v)
	}
	keep := func(from, other *Entry) {
		for _, act := range from.Acts {
			if !slices.Contains(m.Acts, act) && (slices.Contains(other.Acts, act) || !other.covers(act)) {
				m.Acts = append(m.Acts, act)
			}
		}
	}
	keep(a, b)
	keep(b, a)
	slices.SortFunc(m.Acts, newerFirst)
	m.Past = newest(slices.Concat(a.Past, b.Past))
	return m
}

// MostPast is how many acts of a channel are remembered.
const MostPast = 20

func newest(acts []Act) []Act {
	slices.SortFunc(acts, newerFirst)
	acts = slices.Compact(acts)
	return slices.Clip(acts[:min(len(acts), MostPast)])
}

// Map is the names that one node knows. The zero Map has none.
type Map struct {
	entries map[Key]*Entry
}

// MaxNames is how many names a Map may have, those that were taken away included.
const MaxNames = 4096

var namePattern = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`)

// CheckName says why a name cannot be given; nil if it can. It must stand in a URL and in a file's
// name, must not look like a moment (20261201T000000Z), and a ~ marks names that two operators gave.
func CheckName(name string) error {
	switch {
	case !namePattern.MatchString(name):
		return fmt.Errorf("%.70q cannot be a name here: use up to 64 small letters, digits, and . _ - with a letter or digit first", name)
	case name == Live:
		return fmt.Errorf("%q is the archive as it is now, and cannot be a name", name)
	}
	return nil
}

// Live is the target of a channel that follows the archive.
const Live = "live"

// Get returns the act that a name stands for; false for none. NAME~1234 is one of several snapshots
// that were given NAME: see List.
func (m *Map) Get(k Key) (Act, bool) {
	name, mark, marked := strings.Cut(k.Name, "~")
	e := m.entries[Key{k.Kind, name}]
	switch {
	case e == nil || len(e.Acts) == 0 || marked && k.Kind != Snapshot:
		return Act{}, false
	case !marked:
		return e.Acts[0], true
	}
	for _, act := range e.Acts[1:] {
		if markOf(act) == mark && act.Target != e.Acts[0].Target {
			return act, true
		}
	}
	return Act{}, false
}

// markOf tells a snapshot from others of its name.
func markOf(a Act) string { return fmt.Sprintf("%.4s", a.Target) }

// Named is one name in force.
type Named struct {
	Key
	Act
}

// List returns the names of a kind in ascending order. Of snapshots that nodes gave one name without
// knowing of each other, the newest has it, and the others are called NAME~ and four characters of
// their target.
func (m *Map) List(kind Kind) []Named {
	var all []Named
	for k, e := range m.entries {
		if k.Kind != kind {
			continue
		}
		for i, act := range e.Acts {
			name := k.Name
			if i > 0 {
				// Nodes that do the same by a schedule give one name the same target.
				if kind == Channel || slices.ContainsFunc(e.Acts[:i], func(newer Act) bool { return newer.Target == act.Target }) {
					continue
				}
				name += "~" + markOf(act)
			}
			all = append(all, Named{Key{kind, name}, act})
		}
	}
	slices.SortFunc(all, func(a, b Named) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

// Past returns the acts of a channel, the newest first.
func (m *Map) Past(name string) []Act {
	if e := m.entries[Key{Channel, name}]; e != nil {
		return slices.Clone(e.Past)
	}
	return nil
}

// next is the version of an act at a moment: after everything that this node has seen.
func (m *Map) next(now time.Time) uint64 {
	version := uint64(max(now.UnixMilli(), 1))
	for _, e := range m.entries {
		version = max(version, e.last()+1000)
	}
	return version
}

// Before is the act by which a channel was where it was before it came to where it is, as far as its Target and Live
// go; false where it was nowhere else. What it went back from does not count.
func (m *Map) Before(name string) (Act, bool) {
	var way []Act
	for _, act := range slices.Backward(m.Past(name)) {
		if act.Back && len(way) > 1 {
			way = way[:len(way)-1]
			continue
		}
		if n := len(way); n > 0 && way[n-1].Target == act.Target && way[n-1].Live == act.Live {
			continue // a hold moves nothing
		}
		way = append(way, act)
	}
	if len(way) < 2 {
		return Act{}, false
	}
	return way[len(way)-2], true
}

// Set has a name stand for the target of an act, which says all but its version. It replaces all that this node knows of
// the name. It fails where there are too many names.
func (m *Map) Set(k Key, act Act, now time.Time) (Act, error) {
	if err := CheckName(k.Name); err != nil {
		return Act{}, err
	}
	e, known := m.entries[k]
	if !known && len(m.entries) >= MaxNames {
		return Act{}, fmt.Errorf("there are %d names already, those removed lately included: no more than that are kept", MaxNames)
	}
	if !known {
		e = &Entry{}
	}
	act.Version = m.next(now)
	if k.Kind == Channel {
		// Clients tell moves apart by the second.
		act.Version = max(act.Version, e.last()+1000)
	}
	next := &Entry{Acts: []Act{act}, Past: e.Past, Seen: seen(e, act)}
	if k.Kind == Channel {
		next.Past = newest(append(slices.Clone(e.Past), act))
	}
	m.put(k, next)
	return act, nil
}

// Remove takes a name away, as far as this node knows of it; false where it stands for nothing.
// NAME~1234 takes away that one only.
func (m *Map) Remove(k Key, node string, now time.Time) bool {
	act, ok := m.Get(k)
	if !ok {
		return false
	}
	name, _, marked := strings.Cut(k.Name, "~")
	k.Name = name
	e := m.entries[k]
	removal := Act{Version: m.next(now), Node: node}
	next := &Entry{Past: e.Past, Seen: seen(e, removal)}
	if k.Kind == Snapshot {
		act := act
		act.Gone = removal.Version
		next.Past = newest(append(slices.Clone(e.Past), act))
	}
	for _, other := range e.Acts {
		// Without a mark, what others gave the same name stays: nobody asked for its end.
		if other.Target != act.Target {
			next.Acts = append(next.Acts, other)
		}
	}
	if !marked && k.Kind == Channel {
		next.Acts = nil
	}
	m.put(k, next)
	return true
}

// seen is what an entry knows of after one more act.
func seen(e *Entry, act Act) map[string]uint64 {
	next := maps.Clone(e.Seen)
	if next == nil {
		next = make(map[string]uint64)
	}
	next[act.Node] = max(next[act.Node], act.Version)
	return next
}

func (m *Map) put(k Key, e *Entry) {
	if m.entries == nil {
		m.entries = make(map[Key]*Entry)
	}
	m.entries[k] = e
}

// Merge takes in what another node knows, and reports which names stand for something else now.
func (m *Map) Merge(other *Map) (changed []Key) {
	for k, theirs := range other.entries {
		ours := m.entries[k]
		if ours == nil {
			if len(m.entries) >= MaxNames {
				continue
			}
			ours = &Entry{}
		}
		next := merge(ours, theirs)
		if !slices.Equal(next.Acts, ours.Acts) {
			changed = append(changed, k)
		}
		m.put(k, next)
	}
	slices.SortFunc(changed, compareKeys)
	return changed
}

func compareKeys(a, b Key) int {
	return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name))
}

// Removed returns the snapshots that were taken away since a moment and are not there under the same name again, by name, the
// latest removal first.
func (m *Map) Removed(since time.Time) []Named {
	var all []Named
	for k, e := range m.entries {
		if k.Kind != Snapshot {
			continue
		}
		for _, act := range e.Past {
			again := func(other Act) bool { return other.Target == act.Target }
			if int64(act.Gone) >= since.UnixMilli() && !slices.ContainsFunc(e.Acts, again) {
				all = append(all, Named{k, act})
			}
		}
	}
	slices.SortFunc(all, func(a, b Named) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(b.Gone, a.Gone)) })
	seen := make(map[Named]bool) // nodes may have taken it away twice
	return slices.DeleteFunc(all, func(n Named) bool {
		key := Named{n.Key, Act{Target: n.Target}}
		twice := seen[key]
		seen[key] = true
		return twice
	})
}

// LastRemoved is the target of the snapshot of a name that was taken away last, of those that are remembered; "" for none.
func (m *Map) LastRemoved(name string) (target string) {
	e := m.entries[Key{Snapshot, name}]
	if e == nil {
		return ""
	}
	var last uint64
	for _, act := range e.Past {
		if act.Gone > last {
			target, last = act.Target, act.Gone
		}
	}
	return target
}

// Forget drops what was taken away before a moment. A node that was away for longer must not merge
// its names any more (Only).
func (m *Map) Forget(before time.Time) {
	for k, e := range m.entries {
		forgotten := func(act Act) bool { return int64(act.Gone) < before.UnixMilli() }
		if k.Kind == Snapshot && slices.ContainsFunc(e.Past, forgotten) {
			e = e.clone()
			if e.Past = slices.DeleteFunc(e.Past, forgotten); len(e.Past) == 0 {
				e.Past = nil
			}
			m.entries[k] = e
		}
	}
	maps.DeleteFunc(m.entries, func(_ Key, e *Entry) bool {
		return len(e.Acts) == 0 && int64(e.last()) < before.UnixMilli()
	})
}

// Remind has removals since a moment remembered for as long as new ones. It is for a node that was away: nobody else may know of
// them yet.
func (m *Map) Remind(since time.Time, node string, now time.Time) {
	for k, e := range m.entries {
		if len(e.Acts) > 0 || int64(e.last()) < since.UnixMilli() {
			continue
		}
		next := e.clone()
		next.Seen = seen(e, Act{Version: m.next(now), Node: node})
		m.entries[k] = next
	}
}

// Only returns and drops the names in force that another node does not know at all, and that are older
// than a moment. If that is when removals began to be remembered, such a name may have been taken away, and
// nobody remembers it. It is for a node that was away for longer.
func (m *Map) Only(other *Map, before time.Time) (orphans []Named) {
	for _, kind := range []Kind{Snapshot, Channel} {
		for _, n := range m.List(kind) {
			name, _, _ := strings.Cut(n.Name, "~")
			k := Key{kind, name}
			if _, known := other.entries[k]; !known && int64(m.entries[k].last()) < before.UnixMilli() {
				orphans = append(orphans, n)
			}
		}
	}
	for _, n := range orphans {
		name, _, _ := strings.Cut(n.Name, "~")
		delete(m.entries, Key{n.Kind, name})
	}
	return orphans
}

// Clone returns a copy that shares nothing.
func (m *Map) Clone() *Map {
	c := &Map{entries: make(map[Key]*Entry, len(m.entries))}
	for k, e := range m.entries {
		c.entries[k] = e.clone()
	}
	return c
}
