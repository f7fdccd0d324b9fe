package upstream

import (
	"bytes"
	"compress/gzip"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

func TestFetchWhole(t *testing.T) {
	var seen *http.Request
	modified := time.Date(2024, 4, 25, 15, 10, 33, 0, time.UTC)
	srv := serve(t, func(w http.ResponseWriter, r *http.Request) {
		seen = r.Clone(r.Context())
		w.Header().Set("ETag", `"v1"`)
		w.Header().Set("Content-Type", "application/vnd.debian.binary-package")
		http.ServeContent(w, r, "", modified, strings.NewReader("content"))
	})
	c := client(t, srv.URL+"/some/archive/", func(cfg *Config) { cfg.UserAgent = "aptmesh/1.2 (+https://example.org)" })
	tr, got := mustFetch(t, c, get("pool/main/g/g++/a b~rc1+x:y_ä.deb"))
	if got != "content" || tr.Size != 7 || tr.Offset != 0 || !tr.Modified.Equal(modified) || tr.Modified.Location() != time.UTC ||
		tr.ETag != `"v1"` || tr.ContentType == "" || tr.Tier != proto.TierUpstream || tr.NotModified {
		t.Errorf("got %q and %+v", got, tr)
	}
	if want := "/some/archive/pool/main/g/g%2b%2b/a%20b~rc1%2bx:y_%c3%a4.deb"; seen.RequestURI != want {
		t.Errorf("asked for %s, want %s", seen.RequestURI, want)
	}
	if got := seen.Header; len(got) != 1 || got.Get("User-Agent") != "aptmesh/1.2 (+https://example.org)" {
		t.Errorf("sent more than a user agent: %v", got)
	}
}

func TestFetchMetadataAsksCachesToRevalidate(t *testing.T) {
	for immutable, want := range map[bool]string{false: "max-age=0", true: ""} {
		srv := serve(t, func(w http.ResponseWriter, r *http.Request) {
			if got := r.Header.Get("Cache-Control"); got != want {
				t.Errorf("immutable %v: Cache-Control is %q, want %q", immutable, got, want)
			}
		})
		req := get("dists/noble/InRelease")
		req.Class, req.Immutable = proto.ClassMetadata, immutable
		mustFetch(t, client(t, srv.URL), req)
	}
}

func TestFetchHead(t *testing.T) {
	srv := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodHead || r.Header.Get("Range") != "" {
			t.Errorf("%s %v", r.Method, r.Header)
		}
		w.Header().Set("Content-Length", "1000000")
	})
	req := get("x.deb")
	req.Head, req.Offset = true, 5
	if tr, got := mustFetch(t, client(t, srv.URL), req); got != "" || tr.Size != 1000000 {
		t.Errorf("%q, %+v", got, tr)
	}
}

func TestFetchUnknownSize(t *testing.T) {
	srv := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush() // no length from here on
		io.WriteString(w, "content")
	})
	if tr, got := mustFetch(t, client(t, srv.URL), get("x.deb")); got != "content" || tr.Size != proto.UnknownSize {
		t.Errorf("%q, %+v", got, tr)
	}
}

