package peerfetch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// cluster is some Fetchers joined by calls in place of a network. It is itself what
// is asserted of all of them: one hop, no wrong body.
type cluster struct {
	t     *testing.T
	up    *upstream // one archive for all nodes
	nodes map[string]*node

	// ring is the owners' order as a node sees it; nil: the same for all, by name.
	ring func(self string) []string
	// latency is how long each way of an ask takes.
	latency func(from, to string) time.Duration
	// lag is how long it takes until others know what a node holds.
	lag time.Duration
	// noHealth leaves nodes that failed in the routes.
	noHealth bool

	mu         sync.Mutex
	faults     map[string]fault                      // by the node asked
	started    map[proto.Digest]map[string]time.Time // announced by Config.Started
	falsely    map[string]bool                       // believed to hold everything
	distrusted map[string][]string                   // by the node that distrusts
	sick       map[string]bool                       // failed lately
	dead       map[string]bool                       // from the middle of a byte on
	asks       []ask                                 // in the order in which they were made
	passing    map[*flight]int                       // streams that other nodes take from it at this moment
	fed        map[*flight]int                       // bodies that it takes from other nodes
}

type ask struct {
	from, to string
	proto.PeerRequest
}

type node struct {
	*world
	name string
	c    *cluster
	up   *nodeUpstream
}

// fault is how a peer answers an ask; honest is how it should.
type fault func(ctx context.Context, a ask, honest func() (*proto.Transfer, error)) (*proto.Transfer, error)

func newCluster(t *testing.T, names []string, script func(int, proto.Request) answer, change ...func(*Config)) *cluster {
	c := &cluster{
		t: t, up: &upstream{script: script}, nodes: make(map[string]*node),
		latency:    func(string, string) time.Duration { return 0 },
		faults:     make(map[string]fault),
		started:    make(map[proto.Digest]map[string]time.Time),
		falsely:    make(map[string]bool),
		distrusted: make(map[string][]string),
		sick:       make(map[string]bool),
		dead:       make(map[string]bool),
		passing:    make(map[*flight]int),
		fed:        make(map[*flight]int),
	}
	dir := t.TempDir()
	for _, name := range names {
		n := &node{name: name, c: c, up: &nodeUpstream{c: c}}
		n.world = &world{store: &memStore{dir: dir, blobs: make(map[proto.Digest]string), room: 1 << 40}}
		cfg := Config{
			Store: n.store, Upstream: n.up, Cluster: n, Logger: slog.New(slog.DiscardHandler),
			Started: func(d proto.Digest, begun bool) { c.hearStarted(name, d, begun) },
		}
		for _, ch := range change {
			ch(&cfg)
		}
		n.Fetcher = New(cfg)
		t.Cleanup(n.Close)
		c.nodes[name] = n
	}
	return c
}

// nodeUpstream is one node's way to the archive.
type nodeUpstream struct {
	c *cluster

	mu  sync.Mutex
	own *upstream // what this node meets instead
}

func (u *nodeUpstream) Fetch(ctx context.Context, r proto.Request) (*proto.Transfer, error) {
	u.mu.Lock()
	own := u.own
	u.mu.Unlock()
	if own != nil {
		return own.Fetch(ctx, r)
	}
	return u.c.up.Fetch(ctx, r)
}

func (u *nodeUpstream) Mirrors(archive string) []string { return u.c.up.Mirrors(archive) }

func (u *nodeUpstream) Blame(loc proto.Location, from []string, err error) {
	u.c.up.Blame(loc, from, err)
}

// corrupt has this node, and no other, meet another archive.
func (u *nodeUpstream) corrupt(script func(proto.Request) answer) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.own = &upstream{script: func(_ int, r proto.Request) answer { return script(r) }}
}

// corrupted is how often the other archive was asked.
func (u *nodeUpstream) corrupted() int {
	u.mu.Lock()
	own := u.own
	u.mu.Unlock()
	if own == nil {
		return 0
	}
	return own.count()
}

