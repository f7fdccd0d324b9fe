package front

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// aptRepeats are the statuses that apt takes for transient (TransientCodes in
// methods/basehttp.cc, the same in 2.2 and 3.1).
var aptRepeats = []int{408, 429, 500, 502, 503, 504, 599}

// Whatever seconds cannot change ends with a status that apt does not repeat and does not
// take for "there is no InRelease"; whatever may pass ends with one that it repeats, and a
// time to wait. It holds for every chain of errors that a verdict may stand in.
func TestAnswerSheet(t *testing.T) {
	type row struct {
		name   string
		err    error
		final  bool
		reason string
		phrase string
	}
	busy := func(cause error) error {
		return &proto.Unavailable{Reason: "2 tries failed lately", RetryAfter: 9 * time.Second, Err: cause}
	}
	rows := []row{
		{"corrupt", fmt.Errorf("ubuntu/x: %w", proto.ErrCorrupt), true, "corrupt", "ubuntu/x: " + proto.ErrCorrupt.Error()},
		{"refused", &proto.Refused{Status: 401, Reason: "no such login"}, true, "refused", "upstream refuses it: no such login (HTTP 401)"},
		{"refused oddly", &proto.Refused{Status: 505, Reason: "odd"}, true, "refused", "upstream refuses it: odd (HTTP 505)"},
		{"unavailable", busy(nil), false, "unavailable", "2 tries failed lately"},
		{"unavailable, for it was corrupt", busy(proto.ErrCorrupt), false, "unavailable", "2 tries failed lately: " + proto.ErrCorrupt.Error()},
		{"unavailable, for it was not found", busy(proto.ErrNotFound), false, "unavailable", "2 tries failed lately: not found upstream"},
		{"no space", fmt.Errorf("keep it: %w", proto.ErrNoSpace), false, "disk", "the disk of this node: keep it: no space in the store"},
		{"too slow", context.DeadlineExceeded, false, "unavailable", "it takes too long"},
		{"unknown", errors.New("input/output error"), false, "internal", "the node failed: input/output error"},
	}
	for _, kind := range proto.RejectKinds() {
		verdict := &proto.Rejected{Kind: kind, Reason: "the sentence", Err: proto.ErrNotFound}
		rows = append(rows,
			row{string(kind), verdict, true, string(kind), "the sentence"},
			row{string(kind) + " at one of two mirrors", fmt.Errorf("mirror a: %w (other mirrors: ...)", verdict), true, string(kind), "the sentence"},
			row{string(kind) + ", and nodes wait", busy(verdict), true, string(kind), "the sentence"})
	}
	loc := proto.Location{Archive: "ubuntu", Path: rootPath}
	for _, row := range rows {
		r := refuse(loc, about{}, row.err)
		a := answerRefusal(r)
		if r.reason != row.reason || a.phrase != row.phrase || !strings.HasPrefix(a.text, "ubuntu/dists/noble/InRelease: ") {
			t.Errorf("%s: %d %q %q %q", row.name, r.status, r.reason, a.phrase, a.text)
		}
		repeats := slices.Contains(aptRepeats, r.status)
		if repeats == row.final || r.status == http.StatusNotFound || r.retryAfter > 0 && row.final {
			t.Errorf("%s: %d, Retry-After %d", row.name, r.status, r.retryAfter)
		}
		if r.status == http.StatusServiceUnavailable && (r.retryAfter < 1 || r.retryAfter > retryMost) {
			t.Errorf("%s: Retry-After %d", row.name, r.retryAfter)
		}
	}
	for _, err := range []error{proto.ErrNotFound, &proto.Refused{Status: 404}, &proto.Refused{Status: 410}} {
		if a := answerRefusal(refuse(loc, about{}, err)); a.status != http.StatusNotFound || a.phrase != "Not Found" {
			t.Errorf("%v: %d %q", err, a.status, a.phrase)
		}
	}
}

