package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/node"
	"github.com/aptmesh/aptmesh/node/admin"
	"github.com/aptmesh/aptmesh/node/archives/archiveconf"
	"github.com/aptmesh/aptmesh/node/config"
	"github.com/aptmesh/aptmesh/node/files"
	"github.com/aptmesh/aptmesh/proto"
)

// buffer is a bytes.Buffer that a running command may write to meanwhile.
type buffer struct {
	mu      sync.Mutex
	b       bytes.Buffer
	written chan struct{} // closed by the next Write; nil where nobody waits
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.written != nil {
		close(b.written)
		b.written = nil
	}
	return b.b.Write(p)
}

// waitFor waits until the text was written.
func (b *buffer) waitFor(t *testing.T, text string) {
	t.Helper()
	late := time.After(30 * time.Second)
	for {
		b.mu.Lock()
		if strings.Contains(b.b.String(), text) {
			b.mu.Unlock()
			return
		}
		if b.written == nil {
			b.written = make(chan struct{})
		}
		written := b.written
		b.mu.Unlock()
		select {
		case <-written:
		case <-late:
			t.Fatalf("nobody writes %q:\n%s", text, b)
		}
	}
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// testApp is an app away from the machine's own configuration.
func testApp(t *testing.T) (a *app, out, errs *buffer) {
	t.Helper()
	out, errs = new(buffer), new(buffer)
	a = newApp(out, errs)
	a.defaultConfig = filepath.Join(t.TempDir(), "aptmesh.yaml")
	a.autoConfig = func() (*config.Config, []string, error) {
		cfg := testConfig()
		cfg.FromMachine = true
		return cfg, []string{"a note"}, nil
	}
	return a, out, errs
}

func testConfig() *config.Config {
	cfg := config.Default()
	cfg.Listen = []string{"127.0.0.1:0"}
	cfg.UpstreamClient.AuthConf = nil // as of a node without a file
	tools := archiveconf.New("tools")
	tools.Upstream, tools.Unsigned = "http://example.org/tools", true
	cfg.Archives = []archiveconf.Archive{tools}
	return cfg
}

// run runs a command line to its end.
func run(t *testing.T, a *app, args ...string) int {
	t.Helper()
	return a.main(t.Context(), args, nil)
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// What is asked in a way that is not understood exits with 2, what fails with 1;
// either says so in one line.
func TestExitCodes(t *testing.T) {
	dir := t.TempDir()
	bad := filepath.Join(dir, "bad.yaml")
	write(t, bad, "lisen: x\nadmin: 1\n")
	for _, tt := range []struct {
		args []string
		code int
		out  string // a part of stdout
		err  string // a part of stderr
	}{
		{[]string{}, 0, "aptmesh serve", ""},
		{[]string{"--help"}, 0, "aptmesh serve", ""},
		{[]string{"version"}, 0, "aptmesh ", ""},
		{[]string{"--version"}, 0, "aptmesh ", ""},
		{[]string{"completion", "bash"}, 0, "bash completion", ""},
		{[]string{"stats"}, 2, "", `unknown command "stats" for "aptmesh" Did you mean this? status`},
		{[]string{"serve", "now"}, 2, "", `"now" is too much: it takes no argument; see ` + "`aptmesh serve --help`"},
		{[]string{"serve", "--lisen", "x"}, 2, "", "unknown flag: --lisen; see `aptmesh serve --help`"},
		{[]string{"refresh"}, 2, "", "the suite (ARCHIVE/SUITE) is missing"},
		{[]string{"why"}, 2, "", "the URL is missing"},
		{[]string{"drop"}, 2, "", "the suite (ARCHIVE/SUITE) is missing"},
		{[]string{"refresh", "a/b", "--timeout", "soon"}, 2, "", `invalid argument "soon"`},
		{[]string{"config", "bogus"}, 2, "", `unknown command "bogus" for "aptmesh config"`},
		{[]string{"config"}, 0, "check", ""},
		{[]string{"serve", "-l", "127.0.0.1:0,nonsense"}, 1, "", `aptmesh: --listen: "nonsense" is no`},
		{[]string{"serve", "--log-level", "loud"}, 1, "", `aptmesh: --log-level: `},
		{[]string{"serve", "-c", bad}, 1, "", "bad.yaml:1:1: unknown key `lisen`; did you mean `listen`?"},
		{[]string{"config", "check", bad}, 1, "", "bad.yaml:2:1: admin: \"1\" is not an address"},
		{[]string{"config", "check", "-c", bad, bad + "x"}, 1, "", "name two files"},
		{[]string{"serve", "-c", bad + "x"}, 1, "", "no such file"},
		{[]string{"why", "--admin", "nonsense", "x"}, 2, "", "is not the address of an admin interface"},
		{[]string{"status", "--admin", "nonsense"}, 2, "", "is not the address of an admin interface"},
		{[]string{"verify", "--data", dir}, 1, "", "no blob store"},
	} {
		a, out, errs := testApp(t)
		if code := run(t, a, tt.args...); code != tt.code {
			t.Errorf("%q exits with %d, want %d: %s", tt.args, code, tt.code, errs)
		}
		if !strings.Contains(out.String(), tt.out) || !strings.Contains(errs.String(), tt.err) {
			t.Errorf("%q prints:\n%s%s\nwant %q and %q", tt.args, out, errs, tt.out, tt.err)
		}
		lines := strings.Count(errs.String(), "\n")
		if several := strings.Contains(errs.String(), "bad.yaml:"); tt.code > 0 && lines != 1 && !several {
			t.Errorf("%q says it in %d lines:\n%s", tt.args, lines, errs)
		}
		if tt.code > 0 && out.String() != "" {
			t.Errorf("%q fails and prints to stdout:\n%s", tt.args, out)
		}
	}
}

func TestConfigCommands(t *testing.T) {
	a, out, errs := testApp(t)
	if code := run(t, a, "config", "show"); code != 0 {
		t.Fatal(errs)
	}
	shown := out.String()
	if !strings.HasPrefix(shown, "# a note\n") || !strings.Contains(shown, "  tools:\n") || !strings.Contains(shown, "  auth_conf: [/etc/apt/auth.conf, /etc/apt/auth.conf.d]\n") {
		t.Errorf("config show:\n%s", shown)
	}

	// What it shows is a configuration; the file of the default place is used.
	a, out, errs = testApp(t)
	write(t, a.defaultConfig, shown)
	if code := run(t, a, "config", "check"); code != 0 {
		t.Fatal(errs)
	}
	if !strings.Contains(out.String(), a.defaultConfig+": good: 1 archive\n") || !strings.Contains(errs.String(), "warning: ") {
		t.Errorf("config check:\n%s%s", out, errs)
	}
}

// The configuration of another machine is checked without its files.
func TestConfigCheckWithoutFiles(t *testing.T) {
	for text, want := range map[string]string{
		"archives: {x: {upstream: \"http://example.org/x\", signed_by: /nowhere/x.gpg}}\n":                                                                   ": good: 1 archive; the files that it names were not looked at\n",
		"archives: {x: {upstream: \"http://example.org/x\", signed_by: /nowhere/x.gpg}, ppa: {upstream: \"http://example.org/*/ubuntu\", unsigned: true}}\n": ": good: 1 archive and 1 class of archives; the files that it names were not looked at\n",
		"name: fra1\ncluster: {name: prod, gossip_key: /nowhere/gossip.key, ca: /nowhere/ca.pem, cert: /nowhere/cert.pem, key: /nowhere/key.pem}\n":          ": good: the archives of its machine; the files that it names were not looked at\n",
	} {
		a, out, errs := testApp(t)
		write(t, a.defaultConfig, text)
		if code := run(t, a, "config", "check", "--no-files"); code != 0 || out.String() != a.defaultConfig+want {
			t.Errorf("exit %d\n%s%s", code, out, errs)
		}
		if !strings.Contains(text, "archives") && !strings.Contains(errs.String(), "its machine's own apt, which are not looked at here") {
			t.Errorf("of the archives: %s", errs)
		}
		for _, place := range []string{a.defaultConfig, a.defaultConfig + "x"} {
			a2, _, errs := testApp(t)
			a2.defaultConfig = place
			if code := run(t, a2, "config", "check", a.defaultConfig); code == 0 || !strings.Contains(errs.String(), "/nowhere/") ||
				strings.Contains(errs.String(), "--no-files") != (place != a.defaultConfig) {
				t.Errorf("with its files: exit %d\n%s", code, errs)
			}
		}
	}
}

// Root is told of what the user of the service cannot read.
func TestConfigCheckAsRoot(t *testing.T) {
	nobody, err := files.LookUpUser("nobody")
	if err != nil || os.Geteuid() != 0 {
		t.Skip("wants root, and the user nobody")
	}
	a, out, errs := testApp(t)
	a.serviceUser = func() *files.User { return nobody }
	dir := filepath.Dir(a.defaultConfig)
	for _, open := range []string{dir, filepath.Dir(dir)} {
		if err := os.Chmod(open, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	token := filepath.Join(dir, "token")
	write(t, token, "secret\n")
	if err := os.Chmod(token, 0o600); err != nil {
		t.Fatal(err)
	}
	write(t, a.defaultConfig, "archives: {x: {upstream: \"https://example.org/x\", unsigned: true, allow: 10.0.0.0/8, credentials: {bearer_file: token}}}\n")
	want := ": archives.x.credentials.bearer_file: the service's user nobody may not read " + token + "; run: chgrp nobody " + token + " && chmod g+r " + token + "\n"
	if code := run(t, a, "config", "check"); code != 0 || !strings.Contains(errs.String(), want) || !strings.Contains(out.String(), "good") {
		t.Errorf("exit %d\n%s%s", code, out, errs)
	}
}

// fakeNode stands in for a node in the tests of serve.
type fakeNode struct {
	cfg      *config.Config
	options  node.Options
	started  chan struct{}
	reloaded chan *config.Config

	reloadFailure atomic.Pointer[error] // as serve told it
	stopped       chan context.Context
	fatal         chan error
	leaving       chan struct{}
	stop          func(context.Context) error
	startErr      error
}

func newFakeNode() *fakeNode {
	return &fakeNode{
		started: make(chan struct{}), reloaded: make(chan *config.Config), stopped: make(chan context.Context, 1),
		fatal: make(chan error, 1), leaving: make(chan struct{}), stop: func(context.Context) error { return nil },
	}
}

func (n *fakeNode) Start(context.Context) error {
	if n.startErr == nil {
		close(n.started)
	}
	return n.startErr
}
func (n *fakeNode) Addrs() []string          { return []string{"127.0.0.1:3142"} }
func (n *fakeNode) Wait() <-chan error       { return n.fatal }
func (n *fakeNode) Leaving() <-chan struct{} { return n.leaving }
func (n *fakeNode) Stop(ctx context.Context) error {
	n.stopped <- ctx
	return n.stop(ctx)
}

func (n *fakeNode) ReloadFailed(err error) { n.reloadFailure.Store(&err) }

func (n *fakeNode) Reload(cfg *config.Config) (applied, restart []string, err error) {
	n.reloaded <- cfg
	if cfg.Log.Level == "error" {
		return nil, nil, errors.New("not this one")
	}
	return []string{"log.level"}, []string{"data"}, nil
}

// serving is a serve command that runs.
type serving struct {
	*fakeNode
	out, errs *buffer
	stop      chan os.Signal
	reload    chan os.Signal
	exit      chan int
	config    string
}

func startServe(t *testing.T, n *fakeNode, args ...string) *serving {
	t.Helper()
	a, out, errs := testApp(t)
	s := &serving{n, out, errs, make(chan os.Signal), make(chan os.Signal), make(chan int, 1), a.defaultConfig}
	a.reload = s.reload
	a.newNode = func(cfg *config.Config, o node.Options) (server, error) {
		n.cfg, n.options = cfg, o
		return n, nil
	}
	if last := len(args) - 1; last >= 0 && (args[last] == "person" || args[last] == "nobody") {
		person := args[last] == "person"
		args, a.watched = args[:last], func(io.Writer) bool { return person }
	}
	go func() { s.exit <- a.main(context.Background(), append([]string{"serve"}, args...), s.stop) }()
	return s
}

func TestServe(t *testing.T) {
	s := startServe(t, newFakeNode(), "--data", "/d", "--admin", "", "-l", "127.0.0.1:1,[::1]:1", "--log-level", "debug", "--log-format", "json")
	<-s.started
	if s.cfg.Data != "/d" || s.cfg.StateDir() != "/d/state" || s.cfg.Admin.Address != "" || len(s.cfg.Listen) != 2 || s.options.Version == "" || s.options.Level.Level() != slog.LevelDebug {
		t.Errorf("the node gets %+v and %+v", s.cfg, s.options)
	}

	// A reload that fails changes nothing and ends nothing.
	write(t, s.config, "lisen: x\n")
	s.reload <- syscall.SIGHUP
	s.errs.waitFor(t, "reload failed")
	if s.reloadFailure.Load() == nil {
		t.Error("the node is not told of the reload that failed, so its status cannot say so")
	}
	if log := s.errs.String(); !strings.Contains(log, "did you mean `listen`?") {
		t.Errorf("log after a bad reload:\n%s", log)
	}
	archives := "archives: {other: {upstream: \"http://example.org/other\", unsigned: true}}\n"
	write(t, s.config, archives+"data: /elsewhere\n")
	s.reload <- syscall.SIGHUP
	cfg := <-s.reloaded
	if len(cfg.Archives) != 1 || cfg.Archives[0].Name != "other" || cfg.Data != "/d" || cfg.Log.Level != "debug" {
		t.Errorf("the node reloads %+v", cfg)
	}

	// A file that is cut off before its archives does not replace them by the machine's.
	for text, want := range map[string]string{"": "names no archives", "log: {level: warn}\n": "names no archives", "gone": "the configuration file is gone"} {
		before := strings.Count(s.errs.String(), "reload failed")
		if write(t, s.config, text); text == "gone" {
			if err := os.Remove(s.config); err != nil {
				t.Fatal(err)
			}
		}
		s.reload <- syscall.SIGHUP
		for deadline := time.Now().Add(10 * time.Second); strings.Count(s.errs.String(), "reload failed") == before; time.Sleep(5 * time.Millisecond) {
			select {
			case cfg := <-s.reloaded:
				t.Fatalf("the node reloads %+v", cfg)
			default:
			}
			if time.Now().After(deadline) {
				t.Fatalf("%q: no failure is logged:\n%s", text, s.errs)
			}
		}
		if log := s.errs.String(); !strings.Contains(log[strings.LastIndex(log, "reload failed"):], want) {
			t.Errorf("%q: the log has no %q:\n%s", text, want, log)
		}
	}

	s.stop <- syscall.SIGTERM
	ctx := <-s.stopped
	if code := <-s.exit; code != 0 {
		t.Errorf("exit code %d: %s", code, s.errs)
	}
	if deadline, ok := ctx.Deadline(); !ok || time.Until(deadline) > 41*time.Second {
		t.Errorf("the drain may take until %v", deadline)
	}
	log := s.errs.String()
	for _, want := range []string{`"msg":"apt sources: a note"`, `"applied":["log.level"]`, `"keys":["data"]`, `"msg":"stopped"`} {
		if !strings.Contains(log, want) {
			t.Errorf("the log has no %s:\n%s", want, log)
		}
	}
	if got := s.out.String(); got != "" {
		t.Errorf("serve prints into a log:\n%s", got)
	}
}

// A person at a terminal is told what to type on a host; a log of lines or of JSON is not.
func TestServePrintsTheSettings(t *testing.T) {
	for format, reader := range map[string]string{"text": "person", "json": "person", "text ": "nobody"} {
		s := startServe(t, newFakeNode(), "--log-format", strings.TrimSpace(format), reader)
		<-s.started
		s.stop <- syscall.SIGTERM
		<-s.stopped
		<-s.exit
		want := `aptmesh serves 1 archive at http://127.0.0.1:3142, from /var/cache/aptmesh

On each host with apt:

sudo tee /etc/apt/apt.conf.d/30aptmesh <<'END'
Acquire::http::Proxy "http://127.0.0.1:3142";
Acquire::https::Proxy "DIRECT";
Acquire::Retries::Delay "false";
END

http://127.0.0.1:3142/ in a browser shows the archives, their URLs here, and how the node does.

`
		if format != "text" {
			want = ""
		}
		if log := s.errs.String(); !strings.Contains(log, "serving") || !strings.Contains(log, "client-config http://127.0.0.1:3142` prints their settings") {
			t.Errorf("the log does not say how to use the node:\n%s", log)
		}
		if got := s.out.String(); got != want {
			t.Errorf("serve --log-format %s prints:\n%s\nwant:\n%s", format, got, want)
		}
	}
}

// A container does not know its address; it says so, and everything else.
func TestHintsInAContainer(t *testing.T) {
	var b strings.Builder
	printHints(&b, testConfig(), "http://NODE:3142", false)
	for _, want := range []string{"1 archive at http://NODE:3142", "NODE stands for the address at which hosts reach this container; public_url sets it.", `Proxy "http://NODE:3142";`} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is not in\n%s", want, b.String())
		}
	}
	if got := hostAdvice("http://NODE:3142", false); !strings.Contains(got, "`aptmesh client-config http://NODE:3142`") {
		t.Error(got)
	}
	cfg := testConfig()
	if url, err := cfg.HostURLOn([]string{"[::]:3142"}, anyHost); err != nil || url != "http://NODE:3142" {
		t.Error(url, err)
	}
}

// A second signal ends a drain that takes too long.
func TestServeStopsAtOnceOnSecondSignal(t *testing.T) {
	n := newFakeNode()
	n.stop = func(ctx context.Context) error {
		<-ctx.Done()
		return ctx.Err()
	}
	s := startServe(t, n)
	<-s.started
	s.stop <- syscall.SIGTERM
	<-s.stopped
	s.stop <- syscall.SIGINT
	if code := <-s.exit; code != 1 || !strings.Contains(s.errs.String(), "aptmesh: stopping: context canceled") {
		t.Errorf("exit code %d: %s", code, s.errs)
	}
}

func TestServeState(t *testing.T) {
	s := startServe(t, newFakeNode(), "--data", "/d", "--state", "/s")
	<-s.started
	if s.cfg.Data != "/d" || s.cfg.StateDir() != "/s" {
		t.Errorf("data in %s, state in %s", s.cfg.Data, s.cfg.StateDir())
	}
	s.stop <- syscall.SIGTERM
	<-s.stopped
	<-s.exit
}

// A state directory of a newer version ends the program with a sentence.
func TestServeRefusesNewerState(t *testing.T) {
	state := t.TempDir()
	write(t, filepath.Join(state, "format"), "2\nWritten by aptmesh 9.9.\n")
	a, out, errs := testApp(t)
	code := run(t, a, "serve", "--admin", "", "--data", filepath.Join(state, "data"), "--state", state)
	want := "aptmesh: state directory " + state + ": it has format 2, and this program knows formats up to 1 only (format: \"Written by aptmesh 9.9.\"): " +
		"start the newer version again, or give this one another directory; nothing was changed (`state:` or --state names the directory)\n"
	if code != 1 || out.String() != "" || !strings.HasSuffix(errs.String(), want) {
		t.Errorf("exit code %d, %q, %q\nwant the end %q", code, out, errs, want)
	}
	if files, _ := os.ReadDir(state); len(files) != 1 {
		t.Errorf("the directory holds %v now", files)
	}
}

func TestServeFailures(t *testing.T) {
	s := startServe(t, newFakeNode())
	<-s.started
	s.fatal <- errors.New("the disk fell off")
	if code := <-s.exit; code != 1 || !strings.Contains(s.errs.String(), "aptmesh: the node cannot go on: the disk fell off\n") {
		t.Errorf("exit code %d: %s", code, s.errs)
	}
	<-s.stopped

	n := newFakeNode()
	n.startErr = errors.New("address already in use")
	s = startServe(t, n)
	if code := <-s.exit; code != 1 || s.out.String() != "" || !strings.Contains(s.errs.String(), "aptmesh: address already in use\n") {
		t.Errorf("exit code %d: %s%s", code, s.out, s.errs)
	}
}

// The service manager is told when the node is ready, reloads and stops.
func TestNotify(t *testing.T) {
	dir, err := os.MkdirTemp("", "aptmesh") // short, as the path of a socket must be
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	socket := filepath.Join(dir, "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	next := func() string {
		if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 1024)
		n, err := conn.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		return string(buf[:n])
	}
	t.Setenv("NOTIFY_SOCKET", socket)
	s := startServe(t, newFakeNode())
	if got := next(); got != "READY=1" {
		t.Errorf("after the start: %q", got)
	}
	s.reload <- syscall.SIGHUP
	<-s.reloaded
	if got := next(); !strings.HasPrefix(got, "RELOADING=1\nMONOTONIC_USEC=") {
		t.Errorf("before the reload: %q", got)
	}
	if got := next(); got != "READY=1" {
		t.Errorf("after the reload: %q", got)
	}
	s.stop <- syscall.SIGTERM
	if got := next(); got != "STOPPING=1" {
		t.Errorf("at the end: %q", got)
	}
	<-s.exit
}

// adminStub serves fixed answers at the paths of the admin interface.
func adminStub(t *testing.T, answers map[string]any) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer, ok := answers[r.Method+" "+r.URL.RequestURI()]
		if !ok {
			w.WriteHeader(http.StatusNotFound)
			answer = admin.Error{Message: "nothing at " + r.URL.RequestURI()}
		}
		if err := json.NewEncoder(w).Encode(answer); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

func TestRefreshCommand(t *testing.T) {
	addr := adminStub(t, map[string]any{
		"POST /v1/refresh?suite=ubuntu%2Fnoble": admin.RefreshResult{Suite: "ubuntu/dists/noble", Changed: true, Message: "adopted the generation of today"},
	})
	a, out, errs := testApp(t)
	write(t, a.defaultConfig, "admin: "+`"`+addr+`"`+"\nlisen: nonsense that is no business of a client\n")
	if code := run(t, a, "refresh", "ubuntu/noble"); code != 0 || out.String() != "ubuntu/dists/noble: adopted the generation of today\n" {
		t.Errorf("exit %d:\n%s%s", code, out, errs)
	}
	a, out, errs = testApp(t)
	if code := run(t, a, "refresh", "--json", "--admin", addr, "ubuntu/noble"); code != 0 || !strings.Contains(out.String(), `"changed": true`) {
		t.Errorf("exit %d:\n%s%s", code, out, errs)
	}
	a, _, errs = testApp(t)
	if code := run(t, a, "refresh", "--admin", addr, "ubuntu/nob"); code != 1 || !strings.Contains(errs.String(), "ubuntu/nob: nothing at") {
		t.Errorf("exit %d:\n%s", code, errs)
	}
}

func TestWhyCommand(t *testing.T) {
	addr := adminStub(t, map[string]any{
		"GET /v1/why?url=%2Fubuntu%2Fpool%2Fa.deb": admin.Why{
			URL: "ubuntu/pool/a.deb", Location: "ubuntu/pool/a.deb", Kind: "package", Archive: "ubuntu", Suite: "dists/noble",
			Generation: time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC), Listed: true, Digest: proto.DigestOf(nil), Size: 60 << 20, Stored: "disk",
			UpstreamURLs: []string{"http://archive.ubuntu.com/ubuntu/pool/a.deb", "http://b.example.org/a.deb"},
			Sentences:    []string{"It is served from disk."},
		},
		"GET /v1/why?url=http%3A%2F%2Fnowhere.example.org%2Fx": admin.Why{URL: "nowhere", Size: -1, Sentences: []string{"No archive has this."}, Would: &admin.Failure{Status: 403}},
		"GET /v1/why?url=%2Fearlier":                           admin.Why{URL: "/earlier", Size: -1, Sentences: []string{"It went wrong."}, Latest: &admin.Failure{Status: 503}},
	})
	a, out, errs := testApp(t)
	want := `It is served from disk.

location    ubuntu/pool/a.deb
kind        package
suite       dists/noble
generation  2026-11-20 12:00:00 UTC
listed      yes
sha256      e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
size        60 MiB (62,914,560 bytes)
stored      yes, on disk
upstream    http://archive.ubuntu.com/ubuntu/pool/a.deb
            http://b.example.org/a.deb
`
	if code := run(t, a, "why", "--admin", addr, "ubuntu/pool/a.deb"); code != 0 || out.String() != want {
		t.Errorf("exit %d:\n%s%s\nwant:\n%s", code, out, errs, want)
	}
	a, out, errs = testApp(t)
	if code := run(t, a, "why", "--admin", addr, "http://nowhere.example.org/x"); code != 1 || errs.String() != "" || out.String() != "No archive has this.\n" {
		t.Errorf("exit %d:\n%s", code, out)
	}
	for args, want := range map[string]int{"/earlier": 0, "--json /earlier": 0, "--json http://nowhere.example.org/x": 1} {
		a, _, errs := testApp(t)
		if code := run(t, a, append([]string{"why", "--admin", addr}, strings.Fields(args)...)...); code != want || errs.String() != "" {
			t.Errorf("why %s: exit %d: %s", args, code, errs)
		}
	}
	a, _, errs = testApp(t)
	if code := run(t, a, "why", "--admin", filepath.Join(t.TempDir(), "none.sock"), "x"); code != 2 || errs.String() == "" {
		t.Errorf("nobody answers: exit %d: %s", code, errs)
	}
}

