// Package classes is the URLs and names of classes of archives. A class is an entry of archives whose URL is a
// pattern, such as http://ppa.launchpadcontent.net/*/*/ubuntu. Each set of values for its stars is an archive of
// its own: a member, called CLASS/VALUE/VALUE. All nodes derive the same name from the same URL, and the URL from
// the name.
//
// It is arithmetic over URLs and names. Which members there are, and what else an archive has, is not known here.
package classes

import (
	"fmt"
	"slices"
	"strings"

	"github.com/aptmesh/aptmesh/node/aptconf"
)

// maxValue bounds the value of one star in bytes; Launchpad's names are shorter.
const maxValue = 80

// Class is the name and the patterns of one class. It is never changed.
type Class struct {
	Name     string
	patterns []Pattern // of the upstream, then of the aliases
}

// Set is the classes of a configuration. It is never changed, and safe for concurrent use.
type Set []Class

// Member is one archive of a class.
type Member struct {
	Class, Name string
	URL         string
	Aliases     []string
	// Led says that whoever named it chose a part of the host's name.
	Led bool
}

// Pattern is a URL with stars, each of which stands for one element of the path or one label of the host.
type Pattern struct {
	scheme, port string
	labels       []string
	elements     []string
}

// New is the class of that name with the URL of its upstream and those of its aliases.
func New(name, upstream string, aliases []string) (Class, error) {
	c := Class{Name: name}
	for _, at := range slices.Concat([]string{upstream}, aliases) {
		p, err := Parse(at)
		if err != nil {
			return Class{}, err
		}
		c.patterns = append(c.patterns, p)
	}
	if c.patterns[0].Stars() == 0 {
		return Class{}, fmt.Errorf("%s has no *, so it is one archive and no class", upstream)
	}
	return c, nil
}

// Parse reads the URL of a class. The error completes a sentence that begins with the key.
func Parse(s string) (Pattern, error) {
	u, err := aptconf.ParseRoot(s)
	if err != nil {
		return Pattern{}, err
	}
	p := Pattern{scheme: u.Scheme, port: u.Port(), labels: strings.Split(u.Hostname(), "."), elements: strings.Split(strings.Trim(u.Path, "/"), "/")}
	if u.Path == "" {
		p.elements = nil
	}
	for _, part := range slices.Concat(p.labels, p.elements) {
		if part != "*" && strings.Contains(part, "*") {
			return Pattern{}, fmt.Errorf("%s: a * stands for one whole element of the path, or one whole label of the host; %q is neither", s, part)
		}
	}
	if n := len(p.labels); slices.Contains(p.labels[max(n-2, 0):], "*") {
		return Pattern{}, fmt.Errorf("%s: the last two labels of the host must be given, because whoever asks chooses what a * is", s)
	}
	return p, nil
}

// Stars is the number of values that a member has.
func (p Pattern) Stars() int {
	n := 0
	for _, part := range slices.Concat(p.labels, p.elements) {
		if part == "*" {
			n++
		}
	}
	return n
}

// StarsInHost is how many of them are labels of the host, which whoever asks then chooses.
func (p Pattern) StarsInHost() int {
	n := 0
	for _, label := range p.labels {
		if label == "*" {
			n++
		}
	}
	return n
}

// overlaps reports whether one URL can be the root of an archive of both.
func (p Pattern) overlaps(o Pattern) bool {
	alike := func(a, b []string) bool {
		return slices.EqualFunc(a, b, func(x, y string) bool { return x == y || x == "*" || y == "*" })
	}
	return p.port == o.port && alike(p.labels, o.labels) && alike(p.elements, o.elements)
}

// match returns the values with which a host and the beginning of a path are a member's.
func (p Pattern) match(host, port string, elements []string) (values []string, ok bool) {
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
func (p Pattern) fill(values []string) string {
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
	return strings.TrimSuffix(p.scheme+"://"+host+"/"+strings.Join(put(p.elements), "/"), "/")
}

// member is the archive of the class with these values.
func (c Class) member(values []string) (Member, bool) {
	first := c.patterns[0]
	if len(values) != first.Stars() {
		return Member{}, false
	}
	for i, v := range values {
		if !validValue(v) || i < first.StarsInHost() && !validLabel(v) {
			return Member{}, false
		}
	}
	m := Member{Class: c.Name, Name: c.Name + "/" + strings.Join(values, "/"), URL: first.fill(values), Led: first.StarsInHost() > 0}
	for _, p := range c.patterns[1:] {
		p.scheme = "http" // makes no difference in an alias
		m.Aliases = append(m.Aliases, p.fill(values))
	}
	return m, true
}

// Overlaps reports whether one URL can be of both classes.
func (c Class) Overlaps(other Class) bool {
	return slices.ContainsFunc(c.patterns, func(p Pattern) bool { return slices.ContainsFunc(other.patterns, p.overlaps) })
}

// At finds the member that a URL lies in: host is in lower case and without a port that a scheme implies, path without a
// slash at either end. rest is the path within the archive. Where the URL fits several patterns, the longest
// counts; two of one length cannot fit one URL.
func (s Set) At(host, path string) (member Member, rest string, ok bool) {
	if len(s) == 0 {
		return Member{}, "", false
	}
	name, port, _ := strings.Cut(host, ":")
	elements := strings.Split(path, "/")
	length := -1
	for _, c := range s {
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
		return Member{}, "", false
	}
	return member, strings.Join(elements[length:], "/"), true
}

// Named finds the member whose name a path begins with. rest is the path within the archive.
func (s Set) Named(path string) (member Member, rest string, ok bool) {
	for _, c := range s {
		below, in := strings.CutPrefix(path, c.Name+"/")
		if !in {
			continue
		}
		parts := strings.SplitN(below, "/", c.patterns[0].Stars()+1)
		if len(parts) < c.patterns[0].Stars() {
			continue
		}
		if m, valid := c.member(parts[:c.patterns[0].Stars()]); valid {
			return m, strings.Join(parts[c.patterns[0].Stars():], "/"), true
		}
	}
	return Member{}, "", false
}

// Forms are the names that members have, with a * for each value.
func (s Set) Forms() (forms []string) {
	for _, c := range s {
		forms = append(forms, c.Name+strings.Repeat("/*", c.patterns[0].Stars()))
	}
	return forms
}

// Of returns the class that an archive of this name is a member of.
func (s Set) Of(name string) (Class, bool) {
	i := slices.IndexFunc(s, func(c Class) bool { return strings.HasPrefix(name, c.Name+"/") })
	if i < 0 {
		return Class{}, false
	}
	return s[i], true
}
