package snapshot

import (
	"cmp"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/aptmesh/aptmesh/node/snapshot/names"
	"github.com/aptmesh/aptmesh/proto"
)

// Cluster is the other nodes. Its methods are safe for concurrent use.
type Cluster interface {
	// Nodes names the members of the cluster that answer, and those that do not.
	Nodes() (alive, silent []string)
	// Snapshots tells a node what is known here, and returns what it knows.
	Snapshots(ctx context.Context, node string, told proto.SnapshotNews) (proto.SnapshotNews, error)
}

const (
	// RemovedFor is how long a name that was taken away is remembered, so that a node which has not heard
	// of it does not bring it back.
	RemovedFor = 30 * 24 * time.Hour
	// awayFor is after how long without the others a node's own names are not passed on: some of them may
	// have been taken away, and soon nobody will remember that.
	awayFor = RemovedFor / 2
	// meetEvery is how often a node exchanges names when nothing has changed, so that it knows that it is
	// not away.
	meetEvery = time.Hour
	// meetTimeout bounds what an operator's command waits for one node.
	meetTimeout = 5 * time.Second
	// maxGiven is how many bytes of records one message has, give or take one record.
	maxGiven = 1 << 20
	maxGives = 256 // messages of one exchange
	// lackingRetry is the pause before other nodes are asked again for records that nobody had.
	lackingRetry = 10 * time.Second
)

// Sum is what two nodes that know the same names have in common.
func (k *Keeper) Sum() uint64 { return k.table.Load().sum }

// sumOf returns the text of names and the beginning of its digest.
func sumOf(m *names.Map) (data []byte, sum uint64, err error) {
	if data, err = json.Marshal(m); err != nil {
		return nil, 0, err
	}
	d := proto.DigestOf(data)
	return data, cmp.Or(binary.BigEndian.Uint64(d[:]), 1), nil
}

// Serve takes in what a node knows, and says what is known here. What makes no sense is refused as a whole.
func (k *Keeper) Serve(from string, told proto.SnapshotNews) (proto.SnapshotNews, error) {
	if err := k.take(from, told); err != nil {
		return proto.SnapshotNews{}, err
	}
	return k.news(told.Wanted), nil
}

// news is what this node tells, with records that are wanted.
func (k *Keeper) news(wanted []string) (told proto.SnapshotNews) {
	k.acting.Lock()
	defer k.acting.Unlock()
	t := k.table.Load()
	told.Names, told.Away, told.Wanted = t.data, k.absence(), t.lacking()
	given := 0
	for _, digest := range wanted {
		if t.records[digest] == nil || given >= maxGiven {
			continue
		}
		data, err := k.cfg.State.ReadFile(recordDir + digest)
		if err != nil {
			k.cfg.Logger.Warn("the record of a snapshot cannot be read for another node", "record", digest[:12], "error", err)
			continue
		}
		told.Records = append(told.Records, data)
		given += len(data)
	}
	return told
}

// lacking are the records of snapshots that this node does not have.
func (t *table) lacking() (digests []string) {
	for _, n := range t.names.List(names.Snapshot) {
		if t.records[n.Target] == nil && len(digests) < maxLacking {
			digests = append(digests, n.Target)
		}
	}
	return digests
}

const maxLacking = 1024

// take takes in what another node knows.
func (k *Keeper) take(from string, told proto.SnapshotNews) error {
	k.acting.Lock()
	defer k.acting.Unlock()
	old := k.table.Load()
	next := old.names.Clone()
	var changed []names.Key
	before, mine := k.forgetsBefore(), k.absence()
	var theirs names.Map
	if err := json.Unmarshal(told.Names, &theirs); err != nil {
		return err
	}
	// Of two nodes that were away for different reasons, one knows better. If it was for the same one, neither does.
	if mine > told.Away {
		k.setAside(next.Only(&theirs, k.cfg.Now().Add(-RemovedFor)), from)
		k.off = false // from here on it knows as much
	}
	if mine >= told.Away {
		changed = next.Merge(&theirs)
	}
	if mine > told.Away && told.Away == proto.Present {
		next.Remind(k.met, k.cfg.Node, k.cfg.Now())
	}
	next.Forget(before)
	records, err := k.takeRecords(next, told.Records)
	if err != nil {
		return err
	}
	_, sum, err := sumOf(next)
	if err != nil {
		return err
	}
	due := told.Away == proto.Present && k.meets()
	if sum != old.sum || len(records) > 0 || due {
		if err := k.commit(next, records); err != nil {
			return fmt.Errorf("write what node %s knows of snapshots: %w", from, err)
		}
	}
	for _, key := range changed {
		k.sayChanged(from, key)
	}
	for _, digest := range slices.Sorted(maps.Keys(records)) {
		k.readAhead(digest, records[digest])
	}
	return nil
}

