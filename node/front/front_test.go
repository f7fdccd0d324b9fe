package front

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"html/template"
	"io"
	"io/fs"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

func TestBodies(t *testing.T) {
	for _, kind := range []string{"bytes", "file", "stream"} {
		t.Run(kind, func(t *testing.T) {
			d := startFront(t)
			d.has(helloPath, helloBytes, kind)
			d.has("empty.deb", nil, kind)
			for _, target := range []string{helloURL, "http://archive.ubuntu.com" + helloURL, "/archive.ubuntu.com" + helloURL, "http://HTTPS///archive.ubuntu.com" + helloURL, "/HTTPS///archive.ubuntu.com" + helloURL, "http://node:3142//archive.ubuntu.com" + helloURL} {
				if strings.HasPrefix(target, "http://node") {
					target = strings.Replace(target, "node:3142", d.addr, 1)
				}
				r, body := d.ask("GET", target)
				if r.StatusCode != 200 || body != string(helloBytes) || r.ContentLength != int64(len(helloBytes)) {
					t.Fatalf("%s: %d, %d bytes, Content-Length %d", target, r.StatusCode, len(body), r.ContentLength)
				}
				for name, want := range map[string]string{
					"Content-Type": "application/vnd.debian.binary-package", "Server": "aptmesh", "Cache-Control": "public, max-age=86400",
				} {
					if got := r.Header.Get(name); got != want {
						t.Errorf("%s: %q, want %q", name, got, want)
					}
				}
				if r.Header.Get("Date") == "" {
					t.Error("no Date")
				}
			}
			r, body := d.ask("GET", helloURL, "Range: bytes=10-19")
			if kind == "stream" {
				if r.StatusCode != 200 || body != string(helloBytes) || r.Header.Get("Last-Modified")+r.Header.Get("Etag")+r.Header.Get("Accept-Ranges") != "" {
					t.Errorf("a range of a stream: %d, %d bytes, %v", r.StatusCode, len(body), r.Header)
				}
			} else if r.StatusCode != 206 || body != string(helloBytes[10:20]) || r.Header.Get("Content-Range") != "bytes 10-19/65536" {
				t.Errorf("a range: %d %q %v", r.StatusCode, body, r.Header)
			}
			if r, body := d.ask("GET", "/ubuntu/empty.deb"); r.StatusCode != 200 || body != "" || r.ContentLength != 0 {
				t.Errorf("empty: %d %q %d", r.StatusCode, body, r.ContentLength)
			}
			if r, body := d.ask("HEAD", helloURL); r.StatusCode != 200 || body != "" || r.ContentLength != int64(len(helloBytes)) {
				t.Errorf("HEAD: %d %q %d", r.StatusCode, body, r.ContentLength)
			}
		})
	}
}

// TestResumeAsApt is what apt does with a partial file: a range with the date that
// it was given before.
func TestResumeAsApt(t *testing.T) {
	d := startFront(t)
	d.has(helloPath, helloBytes, "file")
	date := testTime.Format(http.TimeFormat)
	r, body := d.ask("GET", helloURL, "Range: bytes=100-", "If-Range: "+date)
	if r.StatusCode != 206 || body != string(helloBytes[100:]) || r.Header.Get("Last-Modified") != date {
		t.Errorf("%d, %d bytes, %v", r.StatusCode, len(body), r.Header)
	}
	r, body = d.ask("GET", helloURL, "Range: bytes=100-", "If-Range: "+testTime.Add(time.Second).Format(http.TimeFormat))
	if r.StatusCode != 200 || body != string(helloBytes) {
		t.Errorf("another date: %d, %d bytes", r.StatusCode, len(body))
	}
	r, _ = d.ask("GET", helloURL, "Range: bytes=65536-", "If-Range: "+date)
	if r.StatusCode != 416 || r.Header.Get("Content-Range") != "bytes */65536" || r.ContentLength < 10 {
		t.Errorf("the whole file: %d %v", r.StatusCode, r.Header)
	}
}

