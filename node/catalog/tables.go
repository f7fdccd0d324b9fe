package catalog

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"sync"

	"github.com/aptmesh/aptmesh/node/catalog/view"
)

// tableDir is where the tables of parsed indexes lie among the state files. A table is derived from
// an index blob and may be lost at any time.
const tableDir = "lists/"

func tablePrefix(archive string) string { return tableDir + escapeName(archive) + "/" }

// tables reads and writes the tables of one archive. Safe for concurrent use.
type tables struct {
	state   State
	archive string
	seed    view.Seed

	mu    sync.Mutex
	fresh bool // the seed is not on disk yet; guarded by mu
}

// tablesFor opens the tables of an archive. Their seed lies beside them; a lost one makes them
// worthless.
func (c *Catalog) tablesFor(archive string) *tables {
	t := &tables{state: c.cfg.Tables, archive: archive}
	name := tablePrefix(archive) + "seed"
	if data, err := t.state.ReadFile(name); err == nil && t.seed.UnmarshalText(data) == nil {
		return t
	}
	t.seed, t.fresh = view.NewSeed(), true
	return t
}

// OpenList implements view.ListSource.
func (t *tables) OpenList(name string) (io.ReadCloser, error) {
	b, err := t.state.ReadFile(tablePrefix(t.archive) + escapeName(name))
	if err != nil {
		return nil, err
	}
	return io.NopCloser(bytes.NewReader(b)), nil
}

// has reports whether a table is on disk and whole.
func (t *tables) has(name string) bool {
	_, err := view.CheckList(t, name, t.seed)
	return err == nil
}

// keepSeed writes the seed down before the first table that is made under it.
func (t *tables) keepSeed() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.fresh {
		return nil
	}
	data, err := t.seed.MarshalText()
	if err != nil {
		return err
	}
	if err := t.state.WriteFile(tablePrefix(t.archive)+"seed", data); err != nil {
		return err
	}
	t.fresh = false
	return nil
}

func (t *tables) write(name string, l *view.List) error {
	if err := t.keepSeed(); err != nil {
		return err
	}
	var b bytes.Buffer
	if _, err := l.WriteTo(&b); err != nil {
		return err
	}
	return t.state.WriteFile(tablePrefix(t.archive)+escapeName(name), b.Bytes())
}

// claim keeps tables from being removed while nobody refers to them yet: a generation or an index
// in the making will. release is to be called once.
func (c *Catalog) claim(archive string, names []string) (release func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	files := make([]string, len(names))
	for i, n := range names {
		files[i] = tablePrefix(archive) + escapeName(n)
		c.claims[files[i]]++
	}
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, f := range files {
			if c.claims[f]--; c.claims[f] == 0 {
				delete(c.claims, f)
			}
		}
	}
}

// cleanTables removes tables that no generation of the archive refers to any more. It does nothing
// while the superseded generations of a suite are still being read back: what they refer to is not
// known yet.
func (c *Catalog) cleanTables(archive string) {
	c.composing.Lock()
	defer c.composing.Unlock()
	names, err := c.cfg.Tables.ListFiles(tablePrefix(archive))
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			c.cfg.Logger.Warn("old package tables cannot be listed", "error", err)
		}
		return
	}
	used, ok := c.referredTables(archive)
	if !ok {
		return
	}
	for _, name := range names {
		if !used(name) {
			if err := c.cfg.Tables.RemoveFile(name); err != nil {
				c.cfg.Logger.Warn("an old package table cannot be removed", "table", name, "error", err)
			}
		}
	}
}

// referredTables tells the files of all tables of an archive that somebody refers to or will; false
// while that cannot be told.
func (c *Catalog) referredTables(archive string) (used func(string) bool, ok bool) {
	referred := map[string]bool{tablePrefix(archive) + "seed": true}
	for _, d := range c.all(archive) {
		p := d.public.Load()
		if p.unread {
			return nil, false
		}
		for _, g := range p.generations() {
			for _, t := range g.Tables() {
				referred[tablePrefix(archive)+escapeName(t)] = true
			}
		}
	}
	return func(name string) bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return referred[name] || c.claims[name] > 0
	}, true
}