// A host whose suite is not there sees why. What it may do without ends as it does without a node, because apt shows
// the status line of such files, too.
func TestStatusLineOfWhatIsMissing(t *testing.T) {
	root, index, signature := &proto.PathInfo{Root: true}, &proto.PathInfo{Index: true}, fmt.Errorf("a mirror: %w", proto.ErrOtherForm)
	for name, tt := range map[string]struct {
		asked  about
		err    error
		phrase string // after the usual words
		text   string
	}{
		"a suite":                {about{info: root}, proto.ErrNotFound, ": the archive has no such suite; see the suite in the host's sources, or ", "the archive has no such suite"},
		"a suite of a snapshot":  {about{info: root, snapshot: "w48"}, proto.ErrNotFound, ": the snapshot or channel w48 has no such suite: ", "the snapshot or channel w48 has no such suite"},
		"another form of a root": {about{info: root}, signature, "", "the archive has the suite without this file"},
		"the same of a snapshot": {about{info: root, snapshot: "w48"}, signature, "", "the archive has the suite without this file"},
		"an index":               {about{info: index}, proto.ErrNotFound, "", "the archive has no such index"},
		"a listed index":         {about{info: index, listed: true}, proto.ErrNotFound, "", "the suite's Release lists it"},
		"a package":              {about{info: &proto.PathInfo{Package: true}}, proto.ErrNotFound, "", "the archive has no such file"},
	} {
		a := answerRefusal(refuse(proto.Location{Archive: "ubuntu", Path: rootPath}, tt.asked, tt.err))
		after, usual := strings.CutPrefix(a.phrase, "Not Found")
		if !usual || !strings.HasPrefix(after, tt.phrase) || tt.phrase == "" && after != "" || !strings.Contains(a.text, tt.text) || a.note.reason != reasonNotFound || a.status != http.StatusNotFound {
			t.Errorf("%s: %d %q, %s", name, a.status, a.phrase, a.text)
		}
	}
}

func TestPhrase(t *testing.T) {
	long := strings.Repeat("word ", 100)
	for text, want := range map[string]string{
		"plain":                      "plain",
		" a\r\nSet-X: b\n":           "a??Set-X: b?",
		"d\u00e9j\u00e0 \u2026 \x00": "d?j? . ?",
		"http://u:p@h/x":             "http://***@h/x",
		long:                         strings.TrimSpace(long[:345]) + " ...",
		strings.Repeat("x", 400):     strings.Repeat("x", 346) + " ...",
		strings.Repeat("x", 350):     strings.Repeat("x", 350),
	} {
		if got := phrase(text); got != want || len(got) > maxPhrase {
			t.Errorf("%q became %q (%d bytes), want %q", text, got, len(got), want)
		}
	}
}

// Whatever text an answer or a log is made of, it has no password and no query of a URL.
func TestHideSecrets(t *testing.T) {
	for text, want := range map[string]string{
		"nothing":                             "nothing",
		"/suse/x?tok/en":                      "/suse/x?***",
		"/suse/x?":                            "/suse/x?",
		"http://h/x?token":                    "http://h/x?***",
		"HTTP://u:p@h/x?token#f":              "HTTP://***@h/x?***",
		"a http://h/x?a=b, c":                 "a http://h/x?***, c",
		`"http://h/x?a" and "https://h/y?b"`:  `"http://h/x?***" and "https://h/y?***"`,
		"http://h/x is no file? https://h/?a": "http://h/x is no file? https://h/?***",
		"did you mean http://h/x?":            "did you mean http://h/x?",
		"http://h/x?u=http://i/y?b c":         "http://h/x?*** c",
		"ubuntu/a?b: no such file":            "ubuntu/a?b: no such file", // a location, whose path can have a ?
	} {
		if got := hideSecrets(text); got != want {
			t.Errorf("%q became %q, want %q", text, got, want)
		}
	}
}

