package front

import (
	"net/http"
	"net/url"
	"strings"
)

// List is the mirror list of an archive, for hosts whose sources name the same list (mirror+http)
// and that use this node as their proxy.
type List struct {
	// URL is where it is; without a path, everything on the host is this list.
	URL     *url.URL
	Archive string
	// Text is what the node goes by, in apt's format (apt-transport-mirror(1)); "" while it is not known.
	Text string
}

// listOf returns the list that a proxy request asks for.
func (r *rules) listOf(target string) (List, bool) {
	if len(r.lists) == 0 {
		return List{}, false
	}
	target, _, _ = strings.Cut(target, "?") // dnf counts itself there (countme=1)
	_, host, path, ok := splitURL(target)
	if !ok {
		return List{}, false
	}
	l, ok := r.lists[bareHost(host)+path]
	if !ok {
		l, ok = r.lists[bareHost(host)]
	}
	return l, ok
}

// list answers with a list of mirrors.
func (x *exchange) list(l List) {
	if !x.admit(x.rules.guard(l.Archive)) {
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
