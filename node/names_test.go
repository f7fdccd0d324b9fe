package node

import (
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"github.com/aptmesh/aptmesh/node/config"
	"github.com/aptmesh/aptmesh/node/format/deb"
	"github.com/aptmesh/aptmesh/node/front"
)

// A name that the check of the configuration lets pass does for the routes of URLs, too: a node must not
// refuse to start, or to reload, a configuration that was found good.
func TestNamesThatAreGood(t *testing.T) {
	good := 0
	for _, name := range []string{"ubuntu", "vendor/tools", "snapshot", "snapshot/x", "Snapshot", "snapshots", "https", "HTTPS/x", "http", "status", "ready", "a//b", "a/..", "..", "a/.b", "a_b", "a%20b", "-"} {
		file := filepath.Join(t.TempDir(), "aptmesh.yaml")
		if err := os.WriteFile(file, []byte("archives: {\""+name+"\": {upstream: \"http://example.org/x\", unsigned: true}}\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		cfg, _, err := config.Load(file)
		if err != nil {
			continue
		}
		good++
		upstream, err := url.Parse(cfg.Archives[0].MainURL())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := front.New(front.Config{Archives: []front.Archive{{Name: cfg.Archives[0].Name, Upstream: upstream, Format: deb.New(deb.Config{})}}}, nil, nil); err != nil {
			t.Errorf("%q is good to the check: %v", name, err)
		}
	}
	if good < 5 {
		t.Errorf("only %d names are good", good)
	}
}
