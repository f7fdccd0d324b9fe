package upstream

import (
	"fmt"
	"net/http"
	"net/url"
	"testing"
	"time"
)

func TestParseRetryAfter(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for field, want := range map[string]time.Duration{
		"":                        0,
		"0":                       0,
		"17":                      17 * time.Second,
		" 17 ":                    17 * time.Second,
		"-1":                      0,
		"1.5":                     0,
		"soon":                    0,
		"600":                     10 * time.Minute,
		"601":                     maxRetryAfter,
		"9223372036854775807":     maxRetryAfter,
		"99999999999999999999999": maxRetryAfter,
		now.Add(30 * time.Second).Format(http.TimeFormat):                  30 * time.Second,
		now.Add(30 * time.Second).Format("Monday, 02-Jan-06 15:04:05 GMT"): 30 * time.Second,
		now.Add(-30 * time.Second).Format(http.TimeFormat):                 0,
		now.Add(24 * time.Hour).Format(http.TimeFormat):                    maxRetryAfter,
		"Fri, 31 Dec 9999 23:59:59 GMT":                                    maxRetryAfter,
	} {
		if got := parseRetryAfter(field, now); got != want {
			t.Errorf("%q: %v, want %v", field, got, want)
		}
	}
}

func TestParseContentRange(t *testing.T) {
	for field, want := range map[string]contentRange{
		"bytes 0-99/200":  {0, 99, 200},
		"BYTES 5-5/6":     {5, 5, 6},
		"bytes 100-199/*": {100, 199, -1},
		"bytes */200":     {-1, -1, 200},
		"bytes */0":       {-1, -1, 0},
		"bytes 0-9/10":    {0, 9, 10},
	} {
		if got, ok := parseContentRange(field); !ok || got != want {
			t.Errorf("%q: %v, %v", field, got, ok)
		}
	}
	for _, field := range []string{
		"", "bytes", "bytes ", "bytes 0-9", "bytes 9-0/10", "bytes 0-10/10", "bytes */*", "bytes -1-9/10", "bytes 0-9/10 ",
		"bytes  0-9/10", "items 0-9/10", "bytes=0-9/10", "bytes 0-/10", "bytes -9/10", "bytes +0-9/10", "bytes 0x0-9/10",
		"bytes 0-9223372036854775807/*", "bytes 0-9/9223372036854775807", "bytes 0-9/99999999999999999999", "bytes 0-9/-1", "bytes 0-9/10/11",
	} {
		if got, ok := parseContentRange(field); ok {
			t.Errorf("%q was read as %v", field, got)
		}
	}
}

func FuzzParseContentRange(f *testing.F) {
	f.Add("bytes 0-99/200")
	f.Add("bytes */200")
	f.Add("bytes 1-2/*")
	f.Fuzz(func(t *testing.T, field string) {
		r, ok := parseContentRange(field)
		if !ok {
			return
		}
		if r.start < 0 {
			if r.end != -1 || r.total < 0 {
				t.Errorf("%q: %v", field, r)
			}
			return
		}
		if r.end < r.start || r.total >= 0 && r.end >= r.total || r.end-r.start+1 <= 0 {
			t.Errorf("%q: %v", field, r)
		}
		again, ok := parseContentRange(fmt.Sprintf("bytes %d-%d/*", r.start, r.end))
		if !ok || again.start != r.start || again.end != r.end {
			t.Errorf("%q: read again as %v, %v", field, again, ok)
		}
	})
}

func TestEscapePath(t *testing.T) {
	for path, want := range map[string]string{
		"dists/noble/InRelease":  "dists/noble/InRelease",
		"pool/g++_1:2~a-b_c.deb": "pool/g%2b%2b_1:2~a-b_c.deb",
		"a b%c?d#e[f]":           "a%20b%25c%3fd%23e%5bf%5d",
		"ä":                      "%c3%a4",
		"(x),y;z=@!$&'*":         "(x),y;z=@!$&'*",
	} {
		if got := escapePath(path); got != want {
			t.Errorf("%q: %q, want %q", path, got, want)
		}
		base, _ := url.Parse("http://archive.example.org/deb%2fian/")
		u := Mirror{URL: base}.object(path)
		if got := u.RequestURI(); got != "/deb%2fian/"+want {
			t.Errorf("%q: asks for %q", path, got)
		}
	}
}

func FuzzEscapePath(f *testing.F) {
	f.Add("pool/g++_1:2~a-b_c.deb")
	f.Add("%2f ä\x00\xff")
	f.Fuzz(func(t *testing.T, path string) {
		back, err := url.PathUnescape(escapePath(path))
		if err != nil || back != path {
			t.Errorf("%q came back as %q, %v", path, back, err)
		}
	})
}

func TestHostName(t *testing.T) {
	for in, want := range map[string]string{
		"http://Example.org/x":       "http://example.org",
		"http://example.org:80/x":    "http://example.org",
		"https://example.org:443":    "https://example.org",
		"https://example.org:80":     "https://example.org:80",
		"http://[2001:DB8::1]:80/x":  "http://[2001:db8::1]",
		"http://[2001:db8::1]:81/x":  "http://[2001:db8::1]:81",
		"http://user:pw@example.org": "http://example.org",
	} {
		u, err := url.Parse(in)
		if err != nil {
			t.Fatal(err)
		}
		if got := hostName(u); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}
