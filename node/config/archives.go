package config

import (
	"errors"
	"fmt"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aptmesh/aptmesh/node/aptconf"
)

// archiveKey is the path of an archive's section. A name with a dot is quoted, so
// that no two paths are alike.
func archiveKey(name string) string { return "archives." + segment(name) }

func segment(name string) string {
	if strings.ContainsAny(name, `."[]`) {
		return strconv.Quote(name)
	}
	return name
}

func (c *checker) allArchives() {
	if len(c.cfg.Archives) == 0 {
		c.problem("archives", "names no archive; leave the key out to serve those of this machine's own apt")
	}
	claimed := make(map[string]string) // URL without scheme -> archive that has it
	for i := range c.cfg.Archives {
		c.archive(&c.cfg.Archives[i], claimed)
	}
	c.namesAndHosts()
}

// archive checks one archive and brings its URLs into their one spelling.
func (c *checker) archive(a *Archive, claimed map[string]string) {
	key := archiveKey(a.Name)
	c.name(key, a.Name)

	claim := func(key string, u *url.URL) {
		bare := u.Host + u.Path
		if other, twice := claimed[bare]; twice && other != a.Name {
			c.problem(key, "%s belongs to archive %s already; a request for it could mean either", u, other)
		}
		claimed[bare] = a.Name
	}
	c.mirrors(key, a, claim)
	c.snapshot(key+".snapshot", a)
	for i, alias := range a.Aliases {
		aliasKey := fmt.Sprintf("%s.aliases[%d]", key, i)
		u, err := archiveURL(alias, true)
		if err != nil {
			c.problem(aliasKey, "%v", err)
			continue
		}
		a.Aliases[i] = u.String()
		claim(aliasKey, u)
	}

	c.signatures(key, a)
	c.networks(key+".allow", a.Allow)
	c.networks(key+".deny", a.Deny)
	if a.hasCredentials() && len(a.Allow) == 0 && len(c.cfg.Clients.Allow) == 0 {
		c.warning(key, "has credentials and no `allow`: whoever reaches this node can read it")
	}
	c.suites(key+".suites", a.Suites)
	c.suites(key+".unsigned_suites", a.UnsignedSuites)
	if a.CheckEvery < time.Second {
		c.problem(key+".check_every", "must be at least 1s")
	}
	if a.MaxFuture < time.Second {
		c.problem(key+".max_future", "must be at least 1s")
	}
}

func (c *checker) suites(key string, suites []string) {
	for i, suite := range suites {
		if !validSuite(suite) {
			c.problem(fmt.Sprintf("%s[%d]", key, i), `%q is not a suite: write it as in sources.list, such as noble-updates, or "./" for a flat repository`, suite)
		}
	}
}

// validName matches what can stand in a URL without escaping.
var validName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*$`)

func (c *checker) name(key, name string) {
	first, _, _ := strings.Cut(name, "/")
	switch {
	case len(name) > 200 || !validName.MatchString(name):
		c.problem(key, "%q cannot be the name of an archive: it becomes part of URLs, so use letters, digits and - . _ , as in debian-security", name)
	case strings.EqualFold(first, "http") || strings.EqualFold(first, "https"):
		c.problem(key, "%q cannot be the name of an archive: hosts ask for http://HTTPS///host/path when they want https", name)
	}
}

// namesAndHosts refuses a name that is also the host of an archive, for
// http://node/HOST/path is a way to ask for that archive. An archive that is the
// whole of its host may be called after it: both readings are the same.
func (c *checker) namesAndHosts() {
	for _, a := range c.cfg.Archives {
		first, _, _ := strings.Cut(a.Name, "/")
		for _, other := range c.cfg.Archives {
			if host, ok := other.mirrorOn(first); ok && (other.Name != a.Name || host.Path != "" || a.Name != first) {
				c.problem(archiveKey(a.Name), "the name is also the host of %s; http://node:3142/%s/ could mean either, so choose another", host.Redacted(), first)
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

// archiveURL reads the URL of an archive; wild allows a host that begins with "*.".
func archiveURL(s string, wild bool) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil || u.Hostname() == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return nil, errors.New("is not an http or https URL with a host, such as http://archive.ubuntu.com/ubuntu")
	}
	host := u.Hostname()
	if before, after, ok := strings.Cut(host, "*"); wild && ok && (before == "" || strings.HasSuffix(before, ".")) && strings.HasPrefix(after, ".") {
		host = after
	}
	switch {
	case u.User != nil:
		return nil, fmt.Errorf("%s holds a user or password; write them under credentials", u.Redacted())
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return nil, fmt.Errorf("%s has a query or fragment, which the URL of an archive cannot have", s)
	case strings.Contains(host, "*") || host == "":
		if wild {
			return nil, fmt.Errorf(`%s: a * may only be one label of the host, and not the last, as in http://*.archive.ubuntu.com/ubuntu`, s)
		}
		return nil, fmt.Errorf("%s: a * is for aliases; upstream is the one URL that is asked", s)
	case slices.Contains(strings.Split(u.Path, "/"), ".."):
		return nil, fmt.Errorf(`%s: ".." has no place in the URL of an archive`, s)
	}
	return aptconf.Canonical(u), nil
}

// signatures checks that somebody vouches for the archive, or that the
// configuration says in so many words that nobody does.
func (c *checker) signatures(key string, a *Archive) {
	if a.Unsigned {
		if len(a.SignedBy) > 0 || len(a.UnsignedSuites) > 0 {
			c.problem(key, "signed_by or unsigned_suites and `unsigned: true` contradict each other; drop one")
			return
		}
		c.warning(key, "accepts anything its upstream sends, for it is `unsigned: true`")
		return
	}
	for i, suite := range a.UnsignedSuites {
		c.warning(fmt.Sprintf("%s.unsigned_suites[%d]", key, i), "accepts anything its upstream sends in %s", suite)
	}
	if len(a.SignedBy) == 0 && len(a.UnsignedSuites) == 0 {
		c.problem(key+".signed_by", "is missing: the keyring that vouches for the archive%s, or a directory of keyrings; or `unsigned: true` to accept it without any signature", keyringHint(a.MainURL()))
	}
	for i, entry := range a.SignedBy {
		entryKey := fmt.Sprintf("%s.signed_by[%d]", key, i)
		if strings.Contains(entry, "\n") && !IsInlineKey(entry) {
			c.problem(entryKey, "is neither the path of a keyring nor an armoured key block, which begins with %s", keyBlock)
			continue
		}
		switch trouble, err := c.keyring(entry); {
		case err != nil:
			c.problem(entryKey, "%s", fileTrouble(entry, err, keyringHint(a.MainURL())))
		case trouble != "":
			c.warning(entryKey, "%s", trouble)
		}
	}
}

// keyringHint says which keyring signs an archive that everybody knows.
func keyringHint(upstream string) string {
	k, ok := aptconf.Lookup(upstream)
	if !ok {
		return ""
	}
	return fmt.Sprintf(" (%s; install the package %s, or copy the file from a host that has it)", k.Keyring, k.Package)
}

// validSuite accepts the names apt does in sources.list.
func validSuite(suite string) bool {
	if suite == "" || strings.HasPrefix(suite, "/") && suite != "/" || strings.ContainsAny(suite, " \t\\") {
		return false
	}
	return !slices.Contains(strings.Split(suite, "/"), "..") && path.Clean(suite) != ".."
}
