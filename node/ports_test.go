package node_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/aptmesh/aptmesh/node"
	"github.com/aptmesh/aptmesh/node/config"
)

// A port of the cluster that is taken is named with its key, and with who has it.
func TestClusterPortTaken(t *testing.T) {
	for want, take := range map[string]func(c *config.Config, addr string){
		"cluster.peer_listen: listen tcp ":   func(c *config.Config, addr string) { c.Cluster.PeerListen = addr },
		"cluster.gossip_listen: listen tcp ": func(c *config.Config, addr string) { c.Cluster.GossipListen = addr },
	} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		w := newWorld(t, newArchive())
		w.stop()
		cfg := *w.cfg
		cfg.Cluster.Name, cfg.Cluster.Insecure = "test", true
		cfg.Cluster.GossipListen, cfg.Cluster.PeerListen = "127.0.0.1:0", "127.0.0.1:0"
		take(&cfg, l.Addr().String())
		n, err := node.New(&cfg, node.Options{Name: "test"})
		if err == nil {
			err = n.Start(t.Context())
		}
		if err == nil || !strings.HasPrefix(err.Error(), want) || !strings.Contains(err.Error(), fmt.Sprintf("is in use by node.test (process %d)", os.Getpid())) {
			t.Errorf("%v; want %s…", err, want)
		}
	}
}

// A node whose ports are taken names all of them before it opens its directories or asks upstream for anything.
func TestPortsTaken(t *testing.T) {
	w := newWorld(t, newArchive(), func(c *config.Config) { c.Admin.ReadyAddress = "127.0.0.1:0" })
	w.stop()
	w.up.ResetCounters()
	cfg := *w.cfg
	cfg.Archives = slices.Clone(cfg.Archives)
	cfg.Archives[0].Suites = []string{"noble"}
	cfg.Data, cfg.State = filepath.Join(t.TempDir(), "data"), ""
	take := func() string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		return l.Addr().String()
	}
	cfg.Listen, cfg.Admin.Address, cfg.Admin.ReadyAddress = []string{"127.0.0.1:0", take()}, take(), take()
	_, err := node.New(&cfg, node.Options{Name: "test"})
	if err == nil {
		t.Fatal("the node is there")
	}
	for _, want := range []string{"listen[1]: listen tcp " + cfg.Listen[1], "admin: listen tcp " + cfg.Admin.Address, "ready_listen: listen tcp " + cfg.Admin.ReadyAddress} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want %s", err, want)
		}
	}
	if _, err := os.Stat(cfg.Data); err == nil || w.up.TotalRequests() > 0 {
		t.Errorf("the node had begun: %v, %d requests to upstream", err, w.up.TotalRequests())
	}
}
