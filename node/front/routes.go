package front

import (
	"cmp"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// Archive is one configured archive, as far as URLs go.
type Archive struct {
	// Name is the prefix of mapped URLs, one or more path segments: "ubuntu".
	Name string
	// Upstream is where the archive really is, http or https. Its user
	// information is not looked at.
	Upstream *url.URL
	// Mirrors are all URLs that it is fetched from. Each of them means this archive,
	// as Upstream does.
	Mirrors []*url.URL
	// Aliases are other URLs that mean this archive. The first label of the host may be
	// "*", which stands for one label or more; any other label "*" stands for one.
	Aliases []string
	// Allow and Deny are as ClientLimits', for this archive.
	Allow, Deny []netip.Prefix
	// Inner returns the location of a path in an archive whose URL lies below this archive's URL, if
	// only some clients may read that archive; false for all other paths. nil: there are none.
	Inner func(path string) (proto.Location, bool)
	// History is the URL of the archive as it was at a moment, at a service that has that; nil: there is none. It means
	// another archive.
	History func(time.Time) string
	// Used is called for each request for the archive; nil: no call.
	Used func()
	// Format is the archive's repository format; it must be set.
	Format Format
	// HostLists writes lists of mirrors for its hosts; nil: there are none.
	HostLists HostLists
}

// route says that everything below base, on the host it is filed under, is an
// archive.
type route struct {
	archive string
	base    string // canonical path, "" for the whole host
	scheme  string // settles which of two archives is meant that differ in nothing else
}

// wildcard holds the routes of all hosts that begin with prefix and end in suffix.
type wildcard struct {
	prefix string // "" or "ftp."
	suffix string // ".archive.ubuntu.com", with a port where it is no default
	routes []route
}

// covers reports whether a host is one of them. Without a prefix, "*" is any number of labels.
func (w wildcard) covers(host string) bool {
	if len(host) <= len(w.prefix)+len(w.suffix) || !strings.HasPrefix(host, w.prefix) || !strings.HasSuffix(host, w.suffix) {
		return false
	}
	return w.prefix == "" || !strings.Contains(host[len(w.prefix):len(host)-len(w.suffix)], ".")
}

// routes is the routing table. It is built once and never changed.
type routes struct {
	names map[string]struct{} // of archives
	depth int                 // the most segments that a name has
	hosts map[string][]route  // by bare host, longest base first
	wild  []wildcard          // the one that says most of the host first
	own   map[string]struct{} // names of this node
	// listens are the addresses that this node listens at now.
	listens func() []string
	// publicHost is the host of the public URL as bareHost has it; "" for none.
	publicHost string
	archives   []Archive                                           // sorted by name, for the page and for messages
	inner      map[string]func(path string) (proto.Location, bool) // by archive
	connect    connectList
	classes    Classes
}

// newRoutes builds the table. own are the names of this node, listens the addresses that it
// listens at. Errors name the configuration key at fault.
func newRoutes(archives []Archive, connect, own []string, listens func() []string) (*routes, error) {
	t := &routes{
		names:    make(map[string]struct{}),
		hosts:    make(map[string][]route),
		own:      make(map[string]struct{}),
		listens:  listens,
		inner:    make(map[string]func(string) (proto.Location, bool)),
		archives: slices.Clone(archives),
	}
	slices.SortFunc(t.archives, func(a, b Archive) int { return cmp.Compare(a.Name, b.Name) })
	for _, a := range t.archives {
		if err := t.add(a); err != nil {
			return nil, err
		}
	}
	for _, routes := range t.hosts {
		longestFirst(routes)
	}
	for _, w := range t.wild {
		longestFirst(w.routes)
	}
	slices.SortStableFunc(t.wild, func(a, b wildcard) int { return cmp.Compare(len(b.prefix)+len(b.suffix), len(a.prefix)+len(a.suffix)) })
	var err error
	if t.connect, err = newConnectList(connect); err != nil {
		return nil, err
	}
	for _, name := range own {
		t.own[strings.ToLower(strings.TrimSuffix(name, "."))] = struct{}{}
	}
	return t, nil
}

func (t *routes) add(a Archive) error {
	name, err := proto.CanonicalPath(a.Name)
	first, _, _ := strings.Cut(a.Name, "/")
	if err != nil || name == "" || name != a.Name || strings.EqualFold(first, "https") || first == snapshotPrefix {
		return fmt.Errorf("archives: %q cannot be an archive's name: it is the first part of URLs, so use plain path segments such as ubuntu or vendor/tools", a.Name)
	}
	if _, twice := t.names[name]; twice {
		return fmt.Errorf("archives: %q is configured twice", name)
	}
	t.names[name] = struct{}{}
	t.depth = max(t.depth, 1+strings.Count(name, "/"))
	if a.Inner != nil {
		t.inner[name] = a.Inner
	}
	if a.Upstream == nil {
		return fmt.Errorf("archives: %s has no upstream: add its URL", name)
	}
	if err := t.claim(name, a.Upstream, false); err != nil {
		return fmt.Errorf("archives: %s: upstream: %w", name, err)
	}
	for _, mirror := range a.Mirrors {
		if err := t.claim(name, mirror, false); err != nil {
			return fmt.Errorf("archives: %s: upstreams: %w", name, err)
		}
	}
	for _, alias := range a.Aliases {
		u, err := url.Parse(alias)
		if err != nil {
			return fmt.Errorf("archives: %s: aliases: %w", name, err)
		}
		if err := t.claim(name, u, true); err != nil {
			return fmt.Errorf("archives: %s: aliases: %w", name, err)
		}
	}
	return nil
}

// claim files the routes of one URL.
func (t *routes) claim(archive string, u *url.URL, wild bool) error {
	if u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return fmt.Errorf("%q is not an http or https URL with a host", u.Redacted())
	}
	base, err := canonical(u.EscapedPath())
	if err != nil {
		return fmt.Errorf("%q: %w", u.Redacted(), err)
	}
	r := route{archive: archive, base: base, scheme: u.Scheme}
	host := bareHost(u.Host)
	if !strings.Contains(host, "*") {
		filed, err := file(t.hosts[host], r)
		if err != nil {
			return fmt.Errorf("%q: %w", u.Redacted(), err)
		}
		t.hosts[host] = filed
		return nil
	}
	prefix, suffix, _ := strings.Cut(host, "*")
	if !wild || prefix != "" && !strings.HasSuffix(prefix, ".") || len(suffix) < 2 || suffix[0] != '.' || strings.Contains(suffix, "*") {
		return fmt.Errorf("%q: a * may only be one label of an alias's host, and not the last, as in http://*.archive.example.org/", u.Redacted())
	}
	i := slices.IndexFunc(t.wild, func(w wildcard) bool { return w.prefix == prefix && w.suffix == suffix })
	if i < 0 {
		t.wild = append(t.wild, wildcard{prefix: prefix, suffix: suffix})
		i = len(t.wild) - 1
	}
	t.wild[i].routes, err = file(t.wild[i].routes, r)
	return err
}

