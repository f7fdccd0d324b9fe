package node_test

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/node/archives/archiveconf"
	"github.com/aptmesh/aptmesh/node/config"
	"github.com/aptmesh/aptmesh/node/upstream"
)

// relay is an address that leads to another one, which is set later.
type relay struct {
	net.Listener
	to chan string
}

func newRelay(t *testing.T) *relay {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{l, make(chan string, 1)}
	t.Cleanup(func() { l.Close() })
	go func() {
		to := ""
		for {
			from, err := l.Accept()
			if err != nil {
				return
			}
			select {
			case to = <-r.to:
			default:
			}
			go r.join(from, to)
		}
	}()
	return r
}

func (r *relay) join(from net.Conn, address string) {
	defer from.Close()
	to, err := net.Dial("tcp", address)
	if err != nil {
		return
	}
	defer to.Close()
	go func() {
		io.Copy(to, from)
		to.Close()
	}()
	io.Copy(from, to)
}

func (r *relay) url() string { return "http://" + r.Addr().String() }

// wantLoop checks that clients of w learn at once of a loop.
func (w *world) wantLoop(path string) {
	w.t.Helper()
	began := time.Now()
	r := w.get(path)
	if r.status != http.StatusLoopDetected || r.err != nil || !strings.Contains(string(r.body), "this node itself") {
		w.t.Errorf("%s: %d, %v: %.300s", path, r.status, r.err, r.body)
	}
	if took := time.Since(began); took > 5*time.Second {
		w.t.Errorf("%s took %s", path, took)
	}
}

// A way to upstream that leads back is named at once, wherever it turns. Before, each request
// waited for the next one until time limits ended them all.
func TestLoops(t *testing.T) {
	patient := func(cfg *config.Config) { cfg.UpstreamClient.HeaderTimeout = 20 * time.Second }
	for _, path := range []string{inRelease, largeDeb, packages} {
		t.Run("its own proxy/"+path, func(t *testing.T) {
			r := newRelay(t)
			w := newWorld(t, newArchive(), patient, func(cfg *config.Config) { cfg.UpstreamClient.Proxy, _ = upstream.ParseProxy(r.url()) })
			r.to <- w.node.Addrs()[0]
			w.wantLoop(path)
		})
		t.Run("a name that means this node/"+path, func(t *testing.T) {
			r := newRelay(t)
			w := newWorld(t, newArchive(), patient, func(cfg *config.Config) { cfg.Archives[0].Upstream = r.url() + "/ubuntu" })
			r.to <- w.node.Addrs()[0]
			w.wantLoop(path)
		})
		t.Run("two nodes, each the other's proxy/"+path, func(t *testing.T) {
			r := newRelay(t)
			a := newArchive()
			x := newWorld(t, a, patient, func(cfg *config.Config) { cfg.UpstreamClient.Proxy, _ = upstream.ParseProxy(r.url()) })
			y := newWorld(t, a, patient, func(cfg *config.Config) {
				cfg.Archives[0].Upstream = x.cfg.Archives[0].Upstream
				cfg.UpstreamClient.Proxy, _ = upstream.ParseProxy("http://" + x.node.Addrs()[0])
			})
			r.to <- y.node.Addrs()[0]
			x.wantLoop(path)
			y.wantLoop(path)
		})
	}
}

// A node whose upstream is another node is no loop, and neither is a pair of nodes that are each
// other's upstream for different archives.
func TestCachesInARow(t *testing.T) {
	r := newRelay(t)
	a, b := newArchive(), newArchive()
	x := newWorld(t, a, func(cfg *config.Config) {
		other := archiveconf.New("other")
		other.Upstream, other.SignedBy = r.url()+"/ubuntu", []string{string(b.ArmoredKeyring())}
		cfg.Archives = append(cfg.Archives, other)
	})
	y := newWorld(t, b, func(cfg *config.Config) {
		other := archiveconf.New("other")
		other.Upstream, other.SignedBy = "http://"+x.node.Addrs()[0]+"/ubuntu", []string{string(a.ArmoredKeyring())}
		cfg.Archives = append(cfg.Archives, other)
	})
	r.to <- y.node.Addrs()[0]
	for _, path := range []string{inRelease, packages, largeDeb} {
		for _, w := range []*world{x, y} {
			res, err := w.client.Get("http://" + w.node.Addrs()[0] + "/other/" + path)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(res.Body)
			res.Body.Close()
			if res.StatusCode != 200 || err != nil {
				t.Errorf("%s: %s, %v: %.300s", path, res.Status, err, body)
			}
		}
	}
}
