package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestExceptions reads the file as it is, and rejects what is no exception.
func TestExceptions(t *testing.T) {
	all, err := exceptions()
	if err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]bool)
	for _, e := range all {
		if key := e.test + " " + e.modes; seen[key] {
			t.Errorf("%s stands there twice", key)
		} else {
			seen[key] = true
		}
	}
	for _, bad := range []string{
		"a | proxy | 1 | i",             // no reason
		"a | proxy | 1 | i |",           // an empty one
		"a | proxy | 1 | iii | a fault", // faults are mended
		"a | proxy | many | i | why",
		"a | proxy | 1 late | i | why",
		"a | [ | 1 | i | why",
	} {
		if _, err := parseExceptions(bad); err == nil {
			t.Errorf("%q is taken for an exception", bad)
		}
	}
}

func TestFault(t *testing.T) {
	all, err := parseExceptions("# a comment\n\none | proxy* | 2 | i | why\none | mapped | 1 early | ii | why not\nthree | * | 9 | i | why\n")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		r     result
		fault bool
	}{
		{result{Test: "test-one", Mode: "proxy", Failed: 2}, false},
		{result{Test: "test-one", Mode: "proxy-unsigned", Failed: 2}, false},
		{result{Test: "test-one", Mode: "proxy", Failed: 3}, true},
		{result{Test: "test-one", Mode: "proxy", Failed: 1, Early: true}, true},
		{result{Test: "test-one", Mode: "proxy", Failed: 1, Hangs: 1}, true},
		{result{Test: "test-one", Mode: "proxy", Ended: "time limit"}, true},
		{result{Test: "test-one", Mode: "mapped", Failed: 1, Early: true}, false},
		{result{Test: "test-one", Mode: "direct", Failed: 1}, true},
		{result{Test: "test-two", Mode: "proxy", Failed: 1}, true},
		{result{Test: "test-two", Mode: "proxy"}, false},
		{result{Test: "test-three", Mode: "mapped", Failed: 1}, false},
		{result{Test: "test-three", Mode: "direct", Failed: 1}, true}, // no node, no excuse
	} {
		if got := c.r.fault(all) != ""; got != c.fault {
			t.Errorf("%+v: a fault: %t, want %t", c.r, got, c.fault)
		}
	}
}

// TestCount reads verdicts as the tests' framework writes them.
func TestCount(t *testing.T) {
	log := "Test for successful execution of apt-get update … PASS\n" +
		"Test for failure in execution of apt-get update … \nE: unfinished lineFAIL: exitcode 0\n" +
		"Test that PASS is no verdict here … FAIL\n" +
		"Test of equality of x … PASS\n"
	var r result
	r.count([]byte(log), 2)
	if r.Passed != 2 || r.Failed != 2 || r.Early {
		t.Errorf("got %+v", r)
	}
	r = result{}
	r.count([]byte("Test … PASS\n"), 1)
	if r.Failed != 1 || !r.Early {
		t.Errorf("a test that ends with an error after good checks: %+v", r)
	}
}

func TestModes(t *testing.T) {
	for _, name := range []string{"direct", "proxy", "mapped", "proxy-unsigned", "mapped-unsigned-warm"} {
		if m, err := parseMode(name); err != nil || m.String() != name {
			t.Errorf("%s is read as %s, %v", name, m, err)
		}
	}
	for _, name := range []string{"", "unsigned", "direct-warm", "proxy-hot"} {
		if _, err := parseMode(name); err == nil {
			t.Errorf("%q is taken for a mode", name)
		}
	}
}

func TestSourceLines(t *testing.T) {
	in := "# a comment\ndeb http://archive.ubuntu.com/ubuntu noble main\ndeb-src http://archive.ubuntu.com/ubuntu noble main\n" +
		"Types: deb\nURIs: http://archive.ubuntu.com/ubuntu\n"
	want := "# a comment\ndeb-src http://archive.ubuntu.com/ubuntu noble main\ndeb-src http://archive.ubuntu.com/ubuntu noble main\n" +
		"Types: deb-src\nURIs: http://archive.ubuntu.com/ubuntu\n"
	if got := sourceLines(in); got != want {
		t.Errorf("got\n%s", got)
	}
}

