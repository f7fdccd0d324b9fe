package proto

import "strings"

// Location is where upstream keeps an object: the configured name of an archive
// and the path below that archive's root. The path is canonical: percent
// decoded, without a leading slash, without empty, "." or ".." segments. Two
// spellings of one URL are one Location.
type Location struct {
	Archive string `json:"archive"`
	Path    string `json:"path"`
}

func (l Location) String() string { return l.Archive + "/" + l.Path }

// Suite is a directory of an archive that holds a Release: "dists/noble",
// "dists/jessie/updates", or for a flat repository any directory, "" being the
// archive's root.
type Suite struct {
	Archive string `json:"archive"`
	Dir     string `json:"dir"`
}

func (s Suite) String() string { return s.Archive + "/" + s.Dir }

// At returns the location of a file given relative to the suite's directory.
func (s Suite) At(name string) Location {
	if s.Dir == "" {
		return Location{s.Archive, name}
	}
	return Location{s.Archive, s.Dir + "/" + name}
}

// Base returns the directory that pool paths of this suite are relative to: what
// stands before "dists/". A flat repository has no such mark; there Base is the
// suite's own directory.
func (s Suite) Base() string {
	if s.Dir == "dists" || strings.HasPrefix(s.Dir, "dists/") {
		return ""
	}
	if i := strings.Index(s.Dir, "/dists/"); i >= 0 {
		return s.Dir[:i]
	}
	return s.Dir
}

// Flat reports whether the suite is a flat repository.
func (s Suite) Flat() bool {
	return s.Dir != "dists" && !strings.HasPrefix(s.Dir, "dists/") && !strings.Contains(s.Dir, "/dists/")
}
