package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
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

// attempt is the request for one object to one mirror.
type attempt struct {
	archive *archive
	mirror  *mirror
	req     proto.Request
	others  []*mirror     // not asked for it yet
	waited  time.Duration // for the headers of answers so far, redirects among them
	// source is the health of the server that is asked now: the mirror, or the host that it
	// redirects to.
	source *health
	// probe: only whether there is an answer counts.
	probe bool
	// madeUp: nothing lists the name, so the answer says little about the mirror.
	madeUp bool
	// anyHost: redirects are followed even to a host with a penalty or an open breaker, because no
	// other source is left.
	anyHost bool
	// otherMirrorFree reports whether another mirror has room while this one keeps the request
	// waiting; nil where that is not to be asked.
	otherMirrorFree func() bool
	// hurried: another mirror is expected to be faster than a mirror that keeps us waiting.
	hurried atomic.Bool
}

func (c *Client) newAttempt(a *archive, m *mirror, req proto.Request, others []*mirror) *attempt {
	e := &attempt{archive: a, mirror: m, req: req, others: others, source: m.health, madeUp: req.Class == proto.ClassUnlisted}
	e.hurried.Store(c.better(e, 0))
	return e
}

// maxTries is how often a mirror is asked in one attempt if it redirects to hosts with a penalty or
// an open breaker: it may name another host the next time.
const maxTries = 3

// follow makes the request, at the mirror or at the host that it redirects to.
func (c *Client) follow(ctx context.Context, s *settings, e *attempt) (*proto.Transfer, error) {
	for asks := 1; ; asks++ {
		t, err := c.followOnce(ctx, s, e)
		if !errors.Is(err, errAvoided) || asks == maxTries || ctx.Err() != nil {
			return t, err
		}
	}
}

// errAvoided is inside the error of a redirect that was not followed because of the target's
// faults.
var errAvoided = errors.New("there may be a better source")

// avoid returns why a redirect is not followed to a host now; nil where it is.
func (c *Client) avoid(ctx context.Context, e *attempt, from *url.URL, to *health) error {
	fault, _ := c.penalties.get(to.name, e.req.Loc)
	to.mu.Lock()
	now := time.Now()
	open, pause := to.breaker.state(now) == BreakerOpen, to.breaker.pauseLeft(now)
	reason := to.breaker.reason
	to.mu.Unlock()
	switch {
	case pause > 0, e.anyHost && open:
		return to.admit(ctx)
	case e.anyHost, fault == noFault && !open:
		return nil
	case fault != noFault:
		reason = "it failed with this object before"
	}
	return &proto.Unavailable{Reason: fmt.Sprintf("%s redirects to %s, which is left alone: %s", bareURL(from), to.name, reason), Err: errAvoided, Answered: true}
}

// followOnce makes the request and follows redirects. At each hop it gives its slot
// back before it waits for the next one, so that no two hosts can wait for each
// other.
func (c *Client) followOnce(ctx context.Context, s *settings, e *attempt) (*proto.Transfer, error) {
	e.source = e.mirror.health
	first := e.mirror.object(e.req.Loc.Path)
	u := first
	seen := map[string]bool{}
	var hop *redirectHop // nil: the configuration names u
	if e.mirror.Listed {
		hop = &redirectHop{}
	}
	for {
		seen[u.String()] = true
		t, next, err := c.ask(ctx, s, e, u, hop)
		if t != nil {
			t.Base = baseOf(first, u, e.req.Loc.Path)
		}
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
			c.refused(e, e.source, err)
			return nil, err
		}
		e.otherMirrorFree = nil // the mirror has answered
		if host := hostName(next.to); host == hostName(first) {
			e.source = e.mirror.health
		} else {
			e.source = c.sites.health(host)
			if err := c.avoid(ctx, e, u, e.source); err != nil {
				return nil, err
			}
		}
		u, hop = next.to, &redirectHop{from: u, at: next.at, status: next.status}
	}
}

// redirect is an answer that names another URL.
type redirect struct {
	to     *url.URL
	at     netip.Addr // of the server that answered; zero where a proxy asked it
	status int
}