// The list of what is refused is what is left to do: where, how often, and which hosts.
func TestRefusedCommand(t *testing.T) {
	hosts := []string{"10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"}
	list := []admin.RefusedURL{
		{URL: "http://ppa.example.org/a/ppa/ubuntu", Reason: "unknown-host", Requests: 12345, Last: time.Now().Add(-90 * time.Second), Clients: hosts},
		{URL: "CONNECT esm.ubuntu.com:443", Reason: "connect-refused", Requests: 7, Last: time.Now().Add(-48 * time.Hour), Clients: hosts[:1], More: true},
	}
	addr := adminStub(t, map[string]any{"GET /v1/refused": list})
	a, out, errs := testApp(t)
	want := `REQUESTS  URL                                  REASON           LAST       HOSTS
12,345    http://ppa.example.org/a/ppa/ubuntu  unknown-host     1m30s ago  10.0.0.1, 10.0.0.2, 10.0.0.3, 10.0.0.4 and 2 more
7         CONNECT esm.ubuntu.com:443           connect-refused  2d0h ago   10.0.0.1 and more

` + "`aptmesh why URL` says what to do about one.\n"
	if code := run(t, a, "refused", "--admin", addr); code != 0 || out.String() != want {
		t.Errorf("exit %d:\n%s%s\nwant:\n%s", code, out, errs, want)
	}
	a, out, _ = testApp(t)
	if code := run(t, a, "refused", "--json", "--admin", addr); code != 0 || !strings.Contains(out.String(), `"more_clients": true`) || !strings.Contains(out.String(), "10.0.0.6") {
		t.Errorf("exit %d:\n%s", code, out)
	}
	a, out, _ = testApp(t)
	if code := run(t, a, "refused", "--admin", adminStub(t, map[string]any{"GET /v1/refused": []admin.RefusedURL{}})); code != 0 || !strings.HasPrefix(out.String(), "the node has refused no request") {
		t.Errorf("exit %d:\n%s", code, out)
	}
}

