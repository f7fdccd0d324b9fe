package config

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/aptmesh/aptmesh/node/aptconf"
)

// A class is an entry of archives whose URL is a pattern, such as http://ppa.launchpadcontent.net/*/*/ubuntu.
// Each set of values for its stars is an archive of its own, with the settings of the class: a member, called
// CLASS/VALUE/VALUE. All nodes derive the same name from the same URL, and the URL from the name.

// defaultMaxArchives bounds the members of a class where max_archives is left out.
const defaultMaxArchives = 100

// Most is how many members the class may have at one time.
func (c Class) Most() int { return cmp.Or(c.MaxArchives, defaultMaxArchives) }

// maxValue bounds the value of one star in bytes; Launchpad's names are shorter.
const maxValue = 80

// IsClass reports whether an archive of the configuration is a class.
func (a Archive) IsClass() bool {
	return !aptconf.IsMirrorList(a.Upstream) && strings.Contains(a.Upstream, "*")
}

// Classes are the classes of a configuration. They are never changed, and safe for concurrent use.
type Classes []Class

// Class is one of them.
type Class struct {
	Archive
	patterns []pattern // of the upstream, then of the aliases
}

// pattern is a URL with stars, each of which stands for one element of the path or one label of the host.
type pattern struct {
	host, port string
	labels     []string
	elements   []string
}

// Split takes the classes of a configuration apart from its archives.
func (c *Config) Split() (archives Archives, classes Classes) {
	for _, a := range c.Archives {
		if !a.IsClass() {
			archives = append(archives, a)
			continue
		}
		class := Class{Archive: a}
		for _, at := range append([]string{a.Upstream}, a.Aliases...) {
			if p, err := parsePattern(at); err == nil {
				class.patterns = append(class.patterns, p)
			}
		}
		classes = append(classes, class)
	}
	return archives, classes
}

// WithMembers returns a copy of the configuration in which members of its classes, by their names, stand beside the other
// archives, and the classes apart. Names of no class are left out. What the configuration itself has at a member's URL
// goes before the member.
func (c *Config) WithMembers(names []string) *Config {
	next := *c
	next.Archives, next.Classes = c.Split()
	next.Archives = slices.Clone(next.Archives)
	own := make(map[string]bool)
	for _, a := range next.Archives {
		for _, at := range slices.Concat(a.MirrorURLs(), a.Aliases) {
			own[bareURL(at)] = true
		}
	}
	for _, name := range names {
		m, rest, ok := next.Classes.Named(name)
		if !ok || rest != "" || own[bareURL(m.Upstream)] {
			continue
		}
		m.Aliases = slices.DeleteFunc(m.Aliases, func(at string) bool { return own[bareURL(at)] })
		next.Archives = append(next.Archives, m)
	}
	return &next
}

func bareURL(at string) string {
	_, bare, _ := strings.Cut(at, "://")
	return bare
}

// parsePattern reads the URL of a class. The error completes a sentence that begins with the key.
func parsePattern(s string) (pattern, error) {
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https":
		return pattern{}, errors.New("is not an http or https URL with a host, such as http://ppa.launchpadcontent.net/*/*/ubuntu")
	case u.User != nil:
		return pattern{}, fmt.Errorf("%s holds a user or password; write them under credentials", u.Redacted())
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return pattern{}, fmt.Errorf("%s has a query or fragment, which the URL of an archive cannot have", s)
	}
	u = aptconf.Canonical(u)
	p := pattern{host: u.Hostname(), port: u.Port(), labels: strings.Split(u.Hostname(), "."), elements: strings.Split(strings.Trim(u.Path, "/"), "/")}
	if u.Path == "" {
		p.elements = nil
	}
	for _, part := range slices.Concat(p.labels, p.elements) {
		if part != "*" && strings.Contains(part, "*") {
			return pattern{}, fmt.Errorf("%s: a * stands for one whole element of the path, or one whole label of the host; %q is neither", s, part)
		}
		if part == ".." {
			return pattern{}, fmt.Errorf(`%s: ".." has no place in the URL of an archive`, s)
		}
	}
	if n := len(p.labels); slices.Contains(p.labels[max(n-2, 0):], "*") {
		return pattern{}, fmt.Errorf("%s: the last two labels of the host must be given, because whoever asks chooses what a * is", s)
	}
	return p, nil
}

// stars is the number of values that a member has.
func (p pattern) stars() int {
	n := 0
	for _, part := range slices.Concat(p.labels, p.elements) {
		if part == "*" {
			n++
		}
	}
	return n
}

// overlaps reports whether one URL can be the root of an archive of both.
func (p pattern) overlaps(o pattern) bool {
	alike := func(a, b []string) bool {
		return slices.EqualFunc(a, b, func(x, y string) bool { return x == y || x == "*" || y == "*" })
	}
	return p.port == o.port && alike(p.labels, o.labels) && alike(p.elements, o.elements)
}

// match returns the values with which a host and the beginning of a path are a member's.
func (p pattern) match(host, port string, elements []string) (values []string, ok bool) {
	labels := strings.Split(host, ".")
	if port != p.port || len(labels) != len(p.labels) || len(elements) < len(p.elements) {
		return nil, false
	}
	take := func(pattern, given []string) bool {
		for i, part := range pattern {
			switch {
			case part == "*" && validValue(given[i]):
				values = append(values, given[i])
			case part != given[i]:
				return false
			}
		}
		return true
	}
	if !take(p.labels, labels) || !take(p.elements, elements) {
		return nil, false
	}
	return values, true
}

// validValue reports whether a star can stand for this: what is plain in a URL, and no name that means something in one.
func validValue(v string) bool {
	if v == "" || len(v) > maxValue || v[0] == '.' || v[0] == '-' {
		return false
	}
	return !strings.ContainsFunc(v, func(c rune) bool {
		return !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("._~+-", c))
	})
}

