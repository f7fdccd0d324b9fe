package e2e

import (
	"net/http"
	"strings"
	"testing"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
)

// What is held outlives upstream: a host that was never seen before installs from
// a node whose upstream is dead, also after a restart of the node.
func TestOffline(t *testing.T) {
	t.Parallel()
	for _, dead := range []struct {
		name string
		kill func(*world)
	}{
		{"nobody listens", func(w *world) { w.server.Close() }},
		{"500 for everything", func(w *world) { w.server.Inject("*", 0, testarchive.Status(500, 0)) }},
		{"404 for everything", func(w *world) { w.server.Inject("*", 0, testarchive.Status(404, 0)) }},
		{"silence", func(w *world) { w.server.Inject("*", 0, testarchive.Stall(-1)) }},
	} {
		t.Run(dead.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, everything("noble"), options{
				archiveConfig: "check_every: 1s",
				config:        "upstream_client: {header_timeout: 2s, connect_timeout: 2s}",
			}, hello()...)
			visit := func(mode string) {
				c := w.host(mode, "URL noble main universe")
				c.run("apt-get", "update")
				c.run("apt-get", "download", "hello")
				c.run("apt-get", "source", "--download-only", "hello", "tool")
				c.checkHello(w)
			}
			visit("mapped")
			dead.kill(w)
			visit("proxy")
			w.node.stop()
			w.node.start()
			visit("proxy")

			resp, body := w.node.get("/debian/dists/never/InRelease")
			if dead.name == "404 for everything" {
				if resp.StatusCode != http.StatusNotFound {
					t.Errorf("a suite that upstream says is not there: %s", resp.Status)
				}
			} else if resp.StatusCode != http.StatusServiceUnavailable || len(body) == 0 || resp.Header.Get("Retry-After") == "" {
				t.Errorf("a suite never seen: %s, Retry-After %q: %s", resp.Status, resp.Header.Get("Retry-After"), body)
			}
			s, _ := w.node.suite("dists/noble")
			if s.State == "fresh" && !strings.Contains(dead.name, "silence") {
				t.Errorf("the status calls the suite %q: %q", s.State, s.Error)
			}
			w.node.checkStored()
		})
	}
}