func TestStatusTable(t *testing.T) {
	now := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	s := &admin.Status{
		Version: "v0.1.0", Node: "cache1", UptimeSeconds: 93784, Ready: true, Addresses: []string{"[::]:3142", "[::]:3143"}, Degraded: "no room on disk",
		Store: admin.StoreStatus{Dir: "/var/cache/aptmesh", Used: 3 << 30, Max: 50 << 30, Blobs: 12345, Pinned: 200 << 20, Degraded: "no room on disk"},
		Archives: []admin.ArchiveStatus{
			{Name: "ubuntu", Upstream: "http://archive.ubuntu.com/ubuntu", Suites: []admin.SuiteStatus{
				{Dir: "dists/noble", State: admin.SuiteFresh, Generation: now.Add(-26 * time.Hour), LastCheck: now.Add(-12 * time.Second), LastChange: now.Add(-25 * time.Hour), Retained: 2},
				{Dir: "dists/noble-security", State: admin.SuiteFailing, Error: "upstream answers 503", LastCheck: now.Add(-7 * time.Second), FailingSince: now.Add(-3 * time.Second), ValidUntil: now.Add(-time.Hour), Expired: true},
				{Dir: "dists/soon", State: admin.SuiteFresh, LastCheck: now, ValidUntil: now.Add(90 * time.Minute)},
			}},
			{Name: "tools", Upstream: "http://example.org/tools"},
		},
		Classes:   []admin.ClassStatus{{Name: "ppa", Upstream: "http://ppa.example.org/*/*/ubuntu"}, {Name: "copr", Upstream: "http://copr.example.org/*", Archives: 1}},
		Upstreams: []admin.UpstreamStatus{{Host: "z.example.org", Limit: 8}, {Host: "archive.ubuntu.com", InUse: 2, Waiting: 1, Limit: 8, Bytes: 5 << 20, LastError: "timeout", LastFail: now.Add(-90 * time.Minute)}},
		Flights:   []admin.FlightStatus{{Location: "ubuntu/pool/a.deb", Size: -1, Received: 1 << 20, Readers: 3, Source: "archive.ubuntu.com"}},
		Traffic: admin.TrafficStatus{Requests: 1234567, Errors: 3, Bytes: 100 << 20, Tiers: map[string]admin.TierTraffic{
			"memory": {Requests: 10, Bytes: 25 << 20}, "upstream": {Requests: 1, Bytes: 75 << 20}, "peer": {},
		}},
	}
	var out bytes.Buffer
	if err := printStatus(&out, s, now); err != nil {
		t.Fatal(err)
	}
	want := `aptmesh v0.1.0 on cache1, up 1d2h, ready
failing: ubuntu/dists/noble-security has never been there: upstream answers 503
attention: degraded: no room on disk

listens  [::]:3142, [::]:3143
store    3.0 GiB of 50 GiB in /var/cache/aptmesh, 12,345 objects; 200 MiB pinned
traffic  1,234,567 requests, 3 errors, 100 MiB (25% from memory, 75% from upstream)

SUITE                        STATE    GENERATION (UTC)  CHECKED  CHANGED   RETAINED  NOTE
ubuntu/dists/noble           fresh    2026-11-19 10:00  12s ago  1d1h ago  2
ubuntu/dists/noble-security  failing  -                 7s ago   never     0         failing for 3s: upstream answers 503; expired 2026-11-20 11:00
ubuntu/dists/soon            fresh    -                 0s ago   never     0         expires in 1h30m
tools/                       unused   -                 -        -         -         http://example.org/tools
ppa/                         unused   -                 -        -         -         class http://ppa.example.org/*/*/ubuntu

UPSTREAM            BUSY  WAITING  RECEIVED  LAST ERROR
archive.ubuntu.com  2/8   1        5.0 MiB   1h30m ago: timeout
z.example.org       0/8   0        0 B

FETCHING           DONE     OF  READERS  FROM
ubuntu/pool/a.deb  1.0 MiB  ?   3        archive.ubuntu.com
`
	if out.String() != want {
		t.Errorf("status:\n%s\nwant:\n%s", out.String(), want)
	}
}

