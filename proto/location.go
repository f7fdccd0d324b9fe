package proto

// Location is where upstream keeps an object: the configured name of an archive
// and the path below that archive's root. The path is canonical: percent
// decoded, without a leading slash, without empty, "." or ".." segments. Two
// spellings of one URL are one Location.
type Location struct {
	Archive string `json:"archive"`
	Path    string `json:"path"`
}

func (l Location) String() string { return l.Archive + "/" + l.Path }

// HandedOffArchive stands in a location for the archive of a blob that is open to all, between a
// node that leaves and the one that takes it over: nobody goes upstream for it.
const HandedOffArchive = "handed-off"

// Suite is a repository below an archive that one root describes: for Debian the directory of a
// Release ("dists/noble", "dists/jessie/updates", or for a flat repository any directory, "" being
// the archive's root).
type Suite struct {
	Archive string `json:"archive"`
	Dir     string `json:"dir"`
	// Name distinguishes the roots of one directory, in formats that allow several; else "".
	Name string `json:"name,omitempty"`
}

func (s Suite) String() string { return s.Archive + "/" + s.Path() }

// Path names the suite below its archive, for people. Within one format it is unambiguous: either
// all suites have a Name, or none.
func (s Suite) Path() string {
	if s.Name == "" {
		return s.Dir
	}
	return s.At(s.Name).Path
}

// At returns the location of a file given relative to the suite's directory.
func (s Suite) At(name string) Location {
	if s.Dir == "" {
		return Location{s.Archive, name}
	}
	return Location{s.Archive, s.Dir + "/" + name}
}
