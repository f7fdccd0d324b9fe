package upstream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// A history service has an archive as it was at every date. Placeholders in the path of its URL stand
// for the parts of the date, in UTC.

// dateParts are the placeholders, the finest last. every is how much of the time one value stands for.
var dateParts = []struct {
	mark, form string // form is that of package time
	every      time.Duration
}{
	{"{yyyy}", "2006", 0}, {"{mm}", "01", 0}, {"{dd}", "02", 24 * time.Hour},
	{"{HH}", "15", time.Hour}, {"{MM}", "04", time.Minute}, {"{SS}", "05", time.Second},
}

// wholeDate is the date in the form that snapshot.ubuntu.com and snapshot.debian.org have it.
const wholeDate = "{yyyy}{mm}{dd}T{HH}{MM}{SS}Z"

// maxDates is at how many dates a history service is asked for one object.
const maxDates = 4

// HistoryURL checks the URL of a history service and returns it with placeholders: where it has none,
// its date is the last element of the path, as 20240301T030400Z. The error says what is wrong with it.
func HistoryURL(u *url.URL) (*url.URL, error) {
	whole := *u
	whole.RawPath = ""
	if !strings.ContainsAny(u.Path, "{}") {
		whole.Path = strings.TrimRight(u.Path, "/") + "/" + wholeDate
		return &whole, nil
	}
	rest, missing := u.Path, ""
	for _, part := range dateParts {
		switch {
		case !strings.Contains(u.Path, part.mark):
			missing = cmp.Or(missing, part.mark)
		case missing != "":
			return nil, fmt.Errorf("it has %s and no %s: a part of a date means nothing without the greater ones", part.mark, missing)
		}
		rest = strings.ReplaceAll(rest, part.mark, "")
	}
	if i := strings.IndexAny(rest, "{}"); i >= 0 {
		unknown, _, _ := strings.Cut(rest[i:], "/")
		if end := strings.IndexByte(unknown, '}'); end >= 0 {
			unknown = unknown[:end+1]
		}
		return nil, fmt.Errorf("%s is no part of a date: those are {yyyy} {mm} {dd} {HH} {MM} {SS}, as in https://archive.archlinux.org/repos/{yyyy}/{mm}/{dd}", unknown)
	}
	if missing == "{yyyy}" || missing == "{mm}" || missing == "{dd}" {
		return nil, fmt.Errorf("it has no %s: the parts of a date are {yyyy} {mm} {dd} {HH} {MM} {SS}, and the first three have to be there", missing)
	}
	return &whole, nil
}

// HistoryAt is the URL of an archive as it was at a date: that of a history service, as HistoryURL returns it, with the date.
func HistoryAt(u *url.URL, date time.Time) *url.URL {
	dated := *u
	dated.RawPath = ""
	for _, part := range dateParts {
		dated.Path = strings.ReplaceAll(dated.Path, part.mark, date.UTC().Format(part.form))
	}
	return &dated
}

// ShowDates writes a URL with its placeholders as an operator writes them.
func ShowDates(u string) string { return strings.NewReplacer("%7B", "{", "%7D", "}").Replace(u) }

// newHistory makes of a history service's URL a mirror that is still to be given a date. It goes by
// its URL with the placeholders, whatever the date.
func newHistory(archive string, u *url.URL) (*mirror, error) {
	m, err := Mirror{URL: u}.checked(archive)
	if err != nil {
		return nil, err
	}
	if m.URL, err = HistoryURL(m.URL); err != nil {
		return nil, fmt.Errorf("upstream: archive %q: history %s: %w", archive, ShowDates(bareURL(u)), err)
	}
	return &mirror{Mirror: m, name: ShowDates(m.String())}, nil
}

// at is the archive as it was at a date.
func (m *mirror) at(date time.Time) *mirror {
	dated := *m
	dated.URL = HistoryAt(m.URL, date)
	return &dated
}

// dates are those at which a history service may have what was listed at other dates, newest first.
// A service with one state a day has a publication in its next state; what the publication replaced soon may be in
// the one before.
func (m *mirror) dates(listed []time.Time, now time.Time) (dates []time.Time) {
	every := time.Second
	for _, part := range dateParts {
		if part.every > 0 && strings.Contains(m.URL.Path, part.mark) {
			every = part.every
		}
	}
	add := func(date time.Time) {
		if len(dates) < maxDates && (len(dates) == 0 || date.Before(dates[len(dates)-1])) {
			dates = append(dates, date)
		}
	}
	for _, date := range slices.SortedFunc(slices.Values(listed), func(x, y time.Time) int { return y.Compare(x) }) {
		before := date.UTC().Truncate(every)
		if next := before.Add(every); every > time.Second && !before.Equal(date) && !next.After(now) {
			add(next)
		}
		add(before)
	}
	return dates
}

// past looks for an object that every mirror says is gone at the archive's history service, at the
// dates at which it was listed.
func (r *failover) past(ctx context.Context) (*proto.Transfer, error) {
	listed := r.s.cfg.Dates
	if r.archive.history == nil || listed == nil || r.req.Mirror != "" || r.req.Class == proto.ClassUnlisted {
		return nil, r.verdict()
	}
	for _, date := range r.archive.history.dates(listed(ctx, r.req.Loc), time.Now()) {
		m := r.archive.history.at(date)
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
