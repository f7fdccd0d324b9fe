package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
)

// maxAnswer bounds an answer of the admin interface in bytes.
const maxAnswer = 64 << 20

// ErrNotRunning means that nobody listens at the admin address.
var ErrNotRunning = errors.New("no aptmesh node answers")

// Client talks to the admin interface of a node. It is safe for concurrent use.
// Deadlines are the contexts'.
type Client struct {
	addr  string
	token string
	base  string
	http  *http.Client
	// local is a client of the socket, once the node has named it (stream).
	local atomic.Pointer[Client]
}

// NewClient returns a client of the admin interface at "host:port", "unix:/path" or
// a path. token is shown where it is not "".
func NewClient(addr, token string) (*Client, error) {
	if at, ok := strings.CutPrefix(addr, "http://"); ok { // as a browser has it
		addr = strings.TrimSuffix(at, "/")
	}
	c := &Client{addr: addr, token: token}
	// A transport of its own: the admin interface is never behind a proxy.
	transport := &http.Transport{MaxIdleConnsPerHost: 16} // exports read several files at one time
	if socket, ok := socketPath(addr); ok {
		c.base = "http://aptmesh"
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) { return dialUnix(ctx, socket) }
	} else {
		host, port, err := net.SplitHostPort(addr)
		if err != nil {
			return nil, fmt.Errorf(`%q is not the address of an admin interface: write "127.0.0.1:3144", or "/var/lib/aptmesh/admin/socket"`, addr)
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
func (c *Client) Status(ctx context.Context) (*Status, error) {
	var s Status
	return &s, c.call(ctx, http.MethodGet, statusPath, nil, &s)
}

// Why asks what the node would answer to a request for a URL: one as a client has
// it, mapped or absolute, or just ARCHIVE/PATH.
func (c *Client) Why(ctx context.Context, target string) (*Why, error) {
	if !strings.Contains(target, "://") && !strings.HasPrefix(target, "/") && !strings.HasPrefix(target, "CONNECT ") {
		target = "/" + target // as a host would ask this node for it
	}
	var w Why
	return &w, c.call(ctx, http.MethodGet, whyPath, url.Values{"url": {target}}, &w)
}

// Refused lists what hosts ask for and the node does not serve.
func (c *Client) Refused(ctx context.Context) ([]RefusedURL, error) {
	var list []RefusedURL
	return list, c.call(ctx, http.MethodGet, refusedPath, nil, &list)
}

// Refresh makes the node ask upstream for a newer Release of a suite, "ubuntu/noble" or
// "ubuntu/dists/noble", and waits until it is adopted or refused. older also accepts a
// Release that is older than the current one.
func (c *Client) Refresh(ctx context.Context, suite string, older bool) (*RefreshResult, error) {
	query := url.Values{"suite": {suite}}
	if older {
		query.Set("older", "1")
	}
	var r RefreshResult
	return &r, c.call(ctx, http.MethodPost, refreshPath, query, &r)
}

// Drop makes the node forget a suite, "ubuntu/noble" or "ubuntu/dists/noble", as if it had never known it.
func (c *Client) Drop(ctx context.Context, suite string) (*DropResult, error) {
	var r DropResult
	return &r, c.call(ctx, http.MethodPost, dropPath, url.Values{"suite": {suite}}, &r)
}

// Remove has a missing node forgotten by all nodes of the cluster.
func (c *Client) Remove(ctx context.Context, name string) (*RemoveResult, error) {
	var r RemoveResult
	return &r, c.call(ctx, http.MethodPost, removePath, url.Values{"node": {name}}, &r)
}

// Leave has the node drain, leave its cluster and end. It returns when the node has
// begun to.
func (c *Client) Leave(ctx context.Context) (*LeaveResult, error) {
	var r LeaveResult
	return &r, c.call(ctx, http.MethodPost, leavePath, nil, &r)
}

// call does one request and decodes its answer. What a node does not take over TCP
// goes to the socket that it names.
func (c *Client) call(ctx context.Context, method, path string, query url.Values, into any) error {
	err := c.request(ctx, method, path, query, into)
	var refused *Error
	if !errors.As(err, &refused) || refused.Socket == "" || strings.HasPrefix(c.addr, "unix:") {
		return err
	}
	local, clientErr := NewClient("unix:"+refused.Socket, "")
	if clientErr != nil {
		return clientErr
	}
	defer local.http.CloseIdleConnections()
	if err := local.request(ctx, method, path, query, into); errors.Is(err, fs.ErrPermission) || errors.Is(err, ErrNotRunning) {
		return refused // it says which requests are allowed
	} else {
		return err
	}
}

func (c *Client) request(ctx context.Context, method, path string, query url.Values, into any) error {
	target := c.base + path
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, target, nil)
	if err != nil {
		return err
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return c.unreachable(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("reading the answer of the node at %s: %w", c.addr, err)
	}
	if resp.StatusCode != http.StatusOK {
		var said Error
		if json.Unmarshal(body, &said) == nil && said.Message != "" {
			return &said
		}
		return fmt.Errorf("what listens at %s answers %s; is it the admin interface of an aptmesh node?", c.addr, resp.Status)
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("what listens at %s gives no answer of an aptmesh node: %w", c.addr, err)
	}
	return nil
}

// unreachable says whether nothing listens there or another failure occurred, and what to do.
func (c *Client) unreachable(err error) error {
	var cause *url.Error
	if errors.As(err, &cause) {
		err = cause.Err // without the URL, which says nothing to an operator
	}
	var dial *net.OpError
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%s: %w; run the command as root or as the user of the service", c.addr, fs.ErrPermission)
	}
	if errors.As(err, &dial) && dial.Op == "dial" {
		return fmt.Errorf("%w at %s (%w): start one with `aptmesh serve`, or name its admin address with --admin or --config", ErrNotRunning, c.addr, dial.Err)
	}
	return fmt.Errorf("asking the node at %s: %w", c.addr, err)
}
