package node_test

import (
	"fmt"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/aptmesh/aptmesh/node"
	"github.com/aptmesh/aptmesh/node/config"
)

// A port of the cluster that is taken is named with its key, and with who has it.
func TestClusterPortTaken(t *testing.T) {
	for want, take := range map[string]func(c *config.Config, addr string){
		"cluster.peer_listen: listen tcp ": func(c *config.Config, addr string) { c.Cluster.PeerListen = addr },
		"cluster: gossip address ":         func(c *config.Config, addr string) { c.Cluster.GossipListen = addr },
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
