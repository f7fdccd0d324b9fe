package front

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// fakeCatalog and fakeFetcher are one map each. A location that is missing from
// entries is "ask Discover".
type fakeCatalog struct {
	mu       sync.Mutex
	entries  map[proto.Location]proto.Resolution
	discover func(ctx context.Context, loc proto.Location, fresh bool) (proto.Resolution, error)
	asked    []string
}

func (c *fakeCatalog) Resolve(loc proto.Location) (proto.Resolution, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.entries[loc]
	return e, ok
}

func (c *fakeCatalog) Discover(ctx context.Context, loc proto.Location, fresh bool) (proto.Resolution, error) {
	c.mu.Lock()
	c.asked = append(c.asked, loc.String())
	discover := c.discover
	c.mu.Unlock()
	if discover == nil {
		return proto.Resolution{}, proto.ErrNotFound
	}
	return discover(ctx, loc, fresh)
}

type fakeFetcher struct {
	reopen func(failed *proto.Blob, err error) (*proto.Blob, error)
	open   func(ctx context.Context, want proto.ObjectRequest) (*proto.Blob, error)
	head   func(ctx context.Context, want proto.ObjectRequest) (*proto.Blob, error)
}

func (f *fakeFetcher) Open(ctx context.Context, want proto.ObjectRequest) (*proto.Blob, error) {
	return f.open(ctx, want)
}

func (f *fakeFetcher) Head(ctx context.Context, want proto.ObjectRequest) (*proto.Blob, error) {
	if f.head != nil {
		return f.head(ctx, want)
	}
	b, err := f.open(ctx, want)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	return &proto.Blob{Ref: b.Ref, Modified: b.Modified, Verified: b.Verified, Tier: b.Tier}, nil
}

func (f *fakeFetcher) Reopen(_ context.Context, _ proto.ObjectRequest, failed *proto.Blob, err error) (*proto.Blob, error) {
	if f.reopen == nil {
		return nil, err
	}
	return f.reopen(failed, err)
}

