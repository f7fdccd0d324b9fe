package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// maxRedirects is how many redirects one request follows.
const maxRedirects = 10

// errUselessRange says that an answer to a Range cannot be used, so that the whole
// has to be asked for.
var errUselessRange = errors.New("the answer to the Range request is not what was asked for")

// errand is one object to be had from one mirror.
type errand struct {
	archive *archive
	mirror  *mirror
	req     proto.Request
	others  []*mirror     // that have not been asked for it yet, and may be
	waited  time.Duration // for the headers of answers so far, redirects among them
	// hurried: another mirror is believed to do better than one that keeps us waiting.
	hurried atomic.Bool
}

func (c *Client) newErrand(a *archive, m *mirror, req proto.Request, others []*mirror) *errand {
	e := &errand{archive: a, mirror: m, req: req, others: others}
	e.hurried.Store(c.better(e, 0))
	return e
}

// follow makes the request and follows redirects. At each hop it gives its place
// back before it waits for the next one, so that no two hosts can wait for each
// other.
func (c *Client) follow(ctx context.Context, s *settings, e *errand) (*proto.Transfer, error) {
	first := e.mirror.object(e.req.Loc.Path)
	u := first
	seen := map[string]bool{}
	for {
		seen[u.String()] = true
		t, next, err := c.ask(ctx, s, e, u)
		if err != nil || t != nil {
			return t, err
		}
		why := ""
		switch {
		case seen[next.to.String()]:
			why = fmt.Sprintf("in a loop: from %s to %s", bareURL(u), bareURL(next.to))
		case len(seen) > maxRedirects:
			why = fmt.Sprintf("more than %d times", maxRedirects)
		}
		if why != "" {
			err := &proto.Refused{Status: next.status, Reason: bareURL(first) + " redirects " + why}
			c.refused(e, err)
			return nil, err
		}
		u = next.to
	}
}

// redirect is an answer that leads elsewhere.
type redirect struct {
	to     *url.URL
	status int
}

// ask makes one request: it returns a transfer, or where to ask next, or an error.
func (c *Client) ask(ctx context.Context, s *settings, e *errand, u *url.URL) (*proto.Transfer, *redirect, error) {
	x, err := c.begin(ctx, s, u, e)
	if err != nil {
		return nil, nil, err
	}
	res, err := x.roundTrip(s.request(e.mirror, u, e.req))
	if err != nil {
		return nil, nil, x.fail(err)
	}
	b := &body{x: x, res: res, want: res.ContentLength}
	if isRedirect(res.StatusCode) {
		next, err := redirectTarget(u, res)
		if err != nil {
			b.drain()
			return nil, nil, x.fail(err)
		}
		b.drain()
		x.end(outcomeRedirected, nil)
		return nil, &redirect{next, res.StatusCode}, nil
	}
	t, err := x.judge(e.req, res, b)
	if err != nil {
		b.drain()
		return nil, nil, x.fail(err)
	}
	t.From = e.mirror.name
	x.accepted()
	return t, nil, nil
}

// request builds what is sent. It holds nothing that a server could negotiate by:
// no Accept, no Accept-Encoding.
func (s *settings) request(m *mirror, u *url.URL, req proto.Request) *http.Request {
	h := http.Header{"User-Agent": {s.cfg.UserAgent}}
	if auth := s.credentials(m, u).header(); auth != "" {
		h.Set("Authorization", auth)
	}
	if req.Offset > 0 {
		h.Set("Range", "bytes="+strconv.FormatInt(req.Offset, 10)+"-")
		if req.IfRange != "" {
			h.Set("If-Range", req.IfRange)
		}
	} else {
		if req.IfNoneMatch != "" {
			h.Set("If-None-Match", req.IfNoneMatch)
		}
		if !req.IfModifiedSince.IsZero() {
			h.Set("If-Modified-Since", req.IfModifiedSince.UTC().Format(http.TimeFormat))
		}
	}
	// What may change has to be checked with the archive itself by any cache in
	// between, as apt asks for its indices.
	if req.Class == proto.ClassMetadata && !strings.Contains(req.Loc.Path, "/by-hash/") {
		h.Set("Cache-Control", "max-age=0")
	}
	method := http.MethodGet
	if req.Head {
		method = http.MethodHead
	}
	return &http.Request{Method: method, URL: u, Host: u.Host, Header: h, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1}
}

