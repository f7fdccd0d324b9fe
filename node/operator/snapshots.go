package operator

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aptmesh/aptmesh/node/admin"
	"github.com/aptmesh/aptmesh/node/archives/archiveconf"
	"github.com/aptmesh/aptmesh/node/holds"
	"github.com/aptmesh/aptmesh/node/snapshot"
	"github.com/aptmesh/aptmesh/node/snapshot/snapshotconf"
	"github.com/aptmesh/aptmesh/proto"
)

// Snapshots lists the snapshots, or the one of a name.
func (o *Operator) Snapshots(name string) ([]admin.Snapshot, error) {
	list := []admin.Snapshot{}
	for _, s := range o.cfg.Snapshots.List() {
		if name == "" || s.Name == name {
			list = append(list, o.snapshotOf(&s))
		}
	}
	if name != "" && len(list) == 0 {
		return nil, fmt.Errorf("there is no snapshot %q here (aptmesh snapshot list)", name)
	}
	return list, nil
}

func (o *Operator) snapshotOf(s *snapshot.Snapshot) admin.Snapshot {
	a := admin.Snapshot{Name: s.Name, Record: s.Digest, By: s.By, Node: s.Node, Bytes: s.Bytes, Suites: []admin.SnapshotSuite{}, Lost: s.Record == nil}
	if s.Record == nil {
		return a
	}
	a.Taken, a.Note, a.Expires = s.Record.Taken, s.Record.Note, s.Record.Expires
	a.Hold = cmp.Or(s.Record.Hold, holds.LevelMetadata)
	if held, ok := o.cfg.Holds.Snapshot(s.Digest); ok {
		packages := o.mirrorOf(&held)
		packages.Name = s.Name
		a.Packages = &packages
	}
	for _, archive := range s.Record.Archives {
		for _, captured := range archive.Suites {
			a.Suites = append(a.Suites, admin.SnapshotSuite{Suite: captured.Suite.String(), Generation: captured.Date, Indexes: len(captured.Indexes)})
		}
	}
	return a
}

// CreateSnapshot captures archives as they are at this moment.
func (o *Operator) CreateSnapshot(ctx context.Context, plan admin.SnapshotPlan) (*admin.SnapshotResult, error) {
	var err error
	if plan.Archives, err = o.archivesOf(plan.Archives); err != nil {
		return nil, err
	}
	for _, pattern := range plan.Suites {
		if err := checkPattern(pattern); err != nil {
			return nil, err
		}
	}
	if plan.Hold == "" {
		plan.Hold = holds.LevelMetadata
	}
	if !slices.Contains(holds.Levels, plan.Hold) {
		return nil, fmt.Errorf("%.70q is no level of what is held: it is one of %s", plan.Hold, strings.Join(holds.Levels, ", "))
	}
	s, missing, forecast, err := o.take(ctx, plan, snapshot.Plan{Archives: plan.Archives, Suites: plan.Suites, At: plan.At, Note: plan.Note, Expires: plan.Expires, By: plan.By})
	switch {
	case err != nil:
		return nil, err
	case s == nil:
		return &admin.SnapshotResult{Snapshot: admin.Snapshot{Name: plan.Name, Hold: plan.Hold, Suites: []admin.SnapshotSuite{}}, Forecast: forecast}, nil
	}
	return o.resultOf(ctx, s, missing), nil
}

// take takes a snapshot, unless what is to be held of it does not fit, or plan is a dry run: then it returns the forecast alone.
func (o *Operator) take(ctx context.Context, plan admin.SnapshotPlan, as snapshot.Plan) (*snapshot.Snapshot, []proto.Missing, *admin.Forecast, error) {
	if plan.Hold != holds.LevelMetadata {
		as.Hold = plan.Hold
	}
	if as.Hold != "" || plan.DryRun {
		f, err := o.forecast(ctx, as, plan.Hold)
		if err != nil || plan.DryRun || !f.Fits {
			return nil, nil, f, err
		}
	}
	s, missing, err := o.cfg.Snapshots.Create(ctx, plan.Name, as)
	return s, missing, nil, err
}

// TakeSnapshot takes a snapshot by a rule of the configuration. It is for the schedule.
func (o *Operator) TakeSnapshot(ctx context.Context, name string, rule snapshotconf.Auto, as snapshot.Plan) (err error) {
	if as.Archives, err = o.archivesOf(rule.Archives); err != nil {
		return err
	}
	as.Suites = rule.Suites
	s, _, f, err := o.take(ctx, admin.SnapshotPlan{Name: name, Hold: rule.Hold}, as)
	if err == nil && s == nil {
		err = errors.New(f.Refused)
	}
	return err
}

