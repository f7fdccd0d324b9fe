package load

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// answers serves fixed bytes for every request of every connection, then closes
// the connection where they end with "close".
func answers(t *testing.T, answer string, pieces int) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	text, closing := strings.CutSuffix(answer, "|close")
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				buf := make([]byte, 64<<10)
				for {
					n, err := c.Read(buf)
					if err != nil {
						return
					}
					for range bytes.Count(buf[:n], endOfHeader) {
						for i := range pieces {
							io.WriteString(c, text[len(text)*i/pieces:len(text)*(i+1)/pieces])
						}
						if closing {
							return
						}
					}
				}
			}()
		}
	}()
	return l.Addr().String()
}

func TestAnswers(t *testing.T) {
	const good = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"
	for name, c := range map[string]struct {
		answer   string
		status   int
		body     string
		right    int64
		failures map[string]int
	}{
		"right":                  {answer: good, body: "hello", right: 6},
		"wrong byte":             {answer: good, body: "hellO", failures: map[string]int{WrongBody: 6}},
		"too short":              {answer: good, body: "hello!", failures: map[string]int{WrongBody: 6}},
		"too long":               {answer: good, body: "hell", failures: map[string]int{WrongBody: 6}},
		"not modified":           {answer: "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", status: 304, right: 6},
		"200 for 304":            {answer: good, status: 304, failures: map[string]int{"status 200": 6}},
		"error":                  {answer: "HTTP/1.1 503 Busy\r\nContent-Length: 3\r\n\r\nno\n", body: "hello", failures: map[string]int{"status 503": 6}},
		"cut":                    {answer: "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel|close", body: "hello", failures: map[string]int{"status 200, body cut short": 6}},
		"close after right":      {answer: "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello|close", body: "hello", right: 6},
		"kept open, then closed": {answer: "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello|close", body: "hello", right: 6},
		"chunked":                {answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", body: "hello", failures: map[string]int{"status 200 without a length": 6}},
		"no answer":              {answer: "|close", body: "hello", failures: map[string]int{"closed without an answer": 6}},
		"stalled":                {answer: "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel", body: "hello", failures: map[string]int{"status 200, body stalled within 100ms": 6}},
	} {
		for _, pieces := range []int{1, 7} {
			for _, pipeline := range []int{1, 3} {
				t.Run(fmt.Sprintf("%s/%d pieces/%d deep", name, pieces, pipeline), func(t *testing.T) {
					t.Parallel()
					if strings.HasPrefix(c.answer, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel") && pipeline > 1 && !strings.HasSuffix(c.answer, "close") {
						t.Skip("the next answer would fill the hole")
					}
					s, err := Dial(Plan{
						Addr:        answers(t, c.answer, pieces),
						Targets:     []Target{{Path: "/a", Status: c.status, Body: []byte(c.body)}, {Path: "/b", Status: c.status, Body: []byte(c.body)}},
						Connections: 3, Pipeline: pipeline, Timeout: 100 * time.Millisecond,
					})
					if err != nil {
						t.Fatal(err)
					}
					defer s.Close()
					r := s.Rounds(1, 5*time.Second)
					if r.Requests != c.right || !maps.Equal(r.Failures, c.failures) {
						t.Errorf("%d right, failures %v; want %d, %v", r.Requests, r.Failures, c.right, c.failures)
					}
				})
			}
		}
	}
}

func TestForAgainstNetHTTP(t *testing.T) {
	body := bytes.Repeat([]byte("0123456789abcdef"), 1<<14)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
	}))
	defer srv.Close()
	s, err := Dial(Plan{Addr: srv.Listener.Addr().String(), Targets: []Target{{Path: "/", Body: body}}, Connections: 10, Pipeline: 4})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for range 2 { // the second on the same connections
		r := s.For(50 * time.Millisecond)
		if r.Requests == 0 || r.Failed() > 0 || r.Bytes != r.Requests*int64(len(body)) {
			t.Fatalf("%d right, %d bytes, failures %v", r.Requests, r.Bytes, r.Failures)
		}
		if r.TTFB.Quantile(0.5) > r.TTLB.Max() || r.TTFB.Quantile(0.5) <= 0 {
			t.Errorf("first byte after %v, slowest last byte after %v", r.TTFB.Quantile(0.5), r.TTLB.Max())
		}
	}
}

