package config

import (
	"cmp"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Config is the configuration of one node: what the YAML file says, with the
// defaults in place of what it leaves out. It is a plain value; Load and
// Auto make checked ones. Every path in it is absolute, or relative to the
// working directory.
type Config struct {
	// Name is how this node calls itself, in its cluster above all; "" is the
	// host's name. NodeName has the answer.
	Name string `yaml:"name"`
	// Listen holds the addresses of the plain HTTP door, "host:port" or ":port"
	// for every address of the machine, IPv4 and IPv6.
	Listen []string `yaml:"listen"`
	// TLS is an additional door that speaks HTTPS; off unless it has addresses.
	TLS TLS `yaml:"tls"`
	// PublicURL is where hosts reach this node, for all that is printed for hosts: "http://cache.example.org:3142".
	// "" takes the machine's name and the port of Listen.
	PublicURL string `yaml:"public_url"`
	// Admin is the address of the admin interface: "host:port" or "unix:/path";
	// "" switches it off. TCP takes no changes without AdminTokenFile; they are taken
	// at a socket below State.
	Admin string `yaml:"admin"`
	// AdminTokenFile holds the token that allows changes over TCP; "" is none.
	AdminTokenFile string `yaml:"admin_token_file"`
	// ReadyListen is an address that serves /ready and /health alone, for load
	// balancers; "" is none.
	ReadyListen string `yaml:"ready_listen"`
	// Data is the directory of the cache: what can be fetched or derived again.
	Data string `yaml:"data"`
	// State is the directory of what cannot: which generations this node believes, what
	// its clients use, the last good lists of mirrors. "" is a directory inside Data;
	// StateDir has the answer. A loaded configuration always has a State.
	State string `yaml:"state"`
	// StateGiven says that the configuration file names State, so that another Data
	// does not change it.
	StateGiven bool `yaml:"-"`
	// Cache bounds what the node keeps.
	Cache Cache `yaml:"cache"`
	// Offline has the node ask no upstream at all: it serves only what it holds.
	Offline bool `yaml:"offline"`
	// Archives lists the archives this node serves, in the order of the file.
	Archives []Archive `yaml:"archives"`
	// UpstreamClient says how archives are asked.
	UpstreamClient UpstreamClient `yaml:"upstream_client"`
	// Stale says how long what is held is served when no upstream answers.
	Stale Stale `yaml:"stale"`
	// Prefetch says what is fetched before anybody asks.
	Prefetch Prefetch `yaml:"prefetch"`
	// Clients says who may come in, and how much each address may take.
	Clients Clients `yaml:"clients"`
	// ConnectAllow lists the "host:port" that clients may reach by CONNECT. Such
	// traffic is passed through, not cached.
	ConnectAllow []string `yaml:"connect_allow"`
	// Cluster makes this node one of several that act as one cache.
	Cluster Cluster `yaml:"cluster"`
	// Retain says how long superseded generations stay readable.
	Retain Retain `yaml:"retain"`
	// Log says what is logged, and how.
	Log Log `yaml:"log"`
	// Drain says how the node stops.
	Drain Drain `yaml:"drain"`
}

// TLS is the HTTPS door. Listen empty means that there is none.
type TLS struct {
	Listen []string `yaml:"listen"`
	// Cert and Key are PEM files: the certificate chain and its private key.
	Cert string `yaml:"cert"`
	Key  string `yaml:"key"`
}

// Cache bounds what the node keeps.
type Cache struct {
	// MaxSize caps the bytes on disk: a size, or a share of the file system.
	MaxSize SizeLimit `yaml:"max_size"`
	// Memory caps the bytes of small hot objects held in memory.
	Memory Size `yaml:"memory"`
	// Scrub is how many bytes per second the background check of the stored
	// objects reads; 0 switches it off.
	Scrub Size `yaml:"scrub"`
}

// UpstreamClient says how archives are asked.
type UpstreamClient struct {
	// ConnectionsPerHost caps the connections to one upstream host.
	ConnectionsPerHost int `yaml:"connections_per_host"`
	// Rate caps what is fetched from all upstreams, in bytes per second; 0 is
	// no cap.
	Rate Size `yaml:"rate"`
	// RateFloor is the speed in bytes per second below which a transfer goes on
	// from another mirror of its archive, if a better one is believed to be there;
	// 0 lets every transfer take its time.
	RateFloor Size `yaml:"rate_floor"`
	// InternalAllow are networks inside, as CIDRs or addresses, that redirects and
	// lists of mirrors may lead to although no upstream is there.
	InternalAllow []string `yaml:"internal_allow"`
	// Proxy is the URL of a parent proxy. "" takes http_proxy, https_proxy and
	// no_proxy from the environment; "direct" uses none whatever they say.
	Proxy string `yaml:"proxy"`
	// StallTimeout gives up on a body that stops flowing for so long.
	StallTimeout time.Duration `yaml:"stall_timeout"`
	// HeaderTimeout bounds the wait for an answer to begin.
	HeaderTimeout time.Duration `yaml:"header_timeout"`
	// ConnectTimeout bounds the wait for a connection.
	ConnectTimeout time.Duration `yaml:"connect_timeout"`
	// AuthConf lists files in the format of apt_auth.conf(5). One that does not
	// exist counts as empty.
	AuthConf []string `yaml:"auth_conf"`
}

// Stale says what happens when a suite's Release cannot be renewed: it is
// served past its Valid-Until for a while, and the operator hears of it before.
type Stale struct {
	// ServeExpired is how long past Valid-Until, and how long after upstream last confirmed it an
	// unlisted file is served; ServeExpiredSecurity is the same
	// for suites that carry security updates. 0 is not at all.
	ServeExpired         time.Duration `yaml:"serve_expired"`
	ServeExpiredSecurity time.Duration `yaml:"serve_expired_security"`
	// WarnBefore is how long before Valid-Until the alarm is raised.
	WarnBefore time.Duration `yaml:"warn_before"`
}

// Prefetch says what is fetched before anybody asks: when a generation takes
// the place of another, the new versions of the packages that hosts use here.
type Prefetch struct {
	Enabled bool `yaml:"enabled"`
	// MaxBytes bounds what is fetched ahead for one generation.
	MaxBytes Size `yaml:"max_bytes"`
	// UsedWithin is how long a package counts as used after a host took it.
	UsedWithin time.Duration `yaml:"used_within"`
}

// Clients says who may come in at the door, and how much each address may
// take. The admin interface is not behind this door.
type Clients struct {
	// Allow and Deny list networks, as prefixes or single addresses: with an empty
	// Allow everybody may come in whom Deny does not name. networks reads
	// them.
	Allow []string `yaml:"allow"`
	Deny  []string `yaml:"deny"`
	// Connections caps the connections of one address; 0 is no cap.
	Connections int `yaml:"connections"`
	// Rate caps what one address is sent, in bytes per second; 0 is no cap.
	Rate Size `yaml:"rate"`
}

// Cluster makes a node one of several that act as one cache. With Name ""
// the node stands alone and the rest means nothing.
type Cluster struct {
	// Name keeps clusters apart: nodes of another name are not let in.
	Name string `yaml:"name"`
	// Datacenter is a label for people; "" is the node's name. Config.Datacenter
	// has the answer.
	Datacenter string `yaml:"datacenter"`
	// GossipListen is the address of gossip, UDP and TCP: "host:port" or ":port".
	GossipListen string `yaml:"gossip_listen"`
	// PeerListen is the address the other nodes fetch from, TCP.
	PeerListen string `yaml:"peer_listen"`
	// Advertise is the host or IP address at which the others reach this node's
	// Gossip and Peer; "" picks an address of the machine.
	Advertise string `yaml:"advertise"`
	// Seeds are other nodes, "host" or "host:port" (of Gossip); one that answers
	// is enough. The node itself may be among them.
	Seeds []string `yaml:"seeds"`
	// GossipKey is a file with one base64 key of 32 bytes per line: the first
	// encrypts, all decrypt.
	GossipKey string `yaml:"gossip_key"`
	// CA, Cert and Key are PEM files: who signs the nodes' certificates, this
	// node's certificate, whose DNS name is the node's name, and its private key.
	CA   string `yaml:"ca"`
	Cert string `yaml:"cert"`
	Key  string `yaml:"key"`
	// Allow lists the networks, as CIDR prefixes, that may gossip; none is no
	// limit.
	Allow []string `yaml:"allow"`
	// Insecure has the node run without GossipKey, CA, Cert and Key.
	Insecure bool `yaml:"insecure"`
}

// Secured reports whether gossip is encrypted and the nodes prove who they are.
// A checked configuration has all four files or none.
func (c Cluster) Secured() bool { return c.GossipKey != "" && c.CA != "" }

// Allowed is Allow of a checked configuration; nil is no limit.
func (c Cluster) Allowed() []netip.Prefix {
	var allowed []netip.Prefix
	for _, text := range c.Allow {
		if p, err := netip.ParsePrefix(text); err == nil {
			allowed = append(allowed, p.Masked())
		}
	}
	return allowed
}

// Retain keeps superseded generations of a suite readable while they are
// younger than For, and never more than Generations of them.
type Retain struct {
	For         time.Duration `yaml:"for"`
	Generations int           `yaml:"generations"`
}

// Log says what is logged, and how.
type Log struct {
	// Level is debug, info, warn or error.
	Level string `yaml:"level"`
	// Format is text or json.
	Format string `yaml:"format"`
	// Access writes one line per request.
	Access bool `yaml:"access"`
}

// Drain says how the node stops: for Delay it answers "not ready" to health
// checks but goes on serving; then a node of a cluster gives what only it holds to
// the others, for Handoff at most; then the running requests finish within Timeout.
type Drain struct {
	Delay   time.Duration `yaml:"delay"`
	Handoff time.Duration `yaml:"handoff"`
	Timeout time.Duration `yaml:"timeout"`
}

// DefaultDataDir and DefaultStateDir are where a node keeps its cache and its state
// unless it is told otherwise and may write there.
const (
	DefaultDataDir  = "/var/cache/aptmesh"
	DefaultStateDir = "/var/lib/aptmesh"
)

// Default returns the configuration of an empty file: every default, and no
// archives.
func Default() *Config {
	return &Config{
		Listen: []string{":3142"},
		Admin:  "127.0.0.1:3144",
		Data:   DefaultDataDir,
		Cache: Cache{
			MaxSize: SizeLimit{Percent: 80},
			Memory:  256 << 20,
			Scrub:   5 << 20,
		},
		UpstreamClient: UpstreamClient{
			ConnectionsPerHost: 8,
			RateFloor:          32 << 10,
			StallTimeout:       5 * time.Second,
			HeaderTimeout:      8 * time.Second,
			ConnectTimeout:     5 * time.Second,
			AuthConf:           []string{"/etc/apt/auth.conf"},
		},
		Stale: Stale{
			ServeExpired:         7 * 24 * time.Hour,
			ServeExpiredSecurity: 24 * time.Hour,
			WarnBefore:           24 * time.Hour,
		},
		// apt changelog, and do-release-upgrade, ask these two by HTTPS.
		ConnectAllow: []string{"changelogs.ubuntu.com:443", "metadata.ftp-master.debian.org:443"},

		Prefetch: Prefetch{Enabled: true, MaxBytes: 2 << 30, UsedWithin: 14 * 24 * time.Hour},
		Cluster:  Cluster{GossipListen: ":7946", PeerListen: ":3143"},
		Retain:   Retain{For: 24 * time.Hour, Generations: 8},
		Log:      Log{Level: "info", Format: "text", Access: true},
		Drain:    Drain{Handoff: 30 * time.Second, Timeout: 30 * time.Second},
	}
}

// NodeName is the name of this node: Name, or else the host's, in lower case as in
// the DNS.
func (c *Config) NodeName() string {
	if c.Name != "" {
		return c.Name
	}
	host, _ := os.Hostname() // "" is refused where a name is needed
	return strings.ToLower(host)
}

// Datacenter is where this node says it stands.
func (c *Config) Datacenter() string { return cmp.Or(c.Cluster.Datacenter, c.NodeName()) }

// SlogLevel is Level as slog knows it; info where the word is none of ours.
func (l Log) SlogLevel() slog.Level {
	var level slog.Level // info
	_ = level.UnmarshalText([]byte(l.Level))
	return level
}

// StateDir is the directory of durable state: State, or else one inside Data.
func (c *Config) StateDir() string {
	if c.State != "" {
		return c.State
	}
	return InnerStateDir(c.Data)
}

// InnerStateDir is where the state lies inside the cache.
func InnerStateDir(data string) string { return filepath.Join(data, "state") }
