package admin

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"
)

// Snapshots is what the interface shows of archives as they were, and changes. An error is a sentence for the
// operator; a *Error has a status.
type Snapshots interface {
	Differ
	// Snapshots lists the snapshots by name; name, if not "", is that of the only one.
	Snapshots(name string) ([]Snapshot, error)
	// ShowSnapshot shows a snapshot with what will become of it.
	ShowSnapshot(ctx context.Context, name string) (*Snapshot, error)
	CreateSnapshot(ctx context.Context, plan SnapshotPlan) (*SnapshotResult, error)
	RemoveSnapshot(ctx context.Context, name, by string) (*Done, error)
	// RestoreSnapshot gives a snapshot that was removed its name back, or the name as.
	RestoreSnapshot(ctx context.Context, name, as, by string) (*SnapshotResult, error)
	// RemovedSnapshots lists names that were removed and can be restored, or that the node has given up.
	RemovedSnapshots() []RemovedName
	Channels() []Channel
	SetChannel(ctx context.Context, name, target string, order ChannelOrder) (*ChannelMove, error)
	// Promote moves a channel to what another one stands for now, and Rollback to where it was before.
	Promote(ctx context.Context, from, name string, order ChannelOrder) (*ChannelMove, error)
	Rollback(ctx context.Context, name string, order ChannelOrder) (*ChannelMove, error)
	RemoveChannel(ctx context.Context, name, by string) (*Done, error)
	// HoldChannel has schedules leave a channel where it is, or ends that.
	HoldChannel(ctx context.Context, name string, hold bool, by string) (*Done, error)
}

// SnapshotPlan is what to capture.
type SnapshotPlan struct {
	Name string
	// Archives by name; none means all that the configuration names.
	Archives []string
	// Suites are patterns such as noble*; none means all.
	Suites []string
	// At is the moment to capture; zero for now.
	At   time.Time
	Note string
	// Expires is after how long it is removed, unless a channel stands for it; 0 for never.
	Expires time.Duration
	// Hold is how much is held: metadata or "" for roots and indexes, used, or all.
	Hold string
	// DryRun says what it would take, and takes none.
	DryRun bool
	// By is who asks for it, as the client says.
	By string
}

// Snapshot is archives as they were at one moment.
type Snapshot struct {
	Name   string    `json:"name"`
	Record string    `json:"record"` // the SHA-256 of what it is
	Taken  time.Time `json:"taken"`  // zero where the record is lost
	By     string    `json:"by,omitempty"`
	Node   string    `json:"node"`
	Note   string    `json:"note,omitempty"`
	// Expires is when it is removed, unless a channel stands for it then; zero for never.
	Expires time.Time `json:"expires,omitzero"`
	// Bytes is what it keeps stored: roots and indexes.
	Bytes  int64           `json:"bytes"`
	Suites []SnapshotSuite `json:"suites"`
	// Hold is how much is held: metadata, used or all.
	Hold string `json:"hold"`
	// Packages is what is held besides roots and indexes on the node that answers; nil for nothing.
	Packages *Mirror `json:"packages,omitempty"`
	// Lost says that nothing of it can be served.
	Lost bool `json:"lost,omitempty"`

	// What follows is there where one snapshot is shown, or was just taken.

	// Own is that part of Bytes which nothing else needs.
	Own int64 `json:"own,omitempty"`
	// Warnings say what will become of it, a sentence each.
	Warnings []string `json:"warnings,omitempty"`
}

// RemovedName is a snapshot or a channel that is there no more.
type RemovedName struct {
	Kind   string `json:"kind"` // snapshot or channel
	Name   string `json:"name"`
	Target string `json:"target"` // the record of a snapshot, or where the channel led
	// At is when it was removed or given up, and Until when it can be restored no more.
	At    time.Time `json:"at"`
	Until time.Time `json:"until"`
	// Orphaned says that this node has given it up: it was away for so long that the name may have been
	// removed meanwhile. Otherwise an operator has removed it, or it has expired.
	Orphaned bool `json:"orphaned,omitempty"`
}

