package main

import (
	"bytes"
	"context"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
	"github.com/aptmesh/aptmesh/e2e/lab"
)

// cell is one case, and what came of it.
type cell struct {
	fault
	format      format
	object      object
	mirrorCount int
	bad         int
	resuming    bool
	nodes       int
	id          string // name of its archive
	archive     *testarchive.Archive
	seed        uint32
	mirrors     []*testarchive.Server // the bad ones first
	old         map[string]testarchive.File
	date        time.Time
	asked       int // which node the client asks
	path        string
	want        testarchive.File
	before      testarchive.File // what a client may get of nextRoot as well
	pattern     []string
	outcome     outcome
	broken      []string // promises to hosts
	costly      []string // promises to the archive
	// struck says that a bad mirror was asked. On a machine so busy that it seemed
	// slow before, it may not have been, and the cell shows nothing.
	struck        bool
	requests      int   // to the mirrors for the object, while they were bad
	transferred   int64 // bytes of it
	took, healing time.Duration
	tries         int
}

// String names the cell, for --filter and for a report.
func (c *cell) String() string {
	client := "new"
	if c.resuming {
		client = "resuming"
	}
	return fmt.Sprintf("%s, %s / %s / %d of %d bad / %s / %d nodes", c.name, c.moment, c.format.objects[c.object].name, c.bad, c.mirrorCount, client, c.nodes)
}

// good is how many mirrors are left.
func (c *cell) good() int { return c.mirrorCount - c.bad }

// cells are all cases of a format for so many nodes.
func cells(form format, nodes int) []*cell {
	var all []*cell
	for o := range objects {
		for _, f := range faults(form) {
			if !form.has(o) || !f.hits(o) {
				continue
			}
			for _, m := range [][2]int{{1, 1}, {2, 1}, {3, 1}, {3, 2}, {3, 3}} {
				for _, resuming := range []bool{false, true} {
					// A host never goes on with half a root: there is none of one
					// length and date that could be had from elsewhere.
					if resuming && o.isRoot() {
						continue
					}
					c := &cell{fault: f, format: form, object: o, mirrorCount: m[0], bad: m[1], resuming: resuming, nodes: nodes}
					h := fnv.New64a()
					h.Write([]byte(c.String()))
					c.id = fmt.Sprintf("cell-%016x", h.Sum64())
					all = append(all, c)
				}
			}
		}
	}
	return all
}

// furnish publishes the archive and starts its mirrors.
func (c *cell) furnish(addr string, rnd *rand.Rand) error {
	c.archive = testarchive.New(rnd.Uint64())
	c.date = time.Now().Add(-time.Hour).Truncate(time.Second)
	c.seed = rnd.Uint32()
	c.format.publish(c.archive, c.seed, c.date, 1)
	c.old = make(map[string]testarchive.File)
	for name := range c.archive.Files() {
		c.old[name], _ = c.archive.Lookup(name)
	}
	if c.object != nextRoot {
		c.publish()
	}
	c.asked = rnd.IntN(c.nodes)
	for range c.mirrorCount {
		m, err := testarchive.NewServerAt(c.archive, addr)
		if err != nil {
			return err
		}
		c.mirrors = append(c.mirrors, m)
	}
	return nil
}

// publish brings the generation that the cell is about.
func (c *cell) publish() {
	c.path = c.format.publish(c.archive, c.seed, c.date.Add(time.Minute), 2)
	switch c.object {
	case firstRoot, nextRoot:
		c.path, c.pattern = c.format.root, c.format.roots
		c.before = c.old[c.path]
	case index:
		var others []string
		c.path, others = c.format.index(c.archive)
		c.pattern = append([]string{c.path}, others...)
	default:
		c.pattern = []string{c.path}
	}
	c.want, _ = c.archive.Lookup(c.path)
}

