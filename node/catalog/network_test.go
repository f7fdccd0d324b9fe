package catalog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aptmesh/aptmesh/node/catalog/suite"
	"github.com/aptmesh/aptmesh/proto"
)

// countingUpstream counts what one node asks of upstream.
type countingUpstream struct {
	*fakeUpstream
	mu    sync.Mutex
	asked map[string]int
	fail  error // of this node's requests alone
}

func (u *countingUpstream) Fetch(ctx context.Context, r proto.Request) (*proto.Transfer, error) {
	u.mu.Lock()
	u.asked[r.Loc.Path]++
	fail := u.fail
	u.mu.Unlock()
	if fail != nil {
		u.fakeUpstream.mu.Lock()
		u.fakeUpstream.asked[r.Loc.Path]++
		u.fakeUpstream.mu.Unlock()
		return nil, fail
	}
	return u.fakeUpstream.Fetch(ctx, r)
}

func (u *countingUpstream) requests(path string) int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.asked[path]
}

func (u *countingUpstream) failAll(err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.fail = err
}

// exchange tells a node by chance all that is known, and hears all of it, every now
// and then, as memberlist does.
func (n *clusterNode) exchange(stop chan struct{}) {
	for {
		select {
		case <-stop:
			return
		case <-time.After(n.f.exchangeEvery()):
		}
		f := n.f
		f.mu.Lock()
		other := f.nodes[f.rng.IntN(len(f.nodes))]
		ok := other != n && f.gossip && other.running && f.reachable(n.name, other.name)
		f.mu.Unlock()
		if ok {
			other.catalog().Receive(n.name, n.catalog().Announcements()...)
			n.catalog().Receive(other.name, other.catalog().Announcements()...)
		}
	}
}

// inLine are those who may lead as this node sees it, first to last. fleet.mu is held.
func (n *clusterNode) inLine() []string {
	var line []string
	order := n.f.order
	if n.ranked != nil {
		order = n.ranked
	}
	for _, name := range order {
		if name == n.name || !n.f.ill[name] && n.f.side[name] == n.f.side[n.name] {
			line = append(line, name)
		}
	}
	return line
}

func (n *clusterNode) Rank(proto.Suite) int {
	n.f.mu.Lock()
	defer n.f.mu.Unlock()
	line := n.inLine()
	if i := slices.Index(line, n.name); i >= 0 {
		return i
	}
	return len(line)
}

func (f *fleet) oneWay() time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.way/2 + time.Duration(f.rng.Int64N(int64(f.way/2)+1))
}

func (n *clusterNode) CheckSuite(ctx context.Context, id proto.Suite, uses []string, fresh bool) (string, proto.Announcement, error) {
	f := n.f
	f.mu.Lock()
	line := n.inLine()
	f.mu.Unlock()
	failed := error(&proto.PeerFailed{Peer: "cluster", Err: errors.New("nobody else can be asked")})
	for _, name := range line {
		if name == n.name {
			break
		}
		f.mu.Lock()
		ok := f.reachable(n.name, name) && f.node(name).running
		f.asks++
		f.mu.Unlock()
		if !ok {
			time.Sleep(time.Second) // until it is given up
			failed = &proto.PeerFailed{Peer: name, Err: errors.New("no answer")}
			continue
		}
		time.Sleep(f.oneWay())
		announcement, err := f.node(name).catalog().ServeCheck(ctx, id, slices.Clone(uses), fresh)
		back := f.oneWay()
		time.Sleep(back)
		if err == nil {
			announcement.Checked = late(announcement.Checked, back)
			return name, announcement, nil
		}
		if suite.Upstreams(err) || isUnavailable(err) {
			return name, proto.Announcement{}, fmt.Errorf("node %s: %w", name, err)
		}
		failed = &proto.PeerFailed{Peer: name, Err: err}
	}
	return "", proto.Announcement{}, failed
}

