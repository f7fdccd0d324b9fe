// Package lab is what the end-to-end tests and the demo share: the real apt with a
// root of its own, child processes that leave nothing behind, and loopback addresses
// on which several nodes of one machine use the same ports.
package lab