// TestEditFramework runs an edited framework: its programs ask for an empty node where they must, and
// the port that the test knows is the relay's.
func TestEditFramework(t *testing.T) {
	framework := `
runapt() {
	echo "ran $*"
}
msgdie() { echo "died: $*"; exit 1; }
server() {
		APTHTTPPORT="$(cat aptwebserver.port)"
}
`
	edited, err := editFramework(framework)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	hook := "#!/bin/sh\necho \"hook $*\" >&2\ntest \"$2\" = fresh || echo APTHTTPPORT=4321\n"
	for name, text := range map[string]string{"hook": hook, "aptwebserver.port": "1234\n", "framework": edited} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	script := `set -e; . ./framework; TMPWORKINGDIRECTORY=/root-of-test
server; echo "$APTHTTPPORT"
runapt apt-get update
runapt apt-get install x
runapt apt-helper download-file http://localhost:1/file
runapt apt-helper download-file http://localhost:1/_config/set/a/b`
	cmd := exec.Command("sh", "-c", script)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), envProgram+"="+filepath.Join(dir, "hook"))
	out, err := cmd.CombinedOutput()
	want := `hook hook between 1234 /root-of-test
4321
hook hook fresh
ran apt-get update
ran apt-get install x
hook hook fresh
ran apt-helper download-file http://localhost:1/file
ran apt-helper download-file http://localhost:1/_config/set/a/b
`
	if err != nil || string(out) != want {
		t.Errorf("%v, got\n%s\nwant\n%s", err, out, want)
	}
	if _, err := editFramework(strings.Replace(framework, "runapt", "runotherwise", 1)); err == nil {
		t.Error("a framework of another version is edited all the same")
	}
}

// TestRelay sends apt's requests through a relay, one behind the other on one connection.
func TestRelay(t *testing.T) {
	for _, mapped := range []bool{false, true} {
		t.Run(fmt.Sprintf("mapped=%t", mapped), func(t *testing.T) {
			var options []string
			origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if path := r.URL.EscapedPath(); path != lastStatus {
					options = append(options, path)
				}
			}))
			defer origin.Close()
			node := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if strings.HasSuffix(r.URL.Path, "/missing") {
					w.WriteHeader(http.StatusNotFound)
				}
				io.WriteString(w, r.RequestURI)
			}))
			defer node.Close()
			r := &relay{origin: origin.Listener.Addr().String(), node: node.Listener.Addr().String}
			if mapped {
				r.prefix = "/suite"
			}
			if err := r.start(); err != nil {
				t.Fatal(err)
			}
			defer r.close()
			conn, err := net.Dial("tcp", r.listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			target, want := "http://localhost:1", "http://localhost:1"
			if mapped {
				target, want = "", "/suite"
			}
			itself := "http://localhost:" + r.port() // as the proxy of the archive at the same address
			fmt.Fprintf(conn, "GET %s/a HTTP/1.1\r\nHost: x\r\n\r\nGET %s/b HTTP/1.1\r\nHost: x\r\n\r\nGET %s/missing HTTP/1.1\r\nHost: x\r\n\r\n", target, itself, target)
			in := bufio.NewReader(conn)
			for _, name := range []string{want + "/a", itself + r.prefix + "/b", want + "/missing"} {
				resp, err := http.ReadResponse(in, nil)
				if err != nil {
					t.Fatal(err)
				}
				if body, err := io.ReadAll(resp.Body); string(body) != name {
					t.Errorf("the node was asked for %q, %v, not %q", body, err, name)
				}
			}
			conn.Close()

			url := "http://" + r.listener.Addr().String()
			// The relay reads an answer while it passes it on, so it may know the status a moment later than we do.
			deadline := time.Now().Add(5 * time.Second)
			for got := get(t, url+lastStatus); got != "404"; got = get(t, url+lastStatus) {
				if time.Now().After(deadline) {
					t.Fatalf("the last status is %q", got)
				}
			}
			get(t, url+"/_config/set/a::b/http:%2f%2flocalhost:"+r.port()+"%2f")
			port := r.port()
			if mapped {
				_, port, _ = net.SplitHostPort(r.origin)
			}
			if want := "/_config/set/a::b/http:%2F%2Flocalhost:" + port + "%2F"; len(options) != 1 || !strings.EqualFold(options[0], want) {
				t.Errorf("the web server was told %q, not %q", options, want)
			}
			if got := get(t, url+lastStatus); got != "200" {
				t.Errorf("after that the last status is %q", got)
			}
		})
	}
}

