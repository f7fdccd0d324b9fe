package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
)

// small is a suite with one package, for tests of other things.
func small(t *testing.T, o options) *world {
	t.Helper()
	return newWorld(t, testarchive.Suite{Name: "noble", ByHash: true}, o,
		testarchive.Package{Name: "hello", Version: "1", Size: 400_000}, testarchive.Package{Name: "other", Version: "1"})
}

// SIGTERM lets a running download finish; health checks and new requests are told
// to go elsewhere meanwhile.
func TestSIGTERMDrains(t *testing.T) {
	t.Parallel()
	w := small(t, options{})
	w.readIndices()
	stall := w.server.Inject("*/hello_*", 0, testarchive.Stall(200_000))
	path, want := w.find("/hello_")

	type result struct {
		body []byte
		err  error
	}
	running := make(chan result, 1)
	go func() {
		resp, err := http.Get(w.node.URL + "/debian/" + path)
		if err != nil {
			running <- result{err: err}
			return
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		running <- result{body, err}
	}()
	<-stall.Stalled()
	w.node.signal(syscall.SIGTERM)
	eventually(t, 5*time.Second, "/ready said 503", func() bool { return !w.node.Ready(t.Context()) })
	resp, body := w.node.get("/debian/dists/noble/InRelease")
	if resp.StatusCode != http.StatusServiceUnavailable || len(body) == 0 || resp.Header.Get("Retry-After") == "" {
		t.Errorf("a new request while draining: %s, Retry-After %q: %s", resp.Status, resp.Header.Get("Retry-After"), body)
	}
	stall.Release()
	got := <-running
	if got.err != nil || string(got.body) != string(want) {
		t.Errorf("the running download: %v, %d of %d bytes", got.err, len(got.body), len(want))
	}
	if code := w.node.exitCode(10 * time.Second); code != 0 {
		t.Errorf("exit code %d", code)
	}
	w.node.checkStored()
}

// SIGHUP adds an archive, says what waits for a restart, and keeps everything as
// it is if the new configuration is wrong.
func TestSIGHUPReloads(t *testing.T) {
	t.Parallel()
	w := small(t, options{})
	w.readIndices()
	second := testarchive.New(8)
	second.AddSuite(testarchive.Suite{Name: "stable", ByHash: true})
	second.AddPackage("stable", testarchive.Package{Name: "tool", Version: "1"})
	second.Publish(w.began)
	server := testarchive.NewServer(second)
	defer server.Close()

	if resp, body := w.node.get("/tools/dists/stable/InRelease"); resp.StatusCode != http.StatusNotFound || !strings.Contains(string(body), "archives") {
		t.Errorf("before: %s: %s", resp.Status, body)
	}
	good := w.node.Config()
	reload := func(config, says string) {
		t.Helper()
		said := strings.Count(w.node.err.String(), says)
		writeFile(t, w.node.ConfigFile(), []byte(config))
		w.node.signal(syscall.SIGHUP)
		eventually(t, 10*time.Second, "the log said "+says, func() bool { return strings.Count(w.node.err.String(), says) > said })
	}

	reload(good+"\nnonsense: 1\n", "reload failed")
	if resp, _ := w.node.get("/debian/dists/noble/InRelease"); resp.StatusCode != http.StatusOK {
		t.Errorf("after a wrong configuration: %s", resp.Status)
	}

	keyring := writeFile(t, filepath.Join(w.node.Dir, "tools.asc"), second.ArmoredKeyring())
	more := strings.Replace(good, "archives:\n", fmt.Sprintf("archives:\n  tools: {upstream: %q, signed_by: [%q]}\n", server.URL, keyring), 1)
	more = strings.Replace(more, "memory: 64MiB", "memory: 32MiB", 1)
	reload(more, "configuration reloaded")
	eventually(t, 5*time.Second, "the log named what waits for a restart", func() bool {
		return regexp.MustCompile(`restart.*cache\.memory`).MatchString(w.node.err.String())
	})
	if resp, _ := w.node.get("/tools/dists/stable/InRelease"); resp.StatusCode != http.StatusOK {
		t.Errorf("the new archive: %s", resp.Status)
	}
	c := newApt(t, second.Keyring(), "deb [signed-by=KEYRING] "+w.node.URL+"/tools stable main")
	c.run("apt-get", "update")
	c.run("apt-get", "download", "tool")
}

func TestWrongConfigurations(t *testing.T) {
	t.Parallel()
	const archive = "archives:\n  a: {upstream: \"http://archive.example.org/a\", unsigned: true}\n"
	for _, test := range []struct {
		name, config string
		wants        []string // in the message
	}{
		{"unknown key", archive + "lisen: [\":1\"]\n", []string{":3:1", "lisen", "did you mean `listen`"}},
		{"unknown key of an archive", "archives:\n  a:\n    upstream: \"http://archive.example.org/a\"\n    unsinged: true\n", []string{":4:5", "unsinged", "unsigned"}},
		{"wrong type", archive + "cache: {max_size: plenty}\n", []string{":3:", "max_size"}},
		{"not YAML", archive + "listen: [\n", []string{"aptmesh.yaml"}},
		{"no keyring", "archives:\n  a: {upstream: \"http://archive.example.org/a\"}\n", []string{"signed_by", "unsigned"}},
		{"two errors at once", archive + "admin: nowhere\nlog: {level: loud}\n", []string{":3:", ":4:", "level"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			file := writeFile(t, filepath.Join(t.TempDir(), "aptmesh.yaml"), []byte(test.config))
			for _, args := range [][]string{{"config", "check", file}, {"serve", "--config", file}} {
				out, errs, code := runBinary(t, args...)
				if code != 1 {
					t.Errorf("aptmesh %s: exit code %d: %s%s", args[0], code, out, errs)
				}
				for _, want := range append(test.wants, file) {
					if !strings.Contains(errs, want) {
						t.Errorf("aptmesh %s: %q is not in the message:\n%s", args[0], want, errs)
					}
				}
			}
		})
	}
	if _, errs, code := runBinary(t, "serve", "--no-such-flag"); code != 2 || strings.Count(errs, "\n") != 1 {
		t.Errorf("a wrong flag: exit code %d: %s", code, errs)
	}
}

func TestListeners(t *testing.T) {
	t.Parallel()
	w := small(t, options{})
	for _, test := range []struct {
		method, path string
		status       int
		says         string
	}{
		{"GET", "/", http.StatusNotAcceptable, "Acquire::http::Proxy"},
		{"GET", "/nobody/dists/x/InRelease", http.StatusNotFound, "archives"},
		{"POST", "/debian/dists/noble/InRelease", http.StatusMethodNotAllowed, ""},
		{"GET", "/debian/../../etc/passwd", 0, ""},
		{"GET", "/debian/%2e%2e/%2e%2e/etc/passwd", 0, ""},
		{"GET", "/debian/dists/noble/main/binary-amd64/Packages.lzma", http.StatusNotFound, ""},
		{"GET", "/debian/dists/nowhere/InRelease", http.StatusNotFound, ""},
	} {
		t.Run(test.method+" "+test.path, func(t *testing.T) {
			req := must(http.NewRequest(test.method, w.node.URL, nil))(t)
			req.URL = &url.URL{Scheme: "http", Host: w.node.Addrs[0], Opaque: test.path}
			resp := must(http.DefaultTransport.RoundTrip(req))(t)
			defer resp.Body.Close()
			body := must(io.ReadAll(resp.Body))(t)
			switch {
			case test.status != 0 && resp.StatusCode != test.status, test.status == 0 && resp.StatusCode < 400:
				t.Errorf("%s: %s", resp.Status, body)
			case !strings.Contains(string(body), test.says) || len(body) == 0:
				t.Errorf("%s says %q", resp.Status, body)
			}
		})
	}

	t.Run("proxy for somebody else", func(t *testing.T) {
		via := &http.Client{Transport: &http.Transport{Proxy: func(*http.Request) (*url.URL, error) { return url.Parse(w.node.URL) }}}
		resp := must(via.Get("http://elsewhere.example.com/debian/dists/noble/InRelease"))(t)
		defer resp.Body.Close()
		if body := must(io.ReadAll(resp.Body))(t); resp.StatusCode != http.StatusForbidden || !strings.Contains(string(body), "archives") {
			t.Errorf("%s: %s", resp.Status, body)
		}
	})

	t.Run("what is known of an answer", func(t *testing.T) {
		resp, _ := w.node.get("/debian/dists/noble/InRelease")
		for _, want := range []string{"tier=", "generation=", "age=", "node="} {
			if !strings.Contains(resp.Header.Get("X-Aptmesh"), want) {
				t.Errorf("X-Aptmesh: %s", resp.Header.Get("X-Aptmesh"))
			}
		}
		modified := resp.Header.Get("Last-Modified")
		req := must(http.NewRequest("GET", w.node.URL+"/debian/dists/noble/InRelease", nil))(t)
		req.Header.Set("If-Modified-Since", modified)
		again := must(http.DefaultClient.Do(req))(t)
		again.Body.Close()
		if modified != w.began.UTC().Format(http.TimeFormat) || again.StatusCode != http.StatusNotModified {
			t.Errorf("Last-Modified %q (upstream's is %s), and then %s", modified, w.began.UTC().Format(http.TimeFormat), again.Status)
		}
	})

	t.Run("a range", func(t *testing.T) {
		path, want := w.find("/hello_")
		whole, _ := w.node.get("/debian/" + path)
		req := must(http.NewRequest("GET", w.node.URL+"/debian/"+path, nil))(t)
		req.Header.Set("Range", "bytes=1000-")
		req.Header.Set("If-Range", whole.Header.Get("Last-Modified"))
		eventually(t, 5*time.Second, "the package was held and a part of it given", func() bool {
			resp := must(http.DefaultClient.Do(req))(t)
			defer resp.Body.Close()
			body := must(io.ReadAll(resp.Body))(t)
			if resp.StatusCode == http.StatusOK { // Last-Modified was not sent with the first, unproven answer
				req.Header.Set("If-Range", resp.Header.Get("Last-Modified"))
				return false
			}
			return resp.StatusCode == http.StatusPartialContent && string(body) == string(want[1000:])
		})
	})
}

// CONNECT goes to the hosts that are listed, and to no other.
func TestConnect(t *testing.T) {
	t.Parallel()
	echo := must(net.Listen("tcp", "127.0.0.1:0"))(t)
	defer echo.Close()
	go func() {
		for {
			c, err := echo.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c) // it ends with the connection
			}()
		}
	}()
	w := small(t, options{config: fmt.Sprintf("connect_allow: [%q]", echo.Addr())})
	for target, want := range map[string]string{
		echo.Addr().String(): "HTTP/1.1 200",
		w.server.URL[7:]:     "HTTP/1.1 403",
	} {
		c := must(net.Dial("tcp", w.node.Addrs[0]))(t)
		defer c.Close()
		if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", target, target)
		head := make([]byte, len(want))
		if _, err := io.ReadFull(c, head); err != nil || string(head) != want {
			t.Errorf("CONNECT %s: %q, %v; want %q", target, head, err, want)
			continue
		}
		if !strings.HasSuffix(want, "200") {
			continue
		}
		fmt.Fprint(c, "there and back")
		if err := c.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if rest, err := io.ReadAll(c); err != nil || !strings.HasSuffix(string(rest), "\r\n\r\nthere and back") {
			t.Errorf("the tunnel gave back %q, %v", rest, err)
		}
	}
}

