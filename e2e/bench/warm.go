package main

import (
	"fmt"
	"time"

	"github.com/aptmesh/aptmesh/e2e/bench/load"
)

// warmCase is one warm measurement of all servers.
type warmCase struct {
	title       string
	targets     []load.Target
	connections int
	pipeline    int
	// The project's aims for aptmesh; 0 = none.
	perThousand, perGB float64
}

// warmTable measures one case and writes its table.
func (b *bench) warmTable(c warmCase) error {
	if err := b.warmAll(b.servers); err != nil {
		return err
	}
	progress("   %s", c.title)
	stop := b.startProfile(c.title)
	all, err := b.repeat(b.servers, load.Plan{Targets: c.targets, Connections: c.connections, Pipeline: c.pipeline, Timeout: b.patience}, lasting(b.span))
	stop()
	b.report.heading(3, "%s", c.title)
	nginx := all["nginx"]
	var rows [][]string
	for _, s := range b.servers {
		got := all[s.name]
		if len(got) == 0 {
			rows = append(rows, []string{s.name, fmt.Sprintf("not run: it cannot hold %d connections", c.connections)})
			continue
		}
		rows = append(rows, warmRow(s.name, got, nginx))
	}
	b.report.table([]string{"peer", "req/s", "x", "CPU ms/1k req", "x", "MB/s", "CPU-s/GB", "TTFB p50/p99 ms", "longest ms", "PSS MB", "failures"}, rows)
	if got := all["aptmesh"]; len(got) > 0 {
		b.warmGoals(c, got, nginx)
	}
	return err
}

func warmRow(name string, got, nginx series) []string {
	base := func(f func(sample) float64) float64 {
		if len(nginx) == 0 {
			return 0
		}
		return nginx.median(f)
	}
	quantile := func(q float64) string {
		return number(got.median(func(s sample) float64 { return s.TTFB.Quantile(q).Seconds() * 1e3 }))
	}
	bandwidth, perGB := "-", "-"
	if got[0].Bytes > 0 {
		bandwidth, perGB = number(got.median(sample.mbPerSecond)), fmt.Sprintf("%.3f", got.median(sample.perGB))
	}
	return []string{
		name,
		thousands(int64(got.median(sample.perSecond))), ratio(got.median(sample.perSecond), base(sample.perSecond)),
		number(got.median(sample.perThousand)), ratio(got.median(sample.perThousand), base(sample.perThousand)),
		bandwidth, perGB,
		quantile(0.5) + " / " + quantile(0.99),
		number(got.median(func(s sample) float64 { return s.TTLB.Max().Seconds() * 1e3 })),
		number(got.median(func(s sample) float64 { return float64(s.pss) / 1e6 })),
		failures(got.failures()),
	}
}

func (b *bench) warmGoals(c warmCase, got, nginx series) {
	add := func(f func(sample) float64, limit float64, unit string) {
		if limit == 0 {
			return
		}
		g := goal{what: c.title, got: got.median(f), limit: limit, unit: unit}
		if len(nginx) > 0 {
			g.peer = nginx.median(f)
		}
		b.report.goal(g)
	}
	add(sample.perThousand, c.perThousand, "CPU ms/1k")
	add(sample.perGB, c.perGB, "CPU-s/GB")
}

func warmSmall(b *bench) error {
	a := b.archive
	b.report.heading(2, "A. Warm hits: %s", a.describe(a.small))
	for _, c := range []struct{ connections, pipeline int }{{16, 1}, {256, 1}, {2000, 1}, {16, 10}} {
		title := fmt.Sprintf("A: small, %d connections", c.connections)
		if c.pipeline > 1 {
			title += fmt.Sprintf(", %d requests in flight on each, as apt does", c.pipeline)
		}
		if err := b.warmTable(warmCase{title: title, targets: a.targets(a.small...), connections: c.connections, pipeline: c.pipeline, perThousand: 20}); err != nil {
			return err
		}
	}
	return nil
}

