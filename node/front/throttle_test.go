package front

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/proto"
	"github.com/aptmesh/aptmesh/proto/bubble"
)

// taker is a client that takes whatever it is given, and remembers when.
type taker struct {
	quiet
	body    bytes.Buffer
	last    time.Time
	gap     time.Duration // the longest silence
	flushed int           // bytes that are the client's already
	kept    int           // the most bytes that waited with an answer
}

func (k *taker) Write(p []byte) (int, error) {
	now := time.Now()
	if now != k.last {
		k.kept = max(k.kept, k.body.Len()-k.flushed)
	}
	k.gap, k.last = max(k.gap, now.Sub(k.last)), now
	k.body.Write(p)
	return len(p), nil
}

func (k *taker) Flush() { k.flushed = k.body.Len() }

// throttled is a front with a rate, on the clock of a bubble.
type throttled struct {
	*Front
	m *memory
	t *testing.T
}

func openThrottled(t *testing.T, size int, class proto.Class, limit int64) *throttled {
	f, m := inMemory(t, size)
	m.entry.Object.Class = class
	f.access.close() // its ticker would be the only thing that moves
	f.access = nil
	th := &throttled{f, m, t}
	th.limit(limit)
	return th
}

func (th *throttled) limit(bytesPerSecond int64) {
	th.t.Helper()
	if err := th.Apply(Rules{Archives: testArchives(th.t), Clients: ClientLimits{Rate: bytesPerSecond}}); err != nil {
		th.t.Fatal(err)
	}
}

// get makes a request on a connection of the client, and returns how long it took.
func (th *throttled) get(ctx context.Context, c *client, k *taker) time.Duration {
	r := aptRequest(helloURL, "")
	r = r.WithContext(context.WithValue(ctx, connKey{}, &connState{client: c, armed: time.Now()}))
	k.header, k.last = make(http.Header), time.Now()
	k.body.Reset()
	k.flushed = 0
	began := time.Now()
	th.ServeHTTP(k, r)
	if !bytes.Equal(k.body.Bytes(), th.m.blob.Bytes) {
		th.t.Errorf("%d bytes, want %d", k.body.Len(), len(th.m.blob.Bytes))
	}
	if k.kept > 0 {
		th.t.Errorf("%d bytes were kept from the client while the answer waited", k.kept)
	}
	return time.Since(began)
}

// near allows for the last piece, and for nothing else: the clock is the bubble's.
func near(got, want time.Duration) bool { return (got - want).Abs() <= 300*time.Millisecond }

func TestRate(t *testing.T) {
	const mb = 1 << 20
	for _, tt := range []struct {
		name  string
		size  int
		class proto.Class
		limit int64
		takes time.Duration
	}{
		{"no rate", 40 * mb, proto.ClassPackage, 0, 0},
		{"less than a second's worth", mb, proto.ClassPackage, mb, 0},
		{"ten seconds' worth, of which one is free", 10 * mb, proto.ClassPackage, mb, 9 * time.Second},
		{"a rate smaller than a piece", 164 << 10, proto.ClassPackage, 10 << 10, 10 * time.Second},
		{"one MiB of metadata", mb, proto.ClassMetadata, 10 << 10, 0},
		{"metadata beyond one MiB", 10 * mb, proto.ClassMetadata, mb, 9 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				th := openThrottled(t, tt.size, tt.class, tt.limit)
				if took := th.get(t.Context(), new(client), new(taker)); !near(took, tt.takes) {
					t.Errorf("took %s, want %s", took, tt.takes)
				}
				counted := gathered(t, th.Front, "aptmesh_front_throttled_seconds_total")
				if !near(time.Duration(counted*float64(time.Second)), tt.takes) {
					t.Errorf("%v s counted, want %s", counted, tt.takes)
				}
			})
		})
	}
}

// TestRateIsOfTheAddress: connections of one share it, another's does not count.
func TestRateIsOfTheAddress(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		th := openThrottled(t, 5<<20, proto.ClassPackage, 1<<20)
		one, other := new(client), new(client)
		began := time.Now()
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() { th.get(t.Context(), one, new(taker)) })
		}
		all.Go(func() {
			if took := th.get(t.Context(), other, new(taker)); !near(took, 4*time.Second) {
				t.Errorf("another client's 5 MiB took %s", took)
			}
		})
		all.Wait()
		if took := time.Since(began); !near(took, 19*time.Second) {
			t.Errorf("20 MiB over four connections took %s, want 19 s", took)
		}
	})
}