// Hosts reach the node over IPv6, and over TLS.
func TestOtherListeners(t *testing.T) {
	t.Parallel()
	ca := testarchive.NewTLSServer(testarchive.New(1)) // for its certificate
	defer ca.Close()
	t.Run("IPv6", func(t *testing.T) {
		l, err := net.Listen("tcp", "[::1]:0")
		if err != nil {
			t.Skip("this machine has no IPv6 loopback: ", err)
		}
		l.Close()
		w := small(t, options{})
		w.node.stop()
		w.node.Addr = "[::1]:0"
		w.node.start()
		c := w.host("mapped", "URL noble main")
		c.runDownload(w)
	})
	t.Run("TLS", func(t *testing.T) {
		w := small(t, options{})
		w.node.stop()
		cert, key := newCertificate(t)
		w.node.Settings += fmt.Sprintf("\ntls: {listen: [\"127.0.0.1:0\"], cert: %q, key: %q}\n", cert, key)
		w.node.start()
		if len(w.node.Addrs) != 2 {
			t.Fatalf("it listens at %q", w.node.Addrs)
		}
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM(must(os.ReadFile(cert))(t))
		conn := must(tls.Dial("tcp", w.node.Addrs[1], &tls.Config{RootCAs: pool}))(t)
		conn.Close()
		c := newApt(t, w.archive.Keyring(), "deb [signed-by=KEYRING] https://"+w.node.Addrs[1]+"/debian noble main", fmt.Sprintf("Acquire::https::CaInfo %q;", cert))
		c.runDownload(w)
	})
}

