// Package node joins the rooms of aptmesh into one running node: from a configuration
// it builds the store, the upstream client, the fetcher, the catalog, the frontend and
// the cluster, starts them, and stops them again.
//
// It is the only room that knows all others. What it adds is the order in which things
// start and stop, what one room must know of another (whom an archive is restricted to,
// whose requests come back as loops), and the words in which an operator is told about
// all of them together (status, why). It neither parses flags nor handles signals: a
// test runs as many nodes in one process as it likes.
package node
