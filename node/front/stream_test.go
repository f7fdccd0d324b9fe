package front

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// script is a stream that gives out what it is sent, and then fails or ends. It
// writes itself as peerfetch's does: from a file where it has one.
type script struct {
	parts chan string // closed for the end
	err   error       // what comes instead of the end
	file  string      // write every part by way of this file
	ended chan struct{}
}

func newScript(err error) *script {
	return &script{parts: make(chan string, 16), err: err, ended: make(chan struct{})}
}

func (s *script) Read([]byte) (int, error) { panic("WriterTo is there to be used") }

func (s *script) Close() error {
	close(s.ended)
	return nil
}

func (s *script) WriteTo(w io.Writer) (int64, error) {
	var sent int64
	for part := range s.parts {
		var n int64
		var err error
		if s.file == "" {
			var m int
			m, err = io.WriteString(w, part)
			n = int64(m)
		} else {
			if err := os.WriteFile(s.file, []byte(part), 0o600); err != nil {
				return sent, err
			}
			f, openErr := os.Open(s.file)
			if openErr != nil {
				return sent, openErr
			}
			n, err = io.Copy(w, &io.LimitedReader{R: f, N: int64(len(part))})
			f.Close()
		}
		sent += n
		if err != nil {
			return sent, err
		}
	}
	return sent, s.err
}

// TestCutStream: a stream that fails after its first bytes ends the connection, and
// nothing on the wire looks like an end.
func TestCutStream(t *testing.T) {
	const size = 100_000
	content := strings.Repeat("x", size)
	for _, byFile := range []bool{false, true} {
		for _, tt := range []struct {
			name, version string
			size          int64
			send          string
			err           error
		}{
			{"length, all but the last byte", "1.1", size, content[1:], proto.ErrCorrupt},
			{"length, a few bytes", "1.1", size, "abc", proto.ErrCorrupt},
			{"length, ends early without an error", "1.1", size, content[1:], nil},
			{"length, too much", "1.1", size - 1, content, nil},
			{"length, HTTP/1.0", "1.0", size, content[1:], proto.ErrCorrupt},
			{"chunked", "1.1", proto.UnknownSize, content, proto.ErrCorrupt},
			{"chunked, a few bytes", "1.1", proto.UnknownSize, "abc", proto.ErrCorrupt},
			{"no length, HTTP/1.0", "1.0", proto.UnknownSize, content, proto.ErrCorrupt},
		} {
			name := tt.name
			if byFile {
				name += ", by file"
			}
			t.Run(name, func(t *testing.T) {
				d := startFront(t)
				s := newScript(tt.err)
				if byFile {
					s.file = t.TempDir() + "/part"
				}
				d.streams(tt.size, s)
				s.parts <- tt.send
				close(s.parts)
				more := ""
				if tt.size == size-1 {
					more = "Connection: close\n"
				}
				got, err := d.rawErr("GET " + helloURL + " HTTP/" + tt.version + "\nHost: n\n" + more + "\n")
				head, body, _ := strings.Cut(got, "\r\n\r\n")
				switch {
				case tt.size == size-1:
					// More than announced: not a byte of it, so it can be an error still.
					if !strings.HasPrefix(head, "HTTP/1.1 403 ") {
						t.Errorf("%.300s", got)
					}
				case tt.size < 0 && tt.version == "1.0":
					if !errors.Is(err, syscall.ECONNRESET) {
						t.Errorf("the connection ended with %v, as if the body were complete", err)
					}
				case tt.size < 0:
					if !strings.Contains(head, "Transfer-Encoding: chunked") || strings.Count(body, tt.send[:1]) != strings.Count(tt.send, tt.send[:1]) || strings.HasSuffix(body, "\r\n0\r\n\r\n") {
						t.Errorf("%s ... %q", head, body[max(0, len(body)-20):])
					}
				default:
					if !strings.Contains(head, "Content-Length: 100000") || body != tt.send {
						t.Errorf("%s, %d bytes", head, len(body))
					}
				}
				<-s.ended
			})
		}
	}
}

func TestStreamOfUnknownSizeThatEnds(t *testing.T) {
	d := startFront(t)
	s := newScript(nil)
	d.streams(proto.UnknownSize, s)
	s.parts <- "all "
	s.parts <- "of it"
	close(s.parts)
	if r, body := d.ask("GET", helloURL); r.StatusCode != 200 || body != "all of it" || r.ContentLength != -1 {
		t.Errorf("%d %q %d", r.StatusCode, body, r.ContentLength)
	}
}