func isRedirect(status int) bool {
	switch status {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return true
	}
	return false
}

// redirectTarget returns where a redirect leads, or why it is not followed. A user
// and password in the target are dropped: an upstream does not choose what we say
// of ourselves elsewhere.
func redirectTarget(from *url.URL, res *http.Response) (*url.URL, error) {
	refuse := func(why string) error {
		return &proto.Refused{Status: res.StatusCode, Reason: bareURL(from) + " redirects " + why}
	}
	location := res.Header.Get("Location")
	if location == "" {
		return nil, refuse("without saying where to")
	}
	to, err := from.Parse(location)
	if err != nil {
		return nil, refuse("to something that is not a URL")
	}
	to.User, to.Fragment, to.RawFragment = nil, "", ""
	to.Scheme, to.Host = strings.ToLower(to.Scheme), strings.ToLower(to.Host)
	switch {
	case to.Scheme != "http" && to.Scheme != "https":
		return nil, refuse(fmt.Sprintf("to %q, which is not http or https", to.Scheme+":"))
	case to.Hostname() == "":
		return nil, refuse("to a URL without a host")
	case from.Scheme == "https" && to.Scheme == "http":
		return nil, refuse("from https to http, to " + bareURL(to))
	}
	return to, nil
}

// judge makes a transfer of an answer, or the error it stands for. A transfer
// without a body has ended its exchange.
func (x *exchange) judge(req proto.Request, res *http.Response, b *body) (*proto.Transfer, error) {
	t := &proto.Transfer{
		Size:        proto.UnknownSize,
		ETag:        res.Header.Get("ETag"),
		ContentType: res.Header.Get("Content-Type"),
		Tier:        proto.TierUpstream,
	}
	if at, err := http.ParseTime(res.Header.Get("Last-Modified")); err == nil {
		t.Modified = at.UTC()
	}
	where := bareURL(x.url)
	switch status := res.StatusCode; {
	case status == http.StatusOK, status == http.StatusNonAuthoritativeInfo:
		t.Size = res.ContentLength
		if err := otherLength(req, t.Size); err != nil {
			return nil, fmt.Errorf("%s: %w", where, err)
		}
		if suspectPage(req.Loc.Path, t.ContentType) != noPage {
			if err := b.refusePage(req); err != nil {
				return nil, err
			}
		}
	case status == http.StatusPartialContent:
		if err := acceptPart(req, res, b, t); err != nil {
			return nil, fmt.Errorf("%s: %w", where, err)
		}
	case status == http.StatusNotModified && req.Offset == 0 && (req.IfNoneMatch != "" || !req.IfModifiedSince.IsZero()):
		t.NotModified = true
		b.drain()
		x.end(outcomeOK, nil)
		return t, nil
	case status == http.StatusNotFound, status == http.StatusGone:
		return nil, fmt.Errorf("%s: %w (HTTP %d)", where, proto.ErrNotFound, status)
	case status == http.StatusRequestedRangeNotSatisfiable && req.Offset > 0:
		if err := pastTheEnd(req, res, t); err != nil {
			return nil, fmt.Errorf("%s: %w", where, err)
		}
		b.drain()
		x.end(outcomeOK, nil)
		t.Body = http.NoBody
		return t, nil
	default:
		return nil, x.refusal(where, res)
	}
	if req.Head {
		b.drain()
		x.end(outcomeOK, nil)
		t.Body = http.NoBody
		return t, nil
	}
	t.Body = b
	return t, nil
}

