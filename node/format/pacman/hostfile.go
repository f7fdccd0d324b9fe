package pacman

import (
	"slices"
	"strings"

	"github.com/aptmesh/aptmesh/proto"
)

// HostFile has the server of an archive as pacman reads it, by the node at a URL. suites are the databases
// that the configuration names: they show how the archive is laid out. Without any it is laid out as Arch Linux
// is.
func HostFile(node, archive string, suites []proto.Suite) proto.HostFile {
	path := "/etc/pacman.d/aptmesh-" + strings.ReplaceAll(archive, "/", "-")
	f := proto.HostFile{
		Client: "pacman", Path: path,
		Head: "# Write \"Include = " + path + "\" before the other servers of a repository in /etc/pacman.conf.\n",
	}
	var servers []string
	for _, s := range suites {
		if server := layout(s); !slices.Contains(servers, server) {
			servers = append(servers, server)
		}
	}
	if len(servers) == 0 {
		servers = []string{"/$repo/os/$arch"}
	}
	for _, server := range servers {
		f.Text += "Server = " + node + "/" + archive + server + "\n"
	}
	return f
}

// layout is the directory of a database with pacman's variables in place of the names of the repository and
// of the architecture.
func layout(s proto.Suite) string {
	repo, _ := database(s.Name)
	server := ""
	for segment := range strings.SplitSeq(s.Dir, "/") {
		switch segment {
		case "":
			continue
		case repo:
			segment = "$repo"
		case "x86_64", "i686", "aarch64", "armv7h", "riscv64", "loong64":
			segment = "$arch"
		}
		server += "/" + segment
	}
	return server
}
