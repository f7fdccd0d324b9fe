// Package pacman says what the files of a pacman repository mean, in the words of proto: which files
// make a root, what a root vouches for, and which packages a database lists. Arch Linux, Manjaro,
// MSYS2 and many vendors publish such repositories.
//
// A repository is a directory with a database, NAME.db, and packages beside it. The database is
// root and index in one. NAME.files, which lists what is in the packages, is a root of its own in
// the same directory: the two change one after the other, and no client compares them.
//
// It is pure: a Format holds the archive's keys and nothing else. It knows no clock (the time comes
// with the question), no disk and no network. It does not decide: whether a root is newer and
// whether one mirror's word is enough are questions of the catalog.
//
// Where a rule comes from pacman, the comment names the file in the source of pacman 6.0.2, below
// lib/libalpm.
package pacman