// What a node says in the status line of a 404 is left out, however the bytes come; nothing else changes.
func TestUsual404(t *testing.T) {
	for in, want := range map[string]string{
		"HTTP/1.1 404 Not Found: no such suite\r\nA: b\r\n\r\n":                                            "HTTP/1.1 404 Not Found\r\nA: b\r\n\r\n",
		"HTTP/1.1 404 Not Found\r\nA: b\r\n\r\nHTTP/1.1 404 Not F":                                         "HTTP/1.1 404 Not Found\r\nA: b\r\n\r\nHTTP/1.1 404 Not F",
		"HTTP/1.1 403 no\r\n\r\nHTTP/1.1 404 Not Found: x\r\n\r\nHTTP/1.1 404 Not Found: y\r\n\r\nbodyHTT": "HTTP/1.1 403 no\r\n\r\nHTTP/1.1 404 Not Found\r\n\r\nHTTP/1.1 404 Not Found\r\n\r\nbodyHTT",
	} {
		for size := 1; size <= len(in); size++ {
			var got strings.Builder
			u := &usual404{to: &got}
			for part := range slices.Chunk([]byte(in), size) {
				if n, err := u.Write(part); n != len(part) || err != nil {
					t.Fatal(n, err)
				}
			}
			u.flush()
			if got.String() != want {
				t.Fatalf("in parts of %d: %q, want %q", size, got.String(), want)
			}
		}
	}
}

// TestRelayAborted has a node break off, which apt must see.
func TestRelayAborted(t *testing.T) {
	node := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		io.WriteString(w, "begun")
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}))
	defer node.Close()
	r := &relay{origin: "127.0.0.1:1", node: node.Listener.Addr().String}
	if err := r.start(); err != nil {
		t.Fatal(err)
	}
	defer r.close()
	resp, err := http.Get("http://" + r.listener.Addr().String() + "/a")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); string(body) != "begun" || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %q, %v", body, err)
	}
}

// get returns a body; each request has a connection of its own, as each apt-helper has.
func get(t *testing.T, url string) string {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// TestDocument writes the page of a test that ran in one mode only, and of one that has a fault.
func TestDocument(t *testing.T) {
	all, err := parseExceptions("one | proxy | 2 | i | because of this\n")
	if err != nil {
		t.Fatal(err)
	}
	modes := []mode{{between: "direct"}, {between: "proxy"}}
	page := document("1.2", []string{"test-one", "test-two"}, modes, []result{
		{Test: "test-one", Mode: "direct", Passed: 7},
		{Test: "test-one", Mode: "proxy", Passed: 5, Failed: 2},
		{Test: "test-two", Mode: "proxy", Passed: 1, Hangs: 1},
	}, all)
	for _, line := range []string{
		"| test | checks | direct | proxy | class | why |",
		"| one | 7 | ok | 2 | i | because of this |",
		"| two | ? | – | **hangs** |  |  |",
		"| **all checks pass** | 2 tests | 1 of 1 | 0 of 2 | | |",
	} {
		if !strings.Contains(page, line+"\n") {
			t.Errorf("the page lacks %q:\n%s", line, page)
		}
	}
}