func (c *cluster) hearStarted(name string, d proto.Digest, begun bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.started[d] == nil {
		c.started[d] = make(map[string]time.Time)
	}
	if begun {
		c.started[d][name] = time.Now()
	} else {
		delete(c.started[d], name)
	}
}

// believed reports whether a node is believed to hold an object. c.mu is held.
func (c *cluster) believed(name string, d proto.Digest) bool {
	since, started := c.started[d][name]
	return c.nodes[name].store.has(d) || started && time.Since(since) >= c.lag || c.falsely[name]
}

func (c *cluster) names() []string { return slices.Sorted(maps.Keys(c.nodes)) }

// Route implements Cluster.
func (n *node) Route(object proto.ObjectRequest) proto.Route {
	c := n.c
	c.mu.Lock()
	defer c.mu.Unlock()
	owners := c.names()
	if c.ring != nil {
		owners = c.ring(n.name)
	}
	fit := func(name string) bool {
		return name == n.name || (!c.sick[name] || c.noHealth) && !slices.Contains(c.distrusted[n.name], name)
	}
	route := proto.Route{Self: n.name}
	for _, name := range owners {
		if fit(name) {
			route.Owners = append(route.Owners, name)
		}
	}
	if object.Ref.IsZero() {
		return route
	}
	for _, name := range c.names() {
		if name != n.name && c.believed(name, object.Ref.Digest) && fit(name) {
			route.Holders = append(route.Holders, name)
		}
	}
	return route
}

// Distrust implements Cluster.
func (n *node) Distrust(peer string, _ error) {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	n.c.distrusted[n.name] = append(n.c.distrusted[n.name], peer)
}

// Fetch implements Cluster.
func (n *node) Fetch(ctx context.Context, peer string, a proto.PeerRequest) (*proto.Transfer, error) {
	c := n.c
	asked := ask{n.name, peer, a}
	n.Fetcher.mu.Lock()
	requester := n.flights[keyOf(a.Object)]
	n.Fetcher.mu.Unlock()
	c.mu.Lock()
	c.asks = append(c.asks, asked)
	f := c.faults[peer]
	if c.passing[requester] > 0 {
		c.t.Errorf("%s asks %s for what it is passing on: a second hop", n.name, peer)
	}
	c.mu.Unlock()
	if peer == n.name {
		c.t.Errorf("%s asks itself", peer)
	}
	honest := func() (*proto.Transfer, error) { return c.carry(ctx, asked) }
	if f == nil {
		f = func(_ context.Context, _ ask, honest func() (*proto.Transfer, error)) (*proto.Transfer, error) {
			return honest()
		}
	}
	t, err := f(ctx, asked, honest)
	if ctx.Err() == nil {
		c.noteHealth(peer, err)
	}
	if t != nil && t.Body != nil {
		t.Body = &watchedBody{ReadCloser: t.Body, c: c, peer: peer, by: requester}
	}
	return t, err
}

// noteHealth is the passive health filter.
func (c *cluster) noteHealth(peer string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if errors.As(err, new(*proto.PeerFailed)) {
		c.sick[peer] = true
	}
}

// watchedBody is a body that a node takes from another.
type watchedBody struct {
	io.ReadCloser
	c    *cluster
	peer string
	by   *flight
	read bool
}

func (b *watchedBody) Read(p []byte) (int, error) {
	if !b.read {
		b.read = true
		b.c.count(b.c.fed, b.by, 1)
	}
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		b.c.noteHealth(b.peer, err)
	}
	return n, err
}

func (b *watchedBody) Close() error {
	if b.read {
		b.c.count(b.c.fed, b.by, -1)
	}
	return b.ReadCloser.Close()
}

func (c *cluster) count(m map[*flight]int, fl *flight, n int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	m[fl] += n
	return m[fl]
}

