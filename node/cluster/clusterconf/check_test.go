package clusterconf

import (
	"slices"
	"strings"
	"testing"

	"github.com/aptmesh/aptmesh/node/config/keys"
)

// What is wrong with a section, by what it has and lacks. The files themselves are looked at in the tests
// of node/config.
func TestCheck(t *testing.T) {
	whole := Settings{Name: "prod", GossipListen: ":7946", PeerListen: ":3143", GossipKey: "g", CA: "a", Cert: "c", Key: "k"}
	with := func(change func(*Settings)) Settings { s := whole; change(&s); return s }
	const host = "fra1"
	for name, tt := range map[string]struct {
		s           Settings
		given, host string
		want        []string // each a part of a problem or warning, in order
	}{
		"alone":                  {Settings{}, "", host, nil},
		"alone, any host":        {Settings{}, "", "a b", nil},
		"alone, badly named":     {Settings{}, "a b", host, []string{"name: "}},
		"alone, with seeds":      {Settings{Seeds: []string{"x"}}, "", host, []string{"cluster.name: is missing: without it this node stands alone, and cluster.seeds means nothing"}},
		"alone, with a key":      {Settings{Key: "k"}, "", host, []string{"cluster.key means nothing"}},
		"whole":                  {whole, "", host, nil},
		"of another machine":     {whole, "", "a b", nil}, // its own host's name counts there
		"badly named":            {whole, "a b", host, []string{"name: "}},
		"gossip at a name":       {with(func(s *Settings) { s.GossipListen = "fra1:7946" }), "", host, []string{"cluster.gossip_listen: "}},
		"one file missing":       {with(func(s *Settings) { s.CA = "" }), "", host, []string{"there is no ca: "}},
		"keys and insecure":      {with(func(s *Settings) { s.Insecure = true }), "", host, []string{"cluster.insecure: is true, yet"}},
		"open":                   {Settings{Name: "prod", GossipListen: ":7946", PeerListen: "127.0.0.1:3143"}, "", host, []string{`cluster: other machines may reach ":7946", and without keys`}},
		"open, and meant so":     {Settings{Name: "prod", GossipListen: ":7946", PeerListen: ":3143", Insecure: true}, "", host, []string{`everybody who reaches ":7946" or ":3143" is trusted`}},
		"without keys, loopback": {Settings{Name: "prod", GossipListen: "127.0.0.1:7946", PeerListen: "[::1]:3143"}, "", host, nil},
	} {
		c := &keys.Checker{NoFiles: true}
		Check(c, tt.s, tt.given, tt.host)
		found := slices.Concat(c.Problems, c.Warnings)
		if len(found) != len(tt.want) {
			t.Errorf("%s: %v, want %q", name, found, tt.want)
			continue
		}
		for i, want := range tt.want {
			if !strings.Contains(found[i].Message, want) {
				t.Errorf("%s: %q, want %q", name, found[i].Message, want)
			}
		}
	}
	// A name that the machine gives must do, if the machine is this one.
	c := &keys.Checker{}
	Check(c, Settings{Name: "prod", GossipListen: "127.0.0.1:1", PeerListen: "127.0.0.1:2"}, "", "a b")
	if len(c.Problems) != 1 || !strings.HasPrefix(c.Problems[0].Message, "name: is missing, and the host's name will not do: ") {
		t.Errorf("a host whose name will not do: %v", c.Problems)
	}
}

func TestSeedProblem(t *testing.T) {
	for text, want := range map[string]string{
		"ams1": "", "ams1:7946": "", "10.0.0.1": "", "2001:db8::1": "", "[2001:db8::1]:7946": "",
		"http://ams1": "is a URL", "ams1:": "is not a host", "ams1:0": "from 1 to 65535", "a b": "is not a host",
	} {
		if got := SeedProblem(text); !strings.Contains(got, want) || (got == "") != (want == "") {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}
