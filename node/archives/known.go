package archives

import (
	"net/url"
	"path"
	"slices"

	"github.com/aptmesh/aptmesh/node/aptconf"
	"github.com/aptmesh/aptmesh/node/archives/archiveconf"
	"github.com/aptmesh/aptmesh/node/config"
)

// knownNames are the URLs under which hosts know archives of Debian and Ubuntu, by the archive of the configuration
// that has them: hosts of a site name ftp.de.debian.org and ftp.debian.org alike. A URL that the configuration gives to
// another archive is that archive's.
func knownNames(cfg *config.Config) map[string][]string {
	given := make(map[string]bool)
	for _, a := range cfg.Archives {
		for _, at := range slices.Concat(a.MirrorURLs(), a.Aliases) {
			if u, err := url.Parse(at); err == nil {
				given[u.Host+u.Path] = true
			}
		}
	}
	names, taken := make(map[string][]string), make(map[string]bool)
	for _, a := range cfg.Archives {
		k, ok := knownArchive(a)
		if !ok || taken[k.Name] {
			continue
		}
		taken[k.Name] = true
		own := make(map[string]bool)
		for _, at := range slices.Concat(a.MirrorURLs(), a.Aliases) {
			if u, err := url.Parse(at); err == nil {
				own[u.Host+u.Path] = true
			}
		}
		for _, name := range k.URLs {
			if u, err := url.Parse(name); err == nil && (!given[u.Host+u.Path] || own[u.Host+u.Path]) {
				names[a.Name] = append(names[a.Name], name)
			}
		}
	}
	return names
}

// knownArchive finds the archive of Debian or Ubuntu that an archive is: by one of its URLs, or, where it is fetched
// from a mirror of nobody's knowledge, by its name and the directory.
func knownArchive(a archiveconf.Archive) (aptconf.Known, bool) {
	for _, m := range a.Mirrors() {
		if k, ok := aptconf.Lookup(m.URL); ok {
			return k, true
		}
	}
	for _, alias := range a.Aliases {
		if k, ok := aptconf.Lookup(alias); ok {
			return k, true
		}
	}
	k, ok := aptconf.Named(a.Name)
	if !ok {
		return k, false
	}
	usual := path.Base(k.URLs[0])
	return k, slices.ContainsFunc(a.MirrorURLs(), func(at string) bool { return path.Base(at) == usual })
}
