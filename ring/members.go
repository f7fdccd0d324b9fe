package ring

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/aptmesh/aptmesh/proto/expiring"
)

const (
	// maxMessages and maxStates are how many messages and states wait for delivery.
	maxMessages, maxStates = 1024, 16
	// maxBroadcasts is how many messages wait to be sent. They pile up while there are no
	// other nodes.
	maxBroadcasts = 256
	// spreading bounds how long Leave, and the farewell in Disconnect, wait for their
	// announcement to spread.
	spreading = 3 * time.Second
)

// MaxState is the longest state that an exchange carries, in bytes.
const MaxState = 1 << 20

// Members is this node's part in the gossip. It is safe for concurrent use.
//
// Its goroutines: one builds and publishes views (and runs the OnChange callbacks), one
// delivers what arrived, one sends beacons. From Join on, one contacts seeds and missing
// nodes, and one waits for this node to settle. Close ends them all.
type Members struct {
	cfg     Config
	wire    *wire
	list    *memberlist.Memberlist
	keyring *memberlist.Keyring // nil: no encryption
	addr    string
	tick    time.Duration // between two rounds of gossip
	logs    *memberlistLog
	roster  *roster

	view      atomic.Pointer[View]
	dirty     chan struct{}      // holds one when the roster has changed
	urgent    chan chan struct{} // each is closed when a view is published
	following chan struct{}      // holds one when there is a new follower
	followers []*follower        // guarded by mu

	messages   *inbox
	states     *inbox
	notes      *inbox // frames of this package's own
	broadcasts *memberlist.TransmitLimitedQueue

	joining   sync.Once
	contacted chan struct{} // closed when a seed has answered, or none has
	settled   chan struct{}

	received, conflicts, changes, unreached atomic.Uint64
	built                                   atomic.Int64 // ns that the last ring took

	// lookups and failures say why seeds and nodes could not be reached in the last
	// round of contacts.
	lookups  atomic.Pointer[[]string]
	failures atomic.Pointer[[]noContact]
	claims   *expiring.Map[string, Claim] // by name: names that two nodes use

	ctx    context.Context // until Close
	cancel context.CancelFunc
	group  sync.WaitGroup
	mu     sync.Mutex
	life   sync.RWMutex // read-held by what Close must wait for; ctx ends with it held

	rekeying sync.Mutex // held while keys change

	// updating holds one while memberlist announces something of this node, bids
	// farewell or shuts down, which may take seconds: memberlist forgets a node that
	// has left, and then panics when something of it is announced.
	updating chan struct{}
	gone     bool // farewell or shutdown; guarded by updating
}

// Start listens. The node is Joining, and alone until Join or until other nodes find it.
// The error names the wrong field of cfg, or the address that cannot be bound.
func Start(cfg Config) (*Members, error) {
	cfg.setDefaults()
	cfg.Seeds = slices.Clone(cfg.Seeds)
	if err := cfg.check(); err != nil {
		return nil, err
	}
	m := &Members{
		cfg: cfg, roster: newRoster(cfg.self()),
		dirty: make(chan struct{}, 1), urgent: make(chan chan struct{}), following: make(chan struct{}, 1),
		messages: newInbox(maxMessages), states: newInbox(maxStates), notes: newInbox(maxStates),
		contacted: make(chan struct{}), settled: make(chan struct{}),
		updating: make(chan struct{}, 1), claims: expiring.New[string, Claim](maxClaims),
	}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	m.roster.recall(cfg.Known)
	m.build()
	if err := m.listen(); err != nil {
		m.cancel()
		return nil, err
	}
	m.build()
	m.group.Go(m.publish)
	m.group.Go(m.deliver)
	m.group.Go(m.sendBeacons)
	return m, nil
}

// listen opens the network and starts memberlist on it.
func (m *Members) listen() (err error) {
	cfg := &m.cfg
	logger, logs := newLogs(cfg.Logger)
	m.logs = logs
	if m.keyring, err = newKeyring(cfg.Keys); err != nil {
		return err
	}
	profile := cfg.profile()
	profile.Logger, profile.Keyring = logger, m.keyring
	d := delegate{m}
	profile.Delegate, profile.Events, profile.Alive, profile.Conflict = d, d, d, d
	if cfg.Timing != nil {
		cfg.Timing(profile)
	}
	m.tick = profile.GossipInterval
	m.broadcasts = &memberlist.TransmitLimitedQueue{RetransmitMult: profile.RetransmitMult, NumNodes: m.roster.size}

	if m.wire, err = cfg.open(m.ctx, logger); err != nil {
		return err
	}
	profile.Transport = m.wire
	if err = m.wire.checkOwnAddress(); err == nil {
		m.list, err = memberlist.Create(profile)
	}
	if err != nil {
		_ = m.wire.Shutdown()
		return fmt.Errorf("gossip: %w", err)
	}
	m.addr = m.roster.nodes()[0].GossipAddr
	if m.keyring == nil {
		cfg.Logger.Warn("gossip is not encrypted: whoever reaches this address can take part", "address", m.addr)
	}
	return nil
}

