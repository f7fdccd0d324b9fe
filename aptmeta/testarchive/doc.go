// Package testarchive is a signed APT archive as a value, and an upstream
// server that can be told to misbehave. It is meant for tests of every room.
//
// An [Archive] is a description: suites and packages. [Archive.Publish] renders
// it into a new generation: real .debs that dpkg reads, real source packages,
// indices, pdiffs, by-hash names and signed roots, all held in memory and all a
// function of the description, the seed and the date, so that two processes
// with the same seed hold the same bytes. A [Server] serves one or more
// archives over loopback, counts what it serves, and injects faults.
//
// It is not a publisher for real use: its keys come from a fixed seed and are
// therefore public. It does not import aptmeta, so that a mistake in how
// aptmeta reads a format cannot hide behind the same mistake here; the formats
// are checked against the real apt instead (apt_test.go).
//
// Misuse (an unknown suite, a package without a version) panics with a sentence:
// there is nothing a test could do about an error.
//
// Lock order: Archive.mu guards the description and is never held while a
// request is served; what is on the server is one immutable tree behind an
// atomic pointer. Server.mu guards faults, settings and counters, and is a leaf.
package testarchive
