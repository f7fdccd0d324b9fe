package main

import (
	"context"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/aptmesh/aptmesh/e2e/lab"
)

// archive is the name of the tests' archive in the nodes' configuration.
const archive = "suite"

// config is what a node's configuration says of its archive.
type config struct {
	upstream string   // host:port
	keys     []string // files of public keys; none: the archive may be unsigned
	cert     string   // PEM file of the https server that the web server redirects to
	mark     string   // for the node's environment: whose process it is
}

func (c config) yaml() string {
	host, port, _ := net.SplitHostPort(c.upstream)
	trust := "unsigned: true"
	if len(c.keys) > 0 {
		trust = "signed_by: [" + strings.Join(c.keys, ", ") + "]"
	}
	return fmt.Sprintf(`cache: {max_size: 1GiB, memory: 64MiB}
prefetch: {enabled: false}
log: {level: debug}
archives:
  %[1]s:
    upstream: http://%[2]s:%[3]s
    aliases: ["http://127.0.0.1:%[3]s", "http://0.0.0.0:%[3]s"]
    max_future: 10h # as the tests set Acquire::Max-FutureTime
    %[4]s
`, archive, host, port, trust)
}

// startNode starts an empty node and waits until it is ready.
func startNode(ctx context.Context, binary, dir string, c config) (*lab.Node, error) {
	addrs, err := lab.Loopbacks(1, lab.HTTPPort)
	if err != nil {
		return nil, err
	}
	n := &lab.Node{Addr: lab.HTTPAddr(addrs[0]), Dir: dir, Settings: c.yaml(), Env: []string{"SSL_CERT_FILE=" + c.cert, c.mark}}
	if err := n.Start(binary); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if err := n.AwaitReady(ctx); err != nil {
		n.Close()
		return nil, err
	}
	return n, nil
}