// Every target is asked for once per round, whatever the number of connections.
func TestShared(t *testing.T) {
	var mu sync.Mutex
	asked := map[string]int{}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		asked[r.URL.Path]++
		io.WriteString(w, r.URL.Path)
	}))
	defer srv.Close()
	var targets []Target
	for i := range 10 {
		path := fmt.Sprintf("/%d", i)
		targets = append(targets, Target{Path: path, Body: []byte(path)})
	}
	s, err := Dial(Plan{Addr: srv.Listener.Addr().String(), Targets: targets, Connections: 3, Shared: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if r := s.Rounds(2, 5*time.Second); r.Requests != 20 || r.Failed() > 0 {
		t.Errorf("%d right, failures %v; want 20", r.Requests, r.Failures)
	}
	mu.Lock()
	defer mu.Unlock()
	for path, n := range asked {
		if n != 2 {
			t.Errorf("%s was asked for %d times in two rounds", path, n)
		}
	}
}

// A body that was cut short by the end of its server goes on at another one, at the
// byte it had come to; one that a living server cuts short has failed.
func TestMoves(t *testing.T) {
	body := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	ranges := make(chan string, 10)
	whole := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ranges <- r.Header.Get("Range")
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
	}))
	defer whole.Close()
	ignores := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(len(body)))
		w.Write(body)
	}))
	defer ignores.Close()
	for _, c := range []struct {
		dies                bool
		other               *httptest.Server
		right, moved, again int
	}{{true, whole, 1, 1, 0}, {true, ignores, 1, 1, 1}, {false, whole, 0, 0, 0}} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		go func() {
			// The session's one connection; a living server refuses none after it.
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conn.Read(make([]byte, 4096))
			fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body[:1000])
			if c.dies {
				l.Close()
			}
			conn.Close()
		}()
		s, err := Dial(Plan{Addr: l.Addr().String(), Others: []string{c.other.Listener.Addr().String()},
			Targets: []Target{{Path: "/", Body: body}}, Connections: 1})
		if err != nil {
			t.Fatal(err)
		}
		r := s.Rounds(1, 5*time.Second)
		s.Close()
		if r.Requests != int64(c.right) || r.Bytes != int64(c.right*len(body)) || r.Moved != c.moved || r.StartedOver != c.again {
			t.Errorf("%d right, %d bytes, %d moved, %d started over, failures %v; want %+v", r.Requests, r.Bytes, r.Moved, r.StartedOver, r.Failures, c)
		}
		if !c.dies && r.Failures["status 200, body cut short"] != 1 {
			t.Errorf("failures %v; want one body cut short", r.Failures)
		}
	}
	if got := <-ranges; got != "bytes=1000-" {
		t.Errorf("the other server was asked for %q", got)
	}
}

func TestNobodyListens(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	s, err := Dial(Plan{Addr: addr, Targets: []Target{{Path: "/"}}, Connections: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if r := s.Rounds(1, time.Second); r.Requests != 0 || r.Failed() != 2 {
		t.Errorf("%d right, failures %v; want two failures", r.Requests, r.Failures)
	}
}

func TestHistogram(t *testing.T) {
	var h Histogram
	for i := 1; i <= 1000; i++ {
		h.Add(time.Duration(i) * time.Millisecond)
	}
	for q, want := range map[float64]time.Duration{0: time.Millisecond, 0.5: 500 * time.Millisecond, 0.99: 990 * time.Millisecond, 1: time.Second} {
		got := h.Quantile(q)
		if d := (got - want).Abs(); d > want/50 {
			t.Errorf("quantile %v = %v, want %v within 2 %%", q, got, want)
		}
	}
	for _, d := range []time.Duration{0, 1, 127, 128, 129, 1e6, 3e9, 1e12} {
		if low, next := lowerBound(bucketOf(d)), lowerBound(bucketOf(d)+1); low > d || next <= d {
			t.Errorf("%v falls in bucket %v to %v", int64(d), int64(low), int64(next))
		}
	}
}

// TestInterrupted: a system call that a signal interrupted is called again, and any
// other error is the caller's. (The runtime's own signals once failed a connection.)
func TestInterrupted(t *testing.T) {
	answers := []error{unix.EINTR, unix.EINTR, unix.ECONNREFUSED, nil}
	calls := 0
	err := wait(func() error { calls++; return answers[calls-1] })
	if calls != 3 || err != unix.ECONNREFUSED {
		t.Errorf("%d calls, %v; want 3, the refusal", calls, err)
	}
}
