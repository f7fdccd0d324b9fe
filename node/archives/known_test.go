package archives

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/aptmesh/aptmesh/node/config"
)

func TestKnownNames(t *testing.T) {
	archive := func(name, upstream string, aliases ...string) config.Archive {
		a := config.NewArchive(name)
		a.Upstream, a.Aliases = upstream, aliases
		return a
	}
	const usual = "http://ftp.debian.org/debian"
	for what, test := range map[string]struct {
		archives []config.Archive
		want     string // archives that are known, in order
		owner    string // of ftp.debian.org/debian
	}{
		"by its URL, whatever the name":           {[]config.Archive{archive("d", "http://ftp.de.debian.org/debian")}, "d", "d"},
		"by a list of mirrors":                    {[]config.Archive{archive("u", "mirror+http://mirrors.ubuntu.com/mirrors.txt")}, "u", ""},
		"by an alias":                             {[]config.Archive{archive("d", "http://mirror.example.org/x", usual)}, "d", "d"},
		"a mirror of one's own, by its name":      {[]config.Archive{archive("debian", "http://mirror.example.org/pub/debian")}, "debian", "debian"},
		"another directory under the name":        {[]config.Archive{archive("debian", "http://mirror.example.org/pub/tools")}, "", ""},
		"another name":                            {[]config.Archive{archive("mine", "http://mirror.example.org/debian")}, "", ""},
		"the first of two":                        {[]config.Archive{archive("a", "http://ftp.de.debian.org/debian"), archive("b", "http://ftp.fr.debian.org/debian")}, "a", "a"},
		"what is given to another is the other's": {[]config.Archive{archive("a", "http://ftp.de.debian.org/debian"), archive("b", usual)}, "a", ""},
		"archive.debian.org is another archive":   {[]config.Archive{archive("old", "http://archive.debian.org/debian")}, "", ""},
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
