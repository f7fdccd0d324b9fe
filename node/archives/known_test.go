package archives

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/aptmesh/aptmesh/node/archives/archiveconf"
	"github.com/aptmesh/aptmesh/node/config"
)

func TestKnownNames(t *testing.T) {
	archive := func(name, upstream string, aliases ...string) archiveconf.Archive {
		a := archiveconf.New(name)
		a.Upstream, a.Aliases = upstream, aliases
		return a
	}
	const usual = "http://ftp.debian.org/debian"
	for what, test := range map[string]struct {
		archives []archiveconf.Archive
		want     string // archives that are known, in order
		owner    string // of ftp.debian.org/debian
	}{
		"by its URL, whatever the name":           {[]archiveconf.Archive{archive("d", "http://ftp.de.debian.org/debian")}, "d", "d"},
		"by a list of mirrors":                    {[]archiveconf.Archive{archive("u", "mirror+http://mirrors.ubuntu.com/mirrors.txt")}, "u", ""},
		"by an alias":                             {[]archiveconf.Archive{archive("d", "http://mirror.example.org/x", usual)}, "d", "d"},
		"a mirror of one's own, by its name":      {[]archiveconf.Archive{archive("debian", "http://mirror.example.org/pub/debian")}, "debian", "debian"},
		"another directory under the name":        {[]archiveconf.Archive{archive("debian", "http://mirror.example.org/pub/tools")}, "", ""},
		"another name":                            {[]archiveconf.Archive{archive("mine", "http://mirror.example.org/debian")}, "", ""},
		"the first of two":                        {[]archiveconf.Archive{archive("a", "http://ftp.de.debian.org/debian"), archive("b", "http://ftp.fr.debian.org/debian")}, "a", "a"},
		"what is given to another is the other's": {[]archiveconf.Archive{archive("a", "http://ftp.de.debian.org/debian"), archive("b", usual)}, "a", ""},
		"archive.debian.org is another archive":   {[]archiveconf.Archive{archive("old", "http://archive.debian.org/debian")}, "", ""},
	} {
		names := knownNames(&config.Config{Archives: test.archives})
		if got := strings.Join(slices.Sorted(maps.Keys(names)), " "); got != test.want {
			t.Errorf("%s: known are %q, want %q", what, got, test.want)
		}
		owner := ""
		for name, urls := range names {
			if slices.Contains(urls, usual) {
				owner = name
			}
		}
		if owner != test.owner {
			t.Errorf("%s: %s is %q, want %q", what, usual, owner, test.owner)
		}
	}
}
