package config

import (
	"strings"
	"testing"

	"github.com/aptmesh/aptmesh/node/archives/archiveconf"
)

// Hosts are told an address that they can reach.
func TestHostURL(t *testing.T) {
	for _, tt := range []struct{ public, listen, addr, want string }{
		{"", ":3142", "[::]:3142", "http://box:3142"},
		{"", ":80", "0.0.0.0:80", "http://box:80"},
		{"", ":3142", "192.0.2.1:3142", "http://192.0.2.1:3142"},
		{"", ":3142", "[2001:db8::1]:3142", "http://[2001:db8::1]:3142"},
		{"", "", "192.0.2.1:3143", "https://192.0.2.1:3143"}, // TLS alone
		{"", ":3142", "", ""},
		{"http://cache.example.org:3142/", ":3142", "[::]:3142", "http://cache.example.org:3142"},
		{"http://cache.example.org", ":3142", "", "http://cache.example.org"},
	} {
		cfg := &Config{PublicURL: tt.public}
		var addrs []string
		if tt.listen != "" {
			cfg.Listen = []string{tt.listen}
		}
		if tt.addr != "" {
			addrs = []string{tt.addr}
		}
		if got, err := cfg.HostURLOn(addrs, "box"); got != tt.want || (err == nil) != (tt.want != "") {
			t.Errorf("%+v: %q, %v", tt, got, err)
		}
	}
}

// Nobody outside a container knows its name, so hosts are told no address that is made of it.
func TestHostURLInAContainer(t *testing.T) {
	for _, tt := range []struct{ public, addr, want string }{
		{"", "[::]:3142", ""},
		{"", "192.0.2.1:3142", "http://192.0.2.1:3142"},
		{"http://cache:3142", "[::]:3142", "http://cache:3142"},
	} {
		got, err := (&Config{PublicURL: tt.public, Listen: []string{":3142"}}).HostURLOn([]string{tt.addr}, "")
		if got != tt.want || tt.want == "" && (err == nil || !strings.Contains(err.Error(), "set public_url")) {
			t.Errorf("%+v: %q, %v", tt, got, err)
		}
	}
}

func TestPublicURL(t *testing.T) {
	for url, good := range map[string]bool{
		"": true, "http://cache:3142": true, "https://cache.example.org/": true, "http://[2001:db8::1]:3142": true,
		"cache:3142": false, "ftp://cache": false, "http://": false, "http://cache/apt": false, "http://a@cache": false, "http://cache?x": false,
		`http://cache";Dir::Bin "x`: false, "http://cache:port": false, `http://a"b:1`: false, "http://u:p@cache:3142": false, "http://cache:99999": false,
		"http://cache:0": false, "http://cache:": false, "http://0.0.0.0:3142": false, "http://[::]:3142": false, "http://$(id):3142": false, "http://a'b:3142": false,
		"http://a;b": false, "http://a`b`": false, "http://a%22b": false, "http://cache#x": false, "HTTP://Cache:3142": true, "http://-x:3142": false,
	} {
		cfg := Default()
		cfg.PublicURL = url
		a := archiveconf.New("a")
		a.Upstream, a.Unsigned = "http://example.org/a", true
		cfg.Archives = archiveconf.Archives{a}
		err := cfg.Validate()
		if (err == nil) != good || err != nil && !strings.Contains(err.Error(), "public_url: ") {
			t.Errorf("%s: %v", url, err)
		}
		if host, err := cfg.HostURL(nil); url != "" && ((err == nil) != good || good && (host != cfg.PublicURL || host != strings.TrimSuffix(strings.ToLower(url), "/"))) {
			t.Errorf("%s: hosts are told %q, %v", url, host, err)
		}
	}
}
