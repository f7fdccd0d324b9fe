package deb

import (
	"fmt"
	"net/url"
	"path"
	"slices"
	"strings"

	"github.com/aptmesh/aptmesh/proto"
)

// source is a source of apt: a stanza of deb822, or lines that say the same.
type source struct {
	url                string
	suites, components []string
	sources            bool // deb-src, too
	archive            proto.HostArchive
	unsigned           bool
	// expired says that the Release stays the same past its Valid-Until.
	expired bool
}

// sourcesOf are the sources of archives at a node. Suites are in one source if they have all but their names in common.
func sourcesOf(node, id string, archives []proto.HostArchive) (all []source) {
	for _, a := range archives {
		for _, s := range a.Suites {
			next := source{url: node + "/snapshot/" + a.Name + "/" + id, archive: a, unsigned: s.Unsigned, expired: !s.Live && !s.ValidUntil.IsZero()}
			name := s.Dir + "/" // flat
			if below := afterDists(s.Dir); len(below) > 0 {
				name = below[0]
				if above := strings.TrimSuffix(s.Dir, "dists/"+name); above != "" {
					next.url += "/" + strings.TrimSuffix(above, "/")
				}
				next.components, next.sources = componentsOf(s.Indexes)
			} else if s.Dir == "" {
				name = "./"
			}
			i := slices.IndexFunc(all, func(other source) bool {
				return other.url == next.url && slices.Equal(other.components, next.components) && other.sources == next.sources &&
					other.unsigned == next.unsigned && other.expired == next.expired && !strings.HasSuffix(name, "/") && !strings.HasSuffix(other.suites[0], "/")
			})
			if i < 0 {
				i = len(all)
				all = append(all, next)
			}
			all[i].suites = append(all[i].suites, name)
		}
	}
	return all
}

// componentsOf are the components of indexes, and whether any is of sources.
func componentsOf(indexes []string) (components []string, sources bool) {
	for _, index := range indexes {
		component, rest, ok := strings.Cut(index, "/binary-")
		if !ok {
			if component, rest, ok = strings.Cut(index, "/source/"); ok {
				sources = true
			}
		}
		if ok && !strings.HasSuffix(component, "/debian-installer") && strings.Count(rest, "/") <= 1 && !slices.Contains(components, component) {
			components = append(components, component)
		}
	}
	slices.Sort(components)
	return components, sources
}

// SnapshotSources is the file with the sources of archives under the name of a snapshot or channel: deb822, or one line for
// each suite. notes are sentences for the operator.
func SnapshotSources(node, id string, archives []proto.HostArchive, oneLine bool) (f proto.HostFile, notes []string) {
	f = proto.HostFile{Client: "apt", Path: "/etc/apt/sources.list.d/aptmesh.sources"}
	if oneLine {
		f.Path = "/etc/apt/sources.list.d/aptmesh.list"
	}
	all := sourcesOf(node, id, archives)
	all = slices.DeleteFunc(all, func(s source) bool {
		lacks := len(s.components) == 0 && !strings.HasSuffix(s.suites[0], "/")
		if lacks {
			notes = append(notes, fmt.Sprintf("%s of %s is left out: it is not known which components hosts use, as none has read an index of it", strings.Join(s.suites, ", "), s.archive.Name))
		}
		return lacks
	})
	for i, s := range all {
		switch {
		case oneLine:
			f.Text += s.lines()
			if len(s.archive.SignedBy) == 0 && s.archive.Keys != "" && !s.unsigned {
				notes = append(notes, fmt.Sprintf("a line cannot hold keys: put those of %s on hosts as %s; deb822 holds them", s.archive.Name, s.keyFile()))
			}
		case i > 0:
			f.Text += "\n" + s.stanza()
		default:
			f.Text += s.stanza()
		}
	}
	slices.Sort(notes)
	notes = append(slices.Compact(notes), "disable the sources by which hosts have had these suites until now: apt takes the newest version of all sources")
	return f, notes
}

// keyFile is where a host has the keys of the archive.
func (s *source) keyFile() string {
	if len(s.archive.SignedBy) > 0 {
		return strings.Join(s.archive.SignedBy, ",")
	}
	return "/etc/apt/keyrings/aptmesh-" + strings.ReplaceAll(s.archive.Name, "/", "-") + ".asc"
}

func (s *source) types() []string {
	if s.sources {
		return []string{"deb", "deb-src"}
	}
	return []string{"deb"}
}

// stanza is the source in deb822. apt reads keys in place of a file from 2.3.10 on.
func (s *source) stanza() string {
	var b strings.Builder
	field := func(name string, values ...string) { fmt.Fprintf(&b, "%s: %s\n", name, strings.Join(values, " ")) }
	field("Types", s.types()...)
	field("URIs", s.url)
	field("Suites", s.suites...)
	if len(s.components) > 0 {
		field("Components", s.components...)
	}
	switch {
	case s.unsigned:
		field("Trusted", "yes")
	case len(s.archive.SignedBy) > 0:
		field("Signed-By", s.archive.SignedBy...)
	case s.archive.Keys != "":
		b.WriteString("Signed-By:\n")
		for line := range strings.Lines(strings.TrimSpace(s.archive.Keys) + "\n") {
			if line == "\n" {
				line = ".\n"
			}
			b.WriteString(" " + line)
		}
	}
	if s.expired {
		field("Check-Valid-Until", "no")
	}
	return b.String()
}