// Addr returns the ip:port at which others reach this node's gossip.
func (m *Members) Addr() string { return m.addr }

// View returns the present view. It costs one atomic load.
func (m *Members) View() *View { return m.view.Load() }

// Settled is closed when the node has become Active, which it does once, some time
// after Join, unless Leave comes first.
func (m *Members) Settled() <-chan struct{} { return m.settled }

// Broadcast gossips a message of at most MaxMessage bytes. It reaches some of the other
// nodes; in a small cluster, most. A node that learns something new from it broadcasts it
// again, and so it reaches all.
func (m *Members) Broadcast(msg []byte) error {
	if len(msg) > MaxMessage {
		return fmt.Errorf("gossip message of %d bytes: at most %d fit", len(msg), MaxMessage)
	}
	frame := make([]byte, 0, 1+len(msg))
	frame = append(append(frame, frameMessage), msg...)
	m.broadcasts.QueueBroadcast(broadcast(frame))
	m.broadcasts.Prune(maxBroadcasts)
	return nil
}

// broadcast is a message in memberlist's queue. It invalidates no other message, because
// this package does not understand them.
type broadcast []byte

var _ memberlist.UniqueBroadcast = broadcast(nil)

func (broadcast) Invalidates(memberlist.Broadcast) bool { return false }
func (b broadcast) Message() []byte                     { return b }
func (broadcast) Finished()                             {}
func (broadcast) UniqueBroadcast()                      {}

// deliver passes what arrived to Received and MergeState.
func (m *Members) deliver() {
	for {
		select {
		case msg := <-m.messages.queue:
			m.received.Add(1)
			m.cfg.Received(msg)
		case frame := <-m.notes.queue:
			switch frame[0] {
			case frameLeft:
				m.receiveLeft(frame[1:])
			case frameClaim:
				m.receiveClaim(frame)
			}
		case state := <-m.states.queue:
			m.cfg.MergeState(state)
		case <-m.ctx.Done():
			return
		}
	}
}

// run starts a goroutine that Close waits for, unless it has been called.
func (m *Members) run(f func()) {
	m.life.RLock()
	defer m.life.RUnlock()
	if m.ctx.Err() == nil {
		m.group.Go(f)
	}
}

// announce has memberlist spread what this node now says of itself, and waits at
// most that long for it to have been sent often enough.
func (m *Members) announce(wait time.Duration) error {
	m.updating <- struct{}{}
	defer func() { <-m.updating }()
	for range 10 {
		if m.gone {
			return errClosed
		}
		err := m.list.UpdateNode(wait)
		if m.roster.upToDate() {
			return err
		}
		// memberlist was refuting a suspicion about this node at the same moment, which
		// is newer than the update, and dropped the update without a word.
	}
	return errors.New("what this node says of itself could not be announced")
}

var errClosed = errors.New("the node does not take part in the gossip any more")

// Leave announces that this node owns nothing from now on; it still serves, and is a
// member. It returns when the announcement had time to spread, after 3 s at most, or with
// the cause of ctx.
func (m *Members) Leave(ctx context.Context) error {
	if !m.roster.become(Leaving) {
		return nil
	}
	m.changed()
	spread := make(chan error, 1)
	go func() {
		err := m.announce(waitFor(ctx))
		select {
		case <-time.After(2 * m.tick): // others pass it on
		case <-m.ctx.Done():
		}
		spread <- err
	}()
	select {
	case err := <-spread:
		if err != nil {
			m.cfg.Logger.Info("that this node leaves may not have reached all nodes", "error", err)
		}
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Disconnect calls Leave, sends the farewell, and closes. The other nodes drop this node at once,
// and do not wait for it.
func (m *Members) Disconnect(ctx context.Context) error {
	left := m.Leave(ctx)
	m.farewell(ctx)
	return errors.Join(left, m.Close())
}

func (m *Members) farewell(ctx context.Context) {
	m.updating <- struct{}{}
	defer func() { <-m.updating }()
	if m.gone {
		return
	}
	m.gone = true
	if err := m.list.Leave(waitFor(ctx)); err != nil {
		// If all nodes leave at the same moment, none is left to receive it.
		m.cfg.Logger.Debug("the farewell was not passed on in time", "error", err)
	}
}

// waitFor is how long memberlist may wait for an announcement to spread. A wait of
// 0 would be one for ever.
func waitFor(ctx context.Context) time.Duration {
	wait := spreading
	if deadline, ok := ctx.Deadline(); ok {
		wait = min(wait, time.Until(deadline))
	}
	return max(wait, time.Millisecond)
}

// Close ends everything without a farewell: to the others this node has failed. No
// callback runs when it has returned; it must not be called from one. It may be
// called again.
func (m *Members) Close() error {
	m.life.Lock()
	m.cancel()
	m.life.Unlock()
	m.updating <- struct{}{}
	m.gone = true
	err := m.list.Shutdown()
	<-m.updating
	m.group.Wait()
	return err
}
