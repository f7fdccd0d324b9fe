package admin

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"time"
)

// Mirrors is what the interface shows of mirrors, and has done for them. An error is a sentence for the operator.
type Mirrors interface {
	// Mirrors lists the mirrors by name; name, if not "", is that of the only one, with how it is on all nodes.
	Mirrors(ctx context.Context, name string) ([]Mirror, error)
	// PlanMirror says what a mirror will take, before anything but indexes is fetched.
	PlanMirror(ctx context.Context, name string) (*Forecast, error)
	// RunMirror has a mirror fetch what is missing now, and VerifyMirror read all that it holds before, on all nodes.
	// Neither waits: Mirrors says how far it is.
	RunMirror(ctx context.Context, name string) (*Mirror, error)
	VerifyMirror(ctx context.Context, name string) (*Mirror, error)
}

// FileCount is a number of files and their bytes.
type FileCount struct {
	Files int   `json:"files"`
	Bytes int64 `json:"bytes"`
}

// Mirror is a mirror on one node.
type Mirror struct {
	Name string `json:"name"`
	// Node is the one that says all this.
	Node        string             `json:"node"`
	Generations []MirrorGeneration `json:"generations"`
	// Listed is all that is to be held in the cluster, Share what this node is to hold of it, Held what it does. Own is
	// what of that nothing else on this node holds, Cluster what any node is believed to store. Each file counts once.
	Listed  FileCount `json:"listed"`
	Share   FileCount `json:"share"`
	Held    FileCount `json:"held"`
	Own     FileCount `json:"own"`
	Cluster FileCount `json:"cluster"`
	Missing FileCount `json:"missing"`
	// Phase is what is done for it: waiting, planning, fetching, verifying, done, incomplete, refused or failed.
	Phase   string `json:"phase"`
	Failure string `json:"failure,omitempty"`
	// Unchecked is why upstream could not say whether there is something newer, when it was last asked; "" if it did.
	Unchecked string `json:"unchecked,omitempty"`
	// Next is when it goes on by itself; zero: when a suite changes.
	Next time.Time `json:"next,omitzero"`

	// Total is what is to be there when the run ends, Done what is.
	Total FileCount `json:"total"`
	Done  FileCount `json:"done"`
	// Fetched and ToFetch are the bytes of this run.
	Fetched int64 `json:"fetched"`
	ToFetch int64 `json:"to_fetch"`
	// Rate is in bytes per second.
	Rate             int64 `json:"rate,omitempty"`
	RemainingSeconds int64 `json:"remaining_seconds,omitempty"`

	// Lost are files that could not be had in the last run, the first of LostCount.
	Lost      []MissingFile `json:"lost,omitempty"`
	LostCount int           `json:"lost_count,omitempty"`
	// Unresolved are dependencies that nothing in the suites meets, the first of UnresolvedCount.
	Unresolved      []UnresolvedNeed `json:"unresolved,omitempty"`
	UnresolvedCount int              `json:"unresolved_count,omitempty"`
	// Unprovable are files without a strong sum, Unsized such without a size, Absent indexes that upstream lists and does
	// not carry in this form.
	Unprovable int `json:"unprovable,omitempty"`
	Unsized    int `json:"unsized,omitempty"`
	Absent     int `json:"absent,omitempty"`
	// Checked is what the last verification has read, CheckOf of how many bytes, Damaged how many files were not whole.
	Checked FileCount `json:"checked,omitzero"`
	CheckOf int64     `json:"check_of,omitempty"`
	Damaged int       `json:"damaged,omitempty"`
	// Others are the other nodes of the cluster, by name.
	Others []MirrorNode `json:"others,omitempty"`
}

// MirrorNode is a mirror on another node of the cluster.
type MirrorNode struct {
	Node    string    `json:"node"`
	Phase   string    `json:"phase,omitempty"` // as of Mirror; "" where the node does not answer
	Failure string    `json:"failure,omitempty"`
	Share   FileCount `json:"share"`
	Held    FileCount `json:"held"`
	Missing FileCount `json:"missing"`
}

// Running reports whether something is done for it at this moment, on any node.
func (m *Mirror) Running() bool {
	return running(m.Phase) || slices.ContainsFunc(m.Others, func(n MirrorNode) bool { return running(n.Phase) })
}

func running(phase string) bool {
	return phase == "planning" || phase == "fetching" || phase == "verifying"
}

// MirrorGeneration is a generation that a mirror holds.
type MirrorGeneration struct {
	Taken  time.Time     `json:"taken"`
	Suites []MirrorSuite `json:"suites"`
	// Whole says that all of the node's share is held.
	Whole bool `json:"whole"`
	FileCount
}

