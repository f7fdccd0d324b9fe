package node

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"sync/atomic"

	"github.com/aptmesh/aptmesh/node/aptconf"
	"github.com/aptmesh/aptmesh/node/config"
	"github.com/aptmesh/aptmesh/node/front"
	"github.com/aptmesh/aptmesh/node/mirrorlist"
	"github.com/aptmesh/aptmesh/node/upstream"
	"github.com/aptmesh/aptmesh/proto"
)

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

// userAgent is how this node calls itself to the servers of archives.
func (n *Node) userAgent() string {
	if n.opts.Version == "" {
		return upstream.DefaultUserAgent
	}
	return "aptmesh/" + n.opts.Version + " (+https://github.com/aptmesh/aptmesh)"
}

// source is the HTTP client as the other rooms use it: it knows which names lead into
// a restricted archive, and why an archive has no mirror to ask.
type source struct {
	*upstream.Client
	lists    *mirrorlist.Lists
	inner    *atomic.Pointer[inner]
	formats  *atomic.Pointer[formats]
	unlisted *atomic.Pointer[map[string][]mirrorlist.Key]
}

// Fetch is that of the client, which is told what the archive's format makes of the name. All that
// this node asks of upstream, for itself or for another node, comes through here. An archive whose lists of mirrors are not known yet
// waits for the first look at them, and is unavailable where that brought nothing.
func (s source) Fetch(ctx context.Context, req proto.Request) (*proto.Transfer, error) {
	if in, ok := (*s.inner.Load())[req.Loc.Archive].at(req.Loc.Path); ok {
		return nil, &proto.Refused{Status: http.StatusForbidden, Reason: fmt.Sprintf("%s lies inside the archive %s, which only some clients may read, and is read through that archive alone", req.Loc, in.Archive)}
	}
	info := s.formats.Load().of(req.Loc.Archive).PathInfo(req.Loc.Path)
	req.Immutable, req.Page = info.Immutable, info.Page
	t, err := s.Client.Fetch(ctx, req)
	if !errors.Is(err, upstream.ErrUnknownArchive) {
		return t, err
	}
	keys := (*s.unlisted.Load())[req.Loc.Archive]
	if len(keys) == 0 {
		return nil, err
	}
	var trouble error
	for _, key := range keys {
		if trouble = s.lists.Await(ctx, key); ctx.Err() != nil {
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
		req.Loc.Archive, keys[len(keys)-1].At, trouble)}
}

// mirrorPlan is a configuration with its lists of mirrors read: what the rooms that
// know mirrors are told.
type mirrorPlan struct {
	upstream upstream.Config
	front    front.Rules
	// unlisted are the archives that no mirror is known of, with the lists that they
	// wait for.
	unlisted map[string][]mirrorlist.Key
}

// planMirrors makes the plan of a configuration whose lists are in use.
func (n *Node) planMirrors(cfg *config.Config) (mirrorPlan, error) {
	p := mirrorPlan{unlisted: make(map[string][]mirrorlist.Key)}
	mirrors := make(map[string][]config.Mirror, len(cfg.Archives))
	for _, a := range cfg.Archives {
		mirrors[a.Name] = n.lists.MirrorsOf(cfg, a)
		if len(mirrors[a.Name]) == 0 {
			for _, at := range a.Mirrors() {
				p.unlisted[a.Name] = append(p.unlisted[a.Name], mirrorlist.KeyOf(at))
			}
		}
	}
	archives, err := frontArchives(cfg, mirrors)
	if err != nil {
		return p, err
	}
	for i := range archives {
		if m := n.made()[archives[i].Name]; m != nil {
			archives[i].Used = m.touch
		}
	}
	p.front = front.Rules{Archives: archives, Classes: n.classesOf(cfg), Connect: cfg.ConnectAllow, Clients: clientLimits(cfg.Clients), Lists: n.frontLists(cfg), PublicURL: cfg.PublicURL}
	p.upstream, err = n.upstreamConfig(cfg, mirrors)
	return p, err
}

// frontLists are the lists that servers have, for hosts that ask for them through this node.
func (n *Node) frontLists(cfg *config.Config) []front.List {
	var all []front.List
	for _, a := range cfg.Archives {
		for _, at := range a.Mirrors() {
			if list, err := aptconf.ParseListURL(at.URL); err == nil && list.URL != nil {
				all = append(all, front.List{URL: list.URL, Archive: a.Name, Text: n.lists.Text(mirrorlist.KeyOf(at))})
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
		n.cluster.Relimit(n.cfg)
	}
}
