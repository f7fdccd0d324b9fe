package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime/trace"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/aptmesh/aptmesh/proto"
)

// fake is a node that counts what is changed of it.
type fake struct{ changes int }

func (*fake) Ready() bool           { return true }
func (*fake) Status() *Status       { return &Status{Version: "v1"} }
func (*fake) Why(url string) *Why   { return &Why{URL: url} }
func (*fake) Refused() []RefusedURL { return nil }

func (f *fake) Refresh(context.Context, string, bool) (*RefreshResult, error) {
	f.changes++
	return &RefreshResult{Suite: "ubuntu/dists/noble"}, nil
}

func (f *fake) Drop(string) (*DropResult, error) {
	f.changes++
	return nil, errors.New("there is no such suite")
}

func (f *fake) Remove(name string) (*RemoveResult, error) {
	f.changes++
	return &RemoveResult{Node: name}, nil
}

func (*fake) Snapshots(name string) ([]Snapshot, error) {
	if name != "" {
		return nil, errors.New("there is no such snapshot")
	}
	return []Snapshot{{Name: "w48"}}, nil
}

func (f *fake) CreateSnapshot(_ context.Context, plan SnapshotPlan) (*SnapshotResult, error) {
	f.changes++
	return &SnapshotResult{Snapshot: Snapshot{Name: plan.Name, Note: plan.Note + " by " + plan.By + " for " + plan.Expires.String(), Taken: plan.At, Suites: []SnapshotSuite{{Suite: strings.Join(plan.Archives, ",") + "/" + strings.Join(plan.Suites, ",")}}}}, nil
}

func (f *fake) HoldChannel(_ context.Context, name string, hold bool, by string) (*Done, error) {
	f.changes++
	return &Done{Message: fmt.Sprint(name, hold, by)}, nil
}

func (f *fake) RestoreSnapshot(_ context.Context, name, as, by string) (*SnapshotResult, error) {
	f.changes++
	return &SnapshotResult{Snapshot: Snapshot{Name: as, Note: name + " by " + by}}, nil
}

func (*fake) RemovedSnapshots() []RemovedName { return []RemovedName{{Name: "w47"}} }

func (*fake) ShowSnapshot(_ context.Context, name string) (*Snapshot, error) {
	return &Snapshot{Name: name, Warnings: []string{"careful"}}, nil
}

func (*fake) DiffSnapshots(_ context.Context, plan DiffPlan) (*Diff, error) {
	return &Diff{Before: plan.Before, After: plan.After, Suites: []SuiteDiff{{Suite: fmt.Sprint(plan.Archives, plan.Suites, plan.Used)}}}, nil
}

func (f *fake) RemoveSnapshot(_ context.Context, name, by string) (*Done, error) {
	f.changes++
	return &Done{Message: name + " by " + by}, nil
}

func (*fake) Channels() []Channel { return []Channel{{Name: "stable"}} }

func (f *fake) SetChannel(_ context.Context, name, target string, o ChannelOrder) (*ChannelMove, error) {
	f.changes++
	return &ChannelMove{From: name, To: target, By: fmt.Sprintf("%#v", o)}, nil
}

func (f *fake) Promote(_ context.Context, from, name string, o ChannelOrder) (*ChannelMove, error) {
	f.changes++
	return &ChannelMove{From: name, To: "of " + from, By: fmt.Sprintf("%#v", o)}, nil
}

func (f *fake) Rollback(_ context.Context, name string, o ChannelOrder) (*ChannelMove, error) {
	f.changes++
	return &ChannelMove{From: name, To: "back", By: fmt.Sprintf("%#v", o)}, nil
}

func (*fake) HostArchives(_ context.Context, want HostQuery) ([]HostArchive, error) {
	return []HostArchive{{Name: fmt.Sprintf("%#v", want)}}, nil
}

func (f *fake) RemoveChannel(_ context.Context, name, by string) (*Done, error) {
	f.changes++
	return &Done{Message: name + " by " + by}, nil
}

func (*fake) Mirrors(_ context.Context, name string) ([]Mirror, error) {
	if name == "none" {
		return nil, errors.New("there is no mirror none")
	}
	return []Mirror{{Name: "m", Phase: "done"}}, nil
}

func (*fake) PlanMirror(_ context.Context, name string) (*Forecast, error) {
	return &Forecast{Packages: FileCount{1, 2}, Fits: true}, nil
}

func (f *fake) RunMirror(_ context.Context, name string) (*Mirror, error) {
	f.changes++
	return &Mirror{Name: name, Phase: "planning"}, nil
}

func (f *fake) VerifyMirror(_ context.Context, name string) (*Mirror, error) {
	f.changes++
	return &Mirror{Name: name, Phase: "verifying"}, nil
}

