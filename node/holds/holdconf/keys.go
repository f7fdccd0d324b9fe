// Package holdconf is what the configuration says of mirrors, and of how much may be held: the keys of the sections,
// their defaults and documentation, and what is wrong with them. What a node does with them is said in node/holds,
// which tools that only read a configuration need not import.
package holdconf

import (
	_ "embed"
	"time"

	"github.com/aptmesh/aptmesh/node/blobstore"
)

//go:embed keys.go
var SettingsSource string // node/config prints the comments of the keys

// Settings is the section `snapshots`.
type Settings struct {
	// How much of the cache mirrors and snapshots may hold: a size, or a share of cache.max_size.
	//
	// What would not fit is refused, with the numbers; nothing that is held is ever evicted.
	MaxPinned blobstore.Limit `yaml:"max_pinned" default:"60%"`
}

// Mirrors are the mirrors of a configuration, in the order of the file.
type Mirrors []Mirror

// Mirror is a standing hold on suites of one archive.
type Mirror struct {
	// Name is the key in the file.
	Name string `yaml:"-" entry:"name"`
	// The archive, by its name in `archives`.
	Archive string `yaml:"archive"`
	// The suites, named as in sources.list; see `suites` of archives.
	Suites []string `yaml:"suites,flow" check:"suite"`
	// Components of the suites; none: all.
	Components []string `yaml:"components,flow,omitempty"`
	// Architectures of the hosts, and source for source packages; none: all without sources.
	Architectures []string `yaml:"architectures,flow,omitempty"`
	// Holds only packages that fit one of the patterns; without any, all packages are held.
	//
	// A filter changes no index: hosts see all of the archive, and what is not held is fetched when they ask for
	// it.
	Only Only `yaml:"only,omitempty"`
	// Holds no package that fits one of the patterns.
	Exclude Match `yaml:"exclude,omitempty"`
	// true holds the files of installers as well (installer-amd64 and udebs).
	Installer bool `yaml:"installer,omitempty"`
	// How many generations of the suites are held: the newest whole ones.
	Generations int `yaml:"generations" default:"1" check:"1-1000"`
	// How many nodes of the cluster hold each package; 0: every node.
	//
	// Indexes are held by every node.
	Copies int `yaml:"copies" default:"2" check:"0-100"`
	// When files may be fetched, in UTC, as 01:00-05:00; "" is always.
	//
	// `aptmesh mirror run` waits for no window.
	Window string `yaml:"window,omitempty" check:"window"`
	// The most bytes per second that a node fetches for the mirror; 0: no bound but upstream_client's.
	Rate int64 `yaml:"rate"`
	// How often upstream is asked for new generations; 0: as often as the archive says.
	CheckEvery time.Duration `yaml:"check_every,omitempty"`
	// false has it follow no new generation by itself: only `aptmesh mirror run` does.
	Follow bool `yaml:"follow" default:"true"`
}

// Match is patterns of packages, with * and ? as in the shell.
type Match struct {
	// Names of packages.
	Package []string `yaml:"package,flow,omitempty" check:"pattern"`
	// Names of source packages.
	Source []string `yaml:"source,flow,omitempty" check:"pattern"`
	// Sections, such as net or */games.
	Section []string `yaml:"section,flow,omitempty" check:"pattern"`
	// Priorities: required, important, standard, optional, extra.
	Priority []string `yaml:"priority,flow,omitempty" check:"pattern"`
}

// Only is which packages are held, and whether with what they need.
type Only struct {
	Match `yaml:",inline"`
	// true adds the packages that these depend on, over all suites of the mirror together.
	Closure bool `yaml:"closure,omitempty"`
	// true adds the packages that these recommend, too.
	Recommends bool `yaml:"recommends,omitempty"`
}
