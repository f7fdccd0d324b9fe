package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
)

// maxAdminAnswer bounds an answer of the admin interface in bytes.
const maxAdminAnswer = 64 << 20

// ErrNotRunning means that nobody listens at the admin address.
var ErrNotRunning = errors.New("no aptmesh node answers")

// AdminClient talks to the admin interface of a node. It is safe for concurrent
// use. Deadlines are the contexts'.
type AdminClient struct {
	addr string
	base string
	http *http.Client
}

// NewAdminClient returns a client of the admin interface at "host:port" or
// "unix:/path", as in Config.Admin.
func NewAdminClient(addr string) (*AdminClient, error) {
	c := &AdminClient{addr: addr}
	// A transport of its own: the admin interface is never behind a proxy.
	transport := &http.Transport{}
	if socket, ok := strings.CutPrefix(addr, "unix:"); ok {
		c.base = "http://aptmesh"
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		}
	} else {
		host, port, err := net.SplitHostPort(addr)
		if err != nil {
			return nil, fmt.Errorf(`%q is not the address of an admin interface: write "127.0.0.1:3144", or "unix:/run/aptmesh/admin.sock"`, addr)
		}
		if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
			host = "localhost" // what "every address" means to a client on the same machine
		}
		c.base = "http://" + net.JoinHostPort(host, port)
	}
	c.http = &http.Client{Transport: transport}
	return c, nil
}

// Status asks for the state of the node.
func (c *AdminClient) Status(ctx context.Context) (*Status, error) {
	var s Status
	return &s, c.call(ctx, http.MethodGet, adminStatusPath, nil, &s)
}

// Why asks what the node would answer to a request for a URL: one as a client has
// it, mapped or absolute, or just ARCHIVE/PATH.
func (c *AdminClient) Why(ctx context.Context, target string) (*Why, error) {
	if !strings.Contains(target, "://") && !strings.HasPrefix(target, "/") && !strings.HasPrefix(target, "CONNECT ") {
		target = "/" + target // as a host would ask this node for it
	}
	var w Why
	return &w, c.call(ctx, http.MethodGet, adminWhyPath, url.Values{"url": {target}}, &w)
}

// Refused lists what hosts ask for and the node does not serve.
func (c *AdminClient) Refused(ctx context.Context) ([]RefusedURL, error) {
	var list []RefusedURL
	return list, c.call(ctx, http.MethodGet, adminRefusedPath, nil, &list)
}

// Refresh has the node ask upstream for a newer Release of a suite, "ubuntu/noble"
// or "ubuntu/dists/noble", and waits until it is adopted or refused. older takes
// one that is older than the one held, too.
func (c *AdminClient) Refresh(ctx context.Context, suite string, older bool) (*RefreshResult, error) {
	query := url.Values{"suite": {suite}}
	if older {
		query.Set("older", "1")
	}
	var r RefreshResult
	return &r, c.call(ctx, http.MethodPost, adminRefreshPath, query, &r)
}

// Drop has the node forget a suite, "ubuntu/noble" or "ubuntu/dists/noble", as if it had never known it.
func (c *AdminClient) Drop(ctx context.Context, suite string) (*DropResult, error) {
	var r DropResult
	return &r, c.call(ctx, http.MethodPost, adminDropPath, url.Values{"suite": {suite}}, &r)
}

// Leave has the node drain, leave its cluster and end. It returns when the node has
// begun to.
func (c *AdminClient) Leave(ctx context.Context) (*LeaveResult, error) {
	var r LeaveResult
	return &r, c.call(ctx, http.MethodPost, adminLeavePath, nil, &r)
}

// call does one request and decodes its answer.
func (c *AdminClient) call(ctx context.Context, method, path string, query url.Values, into any) error {
	target := c.base + path
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, target, nil)
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return c.unreachable(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAdminAnswer))
	if err != nil {
		return fmt.Errorf("reading the answer of the node at %s: %w", c.addr, err)
	}
	if resp.StatusCode != http.StatusOK {
		var said AdminError
		if json.Unmarshal(body, &said) == nil && said.Message != "" {
			return errors.New(said.Message)
		}
		return fmt.Errorf("what listens at %s answers %s; is it the admin interface of an aptmesh node?", c.addr, resp.Status)
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("what listens at %s gives no answer of an aptmesh node: %w", c.addr, err)
	}
	return nil
}

// unreachable tells "nobody there" from other trouble, and what to do about it.
func (c *AdminClient) unreachable(err error) error {
	var cause *url.Error
	if errors.As(err, &cause) {
		err = cause.Err // without the URL, which says nothing to an operator
	}
	var dial *net.OpError
	if errors.As(err, &dial) && dial.Op == "dial" {
		return fmt.Errorf("%w at %s (%w): start one with `aptmesh serve`, or name its admin address with --admin or --config", ErrNotRunning, c.addr, dial.Err)
	}
	return fmt.Errorf("asking the node at %s: %w", c.addr, err)
}
