package proto

// Package is a file that clients install, as an index lists it. All slices are valid until the
// callback that got it returns: copy what must stay.
type Package struct {
	// File is the package's file; its Path begins at the archive's root.
	File
	// Name, Version and Arch are as written; empty where they are missing.
	Name, Version, Arch []byte
	// Universal says that it is installed on hosts of every architecture.
	Universal bool
	// Source is the name of what it was built from; empty where the index does not say it.
	Source []byte
	// Phased says that its publisher lets only a percentage of hosts install it for now, Phase: 0 is
	// none of them, because the version was withdrawn.
	Phased bool
	Phase  int
	// Needs are the packages that must be there with it, for the format's Needs to read.
	Needs []byte
	// Provides are further names by which other packages may need it, for the format's Needs to read.
	Provides []byte
	// Wishes are packages that clients install with it where they can, for the format's Needs to read.
	Wishes []byte
	// Section and Priority are what operators choose packages by; empty where the index or the format has none.
	Section, Priority []byte
	// Group keeps apart parts of an index that are for different hosts: the dependencies of a
	// package are looked up in its own Group.
	Group string
}

// Need is a dependency of a package, or one of several alternatives.
type Need struct {
	Name string
	// Arch is the architecture that it must be of, "" for that of the host.
	Arch string
	// Relation and Version say which versions will do, in the words of the format; "" for any.
	Relation, Version string
}

// PackageID names a package file whatever its version is.
type PackageID struct {
	// Name is unique within the archive: what stands before the version, with the directory.
	Name string
	Arch string
}
