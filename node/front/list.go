package front

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/aptmesh/aptmesh/proto"
)

// List is the mirror list of an archive, for hosts that are configured with the same list, and use
// this node as their proxy.
type List struct {
	// URL is where it is; without a path, everything on the host is this list. Its query has to be part of what hosts
	// ask for.
	URL     *url.URL
	Archive string
	// Path, where not "", is where HostLists of the archive have the list; At is the URL by which hosts have that.
	Path, At string
	// Text, where there is no Path, is what the node goes by, in apt's format (apt-transport-mirror(1)); "" while it is not known.
	Text string
}

// listOf returns the list that a proxy request asks for.
func (r *rules) listOf(target string) (List, bool) {
	if len(r.lists) == 0 {
		return List{}, false
	}
	target, query, _ := strings.Cut(target, "?")
	_, host, path, ok := splitURL(target)
	if !ok {
		return List{}, false
	}
	at, ok := r.lists[bareHost(host)+path]
	if !ok {
		at = r.lists[bareHost(host)]
	}
	for _, l := range at {
		if l.covers(query) {
			return l, true
		}
	}
	return List{}, false
}

// covers reports whether a query has all that the list's own has. dnf counts itself in it (countme=1).
func (l *List) covers(query string) bool {
	if l.URL.RawQuery == "" {
		return true
	}
	asked, err := url.ParseQuery(query)
	if err != nil {
		return false
	}
	for key, values := range l.URL.Query() {
		if !slices.Equal(values, asked[key]) {
			return false
		}
	}
	return true
}

// list answers with a list of mirrors.
func (x *exchange) list(l List) {
	if !x.admit(x.rules.guard(l.Archive)) {
		return
	}
	if lists := x.rules.hostLists[l.Archive]; l.Path != "" && lists != nil {
		x.loc = proto.Location{Archive: l.Archive, Path: l.Path}
		if err := x.hostList(lists, l.At); err != nil {
			x.fail(err)
		}
		return
	}
	if l.Text == "" {
		x.refuse(l.unknown())
		return
	}
	a := answer{
		verdict: verdict{status: http.StatusOK}, cache: cacheNever, age: -1,
		note: note{result: resultPage, age: -1}, contentType: typeText, text: l.Text,
	}
	a.length = int64(len(l.Text))
	x.sendText(&a)
}

func (l List) unknown() *refusal {
	return &refusal{status: http.StatusServiceUnavailable, reason: reasonUnavailable, retryAfter: retryDefault,
		text: "the list of mirrors " + quote(l.URL.Redacted()) + " is not known yet on this node; ask again in a moment"}
}
