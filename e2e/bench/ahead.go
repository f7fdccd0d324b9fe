package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"path"
	"path/filepath"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
	"github.com/aptmesh/aptmesh/e2e/bench/load"
	"github.com/aptmesh/aptmesh/e2e/bench/origin"
)

const (
	aheadHosts = 100 // the first who come after a publication
	aheadNew   = 30  // packages with a new version
	// aheadPause is what a host does with a package before it asks for the next: else
	// a hundred of them at once would measure this machine and nothing else.
	aheadPause = 100 * time.Millisecond
	// aheadLead is between the flip and the hosts of the later case: hosts look once a
	// day, at times of their own, so almost none of them comes sooner.
	aheadLead = 15 * time.Second
)

// farArchive is what is ahead of itself to be worth it: far away, on a line that a
// release day fills.
var farArchive = origin.Shape{BytesPerSecond: 2e6, Latency: 80 * time.Millisecond}

// aheadCase is a node with or without prefetch, and when hosts come.
type aheadCase struct {
	prefetch bool
	lead     time.Duration
}

// fetchAhead measures what the first hosts after a publication wait for, with and
// without fetching ahead.
func fetchAhead(b *bench) error {
	if b.server("aptmesh") == nil {
		return nil
	}
	b.report.heading(2, "S. The first hundred hosts after a publication, with and without fetching ahead")
	b.report.printf(`A node has served 60 packages to its hosts when the archive publishes new versions of %d of them, 20 KB to 200 KB. %d hosts ask for the new ones, each in
an order of its own and with %s between two, from the instant on at which the node serves the new InRelease, or %s later. The archive is 80 ms
away on a line of 2 MB/s.
"x without" is to the same case with prefetch off, in this run.
`, aheadNew, aheadHosts, aheadPause, aheadLead)
	var rows [][]string
	without := map[time.Duration]sample{}
	for _, c := range []aheadCase{{false, 0}, {true, 0}, {false, aheadLead}, {true, aheadLead}} {
		progress("   prefetch %v, hosts after %s", c.prefetch, c.lead)
		got, before, unique, err := b.publishAndAsk(c)
		if err != nil {
			return err
		}
		if !c.prefetch {
			without[c.lead] = got
		}
		base := without[c.lead]
		on := map[bool]string{false: "off", true: "on"}[c.prefetch]
		p50, p99 := got.TTFB.Quantile(0.5), got.TTFB.Quantile(0.99)
		rows = append(rows, []string{
			on, c.lead.String(), milliseconds(p50) + " / " + milliseconds(p99),
			ratio(p99.Seconds(), base.firstByte()), number(got.TTFB.Mean().Seconds() * 1e3), ratio(got.TTFB.Mean().Seconds(), base.firstByteMean()),
			fmt.Sprintf("%.2f", got.Elapsed.Seconds()), ratio(got.Elapsed.Seconds(), base.seconds()),
			fmt.Sprintf("%.2f", float64(before)/float64(unique)), fmt.Sprintf("%.2f", float64(before+got.counts.Bytes)/float64(unique)), failures(got.Failures),
		})
		if c.prefetch && c.lead > 0 {
			b.report.goal(goal{what: "S: first byte of the first hosts, p99, prefetch on / off", got: p99.Seconds() / base.firstByte(), limit: 0.1})
			b.report.goal(goal{what: "S: bytes fetched / new bytes, prefetch on", got: float64(before+got.counts.Bytes) / float64(unique), limit: 1.0005})
		}
	}
	b.report.table([]string{"prefetch", "hosts come after", "TTFB p50 / p99 ms", "p99 x without", "TTFB mean ms", "x without", "all done s", "x without",
		"of the new bytes fetched before they came", "fetched in all / new", "failures"}, rows)
	return nil
}

// publishAndAsk starts a node, has its hosts use it, publishes, and measures the hosts
// that come then. before is what the node had fetched of the new packages by then.
func (b *bench) publishAndAsk(c aheadCase) (got sample, before, unique int64, err error) {
	src := testarchive.New(9)
	src.AddSuite(testarchive.Suite{Name: "stable", ByHash: true})
	size := func(i int) int64 { return int64(20_000 + i*180_000/aheadNew) }
	var used []string
	for i := range 2 * aheadNew {
		used = append(used, path.Join(mount, src.AddPackage("stable", testarchive.Package{Name: fmt.Sprintf("app%02d", i), Version: "1", Size: 20_000})))
	}
	date := time.Now().Add(-24 * time.Hour)
	a := &archive{}
	a.publish(src, date)

	g, pl, err := b.newGroup(fmt.Sprintf("ahead-%v-%d", c.prefetch, c.lead/time.Second), a)
	if err != nil {
		return got, 0, 0, err
	}
	defer func() { err = errors.Join(err, g.close()) }()
	if pl.addr, err = freeAddr(); err != nil {
		return got, 0, 0, err
	}
	pl.program = b.server("aptmesh").program
	s, err := g.add(peer{name: "aptmesh", command: func(p place) (*exec.Cmd, error) { return aptmeshAhead(p, c.prefetch) }}, pl, b.server("aptmesh").cores)
	if err != nil {
		return got, 0, 0, err
	}
	if err := g.start(s); err != nil {
		return got, 0, 0, err
	}
	for _, names := range [][]string{{a.inRelease}, {a.index}, used} {
		if err := b.fetch(s, a.targets(names...)); err != nil {
			return got, 0, 0, err
		}
	}

	next := &archive{}
	var fresh []string
	for i := range aheadNew {
		fresh = append(fresh, path.Join(mount, src.AddPackage("stable", testarchive.Package{Name: fmt.Sprintf("app%02d", i), Version: "2", Size: size(i)})))
	}
	next.publish(src, date.Add(time.Minute))
	unique = next.bytes(fresh...)
	g.origin.SetShape(farArchive)
	g.origin.SetFiles(next.files)
	if err := b.awaitFlip(s, next); err != nil {
		return got, 0, 0, err
	}
	g.origin.Reset()
	select {
	case <-time.After(c.lead):
	case <-b.ctx.Done():
		return got, 0, 0, b.ctx.Err()
	}
	before = g.origin.Counts().Bytes // measuring begins with a Reset
	got, err = b.measureGroup(g, load.Plan{Addr: s.addr, Targets: next.targets(fresh...), Connections: aheadHosts, Pause: aheadPause, Timeout: 2 * b.patience}, rounds(1, time.Minute))
	return got, before, unique, err
}

// firstByteMean is 0 for a server that was not measured.
func (s sample) firstByteMean() float64 {
	if s.Result == nil {
		return 0
	}
	return s.TTFB.Mean().Seconds()
}

// awaitFlip has a host ask for the newest until the node serves it.
func (b *bench) awaitFlip(s *server, next *archive) error {
	ctx, cancel := context.WithTimeout(b.ctx, flipPatience)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	want := next.files[next.inRelease].Body
	return until(ctx, 20*time.Millisecond, func() (bool, error) { return serves(ctx, client, s, next.inRelease, want, "no-cache") })
}

func aptmeshAhead(p place, enabled bool) (*exec.Cmd, error) {
	cmd, err := aptmeshCommand(p)
	if err != nil {
		return nil, err
	}
	return cmd, replaceInFile(filepath.Join(p.dir, "aptmesh.yaml"), "\narchives:", fmt.Sprintf("\nprefetch: {enabled: %v}\narchives:", enabled))
}
