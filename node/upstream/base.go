package upstream

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/aptmesh/aptmesh/proto"
	"github.com/aptmesh/aptmesh/proto/expiring"
)

// A mirror may redirect the root of a suite to another site. apt then takes that site for the
// mirror that it uses, and asks it for the indexes of the suite before it asks the configured one
// (apt-pkg/acquire-worker.cc, ChangeSiteIsMirrorChange; apt-pkg/acquire-item.cc,
// pkgAcqMetaBase::CheckDownloadDone and pkgAcqTransactionItem::QueueURI; since apt 1.3; switched by
// Acquire::SameMirrorForAllIndexes). apt asks the configured mirror for packages. The caller marks
// the requests for members of a redirected suite with Request.Base.

const (
	// maxSites and siteFor bound what is remembered of these sites, because a mirror chooses them.
	maxSites = 64
	siteFor  = time.Hour
)

// sites is the health of the sites that roots were redirected to, by Transfer.Base. Safe for
// concurrent use.
type sites struct {
	of *expiring.Map[string, *health]
}

func newSites() sites { return sites{expiring.New[string, *health](maxSites)} }

func (s sites) health(base string) *health {
	now := time.Now()
	var h *health
	s.of.Update(base, now, func(known *health, ok bool) (*health, time.Time) {
		if h = known; !ok {
			h = newHealth(base)
		}
		return h, now.Add(siteFor)
	})
	return h
}

// baseOf returns Transfer.Base for a path of an archive that was asked for at first and read at
// last. As with apt, only another site (scheme, host and port) counts. apt wants the path below the
// host's URL to be the same there. That URL is not known here; so the name must be the same, and
// then the directory of the file is known there, and all that is below it. Where the whole path is
// the same, that is the archive's root. Else the fragment of Base says which directory it is.
func baseOf(first, last *url.URL, path string) string {
	if hostName(first) == hostName(last) || last.RawQuery != "" || last.ForceQuery {
		return ""
	}
	site := last.Scheme + "://" + last.Host
	if root, found := strings.CutSuffix(last.EscapedPath(), "/"+escapePath(path)); found {
		return site + root
	}
	cut := strings.LastIndexByte(path, '/')
	below, found := strings.CutSuffix(last.EscapedPath(), "/"+escapePath(path[cut+1:]))
	if !found {
		return ""
	}
	return site + below + "#" + escapePath(path[:max(cut, 0)])
}

// siteOf returns the mirror that a Request.Base stands for, or why it is not asked. A redirect
// could have hop there from one of the archive's mirrors: not from https to http.
func (c *Client) siteOf(s *settings, a *archive, base string) (*mirror, error) {
	if m := a.named(base); m != nil {
		return m, nil
	}
	u, err := url.Parse(base)
	if err != nil {
		return nil, err
	}
	dir := u.Fragment
	u.Fragment, u.RawFragment = "", ""
	if !slices.ContainsFunc(a.mirrors, func(m *mirror) bool { return mayRedirect(m.URL, u) == nil }) {
		return nil, fmt.Errorf("no mirror of %s may redirect to %s", a.name, bareURL(u))
	}
	m, err := Mirror{URL: u}.checked(a.name)
	if err != nil {
		return nil, err
	}
	m.Listed = true // it is somebody else's word
	return &mirror{Mirror: m, name: base, dir: dir, transport: s.transport, health: c.sites.health(base)}, nil
}

// first returns the site to ask before the mirrors; nil where there is none, and where it is known
// to be of no use for the object.
func (r *failover) first() *mirror {
	if r.req.Base == "" {
		return nil
	}
	m, err := r.client.siteOf(r.s, r.archive, r.req.Base)
	if err != nil {
		r.s.cfg.Logger.Debug("a suite's other site is not asked", "location", r.req.Loc.String(), "error", err)
		return nil
	}
	if !m.covers(r.req.Loc.Path) {
		return nil
	}
	if fault, _ := r.client.penalties.get(m.name, r.req.Loc); fault != noFault || !m.health.mayBeAsked(time.Now()) {
		return nil
	}
	return m
}

// mayBeAsked reports whether nothing is known that speaks against the site.
func (h *health) mayBeAsked(now time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.breaker.state(now) != BreakerOpen
}

// mayRedirect returns why a redirect from one URL to another is not followed; nil where it is.
func mayRedirect(from, to *url.URL) error {
	switch {
	case to.Scheme != "http" && to.Scheme != "https":
		return fmt.Errorf("to %q, which is not http or https", to.Scheme+":")
	case to.Hostname() == "":
		return fmt.Errorf("to a URL without a host")
	case from.Scheme == "https" && to.Scheme == "http":
		return fmt.Errorf("from https to http, to %s", bareURL(to))
	}
	return nil
}

// atSite asks the site of Request.Base; nil where that has nothing to give. What it lacks or
// refuses says nothing about the archive.
func (r *failover) atSite(ctx context.Context) *proto.Transfer {
	m := r.first()
	if m == nil {
		return nil
	}
	t, err := r.try(ctx, m, r.req)
	if err != nil {
		r.s.cfg.Logger.Debug("a suite's other site does not give a file", "location", r.req.Loc.String(), "site", m.name, "error", err)
		return nil
	}
	return t
}
