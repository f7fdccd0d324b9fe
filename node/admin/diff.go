package admin

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// Differ compares archives as they were.
type Differ interface {
	// DiffSnapshots compares two snapshots, channels, or "live".
	DiffSnapshots(ctx context.Context, plan DiffPlan) (*Diff, error)
}

// DiffPlan is what to compare.
type DiffPlan struct {
	// Before and After are names of snapshots or channels, or "live".
	Before, After string
	// Archives and Suites are as in SnapshotPlan; none means all.
	Archives, Suites []string
	// Used leaves out packages that no host took lately.
	Used bool
}

// Diff is what differs between two states of archives.
type Diff struct {
	Before string      `json:"before"`
	After  string      `json:"after"`
	Suites []SuiteDiff `json:"suites"`
	// Bytes is what the files take that are new, and Gone what those take that are not there any more.
	Bytes int64 `json:"bytes"`
	Gone  int64 `json:"gone"`
}

// SuiteDiff is what differs in one suite.
type SuiteDiff struct {
	Suite string `json:"suite"`
	// Before and After are the dates of the generations; zero where the suite is not there.
	Before time.Time `json:"before,omitzero"`
	After  time.Time `json:"after,omitzero"`
	// Packages are those that differ, by name.
	Packages []PackageDiff `json:"packages"`
	// Skipped says what could not be compared.
	Skipped []string `json:"skipped,omitempty"`
}

// PackageDiff is a package that differs.
type PackageDiff struct {
	// Change is added, removed, upgraded, downgraded, or replaced: other content under the same version.
	Change string          `json:"change"`
	Name   string          `json:"name"`
	Arch   string          `json:"arch,omitempty"`
	Before *PackageVersion `json:"before,omitempty"`
	After  *PackageVersion `json:"after,omitempty"`
	// Security says that a suite of security updates has the same version after the change.
	Security bool `json:"security,omitempty"`
	// Used is when a host last took a version of it from this node, to within ten minutes; zero for never.
	Used time.Time `json:"used,omitzero"`
}

// PackageVersion is a version of a package.
type PackageVersion struct {
	Version   string `json:"version"`
	Source    string `json:"source,omitempty"`
	Component string `json:"component,omitempty"`
	Size      int64  `json:"size"` // in bytes; -1 where the index does not say it
	// Phased is the percentage of hosts that may install it; left out where all may.
	Phased *int `json:"phased,omitempty"`
}

const diffSuffix = "/diff"

func serveDiff(mux *http.ServeMux, d Differ) {
	mux.HandleFunc("GET "+snapshotsPath+diffSuffix, func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm() // what cannot be read is not there
		result, err := d.DiffSnapshots(r.Context(), DiffPlan{
			Before: r.FormValue("before"), After: r.FormValue("after"), Archives: r.Form["archive"], Suites: r.Form["suite"], Used: r.FormValue("used") != "",
		})
		answerOr(w, http.StatusConflict, result, err)
	})
}

// DiffSnapshots asks what differs between two snapshots.
func (c *Client) DiffSnapshots(ctx context.Context, plan DiffPlan) (*Diff, error) {
	query := url.Values{"before": {plan.Before}, "after": {plan.After}, "archive": plan.Archives, "suite": plan.Suites}
	if plan.Used {
		query.Set("used", "1")
	}
	var d Diff
	return &d, c.call(ctx, http.MethodGet, snapshotsPath+diffSuffix, query, &d)
}
