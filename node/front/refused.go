package front

import (
	"cmp"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// RefusedURL is something that clients ask for and this node does not serve.
type RefusedURL struct {
	// URL is the root of what looks like an archive: "http://download.example.org/linux/debian",
	// "/name" of a mapped URL, or "CONNECT host:port".
	URL    string `json:"url"`
	Reason string `json:"reason"` // see Reasons
	// Requests counts since First; Last is the latest one, and Example what it asked for.
	Requests int64     `json:"requests"`
	First    time.Time `json:"first"`
	Last     time.Time `json:"last"`
	Example  string    `json:"example"`
	// Clients are the addresses of those that ask, at most 32; More says that there are others.
	Clients []string `json:"clients"`
	More    bool     `json:"more_clients,omitempty"`
}

// Bounds of what is remembered: anybody can ask for anything.
const (
	maxRefusedURLs    = 256
	maxRefusedClients = 32
	refusedAge        = 30 * 24 * time.Hour
)

// refusedURLs is the list of what clients ask for in vain.
type refusedURLs struct {
	mu  sync.Mutex
	all map[string]*RefusedURL // by URL and reason; guarded by mu
}

// noteRefused adds an exchange to the list if an operator could let it in.
func (x *exchange) noteRefused(now time.Time) {
	switch x.note.reason {
	case reasonHost, reasonPrefix, reasonConnect, reasonClientNet, reasonSnapshot:
	default:
		return
	}
	x.f.refused.add(x.refusedURL(), x.note.reason, shown(x.r.RequestURI), x.clientAddr(), now)
}

// refusedURL is the root of the archive that was asked for, as far as the URL shows it.
func (x *exchange) refusedURL() string {
	target, _, _ := strings.Cut(x.r.RequestURI, "?")
	switch {
	case x.r.Method == http.MethodConnect:
		return connectKey(target)
	case x.snapshot != "" && x.loc.Archive != "":
		return snapshotURL(x.snapshot, x.loc.Archive)
	}
	scheme, host, path, ok := splitURL(target)
	if !ok || x.rules.routes.isOwn(host, nil) {
		if !ok {
			path = target
		}
		return quote("/" + x.f.cfg.ArchiveRoot(strings.Trim(path, "/")))
	}
	return quote(strings.ToLower(scheme) + "://" + bareHost(host) + strings.TrimSuffix("/"+x.f.cfg.ArchiveRoot(strings.Trim(path, "/")), "/"))
}

func (l *refusedURLs) add(url, reason, example, client string, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all == nil {
		l.all = make(map[string]*RefusedURL)
	}
	key := url + " " + reason
	r := l.all[key]
	if r == nil {
		if len(l.all) >= maxRefusedURLs {
			l.forget(now)
		}
		r = &RefusedURL{URL: url, Reason: reason, First: now}
		l.all[key] = r
	}
	r.Requests++
	r.Last, r.Example = now, example
	switch {
	case client == "" || slices.Contains(r.Clients, client):
	case len(r.Clients) < maxRefusedClients:
		r.Clients = append(r.Clients, client)
	default:
		r.More = true
	}
}

// forget makes room: what is old goes, and if nothing is, what was asked for least. So a scanner, which
// asks for each URL once, does not push out what hosts ask for every day.
func (l *refusedURLs) forget(now time.Time) {
	var least string
	for key, r := range l.all {
		if now.Sub(r.Last) > refusedAge {
			delete(l.all, key)
			continue
		}
		if w := l.all[least]; w == nil || r.Requests < w.Requests || r.Requests == w.Requests && r.Last.Before(w.Last) {
			least = key
		}
	}
	if len(l.all) >= maxRefusedURLs {
		delete(l.all, least)
	}
}

// Refused lists what clients asked for in vain since the node began, most requests first.
func (f *Front) Refused() []RefusedURL {
	l := &f.refused
	l.mu.Lock()
	defer l.mu.Unlock()
	list := make([]RefusedURL, 0, len(l.all))
	for _, r := range l.all {
		own := *r
		own.Clients = slices.Sorted(slices.Values(r.Clients))
		list = append(list, own)
	}
	slices.SortFunc(list, func(a, b RefusedURL) int {
		return cmp.Or(cmp.Compare(b.Requests, a.Requests), cmp.Compare(a.URL, b.URL))
	})
	return list
}