// validLabel reports whether a value can be a label of a host.
func validLabel(v string) bool {
	return validValue(v) && !strings.ContainsAny(v, "._~+") && v == strings.ToLower(v)
}

// fill is the URL of a member at this pattern.
func (p pattern) fill(scheme string, values []string) string {
	put := func(parts []string) []string {
		filled := slices.Clone(parts)
		for i, part := range parts {
			if part == "*" {
				filled[i], values = values[0], values[1:]
			}
		}
		return filled
	}
	host := strings.Join(put(p.labels), ".")
	if p.port != "" {
		host += ":" + p.port
	}
	return strings.TrimSuffix(scheme+"://"+host+"/"+strings.Join(put(p.elements), "/"), "/")
}

// member is the archive of the class with these values.
func (c Class) member(values []string) (Archive, bool) {
	if len(c.patterns) == 0 || len(values) != c.patterns[0].stars() {
		return Archive{}, false
	}
	inHost := len(values) - len(slices.DeleteFunc(slices.Clone(c.patterns[0].elements), func(e string) bool { return e != "*" }))
	for i, v := range values {
		if !validValue(v) || i < inHost && !validLabel(v) {
			return Archive{}, false
		}
	}
	a := c.Archive
	a.Name, a.Aliases = c.Name+"/"+strings.Join(values, "/"), nil
	scheme, _, _ := strings.Cut(c.Upstream, "://")
	a.Upstream = c.patterns[0].fill(scheme, values)
	for _, p := range c.patterns[1:] {
		a.Aliases = append(a.Aliases, p.fill("http", values))
	}
	if inHost > 0 {
		a.Led = true
	}
	return a, true
}

// At finds the member that a URL lies in: host is in lower case and without a port that a scheme implies, path without a
// slash at either end. rest is the path within the archive. Where the URL fits several patterns, the longest
// counts; two of one length cannot fit one URL.
func (cs Classes) At(host, path string) (member Archive, rest string, ok bool) {
	if len(cs) == 0 {
		return Archive{}, "", false
	}
	name, port, _ := strings.Cut(host, ":")
	elements := strings.Split(path, "/")
	length := -1
	for _, c := range cs {
		for _, p := range c.patterns {
			if len(p.elements) <= length {
				continue
			}
			values, fits := p.match(name, port, elements)
			if !fits {
				continue
			}
			if m, valid := c.member(values); valid {
				member, ok, length = m, true, len(p.elements)
			}
		}
	}
	if !ok {
		return Archive{}, "", false
	}
	return member, strings.Join(elements[length:], "/"), true
}

// Named finds the member whose name a path begins with. rest is the path within the archive.
func (cs Classes) Named(path string) (member Archive, rest string, ok bool) {
	for _, c := range cs {
		below, in := strings.CutPrefix(path, c.Name+"/")
		if !in || len(c.patterns) == 0 {
			continue
		}
		parts := strings.SplitN(below, "/", c.patterns[0].stars()+1)
		if len(parts) < c.patterns[0].stars() {
			continue
		}
		if m, valid := c.member(parts[:c.patterns[0].stars()]); valid {
			return m, strings.Join(parts[c.patterns[0].stars():], "/"), true
		}
	}
	return Archive{}, "", false
}

// Forms are the names that members have, with a * for each value.
func (cs Classes) Forms() (forms []string) {
	for _, c := range cs {
		if len(c.patterns) > 0 {
			forms = append(forms, c.Name+strings.Repeat("/*", c.patterns[0].stars()))
		}
	}
	return forms
}

// Of returns the class that an archive of this name is a member of.
func (cs Classes) Of(name string) (Class, bool) {
	i := slices.IndexFunc(cs, func(c Class) bool { return strings.HasPrefix(name, c.Name+"/") })
	if i < 0 {
		return Class{}, false
	}
	return cs[i], true
}

// class checks the keys of a class.
func (c *checker) class(key string, a *Archive) {
	first, err := parsePattern(a.Upstream)
	if err != nil {
		c.problem(key+".upstream", "%v", err)
		return
	}
	if first.stars() > 4 {
		c.problem(key+".upstream", "%s has %d stars; 4 are the most", a.Upstream, first.stars())
	}
	for i, alias := range a.Aliases {
		p, err := parsePattern(alias)
		switch {
		case err != nil:
			c.problem(fmt.Sprintf("%s.aliases[%d]", key, i), "%v", err)
		case p.stars() != first.stars():
			c.problem(fmt.Sprintf("%s.aliases[%d]", key, i), "%s has %d stars and the upstream has %d; the values of the first are those of the other", alias, p.stars(), first.stars())
		}
	}
	if a.Snapshot != "" {
		c.problem(key+".snapshot", "is not for a class of archives")
	}
	if !a.Credentials.IsZero() && slices.Contains(first.labels, "*") {
		c.problem(key+".credentials", "would be sent to whatever host a client names; give the host in full")
	}
}

// classes refuses what could mean either of two archives.
func (c *checker) classes() {
	_, classes := c.cfg.Split()
	for i, class := range classes {
		for _, other := range c.cfg.Archives {
			if strings.HasPrefix(other.Name, class.Name+"/") {
				c.problem(archiveKey(other.Name), "the name is one that an archive of the class %s may have; choose another", class.Name)
			}
		}
		for _, other := range classes[i+1:] {
			for _, p := range class.patterns {
				if slices.ContainsFunc(other.patterns, p.overlaps) {
					c.problem(archiveKey(other.Name), "a URL can be of this class and of %s; a request for it could mean either", class.Name)
					break
				}
			}
		}
	}
}
