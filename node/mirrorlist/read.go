package mirrorlist

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"time"

	"github.com/aptmesh/aptmesh/node/aptconf"
	"github.com/aptmesh/aptmesh/node/archives/archiveconf"
	"github.com/aptmesh/aptmesh/node/config"
	"github.com/aptmesh/aptmesh/node/files"
	"github.com/aptmesh/aptmesh/node/upstream"
)

const (
	// listTimeout bounds the whole transfer of a list.
	listTimeout = 15 * time.Second
	// maxListRedirects bounds the redirects on the way to a list.
	maxListRedirects = 5
)

// Reader reads lists and metalinks, from the disk or from a server, which is asked as the archives
// are: through the same proxy, under the same name.
type Reader struct {
	// Config is the configuration in force.
	Config func() *config.Config
	// Listens are the addresses of this node, which no redirect may lead to.
	Listens func() []netip.AddrPort
	// Header identifies this node.
	Header http.Header
}

// Read returns the text of a list.
func (r *Reader) Read(ctx context.Context, key Key) ([]byte, error) {
	list, err := aptconf.ParseListURL(key.At)
	if err != nil {
		return nil, err
	}
	if list.File != "" {
		return files.ReadBounded(list.File, aptconf.MaxMirrorList)
	}
	cfg := r.Config()
	if listOffline(cfg, key) {
		return nil, errors.New("nobody is asked, because the configuration says `offline: true`")
	}
	return r.fetch(ctx, cfg, list.URL, key.TLS)
}

// Metalink returns the text of the metalink at a URL that the configuration names for an archive.
func (r *Reader) Metalink(ctx context.Context, archive, at string) ([]byte, error) {
	cfg := r.Config()
	i := slices.IndexFunc(cfg.Archives, func(a archiveconf.Archive) bool { return a.Name == archive })
	if i < 0 {
		return nil, fmt.Errorf("the archive %s is not configured any more", archive)
	}
	u, err := url.Parse(at)
	if err != nil {
		return nil, err
	}
	return r.fetch(ctx, cfg, u, upstream.TLSFiles{CA: cfg.Archives[i].MetalinkCA})
}

func (r *Reader) fetch(ctx context.Context, cfg *config.Config, at *url.URL, files upstream.TLSFiles) ([]byte, error) {
	client, err := r.client(cfg, at, files)
	if err != nil {
		return nil, err
	}
	defer client.CloseIdleConnections()
	return fetchList(ctx, client, at, r.Header.Clone())
}

// listOffline reports whether every archive that a list is for is offline.
func listOffline(c *config.Config, key Key) bool {
	for _, a := range c.Archives {
		for _, at := range a.Mirrors() {
			if KeyOf(at) == key && !a.Offline && !c.Offline {
				return false
			}
		}
	}
	return true
}

// client makes the HTTP client that a list is fetched with. It lives as long as
// one fetch does, an hour apart from the next.
func (r *Reader) client(cfg *config.Config, at *url.URL, files upstream.TLSFiles) (*http.Client, error) {
	u := cfg.UpstreamClient
	auth, err := upstream.ReadAuthConf(u.AuthConf...)
	if err != nil {
		return nil, fmt.Errorf("auth_conf: %w", err)
	}
	proxyOf, err := u.Proxy.Func(auth)
	if err != nil {
		return nil, err
	}
	roots, cert, err := files.Load()
	if err != nil {
		return nil, err
	}
	tlsConfig := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}
	if cert != nil {
		tlsConfig.Certificates = []tls.Certificate{*cert}
	}
	transport := &http.Transport{
		Proxy:                 proxyOf,
		TLSClientConfig:       tlsConfig,
		TLSHandshakeTimeout:   u.ConnectTimeout,
		ResponseHeaderTimeout: u.HeaderTimeout,
		DisableKeepAlives:     true,
	}
	reach := upstream.NewReach(append(OperatorURLs(cfg), at), u.InternalAllow, r.Listens)
	return &http.Client{
		Timeout:   listTimeout,
		Transport: reach.Guard(transport, at, net.Dialer{Timeout: u.ConnectTimeout}),
		CheckRedirect: func(next *http.Request, way []*http.Request) error {
			switch first := way[0].URL; {
			case len(way) > maxListRedirects:
				return fmt.Errorf("more than %d redirects", maxListRedirects)
			case first.Scheme == "https" && next.URL.Scheme != "https":
				return errors.New("the redirect leads away from https")
			case cfg.IsSelf(next.URL):
				return errors.New("the redirect leads to this node itself")
			}
			return nil
		},
	}, nil
}

// fetchList fetches the text of a list. header identifies this node; fetchList owns it.
func fetchList(ctx context.Context, client *http.Client, at *url.URL, header http.Header) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
	if err != nil {
		return nil, err
	}
	req.Header = header
	req.Header.Set("Cache-Control", "no-cache")
	res, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the server answers %s", res.Status)
	}
	// A page of a captive portal, or a page for "not found" with status 200.
	if kind, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type")); kind == "text/html" {
		return nil, errors.New("the server answers with an HTML page")
	}
	text, err := io.ReadAll(io.LimitReader(res.Body, aptconf.MaxMirrorList+1))
	if err != nil {
		return nil, err
	}
	if len(text) > aptconf.MaxMirrorList {
		return nil, fmt.Errorf("it is longer than %d MiB", aptconf.MaxMirrorList>>20)
	}
	return text, nil
}

// OperatorURLs are the mirrors, and the lists that a server has, as the configuration names them.
func OperatorURLs(c *config.Config) []*url.URL {
	var all []*url.URL
	for _, a := range c.Archives {
		for _, at := range a.Mirrors() {
			if list, err := aptconf.ParseListURL(at.URL); err == nil && list.URL != nil {
				all = append(all, list.URL)
			} else if u, err := url.Parse(at.URL); err == nil && u.Hostname() != "" {
				all = append(all, u)
			}
		}
	}
	return all
}
