// Package archives puts the archives of a configuration in force: it says what they are to each room
// (mirrors and credentials for upstream, keys for the catalog, URLs and networks for the frontend),
// and tells all rooms together when one is added, changed or removed. Besides a reload, three things
// change archives while a node runs: a list of mirrors, a keyring in a directory, and a client that
// asks for an archive of a class that is not there yet.
//
// It starts no room and fetches nothing. It does not know what an archive holds.
//
// Table is what is in force; whoever serves a request asks it and waits for nobody. Archives replaces
// it, under one lock, which no room takes.
package archives