// runDownload updates and downloads hello, and checks it.
func (c *apt) runDownload(w *world) {
	c.t.Helper()
	c.write("etc/apt/sources.list", strings.ReplaceAll(string(must(os.ReadFile(filepath.Join(c.root, "etc/apt/sources.list")))(c.t)), "deb-src", "# deb-src"))
	c.run("apt-get", "update")
	c.run("apt-get", "download", "hello")
	_, want := w.find("/hello_", ".deb")
	c.same("hello_1_amd64.deb", want)
}

// The commands that ask a running node.
func TestCommands(t *testing.T) {
	t.Parallel()
	w := small(t, options{})
	// `why` tells a URL of the node by the port that the configuration names, and 0 names none.
	w.node.stop()
	w.node.Addr = w.node.Addrs[0]
	w.node.start()
	w.readIndices()
	config := w.node.ConfigFile()
	path, _ := w.find("/hello_")
	for _, test := range []struct {
		args  []string
		wants []string
		code  int
	}{
		{[]string{"version"}, []string{"aptmesh"}, 0},
		{[]string{"status", "--config", config}, []string{"ready", "debian/dists/noble", "fresh"}, 0},
		{[]string{"why", "--config", config, w.node.URL + "/debian/" + path}, []string{"not stored", w.server.URL + "/" + path, "signed index"}, 0},
		{[]string{"why", "--config", config, "http://archive.example.org/debian/dists/noble/InRelease"}, []string{"stored", "generation"}, 0},
		{[]string{"why", "--config", config, "http://elsewhere.example.com/x"}, []string{"403 (unknown-host)"}, 1},
		{[]string{"refresh", "--config", config, "debian/noble"}, []string{"nothing newer"}, 0},
		{[]string{"drop", "--config", config, "debian/noble"}, []string{"debian/dists/noble: forgotten"}, 0},
		{[]string{"verify", "--config", config}, []string{"0 damaged"}, 0},
		{[]string{"config", "check", config}, []string{"good"}, 0},
		{[]string{"config", "show", config}, []string{"check_every", "stall_timeout"}, 0},
	} {
		t.Run(strings.Join(test.args[:1], " "), func(t *testing.T) {
			out, errs, code := w.node.run(test.args...)
			if code != test.code {
				t.Errorf("exit code %d: %s", code, errs)
			}
			for _, want := range test.wants {
				if !strings.Contains(out, want) {
					t.Errorf("%q is not in the output:\n%s%s", want, out, errs)
				}
			}
		})
	}
	t.Run("status as JSON", func(t *testing.T) {
		out, _, _ := w.node.run("status", "--json", "--config", config)
		var s status
		if err := json.Unmarshal([]byte(out), &s); err != nil || !s.Ready {
			t.Errorf("%v: %s", err, out)
		}
	})
	t.Run("refresh finds what is new", func(t *testing.T) {
		w.archive.AddPackage("noble", testarchive.Package{Name: "new", Version: "1"})
		w.archive.Publish(w.began.Add(time.Minute))
		w.refresh("noble")
	})
	t.Run("verify finds damage", func(t *testing.T) {
		_, want := w.find("/hello_")
		w.node.get("/debian/" + path)
		blob := filepath.Join(w.node.DataDir(), "blobs", testarchive.Sum(testarchive.SHA256, want)[:2], testarchive.Sum(testarchive.SHA256, want))
		eventually(t, 5*time.Second, "the package was stored", func() bool { _, err := os.Stat(blob); return err == nil })
		w.node.stop()

		damage(t, blob)
		out, _, code := w.node.run("verify", "--data", w.node.DataDir())
		if code != 1 || !strings.Contains(out, "damaged: "+filepath.Base(blob)) {
			t.Errorf("exit code %d: %s", code, out)
		}
		if out, _, code := w.node.run("verify", "--remove", "--data", w.node.DataDir()); code != 0 {
			t.Errorf("--remove: exit code %d: %s", code, out)
		}
		w.node.start()
		if _, got := w.node.get("/debian/" + path); string(got) != string(want) {
			t.Errorf("it was not fetched again: %d bytes", len(got))
		}
		eventually(t, 5*time.Second, "the package was stored again", func() bool {
			_, err := os.Stat(blob)
			return err == nil && len(w.node.status().Flights) == 0 // nobody joins a fetch that is over
		})
		if err := os.Truncate(blob, 1000); err != nil {
			t.Fatal(err)
		}
		if _, got := w.node.get("/debian/" + path); string(got) != string(want) {
			t.Errorf("with a file that was cut: %d bytes", len(got))
		}
	})
	w.node.Kill()
	if _, errs, code := w.node.run("status", "--config", config); code != 2 || !strings.Contains(errs, "aptmesh serve") {
		t.Errorf("status without a node: exit code %d: %s", code, errs)
	}
}