// resultOf is a snapshot that was just taken or restored.
func (o *Operator) resultOf(ctx context.Context, s *snapshot.Snapshot, missing []proto.Missing) *admin.SnapshotResult {
	r := &admin.SnapshotResult{Snapshot: o.snapshotOf(s), Unreached: s.Unreached}
	for _, m := range missing {
		r.Missing = append(r.Missing, admin.MissingFile{Location: m.Location.String(), Error: m.Err.Error()})
	}
	if err := o.predict(ctx, &r.Snapshot); err != nil { // the snapshot is there
		r.Warnings = append(r.Warnings, fmt.Sprintf("what will become of it cannot be said: %v", err))
	}
	return r
}

// forecast says what a snapshot would take if it were taken now.
func (o *Operator) forecast(ctx context.Context, plan snapshot.Plan, level string) (*admin.Forecast, error) {
	r, err := o.cfg.Snapshots.Capture(ctx, plan)
	if err != nil {
		return nil, err
	}
	var suites []proto.Captured
	for _, a := range r.Archives {
		suites = append(suites, a.Suites...)
	}
	f, err := o.cfg.Holds.ForecastSnapshot(ctx, level, r.Taken, suites)
	if err != nil {
		return nil, err
	}
	return forecastOf(f), nil
}

// archivesOf are the archives that an operator names; a class stands for its archives, and nothing for all of which
// a suite is known.
func (o *Operator) archivesOf(named []string) (archives []string, err error) {
	for _, a := range o.cfg.Archives.Config().Archives {
		all := len(named) == 0 && !o.cfg.Archives.Immutable(a.Name) // those need no snapshot
		if (all || slices.Contains(named, a.Class)) && len(o.cfg.Catalog.Capture(a.Name)) > 0 {
			archives = append(archives, a.Name)
		}
	}
	for _, name := range named {
		switch {
		case o.cfg.Archives.Has(name):
			archives = append(archives, name)
		case !slices.ContainsFunc(o.cfg.Archives.Config().Archives, func(a archiveconf.Archive) bool { return a.Class == name }):
			return nil, fmt.Errorf("there is no archive %.70q here, and no archive of a class of that name", name)
		}
	}
	if len(archives) == 0 {
		return nil, errors.New("no host has asked for a suite of any archive here yet: there is nothing to capture")
	}
	return archives, nil
}

// RemoveSnapshot takes a snapshot away.
func (o *Operator) RemoveSnapshot(ctx context.Context, name, by string) (*admin.Done, error) {
	unreached, err := o.cfg.Snapshots.Remove(ctx, name, by)
	if err != nil {
		return nil, err
	}
	return &admin.Done{Message: "removed; `aptmesh snapshot restore " + name + "` brings it back within a day, then what only it kept may be evicted", Unreached: unreached}, nil
}

// RestoreSnapshot gives a snapshot that was removed its name back, or the name as.
func (o *Operator) RestoreSnapshot(ctx context.Context, name, as, by string) (*admin.SnapshotResult, error) {
	s, missing, err := o.cfg.Snapshots.Restore(ctx, name, as, by)
	if err != nil {
		return nil, err
	}
	return o.resultOf(ctx, s, missing), nil
}

// RemovedSnapshots lists names that were removed and can be restored, or that this node has given up.
func (o *Operator) RemovedSnapshots() []admin.RemovedName {
	list := []admin.RemovedName{}
	for _, r := range o.cfg.Snapshots.Removed() {
		list = append(list, admin.RemovedName(r))
	}
	return list
}

// Channels lists the channels.
func (o *Operator) Channels() []admin.Channel {
	list := []admin.Channel{}
	for _, c := range o.cfg.Snapshots.Channels() {
		a := admin.Channel{Name: c.Name, Target: c.Target, Live: c.Live, Held: c.Held, By: c.By, Node: c.Node, At: c.At, Moves: []admin.ChannelMove{}}
		moves, _ := o.cfg.Snapshots.History(c.Name) // none, if it was removed at this moment
		for i, m := range moves {
			var before snapshot.Move
			if i+1 < len(moves) {
				before = moves[i+1]
			}
			a.Moves = append(a.Moves, moveOf(before, m))
		}
		list = append(list, a)
	}
	return list
}