// lines are the source as lines of sources.list.
func (s *source) lines() string {
	var options []string
	switch {
	case s.unsigned:
		options = append(options, "trusted=yes")
	case s.archive.Keys != "":
		options = append(options, "signed-by="+s.keyFile())
	}
	if s.expired {
		options = append(options, "check-valid-until=no")
	}
	var b strings.Builder
	for _, suite := range s.suites {
		for _, kind := range s.types() {
			words := []string{kind, "[" + strings.Join(options, " ") + "]", s.url, suite}
			if len(options) == 0 {
				words = slices.Delete(words, 1, 2)
			}
			b.WriteString(strings.Join(append(words, s.components...), " ") + "\n")
		}
	}
	return b.String()
}

// SnapshotConf has apt --snapshot (-S) ask a node: the settings of HostFile, and for each archive where its snapshots
// are. With an id, hosts use that without --snapshot. notes are sentences for the operator.
//
// apt looks for the server of a source in this order (SnapshotServer and CreateItemInternal in
// apt-pkg/deb/debmetaindex.cc, 3.1.12): Override::Label and Override::Origin, as the Release that the host has says,
// the field Snapshots of that Release, Label, Origin, and Host. Before its first update, a host has no Release.
func SnapshotConf(node, id string, archives []proto.HostArchive) (files []proto.HostFile, notes []string) {
	f := HostFile(node)
	if id != "" {
		f.Text += setting("APT::Snapshot", id)
	}
	servers, notes := snapshotServers(node, archives)
	f.Text += servers
	for _, s := range sourcesOf(node, id, archives) {
		if id != "" && s.expired {
			notes = append(notes, fmt.Sprintf("apt refuses %s of %s when its Valid-Until is over: leave it live (aptmesh channel set --live), or set Check-Valid-Until: no in the host's own source, where it counts for the archive as it is, too",
				strings.Join(s.suites, ", "), s.archive.Name))
		}
	}
	return []proto.HostFile{f}, notes
}

// snapshotServers has apt find snapshots of archives at a node.
func snapshotServers(node string, archives []proto.HostArchive) (text string, notes []string) {
	const server = "Acquire::Snapshots::URI::"
	at := func(archive string) string { return node + "/snapshot/" + archive + "/@SNAPSHOTID@/" }
	origins, labels := namesOf(archives, func(s proto.HostSuite) string { return s.Origin }), namesOf(archives, func(s proto.HostSuite) string { return s.Label })
	for _, origin := range origins.order {
		of := origins.archives[origin]
		if len(of) > 1 { // Debian and Debian-Security
			for _, label := range labels.order {
				if in := labels.archives[label]; len(in) == 1 && slices.Contains(of, in[0]) {
					text += setting(server+"Override::Label::"+label, at(in[0]))
				}
			}
			if labels.share(of) {
				notes = append(notes, fmt.Sprintf("apt cannot tell %s apart: the snapshots of all come from %s", strings.Join(of, " and "), of[0]))
			}
		}
		text += setting(server+"Override::Origin::"+origin, at(of[0]))
	}
	hosts := namedHosts(archives)
	for _, host := range hosts.order {
		of := hosts.archives[host]
		template := at(of[0])
		if len(of) > 1 {
			template = node + "/snapshot/@PATH@/@SNAPSHOTID@/"
			if slices.ContainsFunc(archives, func(a proto.HostArchive) bool { return slices.Contains(of, a.Name) && !namedByPath(a, host) }) {
				continue // Origin will do, from the second update on
			}
		}
		text += setting(server+"Host::"+host, template)
	}
	return text, notes
}

// setting is a line of apt.conf. What apt's own quoting cannot hold is left out.
func setting(name, value string) string {
	if strings.ContainsAny(name+value, "\"\n\r\\") {
		return ""
	}
	return fmt.Sprintf("\"%s\" \"%s\";\n", name, value)
}

// byName are the archives that have a name, in the order of both.
type byName struct {
	order    []string
	archives map[string][]string
}

func (n *byName) add(name, archive string) {
	if name == "" {
		return
	}
	if n.archives == nil {
		n.archives = make(map[string][]string)
	}
	if n.archives[name] == nil {
		n.order = append(n.order, name)
	}
	if !slices.Contains(n.archives[name], archive) {
		n.archives[name] = append(n.archives[name], archive)
	}
}

// share reports whether two of some archives have a name in common.
func (n *byName) share(archives []string) bool {
	for _, have := range n.archives {
		common := 0
		for _, a := range archives {
			if slices.Contains(have, a) {
				common++
			}
		}
		if common > 1 {
			return true
		}
	}
	return false
}

func namesOf(archives []proto.HostArchive, name func(proto.HostSuite) string) (n byName) {
	for _, a := range archives {
		for _, s := range a.Suites {
			n.add(name(s), a.Name)
		}
	}
	return n
}

// namedHosts are the archives by the names of hosts in their URLs: ".archive.ubuntu.com" stands for all below that name.
func namedHosts(archives []proto.HostArchive) (n byName) {
	for _, a := range archives {
		for _, text := range a.URLs {
			if host := hostIn(text); host != "" {
				n.add(host, a.Name)
			}
		}
	}
	return n
}

// hostIn is the host of a URL as apt looks for it; "" where apt cannot.
func hostIn(text string) string {
	_, rest, _ := strings.Cut(text, "://")
	host, _, _ := strings.Cut(rest, "/")
	if below, wild := strings.CutPrefix(host, "*"); wild {
		host = below
	}
	if name, _, port := strings.Cut(host, ":"); port {
		host = name
	}
	if strings.ContainsAny(host, "*@[") {
		return ""
	}
	return host
}

// namedByPath reports whether an archive is called what the path of its URL at a host is.
func namedByPath(a proto.HostArchive, host string) bool {
	for _, text := range a.URLs {
		if u, err := url.Parse(strings.Replace(text, "*", "x", 1)); err == nil && hostIn(text) == host && path.Join("/", u.Path) != "/"+a.Name {
			return false
		}
	}
	return true
}
