// Package snapshotconf is what the configuration says of snapshots that are taken, and channels that are moved, by
// themselves.
package snapshotconf

import (
	_ "embed"
	"time"
)

// KeysSource is the source of the keys: node/config prints their comments.
//
//go:embed keys.go
var KeysSource string

// Settings is the section `snapshots` of the configuration.
type Settings struct {
	// Snapshots that are taken by themselves.
	//
	// One node of the cluster takes them: the first by name of those that see each other.
	Auto []Auto `yaml:"auto,omitempty"`
	// Channels that are moved by themselves.
	//
	// `aptmesh channel hold` stops that for a channel, and so does a node that is failing.
	Promote []Promote `yaml:"promote,omitempty"`
}

// Auto is a rule by which snapshots are taken.
type Auto struct {
	// What its snapshots are called, such as w{isoyear}-{isoweek}.
	//
	// {year}, {month}, {day}, {hour}, {minute}, {isoyear} and {isoweek} are those of the moment, in UTC.
	Name string `yaml:"name"`
	// When they are taken, such as "04:00 UTC", "Mon 04:00 UTC", or "1 04:00 UTC".
	//
	// That is each day, each week, or on a day of each month, up to the 28th. What was missed is made up for until
	// the next time.
	At string `yaml:"at" check:"when"`
	// The archives, or classes of archives; none means all of which hosts use a suite.
	Archives []string `yaml:"archives,flow,omitempty"`
	// Patterns of the suites, such as noble*; none means all.
	Suites []string `yaml:"suites,flow,omitempty" check:"pattern"`
	// What is held of them: metadata, used (packages that hosts use, too), or all.
	Hold string `yaml:"hold" default:"metadata" check:"metadata|used|all"`
	// How many of them are kept. Older ones are removed, unless a channel stands for them.
	Keep int `yaml:"keep" default:"8" check:"1-1000"`
	// The channel that is moved to each of them, if it is whole; "" for none.
	Into string `yaml:"into,omitempty"`
}

// Promote is a rule by which a channel is moved.
type Promote struct {
	// The channel whose snapshot is taken over, once it has stood there for `after`.
	From string `yaml:"from"`
	// The channel that is moved. One that was moved back from a snapshot is not moved to it again.
	To string `yaml:"to"`
	// How long.
	After time.Duration `yaml:"after" default:"72h"`
}