func TestFetchConditional(t *testing.T) {
	modified := time.Date(2024, 4, 25, 15, 10, 33, 0, time.UTC)
	srv := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"v1"`)
		http.ServeContent(w, r, "", modified, strings.NewReader("content"))
	})
	c := client(t, srv.URL)
	for _, tc := range []struct {
		name  string
		etag  string
		since time.Time
		same  bool
	}{
		{name: "nothing asked"},
		{name: "same etag", etag: `"v1"`, same: true},
		{name: "other etag", etag: `"v0"`},
		{name: "same date", since: modified.In(time.FixedZone("", 3600)), same: true},
		{name: "older date", since: modified.Add(-time.Second)},
	} {
		req := get("dists/noble/InRelease")
		req.IfNoneMatch, req.IfModifiedSince = tc.etag, tc.since
		tr, got := mustFetch(t, c, req)
		if tr.NotModified != tc.same || (got == "content") == tc.same || (tr.Body == nil) != tc.same || tr.ETag != `"v1"` || !tc.same && !tr.Modified.Equal(modified) {
			t.Errorf("%s: %q, %+v", tc.name, got, tr)
		}
	}
}

const content = "0123456789"

func TestResume(t *testing.T) {
	modified := time.Date(2024, 4, 25, 15, 10, 33, 0, time.UTC)
	date := modified.Format(http.TimeFormat)
	honest := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"v1"`)
		http.ServeContent(w, r, "", modified, strings.NewReader(content))
	}
	// part answers any Range request in a fixed way, and others in full.
	part := func(status int, field, body string, more ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Range") == "" {
				io.WriteString(w, content)
				return
			}
			for i := 0; i+1 < len(more); i += 2 {
				w.Header().Set(more[i], more[i+1])
			}
			w.Header().Set("Content-Range", field)
			w.WriteHeader(status)
			io.WriteString(w, body)
		}
	}
	for _, tc := range []struct {
		name       string
		handler    http.HandlerFunc
		offset     int64
		ifRange    string
		wantOffset int64
		wantSize   int64
		want       string
		wantErr    error
		requests   int32 // 0 = 1
	}{
		{name: "rest", handler: honest, offset: 4, wantOffset: 4, wantSize: 10, want: "456789"},
		{name: "same etag", handler: honest, offset: 4, ifRange: `"v1"`, wantOffset: 4, wantSize: 10, want: "456789"},
		{name: "same date", handler: honest, offset: 4, ifRange: date, wantOffset: 4, wantSize: 10, want: "456789"},
		{name: "other etag", handler: honest, offset: 4, ifRange: `"v0"`, wantSize: 10, want: content},
		{name: "other date", handler: honest, offset: 4, ifRange: modified.Add(1).Add(time.Second).Format(http.TimeFormat), wantSize: 10, want: content},
		{name: "weak validator: no Range is sent", handler: part(206, "bytes 4-9/10", "456789"), offset: 4, ifRange: `W/"v1"`, wantSize: 10, want: content},
		{name: "no ranges there", handler: func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, content) }, offset: 4, wantSize: 10, want: content},
		{name: "unknown total", handler: part(206, "bytes 4-9/*", "456789"), offset: 4, wantOffset: 4, wantSize: -1, want: "456789"},

		{name: "wrong start", handler: part(206, "bytes 3-9/10", "3456789"), offset: 4, wantSize: 10, want: content, requests: 2},
		{name: "wrong end", handler: part(206, "bytes 4-5/10", "45"), offset: 4, wantSize: 10, want: content, requests: 2},
		{name: "no field", handler: part(206, "", "456789"), offset: 4, wantSize: 10, want: content, requests: 2},
		{name: "several parts", handler: part(206, "", "--x", "Content-Type", "multipart/byteranges; boundary=x"), offset: 4, wantSize: 10, want: content, requests: 2},
		{name: "length and field differ", handler: part(206, "bytes 4-9/10", "4567"), offset: 4, wantSize: 10, want: content, requests: 2},
		{name: "If-Range ignored, other etag", handler: part(206, "bytes 4-9/10", "456789", "ETag", `"v2"`), offset: 4, ifRange: `"v1"`, wantSize: 10, want: content, requests: 2},
		{name: "If-Range ignored, other date", handler: part(206, "bytes 4-9/10", "456789", "Last-Modified", modified.Add(time.Hour).Format(http.TimeFormat)), offset: 4, ifRange: date, wantSize: 10, want: content, requests: 2},

		{name: "416, all is here", handler: honest, offset: 10, wantOffset: 10, wantSize: 10, want: ""},
		{name: "416, it is shorter", handler: honest, offset: 11, wantErr: proto.ErrCorrupt},
		{name: "416 without a reason", handler: part(416, "", "no"), offset: 4, wantSize: 10, want: content, requests: 2},
		{name: "416 that makes no sense", handler: part(416, "bytes */10", "no"), offset: 4, wantSize: 10, want: content, requests: 2},
		{name: "206 unasked", handler: func(w http.ResponseWriter, r *http.Request) { part(206, "bytes 0-3/10", "0123")(w, withRange(r)) }, wantErr: proto.ErrCorrupt},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var requests atomic.Int32
			srv := serve(t, func(w http.ResponseWriter, r *http.Request) { requests.Add(1); tc.handler(w, r) })
			req := get("x.deb")
			req.Offset, req.IfRange = tc.offset, tc.ifRange
			tr, got, err := fetchAll(t.Context(), client(t, srv.URL), req)
			if tc.wantErr != nil {
				if !errors.Is(err, tc.wantErr) {
					t.Errorf("error is %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != tc.want || tr.Offset != tc.wantOffset || tr.Size != tc.wantSize {
				t.Errorf("%q from %d of %d, want %q from %d of %d", got, tr.Offset, tr.Size, tc.want, tc.wantOffset, tc.wantSize)
			}
			if n := requests.Load(); n != max(1, tc.requests) {
				t.Errorf("%d requests", n)
			}
		})
	}
}

