package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
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

// node is one aptmesh process after the other, with one data directory.
type node struct {
	name, addr  string
	file, log   string
	up          atomic.Bool // hosts are routed to it
	mu          sync.Mutex
	cmd         *exec.Cmd     // guarded by mu
	exited      chan struct{} // closed when the process has ended; guarded by mu
	stops, ends int           // by SIGTERM and by SIGKILL; guarded by mu
}

func (n *node) door() string  { return net.JoinHostPort(n.addr, strconv.Itoa(doorPort)) }
func (n *node) admin() string { return "http://" + net.JoinHostPort(n.addr, strconv.Itoa(adminPort)) }

// makeNodes writes their configurations. The caches are so small that they have to
// forget.
func makeNodes(dir string, count int, a *archive) ([]*node, error) {
	addrs, err := lab.Loopbacks(count, doorPort, peerPort, adminPort, gossipPort)
	if err != nil {
		return nil, err
	}
	keyring := filepath.Join(dir, "archive.gpg")
	if err := os.WriteFile(keyring, a.Keyring(), 0o644); err != nil {
		return nil, err
	}
	var upstreams []string
	for _, m := range a.mirrors {
		upstreams = append(upstreams, m.URL)
	}
	var nodes []*node
	for i, addr := range addrs {
		n := &node{name: fmt.Sprintf("node%d", i+1), addr: addr}
		n.file, n.log = filepath.Join(dir, n.name+".yaml"), filepath.Join(dir, n.name+".log")
		text := fmt.Sprintf(`name: %[1]s
listen: ["%[2]s:%[3]d"]
admin: "%[2]s:%[4]d"
data: %[5]s
cache: {max_size: 24MiB, memory: 4MiB}
drain: {delay: 500ms, handoff: 2s, timeout: 5s}
log: {access: false}
upstream_client: {proxy: direct, auth_conf: [], stall_timeout: 2s, header_timeout: 2s, connect_timeout: 2s}
archives:
  ubuntu:
    upstreams: [%[6]s]
    signed_by: [%[7]s]
    check_every: 2s
cluster:
  name: soak
  insecure: true
  gossip_listen: "%[2]s:%[8]d"
  peer_listen: "%[2]s:%[9]d"
  advertise: %[2]s
  seeds: [%[10]s]
`, n.name, addr, doorPort, adminPort, filepath.Join(dir, n.name), strings.Join(upstreams, ", "), keyring, gossipPort, peerPort, strings.Join(addrs, ", "))
		if err := os.WriteFile(n.file, []byte(text), 0o644); err != nil {
			return nil, err
		}
		nodes = append(nodes, n)
	}
	return nodes, nil
}

// start runs the process, waits until hosts may come, and lets them come.
func (n *node) start(ctx context.Context, binary string) error {
	log, err := os.OpenFile(n.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close() // the process has its own
	cmd := exec.Command(binary, "serve", "--config", n.file)
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
	n.mu.Lock()
	n.cmd, n.exited = cmd, exited
	n.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	for {
		if _, err := fetch(ctx, n.admin()+"/ready"); err == nil {
			n.up.Store(true)
			return nil
		}
		select {
		case <-exited:
			said, _ := os.ReadFile(n.log) // what there is of it
			return fmt.Errorf("%s ended instead of serving:\n%s", n.name, tail(said))
		case <-ctx.Done():
			return fmt.Errorf("%s does not get ready: %w", n.name, ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func tail(text []byte) []byte { return text[max(0, len(text)-4000):] }

// stop ends the process in good order, or kills it, and waits for its end. Hosts are
// routed away at once from one that leaves, and a little late from one that died.
func (n *node) stop(signal syscall.Signal) {
	n.mu.Lock()
	cmd, exited := n.cmd, n.exited
	if signal == syscall.SIGKILL {
		n.ends++
	} else {
		n.stops++
	}
	n.mu.Unlock()
	if cmd == nil {
		return
	}
	if signal != syscall.SIGKILL {
		n.up.Store(false)
	}
	_ = cmd.Process.Signal(signal) // fails if it has ended
	select {
	case <-exited:
	case <-time.After(30 * time.Second):
		_ = cmd.Process.Kill()
		<-exited
	}
	if signal == syscall.SIGKILL {
		time.Sleep(300 * time.Millisecond) // until the route is withdrawn
		n.up.Store(false)
	}
}

// ended reports whether the process has ended by itself.
func (n *node) ended() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	select {
	case <-n.exited:
		return true
	default:
		return false
	}
}

var direct = &http.Client{Transport: &http.Transport{}, Timeout: 10 * time.Second}

// fetch reads an answer that must be 200.
func fetch(ctx context.Context, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := direct.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", url, resp.Status)
	}
	return body, err
}

// route is the node that hosts of a place come to now: their own, or while that is
// away another.
func route(nodes []*node, home int) *node {
	for i := range nodes {
		if n := nodes[(home+i)%len(nodes)]; n.up.Load() {
			return n
		}
	}
	return nodes[home]
}
