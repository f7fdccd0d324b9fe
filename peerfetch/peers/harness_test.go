package peers

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/proto"
	"github.com/aptmesh/aptmesh/ring"
)

// TestMain fails if any test leaves goroutines behind.
func TestMain(m *testing.M) {
	code := m.Run()
	if left := leftBehind(); code == 0 && left != "" {
		fmt.Fprintln(os.Stderr, "goroutines left behind:\n"+left)
		code = 1
	}
	os.Exit(code)
}

// leftBehind returns the stacks of goroutines of ours or of gRPC that are still
// there after a while.
func leftBehind() string {
	var left []string
	for range 2400 { // a minute: only who leaves something behind waits that long
		buf := make([]byte, 1<<20)
		buf = buf[:runtime.Stack(buf, true)]
		left = nil
		for _, stack := range strings.Split(string(buf), "\n\n") {
			if strings.Contains(stack, "peers.leftBehind") {
				continue
			}
			if strings.Contains(stack, "peerfetch/peers") || strings.Contains(stack, "google.golang.org/grpc") {
				left = append(left, stack)
			}
		}
		if len(left) == 0 {
			return ""
		}
		time.Sleep(25 * time.Millisecond)
	}
	return strings.Join(left, "\n\n")
}

// handlerFunc is a Handler.
type handlerFunc func(ctx context.Context, from string, peerReq proto.PeerRequest) (*proto.Blob, error)

func (f handlerFunc) ServePeer(ctx context.Context, from string, peerReq proto.PeerRequest) (*proto.Blob, error) {
	return f(ctx, from, peerReq)
}

// unhurried is for tests in which time is real: the machine may be busy.
var unhurried = Timing{Accept: time.Minute, Progress: time.Minute, FloorWindow: time.Minute, Upstream: time.Minute, Stuck: time.Minute}

// newMesh makes a mesh that answers, and is closed when the test ends.
func newMesh(t testing.TB, name string, cfg Config) *Mesh {
	t.Helper()
	cfg.Name = name
	if cfg.Listen == "" {
		cfg.Listen = "127.0.0.1:0"
	}
	if cfg.listen == nil && cfg.Timing == (Timing{}) {
		cfg.Timing = unhurried
	}
	m, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	m.Serve()
	return m
}

// acquaint shows all meshes each other.
func acquaint(t testing.TB, meshes ...*Mesh) {
	t.Helper()
	v := viewOf(t, meshes...)
	for _, m := range meshes {
		m.SetView(v)
	}
}

// viewOf is the view of a cluster of these.
func viewOf(t testing.TB, meshes ...*Mesh) *ring.View {
	t.Helper()
	var v ring.View
	var names []string
	for _, m := range meshes {
		names = append(names, m.cfg.Name)
		v.Nodes = append(v.Nodes, ring.Node{
			Name: m.cfg.Name, Datacenter: "dc-" + m.cfg.Name, PeerAddr: m.Addr(), State: ring.Active, RingVersion: ring.Version,
		})
	}
	r, err := ring.New(names)
	if err != nil {
		t.Fatal(err)
	}
	v.Ring = r
	return &v
}

// pair is a node a that may ask node b, whose handler is h.
func pair(t testing.TB, cfg Config, h handlerFunc) (a, b *Mesh) {
	t.Helper()
	a = newMesh(t, "a", cfg)
	cfg.Handler = h
	b = newMesh(t, "b", cfg)
	acquaint(t, a, b)
	return a, b
}

// inMemory is a pair on a network that exists in memory only, for synctest. It
// must be closed before the bubble ends.
func inMemory(t testing.TB, l link, cfg Config, h handlerFunc) (a, b *Mesh, n *network) {
	t.Helper()
	n = newNetwork(l)
	cfg.listen, cfg.Dial = n.listen, n.dial
	cfg.Listen = "a:1"
	a = newMesh(t, "a", cfg)
	cfg.Handler, cfg.Listen = h, "b:1"
	b = newMesh(t, "b", cfg)
	acquaint(t, a, b)
	return a, b, n
}

var where = proto.At(proto.Location{Archive: "ubuntu", Path: "pool/main/h/hello/hello_2.10_amd64.deb"})

// content is n bytes that are nowhere alike.
func content(n int) []byte {
	b := make([]byte, n)
	x := uint32(n) + 1
	for i := range b {
		x = x*1664525 + 1013904223
		b[i] = byte(x >> 24)
	}
	return b
}

// askFor asks for b from an offset on.
func askFor(b []byte, offset int64) proto.PeerRequest {
	return proto.PeerRequest{
		Object: proto.ObjectRequest{Ref: proto.Ref{Digest: proto.DigestOf(b), Size: int64(len(b))}, Where: where, Class: proto.ClassPackage},
		Offset: offset, Fill: true,
	}
}

// logged collects log lines.
type logged struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func (l *logged) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// body reads a transfer to its end and closes it.
func body(t *proto.Transfer) ([]byte, error) {
	defer t.Body.Close()
	return io.ReadAll(struct{ io.Reader }{t.Body})
}
