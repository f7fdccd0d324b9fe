package front

import (
	"errors"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// exchange is one request on its way to its answer, and what will be said of it.
type exchange struct {
	f     *Front
	w     http.ResponseWriter
	r     *http.Request
	began time.Time
	via   []string   // the proxies that it came through
	rules *rules     // in force when it began
	conn  *connState // nil where the server is not one of ours

	loc       proto.Location // zero until known
	snapshot  string         // the ID of a snapshot or channel; "" for the archive as it is
	info      proto.PathInfo // what the name of loc says
	entry     proto.Resolution
	status    int // as logged: 499 where the client went away before any answer
	note      note
	sent      int64 // bytes of body
	firstByte time.Duration
	begun     bool // the head of the answer is with net/http
	aborted   bool
	failure   error  // why it was aborted
	said      string // the sentence that the client got in place of an object

	// What the answer is decided from, and the answer: here and not on the stack,
	// which every idle connection would keep at its largest.
	conditions conditions
	subject    subject
	answer     answer
}

var exchanges = sync.Pool{New: func() any { return new(exchange) }}

// ServeHTTP implements http.Handler. It ends by panicking with http.ErrAbortHandler
// where an answer must not look complete.
func (f *Front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := exchanges.Get().(*exchange)
	x.f, x.w, x.r, x.began, x.rules = f, w, r, time.Now(), f.rules.Load()
	x.conn, _ = r.Context().Value(connKey{}).(*connState)
	f.metrics.inFlight.Add(1)
	defer x.end()
	if r.ContentLength != 0 {
		// Nobody reads this body but net/http, afterwards, and it would wait for ever.
		_ = http.NewResponseController(w).SetReadDeadline(x.began.Add(bodyTimeout))
	}
	switch {
	case !x.admit(x.rules.everyone):
	case x.ownRequest():
	case x.conn != nil && x.conn.full:
		x.refuseConnection()
	case f.draining.Load():
		x.refuse(&refusal{status: http.StatusServiceUnavailable, reason: reasonDrain, retryAfter: 1, closing: true,
			text: "this node is shutting down; ask again, and another one or its successor will answer"})
	case r.Method == http.MethodGet || r.Method == http.MethodHead:
		x.serve()
	case r.Method == http.MethodConnect:
		x.connect()
	default:
		x.refuse(&refusal{status: http.StatusMethodNotAllowed, reason: reasonMethod, allow: "GET, HEAD, CONNECT",
			text: "the method " + r.Method + " is not served here, only GET, HEAD and CONNECT: this is a cache to read from"})
	}
}

// serve answers GET and HEAD.
func (x *exchange) serve() {
	running := &x.f.running
	running.Add(1)
	defer running.Add(-1)
	if l, ok := x.rules.listOf(x.r.RequestURI); ok {
		x.list(l)
		return
	}
	local, _ := x.r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	target := x.r.RequestURI
	if x.f.cfg.Snapshots != nil {
		id, rest, err := x.rules.routes.inSnapshot(target, local)
		switch {
		case err != nil:
			x.refuseLocation(err)
			return
		case id != "":
			x.snapshot, target = id, rest
			x.subject.snapshot = id
			if at := x.f.fromHistory(x.rules, id, rest, x.began); at != "" {
				x.snapshot, target = "", at
			}
		}
	}
	loc, err := x.rules.routes.locate(target, local)
	if errors.As(err, new(*notMade)) {
		if !x.make(loc) {
			return
		}
		loc, err = x.rules.routes.locate(target, local)
	}
	if used := x.rules.used[loc.Archive]; used != nil {
		used()
	}
	if err != nil {
		var r *refusal
		if errors.As(err, &r) && x.rules.routes.relayed(x.r.RequestURI, r) {
			x.relay()
			return
		}
		x.refuseLocation(err)
		return
	}
	x.loc, x.info = loc, x.rules.formats[loc.Archive].PathInfo(loc.Path)
	guard := x.rules.guard(loc.Archive)
	if !x.admit(guard) {
		return
	}
	if x.snapshot != "" && !x.f.cfg.Snapshots.Known(x.snapshot, loc.Archive) {
		x.refuse(x.rules.unknownID(x.snapshot, loc.Archive, x.began))
		return
	}
	if len(x.via) > 0 && x.f.cfg.Waits != nil {
		defer x.f.cfg.Waits(loc, x.via)()
	}
	if x.hostListAt() {
		return
	}
	x.conditions = conditionsOf(x.r)
	x.subject.loc, x.subject.info, x.subject.now, x.subject.private = loc, &x.info, x.began, guard != nil
	blob, err := x.openPatiently()
	switch {
	case err != nil:
		x.fail(err)
	case blob == nil:
		x.begin(&x.answer)
	default:
		defer blob.Close()
		answerObject(&x.answer, &x.conditions, &x.subject)
		x.send(&x.answer, blob)
	}
}

// open finds what the location means and opens it. It returns nil where the answer is decided without that.
func (x *exchange) open() (*proto.Blob, error) {
	if err := x.resolve(); err != nil {
		return nil, err
	}
	c, s := &x.conditions, &x.subject
	s.entry, s.ref = &x.entry, x.entry.Object.Ref
	if answerUnchanged(&x.answer, c, s) {
		return nil, nil
	}
	if x.conn != nil {
		x.entry.Object.Client = x.conn.name
	}
	open := x.f.fetcher.Open
	if c.head {
		open = x.f.fetcher.Head
	}
	blob, err := open(x.r.Context(), x.entry.Object)
	if err != nil {
		return nil, err
	}
	if err := s.hold(blob, c.head); err != nil {
		_ = blob.Close()
		return nil, err
	}
	return blob, nil
}

// A request that is held back is tried again after firstRetry, and then ever more rarely, down to once in
// lastRetry. No format can have it held for longer than mostHold.
const (
	firstRetry = 250 * time.Millisecond
	lastRetry  = 2 * time.Second
	mostHold   = 25 * time.Second
)

// heldBack waits where an error may pass and the client would not come back for it. false: it is time to answer.
func (x *exchange) heldBack(err error, wait time.Duration) bool {
	left := min(x.info.Hold, mostHold) - time.Since(x.began)
	if left <= 0 || x.f.draining.Load() || x.refusal(err).status != http.StatusServiceUnavailable {
		return false
	}
	timer := time.NewTimer(min(wait, left))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-x.r.Context().Done():
		return false
	}
}

