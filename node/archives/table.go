package archives

import (
	"log/slog"
	"math"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/aptmesh/aptmesh/node/blobstore"
	"github.com/aptmesh/aptmesh/node/config"
	"github.com/aptmesh/aptmesh/node/mirrorlist"
	"github.com/aptmesh/aptmesh/proto"
)

// Table is the configuration in force, and what follows from it for each archive. Safe for concurrent
// use.
type Table struct {
	now     atomic.Pointer[table]
	members atomic.Pointer[members]
	unsaved atomic.Bool // the members are others than classFile has
}

// table is one state of a Table. It is never changed.
type table struct {
	cfg *config.Config // with the archives of classes that there are
	// restricted says of each archive whether only some clients may have what is in it.
	restricted map[string]bool
	inner      map[string]insides
	formats    formats
	// stale is how long an unlisted file of an archive is served while upstream cannot be asked.
	stale map[string]time.Duration
	// immutable are the archives whose upstream never changes.
	immutable map[string]bool
	// unlisted are the archives without a known mirror, with the lists that they wait for.
	unlisted map[string][]mirrorlist.Key
}

// NewTable is the Table of a configuration, with the archives of its classes that there were when the
// node stopped, and before any list of mirrors is known.
func NewTable(configured *config.Config, state State, log *slog.Logger) *Table {
	t := &Table{}
	all := loadMembers(state, log)
	cfg := withMembers(configured, all.names())
	all = all.of(cfg)
	t.members.Store(&all)
	t.put(cfg, nil)
	return t
}

func (t *Table) put(cfg *config.Config, unlisted map[string][]mirrorlist.Key) {
	next := &table{
		cfg: cfg, inner: innerOf(cfg), formats: formatsOf(cfg), unlisted: unlisted,
		immutable: make(map[string]bool), restricted: make(map[string]bool, len(cfg.Archives)), stale: make(map[string]time.Duration, len(cfg.Archives)),
	}
	for _, a := range cfg.Archives {
		next.restricted[a.Name] = a.Restricted()
		if a.NeverChanges(time.Now()) {
			next.immutable[a.Name] = true
		}
		switch {
		case cfg.Offline || a.Offline: // stored files are served, however old
			next.stale[a.Name] = math.MaxInt64
		case a.ServeExpired != nil:
			next.stale[a.Name] = *a.ServeExpired
		default:
			next.stale[a.Name] = cfg.Stale.ServeExpired
		}
	}
	t.now.Store(next)
}

// Config is the configuration in force, with the archives of classes that there are. It is never
// changed.
func (t *Table) Config() *config.Config { return t.now.Load().cfg }

// Has reports whether there is an archive of that name now.
func (t *Table) Has(archive string) bool {
	_, there := t.now.Load().restricted[archive]
	return there
}

// Restricted reports whether only some clients may have what is in an archive. Nothing is known of an
// archive that the configuration does not have, so it counts as restricted.
func (t *Table) Restricted(archive string) bool {
	restricted, known := t.now.Load().restricted[archive]
	return restricted || !known && archive != proto.HandedOffArchive
}

// ServeStale is how long an unlisted file of an archive is served while upstream cannot be asked.
func (t *Table) ServeStale(archive string) time.Duration { return t.now.Load().stale[archive] }

// Immutable reports whether upstream never changes what an archive has.
func (t *Table) Immutable(archive string) bool { return t.now.Load().immutable[archive] }

// Offline reports whether nobody is asked for an archive.
func (t *Table) Offline(archive string) bool {
	cfg := t.Config()
	a, _ := cfg.Archive(archive)
	return cfg.Offline || a.Offline
}

// insides are restricted archives by the path at which another archive has them.
type insides map[string]string

// innerOf finds the restricted archives that can be reached through a path of another archive, by that
// archive. Only URLs of the configuration count: a mirror list decides nothing about other archives.
func innerOf(cfg *config.Config) map[string]insides {
	found := make(map[string]insides)
	for _, b := range cfg.Archives {
		if !b.Restricted() {
			continue
		}
		for _, a := range cfg.Archives {
			for _, outer := range a.MirrorURLs() {
				for _, within := range b.MirrorURLs() {
					dir, ok := pathBelow(outer, within)
					if !ok || a.Name == b.Name {
						continue
					}
					if found[a.Name] == nil {
						found[a.Name] = make(insides)
					}
					found[a.Name][dir] = b.Name
				}
			}
		}
	}
	return found
}

// pathBelow is where below one URL another one lies; false if it does not. Whether a host is asked with or
// without TLS, it has the same files.
func pathBelow(outer, within string) (string, bool) {
	o, err1 := url.Parse(outer)
	w, err2 := url.Parse(within)
	if err1 != nil || err2 != nil || webHost(o) != webHost(w) {
		return "", false
	}
	base := strings.Trim(o.EscapedPath(), "/")
	dir, err := proto.CanonicalPath(strings.Trim(w.EscapedPath(), "/"))
	if err != nil {
		return "", false
	}
	if base == "" {
		return dir, dir != ""
	}
	if base, err = proto.CanonicalPath(base); err != nil {
		return "", false
	}
	return strings.CutPrefix(dir, base+"/")
}

// webHost is the host of a URL, without the port that its scheme has.
func webHost(u *url.URL) string {
	port := u.Port()
	if port == "80" || port == "443" {
		port = ""
	}
	return strings.ToLower(strings.TrimSuffix(u.Hostname(), ".")) + ":" + port
}

// at returns the location of a path in the innermost of these archives that it lies in; false for none.
// The path of the location is "" where it is that archive's root.
func (in insides) at(path string) (proto.Location, bool) {
	for dir := path; len(in) > 0 && dir != ""; {
		if archive, ok := in[dir]; ok {
			return proto.Location{Archive: archive, Path: strings.TrimPrefix(path[len(dir):], "/")}, true
		}
		dir = dir[:max(strings.LastIndexByte(dir, '/'), 0)]
	}
	return proto.Location{}, false
}

// Store is the store as the catalog uses it. The roots that the catalog keeps come to the store past
// the fetcher, and carry the mark of a restricted archive like all else that the archive brings.
type Store struct {
	*blobstore.Store
	Table *Table
}

// Put shadows the store's own, which does not know archives.
func (s Store) Put(archive string, b []byte, modified time.Time) (proto.Ref, error) {
	if s.Table.Restricted(archive) {
		return s.Store.Put(b, modified, archive)
	}
	return s.Store.Put(b, modified)
}
