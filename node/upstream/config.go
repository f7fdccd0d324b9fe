package upstream

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/aptmesh/aptmesh/proto"
)

// DefaultUserAgent is Config.UserAgent where none is given.
const DefaultUserAgent = "aptmesh (+https://github.com/aptmesh/aptmesh)"

// Archive is one configured archive.
type Archive struct {
	// Name is what proto.Location.Archive says.
	Name string
	// Mirrors have its files; at least one.
	Mirrors []Mirror
	// History is the root of a service that keeps all files that the archive ever had, as HistoryURL
	// takes it. It is asked for files that every mirror lacks. nil: none.
	History *url.URL
	// Offline: nobody is asked for what this archive holds.
	Offline bool
}

// Mirror is one server's copy of an archive.
type Mirror struct {
	// URL is the root of the archive there, http or https, with neither query nor
	// fragment. A user and password in it are taken as Credentials, unless those
	// are given too.
	URL *url.URL
	// Priority: mirrors of a lower one go first.
	Priority int
	// Weight is its share of the requests among its equals; 0 counts as 1.
	Weight int
	// Credentials are sent to the scheme, host and port of URL only. If there are none,
	// those that Settings.AuthConf has for URLs below URL are sent.
	Credentials Credentials
	// Roots are the authorities trusted for this mirror's host; nil: Config.TLSRoots.
	Roots *x509.CertPool
	// Certificate authenticates this node to the mirror's host; nil: none.
	Certificate *tls.Certificate
	// Listed: a list of mirrors names it that somebody else writes. It gets nothing of
	// Settings.AuthConf, and may be inside only as a redirect may lead there, see Reach.
	Listed bool
}

// Config is all a Client needs to know. ConnectionsPerHost and the timeouts must be
// positive; the zero value of every other field stands for a default.
type Config struct {
	Archives []Archive
	Settings
	// Auth are credentials by host, beside those in the files of AuthConf. They are sent with requests
	// below the URL of a mirror that is not Listed, and never to the target of a redirect.
	Auth []AuthEntry
	// Configured are further URLs that the operator named, see Reach.
	Configured []*url.URL
	// Listens returns the addresses that this node listens at; nil = none.
	Listens func() []netip.AddrPort
	// Offline: nobody is asked for anything.
	Offline bool
	// Dates returns the dates at which an archive listed a file, in no order. It
	// is called only if every mirror says "not found"; nil = none.
	Dates func(context.Context, proto.Location) []time.Time
	// OnAlert is called when this node has found out that a mirror fails, or has recovered.
	// It must not block; nil = no call.
	OnAlert func(proto.MirrorAlert)

	// Pseudonym is this node's name in the Via field of every request (RFC 9110,
	// section 7.6.3); "" = no Via field.
	Pseudonym string
	// Via returns the proxies that wait for a location, which a request for it names
	// before this node; nil = none.
	Via func(proto.Location) []string
	// UserAgent is sent with every request; "" = DefaultUserAgent.
	UserAgent string
	// TLSRoots are the authorities trusted for https; nil = the system's.
	TLSRoots *x509.CertPool
	// Dial opens connections; nil = a net.Dialer. It must honour its context. A connection
	// to where no request may go is closed before anything is sent.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Logger gets rare debug lines (a transfer that gave up its slot); nil = none.
	Logger *slog.Logger
}

func (a Archive) String() string {
	names := make([]string, len(a.Mirrors))
	for i, m := range a.Mirrors {
		names[i] = m.String()
	}
	return a.Name + "=" + strings.Join(names, ",")
}

// GoString is what %#v prints.
func (a Archive) GoString() string { return `upstream.Archive("` + a.String() + `")` }

// LogValue is what slog prints.
func (a Archive) LogValue() slog.Value { return slog.StringValue(a.String()) }

// MarshalJSON shows the archive without user or password.
func (a Archive) MarshalJSON() ([]byte, error) { return json.Marshal(a.String()) }

// String is the name of the mirror: the URL of its root without user or password.
func (m Mirror) String() string {
	if m.URL == nil {
		return ""
	}
	return strings.TrimSuffix(bareURL(m.URL), "/")
}

