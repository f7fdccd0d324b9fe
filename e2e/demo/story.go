package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
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
	d.archive = newArchive(apps, bigSize)
	say("The archive is at %s: one suite, %d packages, %s.", d.archive.server.URL, apps+2, megabytes(int64(apps)*appSize+3*bigSize))
	say("It answers after %d ms, and sends %s per second to all who ask together.", latency.Milliseconds(), megabytes(bandwidth))
	if err := os.WriteFile(filepath.Join(d.dir, "archive.gpg"), d.archive.Keyring(), 0o644); err != nil {
		return err
	}
	sites := map[string]string{"fra1": "Frankfurt", "ams1": "Amsterdam", "nyc1": "New-York"}
	names := []string{"fra1", "ams1", "nyc1"}
	keys := filepath.Join(d.dir, "cluster")
	if _, err := d.aptmesh("cluster", "init", "--name", "demo", "--nodes", strings.Join(names, ","), "--dir", keys); err != nil {
		return err
	}
	say("aptmesh cluster init --name demo --nodes %s made keys and certificates.", strings.Join(names, ","))

	addrs, err := addresses(len(names))
	if err != nil {
		return err
	}
	for i, name := range names {
		n := &node{name: name, datacenter: sites[name], addr: addrs[i]}
		if err := d.configure(n, addrs, filepath.Join(keys, name)); err != nil {
			return err
		}
		if err := n.start(d.binary); err != nil {
			return err
		}
		d.nodes = append(d.nodes, n)
		say("%s in %s is started: process %d, for hosts at %s.", name, n.datacenter, n.cmd.Process.Pid, n.url)
	}
	return d.meet(time.Now())
}

// addresses are 127.0.1.1 and on, or others if somebody is there.
func addresses(n int) ([]string, error) {
	ports := []int{doorPort, peerPort, adminPort, gossipPort}
	var addrs []string
	for i := range n {
		addrs = append(addrs, fmt.Sprintf("127.0.1.%d", i+1))
	}
	if lab.AllFree(addrs, ports...) == nil {
		return addrs, nil
	}
	return lab.Loopbacks(n, ports...)
}

