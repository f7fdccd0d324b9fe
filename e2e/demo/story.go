package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/aptmesh/aptmesh/e2e/lab"
)

// startAll makes the archive and the keys, and starts the nodes.
func (d *demo) startAll() error {
	apps, bigSize := 40, int64(20_000_000)
	if d.quick {
		apps, bigSize = 10, 4_000_000
	}
	d.archive = newArchive(d.format, apps, bigSize)
	say("The archive is at %s: one repository of the format %s, %d packages, %s.", d.archive.server.URL, d.format.name, apps+2, megabytes(int64(apps)*appSize+3*bigSize))
	say("It answers after %d ms, and sends %s per second to all who ask together.", latency.Milliseconds(), megabytes(bandwidth))
	if err := d.writeKeys(); err != nil {
		return err
	}
	sites := map[string]string{"fra1": "Frankfurt", "ams1": "Amsterdam", "nyc1": "New-York"}
	names := []string{"fra1", "ams1", "nyc1"}
	c, err := lab.NewCluster(lab.Plan{Name: "demo", Nodes: names, Dir: d.dir, Binary: d.binary, Prefer: []string{"127.0.1.1", "127.0.1.2", "127.0.1.3"}})
	if err != nil {
		return err
	}
	say("aptmesh cluster init --name demo --nodes %s made keys and certificates.", strings.Join(names, ","))
	for _, n := range c.Nodes {
		n.Settings = d.configure(c, n, sites[n.Name])
		if err := n.Start(d.binary); err != nil {
			return err
		}
		d.nodes = append(d.nodes, n)
		say("%s in %s is started, for hosts at %s.", n.Name, sites[n.Name], n.URL())
	}
	return d.meet(time.Now())
}