// TestNotModifiedOpensNothing: a client's date is compared with what the catalog
// knows, without the fetcher.
func TestNotModifiedOpensNothing(t *testing.T) {
	d := startFront(t)
	d.has(rootPath, []byte("root"), "bytes")
	loc := proto.Location{Archive: "ubuntu", Path: rootPath}
	e := d.catalog.entries[loc]
	e.Modified = testTime
	d.catalog.entries[loc] = e
	d.fetcher.open = func(context.Context, proto.ObjectRequest) (*proto.Blob, error) {
		t.Error("opened")
		return nil, errors.New("no")
	}
	for _, field := range []string{
		"If-Modified-Since: " + testTime.Format(http.TimeFormat),
		`If-None-Match: "` + e.Object.Ref.Digest.String() + `"`,
	} {
		got := d.raw("GET " + rootURL + " HTTP/1.1\nHost: n\nCache-Control: max-age=0\nConnection: close\n" + field + "\n\n")
		head, body, _ := strings.Cut(got, "\r\n\r\n")
		if !strings.HasPrefix(head, "HTTP/1.1 304 ") || body != "" || strings.Contains(head, "Content-Type") || !strings.Contains(head, "X-Aptmesh: hit; tier=memory; generation=2026-11-20T10:00:00Z; age=") {
			t.Errorf("%s: %s", field, got)
		}
	}
}

func TestNoCacheAsksUpstream(t *testing.T) {
	d := startFront(t)
	d.has(rootPath, []byte("root"), "bytes")
	d.has(helloPath, helloBytes, "bytes")
	held := d.catalog.entries[proto.Location{Archive: "ubuntu", Path: rootPath}]
	var err error
	d.catalog.discover = func(_ context.Context, _ proto.Location, fresh bool) (proto.Resolution, error) {
		if !fresh {
			t.Error("not fresh")
		}
		return held, err
	}
	for _, tt := range []struct {
		target, field string
		asks          bool
	}{
		{rootURL, "Cache-Control: no-cache", true},
		{rootURL, "Cache-Control: max-age=0, No-Cache", true},
		{rootURL, "Pragma: no-cache", true},
		{rootURL, "Cache-Control: max-age=0", false},
		{rootURL, "Cache-Control: no-store", false},
		{helloURL, "Cache-Control: no-cache", false},
	} {
		d.catalog.asked = nil
		if r, _ := d.ask("GET", tt.target, tt.field); r.StatusCode != 200 || len(d.catalog.asked) == 1 != tt.asks {
			t.Errorf("%s %s: %d, asked %v", tt.target, tt.field, r.StatusCode, d.catalog.asked)
		}
	}
	err = &proto.Unavailable{Reason: "archive.ubuntu.com does not answer"}
	r, body := d.ask("GET", rootURL, "Pragma: no-cache")
	if note := r.Header.Get("X-Aptmesh"); r.StatusCode != 200 || body != "root" || !strings.HasPrefix(note, "stale; ") || !strings.Contains(note, "does not answer") || r.Header.Get("Warning") == "" {
		t.Errorf("upstream down: %d %q %v", r.StatusCode, body, r.Header)
	}
}

