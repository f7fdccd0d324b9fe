package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/aptmesh/aptmesh/node/aptconf"
	"github.com/aptmesh/aptmesh/node/config"
	"github.com/aptmesh/aptmesh/node/front"
	"github.com/aptmesh/aptmesh/node/upstream"
	"github.com/aptmesh/aptmesh/proto"
)

// listKeyOf is the list an upstream stands for; the zero key where it is a mirror.
func listKeyOf(u config.Mirror) listKey {
	if !aptconf.IsMirrorList(u.URL) {
		return listKey{}
	}
	return listKey{at: u.URL, tls: u.TLS}
}

// listKeys are the lists that the archives name.
func listKeys(c *config.Config) []listKey {
	keys := make(map[listKey]struct{})
	for _, a := range c.Archives {
		for _, at := range a.Mirrors() {
			if key := listKeyOf(at); key != (listKey{}) {
				keys[key] = struct{}{}
			}
		}
	}
	return slices.Collect(maps.Keys(keys))
}

// mirrorsOf returns the mirrors of an archive, with those that its lists name in the
// place of the lists; none where nothing but unknown lists is configured.
func (n *Node) mirrorsOf(cfg *config.Config, a config.Archive) []config.Mirror {
	var found []rankedMirror
	have := make(map[string]bool)
	// What the configuration names itself comes first: it may have credentials.
	for _, at := range a.Mirrors() {
		if listKeyOf(at) == (listKey{}) {
			have[at.URL] = true
			found = append(found, rankedMirror{Mirror: at})
		}
	}
	for _, at := range a.Mirrors() {
		for _, m := range rankListed(n.lists.mirrors(listKeyOf(at))) {
			if root := m.URL.String(); !have[root] && !cfg.IsSelf(m.URL) {
				have[root] = true
				if other := archiveAround(cfg, a.Name, m.URL); other != "" {
					n.log.Warn("a mirror of a list is left out: it lies inside another archive", "list", at.URL, "mirror", root, "archive", a.Name, "other", other)
					continue
				}
				listed := config.Mirror{URL: root, Priority: at.Priority, Weight: at.Weight, TLS: at.TLS, List: at.URL}
				found = append(found, rankedMirror{listed, m.rank})
			}
		}
	}
	return settleRanks(found)
}

// archiveAround returns the archive, other than one, inside whose URL another URL lies; "" for none.
// As a mirror it would take what hosts ask of that archive, and give it to who may not have it.
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

// operatorURLs are the mirrors, and the lists that a server has, as the configuration names them.
func operatorURLs(c *config.Config) []*url.URL {
	var all []*url.URL
	for _, a := range c.Archives {
		for _, at := range a.Mirrors() {
			if list, err := aptconf.ParseListURL(at.URL); err == nil && list.URL != nil {
				all = append(all, list.URL)
			} else if u, err := url.Parse(at.URL); err == nil && u.Hostname() != "" {
				all = append(all, u)
			}
		}
	}
	return all
}