// make has the archive of a location served, which is one of a class, and takes up the rules that have it; false: the
// client has its answer.
func (x *exchange) make(loc proto.Location) bool {
	classes := x.rules.routes.classes
	allow, deny := classes.Guard(loc.Archive)
	guard, err := newGuard("archives."+loc.Archive, allow, deny)
	if err == nil && !x.admit(guard) {
		return false
	}
	if err == nil {
		err = classes.Make(loc.Archive, x.peer())
	}
	if err != nil {
		x.failure = err
		x.refuse(refuse(loc, about{}, err))
		return false
	}
	x.rules = x.f.rules.Load()
	return true
}

// resolve asks the catalog. no-cache on a root asks it to look upstream first, unless clients
// send that by habit; max-age=0 does not, for apt sends that with every index and a fleet of
// hosts would become as many checks upstream.
func (x *exchange) resolve() (err error) {
	fresh := x.info.Root && !x.info.NoCacheByHabit && (asks(x.r.Header["Cache-Control"], "no-cache") || asks(x.r.Header["Pragma"], "no-cache"))
	if !fresh {
		var known bool
		if x.entry, known = x.known(); known {
			return nil
		}
	}
	if x.snapshot != "" {
		x.entry, err = x.f.cfg.Snapshots.Discover(x.r.Context(), x.snapshot, x.loc, fresh)
	} else {
		x.entry, err = x.f.catalog.Discover(x.r.Context(), x.loc, fresh)
	}
	var unavailable *proto.Unavailable
	if fresh && errors.As(err, &unavailable) {
		// Upstream being down must not take from a client what it can have.
		if held, ok := x.known(); ok {
			if held.Stale == "" {
				held.Stale = "no-cache was asked for, but upstream could not be checked: " + err.Error()
			}
			x.entry = held
			return nil
		}
	}
	return err
}

