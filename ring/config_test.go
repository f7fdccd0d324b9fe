package ring

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"
)

func TestConfigIsChecked(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*Config)
		want   string // in the error; "" where there must be none
	}{
		{"as it is", func(*Config) {}, ""},
		{"no name", func(c *Config) { c.Name = "" }, "node name"},
		{"a name with a blank", func(c *Config) { c.Name = "a b" }, "node name"},
		{"a long name", func(c *Config) { c.Name = strings.Repeat("a", maxName+1) }, "node name"},
		{"the longest name", func(c *Config) { c.Name = strings.Repeat("a", maxName) }, ""},
		{"no cluster", func(c *Config) { c.Cluster = "" }, "cluster name"},
		{"a long cluster", func(c *Config) { c.Cluster = strings.Repeat("a", maxCluster+1) }, "cluster name"},
		{"no peer address", func(c *Config) { c.PeerAddr = "" }, "peer address"},
		{"no peer port", func(c *Config) { c.PeerAddr = "10.0.0.1" }, "peer address"},
		{"peer port 0", func(c *Config) { c.PeerAddr = "10.0.0.1:0" }, "peer address"},
		{"any peer address", func(c *Config) { c.PeerAddr = "[::]:3143" }, "peer address"},
		{"no peer host", func(c *Config) { c.PeerAddr = ":3143" }, "peer address"},
		{"a peer host by name", func(c *Config) { c.PeerAddr = "fra.cache.example:3143" }, ""},
		{"a long datacenter", func(c *Config) { c.Datacenter = strings.Repeat("d", 600) }, "bytes too many"},
		{"a datacenter of control characters", func(c *Config) { c.Datacenter = "a\nb" }, "datacenter"},
		{"a long version", func(c *Config) { c.Version = strings.Repeat("<", 100) }, "bytes too many"}, // JSON makes more of it
		{"a short key", func(c *Config) { c.Keys = [][]byte{testKey(1), make([]byte, 15)} }, "gossip key 2 of 2"},
		{"an empty seed", func(c *Config) { c.Seeds = []string{"a", ""} }, "seed"},
		{"a seed with a strange port", func(c *Config) { c.Seeds = []string{"a:b"} }, "seed"},
		{"a seed with port 0", func(c *Config) { c.Seeds = []string{"a:0"} }, "seed"},
		{"seeds", func(c *Config) { c.Seeds = []string{"a", "a:1", "::1", "[::1]", "[::1]:1", "10.0.0.1"} }, ""},
		{"no network", func(c *Config) { c.Allowed = []netip.Prefix{{}} }, "allowed networks"},
		{"a negative time", func(c *Config) { c.RejoinEvery = -time.Second }, "rejoin"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, c *cluster) {
				cfg := c.config("node1", addr(0))
				tt.change(&cfg)
				m, err := Start(cfg)
				if err == nil {
					m.Close()
				}
				if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
					t.Errorf("Start: %v, want %q", err, tt.want)
				}
			})
		})
	}
}

// TestProfileFits sees that the longest of everything finds room in a packet, with
// which memberlist would otherwise wait for ever.
func TestProfileFits(t *testing.T) {
	cfg := Config{Name: strings.Repeat("a", maxName), Cluster: strings.Repeat("c", maxCluster)}
	p := cfg.profile()
	const encryption, compound = 29, 4
	room := p.UDPBufferSize - 2 - maxCluster - encryption - compound
	// A message of memberlist's that carries metadata: that, a name, an address and
	// msgpack's field names.
	if most := 400 + maxName + 16 + 80; maxMeta > 400 || most > room {
		t.Errorf("%d bytes of an announcement, of %d", most, room)
	}
	if MaxMessage+10 > room {
		t.Errorf("a message does not fit in %d bytes", room)
	}
}

