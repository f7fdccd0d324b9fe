package front

import (
	"net"
	"net/http"
	"slices"
	"strings"

	"github.com/aptmesh/aptmesh/proto"
)

// locate finds what a request target means: an absolute URL as in proxy requests,
// or the path of a URL. The error is always a *refusal. local is the address that
// the request came in at, nil where there is none.
func (t *routes) locate(target string, local net.Addr) (proto.Location, error) {
	loc, err := t.named(target, local)
	if err != nil || t.inner[loc.Archive] == nil {
		return loc, err
	}
	inner, ok := t.inner[loc.Archive](loc.Path)
	switch {
	case !ok:
		return loc, nil
	case inner.Path == "":
		return proto.Location{}, aDirectory(inner.Archive)
	}
	return inner, nil
}

// named is the location by the archive that a request names.
func (t *routes) named(target string, local net.Addr) (proto.Location, error) {
	var scheme, host string
	path := target
	if !strings.HasPrefix(target, "/") {
		var ok bool
		if scheme, host, path, ok = splitURL(target); !ok {
			return proto.Location{}, badRequest(`"` + quote(target) + `" is neither a path nor an http or https URL; ask for one that begins with / or http://`)
		}
	}
	// dnf and zypper add the query of a repository's URL to the URL of each of its files: a token of the host, as a rule.
	// It says who asks, and not for what. What this node needs to prove to upstream is configured here.
	path, _, _ = strings.Cut(path, "?")
	dir := strings.HasSuffix(path, "/")
	path, err := canonical(path)
	if err != nil {
		return proto.Location{}, badRequest("the path of this URL cannot be used: " + quote(err.Error()))
	}
	switch {
	case host == "":
		return t.below(path, dir)
	case strings.EqualFold(host, "https"): // http://HTTPS///host/path
		host, path, _ = strings.Cut(path, "/")
		return t.on("https", host, path, dir)
	}
	loc, err := t.on(scheme, host, path, dir)
	if r, ok := err.(*refusal); ok && r.reason == reasonHost && t.isOwn(host, local) {
		return t.below(path, dir)
	}
	return loc, err
}

// splitURL takes an absolute URL apart, leaving out its user information.
func splitURL(target string) (scheme, host, path string, ok bool) {
	scheme, rest, ok := strings.Cut(target, "://")
	if !ok || !strings.EqualFold(scheme, "http") && !strings.EqualFold(scheme, "https") {
		return "", "", "", false
	}
	end := strings.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	host, path = rest[:end], rest[end:]
	host = host[strings.LastIndexByte(host, '@')+1:]
	return scheme, host, path, host != ""
}

// below finds the location of a path on this node: a mapped URL, or one that names
// the upstream host.
func (t *routes) below(path string, dir bool) (proto.Location, error) {
	if path == "" {
		return proto.Location{}, &refusal{status: http.StatusNotAcceptable, reason: reasonRoot, text: "this is a cache for package repositories; its own page has nothing for a package manager"}
	}
	name := t.archiveOf(path)
	if t.classes != nil {
		if archive, rest, ok := t.classes.Named(path); ok && len(archive) > len(name) {
			return t.unmade(archive, rest, dir)
		}
	}
	if name != "" {
		return within(name, path, len(name), dir)
	}
	host, rest, _ := strings.Cut(path, "/")
	if strings.EqualFold(host, "https") {
		host, rest, _ = strings.Cut(rest, "/")
		return t.on("https", host, rest, dir)
	}
	loc, err := t.on("http", host, rest, dir)
	if r, ok := err.(*refusal); ok && r.status == http.StatusForbidden {
		if form := t.classForm(path); form != "" {
			class, _, _ := strings.Cut(form, "/*")
			return proto.Location{}, &refusal{
				status: http.StatusNotFound, reason: reasonPrefix,
				phrase: class + " is a class of archives: ask for " + form,
				text:   class + " is a class of archives: ask for " + form + ", with the value of an archive in the place of each *",
			}
		}
		return proto.Location{}, &refusal{
			status: http.StatusNotFound, reason: reasonPrefix,
			phrase: `add it under archives: of the node, or correct the URL: the node has no archive "` + quote(host) + `"; known are ` + t.known(),
			text:   `no archive "` + quote(host) + `" is configured: a path begins with a name under the config key archives: or with the host of its upstream; known are ` + t.known(),
		}
	}
	return loc, err
}

