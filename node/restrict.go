package node

import (
	"math"
	"net/url"
	"strings"
	"time"

	"github.com/aptmesh/aptmesh/node/blobstore"
	"github.com/aptmesh/aptmesh/node/cluster"
	"github.com/aptmesh/aptmesh/node/config"
	"github.com/aptmesh/aptmesh/proto"
)

// access says of each configured archive whether only some clients may have what is in it. It is
// never changed.
type access map[string]bool

func accessOf(cfg *config.Config) *access {
	a := make(access, len(cfg.Archives))
	for _, archive := range cfg.Archives {
		a[archive.Name] = archive.Restricted()
	}
	return &a
}

// restricted reports whether only some clients may have what is in an archive. Of an archive that
// the configuration does not have, nothing is known, so it counts as restricted.
func (n *Node) restricted(archive string) bool {
	restricted, known := (*n.access.Load())[archive]
	return restricted || !known && archive != cluster.HandedOffArchive
}

// inner are the restricted archives that lie inside another archive's URLs, by that archive. It is never
// changed.
type inner map[string]insides

// insides are restricted archives by the path at which another archive has them.
type insides map[string]string

// innerOf finds the restricted archives that can be reached through a path of another archive. Only URLs
// of the configuration count: who writes a list of mirrors decides nothing about other archives.
func innerOf(cfg *config.Config) *inner {
	found := make(inner)
	for _, a := range cfg.Archives {
		for _, b := range cfg.Archives {
			if a.Name == b.Name || !b.Restricted() {
				continue
			}
			for _, outer := range a.MirrorURLs() {
				for _, within := range b.MirrorURLs() {
					dir, ok := pathBelow(outer, within)
					if !ok {
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
	return &found
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

// keeper is the store as the catalog uses it. The roots that it keeps come to the store past the
// fetcher, and carry the mark of a restricted archive like all else that the archive brings.
type keeper struct {
	*blobstore.Store
	n *Node
}

// Put shadows the store's own, which leaves a blob open to all.
func (k keeper) Put(archive string, b []byte, modified time.Time) (proto.Ref, error) {
	if !k.n.restricted(archive) {
		return k.Store.Put(b, modified)
	}
	w, err := k.Create(int64(len(b)))
	if err != nil {
		return proto.Ref{}, err
	}
	defer w.Abort()
	w.Only(archive)
	if _, err := w.Write(b); err != nil {
		return proto.Ref{}, err
	}
	return w.Commit(modified)
}

// staleLimits says of each configured archive how long an unlisted file is served while upstream cannot be
// asked. It is never changed.
type staleLimits map[string]time.Duration

func staleLimitsOf(cfg *config.Config) *staleLimits {
	limits := make(staleLimits, len(cfg.Archives))
	for _, archive := range cfg.Archives {
		switch {
		case cfg.Offline || archive.Offline: // what is held is served, however old
			limits[archive.Name] = math.MaxInt64
		case archive.ServeExpired != nil:
			limits[archive.Name] = time.Duration(*archive.ServeExpired)
		default:
			limits[archive.Name] = time.Duration(cfg.Stale.ServeExpired)
		}
	}
	return &limits
}

func (n *Node) serveStale(archive string) time.Duration { return (*n.stale.Load())[archive] }
