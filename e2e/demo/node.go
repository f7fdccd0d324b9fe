package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/aptmesh/aptmesh/e2e/lab"
)

// The ports, the same on every node's own address.
const (
	doorPort   = 3142
	peerPort   = 3143
	adminPort  = 3144
	gossipPort = 7946
)

// connections is how many the whole cluster may have to the archive's host.
const connections = 24

// node is one aptmesh process.
type node struct {
	name, datacenter, addr string
	url, admin             string
	dir                    string
	cmd                    *exec.Cmd
	exited                 chan struct{} // closed when the process has ended
}

// configure writes the node's configuration. keys is the directory with its files.
func (d *demo) configure(n *node, seeds []string, keys string) error {
	n.url, n.admin = fmt.Sprintf("http://%s:%d", n.addr, doorPort), fmt.Sprintf("%s:%d", n.addr, adminPort)
	n.dir = filepath.Join(d.dir, n.name)
	text := fmt.Sprintf(`name: %[1]s
listen: ["%[2]s:%[3]d"]
admin: "%[4]s"
data: %[5]s/data
cache: {max_size: 2GiB}
drain: {handoff: 1s, timeout: 1s}
upstream_client: {connections_per_host: %[13]d}
archives:
  demo:
    upstream: %[6]s
    signed_by: [%[7]s]
    check_every: 1s
cluster:
  name: demo
  datacenter: %[8]s
  gossip_listen: "%[2]s:%[9]d"
  peer_listen: "%[2]s:%[10]d"
  advertise: %[2]s
  seeds: [%[11]s]
  gossip_key: %[12]s/gossip.key
  ca: %[12]s/ca.pem
  cert: %[12]s/cert.pem
  key: %[12]s/key.pem
`, n.name, n.addr, doorPort, n.admin, n.dir, d.archive.server.URL, filepath.Join(d.dir, "archive.gpg"),
		n.datacenter, gossipPort, peerPort, strings.Join(seeds, ", "), keys, connections)
	if err := os.MkdirAll(n.dir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(n.config(), []byte(text), 0o644)
}

func (n *node) config() string { return filepath.Join(n.dir, "aptmesh.yaml") }
func (n *node) log() string    { return filepath.Join(n.dir, "log") }

// start runs the process and does not wait for anything.
func (n *node) start(binary string) error {
	log, err := os.OpenFile(n.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close() // the process has its own
	cmd := exec.Command(binary, "serve", "--config", n.config())
	cmd.Env = lab.Environ()
	cmd.Stdout, cmd.Stderr = log, log
	lab.DieWithUs(cmd)
	if err := cmd.Start(); err != nil {
		return err
	}
	exited := make(chan struct{})
	go func() {
		_ = cmd.Wait() // how it ended is in its log
		close(exited)
	}()
	n.cmd, n.exited = cmd, exited
	return nil
}

// awaitReady waits until hosts may come.
func (n *node) awaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		resp, err := get(ctx, "http://"+n.admin+"/ready")
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-n.exited:
			log, _ := os.ReadFile(n.log()) // what there is of it
			return fmt.Errorf("%s ended instead of serving:\n%s", n.name, log)
		case <-ctx.Done():
			return fmt.Errorf("%s does not get ready: %w", n.name, context.Cause(ctx))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// leave asks the process to end in good order; end sees to it.
func (n *node) leave() {
	if n.cmd != nil {
		_ = n.cmd.Process.Signal(syscall.SIGTERM) // fails if it has ended
	}
}

// end ends the process, patiently if it is leaving.
func (n *node) end() {
	if n.cmd == nil {
		return
	}
	select {
	case <-n.exited:
	case <-time.After(3 * time.Second):
		n.kill()
	}
}

func (n *node) kill() {
	_ = n.cmd.Process.Kill() // fails if it has ended
	<-n.exited
}

// status is what this program looks at of a node's status.
type status struct {
	Traffic struct {
		Tiers map[string]struct{ Bytes int64 }
	}
	Upstreams []struct{ Limit int }
	Cluster   struct {
		RingHash string `json:"ring_hash"`
		Members  []struct {
			Name, State string
			RingShare   float64 `json:"ring_share"`
			PeerBytes   int64   `json:"peer_bytes"`
		}
	}
}

func (n *node) status(ctx context.Context) (s status, err error) {
	return s, n.ask(ctx, "/v1/status", &s)
}

// ask reads a JSON answer of the admin interface.
func (n *node) ask(ctx context.Context, path string, answer any) error {
	resp, err := get(ctx, "http://"+n.admin+path)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s: %s", path, resp.Status, body)
	}
	return json.Unmarshal(body, answer)
}

// direct is for talking to loopback, whatever proxy this machine uses.
var direct = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 4}}

func get(ctx context.Context, url string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	return direct.Do(req)
}