// SnapshotSuite is a suite of a snapshot.
type SnapshotSuite struct {
	Suite      string    `json:"suite"`
	Generation time.Time `json:"generation"`
	Indexes    int       `json:"indexes"`
	// Signer, AcceptedUntil and Phased are there where one snapshot is shown. Clients refuse the suite
	// after AcceptedUntil, because of its Valid-Until or because keys have expired; zero for never.
	Signer        string          `json:"signer,omitempty"`
	AcceptedUntil time.Time       `json:"accepted_until,omitzero"`
	Phased        []PhasedPackage `json:"phased,omitempty"`
}

// PhasedPackage is a package that only some hosts may install.
type PhasedPackage struct {
	Name    string `json:"name"`
	Arch    string `json:"arch"`
	Version string `json:"version"`
	Percent int    `json:"percent"` // of the hosts; 0 is a version that was withdrawn
}

// SnapshotResult is a snapshot that was just taken.
type SnapshotResult struct {
	Snapshot
	// Missing are files that belong to it and could not be had.
	Missing []MissingFile `json:"missing,omitempty"`
	// Unreached are nodes that could not be told; they hear of it when they answer.
	Unreached []string `json:"unreached,omitempty"`
	// Forecast is what it takes, where that was asked for, and where it does not fit: then no snapshot was taken.
	Forecast *Forecast `json:"forecast,omitempty"`
}

// MissingFile is a file that could not be had.
type MissingFile struct {
	Location string `json:"location"`
	Error    string `json:"error"`
}

// Channel is a name that hosts use and operators move.
type Channel struct {
	Name   string   `json:"name"`
	Target string   `json:"target"`         // a snapshot, another channel, or live
	Live   []string `json:"live,omitempty"` // patterns of suites that hosts get as they are now
	// Held says that schedules leave it where it is.
	Held bool      `json:"held,omitempty"`
	By   string    `json:"by,omitempty"`
	Node string    `json:"node"`
	At   time.Time `json:"at"`
	// Moves are its latest moves, the newest first.
	Moves []ChannelMove `json:"moves"`
}

// ChannelOrder is how a channel is to be moved.
type ChannelOrder struct {
	// By is who asks for it, as the client says.
	By string
	// Live replaces the patterns of suites that hosts get as they are now; nil leaves them as they are. Rollback does not
	// read it.
	Live []string
	// Now tells the other nodes without waiting for them.
	Now bool
}

// ChannelMove is one move of a channel, with the patterns of live suites before and after.
type ChannelMove struct {
	From     string    `json:"from,omitempty"`
	FromLive []string  `json:"from_live,omitempty"`
	To       string    `json:"to"`
	ToLive   []string  `json:"to_live,omitempty"`
	By       string    `json:"by,omitempty"`
	Node     string    `json:"node,omitempty"`
	At       time.Time `json:"at,omitzero"`
	// Unreached is as in SnapshotResult, of a move that was just made.
	Unreached []string `json:"unreached,omitempty"`
}

// Done is an act without a result.
type Done struct {
	Message string `json:"message"`
	// Unreached is as in SnapshotResult.
	Unreached []string `json:"unreached,omitempty"`
}