// play does everything with the cell, and notes what came of it.
func (c *cell) play(ctx context.Context, o options, w *world) {
	if err := c.prepare(ctx, w); err != nil {
		c.fail("before any fault: %v", err)
		return
	}
	for _, m := range c.mirrors[:c.bad] {
		m.ResetCounters()
		c.strike(sick{Server: m, format: c.format, object: c.object, pattern: c.pattern, size: int64(len(c.want.Data)), portal: w.portal.URL, old: c.old})
	}
	for _, m := range c.mirrors[c.bad:] {
		m.ResetCounters()
	}
	if c.object == nextRoot {
		c.refresh(ctx, w)
	}
	d := c.readRoot(ctx, w.nodes[c.asked], c.waits(o))
	if d.Done() {
		d = c.ask(ctx, w.nodes[c.asked], c.waits(o))
	}
	c.judge(d)
	c.account()
	if err := c.heal(ctx, w); err != nil {
		c.fail("after healing: %v", err)
		return
	}
	c.afterwards(ctx, w)
}

// close ends the mirrors.
func (c *cell) close() {
	for _, m := range c.mirrors {
		m.Close()
	}
}

// cost notes that the archive was asked for more than it should be.
func (c *cell) cost(format string, args ...any) {
	c.costly = append(c.costly, fmt.Sprintf(format, args...))
}

func (c *cell) fail(format string, args ...any) {
	if what := fmt.Sprintf(format, args...); !slices.Contains(c.broken, what) {
		c.broken = append(c.broken, what)
	}
}

func (c *cell) url(s *site, path string) string { return s.url + "/" + c.id + "/" + path }

// prepare has the client get what a host has before it asks for the object.
func (c *cell) prepare(ctx context.Context, w *world) error {
	first := []string{c.format.root}
	if c.format.index != nil && c.object != index {
		path, _ := c.format.index(c.archive)
		first = append(first, path)
	}
	if c.object == firstRoot || c.object == index && c.format.indexFirst {
		first = nil
	}
	for _, p := range first {
		want, _ := c.archive.Lookup(p)
		d := (&lab.Client{As: c.format.client}).Get(ctx, lab.Order{URL: c.url(w.nodes[c.asked], p), Good: is(want.Data)})
		if !d.Done() {
			return fmt.Errorf("%s: %s, %v: %s", p, d.Why(), d.Last().Err, d.Last().Text)
		}
	}
	if c.object == nextRoot {
		c.publish()
	}
	return nil
}

func is(want ...[]byte) func([]byte) bool {
	return func(got []byte) bool {
		return slices.ContainsFunc(want, func(w []byte) bool { return bytes.Equal(w, got) })
	}
}

// refresh looks for the new generation at once, as the watch would in its time.
func (c *cell) refresh(ctx context.Context, w *world) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	// That it fails is the fault's good right; what hosts get then is what counts.
	_, _ = w.nodes[c.asked].node.Refresh(ctx, c.id+"/"+c.format.suite, false)
}

// readRoot has the client ask for the root, where the node reads the index with it: a client that is refused the root
// does not get to the index.
func (c *cell) readRoot(ctx context.Context, s *site, client *lab.Client) lab.Download {
	if c.object != index || !c.format.indexFirst {
		return lab.Download{Same: true}
	}
	root, _ := c.archive.Lookup(c.format.root)
	return client.Get(ctx, lab.Order{URL: c.url(s, c.format.root), Good: is(root.Data)})
}

// ask is the client's whole attempt, with its retries.
func (c *cell) ask(ctx context.Context, s *site, client *lab.Client) lab.Download {
	order := lab.Order{URL: c.url(s, c.path), Good: is(c.want.Data)}
	switch c.object {
	case nextRoot:
		order.Good = is(c.want.Data, c.before.Data)
	case index, pkg:
		order.Size = int64(len(c.want.Data))
	}
	if c.resuming {
		order.Has = slices.Clone(c.want.Data[:len(c.want.Data)/4])
		order.Modified = c.want.Modified.UTC().Format("Mon, 02 Jan 2006 15:04:05 GMT")
	}
	return client.Get(ctx, order)
}