// SetChannel moves a channel to a target.
func (o *Operator) SetChannel(ctx context.Context, name, target string, order admin.ChannelOrder) (*admin.ChannelMove, error) {
	return movedOf(o.cfg.Snapshots.SetChannel(ctx, name, target, snapshot.Order(order)))
}

// Promote moves a channel to what another one stands for now.
func (o *Operator) Promote(ctx context.Context, from, name string, order admin.ChannelOrder) (*admin.ChannelMove, error) {
	return movedOf(o.cfg.Snapshots.Promote(ctx, from, name, snapshot.Order(order)))
}

// Rollback moves a channel to where it was before.
func (o *Operator) Rollback(ctx context.Context, name string, order admin.ChannelOrder) (*admin.ChannelMove, error) {
	return movedOf(o.cfg.Snapshots.Rollback(ctx, name, snapshot.Order(order)))
}

func movedOf(m *snapshot.Moved, err error) (*admin.ChannelMove, error) {
	if err != nil {
		return nil, err
	}
	move := moveOf(m.Before, m.After)
	move.Unreached = m.Unreached
	return &move, nil
}

// moveOf is a move of a channel by two acts; before is zero where it was new.
func moveOf(before, after snapshot.Move) admin.ChannelMove {
	return admin.ChannelMove{
		From: before.Target, FromLive: snapshot.LivePatterns(before), To: after.Target, ToLive: snapshot.LivePatterns(after),
		By: after.By, Node: after.Node, At: after.At(),
	}
}

// HoldChannel has schedules leave a channel where it is, or ends that.
func (o *Operator) HoldChannel(ctx context.Context, name string, hold bool, by string) (*admin.Done, error) {
	unreached, err := o.cfg.Snapshots.HoldChannel(ctx, name, hold, by)
	if err != nil {
		return nil, err
	}
	message := "held; only operators move it"
	if !hold {
		message = "released; schedules move it again"
	}
	return &admin.Done{Message: message, Unreached: unreached}, nil
}

// RemoveChannel takes a channel away.
func (o *Operator) RemoveChannel(ctx context.Context, name, by string) (*admin.Done, error) {
	unreached, err := o.cfg.Snapshots.RemoveChannel(ctx, name, by)
	if err != nil {
		return nil, err
	}
	return &admin.Done{Message: "removed; hosts that use it get 404 from now on", Unreached: unreached}, nil
}

// whyInSnapshot explains a file of an archive as it was.
func (o *Operator) whyInSnapshot(w *admin.Why, id string, loc proto.Location) {
	w.Location = "snapshot/" + loc.Archive + "/" + id + "/" + loc.Path
	entry, known := o.cfg.Snapshots.Resolve(id, loc)
	if known {
		w.Listed, w.Generation = entry.Listed, entry.Generation
		w.Digest, w.Size = entry.Object.Ref.Digest, entry.Object.Ref.Size
		w.UpstreamURLs = o.upstreamURLs(entry.Object.Where)
		tier, inFlight := o.cfg.Fetcher.Stored(entry.Object)
		w.Stored, w.InFlight = string(tier), inFlight
		nodes := o.explainPlan(w, loc.Archive, entry.Object, true)
		if w.Would == nil {
			w.Would = (*admin.Failure)(o.unreachable(w, loc, nodes))
		}
	}
	explainFailures(w)
	switch {
	case w.Would != nil: // it says why
	case known:
		explain(w, entry)
	default:
		say(w, "The node has %s in %s not in memory now. A request opens it, and says whether it has the file.", loc.Archive, id)
	}
	for _, c := range o.cfg.Snapshots.Channels() {
		if c.Name == id {
			say(w, "%s is a channel. It stands for %s since %s.", id, c.Target, c.At.Format(time.DateTime))
			explainPlace(w, c, entry.Snapshot)
		}
	}
}

// explainPlace says where a channel has a file from; "" where that is not known without a request.
func explainPlace(w *admin.Why, c snapshot.ChannelInfo, from string) {
	live := strings.Join(c.Live, " ")
	switch {
	case from == "":
		return
	case from == snapshot.Live && live != "" && c.Target != snapshot.Live:
		say(w, "The file is of the archive as it is now, because the channel leaves suites live: %s.", live)
	case from == snapshot.Live:
		say(w, "The file is of the archive as it is now.")
	case from != c.Target:
		say(w, "The file is of the snapshot %s.", from)
	}
	if live != "" && from != snapshot.Live {
		say(w, "The channel leaves suites live: %s. This file is of none of them.", live)
	}
}
