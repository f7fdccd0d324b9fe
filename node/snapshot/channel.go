package snapshot

import (
	"context"
	"fmt"
	"time"

	"github.com/aptmesh/aptmesh/node/snapshot/names"
)

// ChannelInfo is a channel as operators see it.
type ChannelInfo struct {
	Name string
	// Target is a snapshot, another channel, or names.Live.
	Target string
	// By, Node and At say who moved it there, where and when.
	By, Node string
	At       time.Time
}

// Move is one act on a channel: who moved it where, and when.
type Move = names.Act

// Channels returns the channels by name.
func (k *Keeper) Channels() []ChannelInfo {
	var all []ChannelInfo
	for _, n := range k.table.Load().names.List(names.Channel) {
		all = append(all, ChannelInfo{n.Name, n.Target, n.By, n.Node, n.At()})
	}
	return all
}

// Moved is what came of moving a channel.
type Moved struct {
	// From is where it was; "" if it is new.
	From, To string
	// Unreached are nodes that could not be told; they hear of it when they answer.
	Unreached []string
}

// SetChannel moves a channel, or makes one. Requests that begin from then on see the new target. It fails with
// ErrUnknown if there is no such target, and with ErrExists if a snapshot has the name. A channel that stands for the
// target already stays as it is.
func (k *Keeper) SetChannel(ctx context.Context, name, target, by string) (*Moved, error) {
	k.MeetAll(ctx)
	return k.moveTo(ctx, name, names.Act{Target: target, Node: k.cfg.Node, By: by})
}

func (k *Keeper) moveTo(ctx context.Context, name string, act names.Act) (*Moved, error) {
	m := &Moved{To: act.Target}
	var err error
	if m.From, err = k.move(name, act); err != nil || m.From == m.To {
		return m, err
	}
	k.cfg.Logger.Info("an operator has moved a channel", "channel", name, "from", m.From, "to", m.To, "by", act.By)
	m.Unreached = k.MeetAll(ctx)
	return m, nil
}

func (k *Keeper) move(name string, act names.Act) (from string, err error) {
	k.acting.Lock()
	defer k.acting.Unlock()
	t := k.table.Load()
	if _, taken := t.names.Get(names.Key{Kind: names.Snapshot, Name: name}); taken {
		return "", fmt.Errorf("a snapshot %q %w: give the channel another name", name, ErrExists)
	}
	if now, ok := t.names.Get(names.Key{Kind: names.Channel, Name: name}); ok {
		if from = now.Target; from == act.Target {
			return from, nil
		}
	}
	next := t.names.Clone()
	if _, err := next.Set(names.Key{Kind: names.Channel, Name: name}, act, k.cfg.Now()); err != nil {
		return "", err
	}
	if _, _, ok := follow(next, name); !ok {
		return "", fmt.Errorf("channel %s: %.70q leads to no snapshot and not to %q: it is not known here, or its channels lead in a circle: %w", name, act.Target, names.Live, ErrUnknown)
	}
	if err := k.commit(next, nil); err != nil {
		return "", fmt.Errorf("move the channel %s: %w", name, err)
	}
	return from, nil
}

// Promote moves a channel to the snapshot that another channel stands for now, or to names.Live: what becomes of the other
// channel afterwards does not matter. It fails with ErrUnknown if there is no such channel.
func (k *Keeper) Promote(ctx context.Context, from, name, by string) (*Moved, error) {
	k.MeetAll(ctx)
	m, target := k.table.Load().names, from
	for range maxHops {
		act, ok := m.Get(names.Key{Kind: names.Channel, Name: target})
		if !ok {
			break
		}
		target = act.Target
	}
	if target == from {
		return nil, fmt.Errorf("channel %q: %w", from, ErrUnknown)
	}
	return k.SetChannel(ctx, name, target, by)
}

// Rollback moves a channel to where it was before. Again, it goes on to where it was before that.
func (k *Keeper) Rollback(ctx context.Context, name, by string) (*Moved, error) {
	k.MeetAll(ctx)
	m := k.table.Load().names
	if _, ok := m.Get(names.Key{Kind: names.Channel, Name: name}); !ok {
		return nil, fmt.Errorf("channel %q: %w", name, ErrUnknown)
	}
	target, ok := m.Before(name)
	if !ok {
		return nil, fmt.Errorf("the channel %s has not been anywhere else: there is nothing to go back to", name)
	}
	return k.moveTo(ctx, name, names.Act{Target: target, Node: k.cfg.Node, By: by, Back: true})
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
	k.cfg.Logger.Info("an operator has removed a channel", "channel", name, "by", by)
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

// maxHops bounds how many channels may lead to a snapshot.
const maxHops = 8

// follow returns the record that a name leads to, or names.Live; false where it leads nowhere. moved is when the last of
// the channels on the way was moved; zero where there is none.
func follow(m *names.Map, name string) (digest string, moved time.Time, ok bool) {
	for range maxHops {
		if name == names.Live {
			return names.Live, moved, true
		}
		if act, ok := m.Get(names.Key{Kind: names.Snapshot, Name: name}); ok {
			return act.Target, moved, true
		}
		act, ok := m.Get(names.Key{Kind: names.Channel, Name: name})
		if !ok {
			return "", moved, false
		}
		if at := act.At(); at.After(moved) {
			moved = at
		}
		name = act.Target
	}
	return "", moved, false
}
