package operator

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/aptmesh/aptmesh/node/admin"
	"github.com/aptmesh/aptmesh/node/snapshot"
	"github.com/aptmesh/aptmesh/node/snapshot/diff"
	"github.com/aptmesh/aptmesh/proto"
)

// indexes reads what suites list.
func (o *Operator) indexes() *diff.Reader {
	return &diff.Reader{
		Format: func(archive string) diff.Format { return o.cfg.Archives.FormatOf(archive) },
		Open:   o.cfg.Fetcher.Open, Used: o.cfg.Prefetch.LastUsed,
	}
}

// DiffSnapshots compares two snapshots, channels, or archives as they are now.
func (o *Operator) DiffSnapshots(ctx context.Context, plan admin.DiffPlan) (*admin.Diff, error) {
	for _, pattern := range plan.Suites {
		if err := checkPattern(pattern); err != nil {
			return nil, err
		}
	}
	archives, err := o.comparedArchives(plan)
	if err != nil {
		return nil, err
	}
	var sides [2][]proto.Listing
	for i, id := range []string{plan.Before, plan.After} {
		if sides[i], err = o.cfg.Snapshots.Listings(ctx, id, archives); err != nil {
			return nil, err
		}
		sides[i] = slices.DeleteFunc(sides[i], func(l proto.Listing) bool { return !slices.Contains(archives, l.Suite.Archive) })
	}
	suites, err := o.indexes().Compare(ctx, sides[0], sides[1], func(s proto.Suite) bool { return snapshot.Wanted(plan.Suites, s) })
	if err != nil {
		return nil, err
	}
	d := &admin.Diff{Before: plan.Before, After: plan.After, Suites: []admin.SuiteDiff{}}
	since := time.Now().Add(-o.cfg.Archives.Config().Prefetch.UsedWithin)
	for _, s := range suites {
		if plan.Used {
			s.Changes = slices.DeleteFunc(s.Changes, func(c diff.Change) bool { return c.Used.Before(since) })
		}
		d.Suites = append(d.Suites, suiteDiff(&s, d))
	}
	return d, nil
}

// comparedArchives are those that an operator names, or else those of the snapshots.
func (o *Operator) comparedArchives(plan admin.DiffPlan) (archives []string, err error) {
	if len(plan.Archives) == 0 {
		for _, id := range []string{plan.Before, plan.After} {
			archives = append(archives, o.cfg.Snapshots.ArchivesOf(id)...)
		}
	}
	if len(archives) > 0 {
		slices.Sort(archives)
		return slices.Compact(archives), nil
	}
	return o.archivesOf(plan.Archives)
}

func checkPattern(pattern string) error {
	if err := snapshot.CheckPattern(pattern); err != nil {
		return fmt.Errorf("%q is no pattern of suites: %w; write for example noble*", pattern, err)
	}
	return nil
}

// suiteDiff is what differs in a suite, added to the sums.
func suiteDiff(s *diff.Suite, sums *admin.Diff) admin.SuiteDiff {
	d := admin.SuiteDiff{Suite: s.Suite.String(), Before: s.Before, After: s.After, Packages: []admin.PackageDiff{}, Skipped: s.Skipped}
	for _, c := range s.Changes {
		d.Packages = append(d.Packages, admin.PackageDiff{
			Change: string(c.Kind), Name: c.Name, Arch: c.Arch, Before: packageVersion(c.Before), After: packageVersion(c.After),
			Security: c.Security, Used: c.Used,
		})
		if c.After != nil {
			sums.Bytes += max(c.After.Size, 0)
		}
		if c.Before != nil {
			sums.Gone += max(c.Before.Size, 0)
		}
	}
	return d
}

func packageVersion(v *diff.Version) *admin.PackageVersion {
	if v == nil {
		return nil
	}
	p := &admin.PackageVersion{Version: v.Version, Source: v.Source, Component: v.Component, Size: v.Size}
	if v.Phased {
		p.Phased = &v.Phase
	}
	return p
}
