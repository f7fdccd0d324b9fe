package front

import (
	"context"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/aptmesh/aptmesh/proto"
)

// TestServed: a package counts as used once for each GET that was answered, however it
// was asked for; nothing else does.
func TestServed(t *testing.T) {
	unchanged := "If-Modified-Since: " + testTime.Format(http.TimeFormat)
	for _, tt := range []struct {
		name, method, target, field string
		status                      int
		used                        bool
	}{
		{"whole", "GET", helloURL, "", 200, true},
		{"by proxy", "GET", "http://de.archive.ubuntu.com" + helloURL, "", 200, true},
		{"a part", "GET", helloURL, "Range: bytes=5-", 206, true},
		{"not modified", "GET", helloURL, unchanged, 304, true},
		{"HEAD", "HEAD", helloURL, "", 200, false},
		{"HEAD, not modified", "HEAD", helloURL, unchanged, 304, false},
		{"beyond its end", "GET", helloURL, "Range: bytes=9999999-", 416, false},
		{"another version", "GET", helloURL, `If-Match: "x"`, 412, false},
		{"a root", "GET", rootURL, "", 200, false},
		{"no such package", "GET", "/ubuntu/pool/m/missing_1_all.deb", "", 404, false},
		{"an unlisted package", "GET", "/ubuntu/pool/u/unlisted_1_all.deb", "", 200, false},
		{"kept out", "GET", "/vendor/" + helloPath, "", 403, false},
		{"the page", "GET", "/", "", 406, false},
	} {
		for _, kind := range []string{"bytes", "file", "stream"} {
			if kind == "stream" && tt.status != 200 {
				continue // a stream has no validator and no ranges
			}
			t.Run(tt.name+" as "+kind, func(t *testing.T) {
				var mu sync.Mutex
				var used []string
				d := startFront(t, func(c *Config) {
					c.Served = func(loc proto.Location) {
						mu.Lock()
						used = append(used, loc.String())
						mu.Unlock()
					}
					for i := range c.Archives {
						if c.Archives[i].Name == "vendor" {
							c.Archives[i].Deny = prefixes("127.0.0.0/8")
						}
					}
				})
				d.has(helloPath, helloBytes, kind)
				d.has("pool/u/unlisted_1_all.deb", []byte("unlisted"), kind)
				d.has(rootPath, []byte("root"), kind)
				unlisted := proto.Location{Archive: "ubuntu", Path: "pool/u/unlisted_1_all.deb"}
				e := d.catalog.entries[unlisted]
				e.Listed = false
				d.catalog.entries[unlisted] = e
				var fields []string
				if tt.field != "" {
					fields = []string{tt.field}
				}
				if r, _ := d.ask(tt.method, tt.target, fields...); r.StatusCode != tt.status {
					t.Fatalf("%d, want %d", r.StatusCode, tt.status)
				}
				mu.Lock()
				defer mu.Unlock()
				want := []string{"ubuntu/" + helloPath}
				if !tt.used {
					want = nil
				}
				if !slices.Equal(used, want) {
					t.Errorf("used %v, want %v", used, want)
				}
			})
		}
	}
}

// TestServedNotWithoutAnAnswer: an error before the first byte is no use.
func TestServedNotWithoutAnAnswer(t *testing.T) {
	d := startFront(t, func(c *Config) { c.Served = func(loc proto.Location) { t.Error("used:", loc) } })
	d.streams(100, io.NopCloser(&failing{err: &proto.Unavailable{Reason: "no answer"}}))
	if r, _ := d.ask("GET", helloURL); r.StatusCode != 503 {
		t.Error(r.StatusCode)
	}
}

// TestOutageIsVisible: an answer that may be old says so, in the header, in the log and
// in a counter; and one that would be too old is an error that says why.
func TestOutageIsVisible(t *testing.T) {
	const expired = `Valid-Until passed on 2026-11-19T10:00:00Z, and "http://bob:hunter2@archive.ubuntu.com" does not answer`
	const shown = `Valid-Until passed on 2026-11-19T10:00:00Z, and 'http://***@archive.ubuntu.com' does not answer`
	for _, format := range []string{"text", "json"} {
		for _, tt := range []struct {
			name, method, field string
			status              int
		}{
			{"GET", "GET", "", 200},
			{"HEAD", "HEAD", "", 200},
			{"not modified", "GET", "If-Modified-Since: " + testTime.Format(http.TimeFormat), 304},
		} {
			t.Run(tt.name+" "+format, func(t *testing.T) {
				d := startFront(t, func(c *Config) { c.AccessFormat = format })
				d.has(rootPath, []byte("root"), "bytes")
				d.has(helloPath, helloBytes[:9], "bytes")
				loc := proto.Location{Archive: "ubuntu", Path: rootPath}
				e := d.catalog.entries[loc]
				e.Stale, e.Modified = expired, testTime
				d.catalog.entries[loc] = e
				if r, _ := d.ask("GET", helloURL); strings.Contains(r.Header.Get("X-Aptmesh"), "stale") || strings.Contains(r.Header.Get("X-Aptmesh"), "note") {
					t.Error("a package is not stale:", r.Header)
				}
				if n := gathered(t, d.Front, "aptmesh_front_stale_total"); n != 0 {
					t.Errorf("%v stale answers counted before there was one", n)
				}
				fields := []string{tt.field}
				if tt.field == "" {
					fields = nil
				}
				r, _ := d.ask(tt.method, rootURL, fields...)
				note := r.Header.Get("X-Aptmesh")
				if r.StatusCode != tt.status || !strings.HasPrefix(note, "stale; tier=memory; ") || !strings.HasSuffix(note, `; note="`+shown+`"`) {
					t.Errorf("%d %q", r.StatusCode, note)
				}
				if n := gathered(t, d.Front, "aptmesh_front_stale_total", "ubuntu"); n != 1 {
					t.Errorf("%v stale answers counted", n)
				}
				d.Close()
				lines := strings.Split(strings.TrimSuffix(d.logged.String(), "\n"), "\n")
				if len(lines) != 2 {
					t.Fatal(lines)
				}
				if got := parseLine(t, format, lines[0]); got["stale"] != "" || got["result"] != "hit" {
					t.Error(lines[0])
				}
				want := strings.ReplaceAll(shown, "'", `"`)
				if got := parseLine(t, format, lines[1]); got["result"] != "stale" || got["stale"] != want {
					t.Errorf("%q, want %q: %s", got["stale"], want, lines[1])
				}
			})
		}
	}
	d := startFront(t)
	const sentence = "the Release of dists/noble was valid until 2026-11-12T10:00:00Z; stale.serve_expired has ended"
	d.catalog.discover = func(context.Context, proto.Location, bool) (proto.Resolution, error) {
		return proto.Resolution{}, &proto.Unavailable{Reason: sentence}
	}
	got := d.raw("GET " + rootURL + " HTTP/1.1\nHost: n\nConnection: close\n\n")
	checkError(t, got, "GET", 503)
	if !strings.Contains(got, sentence) || !strings.Contains(got, "\r\nRetry-After: 5\r\n") {
		t.Error(got)
	}
	d.Close()
	if log := d.logged.String(); !strings.Contains(log, sentence) {
		t.Error(log)
	}
	if n := gathered(t, d.Front, "aptmesh_front_requests_total", "503"); n != 1 {
		t.Errorf("%v counted", n)
	}
}
