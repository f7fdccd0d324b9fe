package upstream

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/proto"
	"github.com/aptmesh/aptmesh/proto/bubble"
)

const historyName = "http://history.example.org/archive/{yyyy}{mm}{dd}T{HH}{MM}{SS}Z"

// TestHistory: what every mirror says is gone is asked for at the dates at which it
// was listed.
func TestHistory(t *testing.T) {
	day := func(n int) time.Time {
		return time.Date(2024, 3, n, 5, 4, 0, 0, time.FixedZone("", 3600))
	}
	for _, tc := range []struct {
		name    string
		mirrors []func(*realm, int)
		dates   []time.Time
		at      map[string]http.HandlerFunc // by date, else 404
		named   bool
		want    string // "": nothing
		wantErr func(error) bool
		asked   []string // dates
	}{
		{
			name: "at the first date", mirrors: []func(*realm, int){status(404), status(410)}, dates: []time.Time{day(1)},
			at: map[string]http.HandlerFunc{"20240301T040400Z": honest}, want: object, asked: []string{"20240301T040400Z"},
		},
		{
			name: "at an earlier one", mirrors: []func(*realm, int){status(404)}, dates: []time.Time{day(3), day(2), day(1)},
			at: map[string]http.HandlerFunc{"20240302T040400Z": honest}, want: object, asked: []string{"20240303T040400Z", "20240302T040400Z"},
		},
		{
			name: "at none of many", mirrors: []func(*realm, int){status(404)}, dates: []time.Time{day(9), day(8), day(7), day(6), day(5), day(4)},
			asked: []string{"20240309T040400Z", "20240308T040400Z", "20240307T040400Z", "20240306T040400Z"},
		},
		{name: "not listed", mirrors: []func(*realm, int){status(404)}},
		{
			name: "it is down", mirrors: []func(*realm, int){status(404)}, dates: []time.Time{day(2), day(1)},
			at: map[string]http.HandlerFunc{"20240302T040400Z": answers(503)}, asked: []string{"20240302T040400Z"},
			wantErr: func(err error) bool { return errors.As(err, new(*proto.Unavailable)) },
		},
		{
			name: "a mirror may have it", mirrors: []func(*realm, int){status(404), status(503)}, dates: []time.Time{day(1)},
			wantErr: func(err error) bool { return errors.As(err, new(*proto.Unavailable)) },
		},
		{name: "a mirror has it", mirrors: []func(*realm, int){status(404), handler(nil)}, dates: []time.Time{day(1)}, want: object},
		{name: "one mirror was to be asked", mirrors: []func(*realm, int){status(404)}, dates: []time.Time{day(1)}, named: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				r := newRealm(t, len(tc.mirrors), func(cfg *Config) {
					cfg.Archives[0].History, _ = url.Parse("http://history.example.org/archive")
					cfg.Dates = func(_ context.Context, loc proto.Location) []time.Time {
						if loc != get("pool/x.deb").Loc {
							t.Errorf("asked for the dates of %s", loc)
						}
						return tc.dates
					}
				})
				for i, mirror := range tc.mirrors {
					mirror(r, i)
				}
				var asked []string
				r.handlers["http://history.example.org/archive"] = func(w http.ResponseWriter, req *http.Request) {
					date, path, _ := strings.Cut(strings.TrimPrefix(req.URL.Path, "/archive/"), "/")
					if path != "pool/x.deb" {
						t.Errorf("asked for %s", req.URL)
					}
					asked = append(asked, date)
					h := tc.at[date]
					if h == nil {
						h = answers(404)
					}
					h(w, req)
				}
				req := get("pool/x.deb")
				if tc.named {
					req.Mirror = nameOf(0)
				}
				tr, got, err := fetchAll(t.Context(), r.Client, req)
				if string(got) != tc.want || !slices.Equal(asked, tc.asked) {
					t.Errorf("%q, %v; asked %v, want %v", got, err, asked, tc.asked)
				}
				switch {
				case tc.want != "" && len(tc.asked) > 0 && (err != nil || tr.From != historyName):
					t.Errorf("from %v, %v", tr, err)
				case tc.wantErr != nil && !tc.wantErr(err):
					t.Errorf("error is %v", err)
				case tc.want == "" && tc.wantErr == nil && !errors.Is(err, proto.ErrNotFound):
					t.Errorf("error is %v", err)
				}
			})
		})
	}
}

// A history service is a mirror in all but the turn: it has a breaker, and shows up.
func TestHistoryHasABreaker(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := newRealm(t, 1, func(cfg *Config) {
			cfg.Archives[0].History, _ = url.Parse("http://user:pass@history.example.org/archive/")
			cfg.Dates = func(context.Context, proto.Location) []time.Time { return []time.Time{modifiedAt} }
		})
		r.at(0, answers(404))
		asked := 0
		r.handlers["http://history.example.org/archive"] = func(w http.ResponseWriter, req *http.Request) {
			if user, password, _ := req.BasicAuth(); user != "user" || password != "pass" {
				t.Errorf("sent %q %q", user, password)
			}
			asked++
			answers(429, "Retry-After", "60")(w, req)
		}
		for range 3 {
			if busy := unavailable(t, second(r.Fetch(t.Context(), get("x.deb")))); busy.RetryAfter != time.Minute {
				t.Error(busy)
			}
		}
		if asked != 1 {
			t.Errorf("asked %d times", asked)
		}
		all := r.Stats().Mirrors
		if len(all) != 2 || all[1].URL != historyName || !all[1].History || all[1].State != BreakerOpen {
			t.Errorf("%+v", all)
		}
		if got := r.Mirrors("a"); !slices.Equal(got, []string{nameOf(0)}) {
			t.Errorf("mirrors %v", got)
		}
	})
}

