package main

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/aptmesh/aptmesh/e2e/bench/load"
	"github.com/aptmesh/aptmesh/e2e/bench/origin"
)

// fleetCase is one load on all sites at once, of what no site has.
type fleetCase struct {
	title   string
	files   []string
	clients int
	shape   origin.Shape
	limit   time.Duration
	// dies is the share of the unique bytes after which the owner of the first file is
	// killed; 0 = nobody.
	dies float64
}

// ideal is how long the archive's link needs to send everything once.
func (c fleetCase) ideal(size int64) time.Duration {
	return c.shape.Latency + time.Duration(float64(size)/float64(c.shape.BytesPerSecond)*float64(time.Second))
}

// coldFleet lets clients of several sites ask for what none of them has. Sites are the
// nodes of a cluster, or caches that know nothing of each other.
func coldFleet(b *bench) error {
	if b.server("aptmesh") == nil {
		return nil
	}
	b.report.heading(2, "Q. A cold fleet")
	b.report.printf(`All sites share one core; the nodes of the cluster talk by mTLS. Clients are spread over all sites, also over the one that is killed
(kill -9): its clients go on at the next site ("moved"), as anycast has it, and ask for the rest of what they have a part of. While that
is not proven there yet, they are sent it from the beginning. nginx is as many caches that know nothing of each other, and is told to wait
a minute for what is under way, not five seconds, after which each client would fetch for itself. aptmesh asks the archive over 8
connections from all nodes together, nginx over as many as it has clients: that is what a first byte waits for among many packages.
"Of ideal" is to what the archive's link needs for one copy; one core moves what all clients together are sent.
`)
	return errors.Join(b.fleetOfOne(), b.fleetOfMany())
}

// fleetOfOne has all clients want one package at one instant.
func (b *bench) fleetOfOne() error {
	a, sets := b.newArchiveOf(6, packageSet{"one", 2, sized(int64(b.herdSize))}, packageSet{"other", 50, sized(10_000)})
	c := fleetCase{
		title: fmt.Sprintf("Q: %d clients, 5 sites, one package of %s, link of 50 MB/s, 20 ms", b.fleet, bytesText(float64(a.bytes(sets["one"][0])))),
		files: sets["one"][:1], clients: b.fleet, shape: origin.Shape{BytesPerSecond: 50e6, Latency: 20 * time.Millisecond}, limit: time.Minute,
	}
	killed := c
	killed.files, killed.dies = sets["one"][1:], 0.3
	return b.fleetTable("fleet-one", a, 5, c, killed)
}

// fleetOfMany has each client want many packages, in an order of its own.
func (b *bench) fleetOfMany() error {
	// Log-uniform from 8 KB to 2 MB, as in D.
	size := func(i int) int64 { return int64(8000 * math.Pow(250, float64(i)/299)) }
	a, sets := b.newArchiveOf(7, packageSet{"whole", 300, size}, packageSet{"killed", 300, size})
	c := fleetCase{
		title: fmt.Sprintf("Q: 50 clients, 3 sites, %s, link of 100 MB/s, 5 ms", a.describe(sets["whole"])),
		files: sets["whole"], clients: 50, shape: origin.Shape{BytesPerSecond: 100e6, Latency: 5 * time.Millisecond}, limit: time.Minute,
	}
	killed := c
	killed.files, killed.dies = sets["killed"], 0.5
	return b.fleetTable("fleet-many", a, 3, c, killed)
}

// fleetTable measures nginx, where there is one, with whole, and a cluster with both.
func (b *bench) fleetTable(name string, a *archive, sites int, whole, killed fleetCase) error {
	progress("   %s", whole.title)
	var rows [][]string
	var nginx sample
	if s := b.server("nginx"); s != nil {
		got, err := b.nginxFleet(name, a, sites, whole)
		if err != nil {
			return fmt.Errorf("nginx: %w", err)
		}
		nginx = got
		rows = append(rows, b.fleetRow(fmt.Sprintf("%d x nginx", sites), a, whole, got, nginx))
	}
	cluster, err := b.clusterFleet(name, a, sites, whole, killed)
	if err != nil {
		return err
	}
	for i, c := range []fleetCase{whole, killed} {
		who := fmt.Sprintf("aptmesh, %d nodes", sites)
		if c.dies > 0 {
			who += fmt.Sprintf(", one killed at %.0f %%", 100*c.dies)
		}
		rows = append(rows, b.fleetRow(who, a, c, cluster[i], nginx))
		b.fleetGoals(who, a, c, cluster[i], nginx)
	}
	b.report.heading(3, "%s (ideal %.2f s)", whole.title, whole.ideal(a.bytes(whole.files...)).Seconds())
	b.report.table([]string{"sites", "fetches", "of one object at most", "bytes fetched / unique", "at once", "TTFB p50 / p99 s", "p99 x nginx", "all done s", "of ideal",
		"served", "moved (from the beginning)", "CPU-s/GB to clients", "PSS MB of all", "failures"}, rows)
	return nil
}

