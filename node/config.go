package node

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta"
)

// Config is the configuration of one node: what the YAML file says, with the
// defaults in place of what it leaves out. It is a plain value; LoadConfig and
// AutoConfig make checked ones. Every path in it is absolute, or relative to the
// working directory.
type Config struct {
	// Name is how this node calls itself, in its cluster above all; "" is the
	// host's name. NodeName has the answer.
	Name string `yaml:"name"`
	// Listen holds the addresses of the plain HTTP door, "host:port" or ":port"
	// for every address of the machine, IPv4 and IPv6.
	Listen []string `yaml:"listen"`
	// TLS is an additional door that speaks HTTPS; off unless it has addresses.
	TLS TLSConfig `yaml:"tls"`
	// Admin is the address of the admin interface: "host:port" or "unix:/path";
	// "" switches it off. It has no password, so it belongs on loopback.
	Admin string `yaml:"admin"`
	// Data is the directory that holds everything this node keeps.
	Data string `yaml:"data"`
	// Cache bounds what the node keeps.
	Cache CacheConfig `yaml:"cache"`
	// Archives lists the archives this node serves, in the order of the file.
	Archives []ArchiveConfig `yaml:"archives"`
	// Upstream says how archives are asked.
	Upstream UpstreamConfig `yaml:"upstream"`
	// Connect lists the "host:port" that clients may reach by CONNECT. Such
	// traffic is passed through, not cached.
	Connect []string `yaml:"connect"`
	// Cluster makes this node one of several that act as one cache.
	Cluster ClusterConfig `yaml:"cluster"`
	// Retain says how long superseded generations stay readable.
	Retain RetainConfig `yaml:"retain"`
	// Log says what is logged, and how.
	Log LogConfig `yaml:"log"`
	// Drain says how the node stops.
	Drain DrainConfig `yaml:"drain"`
}

// TLSConfig is the HTTPS door. Listen empty means that there is none.
type TLSConfig struct {
	Listen []string `yaml:"listen"`
	// Cert and Key are PEM files: the certificate chain and its private key.
	Cert string `yaml:"cert"`
	Key  string `yaml:"key"`
}

// CacheConfig bounds what the node keeps.
type CacheConfig struct {
	// MaxSize caps the bytes on disk: a size, or a share of the file system.
	MaxSize SizeLimit `yaml:"max_size"`
	// Memory caps the bytes of small hot objects held in memory.
	Memory Size `yaml:"memory"`
	// Scrub is how many bytes per second the background check of the stored
	// objects reads; 0 switches it off.
	Scrub Size `yaml:"scrub"`
}

// ArchiveConfig is one archive: a tree of dists/ and pool/, or a flat
// repository, on one upstream.
type ArchiveConfig struct {
	// Name is the key in the file and the URL prefix: http://node:3142/NAME/.
	Name string `yaml:"-"`
	// Upstream is the URL of the archive: http or https, without credentials,
	// query or trailing slash.
	Upstream string `yaml:"upstream"`
	// Aliases are other URLs that mean this archive, whatever their scheme. The
	// host may begin with "*." for any labels in that place.
	Aliases []string `yaml:"aliases"`
	// SignedBy lists the keyrings that vouch for the archive: files, or armoured
	// public key blocks in place.
	SignedBy []string `yaml:"signed_by"`
	// Unsigned accepts the archive without any signature.
	Unsigned bool `yaml:"unsigned"`
	// Suites are watched from the start, without waiting for a first request:
	// "noble" for dists/noble, or a directory that ends in "/" for a flat
	// repository ("./" being the archive's own directory).
	Suites []string `yaml:"suites"`
	// CheckEvery is the interval between two looks at a watched suite's Release.
	CheckEvery time.Duration `yaml:"check_every"`
	// Credentials are sent to this archive's upstream and nowhere else.
	Credentials Credentials `yaml:"credentials"`

	// Example is what the machine's own apt sources say behind the URL ("noble
	// main universe"), to print working lines for a host; often "".
	Example string `yaml:"-"`
}

// Credentials are either a user with a password or a bearer token; each secret is
// written in place or in a file of its own.
type Credentials struct {
	User         string `yaml:"user"`
	Password     Secret `yaml:"password"`
	PasswordFile string `yaml:"password_file"`
	Bearer       Secret `yaml:"bearer"`
	BearerFile   string `yaml:"bearer_file"`
}

