package archives

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/aptmesh/aptmesh/node/config"
	"github.com/aptmesh/aptmesh/proto"
)

// A member is proven when a Release of it was accepted. Anybody can ask for names that do not exist, and each of them
// makes a member that stays unproven. So unproven members make room for others first.
const (
	// maxUnproven is how many unproven members one client has, if they are older than triedFor or the class is full.
	// It is no less because many hosts may share an address, and each may bring a new archive.
	maxUnproven = 10
	// triedFor is how long a member is left alone while there is room, so that its first request can find a Release.
	triedFor = 20 * time.Second
	// restedFor is how long nobody may have asked for a proven member before it makes room for another.
	restedFor = time.Hour
	// askedInVainFor is how long after the last request for it an unproven member is kept: operators see until then
	// what is wrong with it, such as a key that is missing.
	askedInVainFor = 24 * time.Hour
)

// defaultMaxArchives bounds the members of a class where max_archives is left out.
const defaultMaxArchives = 100

// unproven are the names of unproven members that nobody has asked for in askedInVainFor.
func (ms members) unproven(now time.Time) (names []string) {
	for _, name := range ms.names() {
		if m := ms[name]; !m.proven.Load() && now.Sub(m.lastUsed()) > askedInVainFor {
			names = append(names, name)
		}
	}
	return names
}

// room is the members of one class, for the question which of them makes room for a new one.
type room struct {
	all      members
	now      time.Time
	proven   []string
	unproven map[string][]string // by the client that asked for them
}

// makeRoom returns the member of a class that ends so that a client can have a new one; "" for none.
//
// A client that brings ever more names that lead nowhere loses its own, and no other client is refused because of
// it. Clients behind one address are one client here. Where they bring more than maxUnproven new archives at the
// same moment, they lose none of them while the class has room.
func makeRoom(cfg *config.Config, class, client string, all members, now time.Time) (gone string, err error) {
	settings, _ := classNamed(cfg, class)
	most := cmp.Or(settings.MaxArchives, defaultMaxArchives)
	r := room{all: all, now: now, unproven: make(map[string][]string)}
	n := 0
	for _, name := range all.names() {
		switch m := all[name]; {
		case m.class != class:
			continue
		case m.proven.Load():
			r.proven = append(r.proven, name)
		default:
			r.unproven[m.by] = append(r.unproven[m.by], name)
		}
		n++
	}
	own := r.unproven[client]
	if n < most {
		if len(own) >= maxUnproven {
			return r.longestSince(own, (*member).madeAt, triedFor), nil
		}
		return "", nil
	}
	if len(own) >= maxUnproven {
		return r.longestSince(own, (*member).madeAt, 0), nil
	}
	worst := r.unproven[r.worstClient()]
	gone = cmp.Or(
		r.longestSince(worst, (*member).madeAt, triedFor),
		r.longestSince(slices.Concat(slices.Collect(maps.Values(r.unproven))...), (*member).madeAt, triedFor),
		r.longestSince(r.proven, (*member).lastUsed, restedFor),
		r.longestSince(worst, (*member).madeAt, 0),
	)
	if gone == "" {
		key := "archives." + class + ".max_archives"
		return "", &proto.Unavailable{Cause: proto.CauseClassFull, Reason: fmt.Sprintf(
			"raise %s, which is %d: the class has that many archives, and hosts asked for each of them within the last hour", key, most)}
	}
	return gone, nil
}

// worstClient is the client with the most unproven members.
func (r *room) worstClient() (client string) {
	for by, names := range r.unproven {
		most := len(r.unproven[client])
		if len(names) > most || len(names) == most && by < client {
			client = by
		}
	}
	return client
}

// longestSince returns the member whose time is the longest ago; "" if that is less than least.
func (r *room) longestSince(names []string, since func(*member) time.Time, least time.Duration) string {
	if len(names) == 0 {
		return ""
	}
	name := slices.MinFunc(names, func(a, b string) int { return since(r.all[a]).Compare(since(r.all[b])) })
	if r.now.Sub(since(r.all[name])) < least {
		return ""
	}
	return name
}