func warmLarge(b *bench) error {
	a := b.archive
	b.report.heading(2, "B. Warm hits: %s, and %s", a.describe(a.middle), a.describe([]string{a.big}))
	b.report.printf("Large bodies go out with sendfile. On loopback its cost depends on how far the reader lags behind: the\n60 MB figure of one and the same server varies by half from run to run.\n")
	for _, c := range []warmCase{
		{title: "B: 200 KB, 16 connections", targets: a.targets(a.middle...), connections: 16, perGB: 0.35},
		{title: "B: 60 MB, 4 connections", targets: a.targets(a.big), connections: 4, perGB: 0.35},
	} {
		if err := b.warmTable(c); err != nil {
			return err
		}
	}
	return nil
}

func roots(b *bench) error {
	a := b.archive
	b.report.heading(2, "E. InRelease, %s, 64 connections", bytesText(float64(a.bytes(a.inRelease))))
	for _, c := range []warmCase{
		{title: "E: If-Modified-Since with the origin's date (304 wanted)", targets: []load.Target{a.unchanged(a.inRelease)}, connections: 64, perThousand: 20},
		{title: "E: unconditional GET of InRelease", targets: a.targets(a.inRelease), connections: 64, perGB: 0.35},
	} {
		if err := b.warmTable(c); err != nil {
			return err
		}
	}
	return nil
}

// idleConnections holds many connections that asked for something once.
func idleConnections(b *bench) error {
	if err := b.warmAll(b.servers); err != nil {
		return err
	}
	const quiet = 6 * time.Second
	b.report.heading(2, "H. %d idle keep-alive connections", b.idle)
	var rows [][]string
	for _, s := range b.servers {
		if s.maxConnections > 0 && b.idle > s.maxConnections {
			rows = append(rows, []string{s.name, fmt.Sprintf("not run: it cannot hold %d connections", b.idle)})
			continue
		}
		got, err := b.idleOne(s, quiet)
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		rows = append(rows, []string{s.name, number(float64(got.before) / 1e6), number(float64(got.with) / 1e6),
			number(got.perConnection() / 1e3), fmt.Sprint(got.answered), failures(got.failures)})
		if s.name == "aptmesh" {
			b.report.goal(goal{what: "H: an idle connection", got: got.perConnection() / 1e3, limit: 20, unit: "KB"})
		}
	}
	b.report.table([]string{"peer", "PSS before, MB", "PSS with, MB", "KB per connection", fmt.Sprintf("answered after %v of silence", quiet), "failures"}, rows)
	return nil
}

type idleResult struct {
	before, with int64 // PSS, bytes
	connections  int
	answered     int64
	failures     map[string]int
}

func (r idleResult) perConnection() float64 { return float64(r.with-r.before) / float64(r.connections) }

// idleOne measures one server, freshly started so that no earlier load has already
// made it grow.
func (b *bench) idleOne(s *server, quiet time.Duration) (idleResult, error) {
	r := idleResult{connections: b.idle}
	targets := b.archive.targets(b.archive.small...)
	if err := s.stop(); err != nil {
		return r, err
	}
	if _, err := b.measure(s, load.Plan{Targets: targets, Connections: 4}, rounds(2, 20*time.Second)); err != nil {
		return r, err
	}
	before, err := s.proc.Usage()
	if err != nil {
		return r, err
	}
	r.before = before.PSS
	got, err := b.measure(s, load.Plan{Targets: targets[:1], Connections: b.idle}, func(session *load.Session) *load.Result {
		first := session.Rounds(1, 20*time.Second)
		time.Sleep(quiet)
		with, err := s.proc.Usage()
		if err != nil {
			return first
		}
		r.with = with.PSS
		second := session.Rounds(1, 20*time.Second)
		for reason, n := range first.Failures {
			second.Failures["at first: "+reason] += n
		}
		return second
	})
	if err != nil {
		return r, err
	}
	r.answered, r.failures = got.Requests, got.Failures
	return r, nil
}
