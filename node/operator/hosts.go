package operator

import (
	"context"
	"slices"

	"github.com/aptmesh/aptmesh/node/admin"
	"github.com/aptmesh/aptmesh/node/archives"
	"github.com/aptmesh/aptmesh/node/snapshot"
	"github.com/aptmesh/aptmesh/proto"
)

// HostArchives are the archives that hosts get under the name of a snapshot or channel, or as they are now.
func (o *Operator) HostArchives(ctx context.Context, want admin.HostQuery) ([]proto.HostArchive, error) {
	cfg := o.cfg.Archives.Config()
	for _, pattern := range want.Suites {
		if err := checkPattern(pattern); err != nil {
			return nil, err
		}
	}
	named := func(archive string) bool {
		a, ok := cfg.Archive(archive)
		return slices.Contains(want.Archives, archive) || ok && a.Class != "" && slices.Contains(want.Archives, a.Class)
	}
	var all []string
	for _, a := range cfg.Archives {
		if !o.cfg.Archives.Immutable(a.Name) || named(a.Name) { // those are snapshots already
			all = append(all, a.Name)
		}
	}
	served, err := o.cfg.Snapshots.Suites(ctx, want.ID, all)
	if err != nil {
		return nil, err
	}
	suites := make(map[string][]proto.HostSuite)
	for _, s := range served {
		if !snapshot.Wanted(want.Suites, s.Suite) || len(want.Archives) > 0 && !named(s.Suite.Archive) {
			continue
		}
		h := proto.HostSuite{
			Dir: s.Suite.Dir, Name: s.Suite.Name, Origin: s.Manifest.Names.Origin, Label: s.Manifest.Names.Label,
			ValidUntil: s.Manifest.ValidUntil, Live: s.Live, Unsigned: s.Unsigned,
		}
		for _, index := range s.Captured.Indexes {
			h.Indexes = append(h.Indexes, index.Path)
		}
		suites[s.Suite.Archive] = append(suites[s.Suite.Archive], h)
	}
	return archives.HostArchives(cfg, suites)
}