func withRange(r *http.Request) *http.Request {
	r.Header.Set("Range", "bytes=0-3")
	return r
}

func TestStatuses(t *testing.T) {
	for status, want := range map[int]any{
		404: proto.ErrNotFound, 410: proto.ErrNotFound,
		400: &proto.Refused{}, 401: &proto.Refused{}, 403: &proto.Refused{}, 407: &proto.Refused{}, 416: &proto.Refused{}, 451: &proto.Refused{},
		421: &proto.Refused{}, 425: &proto.Refused{}, 501: &proto.Refused{}, 505: &proto.Refused{}, 506: &proto.Refused{}, 507: &proto.Refused{},
		509: &proto.Refused{}, 510: &proto.Refused{}, 511: &proto.Refused{}, 520: &proto.Refused{}, 598: &proto.Refused{},
		204: &proto.Refused{}, 300: &proto.Refused{}, 304: &proto.Refused{},
		// What apt asks again for: TransientCodes in its methods/basehttp.cc.
		408: &proto.Unavailable{}, 429: &proto.Unavailable{}, 500: &proto.Unavailable{}, 502: &proto.Unavailable{},
		503: &proto.Unavailable{}, 504: &proto.Unavailable{}, 599: &proto.Unavailable{},
	} {
		srv := serve(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Retry-After", "17")
			w.WriteHeader(status)
			if status != 204 && status != 304 {
				io.WriteString(w, "words")
			}
		})
		_, err := client(t, srv.URL).Fetch(t.Context(), get("pool/x.deb"))
		if err == nil || !strings.Contains(err.Error(), srv.URL+"/pool/x.deb") || !strings.Contains(err.Error(), fmt.Sprint(status)) {
			t.Errorf("%d: the error %v does not tell what happened where", status, err)
		}
		switch want := want.(type) {
		case *proto.Refused:
			if got := refused(t, err); got.Status != status {
				t.Errorf("%d: Status is %d", status, got.Status)
			}
		case *proto.Unavailable:
			if got := unavailable(t, err); status >= 400 && got.RetryAfter != 17*time.Second {
				t.Errorf("%d: RetryAfter is %v", status, got.RetryAfter)
			}
		case error:
			if !errors.Is(err, want) {
				t.Errorf("%d: error is %v", status, err)
			}
		}
	}
}

func TestUnknownArchive(t *testing.T) {
	c := client(t, "http://archive.example.org/")
	_, err := c.Fetch(t.Context(), proto.Request{Loc: proto.Location{Archive: "b", Path: "x"}})
	if !errors.Is(err, ErrUnknownArchive) || !strings.Contains(err.Error(), "b/x") || !strings.Contains(err.Error(), "configured: a") {
		t.Errorf("error is %v", err)
	}
}