// TestErrors reads every error off the wire: never without a body, always with its
// length, one line of plain text, and the status that makes apt do the right thing.
func TestErrors(t *testing.T) {
	unavailable := func(after time.Duration) error {
		return fmt.Errorf("flight: %w", &proto.Unavailable{Reason: "no answer", RetryAfter: after})
	}
	refused := func(status int) error { return &proto.Refused{Status: status, Reason: "upstream says no"} }
	for _, tt := range []struct {
		name         string
		err          error
		status       int
		retry, noted string
	}{
		{"not found", fmt.Errorf("x: %w", proto.ErrNotFound), 404, "", "not-found"},
		{"gone", refused(410), 404, "", "not-found"},
		{"unavailable", unavailable(0), 503, "5", "unavailable"},
		{"unavailable for a moment", unavailable(time.Millisecond), 503, "1", "unavailable"},
		{"unavailable for 7.2 s", unavailable(7200 * time.Millisecond), 503, "8", "unavailable"},
		{"unavailable for an hour", unavailable(time.Hour), 503, "30", "unavailable"},
		{"unavailable here and not found there", errors.Join(proto.ErrNotFound, unavailable(0)), 503, "5", "unavailable"},
		{"unavailable because not found", &proto.Unavailable{Reason: "x", Err: proto.ErrNotFound}, 503, "5", "unavailable"},
		{"an index that is being read", fmt.Errorf("x: %w", &proto.Unavailable{Reason: "y", Cause: proto.CauseUnread, RetryAfter: time.Second}), 503, "1", "index-unread"},
		{"a class without room", &proto.Unavailable{Reason: "y", Cause: proto.CauseClassFull}, 503, "5", "class-full"},
		{"corrupt here and not found there", errors.Join(proto.ErrNotFound, proto.ErrCorrupt), 403, "", "corrupt"},
		{"unauthorized", refused(401), 403, "", "refused"},
		{"forbidden", refused(403), 403, "", "refused"},
		{"legal", refused(451), 403, "", "refused"},
		{"teapot", refused(418), 403, "", "refused"},
		{"corrupt", fmt.Errorf("x: %w", proto.ErrCorrupt), 403, "", "corrupt"},
		{"no space", proto.ErrNoSpace, 503, "5", "disk"},
		{"a file that vanished", fmt.Errorf("open the growing file: %w", &fs.PathError{Op: "open", Path: "/x", Err: syscall.ENOENT}), 503, "5", "disk"},
		{"a file that was closed too early", fmt.Errorf("read: %w", &fs.PathError{Op: "read", Path: "/x", Err: fs.ErrClosed}), 503, "5", "disk"},
		{"a broken disk", fmt.Errorf("read: %w", syscall.EIO), 503, "5", "disk"},
		{"a network that nobody explained", &net.OpError{Op: "read", Err: syscall.ECONNRESET}, 503, "5", "unavailable"},
		{"cancelled from inside", fmt.Errorf("fetch: %w", context.Canceled), 503, "5", "unavailable"},
		{"deadline", context.DeadlineExceeded, 503, "5", "unavailable"},
		{"unknown", errors.New("http://bob:hunter2@example.org/ failed\nbadly"), 500, "", "internal"},
	} {
		for _, from := range []string{"catalog", "open", "stream", "head"} {
			t.Run(tt.name+" from "+from, func(t *testing.T) {
				d := startFront(t)
				method := "GET"
				switch from {
				case "catalog":
					d.catalog.discover = func(context.Context, proto.Location, bool) (proto.Resolution, error) {
						return proto.Resolution{}, tt.err
					}
				case "stream":
					d.streams(100, io.NopCloser(&failing{err: tt.err}))
				case "head":
					method = "HEAD"
					fallthrough
				default:
					d.has(helloPath, helloBytes, "bytes")
					d.fetcher.open = func(context.Context, proto.ObjectRequest) (*proto.Blob, error) { return nil, tt.err }
				}
				got := d.raw(method + " " + helloURL + " HTTP/1.1\nHost: n\nConnection: close\n\n")
				checkError(t, got, method, tt.status)
				for _, want := range []string{"\r\nX-Aptmesh: error; node=node-a; reason=" + tt.noted + "\r\n", "\r\nCache-Control: no-store\r\n", "\r\nX-Content-Type-Options: nosniff\r\n"} {
					if !strings.Contains(got, want) {
						t.Errorf("lacks %q: %s", want, got)
					}
				}
				if strings.Contains(got, "\r\nRetry-After: "+tt.retry+"\r\n") != (tt.retry != "") {
					t.Errorf("Retry-After is not %q: %s", tt.retry, got)
				}
				if strings.Contains(got, "hunter2") || strings.Contains(got, "Last-Modified") || strings.Contains(got, "Etag") {
					t.Errorf("tells too much: %s", got)
				}
			})
		}
	}
}

// checkError looks at an error answer as it was on the wire.
func checkError(t *testing.T, got, method string, status int) {
	t.Helper()
	head, body, ok := strings.Cut(got, "\r\n\r\n")
	if !ok || !strings.HasPrefix(head, "HTTP/1.1 "+strconv.Itoa(status)+" ") {
		t.Fatalf("want %d: %s", status, got)
	}
	_, rest, ok := strings.Cut(head, "\r\nContent-Length: ")
	length, _, _ := strings.Cut(rest, "\r\n")
	n, err := strconv.Atoi(length)
	if !ok || err != nil || n < 20 || method != "HEAD" && n != len(body) || method == "HEAD" && body != "" {
		t.Errorf("Content-Length %q of a body of %d bytes: %s", length, len(body), got)
	}
	if !strings.Contains(head, "\r\nContent-Type: text/plain; charset=utf-8\r\n") {
		t.Errorf("not plain text: %s", head)
	}
	if method != "HEAD" && strings.Count(body, "\n") != 1 {
		t.Errorf("not one line: %q", body)
	}
}