func mustURL(t testing.TB, s string) *url.URL {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func testArchives(t testing.TB) []Archive {
	archives := []Archive{
		{Name: "ubuntu", Upstream: mustURL(t, "http://user:secret@archive.ubuntu.com/ubuntu"),
			Aliases: []string{"http://*.archive.ubuntu.com/ubuntu/", "http://ports.example.org:8080/ubuntu"}},
		{Name: "debian", Upstream: mustURL(t, "https://deb.example.org/debian")},
		{Name: "security", Upstream: mustURL(t, "https://deb.example.org/debian-security")},
		{Name: "vendor", Upstream: mustURL(t, "http://vendor.example.com:8080/apt/")},
		{Name: "vendor/tools", Upstream: mustURL(t, "https://tools.example.com")},
		{Name: "tilde", Upstream: mustURL(t, "http://people.example.com/%7Euser/apt")},
		{Name: "esm", Upstream: mustURL(t, "https://esm.example.com:443/infra/ubuntu")},
	}
	for i := range archives {
		archives[i].Format = fakeFormat{}
	}
	return archives
}

// fakeFormat is a format with names that are easy to recognise.
type fakeFormat struct{}

func (fakeFormat) PathInfo(path string) proto.PathInfo {
	name := path[strings.LastIndexByte(path, '/')+1:]
	info := proto.PathInfo{Kind: "other", ContentType: "application/octet-stream"}
	switch {
	case name == "InRelease" || name == "Release" || name == "Release.gpg":
		info.Kind, info.Root, info.ContentType = "root", true, typeText
	case strings.HasSuffix(name, ".deb"):
		info.Kind, info.Package, info.ContentType = "package", true, "application/vnd.debian.binary-package"
	case strings.Contains(path, "/by-hash/"):
		info.Kind, info.Immutable = "by-hash", true
	case strings.HasPrefix(name, "Packages"):
		info.Kind = "index"
	}
	return info
}

// testFront is a Front with fakes behind it and a listener before it.
type testFront struct {
	*Front
	t       testing.TB
	catalog *fakeCatalog
	fetcher *fakeFetcher
	addr    string
	logged  *lockedBuffer
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func startFront(t testing.TB, change ...func(*Config)) *testFront {
	t.Helper()
	d := &testFront{t: t, catalog: &fakeCatalog{entries: make(map[proto.Location]proto.Resolution)}, fetcher: &fakeFetcher{}, logged: &lockedBuffer{}}
	cfg := Config{
		Archives: testArchives(t), Node: "node-a", Names: []string{"apt-cache.example.org"}, Listens: func() []string { return []string{":80", ":3142"} },
		AccessLog: d.logged, Logger: slog.New(slog.DiscardHandler),
	}
	for _, c := range change {
		c(&cfg)
	}
	f, err := New(cfg, d.catalog, d.fetcher)
	if err != nil {
		t.Fatal(err)
	}
	d.Front = f
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d.addr = l.Addr().String()
	s := f.Server(nil)
	served := make(chan struct{})
	go func() {
		defer close(served)
		s.Serve(f.Listener(l))
	}()
	t.Cleanup(func() {
		s.Close()
		<-served
		f.Close()
	})
	return d
}

var (
	testTime   = time.Date(2026, 11, 20, 10, 0, 0, 0, time.UTC)
	helloPath  = "pool/main/h/hello/hello_2.10_amd64.deb"
	helloURL   = "/ubuntu/" + helloPath
	helloBytes = bytes.Repeat([]byte("0123456789abcdef"), 4096) // 64 KiB
	rootPath   = "dists/noble/InRelease"
	rootURL    = "/ubuntu/" + rootPath
)

// has makes the front know an object, carried as the given kind of body.
func (d *testFront) has(path string, content []byte, kind string) {
	ref := proto.Ref{Digest: proto.DigestOf(content), Size: int64(len(content))}
	loc := proto.Location{Archive: "ubuntu", Path: path}
	d.catalog.mu.Lock()
	d.catalog.entries[loc] = proto.Resolution{
		Object: proto.ObjectRequest{Ref: ref, Where: proto.At(loc)}, Listed: true, Generation: testTime,
		Mutable: strings.Contains(path, "InRelease"),
	}
	d.catalog.mu.Unlock()
	before := d.fetcher.open
	var file string
	if kind == "file" {
		file = filepath.Join(d.t.TempDir(), "blob")
		if err := os.WriteFile(file, content, 0o600); err != nil {
			d.t.Fatal(err)
		}
	}
	d.fetcher.open = func(ctx context.Context, want proto.ObjectRequest) (*proto.Blob, error) {
		if want.Ref != ref {
			if before == nil {
				return nil, errors.New("the fake has no such object")
			}
			return before(ctx, want)
		}
		b := &proto.Blob{Ref: ref, Verified: true, Modified: testTime}
		switch kind {
		case "bytes":
			b.Bytes, b.Tier = content, proto.TierMemory
		case "file":
			f, err := os.Open(file)
			if err != nil {
				return nil, err
			}
			b.File, b.Tier = f, proto.TierDisk
		case "stream":
			b.Stream, b.Tier, b.Modified = io.NopCloser(bytes.NewReader(content)), proto.TierUpstream, time.Time{}
		}
		return b, nil
	}
}

// streams makes the front answer the hello package with a stream of its own.
func (d *testFront) streams(size int64, stream io.ReadCloser) {
	d.has(helloPath, helloBytes, "bytes")
	loc := proto.Location{Archive: "ubuntu", Path: helloPath}
	e := d.catalog.entries[loc]
	e.Object.Ref.Size = size
	d.catalog.entries[loc] = e
	d.fetcher.open = func(context.Context, proto.ObjectRequest) (*proto.Blob, error) {
		return &proto.Blob{Ref: e.Object.Ref, Verified: true, Tier: proto.TierUpstream, Stream: stream}, nil
	}
}

// raw sends bytes as they are and returns all that comes back until the connection
// ends; so a request that is to end needs "Connection: close".
func (d *testFront) raw(request string) string {
	d.t.Helper()
	got, err := d.rawErr(request)
	if err != nil {
		d.t.Fatal(err)
	}
	return got
}

func (d *testFront) rawErr(request string) (string, error) {
	d.t.Helper()
	conn, err := net.Dial("tcp", d.addr)
	if err != nil {
		d.t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(conn, strings.ReplaceAll(request, "\n", "\r\n")); err != nil {
		d.t.Fatal(err)
	}
	all, err := io.ReadAll(conn)
	return string(all), err
}

// ask makes one request with its target as given and returns the parsed answer.
func (d *testFront) ask(method, target string, header ...string) (*http.Response, string) {
	d.t.Helper()
	extra := ""
	for _, h := range header {
		extra += h + "\n"
	}
	got := d.raw(method + " " + target + " HTTP/1.1\nHost: node:3142\nConnection: close\n" + extra + "\n")
	r, err := http.ReadResponse(bufio.NewReader(strings.NewReader(got)), &http.Request{Method: method})
	if err != nil {
		d.t.Fatalf("%s %s: %v\n%s", method, target, err, got)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		d.t.Fatalf("%s %s: body: %v\n%s", method, target, err, got)
	}
	return r, string(body)
}
