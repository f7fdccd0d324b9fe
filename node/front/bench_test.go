package front

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// quiet is a ResponseWriter that costs next to nothing, so that what is measured is
// ours. It takes a fresh header for each request, as net/http does.
type quiet struct{ header http.Header }

func (q *quiet) Header() http.Header         { return q.header }
func (q *quiet) WriteHeader(int)             {}
func (q *quiet) Write(p []byte) (int, error) { return len(p), nil }

// memory is a catalog and a fetcher of one object, without locks.
type memory struct {
	entry proto.Resolution
	blob  proto.Blob
}

func (m *memory) Resolve(proto.Location) (proto.Resolution, bool) { return m.entry, true }
func (m *memory) Discover(context.Context, proto.Location, bool) (proto.Resolution, error) {
	return m.entry, nil
}
func (m *memory) Open(context.Context, proto.ObjectRequest) (*proto.Blob, error) {
	b := m.blob
	return &b, nil
}
func (*memory) Reopen(_ context.Context, _ proto.ObjectRequest, _ *proto.Blob, err error) (*proto.Blob, error) {
	return nil, err
}

func (m *memory) Head(ctx context.Context, w proto.ObjectRequest) (*proto.Blob, error) {
	return m.Open(ctx, w)
}

func inMemory(b testing.TB, size int) (*Front, *memory) {
	content := bytes.Repeat([]byte("x"), size)
	m := &memory{blob: proto.Blob{Ref: proto.Ref{Digest: proto.DigestOf(content), Size: int64(size)}, Modified: testTime, Verified: true, Tier: proto.TierMemory, Bytes: content}}
	m.entry = proto.Resolution{Object: proto.ObjectRequest{Ref: m.blob.Ref}, Listed: true, Generation: testTime}
	f, err := New(Config{Archives: testArchives(b), Node: "node-a", AccessLog: io.Discard}, m, m)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { f.Close() })
	return f, m
}

// aptRequest is what apt sends, for a package or (with a date) for a root.
func aptRequest(target, date string) *http.Request {
	r := httptest.NewRequest("GET", target, nil)
	r.Header = http.Header{"User-Agent": {"Debian APT-HTTP/1.3 (3.1.12)"}}
	if date != "" {
		r.Header["Cache-Control"], r.Header["Accept"], r.Header["If-Modified-Since"] = []string{"max-age=0"}, []string{"text/*"}, []string{date}
	}
	ctx := context.WithValue(r.Context(), http.LocalAddrContextKey, net.Addr(&net.TCPAddr{Port: 3142}))
	return r.WithContext(context.WithValue(ctx, connKey{}, &connState{armed: time.Now(), peer: netip.MustParseAddr("10.9.8.7")}))
}

// BenchmarkMemoryHit is the front alone: no net/http.
func BenchmarkMemoryHit(b *testing.B) {
	f, m := inMemory(b, 2000)
	m.entry.Modified = testTime
	for name, r := range map[string]*http.Request{
		"package":     aptRequest(helloURL, ""),
		"proxy":       aptRequest("http://de.archive.ubuntu.com"+helloURL, ""),
		"notmodified": aptRequest(rootURL, testTime.Format(http.TimeFormat)),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			w := &quiet{}
			before := cpuTime(b)
			for b.Loop() {
				w.header = make(http.Header)
				f.ServeHTTP(w, r)
			}
			b.ReportMetric(float64(cpuTime(b)-before)/float64(b.N), "cpu-ns/op")
		})
	}
}

// BenchmarkClients is what the bounds of clients cost an answer from memory, beside
// BenchmarkMemoryHit/package: lists of 100 networks each, for all and for the archive,
// and a rate that holds nothing back.
func BenchmarkClients(b *testing.B) {
	var allow, deny []netip.Prefix
	for i := range 100 {
		allow = append(allow, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i), 0, 0}), 16))
		deny = append(deny, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i), byte(i), byte(i)}), 32))
	}
	for name, set := range map[string]func(*Rules){
		"none":     func(*Rules) {},
		"networks": func(r *Rules) { r.Clients.Allow, r.Clients.Deny = allow, deny },
		"networks of the archive": func(r *Rules) {
			r.Clients.Allow, r.Clients.Deny = allow, deny
			r.Archives[0].Allow, r.Archives[0].Deny = allow, deny
		},
		"rate": func(r *Rules) { r.Clients.Rate = 1 << 40 },
	} {
		b.Run(name, func(b *testing.B) {
			f, m := inMemory(b, 2000)
			m.entry.Object.Class = proto.ClassPackage
			rules := Rules{Archives: testArchives(b)}
			set(&rules)
			if err := f.Apply(rules); err != nil {
				b.Fatal(err)
			}
			r := aptRequest(helloURL, "")
			r.Context().Value(connKey{}).(*connState).client = new(client)
			b.ReportAllocs()
			w := &quiet{}
			before := cpuTime(b)
			for b.Loop() {
				w.header = make(http.Header)
				f.ServeHTTP(w, r)
			}
			b.ReportMetric(float64(cpuTime(b)-before)/float64(b.N), "cpu-ns/op")
		})
	}
}