func TestStatusCommand(t *testing.T) {
	good := admin.Status{Version: "v1", Ready: true}
	starting, degraded := good, good
	starting.Ready = false
	degraded.Degraded = "no room on disk"
	for _, tt := range []struct {
		status admin.Status
		code   int
		says   string
	}{
		{good, 0, "aptmesh v1 on , up 0s, ready\n"},
		{degraded, 1, "\nattention: degraded: no room on disk\n"},
		{starting, 2, "\nfailing: not ready"},
	} {
		addr := adminStub(t, map[string]any{"GET /v1/status": tt.status})
		a, out, errs := testApp(t)
		if code := run(t, a, "status", "--admin", addr); code != tt.code || !strings.Contains(out.String(), tt.says) || errs.String() != "" {
			t.Errorf("exit %d:\n%s%s", code, out, errs)
		}
		if strings.Contains(out.String(), "\x1b") {
			t.Errorf("colours for what is no terminal: %q", out)
		}
		a, out, errs = testApp(t)
		want := 0
		if !tt.status.Ready {
			want = 2
		}
		if code := run(t, a, "status", "--admin", addr, "--ready"); code != want {
			t.Errorf("%s: --ready exits with %d", tt.says, code)
		}
		if code := run(t, a, "status", "--admin", addr, "--json"); code != tt.code || !strings.Contains(out.String(), `"version": "v1"`) {
			t.Errorf("exit %d:\n%s%s", code, out, errs)
		}
	}
	a, _, errs := testApp(t)
	if code := run(t, a, "status", "--admin", "unix:"+filepath.Join(t.TempDir(), "none")); code != 2 || !strings.Contains(errs.String(), "start one with `aptmesh serve`") {
		t.Errorf("exit %d:\n%s", code, errs)
	}
	a, _, errs = testApp(t)
	write(t, a.defaultConfig, "admin: \"\"\n")
	if code := run(t, a, "status"); code != 2 || !strings.Contains(errs.String(), "switches the admin interface off") {
		t.Errorf("exit %d:\n%s", code, errs)
	}
}

