package testarchive_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
)

// upstream is a server with one file of 100 kB.
func upstream(t *testing.T) (*testarchive.Server, []byte) {
	t.Helper()
	a := testarchive.New(3)
	body := bytes.Repeat([]byte("0123456789"), 10_000)
	a.Put("f.deb", body, day)
	s := testarchive.NewServer(a)
	t.Cleanup(s.Close)
	return s, body
}

type got struct {
	status int
	header http.Header
	length int64
	body   []byte
	err    error
}

func get(s *testarchive.Server, path string, headers ...string) got {
	return fetch(context.Background(), s, http.MethodGet, path, headers...)
}

func fetch(ctx context.Context, s *testarchive.Server, method, path string, headers ...string) got {
	r, err := http.NewRequestWithContext(ctx, method, s.URL+path, nil)
	if err != nil {
		return got{err: err}
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	c := s.Client()
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	defer c.CloseIdleConnections()
	resp, err := c.Do(r)
	if err != nil {
		return got{err: err}
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	return got{resp.StatusCode, resp.Header, resp.ContentLength, body, err}
}

func TestFaults(t *testing.T) {
	stamp := day.Format(http.TimeFormat)
	whole := func(t *testing.T, g got, body []byte) {
		if g.err != nil || g.status != 200 || !bytes.Equal(g.body, body) {
			t.Errorf("status %d, %d bytes, %v; want the whole file", g.status, len(g.body), g.err)
		}
	}
	for _, test := range []struct {
		name    string
		effects []testarchive.Effect
		headers []string
		check   func(t *testing.T, g got, body []byte)
	}{
		{"no fault", nil, nil, func(t *testing.T, g got, body []byte) {
			whole(t, g, body)
			if g.header.Get("Last-Modified") != stamp || g.header.Get("ETag") == "" || g.header.Get("Accept-Ranges") != "bytes" {
				t.Errorf("headers %v", g.header)
			}
		}},
		{"range", nil, []string{"Range", "bytes=99990-", "If-Range", stamp}, func(t *testing.T, g got, body []byte) {
			if g.status != 206 || string(g.body) != "0123456789" {
				t.Errorf("status %d, %q", g.status, g.body)
			}
		}},
		{"range of another version", nil, []string{"Range", "bytes=99990-", "If-Range", day.Add(time.Second).Format(http.TimeFormat)}, whole},
		{"not modified", nil, []string{"If-Modified-Since", stamp}, func(t *testing.T, g got, _ []byte) {
			if g.status != 304 || len(g.body) != 0 {
				t.Errorf("status %d, %d bytes", g.status, len(g.body))
			}
		}},
		{"WrongBytes", []testarchive.Effect{testarchive.WrongBytes(5)}, nil, func(t *testing.T, g got, body []byte) {
			if len(g.body) != len(body) || g.body[5] == body[5] || !bytes.Equal(g.body[6:], body[6:]) || g.err != nil {
				t.Errorf("%d bytes, %v", len(g.body), g.err)
			}
		}},
		{"WrongBytes at the end", []testarchive.Effect{testarchive.WrongBytes(-1)}, nil, func(t *testing.T, g got, body []byte) {
			if last := len(body) - 1; !bytes.Equal(g.body[:last], body[:last]) || g.body[last] == body[last] {
				t.Error("not the last byte alone")
			}
		}},
		{"WrongLength shorter", []testarchive.Effect{testarchive.WrongLength(-1)}, nil, func(t *testing.T, g got, body []byte) {
			if g.length != int64(len(body)-1) || g.err != nil {
				t.Errorf("length %d, %v", g.length, g.err)
			}
		}},
		{"WrongLength longer", []testarchive.Effect{testarchive.WrongLength(7)}, nil, func(t *testing.T, g got, body []byte) {
			if g.length != int64(len(body)+7) || !bytes.HasPrefix(g.body, body) {
				t.Errorf("length %d", g.length)
			}
		}},
		{"Truncate", []testarchive.Effect{testarchive.Truncate(40_000)}, nil, cutAt(40_000)},
		{"Truncate without a length", []testarchive.Effect{testarchive.Truncate(40_000), testarchive.NoContentLength()}, nil, cutAt(40_000)},
		{"Truncate of a range", []testarchive.Effect{testarchive.Truncate(40_000)}, []string{"Range", "bytes=39990-"}, func(t *testing.T, g got, _ []byte) {
			if len(g.body) != 10 || g.err == nil {
				t.Errorf("%d bytes, %v", len(g.body), g.err)
			}
		}},
		{"Reset", []testarchive.Effect{testarchive.Reset(40_000)}, nil, func(t *testing.T, g got, _ []byte) {
			if !errors.Is(g.err, syscall.ECONNRESET) {
				t.Errorf("%d bytes, %v; want a reset", len(g.body), g.err)
			}
		}},
		{"Reset before the header", []testarchive.Effect{testarchive.Reset(-1)}, nil, func(t *testing.T, g got, _ []byte) {
			if g.status != 0 || g.err == nil {
				t.Errorf("status %d, %v", g.status, g.err)
			}
		}},
		{"HTML200", []testarchive.Effect{testarchive.HTML200()}, nil, func(t *testing.T, g got, _ []byte) {
			if g.status != 200 || !strings.Contains(string(g.body), "<html>") || !strings.HasPrefix(g.header.Get("Content-Type"), "text/html") {
				t.Errorf("status %d, %q", g.status, g.body)
			}
		}},
		{"Status", []testarchive.Effect{testarchive.Status(503, 7)}, nil, func(t *testing.T, g got, _ []byte) {
			if g.status != 503 || g.header.Get("Retry-After") != "7" || len(g.body) == 0 {
				t.Errorf("status %d, %v, %q", g.status, g.header, g.body)
			}
		}},
		{"EmptyStatus", []testarchive.Effect{testarchive.EmptyStatus(500)}, nil, func(t *testing.T, g got, _ []byte) {
			if g.status != 500 || g.length != 0 {
				t.Errorf("status %d, length %d", g.status, g.length)
			}
		}},
		{"Redirect", []testarchive.Effect{testarchive.Redirect(302, "http://example.org/x/")}, nil, func(t *testing.T, g got, _ []byte) {
			if g.status != 302 || g.header.Get("Location") != "http://example.org/x/f.deb" {
				t.Errorf("status %d to %q", g.status, g.header.Get("Location"))
			}
		}},
		{"NoContentLength", []testarchive.Effect{testarchive.NoContentLength()}, nil, func(t *testing.T, g got, body []byte) {
			whole(t, g, body)
			if g.length != -1 {
				t.Errorf("length %d", g.length)
			}
		}},
		{"NoRange", []testarchive.Effect{testarchive.NoRange()}, []string{"Range", "bytes=10-"}, func(t *testing.T, g got, body []byte) {
			whole(t, g, body)
			if g.header.Get("Accept-Ranges") != "" {
				t.Error("says that it accepts ranges")
			}
		}},
		{"IgnoreIfRange", []testarchive.Effect{testarchive.IgnoreIfRange()}, []string{"Range", "bytes=10-", "If-Range", `"other"`}, func(t *testing.T, g got, _ []byte) {
			if g.status != 206 {
				t.Errorf("status %d", g.status)
			}
		}},
		{"NoLastModified", []testarchive.Effect{testarchive.NoLastModified()}, []string{"If-Modified-Since", stamp}, func(t *testing.T, g got, body []byte) {
			whole(t, g, body)
			if g.header.Get("Last-Modified") != "" {
				t.Error("sends Last-Modified")
			}
		}},
		{"IgnoreConditional", []testarchive.Effect{testarchive.IgnoreConditional()}, []string{"If-Modified-Since", stamp}, whole},
		{"Header", []testarchive.Effect{testarchive.Header("ETag", ""), testarchive.Header("X-Cache", "HIT")}, nil, func(t *testing.T, g got, _ []byte) {
			if g.header.Get("ETag") != "" || g.header.Get("X-Cache") != "HIT" {
				t.Errorf("headers %v", g.header)
			}
		}},
		{"GzipEncoding", []testarchive.Effect{testarchive.GzipEncoding()}, []string{"Accept-Encoding", "gzip"}, func(t *testing.T, g got, body []byte) {
			if g.header.Get("Content-Encoding") != "gzip" || len(g.body) >= len(body) {
				t.Errorf("%d bytes, %v", len(g.body), g.header)
			}
		}},
		{"Replace", []testarchive.Effect{testarchive.Replace([]byte("other"))}, nil, func(t *testing.T, g got, _ []byte) {
			if string(g.body) != "other" {
				t.Errorf("%q", g.body)
			}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, body := upstream(t)
			f := s.Inject("f.*", 1, test.effects...)
			test.check(t, get(s, "/f.deb", test.headers...), body)
			if f.Hits() != 1 {
				t.Errorf("the fault hit %d requests", f.Hits())
			}
			whole(t, get(s, "/f.deb"), body) // its times are over
		})
	}
}

func cutAt(n int) func(*testing.T, got, []byte) {
	return func(t *testing.T, g got, body []byte) {
		if !errors.Is(g.err, io.ErrUnexpectedEOF) || !bytes.Equal(g.body, body[:n]) {
			t.Errorf("%d bytes, %v; want %d and an unexpected end", len(g.body), g.err, n)
		}
	}
}

func TestStallGoesOnWhenReleased(t *testing.T) {
	s, body := upstream(t)
	f := s.Inject("*", 0, testarchive.Stall(1000))
	done := make(chan got)
	go func() { done <- get(s, "/f.deb") }()
	if path := <-f.Stalled(); path != "f.deb" || s.Bytes(path) != 1000 {
		t.Errorf("%s stalled after %d bytes", path, s.Bytes(path))
	}
	f.Release()
	if g := <-done; g.err != nil || !bytes.Equal(g.body, body) {
		t.Errorf("%d bytes, %v", len(g.body), g.err)
	}
}

func TestStallEndsWithTheClientOrTheServer(t *testing.T) {
	for _, at := range []int64{-1, 1000} {
		s, _ := upstream(t)
		f := s.Inject("*", 0, testarchive.Stall(at))
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan got)
		go func() { done <- fetch(ctx, s, http.MethodGet, "/f.deb") }()
		<-f.Stalled()
		cancel()
		if g := <-done; g.err == nil {
			t.Error("the client saw no end")
		}
		go func() { done <- get(s, "/f.deb") }()
		<-f.Stalled()
		s.Close()
		if g := <-done; g.err == nil {
			t.Error("the client outlived the server")
		}
	}
}

func TestFaultIsRemoved(t *testing.T) {
	s, _ := upstream(t)
	f := s.Inject("nothing*", 0, testarchive.Status(500, 0))
	g := s.Inject("f.deb", 0, testarchive.Status(500, 0))
	if r := get(s, "/f.deb"); r.status != 500 {
		t.Errorf("status %d", r.status)
	}
	g.Remove()
	if r := get(s, "/f.deb"); r.status != 200 || f.Hits() != 0 {
		t.Errorf("status %d, %d hits", r.status, f.Hits())
	}
}

func TestBandwidthIsShared(t *testing.T) {
	s, body := upstream(t)
	s.SetBandwidth(0, 400_000)
	start := time.Now()
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() { get(s, "/f.deb") })
	}
	wg.Wait()
	// 200 kB over 400 kB/s is 0.5 s, less what a pacer may catch up.
	if took := time.Since(start); took < 400*time.Millisecond {
		t.Errorf("%d bytes took %s", 2*len(body), took)
	}
	if s.TotalBytes() != int64(2*len(body)) || s.PeakConcurrent() != 2 || s.Connections() != 2 || s.TotalRequests() != 2 {
		t.Errorf("counted %d bytes, %d at once, %d connections, %d requests", s.TotalBytes(), s.PeakConcurrent(), s.Connections(), s.TotalRequests())
	}
	s.ResetCounters()
	if s.TotalBytes() != 0 || s.Requests("f.deb") != 0 {
		t.Error("counters were not reset")
	}
}

