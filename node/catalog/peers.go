package catalog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aptmesh/aptmesh/node/catalog/suite"
	"github.com/aptmesh/aptmesh/proto"
)

// Cluster is the other nodes, as the catalog needs them. Safe for concurrent use.
type Cluster interface {
	// Rank is how many healthy nodes come before this one for a suite: the node of rank 0 asks
	// upstream for all. It must not block.
	Rank(proto.Suite) int
	// CheckSuite has the leader of a suite say what it serves, and with fresh ask upstream first.
	// slots are what clients of this node use of the suite. from is the node that answered. The
	// error is *proto.PeerFailed where no other node could be asked, and otherwise what that node
	// says of upstream.
	CheckSuite(ctx context.Context, id proto.Suite, slots []string, fresh bool) (from string, ann proto.Announcement, err error)
	// Lookup asks other nodes what the signed metadata that they hold says of a file; false where
	// none answers with a SHA-256 in about a second.
	Lookup(ctx context.Context, loc proto.Location) (proto.Ref, bool)
	// Announce passes an announcement on, without blocking: to everybody directly where it is first
	// hand, else as a hint.
	Announce(proto.Announcement)
}

// maxReceived bounds the announcements of one message.
const maxReceived = 4096

// Receive accepts an announcement of another node. It is a hint: a root newer than the current one
// is opened by its digest and verified like any other root. Receive never blocks, and the memory
// that it takes is bounded. Safe for concurrent use.
func (c *Catalog) Receive(from string, announcements ...proto.Announcement) {
	c.receive(from, false, announcements)
}

// ReceiveHearsay is Receive for what does not come from that node itself, but in its name.
func (c *Catalog) ReceiveHearsay(from string, announcements ...proto.Announcement) {
	c.receive(from, true, announcements)
}

func (c *Catalog) receive(from string, hearsay bool, announcements []proto.Announcement) {
	for _, ann := range announcements[:min(len(announcements), maxReceived)] {
		d, ok := c.announcedOf(ann)
		if !ok {
			c.metrics.announcements.WithLabelValues("ignored").Inc()
			continue
		}
		d.receiveSlots(ann.Slots, false)
		d.followCompanions(from, ann)
		e := suite.Received{From: from, Hearsay: hearsay, Ann: ann, Checked: c.monoOf(ann.Checked)}
		d.mail.post(func() { d.step(e) })
	}
}

// monoOf is a date of the recent past on the monotonic clock; Never for the zero time. A date in
// the future is now.
func (c *Catalog) monoOf(t time.Time) suite.Mono {
	if t.IsZero() {
		return suite.Never
	}
	return c.mono().Add(-max(c.cfg.Now().Sub(t), 0))
}

// announcedOf returns the suite of an announcement, made if need be; false if it is none that this
// node should know.
func (c *Catalog) announcedOf(ann proto.Announcement) (*driver, bool) {
	id := ann.Generation.Suite
	if d, ok := c.known(id); ok {
		return d, true
	}
	conf := c.archive(id.Archive)
	if conf == nil || ann.Generation.Root.IsZero() || !canBeSuite(conf.Format, id) {
		return nil, false
	}
	d, err := c.driver(id) // where there are too many, it will be announced again
	return d, err == nil
}

// canBeSuite reports whether another node names a suite that can be one at all.
func canBeSuite(f Format, id proto.Suite) bool {
	if len(id.Dir) > maxSlotLength || id.Dir != "" && !canonical(id.Dir) {
		return false
	}
	got, _, ok := f.RootOf(id.At(f.Forms(id)[0].Files[0].Name).Path)
	return ok && got.Dir == id.Dir && got.Name == id.Name
}

