package rpm

import (
	"strings"

	"github.com/aptmesh/aptmesh/proto"
)

// HostFile has the repositories of an archive as dnf and zypper read them, by the node at a URL. suites are
// the repositories that the configuration names.
func HostFile(node, archive string, suites []proto.Suite) proto.HostFile {
	f := proto.HostFile{
		Client: "dnf, or zypper in /etc/zypp/repos.d", Path: "/etc/yum.repos.d/aptmesh.repo",
		Head: "# Copy gpgkey= and gpgcheck= from each repository's own file, and disable the repository there.\n",
	}
	if len(suites) == 0 {
		f.Text = "# Add the directory that has repodata/ to the URL. $releasever and $basearch can be part of it.\n"
		suites = []proto.Suite{{}}
	}
	for _, s := range suites {
		path := strings.TrimSuffix(archive+"/"+s.Dir, "/")
		id := "aptmesh-" + strings.Map(plainID, path)
		f.Text += "[" + id + "]\nname=" + path + " from aptmesh\nbaseurl=" + node + "/" + path + "\nenabled=1\n"
	}
	return f
}

// plainID replaces what the name of a section cannot have (libdnf/repo/Repo.cpp, verifyId).
func plainID(r rune) rune {
	if 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("-_.:", r) {
		return r
	}
	return '-'
}