// What to do stands at the beginning of a status line, however long the names are that the client asks for.
func TestPhraseBeginsWithWhatToDo(t *testing.T) {
	d := startFront(t)
	long := strings.Repeat("a23456789.", 25) + "org"
	for target, want := range map[string]string{
		"http://" + long + "/ubuntu/x":                            "add it under archives: of the node (as upstream or alias): ",
		"http://archive.ubuntu.com/" + strings.Repeat("x", 300):   "add it under archives: of the node, or correct the URL: ",
		"/" + strings.Repeat("x", 300) + "/dists/noble/InRelease": "add it under archives: of the node, or correct the URL: ",
		"CONNECT " + long + ":443":                                `set Acquire::https::Proxy "DIRECT" on this host: `,
	} {
		request := "GET " + target
		if hostPort, connect := strings.CutPrefix(target, "CONNECT "); connect {
			request = "CONNECT " + hostPort
		}
		line, _, _ := strings.Cut(d.raw(request+" HTTP/1.1\nHost: x\nConnection: close\n\n"), "\r\n")
		said := line[len("HTTP/1.1 403 "):]
		if !strings.HasPrefix(said, want) || len(said) > maxPhrase {
			t.Errorf("%.60s: %d bytes, %q; want it to begin with %q", target, len(said), line, want)
		}
	}
}

// The sentence arrives in the status line, and the connection goes on: the requests that
// the client has sent already are answered on it, with files by sendfile among them.
func TestStatusLine(t *testing.T) {
	for name, secure := range map[string]bool{"plain": false, "TLS": true} {
		t.Run(name, func(t *testing.T) {
			d := startFront(t)
			d.has(helloPath, helloBytes, "file")
			d.catalog.discover = func(_ context.Context, loc proto.Location, _ bool) (proto.Resolution, error) {
				if strings.Contains(loc.Path, "bad") {
					return proto.Resolution{}, &proto.Rejected{Kind: proto.RejectUntrusted, Reason: "the Release of bad is not trusted\r\nX: y"}
				}
				return proto.Resolution{}, proto.ErrNotFound
			}
			conn := d.dial(secure)
			defer conn.Close()
			type request struct{ method, target, status string }
			requests := []request{
				{"GET", helloURL, "200 OK"},
				{"GET", "/ubuntu/dists/bad/InRelease", "403 the Release of bad is not trusted??X: y"},
				{"GET", helloURL, "200 OK"},
				{"HEAD", "/ubuntu/dists/bad/InRelease", "403 the Release of bad is not trusted??X: y"},
				{"GET", "/ubuntu/dists/none/InRelease", "404 Not Found: the archive has no such suite; see the suite in the host's sources, or \"upstream\" of the archive in the node's configuration"},
				{"GET", "/", "406 Usage Information"},
				{"GET", helloURL, "200 OK"},
			}
			var all strings.Builder
			for _, r := range requests {
				fmt.Fprintf(&all, "%s %s HTTP/1.1\r\nHost: n\r\n\r\n", r.method, r.target)
			}
			if _, err := io.WriteString(conn, all.String()); err != nil {
				t.Fatal(err)
			}
			in := bufio.NewReader(conn)
			for i, want := range requests {
				r, err := http.ReadResponse(in, &http.Request{Method: want.method})
				if err != nil {
					t.Fatalf("answer %d: %v", i, err)
				}
				body, err := io.ReadAll(r.Body)
				if r.Status != want.status || err != nil || r.Close {
					t.Errorf("answer %d: %q, %v, close %v; want %q", i, r.Status, err, r.Close, want.status)
				}
				if r.StatusCode == 200 && string(body) != string(helloBytes) || r.StatusCode != 200 && want.method == "GET" && len(body) < 20 {
					t.Errorf("answer %d: a body of %d bytes", i, len(body))
				}
			}
		})
	}
}