func TestSplitHost(t *testing.T) {
	for in, want := range map[string]string{
		"a": "a 7946", "a:1": "a 1", "10.0.0.1": "10.0.0.1 7946", "10.0.0.1:2": "10.0.0.1 2", "::1": "::1 7946", "[::1]": "::1 7946",
		"[::1]:3": "::1 3", ":4": " 4", "": " 7946", "a:b": "error", "a:70000": "error", "a:1:2": "error",
	} {
		host, port, err := splitHost(in, DefaultPort)
		got := host + " " + netip.AddrPortFrom(netip.IPv4Unspecified(), port).String()[len("0.0.0.0:"):]
		if err != nil {
			got = "error"
		}
		if got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestAdvertised(t *testing.T) {
	hosts := map[string][]string{"fra.example": {"203.0.113.7"}, "both.example": {"2001:db8::1", "203.0.113.9", "203.0.113.10"}, "none.example": nil}
	for _, tt := range []struct{ bound, advertise, want string }{
		{"10.0.0.1:7946", "", "10.0.0.1:7946"},
		{"[fd00::1]:5", "", "[fd00::1]:5"},
		{"10.0.0.1:7946", "203.0.113.5", "203.0.113.5:7946"},
		{"10.0.0.1:7946", "203.0.113.5:1", "203.0.113.5:1"},
		{"0.0.0.0:7946", "fra.example", "203.0.113.7:7946"},
		{"0.0.0.0:7946", "fra.example:99", "203.0.113.7:99"},
		{"10.0.0.1:7946", "both.example", "203.0.113.9:7946"},
		{"[::]:7946", "both.example", "[2001:db8::1]:7946"},
		{"[::]:7946", "2001:db8::2", "[2001:db8::2]:7946"},
		{"10.0.0.1:7946", "0.0.0.0", ""},
		{"10.0.0.1:7946", "fra.example:0", ""},
		{"10.0.0.1:7946", "none.example", ""},
		{"10.0.0.1:7946", "fra.example:x", ""},
	} {
		cfg := Config{Advertise: tt.advertise, Lookup: func(_ context.Context, host string) ([]netip.Addr, error) {
			var n names
			n.set(hosts[host]...)
			return n.of(t.Context(), host)
		}}
		cfg.setDefaults()
		got, err := cfg.advertised(t.Context(), netip.MustParseAddrPort(tt.bound))
		if err != nil && tt.want != "" || err == nil && got.String() != tt.want {
			t.Errorf("bound to %s, advertising %q: %v, %v, want %q", tt.bound, tt.advertise, got, err, tt.want)
		}
	}
}

// A machine without IPv4 listens on IPv6 and says so; what has both goes on as before.
func TestFamilyOfAllAddresses(t *testing.T) {
	hosts := map[string][]string{"v6.example": {"2001:db8::1"}, "both.example": {"2001:db8::1", "203.0.113.9"}, "mapped.example": {"::ffff:203.0.113.9"}, "none.example": nil}
	for _, tt := range []struct{ bind, advertise, want string }{
		{":7946", "203.0.113.5", "0.0.0.0:7946"},
		{":7946", "2001:db8::2", "[::]:7946"},
		{":7946", "v6.example", "[::]:7946"},
		{":7946", "both.example", "0.0.0.0:7946"},
		{":7946", "mapped.example", "0.0.0.0:7946"},
		{"0.0.0.0:7946", "v6.example", "0.0.0.0:7946"}, // as it was told
		{"[::]:7946", "both.example", "[::]:7946"},
		{"[2001:db8::1]:7946", "", "[2001:db8::1]:7946"},
	} {
		cfg := Config{Bind: tt.bind, Advertise: tt.advertise, Lookup: func(_ context.Context, host string) ([]netip.Addr, error) {
			var n names
			n.set(hosts[host]...)
			return n.of(t.Context(), host)
		}}
		cfg.setDefaults()
		if got, err := cfg.bindTo(t.Context()); err != nil || got.String() != tt.want {
			t.Errorf("bound to %q, advertising %q: %v, %v, want %s", tt.bind, tt.advertise, got, err, tt.want)
		}
	}
}

func TestIPv6Of(t *testing.T) {
	for _, tt := range []struct {
		addrs []string
		want  string
	}{
		{[]string{"127.0.0.1/8", "::1/128", "fe80::1/64"}, ""},
		{[]string{"::1/128", "fe80::1/64", "2001:db8::5/64", "fd00::2/64", "fd00::3/64"}, "fd00::2"},
		{[]string{"2001:db8::5/64", "2001:db8::6/64"}, "2001:db8::5"},
		{[]string{"192.0.2.1/24", "ff02::1/16"}, ""},
	} {
		var addrs []net.Addr
		for _, text := range tt.addrs {
			ip, network, err := net.ParseCIDR(text)
			if err != nil {
				t.Fatal(err)
			}
			addrs = append(addrs, &net.IPNet{IP: ip, Mask: network.Mask})
		}
		got := ""
		if own := ipv6Of(addrs); own.IsValid() {
			got = own.String()
		}
		if got != tt.want {
			t.Errorf("of %v: %q, want %q", tt.addrs, got, tt.want)
		}
	}
}

func TestWithin(t *testing.T) {
	nets := networks([]netip.Prefix{netip.MustParsePrefix("10.1.2.3/8"), netip.MustParsePrefix("fd00::/8"), netip.MustParsePrefix("::ffff:192.168.0.0/112")})
	for ip, want := range map[string]bool{
		"10.9.9.9": true, "::ffff:10.9.9.9": true, "11.0.0.1": false, "fd12::1": true, "fe80::1%eth0": false, "192.168.3.4": true, "192.169.0.1": false,
	} {
		if got := within(nets, netip.MustParseAddr(ip)); got != want {
			t.Errorf("%s: %v", ip, got)
		}
	}
	if !within(nil, netip.MustParseAddr("8.8.8.8")) {
		t.Error("without networks, not all are allowed")
	}
}
