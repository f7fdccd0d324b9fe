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
// archive itself. id is "" where it is no such target. The error is a *refusal.
func (t *routes) inSnapshot(target string, local net.Addr) (id, rest string, err error) {
	path := target
	if !strings.HasPrefix(target, "/") {
		_, host, p, ok := splitURL(target)
		if !ok || !t.isOwn(host, local) {
			return "", "", nil
		}
		path = p
	}
	path, below := strings.CutPrefix(strings.TrimLeft(path, "/"), snapshotPrefix+"/")
	if !below {
		return "", "", nil
	}
	name := t.archiveOf(path)
	if t.classes != nil {
		if archive, _, ok := t.classes.Named(strings.Trim(path, "/")); ok && len(archive) > len(name) {
			name = archive
		}
	}
	id, rest, _ = strings.Cut(strings.TrimPrefix(path[len(name):], "/"), "/")
	if name == "" || id == "" {
		return "", "", t.noSuchArchive(path)
	}
	if plain, err := url.PathUnescape(id); err == nil {
		id = plain // ~ may come as %7E
	}
	return id, "/" + name + "/" + rest, nil
}

// noSuchArchive is the refusal of a path that begins with no archive's name, or ends behind it.
func (t *routes) noSuchArchive(path string) *refusal {
	name := strings.Trim(path, "/")
	if t.archiveOf(name) == "" {
		name, _, _ = strings.Cut(name, "/")
		return &refusal{
			status: http.StatusNotFound, reason: reasonSnapshot, phrase: `no archive "` + quote(name) + `" has snapshots here`,
			text: `no archive "` + quote(name) + `" is configured: an archive as it was is at /snapshot/ARCHIVE/NAME/, where NAME is a snapshot or a channel; known are ` + t.known(),
		}
	}
	return &refusal{
		status: http.StatusNotFound, reason: reasonSnapshot, phrase: "the URL of a snapshot ends with its name",
		text: "the URL names no snapshot and no channel: ask for /snapshot/" + quote(name) + `/NAME/; "aptmesh snapshot list" and "aptmesh channel list" show the names`,
	}
}

// snapshotKey is how failures of an archive as it was are filed.
func snapshotKey(id string, loc proto.Location) string {
	return snapshotPrefix + "/" + loc.Archive + "/" + id + "/" + loc.Path
}

// snapshotURL is the part of a URL that names an archive as it was.
func snapshotURL(id, archive string) string {
	return quote("/" + snapshotPrefix + "/" + archive + "/" + id)
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
