package config

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/netip"
	"time"

	"github.com/aptmesh/aptmesh/node/aptconf"
)

// Archive is one archive: a tree of suites and packages, or a flat repository,
// on one upstream or on several that mirror each other.
type Archive struct {
	// Name is the key in the file and the URL prefix: http://node:3142/NAME/.
	Name string `yaml:"-"`
	// Upstream is the URL of the archive: http or https, without credentials,
	// query or trailing slash; or that of a list of mirrors, as
	// aptconf.ListURL spells it. It is the short form of Upstreams with one entry; exactly one of the two is set.
	// Mirrors has the answer.
	Upstream  string   `yaml:"upstream"`
	Upstreams []Mirror `yaml:"upstreams"`
	// Snapshot is the URL of a service that keeps what mirrors have dropped, with
	// {timestamp} in its path; "" is none.
	Snapshot string `yaml:"snapshot"`
	// Aliases are other URLs that mean this archive, whatever their scheme. The
	// host may begin with "*." for any labels in that place.
	Aliases []string `yaml:"aliases"`
	// SignedBy lists the keyrings that vouch for the archive: files, directories and patterns
	// that stand for all keyrings there, or armoured
	// public key blocks in place.
	SignedBy []string `yaml:"signed_by"`
	// Unsigned accepts the archive without any signature; UnsignedSuites does so for these
	// suites alone, written as in Suites.
	Unsigned       bool     `yaml:"unsigned"`
	UnsignedSuites []string `yaml:"unsigned_suites"`
	// WeakKeys accepts signatures by DSA keys and by RSA keys of less than 2048 bits.
	WeakKeys bool `yaml:"weak_keys"`
	// Suites are watched from the start, without waiting for a first request:
	// "noble" for dists/noble, or a directory that ends in "/" for a flat
	// repository ("./" being the archive's own directory).
	Suites []string `yaml:"suites"`
	// CheckEvery is the interval between two looks at a watched suite's Release.
	CheckEvery time.Duration `yaml:"check_every"`
	// MaxFuture is how far the date of a Release may lie ahead of this node's clock.
	MaxFuture time.Duration `yaml:"max_future"`
	// Credentials are sent to Upstream and nowhere else.
	Credentials Credentials `yaml:"credentials"`
	// Offline has no upstream of this archive asked: what is held is served.
	Offline bool `yaml:"offline"`
	// Allow and Deny list the client networks, as prefixes or single addresses:
	// with an empty Allow everybody may read the archive whom Deny does not name.
	Allow []string `yaml:"allow"`
	Deny  []string `yaml:"deny"`
	// ServeExpired takes the place of both serve_expired of Outage; nil leaves
	// those in force.
	ServeExpired *time.Duration `yaml:"serve_expired"`
}

// Mirror is one place an archive is fetched from: a mirror, or a list of
// mirrors, which stands for all that it names.
type Mirror struct {
	URL string `yaml:"url"`
	// Priority orders the mirrors of an archive: those of a higher number are asked
	// where those of lower ones fail. Weight is the share among equals.
	Priority int `yaml:"priority"`
	Weight   int `yaml:"weight"`
	// Credentials are sent to this mirror and nowhere else.
	Credentials Credentials `yaml:"credentials"`
	// TLS is for mirrors whose certificates a private CA signs, or that want one
	// of this node.
	TLS MirrorTLS `yaml:"tls"`

	// List is the list of mirrors that names it; "" for the configuration.
	List string `yaml:"-"`
}

// MirrorTLS holds PEM files: whom to trust in place of the machine's own CAs, and
// the certificate this node shows. Cert and Key go together.
type MirrorTLS struct {
	CA   string `yaml:"ca"`
	Cert string `yaml:"cert"`
	Key  string `yaml:"key"`
}

// IsZero reports whether there is nothing special about the connection.
func (t MirrorTLS) IsZero() bool { return t == MirrorTLS{} }

// Load reads the files; nil is for those that are not given.
func (t MirrorTLS) Load() (roots *x509.CertPool, cert *tls.Certificate, err error) {
	if t.CA != "" {
		if roots, err = readAuthorities(t.CA); err != nil {
			return nil, nil, fmt.Errorf("tls: ca: %w", err)
		}
	}
	if t.Cert != "" {
		pair, err := tls.LoadX509KeyPair(t.Cert, t.Key)
		if err != nil {
			return nil, nil, fmt.Errorf("tls: %w", err)
		}
		cert = &pair
	}
	return roots, cert, nil
}

// NewArchive returns the archive of that name with every default set.
func NewArchive(name string) Archive {
	return Archive{Name: name, CheckEvery: 60 * time.Second, MaxFuture: 10 * time.Second, WeakKeys: true}
}

// NewMirror returns an upstream with every default set and no URL.
func NewMirror() Mirror { return Mirror{Priority: 1, Weight: 1} }

// isSimple reports whether a URL says all there is to say.
func (u Mirror) isSimple() bool {
	plain := NewMirror()
	plain.URL = u.URL
	return u == plain
}

// Mirrors returns what the archive is fetched from, in the order of the file and
// with lists of mirrors as they stand there; none only where the configuration was
// not checked.
func (a Archive) Mirrors() []Mirror {
	if a.Upstream == "" {
		return a.Upstreams
	}
	only := NewMirror()
	only.URL, only.Credentials = a.Upstream, a.Credentials
	return []Mirror{only}
}

// MainURL is the upstream to name where there is room for one: the first.
func (a Archive) MainURL() string {
	if mirrors := a.Mirrors(); len(mirrors) > 0 {
		return mirrors[0].URL
	}
	return ""
}

// MirrorURLs are the roots of all mirrors that the configuration names itself, in
// its order: without those that only a list knows.
func (a Archive) MirrorURLs() []string {
	var urls []string
	for _, m := range a.Mirrors() {
		if !aptconf.IsMirrorList(m.URL) {
			urls = append(urls, m.URL)
		}
	}
	return urls
}

// Restricted reports whether only some clients may read the archive.
func (a Archive) Restricted() bool { return len(a.Allow) > 0 || len(a.Deny) > 0 }

// hasCredentials reports whether any upstream of the archive wants to know who asks:
// what comes from there is not everybody's.
func (a Archive) hasCredentials() bool {
	for _, m := range a.Mirrors() {
		if !m.Credentials.IsZero() || m.TLS.Cert != "" {
			return true
		}
	}
	return false
}

// Archive returns the archive of that name.
func (c *Config) Archive(name string) (Archive, bool) {
	for _, a := range c.Archives {
		if a.Name == name {
			return a, true
		}
	}
	return Archive{}, false
}

// Networks reads a checked list of client networks; nil is none.
func Networks(list []string) []netip.Prefix {
	var all []netip.Prefix
	for _, text := range list {
		if p, err := parseNetwork(text); err == nil {
			all = append(all, p)
		}
	}
	return all
}

// parseNetwork reads a prefix or a single address. IPv4 within IPv6 is IPv4, as
// the addresses it is held against are.
func parseNetwork(text string) (netip.Prefix, error) {
	if ip, err := netip.ParseAddr(text); err == nil && ip.Zone() == "" {
		ip = ip.Unmap()
		return netip.PrefixFrom(ip, ip.BitLen()), nil
	}
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%q is not a network: write it as 10.0.0.0/8, or as an address", text)
	}
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p.Masked(), nil
}
