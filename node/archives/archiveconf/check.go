package archiveconf

import (
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/aptmesh/aptmesh/node/aptconf"
	"github.com/aptmesh/aptmesh/node/config/keys"
	"github.com/aptmesh/aptmesh/node/files"
	"github.com/aptmesh/aptmesh/node/otherlists"
	"github.com/aptmesh/aptmesh/node/upstream"
)

// section is the key of the archives.
const section = "archives"

// Node is what the archives of a configuration must fit to.
type Node struct {
	// IsSelf reports whether a URL leads to the node itself.
	IsSelf func(*url.URL) bool
	// Open says that every host may connect.
	Open bool
}

type checker struct {
	*keys.Checker
	node     Node
	archives Archives
}

// Check checks archives, except for what the tags of the keys say, and brings their URLs into their one
// spelling.
func Check(with *keys.Checker, archives Archives, node Node) {
	c := &checker{with, node, archives}
	claimed := make(map[string]string) // URL without scheme -> archive that has it
	for i := range archives {
		c.archive(&archives[i], claimed)
	}
	c.namesAndHosts()
	c.classes()
}

// archive checks one archive and brings its URLs into their one spelling.
func (c *checker) archive(a *Archive, claimed map[string]string) {
	key := keys.Entry(section, a.Name)
	c.name(key, a.Name)

	claim := func(key string, u *url.URL) {
		bare := u.Host + u.Path
		if other, twice := claimed[bare]; twice && other != a.Name {
			c.Problem(key, "%s belongs to archive %s already; a request for it could mean either", u, other)
		}
		claimed[bare] = a.Name
	}
	switch {
	case a.Upstream != "" && len(a.Upstreams) > 0:
		c.Problem(key+".upstreams", "stands beside `upstream`, which is its short form; keep one of the two")
	case a.Upstream == "" && len(a.Upstreams) > 0 && !a.Credentials.IsZero():
		c.Problem(key+".credentials", "are those of the one `upstream`; beside `upstreams` write them to the upstream they are for")
	}
	if a.IsClass() {
		c.class(key, a)
	} else {
		c.mirrors(key, a, claim)
		c.history(key+".history", a)
		if a.MaxArchives != 0 {
			c.Problem(key+".max_archives", "is for a class of archives, whose upstream has a * in it")
		}
		c.aliases(key, a, claim)
	}

	c.signatures(key, a)
	if a.hasCredentials() && len(a.Allow) == 0 && c.node.Open {
		c.Warning(key, "has credentials and no `allow`: everybody who reaches this node can read it")
	}
}

// aliases checks the other URLs of an archive.
func (c *checker) aliases(key string, a *Archive, claim func(key string, u *url.URL)) {
	for i, alias := range a.Aliases {
		aliasKey := fmt.Sprintf("%s.aliases[%d]", key, i)
		u, err := archiveURL(alias, true)
		if err != nil {
			c.Problem(aliasKey, "%v", err)
			continue
		}
		a.Aliases[i] = u.String()
		claim(aliasKey, u)
	}
}

// validName matches what can stand in a URL without escaping.
var validName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*$`)

func (c *checker) name(key, name string) {
	first, _, _ := strings.Cut(name, "/")
	switch {
	case len(name) > 200 || !validName.MatchString(name):
		c.Problem(key, "%q cannot be the name of an archive: it becomes part of URLs, so use letters, digits and - . _ , as in debian-security", name)
	case strings.EqualFold(first, "http") || strings.EqualFold(first, "https"):
		c.Problem(key, "%q cannot be the name of an archive: hosts ask for http://HTTPS///host/path when they want https", name)
	case first == "snapshot":
		c.Problem(key, "%q cannot be the name of an archive: URLs of snapshots begin with /snapshot/", name)
	}
}

// namesAndHosts refuses a name that is also the host of an archive, because
// http://node/HOST/path means that archive. An archive at the root of its host may have the
// host's name: both readings are the same.
func (c *checker) namesAndHosts() {
	for _, a := range c.archives {
		first, _, _ := strings.Cut(a.Name, "/")
		for _, other := range c.archives {
			if host, ok := other.mirrorOn(first); ok && (other.Name != a.Name || host.Path != "" || a.Name != first) {
				c.Problem(keys.Entry(section, a.Name), "the name is also the host of %s; http://node:3142/%s/ could mean either, so choose another", host.Redacted(), first)
				break
			}
		}
	}
}

// mirrorOn finds the mirror of the archive that is on a host.
func (a Archive) mirrorOn(host string) (*url.URL, bool) {
	for _, m := range a.MirrorURLs() {
		if u, err := url.Parse(m); err == nil && strings.EqualFold(u.Host, host) {
			return u, true
		}
	}
	return nil, false
}

// archiveURL reads the URL of an archive that is no class; wild allows a host that begins with "*.".
func archiveURL(s string, wild bool) (*url.URL, error) {
	u, err := aptconf.ParseRoot(s)
	if err != nil {
		return nil, err
	}
	host := u.Hostname()
	if before, after, ok := strings.Cut(host, "*"); wild && ok && (before == "" || strings.HasSuffix(before, ".")) && strings.HasPrefix(after, ".") {
		host = after
	}
	switch {
	case (strings.Contains(host, "*") || host == "") && wild:
		return nil, fmt.Errorf(`%s: a * may only be one label of the host, and not the last, as in http://*.archive.ubuntu.com/ubuntu`, s)
	case strings.Contains(host, "*"):
		return nil, fmt.Errorf("%s: a * is for aliases; upstream is the one URL that is asked", s)
	case strings.Contains(u.Path, "*"):
		return nil, fmt.Errorf("%s: a * in the path makes a class of archives, and that has one upstream, and aliases with as many stars", s)
	}
	return u, nil
}

