package front

import (
	"context"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/aptmesh/aptmesh/proto"
)

// Snapshots answers for archives as they were: /snapshot/ARCHIVE/ID/PATH, where ID is the name of a snapshot or
// of a channel. Its methods are safe for concurrent use, and their errors are those of Catalog.
type Snapshots interface {
	// Known reports whether the ID stands for something of the archive.
	Known(id, archive string) bool
	Resolve(id string, loc proto.Location) (proto.Resolution, bool)
	Discover(ctx context.Context, id string, loc proto.Location, fresh bool) (proto.Resolution, error)
}

// snapshotPrefix begins the paths of archives as they were, so no archive can have that name.
const snapshotPrefix = "snapshot"

// inSnapshot takes the ID out of a request target for an archive as it was: what is left is the target of the
// archive itself. "" where it is no such target.
func (t *routes) inSnapshot(target string, local net.Addr) (id, rest string) {
	path := target
	if !strings.HasPrefix(target, "/") {
		_, host, p, ok := splitURL(target)
		if !ok || !t.isOwn(host, local) {
			return "", ""
		}
		path = p
	}
	path, below := strings.CutPrefix(strings.TrimLeft(path, "/"), snapshotPrefix+"/")
	if !below {
		return "", ""
	}
	name := t.archiveOf(path)
	if t.classes != nil {
		if archive, _, ok := t.classes.Named(strings.Trim(path, "/")); ok && len(archive) > len(name) {
			name = archive
		}
	}
	if name == "" {
		return "", ""
	}
	id, rest, _ = strings.Cut(strings.TrimPrefix(path[len(name):], "/"), "/")
	if plain, err := url.PathUnescape(id); err == nil {
		id = plain // ~ may come as %7E
	}
	return id, "/" + name + "/" + rest
}

// snapshotKey is how failures of an archive as it was are filed.
func snapshotKey(id string, loc proto.Location) string {
	return snapshotPrefix + "/" + loc.Archive + "/" + id + "/" + loc.Path
}

// noSnapshot is the refusal of an ID that nothing has.
func noSnapshot(id, archive string) *refusal {
	return &refusal{
		status: http.StatusNotFound, reason: reasonSnapshot,
		phrase: `no snapshot or channel "` + quote(id) + `" of ` + archive + " here",
		text: `no snapshot and no channel of the name "` + quote(id) + `" has the archive ` + archive +
			` on this node: "aptmesh snapshot list" and "aptmesh channel list" show those that there are`,
	}
}