func (b *bench) fleetRow(who string, a *archive, c fleetCase, got, nginx sample) []string {
	size := a.bytes(c.files...)
	perGB := "-" // of a fleet that lost one, nobody knows
	if c.dies == 0 {
		perGB = fmt.Sprintf("%.3f", got.perGB())
	}
	return []string{
		who, fmt.Sprint(got.fetchesOf(c.files)), fmt.Sprint(got.mostFetches(c.files)),
		fmt.Sprintf("%.3f", float64(got.counts.Bytes)/float64(size)),
		fmt.Sprint(got.counts.PeakAtOnce), fmt.Sprintf("%.3f / %.3f", got.TTFB.Quantile(0.5).Seconds(), got.firstByte()), ratio(got.firstByte(), nginx.firstByte()),
		fmt.Sprintf("%.2f", got.Elapsed.Seconds()), fmt.Sprintf("%.2f", got.Elapsed.Seconds()/c.ideal(size).Seconds()),
		fmt.Sprint(got.Requests), fmt.Sprintf("%d (%d)", got.Moved, got.StartedOver), perGB, number(float64(got.pss) / 1e6), failures(got.Failures),
	}
}

func (b *bench) fleetGoals(who string, a *archive, c fleetCase, got, nginx sample) {
	what := fmt.Sprintf("Q: %s, %d clients", who, c.clients)
	size := float64(a.bytes(c.files...))
	g := goal{what: what + ": bytes fetched / unique bytes", got: float64(got.counts.Bytes) / size, limit: 1.0005}
	most := goal{what: what + ": fetches of one object", got: float64(got.mostFetches(c.files)), limit: 1}
	if c.dies > 0 {
		most.limit = 2
		g.limit = 1 + c.dies + 0.05 // all that was fetched before or on its way, were it lost with the node
	} else if nginx.Result != nil {
		g.peer, most.peer = float64(nginx.counts.Bytes)/size, float64(nginx.mostFetches(c.files))
	}
	b.report.goal(g)
	b.report.goal(most)
	b.report.goal(goal{what: what + ": clients that failed", got: float64(got.Failed()), limit: 0})
}

// fetchesOf is the number of requests for those files, and mostFetches that for the
// one that was asked for most.
func (s sample) fetchesOf(files []string) (n int) {
	for _, name := range files {
		n += s.fetches(name)
	}
	return n
}

func (s sample) mostFetches(files []string) (most int) {
	for _, name := range files {
		most = max(most, s.fetches(name))
	}
	return most
}

// nginxFleet measures caches that know nothing of each other.
func (b *bench) nginxFleet(name string, a *archive, sites int, c fleetCase) (got sample, err error) {
	nginx := b.server("nginx")
	g, pl, err := b.newGroup(name+"-nginx", a)
	if err != nil {
		return got, err
	}
	defer func() { err = errors.Join(err, g.close()) }()
	pl.program = nginx.program
	for range sites {
		if pl.addr, err = freeAddr(); err != nil {
			return got, err
		}
		if _, err := g.add(peer{name: "nginx", command: nginxPatient}, pl, nginx.cores); err != nil {
			return got, err
		}
	}
	if err := g.start(g.servers...); err != nil {
		return got, err
	}
	return b.fleetRun(g, a, c, nil)
}

// clusterFleet measures the nodes of one cluster with each case in turn.
func (b *bench) clusterFleet(name string, a *archive, sites int, cases ...fleetCase) (all []sample, err error) {
	cl, err := b.newCluster(clusterPlan{name: name, nodes: sites, archive: a, memory: "64MiB", cores: b.server("aptmesh").cores})
	defer func() { err = errors.Join(err, cl.close()) }()
	if err != nil {
		return nil, err
	}
	if err := cl.start(cl.servers...); err != nil {
		return nil, err
	}
	if err := cl.update(a); err != nil {
		return nil, err
	}
	for _, c := range cases {
		w, err := cl.servers[0].node.Why(b.ctx, c.files[0])
		if err != nil {
			return nil, err
		}
		if len(w.Owners) == 0 {
			return nil, fmt.Errorf("nobody owns %s", c.files[0])
		}
		owner, err := cl.node(w.Owners[0])
		if err != nil {
			return nil, err
		}
		got, err := b.fleetRun(cl.group, a, c, owner)
		if err != nil {
			return nil, err
		}
		all = append(all, got)
	}
	return all, nil
}

// fleetRun measures one case once; victim is who dies, if the case has somebody die.
func (b *bench) fleetRun(g *group, a *archive, c fleetCase, victim *server) (sample, error) {
	g.origin.SetShape(c.shape)
	defer g.origin.SetShape(origin.Shape{})
	size := a.bytes(c.files...)
	return b.measureGroup(g, load.Plan{Targets: a.targets(c.files...), Connections: c.clients, Timeout: 3 * b.patience}, func(s *load.Session) *load.Result {
		if c.dies == 0 {
			return s.Rounds(1, c.limit)
		}
		over, dead := make(chan struct{}), make(chan error, 1)
		go func() { dead <- killAt(g.origin, int64(c.dies*float64(size)), victim, over) }()
		got := s.Rounds(1, c.limit)
		close(over)
		if err := <-dead; err != nil {
			got.Failures[err.Error()]++
		}
		return got
	})
}

// killAt kills a server when so many bytes have left the archive.
func killAt(o *origin.Origin, bytes int64, victim *server, over <-chan struct{}) error {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for o.Counts().Bytes < bytes {
		select {
		case <-tick.C:
		case <-over:
			return errors.New("all was over before anybody was killed")
		}
	}
	return victim.kill()
}
