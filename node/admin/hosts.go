package admin

import (
	"context"
	"net/http"
	"net/url"

	"github.com/aptmesh/aptmesh/proto"
)

// Hosts is what the interface shows of what hosts need. An error is a sentence for the operator.
type Hosts interface {
	// HostArchives are the archives that hosts get under the name of a snapshot or channel, or of live.
	HostArchives(ctx context.Context, want HostQuery) ([]HostArchive, error)
}

// HostArchive is an archive as hosts use it.
type HostArchive = proto.HostArchive

// HostQuery is what a host is to use.
type HostQuery struct {
	ID string // a snapshot, a channel, or live
	// Archives by name; none means all. Suites are patterns such as noble*; none means all.
	Archives, Suites []string
}

func serveHosts(mux *http.ServeMux, h Hosts) {
	mux.HandleFunc("GET "+hostsPath, func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm() // what cannot be read is not there
		list, err := h.HostArchives(r.Context(), HostQuery{ID: r.FormValue("id"), Archives: r.Form["archive"], Suites: r.Form["suite"]})
		answerOr(w, http.StatusNotFound, list, err)
	})
}

// HostArchives asks for the archives that hosts get under the name of a snapshot or channel, or of live.
func (c *Client) HostArchives(ctx context.Context, want HostQuery) ([]HostArchive, error) {
	var list []HostArchive
	return list, c.call(ctx, http.MethodGet, hostsPath, url.Values{"id": {want.ID}, "archive": want.Archives, "suite": want.Suites}, &list)
}
