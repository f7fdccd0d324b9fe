package config

import (
	"fmt"
	"net/url"
	"strings"

	"github.com/aptmesh/aptmesh/node/aptconf"
)

// maxRank bounds priority and weight of an upstream.
const maxRank = 1000

// mirrors checks what an archive is fetched from, and brings the URLs into their
// one spelling. claim is told of every URL that now means this archive.
func (c *checker) mirrors(key string, a *Archive, claim func(key string, u *url.URL)) {
	switch {
	case a.Upstream != "" && len(a.Upstreams) > 0:
		c.problem(key+".upstreams", "stands beside `upstream`, which is its short form; keep one of the two")
		return
	case a.Upstream != "":
		only := a.Mirrors()[0]
		c.mirror(key+".upstream", key+".upstream", key+".credentials", &only, claim)
		a.Upstream = only.URL
		return
	case a.Upstreams == nil:
		c.problem(key+".upstream", "is missing: the URL of the archive, such as http://archive.ubuntu.com/ubuntu")
		return
	case len(a.Upstreams) == 0:
		c.problem(key+".upstreams", "names no mirror: write at least one URL of the archive, such as http://archive.ubuntu.com/ubuntu")
		return
	case !a.Credentials.IsZero():
		c.problem(key+".credentials", "are those of the one `upstream`; beside `upstreams` write them to the upstream they are for")
	}
	first := make(map[string]string) // URL -> key of the upstream that has it
	for i := range a.Upstreams {
		at := &a.Upstreams[i]
		atKey := fmt.Sprintf("%s.upstreams[%d]", key, i)
		urlKey := atKey
		if !at.isSimple() {
			urlKey += ".url"
		}
		if c.mirror(atKey, urlKey, atKey+".credentials", at, claim) {
			if other, twice := first[at.URL]; twice {
				c.problem(urlKey, "%s is in %s already", at.URL, other)
			}
			first[at.URL] = fmt.Sprintf("upstreams[%d]", i)
		}
	}
}

// mirror checks one upstream and reports whether its URL is of use.
func (c *checker) mirror(key, urlKey, credentialsKey string, at *Mirror, claim func(key string, u *url.URL)) bool {
	if at.Priority < 1 || at.Priority > maxRank {
		c.problem(key+".priority", "%d is not between 1, which is asked first, and %d", at.Priority, maxRank)
	}
	if at.Weight < 1 || at.Weight > maxRank {
		c.problem(key+".weight", "%d is not between 1 and %d", at.Weight, maxRank)
	}
	if aptconf.IsMirrorList(at.URL) {
		c.tls(key+".tls", at.TLS)
		return c.mirrorList(urlKey, credentialsKey, at)
	}
	if at.URL == "" {
		c.problem(urlKey, "is missing: the URL of the archive on this upstream")
		return false
	}
	u, err := archiveURL(at.URL, false)
	if err != nil {
		c.problem(urlKey, "%v", err)
		return false
	}
	if c.cfg.IsSelf(u) {
		c.problem(urlKey, "%s is this node itself; it would ask itself for ever", u)
		return false
	}
	at.URL = u.String()
	claim(urlKey, u)
	c.credentials(credentialsKey, at.Credentials, u)
	if c.tls(key+".tls", at.TLS); !at.TLS.IsZero() && u.Scheme == "http" {
		c.problem(key+".tls", "means nothing for %s, which is asked without encryption; write https", u)
	}
	return true
}

// mirrorList checks an upstream that is a list of mirrors.
func (c *checker) mirrorList(urlKey, credentialsKey string, at *Mirror) bool {
	list, err := aptconf.ParseListURL(at.URL)
	if err != nil {
		c.problem(urlKey, "%v", err)
		return false
	}
	if !at.Credentials.IsZero() {
		c.problem(credentialsKey, "would be sent to every mirror that the list names; write the mirror they are for as an upstream of its own")
	}
	switch {
	case list.URL != nil && c.cfg.IsSelf(list.URL):
		c.problem(urlKey, "%s is this node itself; it would ask itself for ever", list.URL)
		return false
	case list.File != "":
		if err := c.listFile(list.File); err != nil {
			c.problem(urlKey, "%s", fileTrouble(list.File, err, ""))
			return false
		}
	}
	at.URL = list.String()
	return true
}

// ReadListFile reads a list of mirrors on disk.
func ReadListFile(name string) ([]aptconf.ListedMirror, error) {
	text, err := ReadBounded(name, aptconf.MaxMirrorList)
	if err != nil {
		return nil, err
	}
	mirrors, _, err := aptconf.ParseMirrorList(name, text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return mirrors, nil
}

// tls checks the files of one upstream's connections.
func (c *checker) tls(key string, t MirrorTLS) {
	if t.CA != "" {
		if err := c.authorities(t.CA); err != nil {
			c.problem(key+".ca", "%s", fileTrouble(t.CA, err, ""))
		}
	}
	if (t.Cert == "") != (t.Key == "") {
		c.problem(key, "cert and key go together; one of them is missing")
		return
	}
	if t.Cert != "" && c.file(key+".cert", t.Cert) && c.file(key+".key", t.Key) {
		if err := c.keyPair(t.Cert, t.Key); err != nil {
			c.problem(key, "cert and key cannot be used: %v", err)
		}
	}
}

// snapshotTime is what stands in the URL of a snapshot service for the moment.
const snapshotTime = "{timestamp}"

// snapshot checks the URL of a snapshot service and brings it into its one
// spelling.
func (c *checker) snapshot(key string, a *Archive) {
	if a.Snapshot == "" {
		return
	}
	u, err := archiveURL(a.Snapshot, false)
	switch {
	case err != nil:
		c.problem(key, "%v", err)
	case strings.Count(u.Path, snapshotTime) != 1:
		c.problem(key, "%s needs %s once in its path, in the place of the date: write it as https://snapshot.ubuntu.com/ubuntu/%s", a.Snapshot, snapshotTime, snapshotTime)
	case c.cfg.IsSelf(u):
		c.problem(key, "%s is this node itself; it would ask itself for ever", u)
	default:
		a.Snapshot = strings.ReplaceAll(u.String(), url.PathEscape(snapshotTime), snapshotTime)
	}
}

// networks checks a list of client networks.
func (c *checker) networks(key string, list []string) {
	for i, text := range list {
		if _, err := parseNetwork(text); err != nil {
			c.problem(fmt.Sprintf("%s[%d]", key, i), "%v", err)
		}
	}
}

func (c *checker) credentials(key string, cred Credentials, upstream *url.URL) {
	password, bearer := !cred.Password.IsZero(), !cred.Bearer.IsZero()
	if cred.IsZero() {
		return
	}
	switch {
	case password && cred.PasswordFile != "":
		c.problem(key, "password and password_file are two places for one secret; keep one")
	case bearer && cred.BearerFile != "":
		c.problem(key, "bearer and bearer_file are two places for one secret; keep one")
	case (bearer || cred.BearerFile != "") && (cred.User != "" || password || cred.PasswordFile != ""):
		c.problem(key, "a bearer token takes the place of user and password; keep one of the two ways")
	case (password || cred.PasswordFile != "") && cred.User == "":
		c.problem(key, "a password needs its user")
	}
	c.file(key+".password_file", cred.PasswordFile)
	c.file(key+".bearer_file", cred.BearerFile)
	if upstream.Scheme == "http" {
		c.warning(key, "are sent to %s without encryption", upstream.Host)
	}
}