// A server without Listener answers as well, with net/http's phrase.
func TestStatusLineWithoutListener(t *testing.T) {
	d := startFront(t)
	s := httptest.NewServer(d.Front)
	defer s.Close()
	r, err := http.Get(s.URL + "/ubuntu/dists/none/InRelease")
	if err != nil {
		t.Fatal(err)
	}
	r.Body.Close()
	if r.Status != "404 Not Found" {
		t.Error(r.Status)
	}
}

// The line is replaced in an answer's head only, whatever else a connection writes.
func TestStatusLineWrite(t *testing.T) {
	for in, want := range map[string]string{
		"HTTP/1.1 403 Forbidden\r\nA: b\r\n\r\n": "HTTP/1.1 403 no\r\nA: b\r\n\r\n",
		"HTTP/1.0 403 Forbidden\r\n":             "HTTP/1.0 403 no\r\n",
		"HTTP/1.1 100 Continue\r\n\r\n":          "HTTP/1.1 100 Continue\r\n\r\n",
		"HTTP/1.1":                               "HTTP/1.1",
		"body\r\n":                               "body\r\n",
		"":                                       "",
	} {
		var out strings.Builder
		s := statusLine{phrase: "no"}
		if n, err := s.write(&out, []byte(in)); n != len(in) || err != nil || out.String() != want {
			t.Errorf("%q became %q, %d, %v", in, out.String(), n, err)
		}
		if replaced := in != want; replaced != (s.phrase == "") {
			t.Errorf("%q: the phrase is %q afterwards", in, s.phrase)
		}
	}
	s := statusLine{phrase: "no"}
	if n, err := s.write(failingWriter{}, []byte("HTTP/1.1 403 Forbidden\r\n")); n != 0 || err == nil {
		t.Errorf("a failed write is reported as %d, %v", n, err)
	}
}

type failingWriter struct{}

func (failingWriter) Write([]byte) (int, error) { return 3, io.ErrShortWrite }

// dial connects to the front; with secure, to a TLS listener of it.
func (d *testFront) dial(secure bool) net.Conn {
	d.t.Helper()
	addr := d.addr
	if secure {
		addr = d.serveTLS()
	}
	var conn net.Conn
	var err error
	if conn, err = net.Dial("tcp", addr); err != nil {
		d.t.Fatal(err)
	}
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	if secure {
		conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
	}
	return conn
}

// serveTLS opens a TLS listener on the front and returns its address.
func (d *testFront) serveTLS() string {
	borrowed := httptest.NewUnstartedServer(nil)
	borrowed.StartTLS() // for its certificate
	config := &tls.Config{Certificates: borrowed.TLS.Certificates}
	borrowed.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		d.t.Fatal(err)
	}
	s := d.Server(nil)
	go s.Serve(d.Listener(tls.NewListener(l, config)))
	d.t.Cleanup(func() { s.Close() })
	return l.Addr().String()
}

// Who speaks plain HTTP to the TLS listener is told so; others are cut off.
func TestPlainHTTPToTLS(t *testing.T) {
	d := startFront(t)
	addr := d.serveTLS()
	for said, want := range map[string]string{
		"GET / HTTP/1.1\r\nHost: n\r\n\r\n": "HTTP/1.0 400 This port speaks https\r\n",
		"SSH-2.0-OpenSSH_9.2\r\n":           "",
	} {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		conn.SetDeadline(time.Now().Add(20 * time.Second))
		io.WriteString(conn, said)
		got, _ := io.ReadAll(conn)
		if !strings.HasPrefix(string(got), want) || want == "" && strings.Contains(string(got), "HTTP") {
			t.Errorf("%q is answered with %q", said, got)
		}
		conn.Close()
	}
}