// SuiteProblem says why a text is not the name of a suite as apt accepts it in sources.list; "" if it is.
func SuiteProblem(suite string) string {
	if suite == "" || strings.HasPrefix(suite, "/") && suite != "/" || strings.ContainsAny(suite, " \t\\") ||
		slices.Contains(strings.Split(suite, "/"), "..") {
		return fmt.Sprintf(`%q is not a suite: write it as in sources.list, such as noble-updates, or "./" for a flat repository`, suite)
	}
	return ""
}

// upstreamKeys are the keys of one upstream of an archive.
type upstreamKeys struct {
	at, url, credentials string // of all that it says, and of two parts of it
}

// upstreamKeys are the keys of an archive's upstream i. key is that of the archive.
func (a *Archive) upstreamKeys(key string, i int) upstreamKeys {
	if a.Upstream != "" {
		return upstreamKeys{key + ".upstream", key + ".upstream", key + ".credentials"}
	}
	at := fmt.Sprintf("%s.upstreams[%d]", key, i)
	k := upstreamKeys{at, at, at + ".credentials"}
	if !keys.IsShort(a.Upstreams[i]) {
		k.url += ".url"
	}
	return k
}

// mirrors checks the upstreams of an archive, and normalizes their URLs. claim is called with
// every URL that now means this archive.
func (c *checker) mirrors(key string, a *Archive, claim func(key string, u *url.URL)) {
	switch {
	case a.Upstream != "" && len(a.Upstreams) > 0:
		return // archive says so
	case a.Upstream != "":
		only := a.Mirrors()[0]
		c.mirror(a.upstreamKeys(key, 0), &only, claim)
		a.Upstream = only.URL
		return
	case a.Upstreams == nil:
		c.Problem(key+".upstream", "is missing: the URL of the archive, such as http://archive.ubuntu.com/ubuntu")
		return
	case len(a.Upstreams) == 0:
		c.Problem(key+".upstreams", "names no mirror: write at least one URL of the archive, such as http://archive.ubuntu.com/ubuntu")
		return
	}
	first := make(map[string]string) // URL -> key of the upstream that has it
	for i := range a.Upstreams {
		at, k := &a.Upstreams[i], a.upstreamKeys(key, i)
		if c.mirror(k, at, claim) {
			if other, twice := first[at.URL]; twice {
				c.Problem(k.url, "%s is in %s already", at.URL, other)
			}
			first[at.URL] = fmt.Sprintf("upstreams[%d]", i)
		}
	}
}

// mirror checks one upstream and reports whether its URL is of use.
func (c *checker) mirror(k upstreamKeys, at *Mirror, claim func(key string, u *url.URL)) bool {
	if aptconf.IsMirrorList(at.URL) {
		c.tls(k.at+".tls", at.TLS)
		return c.mirrorList(k, at)
	}
	if at.URL == "" {
		c.Problem(k.url, "is missing: the URL of the archive on this upstream")
		return false
	}
	u, err := archiveURL(at.URL, false)
	if err != nil {
		c.Problem(k.url, "%v", err)
		return false
	}
	if c.node.IsSelf(u) {
		c.Problem(k.url, "%s is this node itself; it would ask itself for ever", u)
		return false
	}
	at.URL = u.String()
	claim(k.url, u)
	c.distsInside(k.url, u)
	c.identity(k, at, u)
	return true
}