// absence is how far this node has not heard of the others. The caller holds acting.
func (k *Keeper) absence() proto.Absence {
	switch {
	case k.cfg.Cluster == nil || k.cfg.Now().Sub(k.met) <= awayFor:
		return proto.Present
	case k.off:
		return proto.WasOff
	}
	return proto.CutOff
}

// forgetsBefore is before when a removal must have been for this node to forget it: long ago, and before it last met another node,
// which then knew of it. The caller holds acting.
func (k *Keeper) forgetsBefore() time.Time {
	before := k.cfg.Now().Add(-RemovedFor)
	if k.cfg.Cluster != nil && k.met.Before(before) {
		return k.met
	}
	return before
}

// meets notes that this node knows what the others know, and reports whether that is to be written down. The caller
// holds acting.
func (k *Keeper) meets() (due bool) {
	now := k.cfg.Now()
	if due = k.absence() != proto.Present || now.Sub(k.met) >= meetEvery/2; due {
		k.off, k.met = false, now
	}
	return due
}

// takeRecords writes records down that names stand for, and returns them by digest.
func (k *Keeper) takeRecords(m *names.Map, given [][]byte) (map[string]*Record, error) {
	records := make(map[string]*Record)
	for _, data := range given {
		digest := proto.DigestOf(data).String()
		if k.table.Load().records[digest] != nil || !slices.ContainsFunc(m.List(names.Snapshot), func(n names.Named) bool { return n.Target == digest }) {
			continue // nobody asked for it
		}
		r, err := decode(data)
		if err != nil {
			return nil, err
		}
		if err := k.cfg.State.WriteFile(recordDir+digest, data); err != nil {
			return nil, fmt.Errorf("write the record of a snapshot: %w", err)
		}
		records[digest] = r
	}
	return records, nil
}

// setAside keeps names in view that only this node has, and that nobody uses from here on. The caller holds acting.
func (k *Keeper) setAside(orphans []names.Named, from string) {
	for _, n := range orphans {
		if len(k.orphans) < maxOrphans {
			k.orphans = append(k.orphans, orphan{n.Kind, n.Name, n.Act, k.cfg.Now().UTC()})
		}
		k.cfg.Logger.Error("this node was away for so long that a name which only it knows may have been removed meanwhile; it is not used any more. "+
			"If it is wanted, `aptmesh snapshot restore` brings a snapshot back, and `aptmesh channel set` a channel", "kind", n.Kind, "name", n.Name, "target", n.Target, "met", from)
	}
}

// sayChanged logs what another node's word has changed.
func (k *Keeper) sayChanged(from string, key names.Key) {
	act, ok := k.table.Load().names.Get(key)
	switch {
	case !ok:
		k.cfg.Logger.Info("another node says that a name was removed", "kind", key.Kind, "name", key.Name, "node", from)
	default:
		k.cfg.Logger.Info("another node says what a name stands for", "kind", key.Kind, "name", key.Name, "target", act.Target, "live", act.Live, "by", act.By, "at", act.Node, "node", from)
	}
	for _, n := range k.table.Load().names.List(key.Kind) {
		if len(n.Name) > len(key.Name) && n.Name[:len(key.Name)+1] == key.Name+"~" {
			k.cfg.Logger.Error("two operators have given one name to different snapshots; both are kept", "name", key.Name, "the older is", n.Name)
		}
	}
}

// readAhead brings what a record names into the store, while others have it.
func (k *Keeper) readAhead(digest string, r *Record) {
	for _, a := range r.Archives {
		k.opening.Lock()
		if k.ctx.Err() == nil {
			k.wg.Go(func() { k.open(k.ctx, openKey{digest, a.Name}, r) })
		}
		k.opening.Unlock()
	}
}