func (*fake) SnapshotFiles(_ context.Context, name string, order ExportOrder, head func(*ExportHead) error, emit func(*SnapshotFile) error) (*ExportEnd, error) {
	if name == "none" {
		return nil, errors.New("there is no such snapshot")
	}
	err := errors.Join(head(&ExportHead{Name: name, Record: []byte("{}")}), emit(&SnapshotFile{Kind: "root", Archive: "a", Paths: []string{"r"}, SHA256: proto.DigestOf([]byte("bytes")), Size: 5}))
	if name == "breaks" {
		err = errors.New("a disk failed")
	}
	return &ExportEnd{Unstored: map[bool]int{false: 7}[order.All && order.Beside]}, err
}

func (*fake) SnapshotFile(_ context.Context, name string, file NamedFile) (*proto.Blob, error) {
	if file.Path != "r" {
		return nil, errors.New("upstream has it no more")
	}
	return &proto.Blob{Bytes: []byte("bytes"), Modified: time.Unix(1e9, 0)}, nil
}

func (f *fake) BeginImport(_ context.Context, record []byte, roots map[proto.Digest][]byte) (*ImportBegun, error) {
	f.changes++
	if len(roots) == 0 {
		return nil, &Error{Message: "no roots", Refused: true}
	}
	return &ImportBegun{Import: proto.DigestOf(record)}, nil
}

func (f *fake) LackingFiles(_ context.Context, _ proto.Digest, files []NamedFile) ([]int, error) {
	f.changes++
	return []int{len(files) - 1}, nil
}

func (f *fake) ImportFile(_ context.Context, _ proto.Digest, file NamedFile, body io.Reader) (*Done, error) {
	f.changes++
	if file.Path == "refused" {
		return nil, &Error{Message: "nothing lists it", Refused: true}
	}
	data, err := io.ReadAll(body)
	if string(data) != "bytes" {
		err = fmt.Errorf("it has %d bytes", len(data))
	}
	return &Done{}, err
}

func (f *fake) FinishImport(_ context.Context, _ proto.Digest, name, by string) (*SnapshotResult, error) {
	f.changes++
	return &SnapshotResult{Snapshot: Snapshot{Name: name, By: by}}, nil
}

func (f *fake) Leave() (*LeaveResult, error) {
	f.changes++
	return &LeaveResult{Node: "fra1"}, nil
}

const token = "0123456789abcdef0123456789abcdef"

