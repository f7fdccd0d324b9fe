package proto

import "time"

// HostArchive is an archive as hosts use it under the name of a snapshot or a channel, or as it is now.
type HostArchive struct {
	Name   string `json:"name"`
	Format string `json:"format"`
	// URLs are those by which hosts know it, without what is secret; "*" in a host stands for any labels.
	URLs []string `json:"urls,omitempty"`
	// SignedBy are the files of its keys on the node, if hosts have files of these names, too.
	SignedBy []string `json:"signed_by,omitempty"`
	// Keys are its keys as an armoured block; "" where there are none.
	Keys string `json:"keys,omitempty"`
	// Suites are in the order of their directories.
	Suites []HostSuite `json:"suites"`
}

// HostSuite is a suite of a HostArchive.
type HostSuite struct {
	Dir  string `json:"dir"`
	Name string `json:"name,omitempty"` // as Suite.Name
	// Indexes are the paths, below Dir, of the indexes that hosts use, as far as the node knows.
	Indexes []string `json:"indexes,omitempty"`
	Origin  string   `json:"origin,omitempty"`
	Label   string   `json:"label,omitempty"`
	// ValidUntil is when clients begin to refuse it for its age; zero for never.
	ValidUntil time.Time `json:"valid_until,omitzero"`
	// Live says that it moves on with the archive.
	Live bool `json:"live,omitempty"`
	// Unsigned says that no signature vouches for it.
	Unsigned bool `json:"unsigned,omitempty"`
}