// rankedMirror is a mirror with its rank among those of the same configured priority:
// 0 where no list says otherwise.
type rankedMirror struct {
	config.Mirror
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
// lists: the configured ones decide, and where a list tells its mirrors apart all are
// numbered anew, from 1.
func settleRanks(found []rankedMirror) []config.Mirror {
	slices.SortStableFunc(found, func(a, b rankedMirror) int {
		return cmp.Or(cmp.Compare(a.Priority, b.Priority), cmp.Compare(a.rank, b.rank))
	})
	told := slices.ContainsFunc(found, func(m rankedMirror) bool { return m.rank > 0 })
	settled := make([]config.Mirror, len(found))
	number := config.Count(1)
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

// claims tells which of the mirrors that lists name may mean their archive in a proxy
// request: those that are not already a URL of another archive.
type claims struct {
	exact map[string]string // host and path -> archive
	wild  []wildClaim
}

type wildClaim struct{ host, path, archive string }

func newClaims(cfg *config.Config) *claims {
	c := &claims{exact: make(map[string]string)}
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

// take reports whether u is free for an archive, and claims it.
func (c *claims) take(archive string, u *url.URL) bool {
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

// source is the HTTP client as the other rooms use it: it knows why an archive has no
// mirror to ask.
type source struct {
	*upstream.Client
	n *Node
}

// Fetch is that of the client, which is told what the archive's format makes of the name. All that
// this node asks of upstream, for itself or for another node, comes through here. An archive whose lists of mirrors are not known yet
// waits for the first look at them, and is unavailable where that brought nothing.
func (s source) Fetch(ctx context.Context, req proto.Request) (*proto.Transfer, error) {
	if in, ok := (*s.n.inner.Load())[req.Loc.Archive].at(req.Loc.Path); ok {
		return nil, &proto.Refused{Status: http.StatusForbidden, Reason: fmt.Sprintf("%s lies inside the archive %s, which only some clients may read, and is read through that archive alone", req.Loc, in.Archive)}
	}
	info := formatOf(req.Loc.Archive).PathInfo(req.Loc.Path)
	req.Immutable, req.Page = info.Immutable, info.Page
	t, err := s.Client.Fetch(ctx, req)
	if !errors.Is(err, upstream.ErrUnknownArchive) {
		return t, err
	}
	keys := (*s.n.unlisted.Load())[req.Loc.Archive]
	if len(keys) == 0 {
		return nil, err
	}
	var trouble error
	for _, key := range keys {
		if trouble = s.n.lists.await(ctx, key); ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if trouble != nil {
			continue
		}
		if t, err = s.Client.Fetch(ctx, req); !errors.Is(err, upstream.ErrUnknownArchive) {
			return t, err
		}
		trouble = errors.New("it has come this moment")
	}
	return nil, &proto.Unavailable{Err: trouble, Reason: fmt.Sprintf("the archive %s has no mirror that could be asked: its list of mirrors, %s, is not there yet: %v",
		req.Loc.Archive, keys[len(keys)-1].at, trouble)}
}

// mirrorPlan is a configuration with its lists of mirrors read: what the rooms that
// know mirrors are told.
type mirrorPlan struct {
	upstream upstream.Config
	front    front.Rules
	// unlisted are the archives that no mirror is known of, with the lists that they
	// wait for.
	unlisted map[string][]listKey
}

// planMirrors makes the plan of a configuration whose lists are in use.
func (n *Node) planMirrors(cfg *config.Config) (mirrorPlan, error) {
	p := mirrorPlan{unlisted: make(map[string][]listKey)}
	mirrors := make(map[string][]config.Mirror, len(cfg.Archives))
	for _, a := range cfg.Archives {
		mirrors[a.Name] = n.mirrorsOf(cfg, a)
		if len(mirrors[a.Name]) == 0 {
			for _, at := range a.Mirrors() {
				p.unlisted[a.Name] = append(p.unlisted[a.Name], listKeyOf(at))
			}
		}
	}
	archives, err := frontArchives(cfg, mirrors)
	if err != nil {
		return p, err
	}
	p.front = front.Rules{Archives: archives, Connect: cfg.ConnectAllow, Clients: clientLimits(cfg.Clients), Lists: n.frontLists(cfg), PublicURL: cfg.PublicURL}
	p.upstream, err = n.upstreamConfig(cfg, mirrors)
	return p, err
}

// frontLists are the lists that servers have, for hosts that ask for them through this node.
func (n *Node) frontLists(cfg *config.Config) []front.List {
	var all []front.List
	for _, a := range cfg.Archives {
		for _, at := range a.Mirrors() {
			if list, err := aptconf.ParseListURL(at.URL); err == nil && list.URL != nil {
				all = append(all, front.List{URL: list.URL, Archive: a.Name, Text: listText(n.lists.mirrors(listKeyOf(at)))})
			}
		}
	}
	// Ubuntu's own lists, one for each country, name mirrors that this node does not know one by one. Hosts that ask
	// for one are told the usual URL of the archive, which leads here as well.
	for archive, names := range knownNames(cfg) {
		if ubuntu := aptconf.UbuntuArchives()[0].URLs[0]; slices.Contains(names, ubuntu) {
			all = append(all, front.List{URL: &url.URL{Scheme: "http", Host: aptconf.UbuntuLists}, Archive: archive, Text: ubuntu + "/\n"})
		}
	}
	return all
}

// listsChanged puts the mirrors in force that the lists name now.
func (n *Node) listsChanged() {
	n.mu.Lock()
	defer n.mu.Unlock()
	p, err := n.planMirrors(n.cfg)
	if err == nil {
		err = n.upstream.Reconfigure(p.upstream)
	}
	if err == nil {
		err = n.front.Apply(p.front)
	}
	if err != nil {
		n.log.Error("what a new list of mirrors names cannot be used; the mirrors before it stay", "error", err)
		return
	}
	n.unlisted.Store(&p.unlisted)
	if n.cluster != nil {
		n.cluster.relimit(n.cfg)
	}
}