// meet waits until the nodes are ready and one cluster, and tells who owns how much
// of it.
func (d *demo) meet(began time.Time) error {
	for _, n := range d.nodes {
		if err := n.awaitReady(d.ctx); err != nil {
			return err
		}
	}
	var shares []string
	err := d.until("the nodes are one cluster", func() (bool, error) {
		shares = nil
		rings := make(map[string]bool)
		for _, n := range d.nodes {
			s, err := n.status(d.ctx)
			if err != nil {
				return false, err
			}
			for _, u := range s.Upstreams {
				if u.Limit < connections/len(d.nodes) {
					return false, nil // its share of the connections is not in force yet
				}
			}
			rings[s.Cluster.RingHash] = true
			active := 0
			for _, m := range s.Cluster.Members {
				if m.State == "active" {
					active++
				}
				if n == d.nodes[0] {
					shares = append(shares, fmt.Sprintf("%s %.0f %%", m.Name, 100*m.RingShare))
				}
			}
			if active != len(d.nodes) {
				return false, nil
			}
		}
		return len(rings) == 1, nil
	})
	if err == nil {
		say("After %s they are ready, and one cluster. Of all objects each owns a share, which it fetches for all:", seconds(time.Since(began)))
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
	if !lab.HaveApt() {
		say("This machine has no apt-get: plain clients read the index in their place.")
		return d.readIndex()
	}
	install := append([]string{"-y", "--download-only", "install"}, d.archive.apps...)
	for i, name := range []string{"web", "db"} {
		h, err := d.host(d.nodes[i])
		if err != nil {
			return err
		}
		say("Host %s has %s/demo in its sources, at %s.", name, d.nodes[i].url, d.nodes[i].name)
		d.hosts = append(d.hosts, h)
	}
	for _, args := range [][]string{{"update"}, install} {
		took := make([]string, len(d.hosts))
		errs := make([]error, len(d.hosts))
		var all sync.WaitGroup
		for i, h := range d.hosts {
			all.Go(func() {
				began := time.Now()
				errs[i] = d.apt(h, args...)
				took[i] = seconds(time.Since(began))
			})
		}
		all.Wait()
		if err := errors.Join(errs...); err != nil {
			return err
		}
		say("apt-get %s: web %s, db %s.", title(args), took[0], took[1])
	}
	return nil
}

// readIndex reads at each node what apt-get update reads.
func (d *demo) readIndex() error {
	for _, n := range d.nodes {
		for _, path := range []string{"dists/" + suite + "/InRelease", "dists/" + suite + "/main/binary-amd64/Packages.xz"} {
			if _, err := compare(d.ctx, direct, n.url+"/demo/"+path, d.archive.file(path)); err != nil {
				return err
			}
			d.served++
		}
	}
	return nil
}

// host makes a host that uses a node.
func (d *demo) host(n *node) (*lab.Apt, error) {
	return lab.NewApt(d.archive.Keyring(), fmt.Sprintf("deb [signed-by=KEYRING] %s/demo %s main", n.url, suite))
}

func (d *demo) apt(h *lab.Apt, args ...string) error {
	out, err := h.Command(d.ctx, "apt-get", args...).CombinedOutput()
	if err != nil || bytes.Contains(out, []byte("W:")) || bytes.Contains(out, []byte("E:")) {
		return fmt.Errorf("apt-get %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return nil
}

// title shortens a command for a line.
func title(args []string) string {
	if len(args) > 5 {
		return fmt.Sprintf("%s (%d packages)", strings.Join(args[:3], " "), len(args)-3)
	}
	return strings.Join(args, " ")
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
	say("Looks at the InRelease: %d, by one node for all, once per second.", t.looks)
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	tiers := []string{"memory", "disk", "peer", "upstream"}
	fmt.Fprintf(w, "bytes to hosts from\t%s\t\n", strings.Join(tiers, "\t"))
	for _, n := range d.nodes {
		s, err := n.status(d.ctx)
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "%s\t", n.name)
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
			errs[i] = d.until(n.name+" serves the new generation", func() (bool, error) {
				_, err := compare(d.ctx, direct, n.url+"/demo/dists/"+suite+"/InRelease", root)
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
		say("%s serves the new generation %s after its publication.", n.name, seconds(flipped[i]))
	}
	say("One node looks once per second, and tells the others: from the first to the last one it took %d ms.", (slices.Max(flipped) - slices.Min(flipped)).Milliseconds())
	if !lab.HaveApt() {
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
	if err := errors.Join(d.apt(h, "update"), d.apt(h, "-y", "--download-only", "install", app, d.archive.apps[1])); err != nil {
		return err
	}
	say("A third host, at %s: apt-get update and install %s (new) and %s: %s. Upstream sent %s: what is new.",
		third.name, app, d.archive.apps[1], seconds(time.Since(began)), counted(d.archive.tally().bodies-before.bodies, "object"))
	return nil
}

// showStatus prints what an operator sees.
func (d *demo) showStatus() error {
	out, err := d.aptmesh("status", "--admin", d.nodes[0].admin)
	if err != nil {
		return err
	}
	say("$ aptmesh status --admin %s", d.nodes[0].admin)
	for line := range strings.Lines(out) {
		say("%s", strings.TrimRight(line, "\n"))
	}
	return nil
}

// loss kills the node that fetches a package for all when a third of it is there.
func (d *demo) loss() error {
	var why struct{ Owners []string }
	about := "/v1/why?url=" + url.QueryEscape(d.nodes[0].url+"/demo/"+d.archive.huge)
	if err := d.until("somebody owns "+d.archive.huge, func() (bool, error) {
		err := d.nodes[0].ask(d.ctx, about, &why)
		return len(why.Owners) > 0, err
	}); err != nil {
		return err
	}
	owner := d.nodes[slices.IndexFunc(d.nodes, func(n *node) bool { return n.name == why.Owners[0] })]
	others := slices.DeleteFunc(slices.Clone(d.nodes), func(n *node) bool { return n == owner })
	size := int64(len(d.archive.file(d.archive.huge)))
	var when error
	r := d.download(d.archive.huge, 10, others, func() {
		when = d.until("a third of it was sent", func() (bool, error) { return d.archive.server.Bytes(d.archive.huge) > size/3, nil })
		owner.kill()
	})
	if when != nil {
		return when
	}
	say("%s fetched %s for the clients of %s and %s, and was killed (kill -9) when it had a third.", owner.name, megabytes(size), others[0].name, others[1].name)
	say("%d of %d clients have it whole and right, after %s. Upstream had %s and sent %s: it went on where it was.",
		r.good, r.asked, seconds(r.took), counted(d.archive.server.Requests(d.archive.huge), "request"), megabytes(d.archive.server.Bytes(d.archive.huge)))
	if r.err != nil {
		return r.err
	}
	began := time.Now()
	if err := owner.start(d.binary); err != nil {
		return err
	}
	if err := owner.awaitReady(d.ctx); err != nil {
		return err
	}
	say("%s is back, %s after it was started again.", owner.name, seconds(time.Since(began)))
	return nil
}