// meet waits until the nodes are ready and one cluster, and tells who owns how much
// of it.
func (d *demo) meet(began time.Time) error {
	for _, n := range d.nodes {
		if err := d.awaitReady(n); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(d.ctx, 40*time.Second)
	defer cancel()
	if err := lab.Agree(ctx, d.nodes...); err != nil {
		return err
	}
	var shares []string
	err := d.until("each node has its share of the connections", func() (bool, error) {
		for _, n := range d.nodes {
			s, err := d.status(n)
			if err != nil {
				return false, err
			}
			for _, u := range s.Upstreams {
				if u.Limit < connections/len(d.nodes) {
					return false, nil
				}
			}
			shares = nil
			for _, m := range s.Cluster.Members {
				shares = append(shares, fmt.Sprintf("%s %.0f %%", m.Name, 100*m.RingShare))
			}
		}
		return true, nil
	})
	if err == nil {
		say("After %s they are ready, and one cluster. Each node owns a share of all objects, and fetches it for all nodes:", seconds(time.Since(began)))
		say("%s.", strings.Join(shares, ", "))
	}
	return err
}

// until polls for something that should be so shortly.
func (d *demo) until(what string, done func() (bool, error)) error {
	ctx, cancel := context.WithTimeoutCause(d.ctx, 40*time.Second, fmt.Errorf("it did not happen that %s", what))
	defer cancel()
	for {
		if ok, err := done(); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// aptmesh runs another command of the binary, and returns what it printed.
func (d *demo) aptmesh(args ...string) (string, error) {
	cmd := exec.CommandContext(d.ctx, d.binary, args...)
	cmd.Env = lab.Environ()
	lab.DieWithUs(cmd)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("aptmesh %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

// twoHosts has two hosts at two nodes do the same at one time.
func (d *demo) twoHosts() error {
	if !d.format.present() {
		say("This machine has no %s: plain clients read the index in its place.", d.format.program)
		return d.readIndex()
	}
	for i, name := range []string{"web", "db"} {
		h, err := d.host(d.nodes[i])
		if err != nil {
			return err
		}
		say("Host %s uses %s/demo, at %s.", name, d.nodes[i].URL(), d.nodes[i].Name)
		d.hosts = append(d.hosts, h)
	}
	for _, act := range []struct {
		title   string
		command func(host) *exec.Cmd
	}{
		{d.format.update, func(h host) *exec.Cmd { return h.update(d.ctx) }},
		{fmt.Sprintf("%s (%d packages)", d.format.fetch, len(d.archive.apps)), func(h host) *exec.Cmd { return h.fetch(d.ctx, d.archive.apps...) }},
	} {
		took := make([]string, len(d.hosts))
		errs := make([]error, len(d.hosts))
		var all sync.WaitGroup
		for i, h := range d.hosts {
			all.Go(func() {
				began := time.Now()
				errs[i] = succeed(act.command(h))
				took[i] = seconds(time.Since(began))
			})
		}
		all.Wait()
		if err := errors.Join(errs...); err != nil {
			return err
		}
		say("%s: web %s, db %s.", act.title, took[0], took[1])
	}
	return nil
}

// readIndex reads at each node what a package manager reads first.
func (d *demo) readIndex() error {
	for _, n := range d.nodes {
		for _, path := range d.format.reads {
			if _, err := compare(d.ctx, direct, n.URL()+"/demo/"+path, d.archive.file(path)); err != nil {
				return err
			}
			d.served++
		}
	}
	return nil
}

// host makes a host that uses a node.
func (d *demo) host(n *lab.Node) (host, error) {
	return d.format.host(d, n, filepath.Join(d.dir, fmt.Sprintf("host%d", len(d.hosts)+1)))
}

// succeed runs a command of a package manager, which must not complain.
func succeed(cmd *exec.Cmd) error {
	out, err := cmd.CombinedOutput()
	if err != nil || bytes.Contains(out, []byte("W:")) || bytes.Contains(out, []byte("E:")) {
		return fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, out)
	}
	return nil
}

// herd has many plain clients ask all nodes for one package that nobody has.
func (d *demo) herd() error {
	perNode := 60
	if d.quick {
		perNode = 15
	}
	r := d.download(d.archive.big, perNode, d.nodes, nil)
	d.served += r.good
	say("%d of %d clients, at all three nodes, have the %s whole and right.", r.good, r.asked, megabytes(r.size))
	say("The first byte came after %s in the median; the last client was done after %s.", seconds(r.firstMedian), seconds(r.took))
	say("Upstream had %s for it; its line alone takes %s.", counted(d.archive.server.Requests(d.archive.big), "request"), seconds(latency+time.Duration(float64(r.size)/bandwidth*1e9)))
	return r.err
}

// accounts tells what all of that cost.
func (d *demo) accounts() error {
	t := d.archive.tally()
	say("Clients served: %d. Objects: %d. Most requests for one object: %d. Bytes sent: %s, of %s that there are: %.2f.",
		d.served+len(d.hosts), t.objects, t.most, megabytes(t.bytes), megabytes(t.unique), float64(t.bytes)/float64(t.unique))
	say("Looks at the root: %d, by one node for all, once per second.", t.looks)
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	tiers := []string{"memory", "disk", "peer", "upstream"}
	fmt.Fprintf(w, "bytes to hosts from\t%s\t\n", strings.Join(tiers, "\t"))
	for _, n := range d.nodes {
		s, err := d.status(n)
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "%s\t", n.Name)
		for _, tier := range tiers {
			fmt.Fprintf(w, "%s\t", megabytes(s.Traffic.Tiers[tier].Bytes))
		}
		fmt.Fprintln(w)
	}
	w.Flush()
	for line := range strings.Lines(b.String()) {
		say("%s", strings.TrimRight(line, "\n"))
	}
	if t.most > 1 {
		return errors.New("an object was fetched twice")
	}
	return nil
}

// publication publishes a generation, and sees all nodes follow.
func (d *demo) publication() error {
	root := d.archive.next()
	began := time.Now()
	flipped := make([]time.Duration, len(d.nodes))
	errs := make([]error, len(d.nodes))
	var all sync.WaitGroup
	for i, n := range d.nodes {
		all.Go(func() {
			errs[i] = d.until(n.Name+" serves the new generation", func() (bool, error) {
				_, err := compare(d.ctx, direct, n.URL()+"/demo/"+d.format.root, root)
				return err == nil, nil
			})
			flipped[i] = time.Since(began)
		})
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	for i, n := range d.nodes {
		say("%s serves the new generation %s after its publication.", n.Name, seconds(flipped[i]))
	}
	say("One node looks once per second, and tells the others: from the first to the last one it took %d ms.", (slices.Max(flipped) - slices.Min(flipped)).Milliseconds())
	if !d.format.present() {
		return nil
	}
	third := d.nodes[2]
	h, err := d.host(third)
	if err != nil {
		return err
	}
	d.hosts = append(d.hosts, h)
	before := d.archive.tally()
	app := d.archive.apps[0]
	began = time.Now()
	if err := errors.Join(succeed(h.update(d.ctx)), succeed(h.fetch(d.ctx, app, d.archive.apps[1]))); err != nil {
		return err
	}
	say("A third host, at %s, reads the index and downloads %s (new) and %s: %s. Upstream sent %s: what is new.",
		third.Name, app, d.archive.apps[1], seconds(time.Since(began)), counted(d.archive.tally().bodies-before.bodies, "object"))
	return nil
}

// showStatus prints what an operator sees.
func (d *demo) showStatus() error {
	out, err := d.aptmesh("status", "--admin", d.nodes[0].Admin())
	if err != nil {
		return err
	}
	say("$ aptmesh status --admin %s", d.nodes[0].Admin())
	for line := range strings.Lines(out) {
		say("%s", strings.TrimRight(line, "\n"))
	}
	return nil
}

// loss kills the node that fetches a package for all when a third of it is there.
func (d *demo) loss() error {
	var why lab.Why
	if err := d.until("somebody owns "+d.archive.huge, func() (ok bool, err error) {
		why, err = d.nodes[0].Why(d.ctx, "demo/"+d.archive.huge)
		return len(why.Owners) > 0, err
	}); err != nil {
		return err
	}
	owner := d.nodes[slices.IndexFunc(d.nodes, func(n *lab.Node) bool { return n.Name == why.Owners[0] })]
	others := slices.DeleteFunc(slices.Clone(d.nodes), func(n *lab.Node) bool { return n == owner })
	size := int64(len(d.archive.file(d.archive.huge)))
	var when error
	r := d.download(d.archive.huge, 10, others, func() {
		when = d.until("a third of it was sent", func() (bool, error) { return d.archive.server.Bytes(d.archive.huge) > size/3, nil })
		owner.Kill()
	})
	if when != nil {
		return when
	}
	say("%s fetched %s for the clients of %s and %s, and was killed (kill -9) when it had a third.", owner.Name, megabytes(size), others[0].Name, others[1].Name)
	say("%d of %d clients have it whole and right, after %s. Upstream had %s and sent %s: it went on where it was.",
		r.good, r.asked, seconds(r.took), counted(d.archive.server.Requests(d.archive.huge), "request"), megabytes(d.archive.server.Bytes(d.archive.huge)))
	if r.err != nil {
		return r.err
	}
	began := time.Now()
	if err := owner.Start(d.binary); err != nil {
		return err
	}
	if err := d.awaitReady(owner); err != nil {
		return err
	}
	say("%s is back, %s after it was started again.", owner.Name, seconds(time.Since(began)))
	return nil
}
