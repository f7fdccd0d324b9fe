package front

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// Rules are what can change while a Front serves.
type Rules struct {
	Archives []Archive
	// Classes are archives that are made when a client first asks for them; nil: there are none.
	Classes Classes
	Connect []string // as Config.Connect
	Clients ClientLimits
	Lists   []List
	// PublicURL is as Config.PublicURL.
	PublicURL string
	// HostFiles is as Config.HostFiles.
	HostFiles func(node string, closed func(archive string) bool) []proto.HostFile
}

// Classes finds archives that do not exist yet and may be made: each belongs to a class, whose URL
// is a pattern. Its methods are safe for concurrent use.
type Classes interface {
	// At finds the archive that a URL lies in, and the path within it. The host is in lower case, the
	// path without a slash at either end.
	At(host, path string) (archive, rest string, ok bool)
	// Named finds the archive whose name the path begins with, and the path within it.
	Named(path string) (archive, rest string, ok bool)
	// Forms are the names that archives of each class have: the class's name, and a * for each value, as in ppa/*/*.
	Forms() []string
	// Guard returns the networks whose clients may, and may not, read an archive, as Archive has them.
	Guard(archive string) (allow, deny []netip.Prefix)
	// Make has the archive served from now on, by rules that it Applies. client is who asks for it. The error is
	// a *proto.Unavailable.
	Make(archive string, client netip.Addr) error
}

// rules are Rules made ready to be asked. They are built once and never changed.
type rules struct {
	routes   *routes
	everyone *guard            // nil where everyone may come in
	guards   map[string]*guard // by archive, of those that have lists only
	limits   ClientLimits
	formats  map[string]Format                 // by archive
	used     map[string]func()                 // by archive, see Archive.Used
	history  map[string]func(time.Time) string // by archive, see Archive.History
	lists    map[string][]List                 // by host and path

	hostLists map[string]HostLists // by archive

	publicURL string // without a slash at its end
	hostFiles func(node string, closed func(archive string) bool) []proto.HostFile
}

// newRules makes rules ready. Errors name the configuration key at fault.
func newRules(r Rules, own []string, listens func() []string) (*rules, error) {
	routes, err := newRoutes(r.Archives, r.Connect, own, listens)
	if err != nil {
		return nil, err
	}
	routes.classes = r.Classes
	if _, host, _, ok := splitURL(r.PublicURL); ok {
		routes.publicHost = bareHost(host)
	}
	ready := &rules{routes: routes, limits: r.Clients, guards: make(map[string]*guard), used: make(map[string]func()), history: make(map[string]func(time.Time) string), formats: make(map[string]Format), lists: make(map[string][]List), hostLists: make(map[string]HostLists), publicURL: strings.TrimSuffix(r.PublicURL, "/"), hostFiles: r.HostFiles}
	for _, l := range r.Lists {
		at := bareHost(l.URL.Host) + l.URL.Path
		ready.lists[at] = append(ready.lists[at], l)
	}
	if ready.everyone, err = newGuard("clients", r.Clients.Allow, r.Clients.Deny); err != nil {
		return nil, err
	}
	for _, a := range r.Archives {
		if a.Format == nil {
			return nil, fmt.Errorf("archives: %s has no format", a.Name)
		}
		ready.formats[a.Name] = a.Format
		if a.HostLists != nil {
			ready.hostLists[a.Name] = a.HostLists
		}
		if a.History != nil {
			ready.history[a.Name] = a.History
		}
		if a.Used != nil {
			ready.used[a.Name] = a.Used
		}
		g, err := newGuard("archives."+a.Name, a.Allow, a.Deny)
		if err != nil {
			return nil, err
		}
		if g != nil {
			ready.guards[a.Name] = g
		}
	}
	switch {
	case r.Clients.Connections < 0:
		return nil, fmt.Errorf("clients.connections: %d is less than 0, which is no bound", r.Clients.Connections)
	case r.Clients.Rate < 0:
		return nil, fmt.Errorf("clients.rate: %d is less than 0, which is no bound", r.Clients.Rate)
	}
	return ready, nil
}

// guard returns what guards an archive, nil where nothing does. All ways to name a file
// come through here, for all of them have become a Location before.
func (r *rules) guard(archive string) *guard {
	if len(r.guards) == 0 {
		return nil
	}
	return r.guards[archive]
}
