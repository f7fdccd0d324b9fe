package archives

import (
	"slices"

	"github.com/aptmesh/aptmesh/node/archives/archiveconf"
	"github.com/aptmesh/aptmesh/node/format/deb"
	"github.com/aptmesh/aptmesh/node/format/pacman"
	"github.com/aptmesh/aptmesh/node/format/rpm"
	"github.com/aptmesh/aptmesh/proto"
)

// HostFiles are the files that a host needs to use archives through the node at a URL. README, `aptmesh
// serve`, `aptmesh client-config` and the page of the node all have them from here.
func HostFiles(node string, archives []archiveconf.Archive) (files []proto.HostFile) {
	for _, a := range archives {
		f := hostFile(node, a)
		i := slices.IndexFunc(files, func(other proto.HostFile) bool { return other.Path == f.Path })
		switch {
		case i < 0:
			files = append(files, f)
		case files[i].Text != f.Text: // apt needs the same for all archives
			files[i].Text += f.Text
		}
	}
	return files
}

func hostFile(node string, a archiveconf.Archive) proto.HostFile {
	suites := make([]proto.Suite, len(a.Suites))
	for i, s := range a.Suites {
		suites[i] = keyless(a.Format).SuiteNamed(s)
	}
	switch a.Format {
	case "rpm":
		return rpm.HostFile(node, a.Name, suites)
	case "pacman":
		return pacman.HostFile(node, a.Name, suites)
	}
	return deb.HostFile(node)
}