func TestNetworkErrors(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closedPort := "http://" + l.Addr().String()
	l.Close()
	abort := serve(t, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	for name, tc := range map[string]struct{ base, want string }{
		"nobody there": {closedPort, closedPort + " accepts no connection: connection refused"},
		"cut off":      {abort.URL, abort.URL + " closed the connection without an answer"},
	} {
		c := client(t, tc.base)
		_, err := c.Fetch(t.Context(), get("x"))
		if busy := unavailable(t, err); !strings.HasPrefix(busy.Error(), tc.want) || strings.Contains(busy.Error(), "after 0s") {
			t.Errorf("%s: %q", name, busy.Error())
		}
		if strings.Contains(err.Error(), "dial tcp") || name == "nobody there" && !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("%s: %q", name, err)
		}
		if h := c.Stats().Hosts[0]; h.LastError == "" || h.LastFail.IsZero() || h.Requests[outcomeUnavailable] != 1 {
			t.Errorf("%s: stats are %+v", name, h)
		}
	}
}

// What is wrong with a certificate is said in words, without the quotes of Go's.
func TestCertificateErrors(t *testing.T) {
	cert := &x509.Certificate{
		DNSNames: []string{"a.example.org", "b.example.org"}, IPAddresses: []net.IP{net.IPv4(192, 0, 2, 1)},
		NotBefore: time.Date(2025, 1, 2, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC),
	}
	many := &x509.Certificate{DNSNames: []string{"a", "b", "c", "d", "e"}}
	for want, err := range map[string]error{
		"none of the authorities signed it that this node trusts; name the authority's file in tls.ca of the upstream if it is right": x509.UnknownAuthorityError{Cert: cert},
		"it is not for c.example.org, but for a.example.org, b.example.org, 192.0.2.1":                                                x509.HostnameError{Certificate: cert, Host: "c.example.org"},
		"it is not for x, but for a, b, c and 2 more":                                                                                 x509.HostnameError{Certificate: many, Host: "x"},
		"it is not for x, but for no host":                                                                                            x509.HostnameError{Certificate: &x509.Certificate{}, Host: "x"},
		"it is valid from 2025-01-02 to 2026-01-02; is the clock of this node right?":                                                 x509.CertificateInvalidError{Cert: cert, Reason: x509.Expired},
	} {
		got := spoken{&tls.CertificateVerificationError{UnverifiedCertificates: []*x509.Certificate{cert}, Err: err}}
		if got.Error() != want || errors.Unwrap(got) == nil {
			t.Errorf("%v\nbecame %s\nwant   %s", err, got, want)
		}
	}
}

func TestTruncatedBody(t *testing.T) {
	for name, handler := range map[string]http.HandlerFunc{
		"known length": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "100")
			io.WriteString(w, "some")
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		},
		"chunked": func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, "some")
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		},
	} {
		srv := serve(t, handler)
		_, got, err := fetchAll(t.Context(), client(t, srv.URL), get("x.deb"))
		busy := unavailable(t, err)
		if string(got) != "some" || !errors.Is(err, io.ErrUnexpectedEOF) || !strings.Contains(busy.Reason, "broke the transfer off after 4") {
			t.Errorf("%s: %q and %v", name, got, err)
		}
	}
}

func TestPartShorterThanItSays(t *testing.T) {
	srv := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Range", "bytes 4-9/10")
		w.WriteHeader(http.StatusPartialContent)
		w.(http.Flusher).Flush() // chunked, so that only Content-Range tells the length
		io.WriteString(w, "456")
	})
	req := get("x.deb")
	req.Offset = 4
	_, _, err := fetchAll(t.Context(), client(t, srv.URL), req)
	unavailable(t, err)
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("error is %v", err)
	}
}

