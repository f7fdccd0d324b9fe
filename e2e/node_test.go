package e2e

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/e2e/lab"
)

// node is a running aptmesh, or one that may be started again.
type node struct {
	*lab.Node
	t        *testing.T
	URL      string        // of its first plain address
	Addrs    []string      // of all, as the status lists them
	took     time.Duration // until it was ready
	out, err *lab.Output
	marks    int
}

// newNode makes a node with the archives' part of a configuration; it is stopped,
// and its words shown, when the test ends. It fetches nothing ahead of clients: what
// upstream is asked for is the test's own doing.
func newNode(t *testing.T, config string) *node {
	t.Helper()
	// Not t.TempDir, whose names may be too long for a socket.
	dir := must(os.MkdirTemp("", "aptmesh-node-"))(t)
	return tend(t, &lab.Node{Addr: "127.0.0.1:0", Dir: dir, Settings: common + "drain: {timeout: 10s}\nprefetch: {enabled: false}\n" + config})
}

// common is what all nodes of these tests have.
const common = `cache: {max_size: 2GiB, memory: 64MiB}
log: {format: json, level: debug}
`

// tend has a node end with the test, and removes its directory.
func tend(t *testing.T, l *lab.Node) *node {
	n := &node{Node: l, t: t, out: new(lab.Output), err: new(lab.Output)}
	l.Access, l.Log = n.out, n.err
	t.Cleanup(func() {
		n.Close()
		if m := disaster.FindString(n.err.String()); m != "" {
			t.Errorf("the node said %q:\n%s", m, after(n.err.String(), m, 60))
		}
		if t.Failed() {
			t.Logf("the end of the node's log:\n%s", tail(n.err.String(), 20))
			t.Logf("the end of its access log:\n%s", tail(n.out.String(), 12))
		}
		if err := os.RemoveAll(n.Dir); err != nil {
			t.Error(err)
		}
	})
	return n
}

// disaster is what a node must never say.
var disaster = regexp.MustCompile(`WARNING: DATA RACE|panic: |panic serving|fatal error: `)

// after is the part of a log that begins with a mark, so many lines of it.
func after(s, mark string, lines int) string {
	all := strings.Split(s[strings.Index(s, mark):], "\n")
	return strings.Join(all[:min(len(all), lines)], "\n")
}

// tail is the last lines of a log, shortened.
func tail(s string, lines int) string {
	all := strings.Split(strings.TrimSpace(s), "\n")
	all = all[max(0, len(all)-lines):]
	for i, line := range all {
		all[i] = line[:min(len(line), 400)]
	}
	return strings.Join(all, "\n")
}

// start runs `aptmesh serve` and waits until it is ready.
func (n *node) start() {
	n.t.Helper()
	n.spawn()
	n.awaitReady()
}

// awaitReady waits for a process that was spawned just now.
func (n *node) awaitReady() {
	n.t.Helper()
	began := time.Now()
	ctx, cancel := context.WithTimeout(n.t.Context(), 30*time.Second)
	defer cancel()
	if err := n.AwaitReady(ctx); err != nil {
		n.t.Fatal(err)
	}
	n.took = time.Since(began)
	n.Addrs = n.status().Addresses
	n.URL = "http://" + n.Addrs[0]
}

// spawn starts the process and waits for nothing.
func (n *node) spawn() {
	n.t.Helper()
	if err := n.Start(binary); err != nil {
		n.t.Fatal(err)
	}
}

func (n *node) signal(s os.Signal) {
	n.t.Helper()
	if err := n.Process().Signal(s); err != nil {
		n.t.Fatal(err)
	}
}

// stop ends it as an operator does, and demands a good end.
func (n *node) stop() {
	n.t.Helper()
	n.signal(syscall.SIGTERM)
	if code := n.exitCode(30 * time.Second); code != 0 {
		n.t.Errorf("after SIGTERM the exit code is %d", code)
	}
}

// exitCode waits for the end of the process.
func (n *node) exitCode(limit time.Duration) int {
	n.t.Helper()
	select {
	case <-n.Process().Ended():
	case <-time.After(limit):
		n.t.Fatalf("the node did not end within %s", limit)
	}
	return n.Process().State().ExitCode()
}

