package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/aptmesh/aptmesh/e2e/lab"
)

// The environment of a test: how its shell functions find this program and the test's world.
const (
	envProgram = "APTMESH_SUITE"
	envSocket  = "APTMESH_SUITE_SOCKET"
	envID      = "APTMESH_SUITE_ID"
)

// hook is what runs in the tests' shell: it passes its arguments on to the world of the test and
// prints the answer, a shell command or nothing.
func hook(args []string) int {
	conn, err := net.Dial("unix", os.Getenv(envSocket))
	if err == nil {
		defer conn.Close()
		_, err = fmt.Fprintln(conn, strings.Join(args, "\t"))
	}
	var answer []byte
	if err == nil {
		answer, err = io.ReadAll(conn)
	}
	text, ok := strings.CutPrefix(string(answer), "ok\n")
	if err != nil || !ok {
		fmt.Fprintln(os.Stderr, "aptsuite hook:", err, text)
		return 1
	}
	fmt.Print(text)
	return 0
}

// A world is what one test has besides itself: relays and nodes, as it asks for them.
type world struct {
	mode   mode
	binary string
	dir    string
	config config // all of it but the upstream
	cert   *tls.Certificate
	socket net.Listener

	mu     sync.Mutex
	began  int // nodes so far
	places []*place
	failed error // the first; the test's result is worth nothing then
}

// A place is a web server of the test, the relay that apt connects to in its place, and the node.
type place struct {
	config config
	relay  *relay

	mu   sync.Mutex
	node *lab.Node
}

func (p *place) addr() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.node.Addr
}

// newWorld makes the world of a test whose files are in tests. All nodes have mark in their environment.
func newWorld(ctx context.Context, m mode, binary, dir, tests, mark string) (*world, error) {
	w := &world{mode: m, binary: binary, dir: dir, config: config{mark: mark}}
	pem := filepath.Join(tests, "apt.pem")
	cert, err := tls.LoadX509KeyPair(pem, pem)
	if err != nil {
		return nil, err
	}
	w.cert, w.config.cert = &cert, pem
	if !m.unsigned {
		if w.config.keys, err = filepath.Glob(filepath.Join(tests, "*.pub")); err != nil {
			return nil, err
		}
	}
	if w.socket, err = net.Listen("unix", filepath.Join(dir, "hook.sock")); err != nil {
		return nil, err
	}
	go w.accept(ctx)
	return w, nil
}

func (w *world) accept(ctx context.Context) {
	for {
		conn, err := w.socket.Accept()
		if err != nil {
			return // it was closed
		}
		line, _ := bufio.NewReader(conn).ReadString('\n')
		answer, err := w.answer(ctx, strings.Split(strings.TrimSpace(line), "\t"))
		if err != nil {
			fmt.Fprintf(conn, "failed: %v\n", err)
		} else {
			fmt.Fprintf(conn, "ok\n%s", answer)
		}
		conn.Close()
	}
}

// answer does what a hook asks for.
func (w *world) answer(ctx context.Context, args []string) (answer string, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case len(args) == 3 && args[0] == "between":
		answer, err = w.putBetween(ctx, args[1], args[2])
	case len(args) == 1 && args[0] == "fresh":
		err = w.fresh(ctx)
	default:
		err = fmt.Errorf("no such hook: %q", args)
	}
	if err != nil && w.failed == nil {
		w.failed = err
	}
	return answer, err
}

// putBetween puts a node before a web server, and says how apt gets there.
func (w *world) putBetween(ctx context.Context, port, root string) (string, error) {
	p := &place{config: w.config}
	p.config.upstream = "localhost:" + port
	p.relay = &relay{origin: p.config.upstream, node: p.addr, cert: w.cert}
	if w.mode.between == "mapped" {
		p.relay.prefix = "/" + archive
	}
	if err := w.renew(ctx, p); err != nil {
		return "", err
	}
	if err := p.relay.start(); err != nil {
		return "", err
	}
	w.places = append(w.places, p)
	if w.mode.between == "mapped" {
		return "APTHTTPPORT=" + p.relay.port() + "\n", nil
	}
	// The lines that a node prints for its hosts (node/front/page.go).
	return fmt.Sprintf(`printf '%%s\n' 'Acquire::http::Proxy "http://localhost:%s";' 'Acquire::https::Proxy "DIRECT";' > '%s/rootdir/etc/apt/apt.conf.d/00aptmesh'
`, p.relay.port(), root), nil
}

// fresh replaces the nodes by empty ones.
func (w *world) fresh(ctx context.Context) error {
	if w.mode.warm {
		return nil
	}
	for _, p := range w.places {
		if err := w.renew(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

// renew gives a place an empty node. The log of the one before stays.
func (w *world) renew(ctx context.Context, p *place) error {
	w.began++
	n, err := startNode(ctx, w.binary, filepath.Join(w.dir, fmt.Sprintf("node%d", w.began)), p.config)
	if err != nil {
		return err
	}
	p.mu.Lock()
	old := p.node
	p.node = n
	p.mu.Unlock()
	if old != nil {
		old.Close()
		return os.RemoveAll(old.DataDir())
	}
	return nil
}

// close ends all of it.
func (w *world) close() error {
	w.socket.Close()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range w.places {
		p.relay.close()
		p.node.Close()
	}
	return w.failed
}
