package upstream

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"
)

// Defaults of Config.
const (
	DefaultConnectionsPerHost = 8
	DefaultConnectTimeout     = 5 * time.Second
	DefaultHeaderTimeout      = 8 * time.Second
	DefaultStallTimeout       = 5 * time.Second
	DefaultUserAgent          = "aptmesh (+https://github.com/aptmesh/aptmesh)"
)

// Archive is one configured archive.
type Archive struct {
	// Name is what proto.Location.Archive says.
	Name string
	// URL is the root of the archive, http or https, with neither query nor
	// fragment. A user and password in it are taken as Credentials, unless those
	// are given too.
	URL *url.URL
	// Credentials are sent to the scheme, host and port of URL only. Without any,
	// Config.AuthConf is looked at.
	Credentials Credentials
}

// Config is all a Client needs to know. The zero value of every field but
// Archives stands for a default.
type Config struct {
	Archives []Archive
	// ConnectionsPerHost caps the connections to one upstream host; 0 = 8.
	ConnectionsPerHost int
	// BytesPerSecond caps what all transfers together receive; 0 = no limit.
	// Metadata is counted but never waits.
	BytesPerSecond int64
	// Proxy is the parent proxy; the zero Proxy takes it from the environment.
	Proxy Proxy
	// AuthConf holds credentials by host, see ParseAuthConf.
	AuthConf []AuthEntry

	// ConnectTimeout bounds name look-up, dial, the proxy's CONNECT and the TLS
	// handshake together; 0 = 5 s.
	ConnectTimeout time.Duration
	// HeaderTimeout bounds the wait for the answer's header on a connection; 0 = 8 s.
	HeaderTimeout time.Duration
	// StallTimeout bounds the wait for the next byte of a body; 0 = 5 s.
	StallTimeout time.Duration

	// UserAgent is sent with every request; "" = DefaultUserAgent.
	UserAgent string
	// TLSRoots are the authorities trusted for https; nil = the system's.
	TLSRoots *x509.CertPool
	// Dial opens connections; nil = a net.Dialer. It must honour its context.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Logger gets rare debug lines (a transfer that gave up its place); nil = none.
	Logger *slog.Logger
}

func (a Archive) String() string {
	if a.URL == nil {
		return a.Name
	}
	return a.Name + "=" + bareURL(a.URL)
}

// GoString is what %#v prints.
func (a Archive) GoString() string { return `upstream.Archive("` + a.String() + `")` }

// LogValue is what slog prints.
func (a Archive) LogValue() slog.Value { return slog.StringValue(a.String()) }

// MarshalJSON shows the archive without user or password.
func (a Archive) MarshalJSON() ([]byte, error) { return json.Marshal(a.String()) }

// bareURL prints a URL without the user and password, and without the query,
// which some object stores fill with signatures.
func bareURL(u *url.URL) string {
	bare := *u
	bare.User = nil
	bare.Fragment, bare.RawFragment = "", ""
	if bare.RawQuery != "" {
		bare.RawQuery = "…"
	}
	return bare.String()
}

// withDefaults returns the configuration with its blanks filled in, or says which
// field is wrong. It changes nothing that the caller holds.
func (cfg Config) withDefaults() (Config, error) {
	for _, f := range []struct {
		name string
		at   *time.Duration
		def  time.Duration
	}{
		{"ConnectTimeout", &cfg.ConnectTimeout, DefaultConnectTimeout},
		{"HeaderTimeout", &cfg.HeaderTimeout, DefaultHeaderTimeout},
		{"StallTimeout", &cfg.StallTimeout, DefaultStallTimeout},
	} {
		if *f.at < 0 {
			return Config{}, fmt.Errorf("upstream: %s is negative: %v", f.name, *f.at)
		}
		if *f.at == 0 {
			*f.at = f.def
		}
	}
	if cfg.ConnectionsPerHost < 0 {
		return Config{}, fmt.Errorf("upstream: ConnectionsPerHost is negative: %d", cfg.ConnectionsPerHost)
	}
	if cfg.ConnectionsPerHost == 0 {
		cfg.ConnectionsPerHost = DefaultConnectionsPerHost
	}
	if cfg.BytesPerSecond < 0 {
		return Config{}, fmt.Errorf("upstream: BytesPerSecond is negative: %d", cfg.BytesPerSecond)
	}
	if cfg.UserAgent == "" {
		cfg.UserAgent = DefaultUserAgent
	}
	if strings.ContainsFunc(cfg.UserAgent, unicode.IsControl) {
		return Config{}, fmt.Errorf("upstream: UserAgent holds a control character: %q", cfg.UserAgent)
	}
	if cfg.Dial == nil {
		cfg.Dial = (&net.Dialer{}).DialContext
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	cfg.AuthConf = slices.Clone(cfg.AuthConf)
	return cfg, nil
}

// checked returns the archive with its credentials taken out of its URL, or says
// what is wrong with it.
func (a Archive) checked() (Archive, error) {
	if a.Name == "" {
		return Archive{}, fmt.Errorf("upstream: an archive has no name (its URL is %s)", a)
	}
	if a.URL == nil {
		return Archive{}, fmt.Errorf("upstream: archive %q has no URL", a.Name)
	}
	u := *a.URL
	u.Scheme = strings.ToLower(u.Scheme)
	u.Host = strings.ToLower(u.Host)
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return Archive{}, fmt.Errorf("upstream: archive %q: %s: only http and https archives can be fetched", a.Name, bareURL(&u))
	case u.Hostname() == "":
		return Archive{}, fmt.Errorf("upstream: archive %q: %s: the URL names no host", a.Name, bareURL(&u))
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return Archive{}, fmt.Errorf("upstream: archive %q: %s: the URL of an archive has neither query nor fragment", a.Name, bareURL(&u))
	}
	if u.User != nil {
		if a.Credentials.IsZero() {
			password, _ := u.User.Password()
			a.Credentials = Credentials{User: u.User.Username(), Password: NewSecret(password)}
		}
		u.User = nil
	}
	a.URL = &u
	if strings.Contains(a.Credentials.User, ":") {
		return Archive{}, fmt.Errorf("upstream: archive %q: a user name must not contain a colon (RFC 7617)", a.Name)
	}
	if strings.ContainsFunc(a.Credentials.Bearer.Reveal(), unicode.IsControl) {
		return Archive{}, fmt.Errorf("upstream: archive %q: its bearer token holds a control character; a line end left over from a file?", a.Name)
	}
	return a, nil
}