// carry is the network and the peer's side of it.
func (c *cluster) carry(ctx context.Context, a ask) (*proto.Transfer, error) {
	if err := sleep(ctx, c.latency(a.from, a.to)); err != nil {
		return nil, err
	}
	peer := c.nodes[a.to]
	if peer == nil || c.isDead(a.to) || c.isDead(a.from) {
		return nil, &proto.PeerFailed{Peer: a.to, Err: errors.New("it is no member of the cluster")}
	}
	sent := a.PeerRequest
	sent.Object.Holders, sent.Object.PeersOnly = nil, false // do not travel
	blob, err := peer.ServePeer(ctx, a.from, sent)
	if err := sleep(ctx, c.latency(a.to, a.from)); err != nil {
		if blob != nil {
			blob.Close()
		}
		return nil, err
	}
	if err != nil {
		return nil, overTheWire(a.to, err)
	}
	t := &proto.Transfer{Size: blob.Ref.Size, Offset: a.Offset, Tier: blob.Tier, NotModified: blob.NotModified, Checked: blob.Checked}
	if blob.NotModified {
		return t, nil
	}
	body := &peerBody{c: c, ctx: ctx, a: a, blob: blob, t: t}
	if blob.Stream != nil {
		c.count(c.passing, body.flight(), 1)
		if c.count(c.fed, body.flight(), 0) > 0 {
			c.t.Errorf("%s passes on to %s what another node feeds: a second hop", a.to, a.from)
		}
	} else {
		t.Modified = blob.Modified
	}
	t.Body = body
	return t, nil
}

// overTheWire lets those errors through that have a form there.
func overTheWire(peer string, err error) error {
	var busy *proto.Unavailable
	var verdict *proto.Rejected
	switch {
	case errors.As(err, new(*proto.NotStored)):
		return err
	case errors.As(err, &verdict) && errors.As(err, &busy):
		return &proto.Rejected{Kind: verdict.Kind, Reason: verdict.Reason, Err: &proto.Unavailable{Reason: busy.Reason, RetryAfter: busy.RetryAfter, Answered: busy.Answered}}
	case errors.As(err, &busy): // and nothing else that it may be
		return &proto.Unavailable{Reason: busy.Error(), RetryAfter: busy.RetryAfter, Answered: busy.Answered, Wrong: busy.Wrong}
	case errors.Is(err, proto.ErrNotFound):
		return fmt.Errorf("%s: %w", peer, proto.ErrNotFound)
	case errors.Is(err, proto.ErrCorrupt):
		return fmt.Errorf("%s: %w", peer, proto.ErrCorrupt)
	case toldByUpstream(err):
		return err
	}
	return &proto.PeerFailed{Peer: peer, Err: err}
}

type peerBody struct {
	c    *cluster
	ctx  context.Context
	a    ask
	blob *proto.Blob
	t    *proto.Transfer
	over bool
}

func (b *peerBody) flight() *flight { return b.blob.Stream.(*reader).fl }

// end notes that the stream is over, however often it is called.
func (b *peerBody) end() {
	if b.blob.Stream != nil && !b.over {
		b.over = true
		b.c.count(b.c.passing, b.flight(), -1)
	}
}

func (b *peerBody) Read(p []byte) (int, error) {
	if b.ctx.Err() != nil {
		return 0, b.ctx.Err()
	}
	if b.c.isDead(b.a.to) {
		return 0, &proto.PeerFailed{Peer: b.a.to, Err: errors.New("connection reset")}
	}
	n, err := b.blob.Reader().Read(p)
	if b.blob.Bytes != nil {
		b.blob.Bytes = b.blob.Bytes[n:]
		if n == 0 {
			err = io.EOF
		}
	}
	if err == io.EOF {
		if s, ok := b.blob.Stream.(interface{ Modified() time.Time }); ok {
			b.t.Modified = s.Modified()
		}
	} else if err != nil {
		err = overTheWire(b.a.to, err)
	}
	if err != nil {
		b.end()
	}
	return n, err
}

func (b *peerBody) Close() error {
	b.end()
	return b.blob.Close()
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// kill ends a node as kill -9 does.
func (c *cluster) kill(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dead[name] = true
}

func (c *cluster) isDead(name string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dead[name]
}

func (c *cluster) setFault(peer string, f fault) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.faults[peer] = f
}