// serveSnapshots adds the paths of snapshots and channels.
func serveSnapshots(mux *http.ServeMux, s Snapshots) {
	serveDiff(mux, s)
	mux.HandleFunc("GET "+snapshotsPath, func(w http.ResponseWriter, r *http.Request) {
		list, err := s.Snapshots(r.FormValue("name"))
		answerOr(w, http.StatusNotFound, list, err)
	})
	mux.HandleFunc("GET "+snapshotsPath+showSuffix, func(w http.ResponseWriter, r *http.Request) {
		s, err := s.ShowSnapshot(r.Context(), r.FormValue("name"))
		answerOr(w, http.StatusNotFound, s, err)
	})
	mux.HandleFunc("POST "+snapshotsPath, func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm() // what cannot be read is not there
		expires, err := time.ParseDuration(cmp.Or(r.FormValue("expires"), "0s"))
		if err != nil || expires < 0 {
			answer(w, http.StatusBadRequest, Error{Message: fmt.Sprintf("%q is not after how long a snapshot expires: write for example 2880h", r.FormValue("expires"))})
			return
		}
		var at time.Time
		if text := r.FormValue("at"); text != "" {
			if at, err = time.Parse(time.RFC3339, text); err != nil {
				answer(w, http.StatusBadRequest, Error{Message: fmt.Sprintf("%q is no moment: write for example 2026-12-01T03:00:00Z", text)})
				return
			}
		}
		result, err := s.CreateSnapshot(r.Context(), SnapshotPlan{
			Name: r.FormValue("name"), Archives: r.Form["archive"], Suites: r.Form["suite"], At: at, Note: r.FormValue("note"), Expires: expires, By: r.FormValue("by"),
			Hold: r.FormValue("hold"), DryRun: r.FormValue("dry_run") != "",
		})
		answerOr(w, http.StatusConflict, result, err)
	})
	mux.HandleFunc("POST "+snapshotsPath+removeSuffix, func(w http.ResponseWriter, r *http.Request) {
		result, err := s.RemoveSnapshot(r.Context(), r.FormValue("name"), r.FormValue("by"))
		answerOr(w, http.StatusConflict, result, err)
	})
	mux.HandleFunc("POST "+snapshotsPath+restoreSuffix, func(w http.ResponseWriter, r *http.Request) {
		result, err := s.RestoreSnapshot(r.Context(), r.FormValue("name"), r.FormValue("as"), r.FormValue("by"))
		answerOr(w, http.StatusConflict, result, err)
	})
	mux.HandleFunc("GET "+snapshotsPath+removedSuffix, func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, s.RemovedSnapshots())
	})
	mux.HandleFunc("GET "+channelsPath, func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, s.Channels())
	})
	mux.HandleFunc("POST "+channelsPath, func(w http.ResponseWriter, r *http.Request) {
		result, err := s.SetChannel(r.Context(), r.FormValue("name"), r.FormValue("target"), orderOf(r))
		answerOr(w, http.StatusConflict, result, err)
	})
	mux.HandleFunc("POST "+channelsPath+promoteSuffix, func(w http.ResponseWriter, r *http.Request) {
		result, err := s.Promote(r.Context(), r.FormValue("from"), r.FormValue("name"), orderOf(r))
		answerOr(w, http.StatusConflict, result, err)
	})
	mux.HandleFunc("POST "+channelsPath+rollbackSuffix, func(w http.ResponseWriter, r *http.Request) {
		result, err := s.Rollback(r.Context(), r.FormValue("name"), orderOf(r))
		answerOr(w, http.StatusConflict, result, err)
	})
	mux.HandleFunc("POST "+channelsPath+holdSuffix, func(w http.ResponseWriter, r *http.Request) {
		result, err := s.HoldChannel(r.Context(), r.FormValue("name"), r.FormValue("hold") != "", r.FormValue("by"))
		answerOr(w, http.StatusConflict, result, err)
	})
	mux.HandleFunc("POST "+channelsPath+removeSuffix, func(w http.ResponseWriter, r *http.Request) {
		result, err := s.RemoveChannel(r.Context(), r.FormValue("name"), r.FormValue("by"))
		answerOr(w, http.StatusConflict, result, err)
	})
}

// orderOf reads how a channel is to be moved, as Client.moveChannel writes it.
func orderOf(r *http.Request) ChannelOrder {
	_ = r.ParseForm() // what cannot be read is not there
	order := ChannelOrder{By: r.FormValue("by"), Now: r.FormValue("now") == "true"}
	if live, said := r.Form["live"]; said {
		order.Live = slices.DeleteFunc(slices.Clone(live), func(p string) bool { return p == "" })
	}
	return order
}

// Snapshots asks for all snapshots, or for the one of a name.
func (c *Client) Snapshots(ctx context.Context, name string) ([]Snapshot, error) {
	query := url.Values{}
	if name != "" {
		query.Set("name", name)
	}
	var list []Snapshot
	return list, c.call(ctx, http.MethodGet, snapshotsPath, query, &list)
}

const showSuffix, restoreSuffix, removedSuffix, holdSuffix = "/show", "/restore", "/removed", "/hold"

