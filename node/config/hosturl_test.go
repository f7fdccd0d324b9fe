package config

import (
	"strings"
	"testing"
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
		if got := cfg.hostURL(addrs, "box"); got != tt.want {
			t.Errorf("%+v: %q", tt, got)
		}
	}
}

func TestPublicURL(t *testing.T) {
	for url, good := range map[string]bool{
		"": true, "http://cache:3142": true, "https://cache.example.org/": true, "http://[2001:db8::1]:3142": true,
		"cache:3142": false, "ftp://cache": false, "http://": false, "http://cache/apt": false, "http://a@cache": false, "http://cache?x": false,
		`http://cache";Dir::Bin "x`: false, "http://cache:port": false,
	} {
		cfg := Default()
		cfg.PublicURL = url
		a := NewArchive("a")
		a.Upstream, a.Unsigned = "http://example.org/a", true
		cfg.Archives = []Archive{a}
		err := cfg.Validate()
		if (err == nil) != good || err != nil && !strings.Contains(err.Error(), "public_url: ") {
			t.Errorf("%s: %v", url, err)
		}
	}
}