// TestManyAnswersAllMove: apt gives a transfer up that is silent for 30 seconds.
func TestManyAnswersAllMove(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		const herd = 1000
		th := openThrottled(t, 100<<10, proto.ClassPackage, 256<<10)
		site := new(client)
		charge(site.limitedTo(256<<10), 1<<30) // what its metadata may owe at most
		takers := make([]taker, herd)
		began := time.Now()
		var all sync.WaitGroup
		for i := range takers {
			all.Go(func() { th.get(t.Context(), site, &takers[i]) })
		}
		all.Wait()
		var worst time.Duration
		for i := range takers {
			worst = max(worst, takers[i].gap)
		}
		if worst > 10*time.Second {
			t.Errorf("one of %d was silent for %s", herd, worst)
		}
		want := time.Second * herd * 100 / 256
		if took := time.Since(began); (took - want).Abs() > 3*time.Second {
			t.Errorf("took %s, want %s", took, want)
		}
	})
}

// TestMetadataIsCounted: it goes at once, and what comes after it pays, but not more
// than a second's worth.
func TestMetadataIsCounted(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		th := openThrottled(t, 1<<20, proto.ClassMetadata, 256<<10)
		c := new(client)
		for range 50 {
			if took := th.get(t.Context(), c, new(taker)); took != 0 {
				t.Fatalf("metadata was held back for %s", took)
			}
		}
		th.m.entry.Object.Class = proto.ClassPackage
		k := new(taker)
		if took := th.get(t.Context(), c, k); !near(took, 5*time.Second) || k.gap > 2*time.Second {
			t.Errorf("a package after it took %s, and was silent for %s", took, k.gap)
		}
	})
}

// TestRateChangesUnderWay: a new rate, and none, reach a body that has begun.
func TestRateChangesUnderWay(t *testing.T) {
	for name, tt := range map[string]struct {
		to    int64
		takes time.Duration
	}{
		// 6 of 20 MiB have gone by then, one of them at once.
		"none": {0, 5 * time.Second}, "double": {2 << 20, 12 * time.Second}, "half": {512 << 10, 33 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				th := openThrottled(t, 20<<20, proto.ClassPackage, 1<<20)
				time.AfterFunc(5*time.Second-time.Millisecond, func() { th.limit(tt.to) })
				if took := th.get(t.Context(), new(client), new(taker)); !near(took, tt.takes) {
					t.Errorf("took %s, want %s", took, tt.takes)
				}
			})
		})
	}
}

// TestClientLeavesWhileHeldBack: nothing waits for one who has gone.
func TestClientLeavesWhileHeldBack(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		th := openThrottled(t, 10<<20, proto.ClassPackage, 1<<20)
		ctx, cancel := context.WithCancel(t.Context())
		c := new(client)
		began := time.Now()
		time.AfterFunc(3*time.Second, cancel)
		func() {
			defer func() {
				if r := recover(); r != http.ErrAbortHandler {
					t.Error(r)
				}
			}()
			th.get(ctx, c, new(taker))
		}()
		if took := time.Since(began); took != 3*time.Second {
			t.Errorf("ended after %s", took)
		}
		if n := c.waiting.Load(); n != 0 {
			t.Errorf("%d wait still", n)
		}
	})
}

// TestDebtOutlivesTheConnection: a new connection forgives nothing, and once rested a
// client is forgotten.
func TestDebtOutlivesTheConnection(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		cs := newClients()
		visit := func(address string, takes int64) *client {
			conn := connFrom(address)
			c, _ := cs.enter(conn, peerOf(conn), 0)
			if takes > 0 {
				charge(c.limitedTo(1<<20), takes)
			}
			cs.leave(conn)
			return c
		}
		one := visit("192.0.2.1", 1<<20)
		visit("192.0.2.2", 0)
		if len(cs.byAddr) != 1 || cs.idle != 1 {
			t.Fatalf("%d are remembered, %d idle; want the one who took", len(cs.byAddr), cs.idle)
		}
		if visit("192.0.2.1", 1<<20) != one || cs.idle != 1 {
			t.Errorf("it is another, or idle twice: %d", cs.idle)
		}
		time.Sleep(sweepEvery + time.Second)
		visit("192.0.2.3", 0)
		if len(cs.byAddr) != 0 || cs.idle != 0 {
			t.Errorf("%d are remembered, %d idle, after they have rested", len(cs.byAddr), cs.idle)
		}
		for i := range 2 * maxIdle {
			conn := &fakeConn{remote: &net.TCPAddr{IP: net.IPv4(10, 0, byte(i>>8), byte(i))}}
			conn.remote.(*net.TCPAddr).IP[13] = byte(i >> 16)
			c, _ := cs.enter(conn, peerOf(conn), 0)
			charge(c.limitedTo(1<<20), 1<<20)
			cs.leave(conn)
		}
		if len(cs.byAddr) != maxIdle || cs.idle != maxIdle {
			t.Errorf("%d are remembered, %d idle, and %d may be", len(cs.byAddr), cs.idle, maxIdle)
		}
	})
}

