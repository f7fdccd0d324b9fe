package mirrorlist

import (
	"cmp"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/aptmesh/aptmesh/node/aptconf"
	"github.com/aptmesh/aptmesh/node/archives/archiveconf"
	"github.com/aptmesh/aptmesh/node/config"
)

// KeyOf is the list an upstream stands for; the zero key where it is a mirror.
func KeyOf(u archiveconf.Mirror) Key {
	if !aptconf.IsMirrorList(u.URL) {
		return Key{}
	}
	return Key{At: u.URL, TLS: u.TLS}
}

// KeysOf are the lists that the archives name.
func KeysOf(c *config.Config) []Key {
	keys := make(map[Key]struct{})
	for _, a := range c.Archives {
		for _, at := range a.Mirrors() {
			if key := KeyOf(at); key != (Key{}) {
				keys[key] = struct{}{}
			}
		}
	}
	return slices.Collect(maps.Keys(keys))
}

// MirrorsOf returns the mirrors of an archive, with those that its lists name in the
// place of the lists; none where nothing but unknown lists is configured.
func (l *Lists) MirrorsOf(cfg *config.Config, a archiveconf.Archive) []archiveconf.Mirror {
	var found []rankedMirror
	have := make(map[string]bool)
	// What the configuration names itself comes first: it may have credentials.
	for _, at := range a.Mirrors() {
		if KeyOf(at) == (Key{}) {
			have[at.URL] = true
			found = append(found, rankedMirror{Mirror: at})
		}
	}
	for _, at := range a.Mirrors() {
		for _, m := range rankListed(l.Mirrors(KeyOf(at))) {
			if root := m.URL.String(); !have[root] && !cfg.IsSelf(m.URL) {
				have[root] = true
				if a.TrustHTTPS && m.URL.Scheme != "https" {
					continue // no certificate vouches for what it has
				}
				if other := archiveAround(cfg, a.Name, m.URL); other != "" {
					l.log.Warn("a mirror of a list is left out: it lies inside another archive", "list", at.URL, "mirror", root, "archive", a.Name, "other", other)
					continue
				}
				listed := archiveconf.Mirror{URL: root, Priority: at.Priority, Weight: at.Weight, TLS: at.TLS, List: at.URL}
				found = append(found, rankedMirror{listed, m.rank})
			}
		}
	}
	return settleRanks(found)
}

// archiveAround returns another archive whose URL contains the given URL; "" for none. A mirror inside
// another archive would serve that archive's files to clients that may not read them.
func archiveAround(c *config.Config, archive string, u *url.URL) string {
	for _, a := range c.Archives {
		if a.Name == archive {
			continue
		}
		for _, at := range slices.Concat(a.MirrorURLs(), a.Aliases) {
			root, err := url.Parse(at)
			if err != nil {
				continue
			}
			host, wild := strings.CutPrefix(root.Host, "*")
			same := host == u.Host || wild && strings.HasSuffix(u.Host, host)
			if same && strings.HasPrefix(strings.TrimSuffix(u.Path, "/"), strings.TrimSuffix(root.Path, "/")+"/") {
				return a.Name
			}
		}
	}
	return ""
}

// rankedMirror is a mirror with its rank among those of the same configured priority:
// 0 where no list says otherwise.
type rankedMirror struct {
	archiveconf.Mirror
	rank int
}

type rankedListed struct {
	aptconf.ListedMirror
	rank int
}

// rankListed numbers the priorities of a list, which come in order, from 0.
func rankListed(list []aptconf.ListedMirror) []rankedListed {
	ranked := make([]rankedListed, len(list))
	rank := 0
	for i, m := range list {
		if i > 0 && m.Priority != list[i-1].Priority {
			rank++
		}
		ranked[i] = rankedListed{m, rank}
	}
	return ranked
}

// settleRanks makes one order of the priorities of the configuration and those within
// lists: the configured ones decide. If a list gives its mirrors different priorities, all
// are numbered anew, from 1.
func settleRanks(found []rankedMirror) []archiveconf.Mirror {
	slices.SortStableFunc(found, func(a, b rankedMirror) int {
		return cmp.Or(cmp.Compare(a.Priority, b.Priority), cmp.Compare(a.rank, b.rank))
	})
	told := slices.ContainsFunc(found, func(m rankedMirror) bool { return m.rank > 0 })
	settled := make([]archiveconf.Mirror, len(found))
	number := 1
	for i, m := range found {
		if i > 0 && (m.Priority != found[i-1].Priority || m.rank != found[i-1].rank) {
			number++
		}
		settled[i] = m.Mirror
		if told {
			settled[i].Priority = number
		}
	}
	return settled
}

// Claims returns the mirrors from lists that may mean their archive in a proxy request: those
// that are not already a URL of another archive.
type Claims struct {
	exact map[string]string // host and path -> archive
	wild  []wildClaim
}

type wildClaim struct{ host, path, archive string }

// NewClaims returns what the configuration itself claims.
func NewClaims(cfg *config.Config) *Claims {
	c := &Claims{exact: make(map[string]string)}
	for _, a := range cfg.Archives {
		for _, at := range slices.Concat(a.MirrorURLs(), a.Aliases) {
			u, err := url.Parse(at)
			if err != nil {
				continue
			}
			if strings.Contains(u.Host, "*") {
				c.wild = append(c.wild, wildClaim{u.Host, u.Path, a.Name})
			} else {
				c.exact[u.Host+u.Path] = a.Name
			}
		}
	}
	return c
}

// Take reports whether u is free for an archive, and Claims it.
func (c *Claims) Take(archive string, u *url.URL) bool {
	if owner, taken := c.exact[u.Host+u.Path]; taken {
		return owner == archive
	}
	for _, w := range c.wild {
		if w.archive != archive && w.path == u.Path && (w.host == u.Host || aptconf.MatchHost(w.host, u.Host)) {
			return false
		}
	}
	c.exact[u.Host+u.Path] = archive
	return true
}
