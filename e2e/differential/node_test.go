package differential

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/e2e/lab"
)

// The ports of every node; the addresses differ.
const (
	hostPort   = 3142
	peerPort   = 3143
	gossipPort = 7946
)

// node is a running aptmesh that has the archives of some rows.
type node struct {
	url string
	log *output
}

// output can be read while it is written.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// disaster is what a node must never say.
var disaster = regexp.MustCompile(`WARNING: DATA RACE|panic: |panic serving|fatal error: `)

// startNodes starts a node, or several as one cluster, in front of the sites, and waits
// until they answer. They look for new generations once a second. Otherwise they have the
// defaults that everybody has.
func startNodes(t *testing.T, count int, sites []*site) (nodes []*node) {
	t.Helper()
	if *control {
		return forwarders(t, count, sites)
	}
	addrs, err := lab.Loopbacks(count, hostPort, peerPort, gossipPort)
	if err != nil {
		t.Fatal(err)
	}
	for i, addr := range addrs {
		dir, err := os.MkdirTemp("", "aptmesh-node-")
		if err != nil {
			t.Fatal(err)
		}
		text := fmt.Sprintf("name: n%d\nlisten: [\"%s:%d\"]\nadmin: \"\"\ndata: %s/data\n%s", i+1, addr, hostPort, dir, archives(sites))
		if count > 1 {
			text += fmt.Sprintf("cluster: {name: differential, insecure: true, gossip_listen: \"%[1]s:%[2]d\", peer_listen: \"%[1]s:%[3]d\", advertise: %[1]s, seeds: [%[4]s]}\n",
				addr, gossipPort, peerPort, strings.Join(addrs, ", "))
		}
		n := &node{url: fmt.Sprintf("http://%s:%d", addr, hostPort), log: new(output)}
		n.start(t, dir, text)
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

func (n *node) start(t *testing.T, dir, text string) {
	t.Helper()
	file := filepath.Join(dir, "aptmesh.yaml")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary, "serve", "--config", file)
	cmd.Env = lab.Environ()
	cmd.Stdout, cmd.Stderr = n.log, n.log
	lab.DieWithUs(cmd)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // fails if it has ended, which awaitAnswer or the rows noticed
		_ = cmd.Wait()         // how a killed process ended says nothing
		if name := os.Getenv("APTMESH_DIFFERENTIAL_LOG"); name != "" {
			_ = os.WriteFile(name+"-"+filepath.Base(dir), []byte(n.log.String()), 0o644) // a help for people only
		}
		if m := disaster.FindString(n.log.String()); m != "" {
			t.Errorf("the node said %q:\n%s", m, after(n.log.String(), m))
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
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
