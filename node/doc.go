// Package node joins the rooms of aptmesh into one running node: it reads the
// configuration, builds the store, the upstream client, the fetcher, the catalog
// and the door, starts them, answers the admin interface, and stops them again.
//
// It is the only room that knows all others, and holds no logic of theirs: what
// it adds is the order in which things start and stop, and the words in which an
// operator is told about them. It neither parses flags nor handles signals: a
// test runs as many nodes in one process as it likes.
package node