// damage turns a byte in the middle of a file.
func damage(t *testing.T, name string) {
	t.Helper()
	info := must(os.Stat(name))(t)
	b := must(os.ReadFile(name))(t)
	b[len(b)/2] ^= 0xff
	if err := os.WriteFile(name, b, info.Mode()); err != nil {
		t.Fatal(err)
	}
}

var sample = regexp.MustCompile(`^(aptmesh_\w+)(\{[^}]*\})? ([0-9.e+-]+|NaN|\+Inf)$`)

func TestMetrics(t *testing.T) {
	t.Parallel()
	w := small(t, options{})
	w.readIndices()
	names := make(map[string]bool)
	for line := range strings.Lines(string(w.node.adminGet("/metrics"))) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "aptmesh_") {
			continue
		}
		m := sample.FindStringSubmatch(line)
		if m == nil {
			t.Errorf("no sample: %s", line)
			continue
		}
		names[m[1]] = true
	}
	for _, want := range []string{
		"aptmesh_build_info", "aptmesh_front_requests_total", "aptmesh_front_sent_bytes_total", "aptmesh_upstream_received_bytes_total",
		"aptmesh_catalog_checks_total", "aptmesh_store_hits_total", "aptmesh_flights",
	} {
		if !names[want] {
			t.Errorf("there is no %s", want)
		}
	}
	if got := string(w.node.adminGet("/health")); got != "alive\n" {
		t.Errorf("/health says %q", got)
	}
}
