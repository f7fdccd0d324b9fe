package proto

import "time"

// Switch is a generation that this node has just adopted.
type Switch struct {
	Suite Suite
	Date  time.Time
	// Indexes are those that list packages and are staged with the generation, one compression of
	// each; none if there was no generation before it.
	Indexes []PackageIndex
	// New reports whether a path below the archive's root is listed by this generation and was not,
	// or not with the same content, by the one before it. nil if there was no generation before.
	// Safe for concurrent use.
	New func(path string) bool
}

// PackageIndex is an index that lists packages.
type PackageIndex struct {
	Member *Member
	Object ObjectRequest
}