// TestEveryByteGoesOutAtOnce: what a stream has, the client gets, before the stream
// goes on; for the first bytes and the last ones alike.
func TestEveryByteGoesOutAtOnce(t *testing.T) {
	for _, file := range []string{"", t.TempDir() + "/part"} {
		d := startFront(t)
		s := newScript(nil)
		s.file = file
		long := strings.Repeat("y", 5000)
		d.streams(int64(2+len(long)), s)
		conn, err := net.Dial("tcp", d.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(10 * time.Second))
		s.parts <- "a"
		io.WriteString(conn, "GET "+helloURL+" HTTP/1.1\r\nHost: n\r\n\r\n")
		r, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		for i, part := range []string{"a", long, "z"} {
			if i > 0 {
				s.parts <- part
			}
			got := make([]byte, len(part))
			if _, err := io.ReadFull(r.Body, got); err != nil || string(got) != part {
				t.Fatalf("part %d: %v", i, err)
			}
		}
		close(s.parts)
		if rest, err := io.ReadAll(r.Body); err != nil || len(rest) > 0 {
			t.Fatal(rest, err)
		}
	}
}

// TestTruncatedFile: a file that lost its end under us is cut as a stream is.
func TestTruncatedFile(t *testing.T) {
	d := startFront(t)
	d.has(helloPath, helloBytes, "file")
	open := d.fetcher.open
	d.fetcher.open = func(ctx context.Context, want proto.ObjectRequest) (*proto.Blob, error) {
		b, err := open(ctx, want)
		if err == nil {
			err = os.Truncate(b.File.Name(), 1000)
		}
		return b, err
	}
	got := d.raw("GET " + helloURL + " HTTP/1.1\nHost: n\n\n")
	if head, body, _ := strings.Cut(got, "\r\n\r\n"); !strings.Contains(head, "Content-Length: 65536") || body != string(helloBytes[:1000]) {
		t.Errorf("%s, %d bytes", head, len(body))
	}
}

// TestClientLeaves: a client that goes away ends what was done for it.
func TestClientLeaves(t *testing.T) {
	d := startFront(t)
	d.has(helloPath, helloBytes, "bytes")
	waiting, left := make(chan struct{}), make(chan error)
	d.fetcher.open = func(ctx context.Context, _ proto.ObjectRequest) (*proto.Blob, error) {
		close(waiting)
		<-ctx.Done()
		left <- ctx.Err()
		return nil, context.Cause(ctx)
	}
	conn, err := net.Dial("tcp", d.addr)
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(conn, "GET "+helloURL+" HTTP/1.1\r\nHost: n\r\n\r\n")
	<-waiting
	conn.(*net.TCPConn).CloseWrite() // so that an answer could be read
	<-left
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	if got, _ := io.ReadAll(conn); len(got) > 0 {
		t.Errorf("an answer that nobody decided: %s", got)
	}
	conn.Close()
	d.Close()
	if log := d.logged.String(); !strings.Contains(log, " status=499 ") || !strings.Contains(log, "reason=client-gone") || !strings.Contains(log, "aborted=true") {
		t.Error(log)
	}
}

// TestStalledClientIsCut: one that takes nothing does not hold its answer for ever.
func TestStalledClientIsCut(t *testing.T) {
	for _, kind := range []string{"bytes", "file", "stream"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			lines := make(lineChannel, 16)
			d := startFront(t, func(c *Config) { c.WriteStall, c.AccessLog = 200*time.Millisecond, lines })
			d.has("big.deb", make([]byte, 32<<20), kind)
			conn, err := net.Dial("tcp", d.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			conn.(*net.TCPConn).SetReadBuffer(4096)
			io.WriteString(conn, "GET /ubuntu/big.deb HTTP/1.1\r\nHost: n\r\n\r\n")
			select {
			case line := <-lines:
				if !strings.Contains(line, " status=200 ") || !strings.Contains(line, "reason=client-gone") || !strings.Contains(line, "aborted=true") {
					t.Error(line)
				}
			case <-time.After(10 * time.Second):
				t.Fatal("not cut")
			}
		})
	}
}

// lineChannel passes on what the access log writes.
type lineChannel chan string

func (c lineChannel) Write(p []byte) (int, error) {
	c <- string(p)
	return len(p), nil
}