func TestBodyIsNeverInflated(t *testing.T) {
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	io.WriteString(z, "Package: hello\n")
	z.Close()
	srv := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if got := r.Header.Get("Accept-Encoding"); got != "" {
			t.Errorf("asked for %q", got)
		}
		w.Header().Set("Content-Encoding", "gzip")
		w.Write(packed.Bytes())
	})
	for _, path := range []string{"dists/noble/main/binary-amd64/Packages.gz", "dists/noble/InRelease"} {
		tr, got := mustFetch(t, client(t, srv.URL), get(path))
		if got != packed.String() || tr.Size != int64(packed.Len()) {
			t.Errorf("%s: %d bytes of %d, want %d", path, len(got), tr.Size, packed.Len())
		}
	}
}

func TestCaptivePage(t *testing.T) {
	const page = "\n<!DOCTYPE html><html><body>Log in</body></html>"
	for _, tc := range []struct {
		path, kind, body string
		corrupt          bool
	}{
		{"pool/x.deb", "text/html", page, true},
		{"pool/x.deb", "Text/HTML; charset=utf-8", page, true},
		{"pool/x.deb", "text/html", "!<arch>\n", false}, // the server knows no better
		{"pool/x.dsc", "application/xhtml+xml", page, true},
		{"dists/noble/main/binary-amd64/Packages.xz", "text/html", page, true},
		{"dists/noble/InRelease", "text/html", page, true},
		{"dists/noble/Release.gpg", "text/html", page, true},
		{"dists/noble/main/binary-amd64/by-hash/SHA256/00", "text/html; charset", page, true},
		{"dists/noble/InRelease", "text/html", "-----BEGIN PGP SIGNED MESSAGE-----\n", false},
		{"dists/noble/Release", "text/html", "", false},
		{"dists/noble/InRelease", "text/plain", page, false},
		{"doc/index.html", "text/html", page, false},
		{"project/trace/", "text/html", page, false},
	} {
		req := get(tc.path)
		req.Page = tc.path == "doc/index.html" || tc.path == "project/trace/"
		srv := serve(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/login" { // portals redirect
				http.Redirect(w, r, "/login", http.StatusFound)
				return
			}
			w.Header().Set("Content-Type", tc.kind)
			io.WriteString(w, tc.body)
		})
		_, got, err := fetchAll(t.Context(), client(t, srv.URL), req)
		switch {
		case tc.corrupt && (!errors.Is(err, proto.ErrCorrupt) || !strings.Contains(err.Error(), "captive page")):
			t.Errorf("%s %q: %q, %v", tc.path, tc.kind, got, err)
		case !tc.corrupt && (err != nil || string(got) != tc.body):
			t.Errorf("%s %q: %q, %v", tc.path, tc.kind, got, err)
		}
	}
}

func TestConnectionIsKept(t *testing.T) {
	var dials atomic.Int32
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/missing":
			http.Error(w, "no", http.StatusNotFound)
		case "/busy":
			http.Error(w, "no", http.StatusServiceUnavailable)
		case "/moved":
			http.Redirect(w, r, "/there", http.StatusFound)
		case "/empty":
		default:
			http.ServeContent(w, r, "", time.Unix(1e9, 0), bytes.NewReader(make([]byte, 100_000)))
		}
	}))
	srv.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			dials.Add(1)
		}
	}
	srv.Start()
	t.Cleanup(srv.Close)
	c := client(t, srv.URL)
	head, same, unread := get("there"), get("there"), get("empty")
	head.Head = true
	same.IfModifiedSince = time.Unix(1e9, 0)
	for range 3 {
		for _, req := range []proto.Request{get("there"), get("missing"), get("busy"), get("moved"), get("empty"), head, same} {
			fetchAll(t.Context(), c, req)
		}
		tr, err := c.Fetch(t.Context(), unread)
		if err != nil {
			t.Fatal(err)
		}
		tr.Body.Close()
	}
	if n := dials.Load(); n != 1 {
		t.Errorf("%d connections for requests one after the other, want 1", n)
	}
}