// archiveOf returns the longest archive name that path begins with, "" for none.
func (t *routes) archiveOf(path string) string {
	var longest string
	for end, n := 0, 0; n < t.depth && end < len(path); n++ {
		if i := strings.IndexByte(path[end:], '/'); i < 0 {
			end = len(path)
		} else {
			end += i
		}
		if _, ok := t.names[path[:end]]; ok {
			longest = path[:end]
		}
		end++
	}
	return longest
}

// on finds the location of a path on somebody's host.
func (t *routes) on(scheme, host, path string, dir bool) (proto.Location, error) {
	host = bareHost(host)
	exact, known := t.hosts[host]
	r := match(exact, scheme, path)
	for i := 0; r == nil && i < len(t.wild); i++ {
		if w := t.wild[i]; w.covers(host) {
			known = true
			r = match(w.routes, scheme, path)
		}
	}
	if t.classes != nil {
		// An archive that is there goes before one of a class at the same URL.
		if archive, rest, ok := t.classes.At(host, path); ok && (r == nil || len(path)-len(rest) > len(r.base)+1) {
			return t.unmade(archive, rest, dir)
		}
	}
	if r != nil {
		return within(r.archive, path, len(r.base), dir)
	}
	if known {
		return proto.Location{}, &refusal{
			status: http.StatusForbidden, reason: reasonHost,
			phrase: "add it under archives: of the node, or correct the URL: no archive has this path of " + quote(host),
			text:   "archives: has an archive on " + quote(host) + ", but none that this path belongs to; known are " + t.known(),
		}
	}
	return proto.Location{}, &refusal{
		status: http.StatusForbidden, reason: reasonHost,
		phrase: "add it under archives: of the node (as upstream or alias): this is no open proxy, and no archive is at " + quote(host),
		text:   `this is no open proxy and "` + quote(host) + `" is not the host of an archive: add it under the config key archives: as upstream or alias; known are ` + t.known(),
	}
}

// match returns the route with the longest base that path lies below, preferring
// the scheme asked for among equals.
func match(routes []route, scheme, path string) *route {
	var best *route
	for i := range routes {
		r := &routes[i]
		if best != nil && len(r.base) < len(best.base) {
			break
		}
		if r.base != "" && path != r.base && !(len(path) > len(r.base) && path[len(r.base)] == '/' && path[:len(r.base)] == r.base) {
			continue
		}
		if best == nil || strings.EqualFold(r.scheme, scheme) {
			best = r
		}
	}
	return best
}

// unmade is the location in an archive of a class. Where the archive is not there yet, its location comes with
// a *notMade.
func (t *routes) unmade(archive, rest string, dir bool) (proto.Location, error) {
	loc, err := within(archive, rest, 0, dir)
	if _, there := t.names[archive]; err != nil || there {
		return loc, err
	}
	return loc, &notMade{archive}
}

// notMade says that the archive of the location that comes with it is one of a class and has to be made first.
type notMade struct{ archive string }

func (e *notMade) Error() string { return "the archive " + e.archive + " is not there yet" }

// within cuts the base, of the given length, off a path.
func within(archive, path string, base int, dir bool) (proto.Location, error) {
	path = strings.TrimPrefix(path[base:], "/")
	if path == "" || dir {
		return proto.Location{}, aDirectory(archive)
	}
	return proto.Location{Archive: archive, Path: path}, nil
}

func aDirectory(archive string) error {
	return &refusal{
		status: http.StatusNotFound, reason: reasonDirectory,
		text: "this is a directory of the archive " + archive + ", and aptmesh lists none: ask for one of its files",
	}
}