func TestDripAndConnectionRate(t *testing.T) {
	s, _ := upstream(t)
	s.Inject("f.deb", 1, testarchive.Drip(500_000))
	start := time.Now()
	get(s, "/f.deb")
	if took := time.Since(start); took < 100*time.Millisecond {
		t.Errorf("the drip took %s", took)
	}
	s.SetBandwidth(500_000, 0)
	start = time.Now()
	get(s, "/f.deb")
	if took := time.Since(start); took < 100*time.Millisecond {
		t.Errorf("the capped connection took %s", took)
	}
}

func TestCredentials(t *testing.T) {
	s, _ := upstream(t)
	s.RequireBasic("bearer", "token")
	if g := get(s, "/f.deb"); g.status != 401 || g.header.Get("WWW-Authenticate") == "" {
		t.Errorf("status %d", g.status)
	}
	if g := get(s, "/f.deb", "Authorization", "Basic YmVhcmVyOnRva2Vu"); g.status != 200 {
		t.Errorf("status %d with the password", g.status)
	}
	s.RequireBearer("secret")
	if g := get(s, "/f.deb", "Authorization", "Bearer secret"); g.status != 200 {
		t.Errorf("status %d with the token", g.status)
	}
	s.RequireNothing()
	if g := get(s, "/f.deb"); g.status != 200 {
		t.Errorf("status %d", g.status)
	}
}

func TestTLSMountAndHead(t *testing.T) {
	a, b := testarchive.New(1), testarchive.New(2)
	b.Put("dir/f", []byte("debian's"), day)
	s := testarchive.NewTLSServer(a)
	defer s.Close()
	s.Mount("/debian", b)
	if g := get(s, "/debian//dir/./f"); string(g.body) != "debian's" {
		t.Errorf("status %d, %v", g.status, g.err)
	}
	if g := get(s, "/dir/f"); g.status != 404 || len(g.body) == 0 {
		t.Errorf("status %d", g.status)
	}
	if g := fetch(context.Background(), s, http.MethodHead, "/debian/dir/f"); g.status != 200 || g.length != 8 || len(g.body) != 0 {
		t.Errorf("HEAD: status %d, length %d", g.status, g.length)
	}
	if n := s.Bytes("debian/dir/f"); n != 8 {
		t.Errorf("HEAD counted as %d bytes of body in all", n)
	}
	s.Inject("*", 1, testarchive.Reset(3))
	if g := get(s, "/debian/dir/f"); !errors.Is(g.err, syscall.ECONNRESET) {
		t.Errorf("reset over TLS: %v", g.err)
	}
}