// GoString is what %#v prints.
func (m Mirror) GoString() string { return `upstream.Mirror("` + m.String() + `")` }

// LogValue is what slog prints.
func (m Mirror) LogValue() slog.Value { return slog.StringValue(m.String()) }

// MarshalJSON shows the mirror without user or password.
func (m Mirror) MarshalJSON() ([]byte, error) { return json.Marshal(m.String()) }

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
		n    int64
	}{
		{"ConnectTimeout", int64(cfg.ConnectTimeout)},
		{"HeaderTimeout", int64(cfg.HeaderTimeout)},
		{"StallTimeout", int64(cfg.StallTimeout)},
		{"ConnectionsPerHost", int64(cfg.ConnectionsPerHost)},
	} {
		if f.n <= 0 {
			return Config{}, fmt.Errorf("upstream: %s must be positive", f.name)
		}
	}
	if cfg.Rate < 0 {
		return Config{}, fmt.Errorf("upstream: Rate is negative: %d", cfg.Rate)
	}
	if cfg.UserAgent == "" {
		cfg.UserAgent = DefaultUserAgent
	}
	if strings.ContainsFunc(cfg.UserAgent, unicode.IsControl) {
		return Config{}, fmt.Errorf("upstream: UserAgent holds a control character: %q", cfg.UserAgent)
	}
	if cfg.Dial == nil {
		cfg.Dial = (&net.Dialer{ControlContext: control}).DialContext
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	read, err := ReadAuthConf(cfg.AuthConf...)
	if err != nil {
		return Config{}, fmt.Errorf("upstream: auth_conf: %w", err)
	}
	cfg.Auth = slices.Concat(cfg.Auth, read)
	return cfg, nil
}

// check says what is wrong with the archive itself.
func (a Archive) check() error {
	switch {
	case a.Name == "":
		return fmt.Errorf("upstream: an archive has no name (its mirrors: %s)", strings.TrimPrefix(a.String(), "="))
	case len(a.Mirrors) == 0:
		return fmt.Errorf("upstream: archive %q has no mirror", a.Name)
	}
	return nil
}

// checked returns the mirror with its credentials taken out of its URL, or says
// what is wrong with it.
func (m Mirror) checked(archive string) (Mirror, error) {
	if m.URL == nil {
		return Mirror{}, fmt.Errorf("upstream: archive %q: a mirror has no URL", archive)
	}
	u := *m.URL
	u.Scheme = strings.ToLower(u.Scheme)
	u.Host = strings.ToLower(u.Host)
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return Mirror{}, fmt.Errorf("upstream: archive %q: %s: only http and https archives can be fetched", archive, bareURL(&u))
	case u.Hostname() == "":
		return Mirror{}, fmt.Errorf("upstream: archive %q: %s: the URL names no host", archive, bareURL(&u))
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return Mirror{}, fmt.Errorf("upstream: archive %q: %s: the URL of a mirror has neither query nor fragment", archive, bareURL(&u))
	case m.Weight < 0:
		return Mirror{}, fmt.Errorf("upstream: archive %q: %s: its weight is negative: %d", archive, bareURL(&u), m.Weight)
	}
	m.Weight = max(m.Weight, 1)
	if u.User != nil {
		if m.Credentials.header() == "" {
			password, _ := u.User.Password()
			m.Credentials.User, m.Credentials.Password = u.User.Username(), NewSecret(password)
		}
		u.User = nil
	}
	m.URL = &u
	if strings.Contains(m.Credentials.User, ":") {
		return Mirror{}, fmt.Errorf("upstream: archive %q: %s: a user name must not contain a colon (RFC 7617)", archive, m)
	}
	if strings.ContainsFunc(m.Credentials.Bearer.Reveal(), unicode.IsControl) {
		return Mirror{}, fmt.Errorf("upstream: archive %q: %s: its bearer token holds a control character; a line end left over from a file?", archive, m)
	}
	if !validQuery(m.Credentials.query()) {
		return Mirror{}, fmt.Errorf("upstream: archive %q: %s: its query (credentials.query, or query_file) holds something that no query can; write what follows the ? in the URL, on one line, with %%20 for a space", archive, m)
	}
	return m, nil
}
