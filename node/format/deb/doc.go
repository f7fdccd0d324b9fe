// Package deb says what the files of a Debian archive mean, in the words of proto: which files make
// a root, what a root vouches for, which index lists a package, and what an index lists. It joins
// the readers of aptmeta to the rooms that need to know; those rooms ask it through interfaces of
// their own.
//
// It is pure: a Format holds the archive's keys and nothing else. It knows no clock (the time comes
// with the question), no disk, no network and no other suite of the archive. It does not decide:
// whether a root is newer, whether one mirror's word is enough, and what is worth reading are
// questions of the catalog.
//
// Where a rule comes from apt, the comment names the file in apt's source.
package deb
