package upstream

import (
	"net/http"
	"strings"

	"github.com/aptmesh/aptmesh/proto"
)

// via is the Via field of a request for a location: the proxies of the clients that wait for it,
// and this node.
func (s *settings) via(loc proto.Location) string {
	var waiting []string
	if s.cfg.Via != nil {
		waiting = s.cfg.Via(loc)
	}
	return viaField(waiting, s.cfg.Pseudonym)
}

// viaField writes a Via field (RFC 9110, section 7.6.3); "" for nobody.
func viaField(waiting []string, pseudonym string) string {
	var field strings.Builder
	for _, name := range waiting {
		field.WriteString("1.1 " + name + ", ")
	}
	if pseudonym == "" {
		return strings.TrimSuffix(field.String(), ", ")
	}
	return field.String() + "1.1 " + pseudonym
}

// viaHeader is a header with that field alone.
func viaHeader(field string) http.Header {
	if field == "" {
		return nil
	}
	return http.Header{"Via": {field}}
}

// loopError is the verdict on a request that a proxy has recognised as its own (HTTP 508). reason
// begins with the server that answered so.
func loopError(reason string) error {
	return &proto.Rejected{Kind: proto.RejectLoop, Reason: reason +
		": the way there leads back to this node itself, or to a proxy on the way; see the archive's upstream, what its name means in DNS, upstream_client.proxy and http_proxy"}
}
