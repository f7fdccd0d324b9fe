package upstream

import (
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

const snapshotName = "http://snapshot.example.org/archive/{timestamp}"

// TestSnapshot: what every mirror says is gone is asked for at the dates at which it
// was listed.
func TestSnapshot(t *testing.T) {
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
					cfg.Archives[0].Snapshot, _ = url.Parse(snapshotName)
					cfg.Snapshots = func(loc proto.Location) []time.Time {
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
				r.handlers["http://snapshot.example.org/archive"] = func(w http.ResponseWriter, req *http.Request) {
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
				case tc.want != "" && len(tc.asked) > 0 && (err != nil || tr.From != snapshotName):
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

// A snapshot service is a mirror in all but the turn: it has a breaker, and shows up.
func TestSnapshotHasABreaker(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := newRealm(t, 1, func(cfg *Config) {
			cfg.Archives[0].Snapshot, _ = url.Parse("http://user:pass@snapshot.example.org/archive/{timestamp}/")
			cfg.Snapshots = func(proto.Location) []time.Time { return []time.Time{modifiedAt} }
		})
		r.at(0, answers(404))
		asked := 0
		r.handlers["http://snapshot.example.org/archive"] = func(w http.ResponseWriter, req *http.Request) {
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
		if len(all) != 2 || all[1].URL != snapshotName || !all[1].Snapshot || all[1].State != BreakerOpen {
			t.Errorf("%+v", all)
		}
		if got := r.Mirrors("a"); !slices.Equal(got, []string{nameOf(0)}) {
			t.Errorf("mirrors %v", got)
		}
	})
}