// identity checks how this node and an upstream know each other.
func (c *checker) identity(k upstreamKeys, at *Mirror, u *url.URL) {
	c.credentials(k.credentials, at.Credentials, u)
	if c.tls(k.at+".tls", at.TLS); !at.TLS.IsZero() && u.Scheme == "http" {
		c.Problem(k.at+".tls", "means nothing for %s, which is asked without encryption; write https", at.URL)
	}
}

// distsInside warns of an upstream that is the directory of a suite, as a browser shows it, instead of
// the archive's root. It is no error: apt takes this directory for a flat repository, reads its root and
// continues, even if the root lists no packages for it.
func (c *checker) distsInside(key string, u *url.URL) {
	root, _, inside := strings.Cut(u.String()+"/", "/dists/")
	if !inside {
		return
	}
	if _, known := aptconf.Lookup(root); known {
		c.Warning(key, "%s lies inside the archive: leave out /dists and what follows, as in %s", u, root)
		return
	}
	c.Warning(key, "%s looks like a directory inside an archive; if hosts name a suite behind the URL, leave out /dists and what follows, as in %s", u, root)
}

// mirrorList checks an upstream that is a list of mirrors.
func (c *checker) mirrorList(k upstreamKeys, at *Mirror) bool {
	list, err := aptconf.ParseListURL(at.URL)
	if err != nil {
		c.Problem(k.url, "%v", err)
		return false
	}
	if !at.Credentials.IsZero() {
		c.Problem(k.credentials, "would be sent to every mirror that the list names; write the mirror they are for as an upstream of its own")
	}
	switch {
	case list.URL != nil && c.node.IsSelf(list.URL):
		c.Problem(k.url, "%s is this node itself; it would ask itself for ever", list.URL)
		return false
	case list.File != "":
		if !c.File(k.url, list.File, func(string) error { _, err := ReadListFile(list); return err }) {
			return false
		}
	}
	at.URL = list.String()
	return true
}

// ReadListFile reads a list of mirrors on disk.
func ReadListFile(list aptconf.ListURL) ([]aptconf.ListedMirror, error) {
	text, err := files.ReadBounded(list.File, aptconf.MaxMirrorList)
	if err != nil {
		return nil, err
	}
	mirrors, _, err := otherlists.Parse(list.File, text, list.Below)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", list.File, err)
	}
	return mirrors, nil
}

// tls checks the files of one upstream's connections.
func (c *checker) tls(key string, t upstream.TLSFiles) {
	c.File(key+".ca", t.CA, func(name string) error { _, err := upstream.ReadRoots(name); return err })
	c.KeyPair(key, t.Cert, t.Key)
}

// history checks the URL of a history service and brings it into its one spelling.
func (c *checker) history(key string, a *Archive) {
	if a.History == "" {
		return
	}
	u, err := archiveURL(a.History, false)
	if err != nil {
		c.Problem(key, "%v", err)
		return
	}
	switch _, err := upstream.HistoryURL(u); {
	case err != nil:
		c.Problem(key, "%s: %v", a.History, err)
	case c.node.IsSelf(u):
		c.Problem(key, "%s is this node itself; it would ask itself for ever", u)
	default:
		a.History = upstream.ShowDates(u.String())
	}
}

func (c *checker) credentials(key string, cred upstream.Credentials, at *url.URL) {
	password, bearer := !cred.Password.IsZero(), !cred.Bearer.IsZero()
	if cred.IsZero() {
		return
	}
	switch {
	case password && cred.PasswordFile != "":
		c.Problem(key, "password and password_file are two places for one secret; keep one")
	case bearer && cred.BearerFile != "":
		c.Problem(key, "bearer and bearer_file are two places for one secret; keep one")
	case !cred.Query.IsZero() && cred.QueryFile != "":
		c.Problem(key, "query and query_file are two places for one secret; keep one")
	case (bearer || cred.BearerFile != "") && (cred.User != "" || password || cred.PasswordFile != ""):
		c.Problem(key, "a bearer token takes the place of user and password; keep one of the two ways")
	case (password || cred.PasswordFile != "") && cred.User == "":
		c.Problem(key, "a password needs its user")
	}
	if at.Scheme == "http" {
		c.Warning(key, "are sent to %s without encryption", at.Host)
	}
}
