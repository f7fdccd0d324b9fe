package node

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/aptmesh/aptmesh/node/config"
	"github.com/aptmesh/aptmesh/node/durable"
	"github.com/aptmesh/aptmesh/node/statedir"
)

// stateFormat is the format of the state directory: what the files of the catalog, of
// prefetch and of the mirror lists look like. It is raised, with a step in
// migrateState, whenever an older program that rewrites such a file would lose or
// misread something.
//
//	1  the first that has a number; the files lie apart from the cache
const stateFormat = 1

// tablesFormat is the format of the directory of package tables. A table can be made
// again from its index and says itself which version it is, so there was no reason to
// raise this yet.
const tablesFormat = 1

// derivedPrefix begins the names of files that are derived from blobs. They belong to
// the cache.
const derivedPrefix = "lists/"

// tablesDir is where the package tables lie.
func tablesDir(data string) string { return filepath.Join(data, "tables") }

// checkState refuses directories of a newer format, before anything is written.
func checkState(cfg *config.Config) error {
	if _, err := statedir.Check(tablesDir(cfg.Data), tablesFormat); err != nil {
		return fmt.Errorf("%w (`data:` or --data names the directory above it)", err)
	}
	format, err := statedir.Check(cfg.StateDir(), stateFormat)
	if err == nil && format == 0 { // openState will take over what is there
		_, err = statedir.Check(config.InnerStateDir(cfg.Data), stateFormat)
	}
	return hintState(err)
}

func hintState(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w (`state:` or --state names the directory)", err)
}

// openState opens the directories of small files. The store of the same configuration
// must be open: its lock keeps an older program, which knows no other lock, away from
// the files that are moved.
func (n *Node) openState(cfg *config.Config, fs durable.FS) (err error) {
	program := "aptmesh " + n.opts.Version
	n.tables, err = statedir.Open(statedir.Config{Dir: tablesDir(cfg.Data), Format: tablesFormat, Program: program, FS: fs})
	if err != nil {
		return err
	}
	n.onStop("package tables", func(context.Context) error { return n.tables.Close() })
	first := config.InnerStateDir(cfg.Data)
	n.state, err = statedir.Open(statedir.Config{
		Dir: cfg.StateDir(), Format: stateFormat, Program: program, FS: fs,
		Migrate: func(d *statedir.Dir, _ int) error { return migrateState(d, n.tables, cfg.StateDir(), first) },
	})
	if err != nil {
		return hintState(err)
	}
	n.onStop("state", func(context.Context) error { return n.state.Close() })
	if first != cfg.StateDir() && statedir.Holds(first, "") {
		n.log.Warn("an aptmesh that did not know this node's state directory has left state in another one, which is not used; remove it",
			"unused", first, "state", cfg.StateDir())
	}
	return nil
}

// migrateState makes format 1 out of what there was before formats had numbers: one
// directory inside the cache, first, with durable and derived files. What is derived
// moves to the tables; the rest moves to dir, unless it lies there already. Every step
// may be repeated.
func migrateState(state, tables *statedir.Dir, dir, first string) error {
	if err := tables.Import(first, derivedPrefix); err != nil {
		return err
	}
	if first == dir {
		return nil
	}
	if err := state.Import(first, ""); err != nil {
		return err
	}
	return statedir.Retire(first)
}
