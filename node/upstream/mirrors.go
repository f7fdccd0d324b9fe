package upstream

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// errNoMirror says that a request named a mirror that its archive does not have.
var errNoMirror = errors.New("the archive has no such mirror")

// archive is an archive of one configuration. It is never changed.
type archive struct {
	name    string
	mirrors []*mirror // in the order of the configuration
	history *mirror   // its URL has placeholders for a date; nil: none
	offline bool
}

// mirror is one mirror of an archive in one configuration. It is never changed.
type mirror struct {
	Mirror           // checked
	name      string // as Transfer.From says
	dir       string // of the archive, which stands at URL; "" for the archive's root
	transport *http.Transport
	health    *health
}

// single reports whether there is nobody else to ask.
func (a *archive) single() bool { return len(a.mirrors) == 1 }

// newArchive checks an archive and its mirrors. They still lack their transports and
// what is known of their health.
func newArchive(cfg Archive) (*archive, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	a := &archive{name: cfg.Name, offline: cfg.Offline}
	if cfg.History != nil {
		var err error
		if a.history, err = newHistory(cfg.Name, cfg.History); err != nil {
			return nil, err
		}
	}
	seen := make(map[string]bool)
	for _, m := range cfg.Mirrors {
		m, err := m.checked(cfg.Name)
		if err != nil {
			return nil, err
		}
		name := m.String()
		if seen[name] {
			return nil, fmt.Errorf("upstream: archive %q has the mirror %s twice", cfg.Name, name)
		}
		seen[name] = true
		a.mirrors = append(a.mirrors, &mirror{Mirror: m, name: name})
	}
	return a, nil
}

// sources are all that may be asked: the mirrors, and the history service last.
func (a *archive) sources() []*mirror {
	if a.history == nil {
		return a.mirrors
	}
	return append(slices.Clone(a.mirrors), a.history)
}

// named returns the mirror that a name stands for, nil for none.
func (a *archive) named(name string) *mirror {
	for _, m := range a.mirrors {
		if m.name == name {
			return m
		}
	}
	return nil
}

// covers reports whether a path of the archive can be at the mirror.
func (m *mirror) covers(path string) bool { return m.dir == "" || strings.HasPrefix(path, m.dir+"/") }

// object returns the URL of a path that the mirror covers.
func (m *mirror) object(path string) *url.URL {
	if m.dir != "" {
		path = path[len(m.dir)+1:]
	}
	return m.Mirror.object(path)
}

// object returns the URL of a path of the archive at a mirror.
func (m Mirror) object(path string) *url.URL {
	u := *m.URL
	base := strings.TrimSuffix(u.EscapedPath(), "/")
	u.Path = strings.TrimSuffix(u.Path, "/") + "/" + path
	u.RawPath = base + "/" + escapePath(path)
	return &u
}

// HostsOf names the hosts of an archive's mirrors, each once, in the order of the
// configuration: scheme and name in lower case, and the port where it is not the
// scheme's own, as "https://esm.example.org:8443" or "http://archive.ubuntu.com";
// nil for an unknown archive.
func (c *Client) HostsOf(archive string) []string {
	a, ok := c.settings.Load().archives[archive]
	if !ok {
		return nil
	}
	var hosts []string
	seen := make(map[string]bool)
	for _, m := range a.mirrors {
		if host := hostName(m.URL); !seen[host] {
			seen[host] = true
			hosts = append(hosts, host)
		}
	}
	return hosts
}
