package peers

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	pb "google.golang.org/protobuf/proto"

	"github.com/aptmesh/aptmesh/proto"
	"github.com/aptmesh/aptmesh/proto/peerpb"
)

const (
	sendTimeout   = 2 * time.Second  // of one attempt at one node
	askTimeout    = 30 * time.Second // the node asked may have to go upstream first
	statusTimeout = time.Second
	// snapshotsTimeout bounds one exchange of names: the peer writes what is new to its disk.
	snapshotsTimeout = 10 * time.Second
	// messageBytes is the size at which a message is full. With one announcement more it
	// is still below the limit of gRPC.
	messageBytes = 1 << 20
)

// Announce sends announcements to all nodes that answer pings, to all at once. It returns
// when each has confirmed or failed, within a few seconds. The error joins a
// *proto.PeerFailed for each node that failed. Other nodes get the announcements by
// gossip or by the periodic exchange.
func (m *Mesh) Announce(ctx context.Context, announcements ...proto.Announcement) error {
	messages, errs := announceRequests(announcements)
	return errors.Join(append(errs, m.sendEverywhere(ctx, messages)...)...)
}

// sendEverywhere sends messages to every node that answers pings.
func (m *Mesh) sendEverywhere(ctx context.Context, messages []*peerpb.AnnounceRequest) (errs []error) {
	var mu sync.Mutex
	m.eachAlive(func(p *peer) {
		if err := m.sendAll(ctx, p, messages); err != nil {
			mu.Lock()
			errs = append(errs, err)
			mu.Unlock()
		}
	})
	return errs
}

// eachAlive calls f for every node that answers pings, for all at the same time,
// and waits.
func (m *Mesh) eachAlive(f func(p *peer)) {
	var wg sync.WaitGroup
	for _, p := range m.all() {
		if p.reachable() {
			wg.Go(func() { f(p) })
		}
	}
	wg.Wait()
}

// announceRequests divides announcements among messages.
func announceRequests(announcements []proto.Announcement) (messages []*peerpb.AnnounceRequest, errs []error) {
	now := time.Now()
	message, size := &peerpb.AnnounceRequest{}, 0
	for _, n := range announcements {
		out, err := announcementOut(n, now)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if size >= messageBytes || len(message.Announcements) == maxAnnouncements {
			messages = append(messages, message)
			message, size = &peerpb.AnnounceRequest{}, 0
		}
		message.Announcements = append(message.Announcements, out)
		size += pb.Size(out)
	}
	if len(message.Announcements) > 0 {
		messages = append(messages, message)
	}
	return messages, errs
}

// sendAll sends messages in order until one fails.
func (m *Mesh) sendAll(ctx context.Context, p *peer, messages []*peerpb.AnnounceRequest) error {
	for _, message := range messages {
		if err := m.send(ctx, p, message); err != nil {
			return err
		}
	}
	return nil
}

// send sends one message. If the connection breaks, it tries once more: a node that
// restarts must not miss the message.
func (m *Mesh) send(ctx context.Context, p *peer, message *peerpb.AnnounceRequest) error {
	for attempt := 0; ; attempt++ {
		once, cancel := context.WithTimeout(ctx, sendTimeout)
		_, err := peerpb.NewControlClient(p.control).Announce(once, message, grpc.WaitForReady(attempt > 0))
		cancel()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil || attempt > 0 || status.Code(err) != codes.Unavailable {
			return m.callFailed(ctx, p, err)
		}
	}
}

// callFailed makes the error of a call that failed: the cause of ctx where that
// ended, else what package proto says of it. A node that could not be asked is
// pinged: it may be gone.
func (m *Mesh) callFailed(ctx context.Context, p *peer, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	err = errorOf(p.name, err)
	var failed *proto.PeerFailed
	if errors.As(err, &failed) {
		p.nudge()
	}
	return err
}

// CheckSuite asks a peer to check whether a suite has changed, and returns what the peer
// serves now. fresh makes the peer ask upstream. It waits as long as the peer may take for
// that, but not for a peer that stops answering pings.
//
// The errors are *proto.PeerFailed if the peer could not be asked, the error that the peer
// got from upstream, and the cause of ctx if that has ended.
func (m *Mesh) CheckSuite(ctx context.Context, peer string, id proto.Suite, slots []string, fresh bool) (proto.Announcement, error) {
	if err := checkSuite(id); err != nil {
		return proto.Announcement{}, err
	}
	req := &peerpb.CheckSuiteRequest{Archive: id.Archive, Dir: id.Dir, Name: id.Name, Slots: slotsOut(id, slots), Fresh: fresh}
	var announcements proto.Announcement
	err := m.call(ctx, peer, askTimeout, func(ctx context.Context, client peerpb.ControlClient) error {
		reply, err := client.CheckSuite(ctx, req)
		if err != nil {
			return err
		}
		if announcements, err = announcementIn(reply.GetAnnouncement(), time.Now()); err != nil {
			return err
		}
		if got := announcements.Generation.Suite; got != id {
			return fmt.Errorf("it tells of %s, asked of %s", got, id)
		}
		return nil
	})
	if err != nil {
		return proto.Announcement{}, err
	}
	return announcements, nil
}