// "If-None-Match: *" is answered with 304 only where the bytes are there, whatever the
// catalog has heard of the name. A tag or a date that fits what is listed needs no bytes.
func TestNotModifiedNeedsAFile(t *testing.T) {
	d := startFront(t)
	d.has(helloPath, helloBytes, "bytes")
	d.has(rootPath, []byte("the root"), "bytes")
	gone := proto.Location{Archive: "ubuntu", Path: "pool/main/g/gone/gone_1_amd64.deb"}
	named := proto.Location{Archive: "ubuntu", Path: "dists/zz/by-hash/SHA256/" + strings.Repeat("1", 64)}
	listed := proto.Ref{Digest: proto.DigestOf([]byte("gone")), Size: 4}
	d.catalog.entries[gone] = proto.Resolution{Object: proto.ObjectRequest{Ref: listed}, Listed: true}
	byName, _ := proto.ParseDigest(strings.Repeat("1", 64))
	d.catalog.entries[named] = proto.Resolution{Object: proto.ObjectRequest{Ref: proto.Ref{Digest: byName, Size: proto.UnknownSize}}, Listed: true}
	d.catalog.entries[proto.Location{Archive: "ubuntu", Path: "nothing.txt"}] = proto.Resolution{Object: proto.ObjectRequest{Ref: proto.Ref{Size: proto.UnknownSize}}, Mutable: true}
	open := d.fetcher.open
	d.fetcher.open = func(ctx context.Context, want proto.ObjectRequest) (*proto.Blob, error) {
		if want.Ref == listed || want.Ref.Digest == byName || want.Ref.IsZero() {
			return nil, proto.ErrNotFound
		}
		return open(ctx, want)
	}
	for _, tt := range []struct {
		target, tag string
		status      int
	}{
		{helloURL, "*", 304}, {rootURL, "*", 304}, {helloURL, `"x", *`, 304},
		{"/ubuntu/" + gone.Path, "*", 404}, {"/ubuntu/" + gone.Path, `W/"x" , *`, 404},
		{"/ubuntu/" + named.Path, "*", 404}, {"/ubuntu/nothing.txt", "*", 404},
		{"/ubuntu/" + gone.Path, `"` + listed.Digest.String() + `"`, 304},
		{"/ubuntu/" + gone.Path, `"` + byName.String() + `"`, 404},
	} {
		for _, method := range []string{"GET", "HEAD"} {
			if r, _ := d.ask(method, tt.target, "If-None-Match: "+tt.tag); r.StatusCode != tt.status {
				t.Errorf("%s %s with %s: %s", method, tt.target, tt.tag, r.Status)
			}
		}
	}
	// What has only begun to arrive is not known to be right: the whole of it is sent.
	d.streams(4, io.NopCloser(strings.NewReader("body")))
	if r, body := d.ask("GET", helloURL, "If-None-Match: *"); r.StatusCode != 200 || body != "body" {
		t.Errorf("%s: %q", r.Status, body)
	}
}

// apt resumes a complete file with a range behind its end: 416 says of which file.
func TestRangeBehindTheEnd(t *testing.T) {
	d := startFront(t)
	d.has(helloPath, helloBytes, "file")
	date := testTime.Format(http.TimeFormat)
	r, _ := d.ask("GET", helloURL, fmt.Sprintf("Range: bytes=%d-", len(helloBytes)), "If-Range: "+date)
	want := map[string]string{"Last-Modified": date, "Etag": `"` + proto.DigestOf(helloBytes).String() + `"`,
		"Content-Range": fmt.Sprintf("bytes */%d", len(helloBytes)), "Cache-Control": "no-store"}
	for name, value := range want {
		if r.StatusCode != 416 || r.Header.Get(name) != value {
			t.Errorf("%s, %s: %q, want %q", r.Status, name, r.Header.Get(name), value)
		}
	}
	// The same for what was not proven: there is nothing to be said of it.
	d.streams(4, io.NopCloser(strings.NewReader("body")))
	if r, _ := d.ask("GET", helloURL, "Range: bytes=4-"); r.StatusCode != 200 || r.Header.Get("Last-Modified")+r.Header.Get("Etag") != "" {
		t.Errorf("%s %v", r.Status, r.Header)
	}
}