// UpstreamConfig says how archives are asked.
type UpstreamConfig struct {
	// ConnectionsPerHost caps the connections to one upstream host.
	ConnectionsPerHost int `yaml:"connections_per_host"`
	// Rate caps what is fetched from all upstreams, in bytes per second; 0 is
	// no cap.
	Rate Size `yaml:"rate"`
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

// ClusterConfig makes a node one of several that act as one cache. With Name ""
// the node stands alone and the rest means nothing.
type ClusterConfig struct {
	// Name keeps clusters apart: nodes of another name are not let in.
	Name string `yaml:"name"`
	// Datacenter is a label for people; "" is the node's name. Config.Datacenter
	// has the answer.
	Datacenter string `yaml:"datacenter"`
	// Gossip is the address of gossip, UDP and TCP: "host:port" or ":port".
	Gossip string `yaml:"gossip"`
	// Peer is the address the other nodes fetch from, TCP.
	Peer string `yaml:"peer"`
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
func (c ClusterConfig) Secured() bool { return c.GossipKey != "" && c.CA != "" }

// Allowed is Allow of a checked configuration; nil is no limit.
func (c ClusterConfig) Allowed() []netip.Prefix {
	var allowed []netip.Prefix
	for _, text := range c.Allow {
		if p, err := netip.ParsePrefix(text); err == nil {
			allowed = append(allowed, p.Masked())
		}
	}
	return allowed
}

// RetainConfig keeps superseded generations of a suite readable while they are
// younger than For, and never more than Generations of them.
type RetainConfig struct {
	For         time.Duration `yaml:"for"`
	Generations int           `yaml:"generations"`
}

// LogConfig says what is logged, and how.
type LogConfig struct {
	// Level is debug, info, warn or error.
	Level string `yaml:"level"`
	// Format is text or json.
	Format string `yaml:"format"`
	// Access writes one line per request.
	Access bool `yaml:"access"`
}

// DrainConfig says how the node stops: for Delay it answers "not ready" to health
// checks but goes on serving; then a node of a cluster gives what only it holds to
// the others, for Handoff at most; then the running requests finish within Timeout.
type DrainConfig struct {
	Delay   time.Duration `yaml:"delay"`
	Handoff time.Duration `yaml:"handoff"`
	Timeout time.Duration `yaml:"timeout"`
}

// DefaultDataDir is where a node keeps its data unless it is told otherwise and
// may write there.
const DefaultDataDir = "/var/cache/aptmesh"

// DefaultConfig returns the configuration of an empty file: every default, and no
// archives.
func DefaultConfig() *Config {
	return &Config{
		Listen: []string{":3142"},
		Admin:  "127.0.0.1:3144",
		Data:   DefaultDataDir,
		Cache: CacheConfig{
			MaxSize: SizeLimit{Percent: 80},
			Memory:  256 << 20,
			Scrub:   5 << 20,
		},
		Upstream: UpstreamConfig{
			ConnectionsPerHost: 8,
			StallTimeout:       5 * time.Second,
			HeaderTimeout:      8 * time.Second,
			ConnectTimeout:     5 * time.Second,
			AuthConf:           []string{"/etc/apt/auth.conf"},
		},
		Cluster: ClusterConfig{Gossip: ":7946", Peer: ":3143"},
		Retain:  RetainConfig{For: 24 * time.Hour, Generations: 8},
		Log:     LogConfig{Level: "info", Format: "text", Access: true},
		Drain:   DrainConfig{Handoff: 30 * time.Second, Timeout: 30 * time.Second},
	}
}

// DefaultArchive returns the archive of that name with every default set.
func DefaultArchive(name string) ArchiveConfig {
	return ArchiveConfig{Name: name, CheckEvery: 60 * time.Second}
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

// Archive returns the archive of that name.
func (c *Config) Archive(name string) (ArchiveConfig, bool) {
	for _, a := range c.Archives {
		if a.Name == name {
			return a, true
		}
	}
	return ArchiveConfig{}, false
}

// SlogLevel is Level as slog knows it; info where the word is none of ours.
func (l LogConfig) SlogLevel() slog.Level {
	var level slog.Level // info
	_ = level.UnmarshalText([]byte(l.Level))
	return level
}

// maxKeyring bounds a keyring file in bytes; that of Debian's developers has 30 MB.
const maxKeyring = 64 << 20

// keyBlock begins a public key written in place of a keyring's path.
const keyBlock = "-----BEGIN PGP PUBLIC KEY BLOCK-----"

// IsInlineKey reports whether an entry of signed_by is an armoured key block
// rather than the path of a keyring.
func IsInlineKey(entry string) bool { return strings.HasPrefix(strings.TrimSpace(entry), keyBlock) }

// Keyring reads every entry of signed_by and returns all their keys together; nil
// where the archive is unsigned.
func (a ArchiveConfig) Keyring() (*aptmeta.Keyring, error) {
	if a.Unsigned {
		return nil, nil
	}
	rings := make([]*aptmeta.Keyring, 0, len(a.SignedBy))
	for _, entry := range a.SignedBy {
		ring, err := readKeyring(entry)
		if err != nil {
			return nil, fmt.Errorf("archive %s: signed_by: %w", a.Name, err)
		}
		rings = append(rings, ring)
	}
	return aptmeta.MergeKeyrings(rings...), nil
}

// readKeyring reads one entry of signed_by.
func readKeyring(entry string) (*aptmeta.Keyring, error) {
	if IsInlineKey(entry) {
		return aptmeta.ReadKeyring("in the configuration", []byte(entry))
	}
	data, err := readBounded(entry, maxKeyring)
	if err != nil {
		return nil, err
	}
	return aptmeta.ReadKeyring(entry, data)
}

// IsZero reports whether there are no credentials.
func (c Credentials) IsZero() bool { return c == Credentials{} }

// Resolve reads the secrets that stand in files and returns what to send: a user
// and password, or a bearer token. Leading and trailing space of a file is not
// part of its secret.
func (c Credentials) Resolve() (user string, password, bearer Secret, err error) {
	password, err = secretOrFile(c.Password, c.PasswordFile)
	if err != nil {
		return "", "", "", fmt.Errorf("reading password_file: %w", err)
	}
	bearer, err = secretOrFile(c.Bearer, c.BearerFile)
	if err != nil {
		return "", "", "", fmt.Errorf("reading bearer_file: %w", err)
	}
	return c.User, password, bearer, nil
}

// maxSecret bounds a file that holds a secret in bytes.
const maxSecret = 64 << 10

func secretOrFile(inPlace Secret, file string) (Secret, error) {
	if file == "" {
		return inPlace, nil
	}
	b, err := readBounded(file, maxSecret)
	if err != nil {
		return "", err
	}
	return Secret(bytes.TrimSpace(b)), nil
}

// readBounded reads a whole file that is not expected to be longer than max bytes.
func readBounded(name string, max int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, max+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > max {
		return nil, fmt.Errorf("%s is longer than %s", name, Size(max))
	}
	return data, nil
}
