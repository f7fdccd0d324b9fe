package archiveconf

import (
	"fmt"
	"slices"
	"strings"

	"github.com/aptmesh/aptmesh/node/aptconf"
	"github.com/aptmesh/aptmesh/node/classes"
	"github.com/aptmesh/aptmesh/node/config/keys"
)

// IsClass reports whether an archive of the configuration is a class of archives: package classes.
func (a Archive) IsClass() bool {
	mirrors := a.Mirrors()
	return len(mirrors) == 1 && !aptconf.IsMirrorList(mirrors[0].URL) && strings.Contains(mirrors[0].URL, "*")
}

// Member is an archive of the class a, with the settings of the class.
func (a Archive) Member(m classes.Member) Archive {
	a.Class, a.Name, a.Aliases, a.Led = m.Class, m.Name, m.Aliases, m.Led
	if a.Upstream != "" {
		a.Upstream = m.URL
		return a
	}
	a.Upstreams = slices.Clone(a.Upstreams) // the class has its own
	a.Upstreams[0].URL, a.Upstreams[0].Led = m.URL, m.Led
	return a
}

// class checks the keys of a class.
func (c *checker) class(key string, a *Archive) {
	at, k := a.Mirrors()[0], a.upstreamKeys(key, 0)
	first, err := classes.Parse(at.URL)
	if err != nil {
		c.Problem(k.url, "%v", err)
		return
	}
	if first.Stars() > 4 {
		c.Problem(k.url, "%s has %d stars; 4 are the most", at.URL, first.Stars())
	}
	for i, alias := range a.Aliases {
		p, err := classes.Parse(alias)
		switch {
		case err != nil:
			c.Problem(fmt.Sprintf("%s.aliases[%d]", key, i), "%v", err)
		case p.Stars() != first.Stars():
			c.Problem(fmt.Sprintf("%s.aliases[%d]", key, i), "%s has %d stars and the upstream has %d; the values of the first are those of the other", alias, p.Stars(), first.Stars())
		}
	}
	if a.History != "" {
		c.Problem(key+".history", "is not for a class of archives")
	}
	if first.StarsInHost() > 0 {
		const given = "to whatever host a client names; give the host in full"
		if !at.Credentials.IsZero() {
			c.Problem(k.credentials, "would be sent "+given)
		}
		if at.TLS.Cert != "" {
			c.Problem(k.at+".tls.cert", "would be shown "+given)
		}
	}
	u, err := aptconf.ParseRoot(at.URL)
	if err != nil {
		return // classes.Parse says so
	}
	if c.node.IsSelf(u) {
		c.Problem(k.url, "%s is this node itself; it would ask itself for ever", at.URL)
	}
	c.identity(k, &at, u)
}

// classes refuses what could mean either of two archives.
func (c *checker) classes() {
	var before classes.Set
	for _, a := range c.archives {
		if !a.IsClass() {
			continue
		}
		for _, other := range c.archives {
			if strings.HasPrefix(other.Name, a.Name+"/") {
				c.Problem(keys.Entry(section, other.Name), "the name is one that an archive of the class %s may have; choose another", a.Name)
			}
		}
		class, err := classes.New(a.Name, a.MainURL(), a.Aliases)
		if err != nil {
			continue // class says so
		}
		if i := slices.IndexFunc(before, class.Overlaps); i >= 0 {
			c.Problem(keys.Entry(section, a.Name), "a URL can be of this class and of %s; a request for it could mean either", before[i].Name)
		}
		before = append(before, class)
	}
}
