package catalog

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"

	"github.com/aptmesh/aptmesh/node/catalog/view"
	"github.com/aptmesh/aptmesh/proto"
)

// tableDir is where the tables of parsed indexes lie among the state files. A table is derived from
// an index blob and may be lost at any time.
const tableDir = "lists/"

func tablePrefix(archive string) string { return tableDir + escapeName(archive) + "/" }

// tables reads and writes the tables of one archive. One that the disk does not take is kept in
// memory until it does: without it, what its index lists could not be verified. Safe for concurrent
// use.
type tables struct {
	state   State
	archive string
	seed    view.Seed
	log     *slog.Logger
	most    int64         // of all archives' tables in memory, in bytes
	used    *atomic.Int64 // by those of all archives

	seeding sync.Mutex // held during a write: a request must not take it
	fresh   bool       // the seed is not on disk yet; guarded by seeding

	mu      sync.Mutex
	waiting map[string][]byte // tables that the disk has not taken, by file name; guarded by mu
	why     error             // why it did not take the last one; guarded by mu
}

// tablesFor opens the tables of an archive. Their seed lies beside them; without the seed they are
// worthless.
func (c *Catalog) tablesFor(archive string) *tables {
	t := &tables{
		state: c.cfg.Tables, archive: archive, log: c.cfg.Logger.With("archive", archive),
		most: c.cfg.TablesInMemory, used: &c.inMemory, waiting: make(map[string][]byte),
	}
	name := tablePrefix(archive) + "seed"
	if data, err := t.state.ReadFile(name); err == nil && t.seed.UnmarshalText(data) == nil {
		return t
	}
	t.seed, t.fresh = view.NewSeed(), true
	return t
}

// OpenList implements view.ListSource.
func (t *tables) OpenList(name string) (io.ReadCloser, error) {
	file := tablePrefix(t.archive) + escapeName(name)
	t.mu.Lock()
	b, waits := t.waiting[file]
	t.mu.Unlock()
	if !waits {
		var err error
		if b, err = t.state.ReadFile(file); err != nil {
			return nil, err
		}
	}
	return io.NopCloser(bytes.NewReader(b)), nil
}

// has reports whether a table is there and whole.
func (t *tables) has(name string) bool {
	_, err := view.CheckList(t, name, t.seed)
	return err == nil
}

// keepSeed writes the seed down before the first table that is made under it.
func (t *tables) keepSeed() error {
	t.seeding.Lock()
	defer t.seeding.Unlock()
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

// write keeps a table. It fails where neither the disk nor the memory that stands in for it has
// room; the error wraps proto.ErrNoSpace.
func (t *tables) write(name string, l *view.List) error {
	var b bytes.Buffer
	if _, err := l.WriteTo(&b); err != nil {
		return err
	}
	file := tablePrefix(t.archive) + escapeName(name)
	err := t.toDisk(file, b.Bytes())
	t.mu.Lock()
	defer t.mu.Unlock()
	t.drop(file)
	if err == nil {
		return nil
	}
	size := int64(b.Len())
	if t.used.Add(size) > t.most {
		t.used.Add(-size)
		return fmt.Errorf("%w: neither the disk nor the %d bytes of memory that stand in for it: %w", proto.ErrNoSpace, t.most, err)
	}
	if len(t.waiting) == 0 {
		t.log.Warn("the disk takes no package table; they are kept in memory until it does", "error", err)
	}
	t.waiting[file], t.why = bytes.Clone(b.Bytes()), err
	return nil
}

// toDisk writes a table, and the seed before it.
func (t *tables) toDisk(file string, data []byte) error {
	if err := t.keepSeed(); err != nil {
		return err
	}
	return t.state.WriteFile(file, data)
}

// drop frees a table in memory. The caller holds mu.
func (t *tables) drop(file string) {
	t.used.Add(-int64(len(t.waiting[file])))
	delete(t.waiting, file)
}

// drain brings to the disk what it did not take before.
func (t *tables) drain() {
	t.mu.Lock()
	waiting := maps.Clone(t.waiting)
	t.mu.Unlock()
	for file, data := range waiting {
		err := t.toDisk(file, data)
		t.mu.Lock()
		if t.why = err; err == nil {
			t.drop(file)
		}
		t.mu.Unlock()
		if err != nil {
			return
		}
	}
	if len(waiting) > 0 {
		t.log.Info("the disk takes package tables again")
	}
}

// notice says that tables are in memory only, for status; "" where none is.
func (t *tables) notice() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.waiting) == 0 {
		return ""
	}
	return fmt.Sprintf("the disk takes no package table: %d are in memory only, and read again after a restart: %v", len(t.waiting), t.why)
}

// forget drops tables in memory that are not used.
func (t *tables) forget(used func(string) bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for file := range t.waiting {
		if !used(file) {
			t.drop(file)
		}
	}
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
	c.tablesOf(archive).forget(used)
	for _, name := range names {
		if !used(name) {
			if err := c.cfg.Tables.RemoveFile(name); err != nil {
				c.cfg.Logger.Warn("an old package table cannot be removed", "table", name, "error", err)
			}
		}
	}
}

// referredTables returns the files of all tables of an archive that are in use or will be; false
// while that is unknown.
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
