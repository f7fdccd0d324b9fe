package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"time"
)

// The ports of nodes that have a loopback address of their own.
const (
	HTTPPort   = 3142
	PeerPort   = 3143
	GossipPort = 7946
)

// Node is an aptmesh on this machine: one process after the other with one directory. The fields are set
// before its first start. Safe for concurrent use.
type Node struct {
	Name     string // "" for the host's
	Addr     string // host and port for plain HTTP
	Dir      string // holds the configuration, the admin socket, the log and the data; not too long for a socket
	Settings string // the configuration, as YAML, without name, listen, admin and data
	Env      []string
	Args     []string // further ones of serve
	// Bare runs the node without a configuration file: Args say all, with Admin and DataDir among it.
	Bare bool
	// Access and Log take what the process writes to its standard output and standard error; where they are
	// nil, both go to LogFile.
	Access, Log io.Writer

	mu      sync.Mutex
	process *Process
	admin   *http.Client
}

// HTTPAddr is the address of plain HTTP on a loopback address of a node's own.
func HTTPAddr(addr string) string { return net.JoinHostPort(addr, strconv.Itoa(HTTPPort)) }

// URL is the node's address as hosts write it.
func (n *Node) URL() string { return "http://" + n.Addr }

// ConfigFile is the name of the configuration file.
func (n *Node) ConfigFile() string { return filepath.Join(n.Dir, "aptmesh.yaml") }

// DataDir is the data directory.
func (n *Node) DataDir() string { return filepath.Join(n.Dir, "data") }

// LogFile is where the node writes what nobody else takes.
func (n *Node) LogFile() string { return filepath.Join(n.Dir, "log") }

// Admin is what the commands of aptmesh take as --admin.
func (n *Node) Admin() string { return "unix:" + n.socket() }

func (n *Node) socket() string { return filepath.Join(n.Dir, "admin.sock") }

// Config is the whole configuration.
func (n *Node) Config() string {
	name := ""
	if n.Name != "" {
		name = "name: " + n.Name + "\n"
	}
	return fmt.Sprintf("%slisten: [%q]\nadmin: %q\ndata: %q\n%s", name, n.Addr, n.Admin(), n.DataDir(), n.Settings)
}

// WriteConfig writes the configuration file.
func (n *Node) WriteConfig() error {
	if err := os.MkdirAll(n.Dir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(n.ConfigFile(), []byte(n.Config()), 0o644)
}

// Command runs the node with the configuration file as it stands.
func (n *Node) Command(binary string) *exec.Cmd {
	args := []string{"serve"}
	if !n.Bare {
		args = append(args, "--config", n.ConfigFile())
	}
	cmd := exec.Command(binary, append(args, n.Args...)...)
	cmd.Env = Environ(n.Env...)
	return cmd
}

// Start writes the configuration, starts a process, and waits for nothing.
func (n *Node) Start(binary string) error {
	if err := n.WriteConfig(); err != nil {
		return err
	}
	cmd := n.Command(binary)
	cmd.Stdout, cmd.Stderr = n.Access, n.Log
	if n.Access == nil || n.Log == nil {
		log, err := os.OpenFile(n.LogFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if err != nil {
			return err
		}
		defer log.Close() // the process has its own
		cmd.Stdout, cmd.Stderr = log, log
	}
	p, err := Start(cmd)
	if err == nil {
		n.mu.Lock()
		n.process = p
		n.mu.Unlock()
	}
	return err
}

// Process is the last one that was started; nil before the first.
func (n *Node) Process() *Process {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.process
}

// Kill ends the process at once, if there is one.
func (n *Node) Kill() {
	if p := n.Process(); p != nil {
		p.Kill()
	}
}

// AwaitReady waits until hosts may use the node. It fails where the process ends instead, and when ctx does.
func (n *Node) AwaitReady(ctx context.Context) error {
	p := n.Process()
	for {
		if n.Ready(ctx) {
			return nil
		}
		select {
		case <-p.Ended():
			return fmt.Errorf("%s ended instead of serving: %s\n%s", n.label(), p.State(), n.end())
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w\n%s", n.label(), context.Cause(ctx), n.end())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func (n *Node) label() string {
	if n.Name != "" {
		return n.Name
	}
	return "the node"
}

// end is the end of the log, as far as it is in a file.
func (n *Node) end() []byte {
	text, _ := os.ReadFile(n.LogFile()) // what there is of it
	return text[max(0, len(text)-4000):]
}

// Ready reports whether the node says that hosts may use it.
func (n *Node) Ready(ctx context.Context) bool {
	_, err := n.Get(ctx, "/ready")
	return err == nil
}

// Get reads an answer of the admin interface; what is not 200 is an error.
func (n *Node) Get(ctx context.Context, path string) ([]byte, error) {
	return n.Ask(ctx, http.MethodGet, path)
}

// JSON reads an answer of the admin interface into a value.
func (n *Node) JSON(ctx context.Context, path string, into any) error {
	text, err := n.Get(ctx, path)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, into)
}

// Ask makes a request of the admin interface; what is not 200 is an error. Without a deadline of its own it
// ends after a minute.
func (n *Node) Ask(ctx context.Context, method, path string) ([]byte, error) {
	if _, limited := ctx.Deadline(); !limited {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Minute)
		defer cancel()
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://node"+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := n.client().Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s %s: %s: %s", n.label(), method, path, resp.Status, bytes.TrimSpace(body))
	}
	return body, err
}

// client speaks HTTP to the admin socket.
func (n *Node) client() *http.Client {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.admin == nil {
		n.admin = &http.Client{Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "unix", n.socket())
			},
		}}
	}
	return n.admin
}

// Close ends the process and lets go of connections.
func (n *Node) Close() {
	n.Kill()
	n.client().CloseIdleConnections()
}

// Why is what a node says it would do for a file.
type Why struct {
	Listed  bool
	Owners  []string // in the order in which they are asked
	Holders []string // other nodes that it believes to have the file
}

// Why asks about a URL, or a path below the node's own address.
func (n *Node) Why(ctx context.Context, target string) (w Why, err error) {
	if u, err := url.Parse(target); err == nil && !u.IsAbs() {
		target = n.URL() + "/" + target
	}
	return w, n.JSON(ctx, "/v1/why?url="+url.QueryEscape(target), &w)
}
