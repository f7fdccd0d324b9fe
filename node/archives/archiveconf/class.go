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
	return !aptconf.IsMirrorList(a.Upstream) && strings.Contains(a.Upstream, "*")
}

// class checks the keys of a class.
func (c *checker) class(key string, a *Archive) {
	first, err := classes.Parse(a.Upstream)
	if err != nil {
		c.Problem(key+".upstream", "%v", err)
		return
	}
	if first.Stars() > 4 {
		c.Problem(key+".upstream", "%s has %d stars; 4 are the most", a.Upstream, first.Stars())
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
	if !a.Credentials.IsZero() && first.StarsInHost() > 0 {
		c.Problem(key+".credentials", "would be sent to whatever host a client names; give the host in full")
	}
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
		class, err := classes.New(a.Name, a.Upstream, a.Aliases)
		if err != nil {
			continue // class says so
		}
		if i := slices.IndexFunc(before, class.Overlaps); i >= 0 {
			c.Problem(keys.Entry(section, a.Name), "a URL can be of this class and of %s; a request for it could mean either", before[i].Name)
		}
		before = append(before, class)
	}
}