// MirrorSuite is a suite of a generation.
type MirrorSuite struct {
	Suite      string    `json:"suite"`
	Generation time.Time `json:"generation"`
}

// UnresolvedNeed is a dependency that nothing meets.
type UnresolvedNeed struct {
	Package string `json:"package"`
	Version string `json:"version"`
	Arch    string `json:"arch,omitempty"`
	Need    string `json:"need"`
}

// Forecast is what a hold will take.
type Forecast struct {
	// Unchecked is as in Mirror: then the numbers are those of the generations that the node has.
	Unchecked string        `json:"unchecked,omitempty"`
	Suites    []MirrorSuite `json:"suites"`
	Indexes   FileCount     `json:"indexes"`
	Packages  FileCount     `json:"packages"`
	// Share is what the node that answers is to hold, Stored what of it is stored already; Nodes has the shares of all.
	Share  FileCount            `json:"share"`
	Stored FileCount            `json:"stored"`
	Nodes  map[string]FileCount `json:"nodes,omitempty"`
	// Need is how many bytes this node would hold more, besides Held, of Limit.
	Need  int64 `json:"need"`
	Held  int64 `json:"held"`
	Limit int64 `json:"limit"`
	Fits  bool  `json:"fits"`
	// Refused says why it does not fit.
	Refused         string           `json:"refused,omitempty"`
	Largest         []HoldSize       `json:"largest,omitempty"`
	Unresolved      []UnresolvedNeed `json:"unresolved,omitempty"`
	UnresolvedCount int              `json:"unresolved_count,omitempty"`
	Unprovable      int              `json:"unprovable,omitempty"`
	Unsized         int              `json:"unsized,omitempty"`
}

// HoldSize is a hold and what it takes on the node.
type HoldSize struct {
	Hold  string `json:"hold"`
	Bytes int64  `json:"bytes"`
}

// HoldTrouble is a mirror or snapshot of which a node could not hold its share.
type HoldTrouble struct {
	Hold    string `json:"hold"`
	Phase   string `json:"phase"` // refused, incomplete or failed
	Failure string `json:"failure"`
}

// serveMirrors adds the paths of mirrors.
func serveMirrors(mux *http.ServeMux, m Mirrors) {
	mux.HandleFunc("GET "+mirrorsPath, func(w http.ResponseWriter, r *http.Request) {
		list, err := m.Mirrors(r.Context(), r.FormValue("name"))
		answerOr(w, http.StatusNotFound, list, err)
	})
	mux.HandleFunc("POST "+mirrorsPath+planSuffix, func(w http.ResponseWriter, r *http.Request) {
		f, err := m.PlanMirror(r.Context(), r.FormValue("name"))
		answerOr(w, http.StatusConflict, f, err)
	})
	mux.HandleFunc("POST "+mirrorsPath+runSuffix, func(w http.ResponseWriter, r *http.Request) {
		mirror, err := m.RunMirror(r.Context(), r.FormValue("name"))
		answerOr(w, http.StatusConflict, mirror, err)
	})
	mux.HandleFunc("POST "+mirrorsPath+verifySuffix, func(w http.ResponseWriter, r *http.Request) {
		mirror, err := m.VerifyMirror(r.Context(), r.FormValue("name"))
		answerOr(w, http.StatusConflict, mirror, err)
	})
}

// Mirrors asks for all mirrors, or for the one of a name.
func (c *Client) Mirrors(ctx context.Context, name string) ([]Mirror, error) {
	query := url.Values{}
	if name != "" {
		query.Set("name", name)
	}
	var list []Mirror
	return list, c.call(ctx, http.MethodGet, mirrorsPath, query, &list)
}

// PlanMirror asks what a mirror will take.
func (c *Client) PlanMirror(ctx context.Context, name string) (*Forecast, error) {
	var f Forecast
	return &f, c.call(ctx, http.MethodPost, mirrorsPath+planSuffix, url.Values{"name": {name}}, &f)
}

// RunMirror has a mirror fetch what is missing, and does not wait for it.
func (c *Client) RunMirror(ctx context.Context, name string) (*Mirror, error) {
	var m Mirror
	return &m, c.call(ctx, http.MethodPost, mirrorsPath+runSuffix, url.Values{"name": {name}}, &m)
}

// VerifyMirror has all that a mirror holds read again, and does not wait for it.
func (c *Client) VerifyMirror(ctx context.Context, name string) (*Mirror, error) {
	var m Mirror
	return &m, c.call(ctx, http.MethodPost, mirrorsPath+verifySuffix, url.Values{"name": {name}}, &m)
}
