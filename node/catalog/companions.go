package catalog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aptmesh/aptmesh/node/catalog/suite"
	"github.com/aptmesh/aptmesh/node/catalog/view"
	"github.com/aptmesh/aptmesh/proto"
)

// A root may be published in several forms at once: beside the root that contains its signature,
// archives keep a root with a signature in a separate file, which some clients read. This node
// fetches the other form when a client asks for it, and checks that it says what the root says.
// From then on the form is staged with each generation, so that all clients switch together.

// errApart says that the forms of a root differ: when an archive publishes, its forms change one by
// one.
var errApart = errors.New("the forms of upstream's root are of different generations")

// otherForms are the forms that the root of g is not in.
func (d *driver) otherForms(g proto.Generation) []proto.Form {
	forms := slices.Clone(d.forms())
	return slices.DeleteFunc(forms, func(f proto.Form) bool { return f.Files[0].Name == g.RootName })
}

// wantsCompanions reports whether clients of any node use a file of another form.
func (d *driver) wantsCompanions(g proto.Generation) bool {
	for _, form := range d.otherForms(g) {
		for _, f := range form.Files {
			if d.demand.wants(f.Name) {
				return true
			}
		}
	}
	return false
}

// otherNames names the files of the other forms, for people.
func (d *driver) otherNames(g proto.Generation) string {
	var names []string
	for _, form := range d.otherForms(g) {
		for _, f := range form.Files {
			names = append(names, f.Name)
		}
	}
	return strings.Join(names, ", ")
}

// preferred reports whether a root is in the preferred form: only then can there be others beside
// it.
func (d *driver) preferred(g proto.Generation) bool {
	return g.RootName == d.forms()[0].Files[0].Name
}

// pairing is one fetch of the other forms, shared by all requests that wait for it.
type pairing struct {
	done chan struct{}
	err  error // valid after done
}

