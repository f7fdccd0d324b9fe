package snapshot

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/aptmesh/aptmesh/node/snapshot/names"
	"github.com/aptmesh/aptmesh/node/snapshot/schedule"
	"github.com/aptmesh/aptmesh/node/snapshot/snapshotconf"
)

// Schedule is what a Keeper needs to act by itself. Its functions are called every minute, from one goroutine.
type Schedule struct {
	// Rules are those of the configuration; none while the node is not ready.
	Rules func() snapshotconf.Settings
	// Take takes a snapshot by a rule, with Plan.By, Taken and Rule as here.
	Take func(ctx context.Context, name string, rule snapshotconf.Auto, as Plan) error
	// Failing reports whether the node fails: then no channel is moved.
	Failing func() bool
}

// maxScheduled bounds the acts of one minute, in case that what is done does not end what is due.
const maxScheduled = 64

// keepSchedule does what is due. Of the nodes that see each other, one does so: two that do not may take one snapshot each, which
// is the same one if the archives were the same.
func (k *Keeper) keepSchedule() {
	s := k.cfg.Schedule
	if s.Rules == nil {
		return
	}
	rules := s.Rules()
	if len(rules.Auto)+len(rules.Promote) == 0 || !k.leads() {
		k.setFailed(nil)
		return
	}
	failing := s.Failing()
	due := func() []schedule.Act { return schedule.Due(rules, k.state(failing)) }
	if len(due()) > 0 {
		k.MeetAll(k.ctx) // another node may have done it
	}
	failed := make(map[string]string) // why, by what was to be done
	for range maxScheduled {
		acts := slices.DeleteFunc(due(), func(a schedule.Act) bool { _, tried := failed[whatOf(a)]; return tried })
		if len(acts) == 0 || k.ctx.Err() != nil {
			break
		}
		if err := k.do(acts[0]); err != nil {
			failed[whatOf(acts[0])] = err.Error()
			if k.failedBefore(whatOf(acts[0])) == err.Error() {
				continue
			}
			k.cfg.Logger.Warn("what is due by snapshots.auto or snapshots.promote cannot be done; it is tried again in a minute", "act", whatOf(acts[0]), "error", err)
		}
	}
	k.setFailed(failed)
}

func whatOf(a schedule.Act) string {
	switch a.Kind {
	case schedule.MoveTo:
		return fmt.Sprintf("move the channel %s to %s", a.Name, a.To)
	default:
		return fmt.Sprintf("%s the snapshot %s", a.Kind, a.Name)
	}
}

// do carries out one act.
func (k *Keeper) do(a schedule.Act) error {
	ctx, cancel := context.WithTimeout(k.ctx, 10*openTimeout)
	defer cancel()
	switch a.Kind {
	case schedule.Take:
		return k.cfg.Schedule.Take(ctx, a.Name, a.Auto, Plan{By: schedule.By, Taken: a.At, Rule: a.Auto.Name})
	case schedule.MoveTo:
		if err := k.whole(ctx, a.To); err != nil {
			return err
		}
		_, err := k.SetChannel(ctx, a.Name, a.To, Order{By: schedule.By})
		return err
	}
	_, err := k.Remove(ctx, a.Name, schedule.By)
	return err
}

// whole fails if something that a snapshot keeps cannot be had: no channel is moved to it by itself. A suite of which it keeps no
// index is one that no host was known to use.
func (k *Keeper) whole(ctx context.Context, name string) error {
	t := k.table.Load()
	act, ok := t.names.Get(names.Key{Kind: names.Snapshot, Name: name})
	r := t.records[act.Target]
	if !ok || r == nil {
		return fmt.Errorf("snapshot %q: %w", name, ErrUnknown)
	}
	if r.Hold != "" && k.cfg.Holds != nil {
		if err := k.cfg.Holds.SnapshotHeld(act.Target); err != nil {
			return err
		}
	}
	missing, err := k.fetch(ctx, act.Target, r)
	if err == nil && len(missing) > 0 {
		err = fmt.Errorf("%d files of it are missing, such as %s: %w", len(missing), missing[0].Location, missing[0].Err)
	}
	return err
}

// state is what schedules go by.
func (k *Keeper) state(failing bool) schedule.State {
	t, now := k.table.Load(), k.cfg.Now()
	s := schedule.State{Now: now, Failing: failing}
	for _, n := range t.names.List(names.Snapshot) {
		snapshot := schedule.Snapshot{Name: n.Name, Taken: n.At()}
		if r := t.records[n.Target]; r != nil {
			snapshot.Taken, snapshot.Rule = r.Taken, r.Rule
		}
		s.Snapshots = append(s.Snapshots, snapshot)
	}
	for _, n := range t.names.Removed(now.Add(-RemovedFor)) {
		s.Removed = append(s.Removed, n.Name)
	}
	for _, n := range t.names.List(names.Channel) {
		c := schedule.Channel{Name: n.Name, Held: n.Hold, Since: since(t.names, n.Name)}
		if at, ok := follow(t.names, n.Name); ok && at.digest != names.Live {
			c.At = at.snapshot
		}
		for _, act := range t.names.Past(n.Name) {
			c.Past = append(c.Past, schedule.Move{To: act.Target, At: act.At()})
		}
		s.Channels = append(s.Channels, c)
	}
	return s
}

// since is since when a channel leads to where it does: the latest move of the channels on the way. Acts that moved none, such as
// a hold, do not count.
func since(m *names.Map, name string) (latest time.Time) {
	for range maxHops {
		past := m.Past(name)
		if len(past) == 0 {
			break
		}
		at := past[0].At()
		for _, act := range past {
			if act.Target != past[0].Target {
				break
			}
			at = act.At()
		}
		if at.After(latest) {
			latest = at
		}
		name = past[0].Target
	}
	return latest
}

// setFailed notes what could not be done by schedules.
func (k *Keeper) setFailed(failed map[string]string) {
	k.opening.Lock()
	defer k.opening.Unlock()
	k.failed = failed
}

// failedBefore says why something could not be done a minute ago; "" if it could.
func (k *Keeper) failedBefore(what string) string {
	k.opening.Lock()
	defer k.opening.Unlock()
	return k.failed[what]
}

// HoldChannel has schedules leave a channel where it is, or ends that. It fails with ErrUnknown.
func (k *Keeper) HoldChannel(ctx context.Context, name string, hold bool, by string) (unreached []string, err error) {
	k.MeetAll(ctx)
	if err := k.hold(name, hold, by); err != nil {
		return nil, err
	}
	k.cfg.Logger.Info("an operator has changed whether a channel is held", "channel", name, "held", hold, "by", by)
	return k.MeetAll(ctx), nil
}

func (k *Keeper) hold(name string, hold bool, by string) error {
	k.acting.Lock()
	defer k.acting.Unlock()
	t := k.table.Load()
	key := names.Key{Kind: names.Channel, Name: name}
	act, ok := t.names.Get(key)
	switch {
	case !ok:
		return fmt.Errorf("channel %q: %w", name, ErrUnknown)
	case act.Hold == hold:
		return nil
	}
	next := t.names.Clone()
	if _, err := next.Set(key, names.Act{Target: act.Target, Live: act.Live, Hold: hold, Node: k.cfg.Node, By: by}, k.cfg.Now()); err != nil {
		return err
	}
	if err := k.commit(next, nil); err != nil {
		return fmt.Errorf("hold the channel %s: %w", name, err)
	}
	return nil
}