// refusal is statusError for an answer of the archive's. Through a proxy, it may be
// the proxy that says it cannot reach the archive; a node with another one, or none,
// might hear otherwise.
func (x *exchange) refusal(where string, res *http.Response) error {
	err := statusError(where, res)
	var busy *proto.Unavailable
	if errors.As(err, &busy) && x.url.Scheme == "http" && x.s.proxyOf(x.url) != nil {
		switch res.StatusCode {
		case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
			busy.Answered = false
		}
	}
	return err
}

// acceptPart checks that a 206 is the rest of the object from the byte asked for.
func acceptPart(req proto.Request, res *http.Response, b *body, t *proto.Transfer) error {
	field := res.Header.Get("Content-Range")
	part, ok := parseContentRange(field)
	switch {
	case req.Offset == 0:
		return fmt.Errorf("%w: part of the object came though all was asked for (Content-Range %q)", proto.ErrCorrupt, field)
	case !ok || part.start != req.Offset || part.total >= 0 && part.end != part.total-1:
		return fmt.Errorf("%w: bytes from %d on, Content-Range %q", errUselessRange, req.Offset, field)
	case res.ContentLength >= 0 && res.ContentLength != part.end-part.start+1:
		return fmt.Errorf("%w: Content-Range %q with %d bytes", errUselessRange, field, res.ContentLength)
	// A server that ignores If-Range would have us splice two versions.
	case strings.HasPrefix(req.IfRange, `"`) && t.ETag != "" && t.ETag != req.IfRange:
		return fmt.Errorf("%w: its ETag is now %s, not %s", errUselessRange, t.ETag, req.IfRange)
	case otherDate(req.IfRange, t.Modified):
		return fmt.Errorf("%w: it was modified at %s, not %s", errUselessRange, t.Modified.Format(http.TimeFormat), req.IfRange)
	}
	t.Offset, t.Size = part.start, part.total
	b.want = part.end - part.start + 1
	return otherLength(req, part.end+1)
}

// otherLength returns an error if an object is not as long as signed metadata says.
func otherLength(req proto.Request, size int64) error {
	if req.Size <= 0 || size < 0 || size == req.Size {
		return nil
	}
	return fmt.Errorf("%w: it is %d bytes long there, the signed metadata lists %d (mirror sync in progress?)", proto.ErrCorrupt, size, req.Size)
}

// otherDate reports whether ifRange is a date and modified another one.
func otherDate(ifRange string, modified time.Time) bool {
	asked, err := http.ParseTime(ifRange)
	return err == nil && !modified.IsZero() && !asked.Equal(modified)
}

// pastTheEnd judges a 416. If the object is exactly as long as what is here
// already, the rest is empty; a shorter object is another one.
func pastTheEnd(req proto.Request, res *http.Response, t *proto.Transfer) error {
	field := res.Header.Get("Content-Range")
	part, ok := parseContentRange(field)
	switch {
	case !ok || part.start >= 0 || part.total > req.Offset:
		return fmt.Errorf("%w: HTTP 416 for bytes from %d on, Content-Range %q", errUselessRange, req.Offset, field)
	case part.total < req.Offset:
		return fmt.Errorf("%w: the object is %d bytes long now, but %d bytes of it came before (HTTP 416)", proto.ErrCorrupt, part.total, req.Offset)
	}
	t.Offset, t.Size = req.Offset, part.total
	return otherLength(req, part.total)
}

// refusePage returns an error if the body is an HTML page in place of the file.
func (b *body) refusePage(req proto.Request) error {
	kind := b.res.Header.Get("Content-Type")
	if suspectPage(req.Loc.Path, kind) == pageLook {
		if req.Head {
			return nil // nothing to look into
		}
		head, err := b.peek()
		if err != nil && err != io.EOF {
			return err
		}
		if !looksLikePage(head) {
			return nil
		}
	}
	return fmt.Errorf("%s: %w: a captive page? It is of type %q in place of %s",
		bareURL(b.x.url), proto.ErrCorrupt, kind, path.Base(req.Loc.Path))
}
