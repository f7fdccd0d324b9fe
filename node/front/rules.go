package front

import (
	"fmt"
	"strings"
)

// Rules are what can change while the door is open.
type Rules struct {
	Archives []Archive
	Connect  []string // as Config.Connect
	Clients  ClientLimits
	Lists    []List
	// PublicURL is as Config.PublicURL.
	PublicURL string
}

// rules are Rules made ready to be asked. They are built once and never changed.
type rules struct {
	routes   *routes
	everyone *guard            // nil where everyone may come in
	guards   map[string]*guard // by archive, of those that have lists only
	limits   ClientLimits
	formats  map[string]Format // by archive
	lists    map[string]List   // by host and path

	publicURL string // without a slash at its end
}

// newRules makes rules ready. Errors name the configuration key at fault.
func newRules(r Rules, own []string) (*rules, error) {
	routes, err := newRoutes(r.Archives, r.Connect, own)
	if err != nil {
		return nil, err
	}
	ready := &rules{routes: routes, limits: r.Clients, guards: make(map[string]*guard), formats: make(map[string]Format), lists: make(map[string]List), publicURL: strings.TrimSuffix(r.PublicURL, "/")}
	for _, l := range r.Lists {
		ready.lists[bareHost(l.URL.Host)+l.URL.Path] = l
	}
	if ready.everyone, err = newGuard("clients", r.Clients.Allow, r.Clients.Deny); err != nil {
		return nil, err
	}
	for _, a := range r.Archives {
		if a.Format == nil {
			return nil, fmt.Errorf("archives: %s has no format", a.Name)
		}
		ready.formats[a.Name] = a.Format
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
	case r.Clients.BytesPerSecond < 0:
		return nil, fmt.Errorf("clients.rate: %d is less than 0, which is no bound", r.Clients.BytesPerSecond)
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
