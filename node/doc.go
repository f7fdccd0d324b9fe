// Package node makes one running node of the rooms of aptmesh: build.go says in which order they are
// made and what each is given, node.go in which order they start and stop.
//
// It is the only room that knows all others, and it adds nothing but that order. It neither parses
// flags nor handles signals: a test runs as many nodes in one process as it likes.
package node
