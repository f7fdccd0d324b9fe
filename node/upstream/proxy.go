package upstream

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/net/http/httpproxy"
)

// Proxy says through which parent proxy requests leave. The zero Proxy follows
// http_proxy, https_proxy and no_proxy of the environment, read when a client is
// made or reconfigured. It prints without its user and password.
type Proxy struct {
	direct bool
	url    *url.URL
}

// Direct is "no proxy, whatever the environment says".
var Direct = Proxy{direct: true}

// ParseProxy reads the setting of a proxy: "" for the environment's, "direct" for
// none, else an http, https or socks5 URL, which then serves every archive.
func ParseProxy(s string) (Proxy, error) {
	switch s {
	case "":
		return Proxy{}, nil
	case "direct", "DIRECT": // apt's word for it
		return Direct, nil
	}
	// The text is not repeated: it may hold a password.
	u, err := url.Parse(s)
	if err != nil || u.Hostname() == "" || !slices.Contains([]string{"http", "https", "socks5", "socks5h"}, u.Scheme) {
		return Proxy{}, errors.New(`is not the URL of a proxy: write http://proxy.example.org:3128, "direct" for none, or "" to follow the environment`)
	}
	return Proxy{url: u}, nil
}

func (p Proxy) String() string {
	switch {
	case p.direct:
		return "direct"
	case p.url == nil:
		return "environment"
	}
	return bareURL(p.url)
}

// URL is where the proxy is; nil for none, and for those of the environment.
func (p Proxy) URL() *url.URL { return p.url }

// Setting is the text that ParseProxy has read, without its user and password.
func (p Proxy) Setting() string {
	switch {
	case p.direct:
		return "direct"
	case p.url == nil:
		return ""
	case p.url.User == nil:
		return p.url.String()
	}
	bare := *p.url
	bare.User = nil
	scheme, rest, _ := strings.Cut(bare.String(), "://")
	return scheme + "://" + Redacted + "@" + rest
}

// GoString is what %#v prints.
func (p Proxy) GoString() string { return `upstream.Proxy("` + p.String() + `")` }

// LogValue is what slog prints.
func (p Proxy) LogValue() slog.Value { return slog.StringValue(p.String()) }

// MarshalText writes what String shows.
func (p Proxy) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// Func is the same rule for an http.Transport of one's own: through which proxy a
// request leaves, nil being the direct way.
func (p Proxy) Func(auth []AuthEntry) (func(*http.Request) (*url.URL, error), error) {
	choose, err := p.chooser(auth)
	if err != nil {
		return nil, err
	}
	return func(r *http.Request) (*url.URL, error) { return choose(r.URL), nil }, nil
}

// chooser returns the function that picks the proxy of a URL; its result is nil
// where the way is direct. A proxy without a user of its own is looked up in
// auth.conf, as apt does.
func (p Proxy) chooser(auth []AuthEntry) (func(*url.URL) *url.URL, error) {
	direct := func(*url.URL) *url.URL { return nil }
	if p.direct {
		return direct, nil
	}
	choose := func(*url.URL) (*url.URL, error) { return p.url, nil }
	if p.url == nil {
		env := httpproxy.FromEnvironment()
		for name, value := range map[string]string{"http_proxy": env.HTTPProxy, "https_proxy": env.HTTPSProxy} {
			// httpproxy takes "host:port" for a URL as well.
			if _, err := ParseProxy(value); err != nil && strings.Contains(value, "://") {
				return nil, fmt.Errorf("the environment's %s: %w", name, err)
			}
		}
		choose = env.ProxyFunc()
	}
	return func(target *url.URL) *url.URL {
		proxy, err := choose(target)
		if err != nil || proxy == nil {
			return nil
		}
		if c := credentialsFor(auth, proxy); proxy.User == nil && c.User != "" {
			known := *proxy
			known.User = url.UserPassword(c.User, c.Password.Reveal())
			return &known
		}
		return proxy
	}, nil
}