// ShowSnapshot asks for a snapshot with what will become of it.
func (c *Client) ShowSnapshot(ctx context.Context, name string) (*Snapshot, error) {
	var s Snapshot
	return &s, c.call(ctx, http.MethodGet, snapshotsPath+showSuffix, url.Values{"name": {name}}, &s)
}

// CreateSnapshot has archives captured as they are.
func (c *Client) CreateSnapshot(ctx context.Context, plan SnapshotPlan) (*SnapshotResult, error) {
	query := url.Values{
		"name": {plan.Name}, "archive": plan.Archives, "suite": plan.Suites, "note": {plan.Note}, "expires": {plan.Expires.String()}, "by": {plan.By}, "hold": {plan.Hold},
	}
	if !plan.At.IsZero() {
		query.Set("at", plan.At.UTC().Format(time.RFC3339))
	}
	if plan.DryRun {
		query.Set("dry_run", "1")
	}
	var r SnapshotResult
	return &r, c.call(ctx, http.MethodPost, snapshotsPath, query, &r)
}

// RemoveSnapshot takes a snapshot away.
func (c *Client) RemoveSnapshot(ctx context.Context, name, by string) (*Done, error) {
	var d Done
	return &d, c.call(ctx, http.MethodPost, snapshotsPath+removeSuffix, url.Values{"name": {name}, "by": {by}}, &d)
}

// RestoreSnapshot brings a snapshot back that was removed.
func (c *Client) RestoreSnapshot(ctx context.Context, name, as, by string) (*SnapshotResult, error) {
	var r SnapshotResult
	return &r, c.call(ctx, http.MethodPost, snapshotsPath+restoreSuffix, url.Values{"name": {name}, "as": {as}, "by": {by}}, &r)
}

// RemovedSnapshots asks for names that were removed.
func (c *Client) RemovedSnapshots(ctx context.Context) ([]RemovedName, error) {
	var list []RemovedName
	return list, c.call(ctx, http.MethodGet, snapshotsPath+removedSuffix, nil, &list)
}

// Channels asks for the channels.
func (c *Client) Channels(ctx context.Context) ([]Channel, error) {
	var list []Channel
	return list, c.call(ctx, http.MethodGet, channelsPath, nil, &list)
}

// SetChannel moves a channel to a target.
func (c *Client) SetChannel(ctx context.Context, name, target string, order ChannelOrder) (*ChannelMove, error) {
	return c.moveChannel(ctx, channelsPath, url.Values{"name": {name}, "target": {target}}, order)
}

// Promote moves a channel to what another one stands for now.
func (c *Client) Promote(ctx context.Context, from, name string, order ChannelOrder) (*ChannelMove, error) {
	return c.moveChannel(ctx, channelsPath+promoteSuffix, url.Values{"from": {from}, "name": {name}}, order)
}

// Rollback moves a channel to where it was before.
func (c *Client) Rollback(ctx context.Context, name string, order ChannelOrder) (*ChannelMove, error) {
	return c.moveChannel(ctx, channelsPath+rollbackSuffix, url.Values{"name": {name}}, order)
}

func (c *Client) moveChannel(ctx context.Context, path string, query url.Values, order ChannelOrder) (*ChannelMove, error) {
	query.Set("by", order.By)
	if order.Live != nil {
		query["live"] = append([]string{""}, order.Live...) // "" alone: no suite
	}
	if order.Now {
		query.Set("now", "true")
	}
	var m ChannelMove
	return &m, c.call(ctx, http.MethodPost, path, query, &m)
}

// RemoveChannel takes a channel away.
func (c *Client) RemoveChannel(ctx context.Context, name, by string) (*Done, error) {
	var d Done
	return &d, c.call(ctx, http.MethodPost, channelsPath+removeSuffix, url.Values{"name": {name}, "by": {by}}, &d)
}

// HoldChannel has schedules leave a channel where it is, or ends that.
func (c *Client) HoldChannel(ctx context.Context, name string, hold bool, by string) (*Done, error) {
	query := url.Values{"name": {name}, "by": {by}}
	if hold {
		query.Set("hold", "1")
	}
	var d Done
	return &d, c.call(ctx, http.MethodPost, channelsPath+holdSuffix, query, &d)
}