type failing struct{ err error }

func (f *failing) Read([]byte) (int, error) { return 0, f.err }

func TestRefusals(t *testing.T) {
	d := startFront(t)
	for _, tt := range []struct {
		method, target string
		status         int
		says           string
	}{
		{"GET", "/nothing/x", 404, "archives:"},
		{"GET", "http://evil.example/x", 403, "archives:"},
		{"HEAD", "http://evil.example/x", 403, ""},
		{"GET", "/ubuntu/dists/", 404, "directory"},
		{"GET", "/robots.txt", 404, "archives:"},
		{"GET", "/ubuntu/../../x", 400, "path"},
		{"POST", "/ubuntu/x", 405, "GET, HEAD and CONNECT"},
		{"PUT", "http://archive.ubuntu.com/ubuntu/x", 405, "PUT"},
		{"DELETE", "/", 405, "DELETE"},
		{"OPTIONS", "*", 405, "OPTIONS"},
	} {
		got := d.raw(tt.method + " " + tt.target + " HTTP/1.1\nHost: n\nConnection: close\n\n")
		checkError(t, got, tt.method, tt.status)
		if !strings.Contains(got, tt.says) || !strings.Contains(got, "\r\nX-Aptmesh: error; node=node-a; reason=") {
			t.Errorf("%s %s: %s", tt.method, tt.target, got)
		}
		if tt.status == 405 && !strings.Contains(got, "\r\nAllow: GET, HEAD, CONNECT\r\n") {
			t.Errorf("no Allow: %s", got)
		}
	}
}

func TestWrongLengthIsNeverServed(t *testing.T) {
	for _, kind := range []string{"bytes", "file", "stream"} {
		d := startFront(t)
		d.has(helloPath, helloBytes, kind)
		open := d.fetcher.open
		d.fetcher.open = func(ctx context.Context, want proto.ObjectRequest) (*proto.Blob, error) {
			b, err := open(ctx, want)
			if b.Bytes != nil {
				b.Bytes = b.Bytes[1:]
			}
			b.Ref.Size--
			return b, err
		}
		got := d.raw("GET " + helloURL + " HTTP/1.1\nHost: n\nConnection: close\n\n")
		checkError(t, got, "GET", 403)
	}
}

// Tools that look for a cache get a status that they know, and a text.
func TestPageForTools(t *testing.T) {
	d := startFront(t, func(c *Config) { c.HostFiles = testHostFiles })
	for target, base := range map[string]string{"/": "http://node:3142", "/?x=y": "http://node:3142", "http://" + d.addr + "/": "http://" + d.addr} {
		for _, accept := range []string{"X: y", "Accept: */*", "Accept: text/*"} {
			r, body := d.ask("GET", target, accept)
			if r.Status != "406 Usage Information" || r.Header.Get("Content-Type") != typeText || r.Header.Get("Cache-Control") != "no-store" {
				t.Errorf("%s: %d %v", target, r.StatusCode, r.Header)
			}
			for _, want := range []string{"with apt:\n\n" + testHostFiles(base, never)[0].Command() + "\nSources stay.\n", "http://archive.ubuntu.com/ubuntu   " + base + "/ubuntu\n", "/vendor/tools"} {
				if !strings.Contains(body, want) {
					t.Errorf("%s: lacks %q: %s", target, want, body)
				}
			}
			if strings.Contains(body, "secret") || strings.Contains(body, "Apt-cacher") {
				t.Errorf("%s: %s", target, body)
			}
		}
	}
	if got := d.raw("GET / HTTP/1.1\nHost: a&b\nConnection: close\n\n"); strings.Contains(got, "a&b") || !strings.Contains(got, "http://NODE:3142") {
		t.Error("the page repeats any host")
	}
}

// testHostFiles is one file for each archive that is not closed, after that of apt.
func testHostFiles(node string, closed func(string) bool) []proto.HostFile {
	files := []proto.HostFile{{Client: "apt", Path: "/etc/a", Note: "Sources stay.", Text: "proxy " + node + "\n"}}
	for _, a := range []string{"ubuntu", "debian"} {
		if !closed(a) {
			files = append(files, proto.HostFile{Client: "dnf", Path: "/etc/" + a, Head: "# <head>\n", Text: "baseurl=" + node + "/" + a + "\n"})
		}
	}
	return files
}

