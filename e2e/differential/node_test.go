package differential

import (
	"fmt"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/e2e/lab"
)

// node is a running aptmesh that has the archives of some rows.
type node struct {
	url string
	log *lab.Output
}

// disaster is what a node must never say.
var disaster = regexp.MustCompile(`WARNING: DATA RACE|panic: |panic serving|fatal error: `)

// startNodes starts a node, or several as one cluster, in front of the sites, and waits
// until they answer. They look for new generations once a second. Otherwise they have the
// defaults that everybody has.
func startNodes(t *testing.T, count int, sites []*site) (nodes []*node) {
	t.Helper()
	urls := make(map[string]string)
	for _, s := range sites {
		urls[s.file()] = s.url
	}
	return nodesFor(t, count, urls, archives(sites))
}

// nodesFor is startNodes for archives by name with their URLs, and that section of the configuration.
func nodesFor(t *testing.T, count int, urls map[string]string, archives string) (nodes []*node) {
	t.Helper()
	if *control {
		return forwarders(t, count, urls)
	}
	dir, err := os.MkdirTemp("", "aptmesh-nodes-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // after the nodes have ended
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	var names []string
	for i := range count {
		names = append(names, fmt.Sprintf("n%d", i+1))
	}
	c, err := lab.NewCluster(lab.Plan{Name: "differential", Nodes: names, Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range c.Nodes {
		n := &node{url: l.URL(), log: new(lab.Output)}
		l.Access, l.Log = n.log, n.log
		l.Settings = archives
		if count > 1 {
			l.Settings += c.Section(l, "")
		}
		n.start(t, l)
		nodes = append(nodes, n)
	}
	for _, n := range nodes {
		n.awaitAnswer(t)
	}
	return nodes
}

// archives is that section of the configuration.
func archives(sites []*site) string {
	var b strings.Builder
	b.WriteString("archives:\n")
	for _, s := range sites {
		fmt.Fprintf(&b, "  %s:\n    upstream: %q\n    check_every: 1s\n", s.file(), s.url)
		if !strings.Contains(s.node, "unsigned:") {
			fmt.Fprintf(&b, "    signed_by: [%q]\n", s.keyring)
		}
		for line := range strings.Lines(s.node) {
			fmt.Fprintf(&b, "    %s\n", strings.TrimRight(line, "\n"))
		}
	}
	return b.String()
}

func (n *node) start(t *testing.T, l *lab.Node) {
	t.Helper()
	if err := l.Start(binary); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		l.Close()
		if name := os.Getenv("APTMESH_DIFFERENTIAL_LOG"); name != "" {
			_ = os.WriteFile(name+"-"+l.Name, []byte(n.log.String()), 0o644) // a help for people only
		}
		if m := disaster.FindString(n.log.String()); m != "" {
			t.Errorf("the node said %q:\n%s", m, after(n.log.String(), m))
		}
	})
}

// after is the part of a log that begins with a mark, at most 4 KiB of it.
func after(log, mark string) string {
	log = log[strings.Index(log, mark):]
	return log[:min(len(log), 4096)]
}

// awaitAnswer waits until the node answers a request of any kind.
func (n *node) awaitAnswer(t *testing.T) {
	t.Helper()
	const limit = 30 * time.Second
	for deadline := time.Now().Add(limit); ; time.Sleep(50 * time.Millisecond) {
		resp, err := http.Get(n.url + "/")
		if err == nil {
			resp.Body.Close()
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the node does not answer after %s: %v\n%s", limit, err, n.log)
		}
	}
}
