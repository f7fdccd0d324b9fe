// Package e2e drives the built binary as its users do: real apt in isolated
// roots, plain HTTP clients, signals, and the admin interface, against archives
// made by testarchive and, where the machine has one configured, a real mirror.
//
// It holds tests only, and knows of the product what a user knows: its command
// line, its configuration file and what it answers. Benchmarks are in e2e/bench, the
// demo in e2e/demo, odd archives that apt accepts in e2e/differential; e2e/lab is what
// they share, e2e/archive an archive for containers.
//
// Clusters run as processes on loopback addresses, and in the containers of
// deploy/compose.yaml where this machine has Docker and Compose.
//
// From the environment:
//
//	APTMESH_BINARY=P   test the binary at that path instead of building one
//	APTMESH_RACE=1     build the binary with the race detector
//	APTMESH_CLIENTS=R  drive apt, dnf, zypper and pacman of Debian's release R, such as sid; they are
//	                   unpacked below the user's cache directory, and kept there
//	APTMESH_LIVE=0     skip the tests against the real mirror, as -short does
//	APTMESH_SEED=N     the seed of the kill -9 loop
package e2e