func never(string) bool { return false }

// A node without an archive of apt says nothing about apt.
func TestPageOfOtherFormats(t *testing.T) {
	d := startFront(t, func(c *Config) {
		c.HostFiles = func(node string, _ func(string) bool) []proto.HostFile {
			return []proto.HostFile{{Client: "dnf", Path: "/etc/yum.repos.d/aptmesh.repo", Text: "baseurl=" + node + "/fedora\n"}}
		}
	})
	for _, accept := range []string{"Accept: */*", "Accept: text/html"} {
		_, body := d.ask("GET", "/", accept)
		if !strings.Contains(body, "baseurl=http://node:3142/fedora") || strings.Contains(body, "apt,") || strings.Contains(body, "https sources") || strings.Contains(body, "sources with https") {
			t.Errorf("%s: %s", accept, body)
		}
	}
}

// A browser gets a page: nothing of it comes from elsewhere, whatever is on it is text, and a client sees
// neither archives that it may not have, nor other clients.
func TestPageForBrowsers(t *testing.T) {
	evil := `<script>alert("x")</script>`
	gathered, closed := 0, ""
	d := startFront(t, func(c *Config) {
		c.PublicURL, c.HostFiles = "http://cache.example.org:3142/", testHostFiles
		c.Classes = fakeClasses{}
		c.Archives[1].Deny = prefixes("127.0.0.0/8")
		closed = c.Archives[1].Name
	})
	d.gather = func() Overview {
		gathered++
		return Overview{
			Since: testTime, Requests: 7, ToHosts: 5 << 30, FromUpstream: 1 << 30, FromPeers: 2 << 20,
			Suites: []OverviewSuite{
				{Archive: "ubuntu", Name: "ubuntu/dists/noble", State: "fresh", Generation: testTime, Note: evil},
				{Archive: closed, Name: "closed-suite", State: "fresh"},
			},
			Nodes: []OverviewNode{{Name: "fra1", Datacenter: evil, State: "unreachable", Bad: true}},
		}
	}
	d.raw("GET http://refused.example.org/other/dists/sid/" + "<b> HTTP/1.1\nHost: x\nConnection: close\n\n")
	d.raw("GET http://refused.example.org/other/dists/sid/%3Cb%3E HTTP/1.1\nHost: x\nConnection: close\n\n")
	r, body := d.ask("GET", "/", "Accept: text/html,application/xhtml+xml;q=0.9,*/*;q=0.8")
	if r.Status != "200 OK" || !strings.HasPrefix(r.Header.Get("Content-Type"), "text/html") || !strings.Contains(r.Header.Get("Content-Security-Policy"), "default-src 'none'") {
		t.Errorf("%s %v", r.Status, r.Header)
	}
	for _, want := range []string{
		template.HTMLEscapeString(testHostFiles("http://cache.example.org:3142", never)[0].Command()), "<td>http://archive.ubuntu.com/ubuntu</td><td>http://cache.example.org:3142/ubuntu</td>",
		"<td>any archive of the class ppa</td><td>http://cache.example.org:3142/ppa/*</td>", "ubuntu/dists/noble", "fra1", "unreachable", "5.0 GiB sent to hosts in 7 requests", "4.0 GiB saved", "2.0 MiB from other nodes", "&lt;script&gt;",
		"<td>http://refused.example.org/other</td><td>unknown-host</td>", "sudo tee /etc/ubuntu &lt;&lt;&#39;END&#39;\n# &lt;head&gt;\nbaseurl=http://cache.example.org:3142/ubuntu\nEND\n",
	} {
		if !strings.Contains(body, want) {
			t.Errorf("lacks %q:\n%s", want, body)
		}
	}
	for _, leak := range []string{"<script", "src=", "href=", "@import", "url(", "closed-suite", "/etc/debian", "/" + d.cfg.Archives[1].Name + "<", "127.0.0.1", "secret"} {
		if strings.Contains(body, leak) {
			t.Errorf("has %q:\n%s", leak, body)
		}
	}
	if d.ask("GET", "/", "Accept: text/html"); gathered != 1 {
		t.Errorf("gathered %d times for two requests", gathered)
	}
	if r, body := d.ask("HEAD", "/", "Accept: text/html"); r.StatusCode != 200 || body != "" {
		t.Errorf("HEAD: %s %q", r.Status, body)
	}
}

