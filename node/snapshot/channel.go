package snapshot

import (
	"context"
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/aptmesh/aptmesh/node/snapshot/names"
)

// ChannelInfo is a channel as operators see it.
type ChannelInfo struct {
	Name string
	// Target is a snapshot, another channel, or names.Live.
	Target string
	// Live are patterns of suites that hosts get as they are now, whatever the target.
	Live []string
	// Held says that schedules leave it where it is.
	Held bool
	// By, Node and At say who moved it there, where and when.
	By, Node string
	At       time.Time
}

// Live stands for the archive as it is now.
const Live = names.Live

// Move is one act on a channel: who moved it where, and when.
type Move = names.Act

// Channels returns the channels by name.
func (k *Keeper) Channels() []ChannelInfo {
	var all []ChannelInfo
	for _, n := range k.table.Load().names.List(names.Channel) {
		all = append(all, ChannelInfo{n.Name, n.Target, LivePatterns(n.Act), n.Hold, n.By, n.Node, n.At()})
	}
	return all
}

// LivePatterns are the patterns of suites that an act on a channel left live.
func LivePatterns(act Move) []string { return strings.Fields(act.Live) }

// Order is how an operator has a channel moved.
type Order struct {
	// By is the operator.
	By string
	// Live replaces the patterns of suites that hosts get as they are now; nil leaves them as they are.
	Live []string
	// Now tells the other nodes without waiting for them.
	Now bool
}

// Moved is what came of moving a channel: its Target and Live before and after. Before is zero if it is new.
type Moved struct {
	Before, After Move
	// Unreached are nodes that could not be told; they hear of it when they answer.
	Unreached []string
}

// SetChannel moves a channel, or makes one. Requests that begin from then on see the new target. It fails with
// ErrUnknown if there is no such target, and with ErrExists if a snapshot has the name. A channel that stands for the
// target already stays as it is.
func (k *Keeper) SetChannel(ctx context.Context, name, target string, order Order) (*Moved, error) {
	k.meetBefore(ctx, order)
	for _, p := range order.Live {
		if err := CheckPattern(p); err != nil || strings.ContainsFunc(p, unicode.IsSpace) {
			return nil, fmt.Errorf("%.70q is no pattern of suites: write for example *-security", p)
		}
	}
	act := names.Act{Target: target, Live: strings.Join(order.Live, " ")}
	if len(act.Live) > maxLive {
		return nil, fmt.Errorf("the patterns of live suites have %d bytes together: no more than %d are kept", len(act.Live), maxLive)
	}
	return k.moveTo(ctx, name, act, order)
}

// maxLive is how many bytes the patterns of one channel have at most.
const maxLive = 250

// meetBefore hears what the other nodes know, unless the operator cannot wait for them.
func (k *Keeper) meetBefore(ctx context.Context, order Order) {
	if !order.Now {
		k.MeetAll(ctx)
	}
}

func (k *Keeper) moveTo(ctx context.Context, name string, act names.Act, order Order) (*Moved, error) {
	act.Node, act.By = k.cfg.Node, order.By
	m, err := k.move(name, act, order.Live == nil && !act.Back)
	if err != nil || same(m.Before, m.After) {
		return m, err
	}
	k.cfg.Logger.Info("a channel was moved", "channel", name, "from", m.Before.Target, "to", m.After.Target, "live", m.After.Live, "by", act.By)
	if order.Now {
		k.tellLater()
	} else {
		m.Unreached = k.MeetAll(ctx)
	}
	return m, nil
}

// same reports whether a channel is the same after two acts.
func same(a, b names.Act) bool { return a.Target == b.Target && a.Live == b.Live }

// tellLater exchanges names with all nodes, without waiting for them.
func (k *Keeper) tellLater() {
	k.opening.Lock()
	defer k.opening.Unlock()
	if k.ctx.Err() == nil {
		k.wg.Go(func() { k.MeetAll(k.ctx) })
	}
}