func (n *clusterNode) Lookup(ctx context.Context, loc proto.Location) (proto.Ref, bool) {
	f := n.f
	for _, other := range f.nodes {
		f.mu.Lock()
		ok := other != n && f.reachable(n.name, other.name) && other.running
		f.mu.Unlock()
		if !ok {
			continue
		}
		if e, ok := other.catalog().Explain(loc); ok && e.Listed && !e.Object.Ref.IsZero() {
			return e.Object.Ref, true
		}
	}
	return proto.Ref{}, false
}

func isUnavailable(err error) bool {
	var busy *proto.Unavailable
	return errors.As(err, &busy)
}

// late is a time that travels as an age.
func late(at time.Time, way time.Duration) time.Time {
	if at.IsZero() {
		return at
	}
	return at.Add(way)
}

func (n *clusterNode) Announce(announcement proto.Announcement) {
	f := n.f
	f.mu.Lock()
	onTell := f.onTell
	f.mu.Unlock()
	if onTell != nil {
		onTell(n.name, announcement)
	}
	hint := announcement
	hint.Slots = nil
	for _, other := range f.nodes {
		if other == n {
			continue
		}
		f.mu.Lock()
		var sent []proto.Announcement
		if announcement.FirstHand {
			sent = append(sent, announcement)
			f.tells++
		}
		if f.gossip && n.hinted != announcement.Generation.Root {
			sent = append(sent, hint)
		}
		for _, m := range slices.Clone(sent) {
			if f.rng.Float64() < f.twice {
				sent = append(sent, m)
			}
		}
		sent = slices.DeleteFunc(sent, func(proto.Announcement) bool { return f.rng.Float64() < f.loss })
		f.mu.Unlock()
		for _, m := range sent {
			way := f.oneWay()
			f.post.Go(func() {
				time.Sleep(way)
				f.mu.Lock()
				ok := f.reachable(n.name, other.name) && other.running
				f.mu.Unlock()
				if ok {
					m.Checked = late(m.Checked, way)
					other.catalog().Receive(n.name, m)
				}
			})
		}
	}
	f.set(func() { n.hinted = announcement.Generation.Root })
}

// clusterBlobs finds an object on any node within reach, and upstream last.
type clusterBlobs struct {
	n     *clusterNode
	alone *fakeBlobs
}

func (b *clusterBlobs) Open(ctx context.Context, object proto.ObjectRequest) (*proto.Blob, error) {
	if blob, err := b.alone.keeper.Get(object.Ref.Digest); err == nil {
		blob.Verified = object.Provable()
		return blob, nil
	}
	f := b.n.f
	f.mu.Lock()
	b.n.opened[object.Ref.Digest]++
	cut, slow, stall := b.n.cut, b.n.slow, b.n.stall[object.Ref.Digest]
	f.mu.Unlock()
	if stall {
		<-ctx.Done()
		return nil, context.Cause(ctx)
	}
	if !object.PeersOnly {
		time.Sleep(slow)
		if cut {
			return nil, &proto.Unavailable{Reason: "cut off"}
		}
	}
	time.Sleep(f.oneWay())
	var data []byte
	f.mu.Lock()
	names := slices.Clone(object.Holders)
	if !f.blind {
		for _, n := range f.nodes { // as their summaries tell
			names = append(names, n.name)
		}
	}
	for _, name := range names {
		n := f.node(name)
		if n == nil || n == b.n || !n.running || !f.reachable(b.n.name, name) {
			continue
		}
		n.keeper.mu.Lock()
		if current, ok := n.keeper.blobs[object.Ref.Digest]; ok {
			data = current
		}
		n.keeper.mu.Unlock()
	}
	if told, ok := f.foreign[object.Ref.Digest]; ok && data == nil {
		data = told
	}
	f.mu.Unlock()
	time.Sleep(f.oneWay())
	if data != nil {
		if proto.DigestOf(data) == object.Ref.Digest {
			b.alone.keeper.Put("", data, time.Time{})
		}
		return &proto.Blob{Ref: object.Ref, Tier: proto.TierPeer, Stream: io.NopCloser(bytes.NewReader(data))}, nil
	}
	if object.PeersOnly {
		return nil, &proto.PeerFailed{Peer: strings.Join(object.Holders, ","), Err: fs.ErrNotExist}
	}
	return b.alone.Open(ctx, object)
}