// Snapshots tells a peer what this node knows of snapshots, and returns what the peer knows. It does not wait for a
// peer that stops answering pings. Errors are as of CheckSuite.
func (m *Mesh) Snapshots(ctx context.Context, peer string, told proto.SnapshotNews) (proto.SnapshotNews, error) {
	req := &peerpb.SnapshotsRequest{Names: told.Names, Away: uint32(told.Away), Wanted: told.Wanted, Records: told.Records}
	var answer proto.SnapshotNews
	err := m.call(ctx, peer, snapshotsTimeout, func(ctx context.Context, client peerpb.ControlClient) error {
		reply, err := client.Snapshots(ctx, req)
		answer = proto.SnapshotNews{Names: reply.GetNames(), Away: absence(reply.GetAway()), Wanted: reply.GetWanted(), Records: reply.GetRecords()}
		return err
	})
	return answer, err
}

// Mirror has a peer do something for a mirror, and returns how the mirror is there, as JSON. Errors are as of CheckSuite,
// or what the peer says.
func (m *Mesh) Mirror(ctx context.Context, peer, name, act string) (json []byte, err error) {
	req := &peerpb.MirrorRequest{Name: name, Act: act}
	err = m.call(ctx, peer, snapshotsTimeout, func(ctx context.Context, client peerpb.ControlClient) error {
		reply, err := client.Mirror(ctx, req)
		if err == nil && reply.GetRefused() != "" {
			err = errors.New(cleanReason(reply.GetRefused()))
		}
		json = reply.GetJson()
		return err
	})
	return json, err
}

// Nodes names the other nodes of the view that answer pings, and those that do not.
func (m *Mesh) Nodes() (alive, silent []string) {
	for _, p := range m.all() {
		if p.reachable() {
			alive = append(alive, p.name)
		} else {
			silent = append(silent, p.name)
		}
	}
	return alive, silent
}

// Offer hands objects to a peer that only this node holds, and returns those that
// the peer holds when it has taken what it wants. It waits until ctx ends or the
// peer stops answering pings; with an error it returns what was taken before.
func (m *Mesh) Offer(ctx context.Context, peer string, objects []proto.ObjectRequest) ([]proto.Digest, error) {
	var stored []proto.Digest
	for len(objects) > 0 {
		req, n, err := offerRequest(objects)
		if err != nil {
			return stored, err
		}
		err = m.call(ctx, peer, 0, func(ctx context.Context, client peerpb.ControlClient) error {
			reply, err := client.Offer(ctx, req)
			if err != nil {
				return err
			}
			some, err := digestsIn(reply.GetStored(), n)
			stored = append(stored, offered(some, objects[:n])...)
			return err
		})
		if err != nil {
			return stored, err
		}
		objects = objects[n:]
	}
	return stored, nil
}

// offerRequest makes the message that offers the first n of wants.
func offerRequest(objects []proto.ObjectRequest) (req *peerpb.OfferRequest, n int, err error) {
	req = &peerpb.OfferRequest{}
	for size := 0; n < min(len(objects), maxOffers) && size < messageBytes; n++ {
		out, err := offerOut(objects[n])
		if err != nil {
			return nil, 0, err
		}
		req.Offers = append(req.Offers, out)
		size += pb.Size(out)
	}
	return req, n, nil
}

// offered keeps those of digests that wants name.
func offered(digests []proto.Digest, objects []proto.ObjectRequest) []proto.Digest {
	named := make(map[proto.Digest]bool, len(objects))
	for _, w := range objects {
		named[w.Ref.Digest] = true
	}
	var stored []proto.Digest
	for _, d := range digests {
		if named[d] {
			stored = append(stored, d)
		}
	}
	return stored
}

// Statuses asks all nodes that answer pings how they are, all at once. It takes a
// second at most; a node that has not answered by then is missing.
func (m *Mesh) Statuses(ctx context.Context) map[string][]byte {
	var mu sync.Mutex
	statuses := make(map[string][]byte)
	m.eachAlive(func(p *peer) {
		err := m.call(ctx, p.name, statusTimeout, func(ctx context.Context, client peerpb.ControlClient) error {
			reply, err := client.Status(ctx, &peerpb.StatusRequest{}, grpc.MaxCallRecvMsgSize(maxStatus+1<<10))
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			statuses[p.name] = reply.GetJson()
			return nil
		})
		if err != nil {
			m.log.Debug("a node's status cannot be had", "node", p.name, "error", err)
		}
	})
	return statuses
}

// call asks a peer something, for timeout at most (0: as long as ctx allows), and
// gives up when the peer stops answering pings.
func (m *Mesh) call(ctx context.Context, peer string, timeout time.Duration, ask func(context.Context, peerpb.ControlClient) error) error {
	p := m.peer(peer)
	if p == nil {
		return &proto.PeerFailed{Peer: peer, Err: errors.New("it is no member of the cluster")}
	}
	calling, cancel, err := p.whileAlive(ctx)
	if err != nil {
		return err
	}
	defer cancel()
	if timeout > 0 {
		bounded, cancel := context.WithTimeoutCause(calling, timeout, &proto.PeerFailed{Peer: peer, Err: fmt.Errorf("no answer within %v", timeout)})
		defer cancel()
		calling = bounded
	}
	err = ask(calling, peerpb.NewControlClient(p.control))
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case calling.Err() != nil:
		return context.Cause(calling)
	}
	return m.callFailed(ctx, p, err)
}

// absence reads what a node says of itself. More than there is means the most.
func absence(said uint32) proto.Absence { return proto.Absence(min(said, uint32(proto.WasOff))) }