// canonical reports whether a directory is spelled as in a Location.
func canonical(dir string) bool {
	for segment := range strings.SplitSeq(dir, "/") {
		if segment == "" || segment == "." || segment == ".." {
			return false
		}
	}
	return !strings.ContainsFunc(dir, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\\' })
}

// receiveSlots accepts the demand that another node announces. asked says that it is of the node's
// own clients.
func (d *driver) receiveSlots(slots []string, asked bool) {
	if len(slots) == 0 {
		return
	}
	roots := rootNames(d.archive.Load().Format, d.id)
	current := d.public.Load().current
	d.demand.receive(slots, d.c.mono(), asked, d.c.remoteFor(), func(slot string) bool {
		return current == nil || slices.Contains(roots, slot) || len(current.BySlot(slot)) > 0
	})
}

// renewEvery is how often a node reports to the leader of a suite that its clients still use it.
func (c *Catalog) renewEvery() time.Duration { return min(c.cfg.IdleAfter, c.cfg.UseFor) / 8 }

// remoteFor is how long the demand of other nodes' clients counts after it was last announced. Their
// nodes announce it more often than that.
func (c *Catalog) remoteFor() suite.Mono { return suite.Mono(max(c.cfg.UseFor/7, 4*c.renewEvery())) }

// Announcements is what this node knows of all suites that it watches, for an exchange in full. What
// hosts of no node want any more is not announced, or nodes would keep it alive between them. Safe for
// concurrent use.
func (c *Catalog) Announcements() []proto.Announcement {
	drivers := c.all("")
	slices.SortFunc(drivers, func(x, y *driver) int { return strings.Compare(x.id.String(), y.id.String()) })
	var all []proto.Announcement
	for _, d := range drivers {
		if ann := d.announcement(); d.public.Load().watched && !ann.Generation.Root.IsZero() {
			all = append(all, ann)
		}
	}
	return all
}

// announcement is what this node announces of the suite. Its root is zero while there is no
// generation. Safe for concurrent use.
func (d *driver) announcement() proto.Announcement {
	p := d.public.Load()
	ann := proto.Announcement{
		Generation: proto.Generation{Suite: d.id}, Slots: d.demand.announced(d.c.mono(), suite.Mono(d.c.cfg.UseFor), d.c.remoteFor()),
	}
	if good := p.belief.Fresh.Good; good != suite.Never {
		ann.Checked = d.c.cfg.Now().Add(-d.c.mono().Sub(good)).UTC()
	}
	if p.current != nil {
		ann.Generation = p.current.Generation
		ann.Generation.Companions = slices.DeleteFunc(slices.Clone(ann.Generation.Companions), func(c proto.Companion) bool { return c.Stray })
	}
	return ann
}

// announce passes on what this node holds.
func (d *driver) announce(firstHand bool) {
	if d.c.cfg.Cluster == nil {
		return
	}
	d.publish()
	ann := d.announcement()
	ann.FirstHand = firstHand
	if !ann.Generation.Root.IsZero() {
		d.c.cfg.Cluster.Announce(ann)
	}
}

// leaderTimeout bounds a question to the leader, telling it what clients use a shorter one.
const leaderTimeout = 2 * time.Minute

// askLeader asks the leader of the suite, and sends it the demand of this node's clients.
func (d *driver) askLeader(ctx context.Context, a *suite.AskLeader) suite.Event {
	ctx, cancel := context.WithTimeout(ctx, leaderTimeout)
	defer cancel()
	from, ann, err := d.c.cfg.Cluster.CheckSuite(ctx, d.id, d.demand.own(d.c.mono(), suite.Mono(d.c.cfg.UseFor)), a.Fresh)
	d.c.metrics.leaderAnswered(err)
	if err == nil {
		d.receiveSlots(ann.Slots, false)
	}
	return suite.LeaderAnswered{Ask: a, From: from, Ann: ann, Checked: d.c.monoOf(ann.Checked), Err: err}
}

// ServeCheck answers another node that believes this one to lead the suite: with what is served
// here, having asked upstream first where fresh (though at most once a second), or where the last
// good check is older than an interval. It never asks a third node. slots are what clients of that
// node use of the suite, which is watched from now on as if they were this node's own.
//
// The error says what came of asking upstream, as for Discover; with fresh also where there is
// something older to serve. Safe for concurrent use.
func (c *Catalog) ServeCheck(ctx context.Context, id proto.Suite, slots []string, fresh bool) (proto.Announcement, error) {
	conf := c.archive(id.Archive)
	if conf == nil {
		return proto.Announcement{}, errUnknownArchive
	}
	if !canBeSuite(conf.Format, id) {
		return proto.Announcement{}, fmt.Errorf("%q cannot be the directory of a suite", id.Dir)
	}
	d, err := c.driver(id)
	if err != nil {
		return proto.Announcement{}, err
	}
	d.receiveSlots(slots, true)
	d.mail.post(func() { d.step(suite.AskedByPeer{}) })
	current := d.public.Load().current != nil
	err = d.checkForPeer(ctx, current, fresh)
	p := d.public.Load()
	switch {
	case p.current == nil:
		return proto.Announcement{}, errors.Join(err, whyIfNil(p, err))
	case err != nil && fresh:
		return proto.Announcement{}, err
	}
	if d.asksForCompanions(p, slots) {
		d.readyCompanions(ctx)
	}
	return d.announcement(), nil
}

func whyIfNil(p *public, err error) error {
	if err != nil {
		return nil
	}
	return p.belief.Why()
}

// checkForPeer asks upstream for another node, unless the last check is recent enough. With fresh it
// asks unconditionally, as for a client of this node.
func (d *driver) checkForPeer(ctx context.Context, current, fresh bool) error {
	if current {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, d.c.cfg.CheckWait,
			&proto.Unavailable{Reason: fmt.Sprintf("asking upstream for the root of %s takes long", d.id), Answered: true})
		defer cancel()
	}
	return d.request(ctx, suite.Request{Peer: true, Fresh: fresh, Since: fresh, Unconditional: fresh})
}

// asksForCompanions reports whether slots name a root file that is not there yet.
func (d *driver) asksForCompanions(p *public, slots []string) bool {
	if !d.preferred(p.current.Generation) {
		return false
	}
	for _, form := range d.otherForms(p.current.Generation) {
		for _, f := range form.Files {
			if _, has := p.current.Companion(f.Name); !has && slices.Contains(slots, f.Name) {
				return true
			}
		}
	}
	return false
}

// readyCompanions is fetchCompanions for another node: it asks no third node, and the announcement
// carries the result.
func (d *driver) readyCompanions(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, d.c.cfg.CheckWait)
	defer cancel()
	d.fetchCompanions(ctx, true)
}

// Following reports whether what other nodes have announced is just being taken in.
func (c *Catalog) Following() bool {
	return slices.ContainsFunc(c.all(""), func(d *driver) bool { return d.public.Load().following })
}

// recall asks other nodes for the digest of a package that no generation here lists. A client may
// have a generation that was current while this node was down. The answers do not make the package a
// listed file, and a mirror that gives other bytes is not blamed.
func (c *Catalog) recall(ctx context.Context, e *proto.Resolution, info *proto.PathInfo) {
	if c.cfg.Cluster == nil || e.Object.Provable() || !info.Package {
		return
	}
	if ref, ok := c.cfg.Cluster.Lookup(ctx, e.Object.Where.First); ok {
		c.metrics.listedByPeers.Inc()
		e.Object.Ref, e.Object.Hearsay = ref, true
	}
}
