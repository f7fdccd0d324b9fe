// Package schedule decides what is due of the snapshots that are taken, and the channels that are moved, by themselves. It is
// pure: it reads no clock and does nothing itself. Nodes that know the same decide the same.
package schedule

import (
	"cmp"
	"slices"
	"time"

	"github.com/aptmesh/aptmesh/node/snapshot/snapshotconf"
)

// By is who acts by a schedule, in the place of an operator's name.
const By = "schedule"

// Snapshot is a snapshot that there is.
type Snapshot struct {
	Name  string
	Taken time.Time
	// Rule is the Name of the rule that it was taken by; "" for an operator.
	Rule string
}

// Channel is a channel that there is.
type Channel struct {
	Name string
	// At is the snapshot that it leads to, "" for none; Since is since when it does.
	At    string
	Since time.Time
	// Past are the snapshots that it has been moved to directly, with the time, in any order.
	Past []Move
	// Held says that an operator has stopped schedules from moving it.
	Held bool
}

// Move is a move of a channel.
type Move struct {
	To string
	At time.Time
}

// State is what a decision depends on.
type State struct {
	Now       time.Time
	Snapshots []Snapshot
	Channels  []Channel
	// Removed are names of snapshots that were removed lately: they are not taken again.
	Removed []string
	// Failing says that the node is failing: no channel is moved.
	Failing bool
}

// Act is something to be done.
type Act struct {
	// Kind says what: Take the snapshot Name by the rule Auto, as of At; MoveTo: the channel Name to the snapshot To; or Remove the
	// snapshot Name.
	Kind Kind
	Name string
	Auto snapshotconf.Auto
	At   time.Time
	To   string
}

// Kind is a kind of act.
type Kind string

// The kinds.
const (
	Take   Kind = "take"
	MoveTo Kind = "move"
	Remove Kind = "remove"
)

// Due returns what is to be done now, in this order. Whoever has done some of it asks again.
func Due(rules snapshotconf.Settings, s State) (acts []Act) {
	for _, rule := range rules.Auto {
		when, err := snapshotconf.ParseWhen(rule.At)
		if err != nil {
			continue // the check of the configuration has refused it
		}
		at := when.Last(s.Now)
		own := s.of(rule)
		if name := rule.NameAt(at); !s.has(name) && !slices.Contains(s.Removed, name) && !(len(own) > 0 && !own[0].Taken.Before(at)) {
			acts = append(acts, Act{Kind: Take, Name: name, Auto: rule, At: recordTime(at, s.Now)})
		}
		if len(own) > 0 && rule.Into != "" {
			acts = append(acts, s.move(rule.Into, own[0].Name, own[0].Taken)...)
		}
		for _, old := range own[min(len(own), rule.Keep):] {
			if !slices.ContainsFunc(s.Channels, func(c Channel) bool { return c.At == old.Name }) {
				acts = append(acts, Act{Kind: Remove, Name: old.Name})
			}
		}
	}
	for _, rule := range rules.Promote {
		if from, ok := s.channel(rule.From); ok && from.At != "" && !s.Now.Before(from.Since.Add(rule.After)) {
			acts = append(acts, s.move(rule.To, from.At, from.Since)...)
		}
	}
	return acts
}

// recordTime is when a snapshot of a moment counts as taken. Two nodes that take it without knowing of each other shall say the
// same; and what is taken late has roots that the moment did not have yet.
func recordTime(at, now time.Time) time.Time {
	if hour := now.UTC().Truncate(time.Hour); hour.After(at) {
		return hour
	}
	return at
}

// of returns the snapshots that were taken by a rule, the newest first.
func (s *State) of(rule snapshotconf.Auto) (own []Snapshot) {
	for _, snapshot := range s.Snapshots {
		if snapshot.Rule == rule.Name {
			own = append(own, snapshot)
		}
	}
	slices.SortFunc(own, func(a, b Snapshot) int { return cmp.Or(b.Taken.Compare(a.Taken), cmp.Compare(a.Name, b.Name)) })
	return own
}

func (s *State) has(name string) bool {
	return slices.ContainsFunc(s.Snapshots, func(snapshot Snapshot) bool { return snapshot.Name == name })
}

func (s *State) channel(name string) (Channel, bool) {
	i := slices.IndexFunc(s.Channels, func(c Channel) bool { return c.Name == name })
	if i < 0 {
		return Channel{}, false
	}
	return s.Channels[i], true
}

// move moves a channel to a snapshot that became its next one at a time, once: an operator who moves it away meanwhile means that.
func (s *State) move(name, to string, since time.Time) []Act {
	c, known := s.channel(name)
	was := func(m Move) bool { return m.To == to && !m.At.Before(since) }
	if s.Failing || known && (c.Held || c.At == to || slices.ContainsFunc(c.Past, was)) {
		return nil
	}
	return []Act{{Kind: MoveTo, Name: name, To: to}}
}
