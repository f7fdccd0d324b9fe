package front

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/proto"
	"github.com/aptmesh/aptmesh/proto/bubble"
)

// patientFormat is a format whose clients do not come back after a Retry-After, and ask for roots with
// no-cache by habit.
type patientFormat struct {
	fakeFormat
	hold time.Duration
}

func (p patientFormat) PathInfo(path string) proto.PathInfo {
	info := p.fakeFormat.PathInfo(path)
	info.Hold, info.NoCacheByHabit = p.hold, true
	return info
}

// held is a front whose archives have the patient format.
func held(t *testing.T, hold time.Duration) (*Front, *fakeCatalog, *fakeFetcher) {
	t.Helper()
	archives := testArchives(t)
	for i := range archives {
		archives[i].Format = patientFormat{hold: hold}
	}
	catalog, fetcher := &fakeCatalog{entries: make(map[proto.Location]proto.Resolution)}, &fakeFetcher{}
	f, err := New(Config{Archives: archives, Node: "node-a"}, catalog, fetcher)
	if err != nil {
		t.Fatal(err)
	}
	return f, catalog, fetcher
}

// TestHold: where the format says that clients do not come back, trouble that may pass is waited out for so
// long, and nothing else is.
func TestHold(t *testing.T) {
	busy := &proto.Unavailable{Reason: "the mirror restarts", RetryAfter: time.Minute}
	for name, c := range map[string]struct {
		hold   time.Duration
		err    error
		until  time.Duration // when the trouble ends
		status int
		took   time.Duration
		tries  int
	}{
		"no trouble":                {6 * time.Second, busy, 0, 200, 0, 1},
		"it passes":                 {6 * time.Second, busy, 3 * time.Second, 200, 3750 * time.Millisecond, 5},
		"it passes at the last try": {6 * time.Second, busy, 5900 * time.Millisecond, 200, 6 * time.Second, 7},
		"it does not pass":          {6 * time.Second, busy, time.Hour, 503, 6 * time.Second, 7},
		"longer than anything":      {time.Hour, busy, 2 * time.Hour, 503, 25 * time.Second, 16},
		"clients come back":         {0, busy, time.Hour, 503, 0, 1},
		"a network that breaks":     {6 * time.Second, fmt.Errorf("read: %w", io.ErrUnexpectedEOF), time.Second, 200, 1750 * time.Millisecond, 4},
		"a full disk":               {6 * time.Second, proto.ErrNoSpace, time.Second, 200, 1750 * time.Millisecond, 4},
		"not found":                 {6 * time.Second, proto.ErrNotFound, time.Hour, 404, 0, 1},
		"corrupt":                   {6 * time.Second, proto.ErrCorrupt, time.Hour, 403, 0, 1},
		"refused":                   {6 * time.Second, &proto.Refused{Status: 401}, time.Hour, 403, 0, 1},
	} {
		for _, by := range []string{"catalog", "fetcher"} {
			t.Run(name+", "+by, func(t *testing.T) {
				bubble.Test(t, func(t *testing.T) {
					f, catalog, fetcher := held(t, c.hold)
					defer f.Close()
					began, tries := time.Now(), 0
					trouble := func(who string) error {
						if who != by {
							return nil
						}
						if tries++; time.Since(began) < c.until {
							return c.err
						}
						return nil
					}
					catalog.discover = func(_ context.Context, loc proto.Location, _ bool) (proto.Resolution, error) {
						return proto.Resolution{Object: proto.ObjectRequest{Where: proto.At(loc), Ref: proto.Ref{Size: proto.UnknownSize}}}, trouble("catalog")
					}
					fetcher.open = func(context.Context, proto.ObjectRequest) (*proto.Blob, error) {
						return &proto.Blob{Ref: proto.Ref{Size: 5}, Tier: proto.TierMemory, Bytes: []byte("hello")}, trouble("fetcher")
					}
					w := httptest.NewRecorder()
					f.ServeHTTP(w, httptest.NewRequest("GET", helloURL, nil))
					if w.Code != c.status || time.Since(began) != c.took || tries != c.tries || (w.Code == 200) != (w.Body.String() == "hello") {
						t.Errorf("%d after %v and %d tries: %s", w.Code, time.Since(began), tries, w.Body)
					}
				})
			})
		}
	}
}

