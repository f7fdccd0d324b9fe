package differential

import (
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"

	"github.com/aptmesh/aptmesh/e2e/lab"
)

// forwarders are what stands in the place of nodes with -control: they pass on what they
// are asked, mapped or as a proxy, and know nothing of apt.
func forwarders(t *testing.T, count int, urls map[string]string) (all []*node) {
	for range count {
		server := httptest.NewServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
			if r.In.URL.IsAbs() {
				return
			}
			name, rest, _ := strings.Cut(strings.TrimPrefix(r.In.URL.EscapedPath(), "/"), "/")
			if to, ok := urls[name]; ok {
				r.Out.URL, _ = url.Parse(to + "/" + rest) // it came from a URL
				r.Out.Host = ""
			}
		}})
		t.Cleanup(server.Close)
		all = append(all, &node{url: server.URL, log: new(lab.Output)})
	}
	return all
}

// Differences are seen: each of these observations differs from the good one in one point.
func TestDifferences(t *testing.T) {
	good := func() observation {
		return observation{
			exit:       map[string]int{"apt-get update": 0, "apt-get download": 0},
			complaints: map[string][]string{"apt-get update": {"W: Invalid 'Date' entry"}},
			packages:   []string{"hello 1.0 amd64"},
			lists:      map[string]string{"URL_dists_noble_InRelease": "9 bytes"},
			files:      map[string]string{"hello_1.0_amd64.deb": "5 bytes"},
		}
	}
	if d := differences(good(), good()); len(d) > 0 {
		t.Errorf("two equal observations differ: %q", d)
	}
	for name, spoil := range map[string]func(*observation){
		"exit code":          func(o *observation) { o.exit["apt-get update"] = 100 },
		"a further warning":  func(o *observation) { o.complaints["apt-get update"] = append(o.complaints["apt-get update"], "E: no") },
		"a missing warning":  func(o *observation) { o.complaints["apt-get update"] = nil },
		"a missing package":  func(o *observation) { o.packages = nil },
		"an older package":   func(o *observation) { o.packages[0] = "hello 0.9 amd64" },
		"a missing list":     func(o *observation) { o.lists = nil },
		"another list":       func(o *observation) { o.lists["URL_dists_noble_InRelease"] = "8 bytes" },
		"a missing file":     func(o *observation) { o.files = map[string]string{} },
		"another file":       func(o *observation) { o.files["hello_1.0_amd64.deb"] = "4 bytes" },
		"one file too many":  func(o *observation) { o.files["x"] = "1 bytes" },
		"the only exit code": func(o *observation) { o.exit["apt-get download"] = -1 },
	} {
		ours := good()
		spoil(&ours)
		if d := differences(good(), ours); len(d) == 0 {
			t.Errorf("%s is no difference", name)
		}
	}
}

// Kinds of complaints are told apart by their words, not by addresses and counts.
func TestKinds(t *testing.T) {
	said := `Err:1 http://127.0.0.1:7/a noble InRelease
W: Invalid 'Date' entry in Release file /tmp/r/state/lists/127.0.0.1:7_a_dists_noble_InRelease
E: Failed to fetch http://127.0.0.1:7/a/pool/x.deb  404  Not Found [IP: 127.0.0.1 7]
E: Failed to fetch http://127.0.0.1:7/a/pool/x.deb  503  later [IP: 127.0.0.1 7]
`
	got := strings.Join(kinds(said, "/tmp/r", "http://127.0.0.1:7/a"), "\n")
	want := "E: Failed to fetch URL/pool/x.deb\nW: Invalid 'Date' entry in Release file ROOT/state/lists/URL_dists_noble_InRelease"
	if got != want {
		t.Errorf("kinds:\n%s\nwant:\n%s", got, want)
	}
}
