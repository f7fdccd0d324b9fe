package catalog

import (
	"context"
	"slices"
	"time"

	"github.com/aptmesh/aptmesh/node/catalog/suite"
	"github.com/aptmesh/aptmesh/node/catalog/view"
	"github.com/aptmesh/aptmesh/proto"
)

// An archive may sign its root anew in one form only: a new signature beside a root that stays as
// it is in the preferred form. So the node that asks upstream looks at the other forms too while
// clients use them, and the other nodes follow its announcements.

// renewCompanions reads the other forms of the root again, if clients use them and upstream has
// other bytes now. It runs on the driver's goroutine, after a good check of this node's own.
func (d *driver) renewCompanions() {
	g := d.current
	if g == nil || d.renewing || !d.preferred(g.Generation) || !d.hasCompanions(g) || !d.wantsCompanions(g.Generation) {
		return
	}
	d.renewing = true
	at := d.at()
	started := d.c.spawn(func() {
		var found []proto.Companion
		if d.companionsChanged(d.ctx, g, at) {
			found, _, _ = d.readCompanions(d.ctx, g.Generation, at)
		}
		d.mail.post(func() {
			d.renewing = false
			d.replaceCompanions(g.Statement, found, true)
		})
	})
	if !started {
		d.renewing = false
	}
}

// companionsChanged asks the mirror that the root comes from whether it has other bytes of a
// companion.
func (d *driver) companionsChanged(ctx context.Context, g *view.Generation, at suite.At) bool {
	mirrors := d.mirrorsFor(at)
	if len(mirrors) == 0 {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for _, form := range d.otherForms(g.Generation) {
		for _, file := range form.Files {
			current, ok := g.Companion(file.Name)
			if !ok || current.Stray {
				continue
			}
			f, err := d.fetchSmall(ctx, file, &suite.AskMirror{Mirror: mirrors[0]}, "", current.Modified)
			if err == nil && f != nil && proto.DigestOf(f.data) != current.Ref.Digest {
				return true
			}
		}
	}
	return false
}

// followCompanions reads companions that another node announces with other bytes than the current
// ones, if that node has asked upstream later. Safe for concurrent use.
func (d *driver) followCompanions(from string, ann proto.Announcement) {
	g := d.public.Load().current
	if g == nil || g.Statement != ann.Generation.Statement || !ann.FirstHand || !differ(g.Companions, ann.Generation.Companions) {
		return
	}
	d.mail.post(func() {
		if d.renewing {
			return
		}
		d.renewing = true
		started := d.c.spawn(func() {
			found, err := d.announcedCompanions(d.ctx, g.Generation, ann.Generation.Companions, []string{from})
			if err != nil {
				found = nil // upstream is asked next
			}
			d.mail.post(func() {
				d.renewing = false
				d.replaceCompanions(g.Statement, found, false)
			})
		})
		if !started {
			d.renewing = false
		}
	})
}

// differ reports whether a current companion is offered with other bytes.
func differ(current, offered []proto.Companion) bool {
	return slices.ContainsFunc(current, func(c proto.Companion) bool {
		return !c.Proof && !c.Stray && slices.ContainsFunc(offered, func(o proto.Companion) bool { return o.Name == c.Name && o.Ref != c.Ref })
	})
}

// replaceCompanions adopts companions that differ from the current ones, and announces them if this
// node got them from upstream.
func (d *driver) replaceCompanions(statement proto.Digest, found []proto.Companion, firstHand bool) {
	if d.current == nil || d.current.Statement != statement || !differ(d.current.Companions, found) {
		return
	}
	d.attach(statement, found)
	d.log.Info("the other forms of the root are signed anew upstream")
	if firstHand {
		d.announce(true)
	}
}