func (c *cluster) asksOf(from string) []ask {
	c.mu.Lock()
	defer c.mu.Unlock()
	var list []ask
	for _, a := range c.asks {
		if a.from == from {
			list = append(list, a)
		}
	}
	return list
}

// asked writes the asks of a node down: "b+ c@100" is b asked to fill, and c for what
// it holds, from byte 100 on.
func (c *cluster) asked(from string) string {
	var words []string
	for _, a := range c.asksOf(from) {
		word := a.to
		if a.Fill {
			word += "+"
		}
		if a.Offset > 0 {
			word += fmt.Sprintf("@%d", a.Offset)
		}
		words = append(words, word)
	}
	return strings.Join(words, " ")
}

// distrusts lists whom a node distrusts.
func (c *cluster) distrusts(name string) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.distrusted[name])
}

// hold puts content into a node's store.
func (n *node) hold(t *testing.T, content []byte) {
	t.Helper()
	w, err := n.store.Create(int64(len(content)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(content); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Commit(lastModified); err != nil {
		t.Fatal(err)
	}
}

// evict has a node forget an object, as a full store does.
func (n *node) evict(d proto.Digest) {
	n.store.remove(d)
	n.c.hearStarted(n.name, d, false)
}

var lastModified = time.Date(2026, 4, 1, 12, 0, 0, 0, time.UTC)

// check holds the cluster against what must be true at the end: nothing wrong kept,
// no flight left, nothing announced that is not held.
func (c *cluster) check(t *testing.T) {
	t.Helper()
	for _, n := range c.nodes {
		n.settled(t)
		n.checkStore(t)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for d, names := range c.started {
		for name := range names {
			if !c.dead[name] && !c.nodes[name].store.has(d) {
				t.Errorf("%s says that it holds %s and does not", name, d.Short())
			}
		}
	}
}

// close ends all nodes, within a synctest bubble.
func (c *cluster) close() {
	for _, n := range c.nodes {
		n.Close()
	}
}

// trickling answers as a real archive does: some at a time. It breaks no rule of
// the protocol and knows Last-Modified.
func trickling(contents map[string][]byte) func(int, proto.Request) answer {
	return func(_ int, r proto.Request) answer {
		content, ok := contents[r.Loc.Path]
		if !ok {
			return answer{err: proto.ErrNotFound}
		}
		if !r.IfModifiedSince.IsZero() && r.IfModifiedSince.Equal(lastModified) {
			return answer{same: true}
		}
		return answer{
			body: &trickle{bytes.NewReader(content[r.Offset:])}, size: int64(len(content)), offset: r.Offset,
			modified: lastModified,
		}
	}
}

type trickle struct{ r io.Reader }

func (s *trickle) Read(p []byte) (int, error) {
	time.Sleep(time.Millisecond)
	return s.r.Read(p[:min(len(p), 10_000)])
}

// expect reads an object as a client does, and reports how many bytes there were
// before the error. A body that ends well must be content.
func (n *node) expect(content []byte, object proto.ObjectRequest) (int, error) {
	blob, err := n.Open(context.Background(), object)
	if err != nil {
		return 0, err
	}
	defer blob.Close()
	left := &comparison{rest: content}
	_, err = io.Copy(left, blob.Reader())
	if err == nil && (left.wrong || len(left.rest) > 0) {
		n.c.t.Errorf("%s gave a complete body that is wrong", n.name)
	}
	if err != nil && len(left.rest) == 0 {
		n.c.t.Errorf("%s gave the last byte of a body that failed: %v", n.name, err)
	}
	return len(content) - len(left.rest), err
}

// comparison takes bytes off rest while they are the same.
type comparison struct {
	rest  []byte
	wrong bool
}

func (c *comparison) Write(p []byte) (int, error) {
	if !bytes.HasPrefix(c.rest, p) {
		c.wrong = true
	}
	c.rest = c.rest[min(len(p), len(c.rest)):]
	return len(p), nil
}

// seeded returns a generator whose seed is in the log.
func seeded(t *testing.T) *rand.Rand {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 2))
}
