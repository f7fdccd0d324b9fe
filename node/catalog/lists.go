package catalog

import (
	"encoding/binary"
	"encoding/hex"
	"strings"

	"github.com/cespare/xxhash/v2"

	"github.com/aptmesh/aptmesh/aptmeta"
)

// listDir is where the tables of parsed indices lie among the state files. A
// table is derived from an index blob and may be lost at any time.
const listDir = "lists/"

// listName names the table of an index. It is made of the digest of the plain
// index where the Release lists it, so that all compressions share one table,
// and of where its paths begin, for the same index may serve two suites.
func (s *suite) listName(g *generation, m *member) string {
	digest := m.ref.Digest
	plain, _ := aptmeta.TrimCompression(m.path)
	if u, ok := g.members[plain]; ok && !u.ref.IsZero() {
		digest = u.ref.Digest
	}
	if digest.IsZero() {
		copy(digest[:], m.sha512[:])
	}
	bases := strings.Join(s.bases(aptmeta.IndexKindOf(m.path)), "\x00") + "\x00"
	if kind := aptmeta.IndexKindOf(m.path); kind == aptmeta.DiffIndex || kind == aptmeta.SHA256Sums {
		bases += m.path // these list paths beside themselves
	}
	return escapeName(s.id.Archive) + "/" + digest.String() + "-" + hex.EncodeToString(binary.BigEndian.AppendUint64(nil, xxhash.Sum64String(bases)))
}

// hasList reports whether the table is on disk and whole.
func (c *Catalog) hasList(name string) bool {
	_, err := c.readList(name)
	return err == nil
}

func (c *Catalog) readList(name string) (*list, error) {
	b, err := c.cfg.State.ReadFile(listDir + name)
	if err != nil {
		return nil, err
	}
	return unmarshalList(b)
}

// listNames are the tables of those members that are indices.
func (s *suite) listNames(g *generation, members []*member) []string {
	var names []string
	for _, m := range members {
		if aptmeta.IndexKindOf(m.path) != aptmeta.NotAnIndex {
			names = append(names, s.listName(g, m))
		}
	}
	return names
}

// claim keeps tables from being removed while nobody refers to them yet: a
// generation or an index in the making will. release is to be called once.
func (c *Catalog) claim(names ...string) (release func()) {
	c.cleaning.RLock() // waits for a removal that began before
	defer c.cleaning.RUnlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, n := range names {
		c.claims[n]++
	}
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, n := range names {
			if c.claims[n]--; c.claims[n] == 0 {
				delete(c.claims, n)
			}
		}
	}
}

// cleanLists removes tables that no generation of the archive refers to any more.
func (c *Catalog) cleanLists(archive string) {
	c.cleaning.Lock()
	defer c.cleaning.Unlock()
	names, err := c.cfg.State.ListFiles(listDir + escapeName(archive) + "/")
	if err != nil {
		c.cfg.Logger.Warn("old package tables cannot be listed", "error", err)
		return
	}
	used, ok := c.referredLists(archive)
	if !ok {
		return
	}
	for _, name := range names {
		if !used[name] {
			if err := c.cfg.State.RemoveFile(name); err != nil {
				c.cfg.Logger.Warn("an old package table cannot be removed", "table", name, "error", err)
			}
		}
	}
}

// referredLists names the files of all tables of an archive that somebody refers
// to or will; false while that cannot be told.
func (c *Catalog) referredLists(archive string) (map[string]bool, bool) {
	used := make(map[string]bool)
	c.mu.Lock()
	defer c.mu.Unlock()
	for name := range c.claims {
		used[listDir+name] = true
	}
	for id, s := range c.suites {
		if id.Archive != archive {
			continue
		}
		if s.isLoading() {
			return nil, false // its superseded generations are not among the retained yet
		}
		for _, g := range append(s.retained[:len(s.retained):len(s.retained)], s.current) {
			if g == nil {
				continue
			}
			for _, st := range g.staged {
				used[listDir+st.List] = true
			}
		}
	}
	return used, true
}

// escapeName makes one file name of any text, readable and without collisions.
func escapeName(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '.' && i > 0:
			b.WriteByte(c)
		default:
			b.WriteByte('_')
			b.WriteString(hex.EncodeToString([]byte{c}))
		}
	}
	if b.Len() == 0 {
		return "_"
	}
	return b.String()
}
