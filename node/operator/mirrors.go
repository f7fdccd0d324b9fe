package operator

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"

	"github.com/aptmesh/aptmesh/node/admin"
	"github.com/aptmesh/aptmesh/node/holds"
	"github.com/aptmesh/aptmesh/node/holds/want"
	"github.com/aptmesh/aptmesh/proto"
)

// Mirrors lists the mirrors, or the one of a name, with how it is on the other nodes.
func (o *Operator) Mirrors(ctx context.Context, name string) ([]admin.Mirror, error) {
	list := []admin.Mirror{}
	for _, s := range o.cfg.Holds.Mirrors() {
		if name == "" || s.Name == name {
			list = append(list, o.mirrorOf(&s))
		}
	}
	if name != "" && len(list) == 0 {
		return nil, fmt.Errorf("mirror %q: %w (aptmesh mirror status lists them)", name, holds.ErrUnknown)
	}
	if name != "" {
		list[0].Others = o.onOthers(ctx, name, actStatus)
	}
	return list, nil
}

// What one node asks another one of a mirror.
const actStatus, actRun, actVerify = "status", "run", "verify"

// onOthers has all other nodes do something for a mirror.
func (o *Operator) onOthers(ctx context.Context, name, act string) []admin.MirrorNode {
	if o.cfg.Cluster == nil {
		return nil
	}
	mesh := o.cfg.Cluster.Mesh()
	alive, silent := mesh.Nodes()
	nodes := make([]admin.MirrorNode, len(alive))
	var group sync.WaitGroup
	for i, node := range alive {
		group.Go(func() {
			nodes[i].Node = node
			text, err := mesh.Mirror(ctx, node, name, act)
			var m admin.Mirror
			if err == nil {
				err = json.Unmarshal(text, &m)
			}
			if err != nil {
				nodes[i].Failure = err.Error()
				return
			}
			nodes[i] = admin.MirrorNode{Node: node, Phase: m.Phase, Failure: m.Failure, Share: m.Share, Held: m.Held, Missing: m.Missing}
		})
	}
	group.Wait()
	for _, node := range silent {
		nodes = append(nodes, admin.MirrorNode{Node: node, Failure: "it does not answer"})
	}
	slices.SortFunc(nodes, func(a, b admin.MirrorNode) int { return cmp.Compare(a.Node, b.Node) })
	return nodes
}

// ServeMirror does for another node what an operator wants of a mirror.
func (o *Operator) ServeMirror(name, act string) ([]byte, error) {
	var err error
	switch act {
	case actStatus:
	case actRun:
		err = o.cfg.Holds.Run(name)
	case actVerify:
		err = o.cfg.Holds.Verify(name)
	default:
		err = fmt.Errorf("%.70q is nothing that can be done for a mirror", act)
	}
	if err != nil {
		return nil, err
	}
	for _, s := range o.cfg.Holds.Mirrors() {
		if s.Name == name {
			return json.Marshal(o.mirrorOf(&s))
		}
	}
	return nil, fmt.Errorf("mirror %q: %w", name, holds.ErrUnknown)
}

func (o *Operator) mirrorOf(s *holds.Status) admin.Mirror {
	m := admin.Mirror{
		Name: s.Name, Node: o.cfg.Name, Generations: []admin.MirrorGeneration{},
		Listed: count(s.Listed), Share: count(s.Share), Held: count(s.Held), Own: count(s.Own), Cluster: count(s.Cluster), Missing: count(s.Missing),
		Phase: string(s.Phase), Failure: s.Failure, Unchecked: s.Unchecked, Next: s.Next,
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
		Suites: mirrorSuites(f.Suites), Unchecked: f.Unchecked, Indexes: count(f.Indexes), Packages: count(f.Packages), Share: count(f.Share), Stored: count(f.Stored),
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

// RunMirror has all nodes fetch what is missing of their shares of a mirror.
func (o *Operator) RunMirror(ctx context.Context, name string) (*admin.Mirror, error) {
	return o.wakeMirror(ctx, name, actRun, o.cfg.Holds.Run)
}

// VerifyMirror has all nodes read all that they hold of a mirror.
func (o *Operator) VerifyMirror(ctx context.Context, name string) (*admin.Mirror, error) {
	return o.wakeMirror(ctx, name, actVerify, o.cfg.Holds.Verify)
}

func (o *Operator) wakeMirror(ctx context.Context, name, act string, wake func(string) error) (*admin.Mirror, error) {
	if err := wake(name); err != nil {
		return nil, err
	}
	others := o.onOthers(ctx, name, act)
	for _, s := range o.cfg.Holds.Mirrors() {
		if s.Name == name {
			m := o.mirrorOf(&s)
			m.Others = others
			return &m, nil
		}
	}
	return nil, fmt.Errorf("mirror %q: %w", name, holds.ErrUnknown)
}