// waits is a client that is as patient as the real one. Where nobody can help it, it does not
// wait for nothing.
func (c *cell) waits(o options) *lab.Client {
	if c.good() > 0 {
		return &lab.Client{As: c.format.client}
	}
	return &lab.Client{As: c.format.client, Wait: func(ctx context.Context, _ int, _ time.Duration) {
		select {
		case <-time.After(o.hopeless):
		case <-ctx.Done():
		}
	}}
}

// account sums up what the mirrors were asked for the object.
func (c *cell) account() {
	c.requests, c.transferred = 0, 0
	for _, m := range c.mirrors {
		for _, p := range c.pattern {
			c.requests += m.Requests(p)
			c.transferred += m.Bytes(p)
		}
	}
	maxRequests, maxBytes := c.bounds()
	if c.requests > maxRequests {
		c.cost("the mirrors were asked %d times for the object; at most %d were allowed", c.requests, maxRequests)
	}
	if c.transferred > maxBytes {
		c.cost("the mirrors sent %d bytes of an object of %d; at most %d were allowed", c.transferred, len(c.want.Data), maxBytes)
	}
	c.struck = c.silent
	for _, m := range c.mirrors[:c.bad] {
		c.struck = c.struck || m.TotalRequests() > 0
	}
}

// heal ends the fault and has hosts ask every node until each has given the object.
func (c *cell) heal(ctx context.Context, w *world) error {
	for _, m := range c.mirrors[:c.bad] {
		m.ClearFaults()
		if c.silent {
			// Somebody else may have been given the port for a moment.
			var err error
			open := func() bool { err = m.Accept(); return err == nil }
			if late := eventually(ctx, time.Minute, "the mirror has its port back", open); late != nil {
				return fmt.Errorf("%w: %w", late, err)
			}
		}
	}
	began := time.Now()
	for i := range w.nodes {
		s := w.nodes[(c.asked+i)%len(w.nodes)]
		err := eventually(ctx, 2*time.Minute, "the object can be had from "+s.name, func() bool {
			if c.object == nextRoot {
				c.refresh(ctx, w)
			}
			client := &lab.Client{As: c.format.client, Wait: func(context.Context, int, time.Duration) {}}
			if !c.readRoot(ctx, s, client).Done() {
				return false
			}
			d := client.Get(ctx, lab.Order{URL: c.url(s, c.path), Good: is(c.want.Data, c.before.Data)})
			if d.Wrong {
				c.fail("%s gave a complete wrong body after healing", s.name)
			}
			return d.Body != nil && bytes.Equal(d.Body, c.want.Data)
		})
		if err != nil {
			return err
		}
	}
	c.healing = time.Since(began)
	return nil
}

// afterwards checks what is kept, and that it costs upstream nothing more where it
// cannot change.
func (c *cell) afterwards(ctx context.Context, w *world) {
	// The client may have its last byte before the file has its name.
	kept := func() bool { return slices.ContainsFunc(w.nodes, func(s *site) bool { return s.holds(c.want.Data) }) }
	if err := eventually(ctx, time.Minute, "a node keeps the object", kept); err != nil {
		c.fail("%v", err)
	}
	for _, m := range c.mirrors {
		m.ResetCounters()
	}
	for _, s := range w.nodes {
		d := (&lab.Client{As: c.format.client}).Get(ctx, lab.Order{URL: c.url(s, c.path), Good: is(c.want.Data)})
		if !d.Done() {
			c.fail("%s does not give the object a second time: %s", s.name, d.Why())
		}
	}
	if c.object.isRoot() {
		return // these are looked at again and again, at one mirror or another
	}
	for _, m := range c.mirrors {
		for _, p := range c.pattern {
			if n := m.Bytes(p); n > int64(m.Requests(p)) { // a node that tries a mirror again asks for one byte
				c.cost("an object that is held was fetched again: %d bytes of %s", n, p)
			}
		}
	}
}
