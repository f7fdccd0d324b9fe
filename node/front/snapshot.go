package front

import (
	"context"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// Snapshots answers for archives as they were: /snapshot/ARCHIVE/ID/PATH, where ID is the name of a snapshot or
// of a channel. Its methods are safe for concurrent use, and their errors are those of Catalog.
type Snapshots interface {
	// Known reports whether the ID stands for something of the archive.
	Known(id, archive string) bool
	// Whole reports whether all suites of the archive that there were at a moment are held here; true for other IDs.
	Whole(id, archive string) bool
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

// A moment is an ID as snapshot.ubuntu.com and snapshot.debian.org have it: 20240301T000000Z.
const momentForm = "20060102T150405Z"

func momentOf(id string) (time.Time, bool) {
	at, err := time.Parse(momentForm, id)
	return at, err == nil
}

func isMoment(id string) bool { _, ok := momentOf(id); return ok }

// settled is how old a moment must be until a service of history has it: before, it answers with the newest state that it
// has.
const settled = 24 * time.Hour

// fromHistory is the URL of a target in an archive as it was at a moment, at the archive's service of history; "" where the ID
// is no moment, where this node holds all of it, or where no service has it.
func (f *Front) fromHistory(r *rules, id, target string, now time.Time) string {
	at, ok := momentOf(id)
	if !ok {
		return ""
	}
	name := r.routes.archiveOf(strings.TrimPrefix(target, "/"))
	if r.history[name] == nil || now.Sub(at) < settled || f.cfg.Snapshots.Whole(id, name) {
		return ""
	}
	return r.history[name](at) + strings.TrimPrefix(target, "/"+name)
}

// noMoment is the refusal of a moment of which nothing is held, and no service of history is asked.
func noMoment(id, archive string, at, now time.Time, history bool) *refusal {
	text := "this node holds nothing of " + archive + " as it was at " + quote(id)
	phrase := "nothing of " + archive + " is held of that moment"
	switch {
	case at.After(now):
		phrase = quote(id) + " lies ahead"
		text = phrase + ": an archive as it will be is not known"
	case history:
		phrase += ", and history has it a day later"
		text += ", and the service of history is not asked for the last 24 hours, which it may not have yet; use /" + archive + " for the archive as it is"
	default:
		phrase += ", and no history is configured"
		text += ": it keeps superseded generations as `retain` says, and snapshots. `history` of the archive names a service that has older ones"
	}
	return &refusal{status: http.StatusNotFound, reason: reasonSnapshot, phrase: phrase, text: text}
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

// unknownID is the refusal of an ID that stands for nothing of an archive.
func (r *rules) unknownID(id, archive string, now time.Time) *refusal {
	if at, ok := momentOf(id); ok {
		return noMoment(id, archive, at, now, r.history[archive] != nil)
	}
	return noSnapshot(id, archive)
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
