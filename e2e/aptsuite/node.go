package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/aptmesh/aptmesh/e2e/lab"
)

// archive is the name of the tests' archive in the nodes' configuration.
const archive = "suite"

// A node is a running aptmesh with one archive, the tests' web server.
type node struct {
	dir  string // holds the configuration, the admin socket, the log and the data
	addr string
	cmd  *exec.Cmd
	done chan struct{} // closed when the process has ended
}

// config is what a node's configuration says of its archive.
type config struct {
	upstream string   // host:port
	keys     []string // files of public keys; none: the archive may be unsigned
	cert     string   // PEM file of the https server that the web server redirects to
	mark     string   // for the node's environment: whose process it is
}

func (c config) yaml(addr, dir string) string {
	host, port, _ := net.SplitHostPort(c.upstream)
	trust := "unsigned: true"
	if len(c.keys) > 0 {
		trust = "signed_by: [" + strings.Join(c.keys, ", ") + "]"
	}
	return fmt.Sprintf(`listen: ["%[1]s"]
admin: "unix:%[2]s/admin.sock"
data: %[2]s/data
cache: {max_size: 1GiB, memory: 64MiB}
prefetch: {enabled: false}
log: {level: debug}
archives:
  %[3]s:
    upstream: http://%[4]s:%[5]s
    aliases: ["http://127.0.0.1:%[5]s", "http://0.0.0.0:%[5]s"]
    max_future: 10h # as the tests set Acquire::Max-FutureTime
    %[6]s
`, addr, dir, archive, host, port, trust)
}

// startNode starts an empty node and waits until it is ready.
func startNode(ctx context.Context, binary, dir string, c config) (*node, error) {
	addrs, err := lab.Loopbacks(1, 3142)
	if err != nil {
		return nil, err
	}
	n := &node{dir: dir, addr: net.JoinHostPort(addrs[0], "3142"), done: make(chan struct{})}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "aptmesh.yaml")
	if err := os.WriteFile(file, []byte(c.yaml(n.addr, dir)), 0o644); err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(dir, "node.log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	n.cmd = exec.Command(binary, "serve", "--config", file)
	n.cmd.Env = lab.Environ("SSL_CERT_FILE="+c.cert, c.mark)
	n.cmd.Stdout, n.cmd.Stderr = log, log
	lab.DieWithUs(n.cmd)
	if err := n.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = n.cmd.Wait() // a node ends when it is killed
		close(n.done)
	}()
	if err := n.awaitReady(ctx); err != nil {
		n.kill()
		text, _ := os.ReadFile(filepath.Join(dir, "node.log"))
		return nil, fmt.Errorf("%w\n%s", err, text)
	}
	return n, nil
}

func (n *node) awaitReady(ctx context.Context) error {
	admin := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(n.dir, "admin.sock"))
		},
	}}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://node/ready", nil)
		if err != nil {
			return err
		}
		if resp, err := admin.Do(req); err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-n.done:
			return errors.New("the node ended at once")
		case <-ctx.Done():
			return errors.New("the node was not ready in time")
		case <-time.After(3 * time.Millisecond):
		}
	}
}

// kill ends the process; all that it has is thrown away anyway.
func (n *node) kill() {
	_ = n.cmd.Process.Kill() // fails if it has ended, which is what is wanted
	<-n.done
}