// fetchCompanions brings in the other forms of the current root because a client asks for one.
// proto.ErrNotFound where there is none. fromPeer says that another node waits for it: then no
// third node is asked, and a fetch that waits for another node is not joined.
func (d *driver) fetchCompanions(ctx context.Context, fromPeer bool) error {
	joined := make(chan *pairing, 1)
	posted := d.mail.post(func() {
		if d.pairings[fromPeer] == nil {
			d.pairings[fromPeer] = &pairing{done: make(chan struct{})}
			p, g, at := d.pairings[fromPeer], d.current, d.at()
			started := g != nil && d.c.spawn(func() { d.pair(p, g, at, fromPeer) })
			if !started {
				p.err = errClosed
				close(p.done)
				d.pairings[fromPeer] = nil
				joined <- p
				return
			}
		}
		joined <- d.pairings[fromPeer]
	})
	if !posted {
		return errClosed
	}
	select {
	case p := <-joined:
		select {
		case <-p.done:
			return p.err
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// pair fetches the other forms of g, and gives them to the driver.
func (d *driver) pair(p *pairing, g *view.Generation, at suite.At, fromPeer bool) {
	g, found, err := d.companionsOf(g, at, fromPeer)
	done := func() {
		p.err = err
		if err == nil {
			d.attach(g.Statement, found)
		}
		d.pairings[fromPeer] = nil
		d.publish()
		close(p.done)
	}
	if !d.mail.post(done) {
		p.err = errClosed
		close(p.done)
	}
}

// companionsOf finds the other forms of a generation: from the leader where another node leads,
// else from a mirror. Where they say something else than the root, upstream may be in the middle of
// publishing: then there is a new root, which may bring its own forms along. It returns the
// generation that they belong to.
func (d *driver) companionsOf(g *view.Generation, at suite.At, fromPeer bool) (*view.Generation, []proto.Companion, error) {
	if !d.preferred(g.Generation) || len(d.otherForms(g.Generation)) == 0 {
		return g, nil, proto.ErrNotFound
	}
	ctx := d.ctx
	if at.Rank > 0 && !fromPeer {
		if found, err := d.companionsFromLeader(ctx, g); err == nil {
			return g, found, nil
		}
	}
	found, _, err := d.readCompanions(ctx, g.Generation, at)
	if !errors.Is(err, errApart) {
		return g, found, err
	}
	if !fromPeer || at.Rank == 0 {
		d.request(ctx, suite.Request{Fresh: true})
	}
	if now := d.public.Load().current; now != nil && now.Statement != g.Statement {
		if g = now; d.hasCompanions(g) {
			return g, g.Companions, nil
		}
	}
	found, strays, err := d.readCompanions(ctx, g.Generation, at)
	if !errors.Is(err, errApart) {
		return g, found, err
	}
	found, err = d.strays(strays, err)
	return g, found, err
}

// hasCompanions reports whether a generation has another form beside its root.
func (d *driver) hasCompanions(g *view.Generation) bool {
	for _, form := range d.otherForms(g.Generation) {
		if _, ok := g.Companion(form.Files[0].Name); ok {
			return true
		}
	}
	return false
}

// strays decides what clients get when the forms of upstream's root say different things.
func (d *driver) strays(strays []proto.Companion, err error) ([]proto.Companion, error) {
	// An archive may keep an old root in another form beside the one it goes on with. When no
	// publication can explain that any more, clients get what they would get from upstream itself.
	if !d.apartForLong() {
		return nil, &proto.Unavailable{Reason: fmt.Sprintf("%s is being published upstream", d.id), RetryAfter: 5 * time.Second, Err: err}
	}
	if strays == nil {
		return nil, proto.ErrNotFound // clients fall back to the preferred form
	}
	return strays, nil
}

// apartForLong notes that the forms of upstream's root differ, and reports whether they have for
// longer than a publication takes.
func (d *driver) apartForLong() bool {
	answer := make(chan bool, 1)
	if !d.mail.post(func() {
		now := d.c.mono()
		if d.apart == suite.Never {
			d.apart = now
		}
		answer <- now.Sub(d.apart) >= d.c.cfg.Patience
	}) {
		return false
	}
	select {
	case long := <-answer:
		return long
	case <-d.ended:
		return false
	}
}

// attach gives the current generation its companions, if it still says the same.
func (d *driver) attach(statement proto.Digest, found []proto.Companion) {
	if d.current == nil || d.current.Statement != statement {
		return
	}
	if !slices.ContainsFunc(found, func(c proto.Companion) bool { return c.Stray }) {
		d.apart = suite.Never
	}
	g := d.current.Generation
	g.Companions = mergeCompanions(g.Companions, found)
	d.current = withGeneration(d.current, g).WithFiles(filesOf(g)...)
	d.saveOrWarn()
	d.show()
}

// mergeCompanions adds found to the companions there are; found replaces one of the same name.
func mergeCompanions(current, found []proto.Companion) []proto.Companion {
	merged := slices.DeleteFunc(slices.Clone(current), func(c proto.Companion) bool {
		return slices.ContainsFunc(found, func(f proto.Companion) bool { return f.Name == c.Name })
	})
	return append(merged, found...)
}

// readCompanions reads the other forms of a root from one mirror, that of the root first, and
// proves that they say the same. With errApart it returns the form as a stray, where it is trusted
// by itself.
func (d *driver) readCompanions(ctx context.Context, g proto.Generation, at suite.At) (found, strays []proto.Companion, err error) {
	mirrors := d.mirrorsFor(at)
	var failures []error
	for i, mirror := range mirrors {
		timeout := 10 * time.Second
		if i == len(mirrors)-1 {
			timeout = 2 * time.Minute
		}
		for f, form := range d.forms() {
			if form.Files[0].Name == g.RootName {
				continue
			}
			found, stray, err := d.readCompanionsFrom(ctx, g, f, form, mirror, timeout)
			if err == nil {
				return found, nil, nil
			}
			if stray != nil {
				strays = stray
			}
			failures = append(failures, err)
		}
		if ctx.Err() != nil {
			break
		}
	}
	return nil, strays, worst(failures)
}

// worst picks the error that a retry may end most likely: first that forms differ, then a temporary
// failure, then "not found".
func worst(failures []error) error {
	var said error = proto.ErrNotFound
	for _, err := range failures {
		switch {
		case errors.Is(err, errApart):
			return err
		case !errors.Is(err, proto.ErrNotFound) || said == proto.ErrNotFound:
			said = err
		}
	}
	return said
}

// mirrorsFor lists the mirrors that may have what goes with the current root.
func (d *driver) mirrorsFor(at suite.At) []string {
	answer := make(chan []string, 1)
	if !d.mail.post(func() { answer <- d.machine.NotBehind(at, d.machine.Record().Primary) }) {
		return nil
	}
	select {
	case mirrors := <-answer:
		return mirrors
	case <-d.ended:
		return nil
	}
}

func (d *driver) readCompanionsFrom(ctx context.Context, g proto.Generation, i int, form proto.Form, mirror string, timeout time.Duration) (found, stray []proto.Companion, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, timeout,
		&proto.Unavailable{Reason: fmt.Sprintf("the other forms of the root of %s were not complete after %s", d.id, timeout)})
	defer cancel()
	q := &suite.AskMirror{Mirror: mirror}
	files := make(map[string]*rootFile)
	for n, file := range form.Files {
		f, err := d.fetchSmall(ctx, file, q, "", time.Time{})
		switch {
		case errors.Is(err, proto.ErrNotFound) && n > 0:
			continue
		case err != nil:
			return nil, nil, err
		}
		files[file.Name] = f
	}
	return d.proveCompanions(g, i, form, files)
}

// proveCompanions proves that a form says what the root says, and stores its files.
func (d *driver) proveCompanions(g proto.Generation, i int, form proto.Form, files map[string]*rootFile) (found, stray []proto.Companion, err error) {
	cand, err := d.candidate(i, form, files)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", errApart, err)
	}
	apart := cand.Gen.Statement != g.Statement || cand.Manifest.Torn != ""
	for _, file := range form.Files {
		f := files[file.Name]
		if f == nil {
			continue
		}
		ref, err := d.c.cfg.Store.Put(d.id.Archive, f.data, f.modified)
		if err != nil {
			return nil, nil, err
		}
		found = append(found, proto.Companion{Name: file.Name, Ref: ref, Modified: f.modified, Stray: apart})
	}
	if !apart {
		return found, nil, nil
	}
	current := d.public.Load().current
	if current == nil || d.archive.Load().Format.Belongs(d.id, &current.Manifest.Names, cand.Manifest) == proto.BelongsNo {
		return nil, nil, errApart
	}
	return nil, found, errApart
}

// announcedCompanions reads the other forms from nodes that announce them, and proves the same of
// them.
func (d *driver) announcedCompanions(ctx context.Context, g proto.Generation, told []proto.Companion, from []string) ([]proto.Companion, error) {
	for i, form := range d.forms() {
		if form.Files[0].Name == g.RootName {
			continue
		}
		files := make(map[string]*rootFile)
		for _, file := range form.Files {
			at := slices.IndexFunc(told, func(c proto.Companion) bool { return c.Name == file.Name && c.Known() && !c.Stray })
			if at < 0 {
				continue
			}
			f, err := d.openAnnounced(ctx, file, told[at].Ref, told[at].Modified, from)
			if err != nil {
				return nil, err
			}
			files[file.Name] = f
		}
		if files[form.Files[0].Name] == nil {
			continue
		}
		found, _, err := d.proveCompanions(g, i, form, files)
		return found, err
	}
	return nil, errNotAnnounced
}

// errNotAnnounced is that other nodes announce no other form.
var errNotAnnounced = errors.New("no other node announces another form of the root")

// companionsFromLeader has the leader bring the other forms in, so that they are read from upstream
// once.
func (d *driver) companionsFromLeader(ctx context.Context, g *view.Generation) ([]proto.Companion, error) {
	ctx, cancel := context.WithTimeout(ctx, announcedTimeout)
	defer cancel()
	e := d.askLeader(ctx, &suite.AskLeader{}).(suite.LeaderAnswered)
	if e.Err != nil {
		return nil, e.Err
	}
	d.mail.post(func() { d.step(suite.Received{From: e.From, Ann: e.Ann, Checked: e.Checked}) })
	if e.Ann.Generation.Statement != g.Statement {
		return nil, errNotAnnounced
	}
	return d.announcedCompanions(ctx, g.Generation, e.Ann.Generation.Companions, []string{e.From})
}

// stageCompanions readies the other forms with a candidate, if clients use them: from the nodes
// that offer the candidate, or else from upstream.
func (d *driver) stageCompanions(ctx context.Context, cand *suite.Candidate, at suite.At) ([]proto.Companion, error) {
	if !d.preferred(cand.Gen) || !d.wantsCompanions(cand.Gen) {
		return nil, nil
	}
	found, err := d.announcedCompanions(ctx, cand.Gen, cand.Offered, cand.From)
	if errors.Is(err, errNotAnnounced) && len(cand.From) > 0 && at.Rank > 0 {
		found, err = d.companionsFromLeader(ctx, &view.Generation{Generation: cand.Gen}) // gossip carries no companions
	}
	if err != nil {
		found, _, err = d.readCompanions(ctx, cand.Gen, at)
	}
	if errors.Is(err, proto.ErrNotFound) {
		return nil, nil // upstream has stopped keeping them
	}
	return found, err
}

// filesOf are the files of the root that this node can serve.
func filesOf(g proto.Generation) []proto.Companion {
	files := []proto.Companion{{Name: g.RootName, Ref: g.Root, Modified: g.Modified}}
	for _, c := range g.Companions {
		if c.Known() {
			files = append(files, c)
		}
	}
	return files
}
