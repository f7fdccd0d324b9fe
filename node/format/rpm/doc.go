// Package rpm says what the files of an RPM repository mean, in the words of proto: which are its
// root, what the root lists, what lists a package, and how versions compare. It implements the
// Format of node/catalog, node/front and node/prefetch.
//
// A suite is a directory with repodata/repomd.xml below it. The client's own rules are those of
// librepo (dnf), libzypp (zypper) and rpm.
//
// It is pure: no clock, no I/O. It decides neither what to believe nor what to fetch.
package rpm
