package archives

import (
	"fmt"
	"net/url"
	"path"
	"slices"
	"strings"

	"github.com/aptmesh/aptmesh/node/archives/archiveconf"
	"github.com/aptmesh/aptmesh/node/config"
	"github.com/aptmesh/aptmesh/node/format/deb"
	"github.com/aptmesh/aptmesh/node/format/pacman"
	"github.com/aptmesh/aptmesh/node/format/rpm"
	"github.com/aptmesh/aptmesh/node/keyrings"
	"github.com/aptmesh/aptmesh/proto"
)

// HostArchives are the archives of the configuration that have suites, as hosts use them. suites are those of an archive.
// It fails where a keyring cannot be read.
func HostArchives(cfg *config.Config, suites map[string][]proto.HostSuite) ([]proto.HostArchive, error) {
	var all []proto.HostArchive
	known := knownNames(cfg)
	for _, a := range cfg.Archives {
		if len(suites[a.Name]) == 0 {
			continue
		}
		h := proto.HostArchive{Name: a.Name, Format: a.Format, Suites: suites[a.Name]}
		for _, u := range slices.Concat(a.MirrorURLs(), a.Aliases, known[a.Name]) {
			if u := shownToHosts(u); u != "" && !slices.Contains(h.URLs, u) {
				h.URLs = append(h.URLs, u)
			}
		}
		var err error
		if h.SignedBy, h.Keys, err = hostKeys(a); err != nil {
			return nil, err
		}
		all = append(all, h)
	}
	return all, nil
}

// shownToHosts is a URL without user and query; "" where it is none.
func shownToHosts(text string) string {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" {
		return ""
	}
	return u.Scheme + "://" + u.Host + strings.TrimSuffix(u.Path, "/")
}

// hostKeys are the keys of an archive for hosts. Files where distributions and operators put keyrings have the same name
// on hosts; hosts do not have others.
func hostKeys(a archiveconf.Archive) (files []string, keys string, err error) {
	for _, entry := range a.SignedBy {
		if !slices.Contains([]string{"/usr/share/keyrings", "/etc/apt/keyrings"}, path.Dir(entry)) || keyrings.Dir([]string{entry}) != "" {
			files = nil
			break
		}
		files = append(files, entry)
	}
	ring, err := a.Keyring()
	if err == nil && ring != nil {
		keys, err = ring.Armoured()
	}
	return files, keys, err
}

// The forms in which apt reads what a host needs.
const (
	FormDeb822  = "deb822"
	FormOneLine = "one-line"
	FormConf    = "apt.conf"
)

// SnapshotFiles are the files that a host needs to use archives of one format at the node at a URL under the name of a
// snapshot or channel. form is that of apt's; other formats have one of their own. notes are sentences for the operator.
func SnapshotFiles(node, id string, archives []proto.HostArchive, form string) (files []proto.HostFile, notes []string) {
	if len(archives) == 0 {
		return nil, nil
	}
	switch format := archives[0].Format; {
	case format == "rpm" || format == "pacman":
		for _, a := range archives {
			suites := make([]proto.Suite, len(a.Suites))
			for i, s := range a.Suites {
				suites[i] = proto.Suite{Dir: s.Dir, Name: s.Name}
			}
			f := pacman.HostFile(node, "snapshot/"+a.Name+"/"+id, suites)
			if format == "rpm" {
				f = rpm.HostFile(node, "snapshot/"+a.Name+"/"+id, suites)
			}
			if i := slices.IndexFunc(files, func(other proto.HostFile) bool { return other.Path == f.Path }); i >= 0 {
				files[i].Text += f.Text
				continue
			}
			files = append(files, f)
		}
		return files, nil
	case form == FormConf:
		return deb.SnapshotConf(node, id, archives)
	}
	f, notes := deb.SnapshotSources(node, id, archives, form == FormOneLine)
	return []proto.HostFile{f}, notes
}

// HostFile is a file that a host needs.
type HostFile = proto.HostFile

// Ansible returns a task for each file.
func Ansible(files []HostFile) string {
	var b strings.Builder
	for _, f := range files {
		fmt.Fprintf(&b, "- name: %q\n  ansible.builtin.copy:\n    dest: %q\n    owner: root\n    group: root\n    mode: \"0644\"\n    content: |\n", f.Path+" by aptmesh", f.Path)
		b.WriteString(literal(f.Content(), "      "))
	}
	return b.String()
}

// CloudInit returns user data for cloud-init that writes the files.
func CloudInit(files []HostFile) string {
	var b strings.Builder
	b.WriteString("#cloud-config\nwrite_files:\n")
	for _, f := range files {
		fmt.Fprintf(&b, "  - path: %q\n    owner: root:root\n    permissions: \"0644\"\n    content: |\n", f.Path)
		b.WriteString(literal(f.Content(), "      "))
	}
	return b.String()
}

// literal is a literal block of YAML, which takes any lines as they are if the first one does not begin with a space.
func literal(text, indent string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		b.WriteString(indent + line)
	}
	return b.String()
}