// TestPipeline sends requests without waiting, as apt does, over one connection.
func TestPipeline(t *testing.T) {
	d := startFront(t)
	d.has(helloPath, helloBytes, "file")
	d.has("small.deb", []byte("small"), "bytes")
	d.has("stream.deb", helloBytes[:5000], "stream")
	conn, err := net.Dial("tcp", d.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	var all strings.Builder
	targets := []string{helloURL, "/ubuntu/small.deb", "/ubuntu/missing.deb", "/ubuntu/stream.deb", "/nothing", "/ubuntu/small.deb", helloURL}
	want := []string{string(helloBytes), "small", "", string(helloBytes[:5000]), "", "small", string(helloBytes)}
	for _, target := range targets {
		all.WriteString("GET " + target + " HTTP/1.1\r\nHost: n\r\n\r\n")
	}
	go io.WriteString(conn, all.String())
	in := bufio.NewReader(conn)
	for i, target := range targets {
		r, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(target, err)
		}
		body, err := io.ReadAll(r.Body)
		if err != nil || r.Close || want[i] != "" && string(body) != want[i] || want[i] == "" && r.StatusCode != 404 {
			t.Fatalf("%s: %d, %d bytes, close %v, %v", target, r.StatusCode, len(body), r.Close, err)
		}
	}
}

func TestHTTP10AndIPv6(t *testing.T) {
	d := startFront(t)
	d.has(helloPath, helloBytes[:100], "bytes")
	got := d.raw("GET " + helloURL + " HTTP/1.0\n\n")
	if !strings.HasPrefix(got, "HTTP/1.0 200 ") || !strings.HasSuffix(got, "\r\n\r\n"+string(helloBytes[:100])) {
		t.Error(got)
	}
	l, err := net.Listen("tcp6", "[::1]:0")
	if err != nil {
		t.Skip("no IPv6 here:", err)
	}
	s := d.Server(nil)
	go s.Serve(l)
	defer s.Close()
	d.addr = l.Addr().String()
	if r, body := d.ask("GET", "http://"+d.addr+helloURL); r.StatusCode != 200 || body != string(helloBytes[:100]) {
		t.Error(r.StatusCode, body)
	}
}

func TestDrain(t *testing.T) {
	d := startFront(t)
	started, finish := make(chan struct{}), make(chan struct{})
	d.streams(int64(len(helloBytes)), io.NopCloser(io.MultiReader(bytes.NewReader(helloBytes[:1000]), &gate{started, finish}, bytes.NewReader(helloBytes[1000:]))))
	running := make(chan string)
	go func() {
		_, body := d.ask("GET", helloURL)
		running <- body
	}()
	<-started
	gone, cancel := context.WithCancelCause(context.Background())
	impatient := errors.New("no more patience")
	cancel(impatient)
	if err := d.Drain(gone); !errors.Is(err, impatient) {
		t.Errorf("a request is running, and Drain says %v", err)
	}
	drained := make(chan error, 1)
	go func() { drained <- d.Drain(context.Background()) }()
	got := d.raw("GET " + helloURL + " HTTP/1.1\nHost: n\n\n") // ends although it did not ask for that
	checkError(t, got, "GET", 503)
	if !strings.Contains(got, "\r\nRetry-After: 1\r\n") || !strings.Contains(got, "\r\nConnection: close\r\n") {
		t.Error(got)
	}
	select {
	case err := <-drained:
		close(finish)
		<-running
		t.Fatalf("drained while a request was running: %v", err)
	default:
	}
	close(finish)
	if body := <-running; body != string(helloBytes) {
		t.Errorf("the running one got %d bytes", len(body))
	}
	if err := <-drained; err != nil {
		t.Error(err)
	}
}

// gate is an empty part of a stream that says when it is reached, and waits.
type gate struct{ reached, open chan struct{} }

func (g *gate) Read([]byte) (int, error) {
	close(g.reached)
	<-g.open
	return 0, io.EOF
}
