// Command matrix asks a node, or a cluster of three, for every kind of object while
// the archive's mirrors fail in every way, and writes down what hosts get to see.
//
// A cell is one fault at one moment of one object, with so many mirrors of which so
// many are bad, for a client that starts anew or resumes. Each cell has an archive,
// mirrors and packages of its own; many cells share the nodes, which run in this
// process. The bad mirrors are asked first, by their priority, so that the fault
// always strikes. The client is apt, dnf or pacman as far as a server can tell (e2e/lab).
//
// In each cell it is checked that no client ever gets a complete wrong body, that
// with a good mirror left it gets the right one within its own retries, that the
// mirrors are asked no more than the cell's bounds allow, that the object can be had
// from every node once the mirrors have healed, and that what the nodes then hold is
// right and costs upstream nothing more.
//
// go run ./e2e/matrix --format all --out docs/faults.md runs all of it.
package main
