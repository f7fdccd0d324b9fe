package operator

import (
	"context"
	"fmt"

	"github.com/aptmesh/aptmesh/node/admin"
	"github.com/aptmesh/aptmesh/node/holds"
	"github.com/aptmesh/aptmesh/node/holds/want"
	"github.com/aptmesh/aptmesh/proto"
)

// Mirrors lists the mirrors, or the one of a name.
func (o *Operator) Mirrors(name string) ([]admin.Mirror, error) {
	list := []admin.Mirror{}
	for _, s := range o.cfg.Holds.Mirrors() {
		if name == "" || s.Name == name {
			list = append(list, o.mirrorOf(&s))
		}
	}
	if name != "" && len(list) == 0 {
		return nil, fmt.Errorf("mirror %q: %w (aptmesh mirror status lists them)", name, holds.ErrUnknown)
	}
	return list, nil
}

func (o *Operator) mirrorOf(s *holds.Status) admin.Mirror {
	m := admin.Mirror{
		Name: s.Name, Node: o.cfg.Name, Generations: []admin.MirrorGeneration{},
		Listed: count(s.Listed), Share: count(s.Share), Held: count(s.Held), Own: count(s.Own), Cluster: count(s.Cluster), Missing: count(s.Missing),
		Phase: string(s.Phase), Failure: s.Failure, Next: s.Next,
		Total: count(s.Total), Done: count(s.Done), Fetched: s.Fetched, ToFetch: s.ToFetch, Rate: s.Rate, RemainingSeconds: int64(s.Remaining.Seconds()),
		LostCount: s.LostCount, Unresolved: unresolved(s.Unresolved), UnresolvedCount: s.UnresolvedCount,
		Unprovable: s.Unprovable, Unsized: s.Unsized, Absent: s.Absent,
		Checked: count(s.Checked), CheckOf: s.CheckOf, Damaged: s.Damaged,
	}
	for _, g := range s.Generations {
		m.Generations = append(m.Generations, admin.MirrorGeneration{Taken: g.Taken, Suites: mirrorSuites(g.Suites), Whole: g.Whole, FileCount: count(g.Count)})
	}
	for _, lost := range s.Lost {
		m.Lost = append(m.Lost, admin.MissingFile{Location: lost.Location.String(), Error: lost.Err.Error()})
	}
	return m
}

func count(c holds.Count) admin.FileCount { return admin.FileCount(c) }

func mirrorSuites(captured []proto.Captured) []admin.MirrorSuite {
	suites := []admin.MirrorSuite{}
	for _, c := range captured {
		suites = append(suites, admin.MirrorSuite{Suite: c.Suite.String(), Generation: c.Date})
	}
	return suites
}

func unresolved(all []want.Unresolved) (needs []admin.UnresolvedNeed) {
	for _, u := range all {
		needs = append(needs, admin.UnresolvedNeed(u))
	}
	return needs
}

// PlanMirror says what a mirror will take.
func (o *Operator) PlanMirror(ctx context.Context, name string) (*admin.Forecast, error) {
	f, err := o.cfg.Holds.Plan(ctx, name)
	if err != nil {
		return nil, err
	}
	return forecastOf(f), nil
}

func forecastOf(f *holds.Forecast) *admin.Forecast {
	a := &admin.Forecast{
		Suites: mirrorSuites(f.Suites), Indexes: count(f.Indexes), Packages: count(f.Packages), Share: count(f.Share), Stored: count(f.Stored),
		Need: f.Need, Held: f.Held, Limit: f.Limit, Fits: f.Refused == "", Refused: f.Refused,
		Unresolved: unresolved(f.Unresolved), UnresolvedCount: f.UnresolvedCount, Unprovable: f.Unprovable, Unsized: f.Unsized,
	}
	for name, c := range f.Nodes {
		if a.Nodes == nil {
			a.Nodes = make(map[string]admin.FileCount)
		}
		a.Nodes[name] = count(c)
	}
	for _, h := range f.Largest {
		a.Largest = append(a.Largest, admin.HoldSize{Hold: h.Owner, Bytes: h.Bytes})
	}
	return a
}

// RunMirror has a mirror fetch what is missing.
func (o *Operator) RunMirror(name string) (*admin.Mirror, error) {
	return o.wakeMirror(name, o.cfg.Holds.Run)
}

// VerifyMirror has a mirror read all that it holds.
func (o *Operator) VerifyMirror(name string) (*admin.Mirror, error) {
	return o.wakeMirror(name, o.cfg.Holds.Verify)
}

func (o *Operator) wakeMirror(name string, wake func(string) error) (*admin.Mirror, error) {
	if err := wake(name); err != nil {
		return nil, err
	}
	list, err := o.Mirrors(name)
	if err != nil {
		return nil, err
	}
	return &list[0], nil
}