// move moves a channel. keepLive leaves its live suites as they are.
func (k *Keeper) move(name string, act names.Act, keepLive bool) (*Moved, error) {
	k.acting.Lock()
	defer k.acting.Unlock()
	t := k.table.Load()
	if _, taken := t.names.Get(names.Key{Kind: names.Snapshot, Name: name}); taken {
		return nil, fmt.Errorf("a snapshot %q %w: give the channel another name", name, ErrExists)
	}
	m := &Moved{}
	if now, ok := t.names.Get(names.Key{Kind: names.Channel, Name: name}); ok {
		act.Hold = now.Hold
		if m.Before = now; keepLive {
			act.Live = now.Live
		}
		if same(now, act) {
			m.After = now
			return m, nil
		}
	}
	next := t.names.Clone()
	var err error
	if m.After, err = next.Set(names.Key{Kind: names.Channel, Name: name}, act, k.cfg.Now()); err != nil {
		return nil, err
	}
	if _, ok := follow(next, name); !ok {
		return nil, fmt.Errorf("channel %s: %.70q leads to no snapshot and not to %q: it is not known here, or its channels lead in a circle: %w", name, act.Target, names.Live, ErrUnknown)
	}
	if err := k.commit(next, nil); err != nil {
		return nil, fmt.Errorf("move the channel %s: %w", name, err)
	}
	return m, nil
}

// Promote moves a channel to the snapshot that another channel stands for now, or to names.Live: what becomes of the other
// channel afterwards does not matter. It fails with ErrUnknown if there is no such channel.
func (k *Keeper) Promote(ctx context.Context, from, name string, order Order) (*Moved, error) {
	k.meetBefore(ctx, order)
	m := k.table.Load().names
	if _, ok := m.Get(names.Key{Kind: names.Channel, Name: from}); !ok {
		return nil, fmt.Errorf("channel %q: %w", from, ErrUnknown)
	}
	at, ok := follow(m, from)
	if !ok {
		return nil, fmt.Errorf("the channel %s leads to no snapshot: %w", from, ErrUnknown)
	}
	return k.SetChannel(ctx, name, at.snapshot, order)
}

// Rollback moves a channel to where it was before, with the suites that were live then. Again, it goes on to where it
// was before that. Live of the order is not read.
func (k *Keeper) Rollback(ctx context.Context, name string, order Order) (*Moved, error) {
	k.meetBefore(ctx, order)
	m := k.table.Load().names
	if _, ok := m.Get(names.Key{Kind: names.Channel, Name: name}); !ok {
		return nil, fmt.Errorf("channel %q: %w", name, ErrUnknown)
	}
	was, ok := m.Before(name)
	if !ok {
		return nil, fmt.Errorf("the channel %[1]s has been nowhere before this: there is nothing older to go back to; `aptmesh channel history %[1]s` lists its moves, `aptmesh channel set` goes to any of them", name)
	}
	return k.moveTo(ctx, name, names.Act{Target: was.Target, Live: was.Live, Back: true}, order)
}

// History returns the moves of a channel, the newest first.
func (k *Keeper) History(name string) ([]Move, error) {
	t := k.table.Load()
	if _, ok := t.names.Get(names.Key{Kind: names.Channel, Name: name}); !ok {
		return nil, fmt.Errorf("channel %q: %w", name, ErrUnknown)
	}
	return t.names.Past(name), nil
}

// RemoveChannel takes a channel away. It fails with ErrUnknown, and with ErrInUse while another channel stands for it.
func (k *Keeper) RemoveChannel(ctx context.Context, name, by string) (unreached []string, err error) {
	k.MeetAll(ctx)
	if err := k.removeChannel(name); err != nil {
		return nil, err
	}
	k.cfg.Logger.Info("a channel was removed", "channel", name, "by", by)
	return k.MeetAll(ctx), nil
}

func (k *Keeper) removeChannel(name string) error {
	k.acting.Lock()
	defer k.acting.Unlock()
	t := k.table.Load()
	for _, c := range t.names.List(names.Channel) {
		if c.Target == name {
			return fmt.Errorf("the channel %s %w: the channel %s stands for it", name, ErrInUse, c.Name)
		}
	}
	next := t.names.Clone()
	if !next.Remove(names.Key{Kind: names.Channel, Name: name}, k.cfg.Node, k.cfg.Now()) {
		return fmt.Errorf("channel %q: %w", name, ErrUnknown)
	}
	if err := k.commit(next, nil); err != nil {
		return fmt.Errorf("remove the channel %s: %w", name, err)
	}
	return nil
}

// newMoved counts moves of channels, whichever node they were made on.
func newMoved() *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "aptmesh_channel_moved_total", Help: "Moves of a channel that came into force on this node, whichever node an operator made them on.",
	}, []string{"channel"})
}

// Collectors returns what the keeper measures.
func (k *Keeper) Collectors() []prometheus.Collector {
	return []prometheus.Collector{k.moved, newMetrics(k)}
}