// isOwn reports whether a proxy request for this host means the node itself. apt sends one
// if a machine has the node both as its proxy and in its sources. Only a port that the node
// listens at can mean the node. Names that the node does not know of may lead to it, so on a
// port of its own any name counts; but 80 and 443 are the ports of all other web servers, too.
func (t *routes) isOwn(host string, local net.Addr) bool {
	host = bareHost(host)
	if host == t.publicHost {
		return true
	}
	name, port := host, ""
	if i := strings.LastIndexByte(host, ':'); i >= 0 && !strings.HasSuffix(host, "]") {
		name, port = host[:i], host[i+1:]
	}
	at := t.listensAt(port, local)
	if len(at) == 0 {
		return false
	}
	name = strings.Trim(strings.TrimSuffix(name, "."), "[]")
	if _, ok := t.own[name]; ok || port != "" {
		return true
	}
	asked := net.ParseIP(name)
	return slices.ContainsFunc(at, func(address string) bool {
		ip, _, _ := net.SplitHostPort(address)
		bound := net.ParseIP(ip)
		return bound != nil && (bound.Equal(asked) || name == "localhost" && bound.IsLoopback())
	})
}

// isHere reports whether the host of a URL is this node itself for sure.
func (t *routes) isHere(host string) bool {
	host = bareHost(host)
	name, port := host, ""
	if i := strings.LastIndexByte(host, ':'); i >= 0 && !strings.HasSuffix(host, "]") {
		name, port = host[:i], host[i+1:]
	}
	name = strings.Trim(strings.TrimSuffix(name, "."), "[]")
	if _, ok := t.own[name]; ok || host == t.publicHost || name == "localhost" {
		return true
	}
	asked := net.ParseIP(name)
	return asked != nil && slices.ContainsFunc(t.listensAt(port, nil), func(address string) bool {
		ip, _, _ := net.SplitHostPort(address)
		bound := net.ParseIP(ip)
		return bound == nil || bound.Equal(asked) || bound.IsUnspecified() && isLocal(asked)
	})
}

// isLocal reports whether an address is one of this machine.
func isLocal(ip net.IP) bool {
	addrs, err := net.InterfaceAddrs()
	return err != nil || ip.IsLoopback() || slices.ContainsFunc(addrs, func(a net.Addr) bool {
		network, ok := a.(*net.IPNet)
		return ok && network.IP.Equal(ip)
	})
}

// listensAt are the addresses of this node with a port, as portOf has it. local is one that a request came in at; nil
// for none.
func (t *routes) listensAt(port string, local net.Addr) []string {
	var at []string
	if t.listens != nil {
		at = t.listens()
	}
	if tcp, ok := local.(*net.TCPAddr); ok {
		at = append(at, tcp.String())
	}
	return slices.DeleteFunc(at, func(address string) bool { return portOf(address) != port })
}

// portOf is the port of an address as it stands in bareHost: "" for 80 and 443.
func portOf(address string) string {
	_, port, _ := net.SplitHostPort(address)
	return strings.TrimPrefix(bareHost("x:" + port)[1:], ":")
}

// known lists the names of the archives for a message.
func (t *routes) known() string {
	var names []string
	for _, a := range t.archives {
		names = append(names, a.Name)
	}
	if t.classes != nil {
		names = append(t.classes.Forms(), names...)
	}
	if len(names) == 0 {
		return "none at all"
	}
	if len(names) > 20 {
		names = append(names[:20], "…")
	}
	return strings.Join(names, ", ")
}

// classForm is the form of the class whose name a path begins with, "" for none.
func (t *routes) classForm(path string) string {
	if t.classes == nil {
		return ""
	}
	for _, form := range t.classes.Forms() {
		if class, _, _ := strings.Cut(form, "/*"); strings.HasPrefix(path+"/", class+"/") {
			return form
		}
	}
	return ""
}