func TestHistoryURL(t *testing.T) {
	for _, tc := range []struct{ url, want, err string }{
		{url: "https://snapshot.ubuntu.com/ubuntu", want: "https://snapshot.ubuntu.com/ubuntu/{yyyy}{mm}{dd}T{HH}{MM}{SS}Z"},
		{url: "https://snapshot.ubuntu.com/ubuntu/", want: "https://snapshot.ubuntu.com/ubuntu/{yyyy}{mm}{dd}T{HH}{MM}{SS}Z"},
		{url: "https://snapshot.example.org", want: "https://snapshot.example.org/{yyyy}{mm}{dd}T{HH}{MM}{SS}Z"},
		{url: "https://archive.archlinux.org/repos/{yyyy}/{mm}/{dd}", want: "https://archive.archlinux.org/repos/{yyyy}/{mm}/{dd}"},
		{url: "https://example.org/{yyyy}-{mm}-{dd}T{HH}/{yyyy}/x", want: "https://example.org/{yyyy}-{mm}-{dd}T{HH}/{yyyy}/x"},
		{url: "https://example.org/{timestamp}", err: "{timestamp} is no part of a date"},
		{url: "https://example.org/{YYYY}/{mm}/{dd}", err: "it has {mm} and no {yyyy}"},
		{url: "https://example.org/{yyyy}/{mm}/{dd}/{DD}/x", err: "{DD} is no part of a date"},
		{url: "https://example.org/{yyyy}/{mm}/{dd/x", err: "{dd is no part of a date"},
		{url: "https://example.org/{yyyy}/{mm}", err: "it has no {dd}"},
		{url: "https://example.org/{yyyy}/{mm}/{dd}/{SS}", err: "it has {SS} and no {HH}"},
	} {
		u, err := url.Parse(tc.url)
		if err != nil {
			t.Fatal(err)
		}
		got, err := HistoryURL(u)
		switch {
		case tc.err != "":
			if err == nil || !strings.HasPrefix(err.Error(), tc.err) {
				t.Errorf("%s: %v, %v", tc.url, got, err)
			}
		case err != nil || ShowDates(got.String()) != tc.want:
			t.Errorf("%s: %v, %v", tc.url, got, err)
		}
	}
}

// TestHistoryDates: a service with one state a day is asked for that after the publication, and for that before it.
func TestHistoryDates(t *testing.T) {
	at := func(text string) time.Time {
		d, err := time.Parse("2006-01-02 15:04:05", text)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	const byDay, byHour, bySecond = "http://h.example.org/{yyyy}/{mm}/{dd}", "http://h.example.org/{yyyy}{mm}{dd}-{HH}", "http://h.example.org"
	for _, tc := range []struct {
		name, service string
		listed        []string
		want          []string
	}{
		{"a second", bySecond, []string{"2024-03-01 04:05:06"}, []string{"/20240301T040506Z"}},
		{"a day", byDay, []string{"2024-02-28 04:05:06"}, []string{"/2024/02/29", "/2024/02/28"}},
		{"midnight", byDay, []string{"2024-02-29 00:00:00"}, []string{"/2024/02/29"}},
		{"the state after it is to come", byDay, []string{"2024-03-10 04:05:06"}, []string{"/2024/03/10"}},
		{"publications of one day", byDay, []string{"2024-03-01 04:05:06", "2024-03-01 02:00:00"}, []string{"/2024/03/02", "/2024/03/01"}},
		{"of two days", byDay, []string{"2024-03-02 04:05:06", "2024-03-01 02:00:00"}, []string{"/2024/03/03", "/2024/03/02", "/2024/03/01"}},
		{"of many", byDay, []string{"2024-03-08 01:00:00", "2024-03-05 01:00:00", "2024-03-02 01:00:00"}, []string{"/2024/03/09", "/2024/03/08", "/2024/03/06", "/2024/03/05"}},
		{"an hour", byHour, []string{"2024-02-28 23:05:06"}, []string{"/20240229-00", "/20240228-23"}},
		{"nothing", byDay, nil, nil},
	} {
		u, _ := url.Parse(tc.service)
		m, err := newHistory("a", u)
		if err != nil {
			t.Fatal(err)
		}
		var listed []time.Time
		for _, text := range tc.listed {
			listed = append(listed, at(text))
		}
		var got []string
		for _, date := range m.dates(listed, at("2024-03-10 12:00:00")) {
			got = append(got, m.at(date).URL.Path)
		}
		if !slices.Equal(got, tc.want) {
			t.Errorf("%s: %v, want %v", tc.name, got, tc.want)
		}
	}
}
