package node

import (
	"github.com/aptmesh/aptmesh/node/catalog"
	"github.com/aptmesh/aptmesh/node/format/deb"
	"github.com/aptmesh/aptmesh/node/front"
	"github.com/aptmesh/aptmesh/node/prefetch"
)

// The fit of the formats is stated where the rooms are joined.
var (
	_ catalog.Format  = (*deb.Format)(nil)
	_ front.Format    = (*deb.Format)(nil)
	_ prefetch.Format = (*deb.Format)(nil)
)

// keyless is Debian's format for whoever asks about names alone: what a name tells does not depend on
// the keys of the archive.
var keyless = deb.New(deb.Config{})

// formatOf is the format of an archive, for questions about names. Every archive is one of Debian
// packages.
func formatOf(string) *deb.Format { return keyless }