// Meet exchanges names with a node soon. It does not wait.
func (k *Keeper) Meet(node string) {
	if k.cfg.Cluster == nil {
		return
	}
	k.opening.Lock()
	defer k.opening.Unlock()
	if k.ctx.Err() != nil || k.meeting[node] {
		return
	}
	k.meeting[node] = true
	k.wg.Go(func() {
		ctx, cancel := context.WithTimeout(k.ctx, openTimeout)
		defer cancel()
		_, err := k.exchange(ctx, node)
		k.opening.Lock()
		delete(k.meeting, node)
		k.opening.Unlock()
		if err != nil && k.ctx.Err() == nil {
			k.cfg.Logger.Debug("names of snapshots could not be exchanged; it is tried again", "node", node, "error", err)
		}
	})
}

// MeetAll exchanges names with all nodes that answer, and returns those that it has not reached. A node calls it before it
// is ready, and around each act of an operator.
func (k *Keeper) MeetAll(ctx context.Context) (unreached []string) {
	if k.cfg.Cluster == nil {
		return nil
	}
	alive, unreached := k.cfg.Cluster.Nodes()
	away := make([]proto.Absence, len(alive))
	failed := make([]error, len(alive))
	var wg sync.WaitGroup
	for i, node := range alive {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, meetTimeout)
			defer cancel()
			away[i], failed[i] = k.exchange(ctx, node)
		})
	}
	wg.Wait()
	for i, err := range failed {
		if err != nil {
			k.cfg.Logger.Warn("names of snapshots could not be exchanged; the node gets them when it answers", "node", alive[i], "error", err)
			unreached = append(unreached, alive[i])
		}
	}
	if len(alive) > 0 && len(unreached) == 0 {
		k.mayKnowAll(slices.Min(away))
	}
	slices.Sort(unreached)
	return unreached
}

// mayKnowAll ends being away if no other node knows better: in a new cluster, or when all nodes were off.
func (k *Keeper) mayKnowAll(least proto.Absence) {
	k.acting.Lock()
	defer k.acting.Unlock()
	if mine := k.absence(); mine == proto.Present || least < mine {
		return
	}
	k.meets()
	if err := k.commit(k.table.Load().names.Clone(), nil); err != nil {
		k.cfg.Logger.Warn("that this node has met the others cannot be written down", "error", err)
	}
}

// exchange tells a node all that is known here, takes in what it knows, and goes on until neither has a record that the
// other lacks. away is what the node says of itself.
func (k *Keeper) exchange(ctx context.Context, node string) (away proto.Absence, err error) {
	var give []string
	for range maxGives {
		told := k.news(give)
		answer, err := k.cfg.Cluster.Snapshots(ctx, node, told)
		if err != nil {
			return 0, err
		}
		if err := k.take(node, answer); err != nil {
			return 0, err
		}
		give = k.has(answer.Wanted)
		lacking := k.table.Load().lacking()
		switch {
		case len(give) > 0:
		case len(lacking) == 0:
			return answer.Away, nil
		case len(answer.Records) == 0 && slices.Equal(told.Wanted, lacking):
			k.askLater()
			return answer.Away, nil // it does not have them either
		}
	}
	return 0, errors.New("it wants ever more records of snapshots")
}

// has keeps those of records that this node has.
func (k *Keeper) has(digests []string) (have []string) {
	t := k.table.Load()
	for _, d := range digests {
		if t.records[d] != nil {
			have = append(have, d)
		}
	}
	return have
}

// askLater asks all nodes again for records that this node lacks.
func (k *Keeper) askLater() {
	k.opening.Lock()
	defer k.opening.Unlock()
	if k.later != nil || k.ctx.Err() != nil {
		return
	}
	k.later = time.AfterFunc(lackingRetry, func() {
		k.opening.Lock()
		k.later = nil
		k.opening.Unlock()
		alive, _ := k.cfg.Cluster.Nodes()
		for _, node := range alive {
			k.Meet(node)
		}
	})
}

// meetNowAndThen exchanges names though nothing has changed, until the keeper is closed.
func (k *Keeper) meetNowAndThen() {
	tick := time.NewTicker(meetEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			k.MeetAll(k.ctx)
		case <-k.ctx.Done():
			return
		}
	}
}
