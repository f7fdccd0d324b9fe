package snapshot

import (
	"slices"
	"strings"
	"time"

	"github.com/aptmesh/aptmesh/node/snapshot/names"
	"github.com/aptmesh/aptmesh/proto"
)

// meaning is what a name leads to.
type meaning struct {
	// digest is that of a record, or names.Live; snapshot is its name, or names.Live.
	digest, snapshot string
	// record is that of digest where no name stands for it: that of a moment.
	record *Record
	// moved is when the last of the channels on the way was moved; zero where there is none.
	moved time.Time
	// live are patterns of suites that the channels on the way serve as they are now.
	live []string
}

// maxHops bounds how many channels may lead to a snapshot.
const maxHops = 8

// follow returns what a name leads to; false where it leads nowhere.
func follow(m *names.Map, name string) (at meaning, ok bool) { return trace(m, name, maxHops) }

// lead is follow for what is served: a channel goes on leading to a snapshot that was removed, as far as its record is there.
// That happens where one node removes a snapshot and another one moves a channel to it, and neither has heard of the other.
func lead(m *names.Map, name string) (at meaning, ok bool) { return trace(m, name, 1) }

// trace goes from channel to channel. After so many of them, a snapshot that was removed counts, too.
func trace(m *names.Map, name string, removedAfter int) (at meaning, ok bool) {
	for hop := range maxHops {
		if name == names.Live {
			at.digest, at.snapshot = names.Live, names.Live
			return at, true
		}
		if act, ok := m.Get(names.Key{Kind: names.Snapshot, Name: name}); ok {
			at.digest, at.snapshot = act.Target, name
			return at, true
		}
		act, ok := m.Get(names.Key{Kind: names.Channel, Name: name})
		if !ok {
			if hop < removedAfter {
				return meaning{}, false
			}
			at.digest, at.snapshot = m.LastRemoved(name), name
			return at, at.digest != ""
		}
		if t := act.At(); t.After(at.moved) {
			at.moved = t
		}
		if act.Live != "" {
			at.live = append(at.live, strings.Fields(act.Live)...)
		}
		name = act.Target
	}
	return meaning{}, false
}

// pastFor is for how long a channel answers for packages of where it was before. Hosts that updated before it was
// moved install after it.
const pastFor = 24 * time.Hour

// maxPast is how many places a channel was at are looked into.
const maxPast = 3

// past returns what a name led to lately, the latest first, without what it leads to now.
func past(m *names.Map, name string, now time.Time) (all []meaning) {
	current, ok := lead(m, name)
	for range maxHops {
		act, channel := m.Get(names.Key{Kind: names.Channel, Name: name})
		if !ok || !channel {
			break
		}
		left := act.At() // when the channel left the place that comes next
		for _, was := range m.Past(name) {
			at, known := trace(m, was.Target, 0)
			if known && now.Sub(left) < pastFor && len(all) < maxPast && at.digest != current.digest &&
				!slices.ContainsFunc(all, func(other meaning) bool { return other.digest == at.digest }) {
				all = append(all, meaning{digest: at.digest, snapshot: at.snapshot, moved: current.moved})
			}
			left = was.At()
		}
		name = act.Target
	}
	return all
}

// isLive reports whether a location lies in a suite that hosts of a channel get as it is now. Where several suites share
// a directory, only their roots do: the rest is of none of them.
func (k *Keeper) isLive(at *meaning, r *Record, loc proto.Location) bool {
	if len(at.live) == 0 {
		return false
	}
	if id, root := k.cfg.Catalog.RootOf(loc); root {
		return Wanted(at.live, id)
	}
	deepest, found := k.cfg.Catalog.SuiteOf(loc)
	for _, s := range r.archive(loc.Archive).Suites {
		if (!found || len(s.Suite.Dir) > len(deepest.Dir)) && strings.HasPrefix(loc.Path, s.Suite.Dir+"/") {
			deepest, found = s.Suite, true
		}
	}
	return found && deepest.Name == "" && Wanted(at.live, deepest)
}
