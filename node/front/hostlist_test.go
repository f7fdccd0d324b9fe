package front

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// fakeLists has a list beside each InRelease.
type fakeLists struct{}

func (fakeLists) Of(path string) string {
	if dir, ok := strings.CutSuffix(path, "/hostlist"); ok {
		return dir + "/InRelease"
	}
	return ""
}

func (fakeLists) Write(url string, root []byte, date time.Time) (text, contentType string) {
	return fmt.Sprintf("%s of %s at %s", url, root, date.Format(time.DateOnly)), "text/x-list"
}

// TestHostLists: the node writes the list that a host asks for beside a repository, of the root that the host would get, with
// the URL by which the host reaches the node.
func TestHostLists(t *testing.T) {
	const path = "/ubuntu/dists/noble/hostlist"
	start := func(change ...func(*Config)) *testFront {
		return startFront(t, append([]func(*Config){func(c *Config) {
			c.Archives[0].HostLists = fakeLists{}
			c.Lists = []List{
				{URL: mustURL(t, "https://lists.example.org/metalink?repo=noble&arch=amd64"), Archive: "ubuntu", Path: "dists/noble/hostlist", At: "http://archive.ubuntu.com/ubuntu/dists/noble/hostlist"},
				{URL: mustURL(t, "https://lists.example.org/metalink?repo=gone"), Archive: "ubuntu", Path: "dists/gone/hostlist", At: "x"},
			}
		}}, change...)...)
	}
	d := start()
	d.has(rootPath, []byte("root"), "stream")
	for _, tc := range []struct {
		name, target, host string
		want               string
	}{
		{"by its name", path, "node.example.org:3142", "200 http://node.example.org:3142" + path + " of root at 2026-11-20"},
		{"with a query", path + "?countme=1&repo=x", "node", "200 http://node" + path + " of root"},
		{"as a proxy", "http://archive.ubuntu.com" + path, "archive.ubuntu.com", "200 http://archive.ubuntu.com" + path + " of root"},
		{"a list of the configuration", "http://lists.example.org/metalink?arch=amd64&repo=noble&countme=2", "x", "200 http://archive.ubuntu.com/ubuntu/dists/noble/hostlist of root"},
		{"that of another repository", "http://lists.example.org/metalink?arch=amd64&repo=jammy", "x", "403 this is no open proxy"},
		{"one without a repository", "http://lists.example.org/metalink?repo=gone", "x", "404"},
	} {
		got := d.raw("GET " + tc.target + " HTTP/1.1\nHost: " + tc.host + "\nConnection: close\n\n")
		status, text, _ := strings.Cut(tc.want, " ")
		if !strings.HasPrefix(got, "HTTP/1.1 "+status) || !strings.Contains(got, text) || status == "200" && !strings.Contains(got, "Content-Type: text/x-list\r\n") {
			t.Errorf("%s: %s", tc.name, got)
		}
	}
	if r, body := d.ask("HEAD", path); r.StatusCode != 200 || body != "" || r.ContentLength < 20 || r.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("HEAD: %d %q %v", r.StatusCode, body, r.Header)
	}
	if e := d.Explain(path); e.ListOf != rootPath {
		t.Errorf("%+v", e)
	}

	// With nothing beside it, it is a file like any other.
	d.has("tools/hostlist", []byte("theirs"), "bytes")
	if r, body := d.ask("GET", "/ubuntu/tools/hostlist"); r.StatusCode != 200 || body != "theirs" {
		t.Errorf("a file: %d %q", r.StatusCode, body)
	}
	// Upstream being down is no reason to say that there is no list.
	d.catalog.discover = func(context.Context, proto.Location, bool) (proto.Resolution, error) {
		return proto.Resolution{}, &proto.Unavailable{Reason: "no route", Err: errors.New("x")}
	}
	if r, _ := d.ask("GET", "/ubuntu/dists/trixie/hostlist"); r.StatusCode != 503 {
		t.Errorf("upstream is down: %d", r.StatusCode)
	}

	public := start(func(c *Config) { c.PublicURL = "https://cache.example.org/" })
	public.has(rootPath, []byte("root"), "bytes")
	if r, body := public.ask("GET", path); r.StatusCode != 200 || !strings.HasPrefix(body, "https://cache.example.org"+path+" of root") {
		t.Errorf("with public_url: %d %q", r.StatusCode, body)
	}
	closed := start(func(c *Config) { c.Archives[0].Deny = prefixes("127.0.0.2/32") })
	closed.has(rootPath, []byte("root"), "bytes")
	if got := closed.from("127.0.0.2", "GET "+path+" HTTP/1.1\nHost: x\nConnection: close\n\n"); !strings.HasPrefix(got, "HTTP/1.1 403") {
		t.Errorf("a client that may not have the archive: %s", got)
	}
}
