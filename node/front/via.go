package front

import (
	"net/http"
	"slices"
	"strings"

	"github.com/aptmesh/aptmesh/proto"
)

// loopStatus answers a request that came back. It is the status that RFC 5842, section 7.2, has for
// this, so that a cache between us and ourselves, or another node, understands it; apt takes it for
// final.
const loopStatus = http.StatusLoopDetected

// viaOf returns the proxies that a request came through, in their order: the received-by of each
// member of its Via fields (RFC 9110, section 7.6.3). Malformed members are left out, and members
// beyond proto.MaxVia, too.
func viaOf(fields []string) []string {
	var via []string
	for _, field := range fields {
		for member := range strings.SplitSeq(withoutComments(field), ",") {
			words := strings.Fields(member) // protocol, received-by
			if len(words) == 2 && len(words[1]) <= maxProxyName && len(via) < proto.MaxVia && !slices.Contains(via, words[1]) {
				via = append(via, words[1])
			}
		}
	}
	return via
}

// maxProxyName is the length of a host name and a port.
const maxProxyName = 256

// withoutComments leaves out what stands in brackets, which may hold commas, and all that is no
// printable ASCII.
func withoutComments(field string) string {
	depth := 0
	return strings.Map(func(r rune) rune {
		switch {
		case r == '(':
			depth++
			return ' '
		case r == ')':
			depth = max(0, depth-1)
			return ' '
		case depth > 0:
			return -1
		case r == '\t':
			return ' '
		case r < ' ' || r > '~':
			return -1
		}
		return r
	}, field)
}

// ownRequest refuses a request that this node sent itself, and reports whether it did.
func (x *exchange) ownRequest() bool {
	fields := x.r.Header["Via"]
	if len(fields) == 0 {
		return false
	}
	x.via = viaOf(fields)
	if x.f.cfg.Pseudonym == "" || !slices.Contains(x.via, x.f.cfg.Pseudonym) {
		return false
	}
	const reason = "a request of this node came back to itself: a loop"
	x.refuse(&refusal{status: loopStatus, reason: string(proto.RejectLoop), phrase: reason,
		text: reason + "; see the archive's upstream, what its name means in DNS, upstream_client.proxy and http_proxy"})
	return true
}
