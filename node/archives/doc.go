// Package archives puts the archives of a configuration in force. It gives each room its part of
// them: mirrors and credentials to upstream, keys to the catalog, URLs and networks to the frontend.
// It informs all rooms together when an archive is added, changed or removed. Besides a reload, three
// things change archives while a node runs: a mirror list, a keyring in a directory, and a client
// that asks for a new archive of a class.
//
// It starts no room and fetches nothing. It does not know what is in an archive.
//
// Table is what is in force; requests read it without waiting. Archives replaces it, under one lock,
// which no room takes.
package archives