// BenchmarkEnter is what counting costs a connection, beside many others.
func BenchmarkEnter(b *testing.B) {
	cs := newClients()
	for i := range 10_000 {
		conn := &fakeConn{remote: &net.TCPAddr{IP: net.IPv4(10, 0, byte(i>>8), byte(i))}}
		cs.enter(conn, peerOf(conn), 100)
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		conn := connFrom("192.0.2.1")
		for pb.Next() {
			cs.enter(conn, peerOf(conn), 100)
			cs.leave(conn)
		}
	})
}

// BenchmarkLoopback is the front behind a real server, beside a bare handler that
// writes the same bytes with as few fields as possible.
func BenchmarkLoopback(b *testing.B) {
	for _, size := range []int{2000, 200_000} {
		f, m := inMemory(b, size)
		bare := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["Content-Length"] = []string{strconv.Itoa(size)}
			w.Header()["Content-Type"] = valueBytes
			w.Write(m.blob.Bytes)
		})
		for name, handler := range map[string]http.Handler{"front": f, "bare": bare} {
			b.Run(name+"/"+strconv.Itoa(size), func(b *testing.B) {
				s := f.Server(nil)
				s.Handler = handler
				benchmarkServer(b, s)
			})
		}
	}
}

func benchmarkServer(b *testing.B, s *http.Server) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	if f, ok := s.Handler.(*Front); ok {
		go s.Serve(f.Listener(l))
	} else {
		go s.Serve(l)
	}
	defer s.Close()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	request := []byte("GET " + helloURL + " HTTP/1.1\r\nHost: n\r\nUser-Agent: Debian APT-HTTP/1.3 (3.1.12)\r\n\r\n")
	in := bufio.NewReaderSize(conn, 256<<10)
	one := func() {
		if _, err := conn.Write(request); err != nil {
			b.Fatal(err)
		}
		length := 0
		for {
			line, err := in.ReadSlice('\n')
			if err != nil {
				b.Fatal(err)
			}
			if len(line) == 2 {
				break
			}
			if v, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
				for _, c := range bytes.TrimSpace(v) {
					length = 10*length + int(c-'0')
				}
			}
		}
		if length == 0 { // chunked: the bare handler, for what is larger than its buffer
			b.Fatal("no length")
		}
		if _, err := in.Discard(length); err != nil {
			b.Fatal(err)
		}
	}
	one()
	b.ReportAllocs()
	before := cpuTime(b)
	for b.Loop() {
		one()
	}
	b.ReportMetric(float64(cpuTime(b)-before)/float64(b.N), "cpu-ns/op") // client included
}

// BenchmarkIdleConnection tells what memory a connection costs that has had its answer
// and waits, its client's end included.
func BenchmarkIdleConnection(b *testing.B) {
	const conns = 1000
	f, _ := inMemory(b, 2000)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	s := f.Server(nil)
	go s.Serve(f.Listener(l))
	defer s.Close()
	used := func() uint64 {
		runtime.GC()
		runtime.GC() // the stacks shrink in the first
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapInuse + m.StackInuse
	}
	in := make([]byte, 8<<10)
	for b.Loop() {
		before := used()
		open := make([]net.Conn, conns)
		for i := range open {
			conn, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				b.Fatal(err)
			}
			defer conn.Close()
			open[i] = conn
			io.WriteString(conn, "GET "+helloURL+" HTTP/1.1\r\nHost: n\r\n\r\n")
			for n := 0; n < 2000; {
				m, err := conn.Read(in)
				if err != nil {
					b.Fatal(err)
				}
				n += m
			}
		}
		b.ReportMetric(float64(used()-before)/conns, "B/conn")
		for _, conn := range open {
			conn.Close()
		}
	}
}

// cpuTime is what this process has used, which tells more than the clock on a machine
// that others use too.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkLocate is the routing alone.
func BenchmarkLocate(b *testing.B) {
	routes, err := newRoutes(testArchives(b), nil, nil, nil)
	if err != nil {
		b.Fatal(err)
	}
	for name, target := range map[string]string{
		"mapped": helloURL, "proxy": "http://archive.ubuntu.com" + helloURL, "escaped": "/ubuntu/pool/main/g/g%2b%2b/g%2b%2b_1%7e2_amd64.deb",
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := routes.locate(target, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