func TestVerifyCommand(t *testing.T) {
	dir := t.TempDir()
	blob := func(content, name string) {
		path := filepath.Join(dir, "blobs", name[:2], name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, path, content)
	}
	for i := range 256 { // a store has them all
		if err := os.MkdirAll(filepath.Join(dir, "blobs", hex2(i)), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(dir, "tmp"), 0o755); err != nil {
		t.Fatal(err)
	}
	good, bad := proto.DigestOf([]byte("good")).String(), proto.DigestOf([]byte("bad")).String()
	blob("good", good)
	blob("evil", bad)

	a, out, errs := testApp(t)
	if code := run(t, a, "verify", "--data", dir); code != 1 || !strings.Contains(out.String(), "damaged: "+bad) || !strings.Contains(errs.String(), "aptmesh verify --remove") {
		t.Errorf("exit %d:\n%s%s", code, out, errs)
	}
	if !strings.Contains(errs.String(), "100% of 8 B") {
		t.Errorf("no progress:\n%s", errs)
	}
	a, out, errs = testApp(t)
	write(t, a.defaultConfig, "data: "+dir+"\n")
	if code := run(t, a, "verify", "--remove"); code != 0 || !strings.Contains(out.String(), "(removed)") {
		t.Errorf("exit %d:\n%s%s", code, out, errs)
	}
	a, out, errs = testApp(t)
	if code := run(t, a, "verify", "--data", dir); code != 0 || !strings.Contains(out.String(), "1 object, 4 B in 0s: 0 damaged") {
		t.Errorf("exit %d:\n%s%s", code, out, errs)
	}
}

func hex2(i int) string {
	const digits = "0123456789abcdef"
	return string([]byte{digits[i/16], digits[i%16]})
}

// client-config prints the text of the host's file and nothing else.
func TestClientConfig(t *testing.T) {
	for _, tt := range []struct{ config, arg, url, err string }{
		{"", "http://cache:3142", "http://cache:3142", ""},
		{"public_url: http://cache.example.org:3142\n", "", "http://cache.example.org:3142", ""},
		{"listen: [\"192.0.2.1:80\"]\n", "", "http://192.0.2.1:80", ""},
		{"listen: []\ntls: {listen: [\"192.0.2.1:3143\"]}\n", "", "https://192.0.2.1:3143", ""},
		{"listen: []\n", "", "", "listens nowhere"},
		{"", "cache:3142", "", "is not the URL of a node"},
		{"public_url: http://cache:3142/path\n", "", "", "is not the URL of a node"},
		{"", "HTTP://Cache:3142/", "http://cache:3142", ""},
	} {
		a, out, errs := testApp(t)
		if tt.config != "" {
			write(t, a.defaultConfig, tt.config)
		}
		args := []string{"client-config"}
		if tt.arg != "" {
			args = append(args, tt.arg)
		}
		code, want := run(t, a, args...), ""
		if tt.url != "" {
			want = "Acquire::http::Proxy \"" + tt.url + "\";\nAcquire::https::Proxy \"DIRECT\";\nAcquire::Retries::Delay \"false\";\n"
		}
		if out.String() != want || (code == 0) != (tt.err == "") || !strings.Contains(errs.String(), tt.err) {
			t.Errorf("%+v: exit %d\n%s%s", tt, code, out, errs)
		}
	}
}

// It says which flags go together, and asks a node where it must.
func TestClientConfigFlags(t *testing.T) {
	for _, tt := range []struct {
		args      []string
		out, errs string
	}{
		{[]string{"--output", "ansible"}, "- name: \"/etc/apt/apt.conf.d/30aptmesh by aptmesh\"\n", "(apt -S) is left out"},
		{[]string{"--output", "cloud-init"}, "#cloud-config\n", ""},
		{[]string{"--output", "apt.conf"}, "Acquire::http::Proxy", "# /etc/apt/apt.conf.d/30aptmesh"},
		{[]string{"--output", "deb822"}, "", "it needs --channel or --snapshot"},
		{[]string{"--output", "yaml"}, "", "is none of apt.conf, deb822, one-line, ansible, cloud-init"},
		{[]string{"--suite", "x"}, "", "need --channel or --snapshot"},
		{[]string{"--channel", "a", "--snapshot", "b"}, "", "none of the others can be"},
		{[]string{"--channel", "a"}, "", "node"},
	} {
		a, out, errs := testApp(t)
		write(t, a.defaultConfig, "admin: 127.0.0.1:1\n")
		code := run(t, a, append([]string{"client-config", "http://cache:3142"}, tt.args...)...)
		if !strings.HasPrefix(out.String(), tt.out) || (code == 0) != (tt.out != "") || !strings.Contains(errs.String(), tt.errs) {
			t.Errorf("%q: exit %d\n%s%s", tt.args, code, out, errs)
		}
	}
}

// It prints what a host needs for the archives that the configuration has, and names the formats.
func TestClientConfigOfAFormat(t *testing.T) {
	const (
		apt    = "  debian: {upstream: \"http://a.example.org/debian\"}\n"
		fedora = "  fedora: {upstream: \"http://b.example.org/fedora\", format: rpm, suites: [40/os]}\n"
		arch   = "  arch: {upstream: \"http://c.example.org/arch\", format: pacman}\n"
		repo   = "# Copy gpgkey= and gpgcheck= from each repository's own file, and disable the repository there.\n[aptmesh-fedora-40-os]\nname=fedora/40/os from aptmesh\nbaseurl=http://cache:3142/fedora/40/os\nenabled=1\n"
	)
	for _, tt := range []struct{ archives, format, out, errs string }{
		{apt + fedora, "rpm", repo, "# /etc/yum.repos.d/aptmesh.repo\n"},
		{fedora, "", repo, "# /etc/yum.repos.d/aptmesh.repo\n"},
		{apt + fedora, "", "Acquire::http::Proxy \"http://cache:3142\";\n", "# /etc/apt/apt.conf.d/30aptmesh\n"},
		{fedora + arch, "", "", "the archives of the configuration have the formats pacman and rpm, each with files of its own; choose one with --format"},
		{fedora, "apt", "", "no archive of the configuration has the format \"apt\"; they have rpm"},
		{fedora, "pacman", "", "no archive of the configuration has the format \"pacman\"; they have rpm"},
		{fedora, "zypp", "", "--format: \"zypp\" is none of apt, rpm (dnf, zypper) or pacman"},
	} {
		a, out, errs := testApp(t)
		write(t, a.defaultConfig, "archives:\n"+tt.archives)
		args := []string{"client-config", "http://cache:3142"}
		if tt.format != "" {
			args = append(args, "--format", tt.format)
		}
		code := run(t, a, args...)
		if !strings.HasPrefix(out.String(), tt.out) || (code == 0) != (tt.out != "") || out.String() != "" && code != 0 || !strings.Contains(errs.String(), tt.errs) {
			t.Errorf("%+v: exit %d\n%s%s", tt, code, out, errs)
		}
	}
}

// Every command tells how it is used.
func TestEveryCommandHasExamples(t *testing.T) {
	a, _, _ := testApp(t)
	for _, cmd := range a.rootCommand().Commands() {
		for _, c := range append(cmd.Commands(), cmd) {
			if c.Short == "" || c.Runnable() && c.Example == "" && !c.HasSubCommands() {
				t.Errorf("%s has no example", c.CommandPath())
			}
		}
	}
}
