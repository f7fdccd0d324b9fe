package upstream

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

const (
	// timestampMark is what a snapshot service's URL holds in the place of a date.
	timestampMark = "{timestamp}"
	// timestampForm is the form of the date in the URL.
	timestampForm = "20060102T150405Z"
	// maxDates is at how many dates a snapshot service is asked for one object.
	maxDates = 4
)

// newSnapshot makes of a snapshot service's URL a mirror that is still to be given a
// date. It goes by its URL, mark and all, whatever the date.
func newSnapshot(archive string, u *url.URL) (*mirror, error) {
	m, err := Mirror{URL: u}.checked(archive)
	if err != nil {
		return nil, err
	}
	if !strings.Contains(m.URL.Path, timestampMark) {
		return nil, fmt.Errorf("upstream: archive %q: snapshot %s: the path of a snapshot service holds %s", archive, m, timestampMark)
	}
	name := strings.ReplaceAll(m.String(), url.PathEscape(timestampMark), timestampMark)
	return &mirror{Mirror: m, name: name}, nil
}

// at is the archive as it was at a date.
func (m *mirror) at(date time.Time) *mirror {
	dated := *m
	u := *m.URL
	u.Path = strings.ReplaceAll(u.Path, timestampMark, date.UTC().Format(timestampForm))
	u.RawPath = ""
	dated.URL = &u
	return &dated
}

// past looks for an object that every mirror says is gone at the archive's snapshot
// service, at the dates at which it was listed.
func (r *failover) past(ctx context.Context) (*proto.Transfer, error) {
	dates := r.s.cfg.Snapshots
	if r.archive.snapshot == nil || dates == nil || r.req.Mirror != "" {
		return nil, r.verdict()
	}
	listed := dates(r.req.Loc)
	for _, date := range listed[:min(len(listed), maxDates)] {
		m := r.archive.snapshot.at(date)
		t, err := r.try(ctx, m, r.req)
		if errors.Is(err, errUselessRange) {
			whole := r.req
			whole.Offset = 0
			t, err = r.try(ctx, m, whole)
		}
		if !errors.Is(err, proto.ErrNotFound) {
			return t, err
		}
	}
	return nil, r.verdict()
}
