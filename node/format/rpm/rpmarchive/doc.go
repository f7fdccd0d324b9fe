// Package rpmarchive is an RPM repository as a value, for tests: its packages, how its publisher
// writes metadata, who signs it. Render makes its files.
//
// The packages are bytes that no rpm would install; what dnf and zypper do with real ones is tested
// with repositories that createrepo_c makes.
package rpmarchive