// listen starts a server; change sets what the test is about.
func listenAt(t *testing.T, change func(*Config)) (*Server, *fake) {
	t.Helper()
	f := &fake{}
	cfg := Config{
		Settings: Settings{Address: "127.0.0.1:0"}, Socket: SocketIn(t.TempDir()), Node: f, Metrics: prometheus.NewRegistry(),
		Failed: func(err error) { t.Error(err) },
	}
	change(&cfg)
	s, err := Listen(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s, f
}

func withToken(t *testing.T) func(*Config) {
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return func(c *Config) { c.TokenFile = file }
}

// ask sends one request to an address, or to the socket of that path.
func ask(t *testing.T, addr, method, path string, header ...string) (status int, body string) {
	t.Helper()
	transport := &http.Transport{DialContext: func(ctx context.Context, network, at string) (net.Conn, error) {
		if strings.HasPrefix(addr, "/") {
			return dialUnix(ctx, addr)
		}
		return (&net.Dialer{}).DialContext(ctx, network, addr)
	}}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://127.0.0.1"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		if header[i] == "Host" {
			req.Host = header[i+1]
		}
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// What a web page can send is refused at every path, whatever else it carries;
// what a person or a program on the machine sends is not.
func TestWebPagesReachNothing(t *testing.T) {
	s, f := listenAt(t, withToken(t))
	pages := [][]string{
		{"Host", "evil.example:3144"},
		{"Host", "evil.example"},
		{"Host", "127.0.0.1.evil.example"},
		{"Host", "localhost.evil.example"},
		{"Origin", "http://evil.example"},
		{"Origin", "null"},
		{"Origin", "http://127.0.0.1:8080"},
		{"Sec-Fetch-Site", "cross-site"},
		{"Sec-Fetch-Site", "same-site"},
		{"Origin", "http://evil.example", "Authorization", "Bearer " + token},
		{"Sec-Fetch-Site", "cross-site", "Authorization", "Bearer " + token},
	}
	requests := []string{
		"GET /health", "GET /ready", "GET /metrics", "GET /v1/status", "HEAD /v1/status", "GET /v1/why", "GET /debug/pprof/cmdline", "GET /nothing",
		"POST /v1/leave", "POST /v1/refresh", "POST /v1/drop", "POST /v1/remove", "OPTIONS /v1/leave",
	}
	for _, request := range requests {
		method, path, _ := strings.Cut(request, " ")
		for _, header := range pages {
			if status, _ := ask(t, s.tcp, method, path, header...); status != http.StatusForbidden {
				t.Errorf("%s with %q: %d", request, header, status)
			}
		}
	}
	if f.changes != 0 {
		t.Errorf("%d changes got through", f.changes)
	}
	people := [][]string{nil, {"Host", "localhost:3144"}, {"Host", "localhost"}, {"Host", "[::1]:3144"}, {"Sec-Fetch-Site", "none"},
		{"Host", "127.0.0.1:3144", "Origin", "http://127.0.0.1:3144"}}
	for _, header := range people {
		if status, body := ask(t, s.tcp, "GET", "/v1/status", header...); status != http.StatusOK || !strings.Contains(body, "v1") {
			t.Errorf("a read with %q: %d %s", header, status, body)
		}
	}
}

// On loopback everybody reads, and only the token changes anything.
func TestChangesOverTCP(t *testing.T) {
	s, f := listenAt(t, withToken(t))
	for _, path := range []string{"/v1/leave", "/v1/refresh", "/v1/drop", "/v1/remove"} {
		for _, header := range [][]string{nil, {"Authorization", "Bearer " + token[1:]}, {"Authorization", "Bearer "}, {"Authorization", "Basic " + token}} {
			if status, body := ask(t, s.tcp, "POST", path, header...); status != http.StatusForbidden {
				t.Errorf("%s with %q: %d %s", path, header, status, body)
			}
		}
	}
	if f.changes != 0 {
		t.Fatalf("%d changes without the token", f.changes)
	}
	if status, body := ask(t, s.tcp, "POST", "/v1/refresh", "Authorization", "bearer "+token); status != http.StatusOK || f.changes != 1 {
		t.Errorf("with the token: %d %s", status, body)
	}
	// A new token counts at once.
	if err := os.WriteFile(s.cfg.TokenFile, []byte(strings.ToUpper(token)), 0o600); err != nil {
		t.Fatal(err)
	}
	if status, _ := ask(t, s.tcp, "POST", "/v1/refresh", "Authorization", "Bearer "+token); status != http.StatusForbidden {
		t.Errorf("with the old token: %d", status)
	}
	without, _ := listenAt(t, func(*Config) {})
	if status, _ := ask(t, without.tcp, "POST", "/v1/refresh", "Authorization", "Bearer "); status != http.StatusForbidden {
		t.Errorf("an empty token where there is none: %d", status)
	}
}

// Any local user may look at what a node does, and not slow it down for long.
func TestProfilesWithoutToken(t *testing.T) {
	s, _ := listenAt(t, withToken(t))
	for query, want := range map[string]int{
		"profile?seconds=31": 403, "trace?seconds=30.5": 403, "heap?seconds=999": 403, "profile?seconds=1e400": 403, "trace?seconds=Inf": 403,
		"trace?seconds=0.01": 200, "goroutine?debug=1": 200, "heap": 200, "heap?seconds=x": 400,
	} {
		if status, body := ask(t, s.tcp, "GET", "/debug/pprof/"+query); status != want || want == 403 && !strings.Contains(body, "seconds is 30 at most") {
			t.Errorf("%s: %d, want %d: %.300s", query, status, want, body)
		}
	}
	// Whoever is let in meets the tracer, which runs once only.
	if err := trace.Start(io.Discard); err != nil {
		t.Fatal(err)
	}
	defer trace.Stop()
	for _, at := range []struct{ addr, token string }{{s.socket, ""}, {s.tcp, "Bearer " + token}} {
		if status, body := ask(t, at.addr, "GET", "/debug/pprof/trace?seconds=31", "Authorization", at.token); status != http.StatusInternalServerError {
			t.Errorf("%+v: %d %.300s", at, status, body)
		}
	}
}

// The socket takes everything, and only its user and root reach it.
func TestSocket(t *testing.T) {
	s, f := listenAt(t, func(c *Config) {
		c.Socket = SocketIn(filepath.Join(t.TempDir(), strings.Repeat("long", 40))) // longer than the kernel's limit
		if err := os.Mkdir(filepath.Dir(filepath.Dir(c.Socket)), 0o755); err != nil {
			t.Fatal(err)
		}
	})
	for path, want := range map[string]uint32{s.socket: 0o600, filepath.Dir(s.socket): 0o700} {
		info, err := os.Stat(path)
		if err != nil || uint32(info.Mode().Perm()) != want {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
	if status, body := ask(t, s.socket, "POST", "/v1/drop"); status != http.StatusConflict || !strings.Contains(body, "no such suite") || f.changes != 1 {
		t.Errorf("a change: %d %s", status, body)
	}
	if status, _ := ask(t, s.socket, "POST", "/v1/leave", "Origin", "http://evil.example"); status != http.StatusForbidden || f.changes != 1 {
		t.Errorf("a web page: %d", status)
	}
	if _, err := Listen(t.Context(), s.cfg); err == nil || !strings.Contains(err.Error(), "another process listens on") {
		t.Errorf("a second node: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(s.socket); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is left behind: %v", err)
	}
	// One that a killed node left is replaced.
	if err := os.WriteFile(s.socket, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	again, err := Listen(t.Context(), s.cfg)
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
}

// A command that was given the TCP address finds the socket by itself.
func TestClientFindsTheSocket(t *testing.T) {
	s, f := listenAt(t, func(*Config) {})
	c, err := NewClient(s.Addr(), "")
	if err != nil {
		t.Fatal(err)
	}
	if r, err := c.Leave(t.Context()); err != nil || r.Node != "fra1" || f.changes != 1 {
		t.Errorf("%+v, %v", r, err)
	}
	if _, err := c.Drop(t.Context(), "x"); err == nil || err.Error() != "there is no such suite" {
		t.Errorf("what the node says through the socket: %v", err)
	}
	// Where the socket cannot be reached, the node's own words say who may.
	if err := os.Remove(s.socket); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Leave(t.Context()); err == nil || !strings.Contains(err.Error(), "run the command as root") || f.changes != 2 {
		t.Errorf("without the socket: %v", err)
	}
	withIt, g := listenAt(t, withToken(t))
	if c, err = NewClient(withIt.Addr(), token); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Leave(t.Context()); err != nil || g.changes != 1 {
		t.Errorf("with the token: %v", err)
	}
}

// Beyond this machine nothing but the health is told without the token.
func TestOtherMachines(t *testing.T) {
	for _, addr := range []string{":0", "0.0.0.0:0", "[::]:0", "10.0.0.1:3144", "node.example:3144"} {
		_, err := Listen(t.Context(), Config{Settings: Settings{Address: addr}, Socket: SocketIn(t.TempDir()), Node: &fake{}, Metrics: prometheus.NewRegistry()})
		if err == nil || !strings.Contains(err.Error(), "can be reached from other machines") {
			t.Errorf("%s without a token: %v", addr, err)
		}
	}
	for _, addr := range []string{"", "127.0.0.1:3144", "127.9.9.9:3144", "[::1]:3144", "[::ffff:127.0.0.1]:1", "localhost:3144", "unix:/run/a", "/run/a"} {
		if err := (Settings{Address: addr}).CheckAddress(); err != nil {
			t.Errorf("%s: %v", addr, err)
		}
	}
	for _, addr := range []string{"unix:", "unix:/"} {
		if (Settings{Address: addr}).CheckAddress() == nil {
			t.Errorf("%s names a socket", addr)
		}
	}
	s, _ := listenAt(t, func(c *Config) { withToken(t)(c); c.Address = "0.0.0.0:0" })
	_, port, _ := net.SplitHostPort(s.tcp)
	at := "127.0.0.1:" + port
	for path, want := range map[string]int{"/health": 200, "/ready": 200, "/v1/status": 403, "/metrics": 403, "/debug/pprof/": 403, "/ready/": 403} {
		if status, body := ask(t, at, "GET", path, "Host", "cache.example"); status != want {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	if status, _ := ask(t, at, "GET", "/metrics", "Host", "cache.example", "Authorization", "Bearer "+token); status != http.StatusOK {
		t.Errorf("with the token: %d", status)
	}
}

// Load balancers have an address of their own, with nothing else at it.
func TestReadyAddress(t *testing.T) {
	s, f := listenAt(t, func(c *Config) { c.ReadyAddress = "0.0.0.0:0" })
	_, port, _ := net.SplitHostPort(s.ready)
	for path, want := range map[string]int{"/health": 200, "/ready": 200, "/v1/status": 404, "/metrics": 404, "/debug/pprof/": 404} {
		if status, _ := ask(t, "127.0.0.1:"+port, "GET", path, "Host", "cache.example"); status != want {
			t.Errorf("%s: %d", path, status)
		}
	}
	if status, _ := ask(t, "127.0.0.1:"+port, "POST", "/v1/leave"); status != 404 || f.changes != 0 {
		t.Errorf("a change: %d", status)
	}
}

func TestReadToken(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	if _, err := ReadToken(file); err == nil {
		t.Error("a missing file")
	}
	for text, good := range map[string]bool{
		token: true, "\n" + token + " \n": true, "": false, "short": false, "  \n": false, "two words of enough length": false, strings.Repeat("x", 5000): false,
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadToken(file); (err == nil) != good {
			t.Errorf("%.30q: %v", text, err)
		}
	}
}