// TestThrottledBodies: whatever carries it, a body that goes out in small pieces is
// the same, by range too.
func TestThrottledBodies(t *testing.T) {
	content := bytes.Repeat([]byte("0123456789abcde\n"), 20<<10) // 320 KiB
	for _, kind := range []string{"bytes", "file", "stream", "stream by file"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			d := startFront(t, func(c *Config) { c.Clients.Rate = 200 << 10 })
			if kind == "stream by file" {
				s := newScript(nil)
				s.file = t.TempDir() + "/part"
				d.streams(int64(len(content)), s)
				s.parts <- string(content)
				close(s.parts)
			} else {
				d.has(helloPath, content, kind)
			}
			loc := proto.Location{Archive: "ubuntu", Path: helloPath}
			d.catalog.mu.Lock()
			e := d.catalog.entries[loc]
			e.Object.Class = proto.ClassPackage
			d.catalog.entries[loc] = e
			d.catalog.mu.Unlock()
			if r, body := d.ask("GET", helloURL); r.StatusCode != 200 || body != string(content) {
				t.Errorf("%d, %d bytes", r.StatusCode, len(body))
			}
			if n := gathered(t, d.Front, "aptmesh_front_throttled_seconds_total"); n == 0 {
				t.Error("it was not held back at all")
			}
			if strings.HasPrefix(kind, "stream") {
				return
			}
			if r, body := d.ask("GET", helloURL, "Range: bytes=70001-140000"); r.StatusCode != 206 || body != string(content[70001:140001]) {
				t.Errorf("%d, %d bytes", r.StatusCode, len(body))
			}
		})
	}
}

// tcpConn tells what net/http writes to a connection, and by which way.
type tcpConn struct {
	*net.TCPConn
	files *fileCount
}

type fileCount struct {
	mu     sync.Mutex
	files  int   // parts that came as a bare io.LimitedReader of a file
	most   int64 // the largest of them
	others int
}

func (c tcpConn) ReadFrom(r io.Reader) (int64, error) {
	c.files.mu.Lock()
	limited, ok := r.(*io.LimitedReader)
	if ok {
		_, ok = limited.R.(*os.File)
	}
	if ok {
		c.files.files++
		c.files.most = max(c.files.most, limited.N)
	} else {
		c.files.others++
	}
	c.files.mu.Unlock()
	return c.TCPConn.ReadFrom(r)
}

type tcpListener struct {
	net.Listener
	files *fileCount
}

func (l tcpListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &tcpConn{conn.(*net.TCPConn), l.files}, nil
}

// TestSendfile: files reach the TCP connection as what it hands to sendfile(2), with
// bounds and a rate, too; without a rate in pieces as large as ever.
func TestSendfile(t *testing.T) {
	content := bytes.Repeat([]byte("0123456789abcdef"), 3*pace/2/16)
	for name, tt := range map[string]struct {
		limits ClientLimits
		most   int64
	}{
		"no bounds":   {ClientLimits{}, pace},
		"all but one": {ClientLimits{Allow: prefixes("127.0.0.0/8"), Deny: prefixes("10.0.0.0/8"), Connections: 9}, pace},
		"a rate":      {ClientLimits{Rate: 1 << 30}, mostPiece},
	} {
		t.Run(name, func(t *testing.T) {
			d := startFront(t, func(c *Config) { c.Clients = tt.limits })
			d.has(helloPath, content, "file")
			loc := proto.Location{Archive: "ubuntu", Path: helloPath}
			d.catalog.mu.Lock()
			e := d.catalog.entries[loc]
			e.Object.Class = proto.ClassPackage
			d.catalog.entries[loc] = e
			d.catalog.mu.Unlock()
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			files := new(fileCount)
			s := d.Server(nil)
			go s.Serve(tcpListener{l, files})
			defer s.Close()
			conn, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(time.Minute))
			io.WriteString(conn, "GET "+helloURL+" HTTP/1.1\r\nHost: n\r\n\r\n")
			r, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			if body, err := io.ReadAll(r.Body); err != nil || !bytes.Equal(body, content) {
				t.Errorf("%d bytes, %v", len(body), err)
			}
			files.mu.Lock()
			defer files.mu.Unlock()
			const sniffed = 512 // which net/http reads off the first part by itself
			if files.others != 0 || files.most < tt.most-sniffed || files.most > tt.most || files.files < int(int64(len(content))/tt.most) {
				t.Errorf("%d parts as files, the largest of %d bytes, and %d otherwise; want parts of %d", files.files, files.most, files.others, tt.most)
			}
		})
	}
}