// TestHoldEnds: a client that leaves is waited for no longer, and a node that shuts down answers.
func TestHoldEnds(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		f, catalog, _ := held(t, 20*time.Second)
		defer f.Close()
		catalog.discover = func(context.Context, proto.Location, bool) (proto.Resolution, error) {
			return proto.Resolution{}, &proto.Unavailable{Reason: "the mirror restarts"}
		}
		began := time.Now()
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		func() {
			defer func() {
				if recover() == nil || time.Since(began) != 5*time.Second {
					t.Errorf("the client left, and its request ended after %v", time.Since(began))
				}
			}()
			f.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", helloURL, nil).WithContext(ctx))
		}()
		began = time.Now()
		time.AfterFunc(5*time.Second, func() { _ = f.Drain(context.Background()) })
		w := httptest.NewRecorder()
		f.ServeHTTP(w, httptest.NewRequest("GET", helloURL, nil))
		if took := time.Since(began); w.Code != 503 || took > 5*time.Second+lastRetry {
			t.Errorf("%d after %v", w.Code, took)
		}
		time.Sleep(time.Second) // Drain has seen it
	})
}

// TestNoCacheByHabit: no-cache asks upstream where it is a wish, and means nothing where it is a habit.
func TestNoCacheByHabit(t *testing.T) {
	for _, habit := range []bool{false, true} {
		for _, field := range []string{"Cache-Control: no-cache", "Pragma: no-cache"} {
			d := startFront(t, func(c *Config) {
				if habit {
					for i := range c.Archives {
						c.Archives[i].Format = patientFormat{}
					}
				}
			})
			d.has(rootPath, []byte("root"), "bytes")
			var asked atomic.Bool
			d.catalog.discover = func(_ context.Context, loc proto.Location, fresh bool) (proto.Resolution, error) {
				asked.Store(fresh)
				e, _ := d.catalog.Resolve(loc)
				return e, nil
			}
			if r, body := d.ask("GET", rootURL, field); r.StatusCode != 200 || body != "root" || asked.Load() == habit {
				t.Errorf("habit %v, %s: %s, upstream was asked: %v", habit, field, r.Status, asked.Load())
			}
		}
	}
}

// TestNoSignatureIsNeverTemporary: a file of the current root that upstream no longer has is no "there is none",
// by which a client would go on without it.
func TestNoSignatureIsNeverTemporary(t *testing.T) {
	for _, missing := range []error{proto.ErrNotFound, &proto.Refused{Status: 404}, &proto.Refused{Status: 410}} {
		for path, status := range map[string]int{"dists/noble/Release.gpg": 503, helloPath: 404} {
			d := startFront(t)
			d.has(path, []byte("-----BEGIN PGP SIGNATURE-----"), "bytes")
			d.fetcher.open = func(context.Context, proto.ObjectRequest) (*proto.Blob, error) { return nil, missing }
			if r, body := d.ask("GET", "/ubuntu/"+path); r.StatusCode != status || status == 503 && (r.Header.Get("Retry-After") == "" || !strings.Contains(body, "publishing")) {
				t.Errorf("%s, %v: %s %q", path, missing, r.Status, body)
			}
		}
	}
	d := startFront(t) // there is no such suite: Discover says so
	if r, _ := d.ask("GET", rootURL); r.StatusCode != 404 {
		t.Errorf("a suite that is not there: %s", r.Status)
	}
	if r := refuse(proto.Location{}, about{}, errors.Join(proto.ErrNotFound, &proto.Unavailable{})); r.status != 503 {
		t.Errorf("both: %d", r.status)
	}
}
