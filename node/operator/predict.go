package operator

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/aptmesh/aptmesh/node/admin"
	"github.com/aptmesh/aptmesh/proto"
)

// ShowSnapshot shows a snapshot with what will become of it.
func (o *Operator) ShowSnapshot(ctx context.Context, name string) (*admin.Snapshot, error) {
	list, err := o.Snapshots(name)
	if err != nil {
		return nil, err
	}
	s := &list[0]
	if s.Lost {
		return s, nil
	}
	return s, o.predict(ctx, s)
}

// predict adds to a snapshot what an operator should know of it beforehand.
func (o *Operator) predict(ctx context.Context, s *admin.Snapshot) error {
	listings, err := o.cfg.Snapshots.Listings(ctx, s.Name, nil)
	if err != nil {
		return err
	}
	now := time.Now()
	s.Own = o.ownBytes(s)
	var used, lacking int
	var bytes int64
	for i := range listings {
		l := &listings[i]
		found, err := o.indexes().Survey(ctx, l, now.Add(-o.cfg.Archives.Config().Prefetch.UsedWithin), o.storedHere)
		if err != nil {
			s.Warnings = append(s.Warnings, fmt.Sprintf("the packages of %s cannot be looked at: %v", l.Suite, err))
		}
		used, lacking, bytes = used+found.Used, lacking+found.Lacking, bytes+found.LackingBytes
		phased := make([]admin.PhasedPackage, 0, len(found.Phased))
		for _, p := range found.Phased {
			phased = append(phased, admin.PhasedPackage(p))
		}
		s.Warnings = append(s.Warnings, deadlines(l, now)...)
		s.Warnings = append(s.Warnings, phasedWarning(l.Suite, phased)...)
		for j := range s.Suites {
			if t := &s.Suites[j]; t.Suite == l.Suite.String() {
				t.Signer, t.AcceptedUntil, t.Phased = l.Manifest.Signer, acceptedUntil(l.Manifest), phased
			}
		}
	}
	s.Warnings = append(s.Warnings, o.pocketWarnings(listings)...)
	if lacking > 0 {
		s.Warnings = append(s.Warnings, fmt.Sprintf("of %d packages of it that hosts of this node use, %d (%s) are not stored here: they can be installed as long as upstream or another node has them",
			used, lacking, humanize.IBytes(uint64(bytes))))
	}
	return nil
}

func (o *Operator) storedHere(object proto.ObjectRequest) bool {
	tier, _ := o.cfg.Fetcher.Stored(object)
	return tier != ""
}

// ownBytes is what would be freed without a snapshot: what neither other snapshots nor the archives as they are now need.
func (o *Operator) ownBytes(s *admin.Snapshot) (bytes int64) {
	needed := make(map[proto.Digest]bool)
	var own []proto.Ref
	for _, other := range o.cfg.Snapshots.List() {
		if other.Record == nil {
			continue
		}
		if other.Digest == s.Record {
			own = other.Record.Blobs()
			for _, a := range other.Record.Archives {
				for _, captured := range o.cfg.Catalog.Capture(a.Name) {
					for _, ref := range captured.Blobs() {
						needed[ref.Digest] = true
					}
				}
			}
			continue
		}
		for _, ref := range other.Record.Blobs() {
			needed[ref.Digest] = true
		}
	}
	for _, ref := range own {
		if !needed[ref.Digest] {
			bytes += max(ref.Size, 0)
		}
	}
	return bytes
}

// acceptedUntil is when clients begin to refuse a root; zero for never.
func acceptedUntil(m *proto.Manifest) time.Time {
	if m.ValidUntil.IsZero() || !m.KeyExpires.IsZero() && m.KeyExpires.Before(m.ValidUntil) {
		return m.KeyExpires
	}
	return m.ValidUntil
}

// deadlines says when clients refuse a suite for a date. What is more than a year away is only shown.
func deadlines(l *proto.Listing, now time.Time) (all []string) {
	soon := func(t time.Time) bool { return !t.IsZero() && t.Before(now.AddDate(1, 0, 0)) }
	from := func(t time.Time) string {
		if t.Before(now) {
			return "since " + t.Format(time.DateTime)
		}
		return "from " + t.Format(time.DateTime) + " on"
	}
	m := l.Manifest
	if m.Date.After(now) {
		all = append(all, fmt.Sprintf("apt refuses %s until %s UTC: its date lies in the future", l.Suite, m.Date.Format(time.DateTime)))
	}
	if soon(m.ValidUntil) {
		all = append(all, fmt.Sprintf("apt refuses %s %s (UTC), its Valid-Until: hosts need [check-valid-until=no] for it, or get it live (aptmesh channel set --live)", l.Suite, from(m.ValidUntil)))
	}
	if soon(m.KeyExpires) {
		all = append(all, fmt.Sprintf("hosts refuse %s %s (UTC): the key of %s expires, unless they get one that was prolonged", l.Suite, from(m.KeyExpires), m.Signer))
	}
	return all
}

// maxPhased is how many packages a warning names.
const maxPhased = 5

// phasedWarning says which packages of a suite only some hosts will get, for as long as the snapshot is used.
func phasedWarning(suite proto.Suite, phased []admin.PhasedPackage) (all []string) {
	say := func(which func(admin.PhasedPackage) bool, format string) {
		var names []string
		for _, p := range phased {
			if which(p) && !slices.Contains(names, p.Name) {
				names = append(names, p.Name)
			}
		}
		if len(names) == 0 {
			return
		}
		more := ""
		if n := len(names) - maxPhased; n > 0 {
			names, more = names[:maxPhased], fmt.Sprintf(" and %d more", n)
		}
		all = append(all, fmt.Sprintf(format, suite, strings.Join(names, ", ")+more))
	}
	say(func(p admin.PhasedPackage) bool { return p.Percent == 0 }, "%s has updates that were withdrawn, and that no host installs (unless it includes all phased updates): %s")
	say(func(p admin.PhasedPackage) bool { return p.Percent > 0 }, "%s has updates that only some hosts will ever install from this snapshot (Phased-Update-Percentage): %s")
	return all
}

// pocketWarnings says which suites do not go together as they were captured.
func (o *Operator) pocketWarnings(listings []proto.Listing) (all []string) {
	has := func(id proto.Suite) bool {
		return slices.ContainsFunc(listings, func(l proto.Listing) bool { return l.Suite == id })
	}
	for _, l := range listings {
		release, pocket := o.cfg.Archives.FormatOf(l.Suite.Archive).Pocket(l.Suite)
		switch pocket {
		case "":
			continue
		case "proposed", "proposed-updates":
			all = append(all, fmt.Sprintf("%s has packages that nobody has tested yet, and stays so", l.Suite))
		}
		if pocket != "security" && !has(release) {
			all = append(all, fmt.Sprintf("%s is without %s: its packages may need versions that hosts do not get from there", l.Suite, release))
		}
	}
	// The archive has a suite of security updates that was left out.
	for _, l := range listings {
		format := o.cfg.Archives.FormatOf(l.Suite.Archive)
		release, pocket := format.Pocket(l.Suite)
		for _, s := range o.cfg.Catalog.Capture(l.Suite.Archive) {
			if of, other := format.Pocket(s.Suite); other == "security" && of == release && !has(s.Suite) && pocket == "" {
				all = append(all, fmt.Sprintf("%s is not in it: hosts get security updates only if they use that suite as it is now", s.Suite))
			}
		}
	}
	slices.SortFunc(all, cmp.Compare[string])
	return slices.Compact(all)
}