// file adds a route unless it is there already; one URL cannot mean two archives.
func file(routes []route, r route) ([]route, error) {
	for _, other := range routes {
		if other.base == r.base && other.scheme == r.scheme {
			if other.archive != r.archive {
				return nil, fmt.Errorf("the archive %s has this URL too, so that a proxy request for it could mean either", other.archive)
			}
			return routes, nil
		}
	}
	return append(routes, r), nil
}

func longestFirst(routes []route) {
	slices.SortStableFunc(routes, func(a, b route) int { return cmp.Compare(len(b.base), len(a.base)) })
}

// canonical is proto.CanonicalPath with slashes at either end allowed, and "" for
// the root.
func canonical(escaped string) (string, error) {
	escaped = strings.Trim(escaped, "/")
	if escaped == "" {
		return "", nil
	}
	return proto.CanonicalPath(escaped)
}

// bareHost is how hosts are compared: lower case, without the default port of
// either scheme (clients of HTTPS archives come with http URLs, too) and without
// the dot of a fully qualified name.
func bareHost(host string) string {
	if i := strings.LastIndexByte(host, ':'); i >= 0 {
		if port := host[i+1:]; port == "" || port == "80" || port == "443" {
			host = host[:i]
		}
	}
	host = strings.TrimSuffix(host, ".")
	return strings.ToLower(host)
}