// known is what the location means, as far as that is known without waiting.
func (x *exchange) known() (proto.Resolution, bool) {
	if x.snapshot != "" {
		return x.f.cfg.Snapshots.Resolve(x.snapshot, x.loc)
	}
	return x.f.catalog.Resolve(x.loc)
}

// asks reports whether a list field holds the directive.
func asks(values []string, directive string) bool {
	for _, v := range values {
		for part := range strings.SplitSeq(v, ",") {
			if strings.EqualFold(strings.TrimSpace(part), directive) {
				return true
			}
		}
	}
	return false
}

// hold adopts what the blob says of the object. It refuses a blob whose length is not the
// signed one, because apt gives up after a 200 of another length.
func (s *subject) hold(b *proto.Blob, head bool) error {
	s.ref, s.modified, s.tier = b.Ref, b.Modified, b.Tier
	if s.entry.Stale == "" {
		s.entry.Stale = b.Stale
	}
	switch {
	case b.Bytes != nil:
		s.ref.Size = int64(len(b.Bytes))
		s.proven = true
	case b.File != nil:
		if s.ref.Size < 0 {
			info, err := b.File.Stat()
			if err != nil {
				return err
			}
			s.ref.Size = info.Size()
		}
		s.proven = true
	case head:
		s.proven = b.Tier == proto.TierMemory || b.Tier == proto.TierDisk || !b.Modified.IsZero()
	default:
		_, parted := b.Stream.(proto.Parted)
		s.whole, s.doubted = !parted || b.Doubted, b.Doubted
		s.proven, s.claimed = !b.Modified.IsZero(), b.Claimed
	}
	want := s.entry.Object
	if !want.Accepts(s.ref.Size) {
		return &wrongLength{want: want.Ref.Size, got: s.ref.Size}
	}
	return nil
}

// refuseLocation answers a request target that means no file.
func (x *exchange) refuseLocation(err error) {
	var r *refusal
	switch {
	case !errors.As(err, &r):
		x.fail(err)
	case r.reason == reasonRoot:
		x.page()
	default:
		x.refuse(r)
	}
}

// fail answers an error of the catalog or the fetcher.
func (x *exchange) fail(err error) {
	if x.r.Context().Err() != nil {
		// Nobody is there to read an answer, and returning without one would
		// make net/http send an empty 200.
		x.status = statusClientGone
		x.abort(reasonClient, err)
	}
	r := x.refusal(err)
	if r.status == http.StatusInternalServerError {
		x.f.log.Error("a request failed inside the node", "location", x.loc.String(), "error", err)
	}
	x.failure = err
	x.refuse(r)
}

// refusal is the answer to an error of the catalog or the fetcher.
func (x *exchange) refusal(err error) *refusal {
	return refuse(x.loc, about{info: &x.info, listed: x.entry.Listed, snapshot: x.snapshot}, err)
}

// refuse answers with an error.
func (x *exchange) refuse(r *refusal) {
	a := answerRefusal(r)
	x.sendText(&a)
}

// statusClientGone is the logged status of a request whose client went away.
const statusClientGone = 499

// end counts and logs the exchange. It runs for aborted ones, too.
func (x *exchange) end() {
	took := time.Since(x.began)
	x.f.metrics.inFlight.Add(-1)
	x.f.metrics.count(x)
	x.remember()
	if x.f.access != nil {
		x.f.access.log(x, took)
	}
	*x = exchange{}
	exchanges.Put(x)
}