func (n *node) adminGet(path string) []byte {
	n.t.Helper()
	return must(n.Get(n.t.Context(), path))(n.t)
}

// status is the part of /v1/status that tests look at.
type status struct {
	Ready     bool
	Degraded  string
	Addresses []string
	Store     struct{ Used, Blobs int64 }
	Archives  []struct {
		Name   string
		Suites []suiteStatus
	}
	Upstreams []struct {
		Host           string
		InUse          int `json:"in_use"`
		Waiting, Limit int
		Bytes          int64
	}
	Flights []struct {
		Location       string
		Received, Size int64
		Readers        int
	}
	Traffic struct{ Requests, Errors, Bytes int64 }
}

type suiteStatus struct {
	Dir, State, Error string
	Generation        time.Time
	Retained          int
}

func (n *node) status() (s status) {
	n.t.Helper()
	if err := json.Unmarshal(n.adminGet("/v1/status"), &s); err != nil {
		n.t.Fatal(err)
	}
	return s
}

// suite returns what the status says of a suite; ok is false if nothing.
func (n *node) suite(dir string) (suiteStatus, bool) {
	n.t.Helper()
	for _, a := range n.status().Archives {
		for _, s := range a.Suites {
			if s.Dir == dir {
				return s, true
			}
		}
	}
	return suiteStatus{}, false
}

// run runs another command of the binary and returns what it wrote.
func (n *node) run(args ...string) (stdout, stderr string, code int) {
	n.t.Helper()
	return runBinary(n.t, args...)
}

// runBinary runs the binary with these arguments.
func runBinary(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, args...)
	var out, errs bytes.Buffer
	cmd.Env, cmd.Stdout, cmd.Stderr = lab.Environ(), &out, &errs
	lab.DieWithUs(cmd)
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// access is one line of the access log.
type access struct {
	Method, URL, Result, Tier, Kind, Reason, Error, Channel, Snapshot string
	Status                                                            int
	Bytes                                                             int64
	Listed, Aborted                                                   bool
}

// accessLog returns the lines written so far. It makes a request of its own and
// waits for its line, as lines are written some time after the answer.
func (n *node) accessLog() []access {
	n.t.Helper()
	n.marks++
	mark := fmt.Sprintf("/e2e-mark-%d", n.marks)
	resp := must(http.Head(n.URL + mark))(n.t)
	resp.Body.Close()
	eventually(n.t, 10*time.Second, "the access log caught up", func() bool { return strings.Contains(n.out.String(), mark+`"`) })
	var lines []access
	scan := bufio.NewScanner(strings.NewReader(n.out.String()))
	for scan.Scan() {
		if !strings.HasPrefix(scan.Text(), "{") {
			continue // the hints
		}
		var a access
		if err := json.Unmarshal(scan.Bytes(), &a); err != nil {
			n.t.Fatalf("access log: %v: %s", err, scan.Text())
		}
		if !strings.HasPrefix(a.URL, "/e2e-mark-") {
			lines = append(lines, a)
		}
	}
	return lines
}

// get fetches a path of the node.
func (n *node) get(path string) (*http.Response, []byte) {
	n.t.Helper()
	resp := must(http.Get(n.URL + path))(n.t)
	defer resp.Body.Close()
	return resp, must(io.ReadAll(resp.Body))(n.t)
}

// checkStored demands that every stored blob is what its name says, by our own
// arithmetic and by the product's. It returns how many there are.
func (n *node) checkStored() int {
	n.t.Helper()
	blobs := rehash(n.t, n.DataDir())
	out, errs, code := n.run("verify", "--data", n.DataDir())
	if code != 0 || !strings.Contains(out, " 0 damaged") {
		n.t.Errorf("aptmesh verify: exit code %d: %s%s", code, out, errs)
	}
	return blobs
}

// rehash hashes every blob of a data directory and returns how many there are.
func rehash(t *testing.T, data string) (blobs int) {
	t.Helper()
	err := filepath.WalkDir(filepath.Join(data, "blobs"), func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		h := sha256.New()
		if _, err := io.Copy(h, f); err != nil {
			return err
		}
		if sum := hex.EncodeToString(h.Sum(nil)); sum != filepath.Base(name) {
			t.Errorf("blob %s has the SHA-256 %s", name, sum)
		}
		blobs++
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	return blobs
}