func TestReconfigureWhileTransfersRun(t *testing.T) {
	release := make(chan struct{})
	first := serve(t, func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "old ")
		w.(http.Flusher).Flush()
		<-release
		io.WriteString(w, "end")
	})
	second := serve(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "new") })
	c := client(t, first.URL)
	running, err := c.Fetch(t.Context(), get("x"))
	if err != nil {
		t.Fatal(err)
	}
	u, _ := url.Parse(second.URL)
	if err := c.Reconfigure(filled(Config{Archives: []Archive{{Name: "b", Mirrors: []Mirror{{URL: u}}}}, Settings: Settings{Proxy: Direct, ConnectionsPerHost: 3}})); err != nil {
		t.Fatal(err)
	}
	if err := c.Reconfigure(filled(Config{Archives: []Archive{{Name: "b"}}})); err == nil {
		t.Error("an archive without a URL was taken")
	}
	if _, err := c.Fetch(t.Context(), get("x")); !errors.Is(err, ErrUnknownArchive) {
		t.Errorf("the old archive: %v", err)
	}
	req := get("x")
	req.Loc.Archive = "b"
	if _, got := mustFetch(t, c, req); got != "new" {
		t.Errorf("the new archive: %q", got)
	}
	close(release)
	got, err := io.ReadAll(running.Body)
	if string(got) != "old end" || err != nil {
		t.Errorf("the running transfer: %q, %v", got, err)
	}
	running.Body.Close()
	for _, h := range c.Stats().Hosts {
		if h.Limit != 3 || h.InUse != 0 {
			t.Errorf("%s: limit %d, %d in use", h.Host, h.Limit, h.InUse)
		}
	}
}

func TestConfigIsChecked(t *testing.T) {
	at := func(s string) []Archive {
		u, err := url.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		return []Archive{{Name: "a", Mirrors: []Mirror{{URL: u}}}}
	}
	good := at("http://example.org/debian")
	for want, cfg := range map[string]Config{
		"no name":               {Archives: []Archive{{Mirrors: good[0].Mirrors}}},
		"no mirror":             {Archives: []Archive{{Name: "a"}}},
		"no URL":                {Archives: []Archive{{Name: "a", Mirrors: []Mirror{{}}}}},
		"twice":                 {Archives: []Archive{{Name: "a", Mirrors: append(at("http://Example.org/debian/")[0].Mirrors, good[0].Mirrors...)}}},
		"weight is negative":    {Archives: []Archive{{Name: "a", Mirrors: []Mirror{{URL: good[0].Mirrors[0].URL, Weight: -1}}}}},
		"no part of a date":     {Archives: []Archive{{Name: "a", Mirrors: good[0].Mirrors, History: at("http://example.org/{timestamp}")[0].Mirrors[0].URL}}},
		"ftp://example.org/%7B": {Archives: []Archive{{Name: "a", Mirrors: good[0].Mirrors, History: at("ftp://example.org/{yyyy}")[0].Mirrors[0].URL}}},
		"only http and https":   {Archives: at("ftp://example.org/debian")},
		"names no host":         {Archives: at("http:///debian")},
		"neither query":         {Archives: at("http://example.org/debian?key=s3cret")},
		`two archives`:          {Archives: append(at("http://example.org/x"), good...)},
		"ConnectionsPerHost":    {Archives: good, Settings: Settings{ConnectionsPerHost: -1}},
		"Rate is negative":      {Archives: good, Settings: Settings{Rate: -1}},
		"StallTimeout":          {Archives: good, Settings: Settings{StallTimeout: -1}},
		"UserAgent":             {Archives: good, UserAgent: "a\nb"},
		"must not contain a c":  {Archives: []Archive{{Name: "a", Mirrors: []Mirror{{URL: good[0].Mirrors[0].URL, Credentials: Credentials{User: "a:b"}}}}}},
		"control character":     {Archives: []Archive{{Name: "a", Mirrors: []Mirror{{URL: good[0].Mirrors[0].URL, Credentials: Credentials{Bearer: NewSecret("s3cret\n")}}}}}},
	} {
		_, err := New(filled(cfg))
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}
