// Package differential tests one promise: what works with apt directly works through
// aptmesh, with the same result.
//
// It is a table of odd archives that apt accepts. For each row real apt runs twice over,
// against the archive itself and through a node, and both must end alike: the same exit
// codes, the same lists, the same packages, the same bytes, the same kinds of complaint.
// Then the archive publishes a second generation, which hosts must see through the node
// soon. A row that apt itself refuses says so; then a node must not make it work.
//
// A difference fails the test. Two short lists make exceptions: `allowed` in a row is a
// difference that we want, with the reason; `pending` holds faults of today, and a row in
// it that works again fails the test, so that the list only gets shorter.
//
// The golden archives of rpm and pacman (rpmarchive.Golden, testrepo.Golden) are compared in the same way, with dnf,
// zypper and pacman, and with all that these may ask for by HTTP: every file in each spelling, parts of it, and names that
// are not there (TestGoldenArchives; -rows 'pacman Arch').
//
// A new report becomes a row: describe the archive (aptmeta/testarchive does the tidy
// part, the row's functions spoil it), see that apt accepts it directly, and run
//
//	go test ./e2e/differential -rows 'name of the row' -full -v
//
// Flags of the test:
//
//	-rows P    only the rows whose names match
//	-full      every row in every mode; without it every row runs mapped on one node, and a
//	           few rows as proxy and on a cluster of three
//	-control   a plain forwarder in the place of aptmesh, which proves that the rows and the
//	           comparison are sound: with it nothing may differ
//
// APTMESH_BINARY=P tests the binary at that path instead of building one.
package differential