// ask makes one request. It returns a transfer, or the redirect to follow, or an error. hop is the
// redirect that led to u, nil if the configuration did.
func (c *Client) ask(ctx context.Context, s *settings, e *attempt, u *url.URL, hop *redirectHop) (*proto.Transfer, *redirect, error) {
	if hop != nil {
		if err := s.reach.checkName(*hop, u, s.proxyOf(u) != nil); err != nil {
			c.refused(e, e.mirror.health, err)
			return nil, nil, err
		}
	}
	x, err := c.begin(ctx, s, u, e)
	if err != nil {
		return nil, nil, err
	}
	if hop != nil && s.proxyOf(u) == nil {
		x.hop = &hopTarget{redirectHop: *hop, reach: s.reach, url: u}
	}
	byGet := e.probe || e.req.Head && hop != nil && hop.from != nil
	res, err := x.roundTrip(s.request(e.mirror, u, e.req, byGet))
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
		return nil, &redirect{next, x.remote, res.StatusCode}, nil
	}
	t, err := x.judge(e.req, res, b)
	if err != nil {
		b.drain()
		return nil, nil, x.fail(err)
	}
	t.From = e.mirror.name
	if x.source != e.mirror.health && e.req.Provable {
		t.From += fromHost + x.source.name
	}
	x.accepted()
	c.noteName(e)
	return t, nil, nil
}

// noteName remembers whether the name of an object is listed. Blame needs it later.
func (c *Client) noteName(e *attempt) {
	now := time.Now()
	if before, _ := c.madeUp.Get(e.req.Loc, now); before == e.madeUp {
		return
	}
	c.madeUp.Update(e.req.Loc, now, func(bool, bool) (bool, time.Time) { return e.madeUp, now.Add(wrongContentFor) })
}

// fromHost stands in Transfer.From between the name of a mirror and the host that it redirected to.
const fromHost = " -> "

// request builds what is sent. It holds nothing that a server could negotiate by:
// no Accept, no Accept-Encoding. A HEAD is made byGet where a signature in the URL may hold for GET
// only; then the body is one byte, or is not read.
func (s *settings) request(m *mirror, u *url.URL, req proto.Request, byGet bool) *http.Request {
	h := http.Header{"User-Agent": {s.cfg.UserAgent}}
	if auth := s.credentials(m, u).header(); auth != "" {
		h.Set("Authorization", auth)
	}
	sent := u
	if query := s.queryFor(m, u); query != "" {
		with := *u
		with.RawQuery, sent = query, &with // only here: u is what logs and errors name
	}
	if via := s.via(req.Loc); via != "" {
		h.Set("Via", via)
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
	switch {
	case req.NoCache:
		h.Set("Cache-Control", "no-cache")
	case req.Class == proto.ClassMetadata && !req.Immutable:
		h.Set("Cache-Control", "max-age=0")
	}
	method := http.MethodGet
	switch {
	case req.Head && byGet:
		h.Set("Range", "bytes=0-0")
	case req.Head:
		method = http.MethodHead
	}
	return &http.Request{Method: method, URL: sent, Host: u.Host, Header: h, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1}
}

func isRedirect(status int) bool {
	switch status {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return true
	}
	return false
}

// redirectTarget returns where a redirect leads, or why it is not followed. It drops a
// user and password in the target: an upstream does not choose the credentials that we
// send to another server.
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
	if err := mayRedirect(from, to); err != nil {
		return nil, refuse(err.Error())
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
		if !req.Page && !req.Head && !req.Provable && isMarkup(t.ContentType) {
			if err := b.refusePage(req); err != nil {
				return nil, err
			}
		}
	case status == http.StatusPartialContent && req.Head:
		if part, ok := parseContentRange(res.Header.Get("Content-Range")); ok && part.start == 0 {
			t.Size = part.total
		}
		if err := otherLength(req, t.Size); err != nil {
			return nil, fmt.Errorf("%s: %w", where, err)
		}
	case status == http.StatusRequestedRangeNotSatisfiable && req.Head: // of an empty object there is no first byte
		if part, ok := parseContentRange(res.Header.Get("Content-Range")); ok {
			t.Size = part.total
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

// refusal is statusError for an answer of the archive. Through a proxy, the answer may be
// the proxy's, because it cannot reach the archive; a node with another proxy, or none, may
// get another answer.
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

// otherDate reports whether ifRange is a date and modified is another date.
func otherDate(ifRange string, modified time.Time) bool {
	asked, err := http.ParseTime(ifRange)
	return err == nil && !modified.IsZero() && !asked.Equal(modified)
}

// pastTheEnd judges a 416. If the object is exactly as long as the part that is here
// already, the rest is empty. If it is shorter, it is another version.
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

// refusePage returns an error if the body, which is said to be HTML, is an HTML page in place of
// the file.
func (b *body) refusePage(req proto.Request) error {
	kind := b.res.Header.Get("Content-Type")
	head, err := b.peek()
	if err != nil && err != io.EOF {
		return err
	}
	if !looksLikePage(head) {
		return nil
	}
	return fmt.Errorf("%s: %w: a captive page? It is of type %q in place of %s",
		bareURL(b.x.url), proto.ErrCorrupt, kind, path.Base(req.Loc.Path))
}
