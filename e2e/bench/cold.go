package main

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/aptmesh/aptmesh/e2e/bench/load"
	"github.com/aptmesh/aptmesh/e2e/bench/origin"
)

// herdCase is one package that nobody has yet and that many want at one instant.
type herdCase struct {
	title   string
	file    string
	clients int
	shape   origin.Shape
}

// ideal is how long the archive's link needs for one copy.
func (c herdCase) ideal(size int64) time.Duration {
	speed := c.shape.BytesPerSecond
	if c.shape.PerConnection > 0 {
		speed = min(speed, c.shape.PerConnection)
	}
	return c.shape.Latency + time.Duration(float64(size)/float64(speed)*float64(time.Second))
}

func coldHerd(b *bench) error {
	a := b.archive
	b.report.heading(2, "C. Cold herd: all clients ask at one instant for one package that is not in the cache")
	fast := herdCase{
		title:   fmt.Sprintf("C: %d clients, %s, link of 50 MB/s, 20 ms", b.herd, bytesText(float64(a.bytes(a.herd)))),
		file:    a.herd,
		clients: b.herd,
		shape:   origin.Shape{BytesPerSecond: 50e6, Latency: 20 * time.Millisecond},
	}
	slow := herdCase{
		title:   fmt.Sprintf("C2: 20 clients, %s, 5 MB/s per connection, link of 50 MB/s, 20 ms", bytesText(float64(a.bytes(a.slow)))),
		file:    a.slow,
		clients: 20,
		shape:   origin.Shape{BytesPerSecond: 50e6, PerConnection: 5e6, Latency: 20 * time.Millisecond},
	}
	got, err := b.herdTable(fast)
	if err != nil {
		return err
	}
	base := got["nginx"]
	if s, ok := got["aptmesh"]; ok {
		b.report.goal(goal{what: "C: fetches from the archive", got: float64(s.counts.Requests[a.herd]), peer: float64(base.fetches(a.herd)), limit: 1})
		b.report.goal(goal{what: "C: first byte, p99", got: s.TTFB.Quantile(0.99).Seconds(), peer: base.firstByte(), limit: 0.3, unit: "s"})
	}
	if got, err = b.herdTable(slow); err != nil {
		return err
	}
	base = got["nginx"]
	if s, ok := got["aptmesh"]; ok {
		ideal := slow.ideal(a.bytes(a.slow)).Seconds()
		b.report.goal(goal{what: "C2: fetches from the archive", got: float64(s.counts.Requests[a.slow]), peer: float64(base.fetches(a.slow)), limit: 1})
		b.report.goal(goal{what: "C2: all done, of ideal", got: s.Elapsed.Seconds() / ideal, peer: base.seconds() / ideal, limit: 1.02, unit: "x"})
	}
	return nil
}

// The zero sample stands for a server that was not measured.
func (s sample) fetches(name string) int { return s.counts.Requests[name] }

func (s sample) firstByte() float64 {
	if s.Result == nil {
		return 0
	}
	return s.TTFB.Quantile(0.99).Seconds()
}

func (s sample) seconds() float64 {
	if s.Result == nil {
		return 0
	}
	return s.Elapsed.Seconds()
}

// herdTable measures all caches, once: a package is uncached only once.
func (b *bench) herdTable(c herdCase) (map[string]sample, error) {
	if err := b.warmAll(b.caches()); err != nil {
		return nil, err
	}
	progress("   %s", c.title)
	size := b.archive.bytes(c.file)
	ideal := c.ideal(size)
	all := map[string]sample{}
	for _, s := range b.caches() {
		s.origin.SetShape(c.shape)
		got, err := b.measure(s, load.Plan{Targets: b.archive.targets(c.file), Connections: c.clients, Timeout: 3 * b.patience},
			rounds(1, time.Minute+ideal))
		s.origin.SetShape(origin.Shape{})
		if err != nil {
			return all, fmt.Errorf("%s: %w", s.name, err)
		}
		all[s.name] = got
	}
	var rows [][]string
	for _, s := range b.caches() {
		got := all[s.name]
		rows = append(rows, []string{
			s.name,
			fmt.Sprint(got.fetches(c.file)),
			fmt.Sprintf("%.2f", float64(got.counts.Bytes)/float64(size)),
			fmt.Sprintf("%.3f / %.3f / %.3f", got.TTFB.Quantile(0.5).Seconds(), got.firstByte(), got.TTFB.Max().Seconds()),
			ratio(got.firstByte(), all["nginx"].firstByte()),
			fmt.Sprintf("%.2f", got.Elapsed.Seconds()), ratio(got.Elapsed.Seconds(), all["varnish"].seconds()),
			fmt.Sprintf("%.2f", got.Elapsed.Seconds()/ideal.Seconds()),
			fmt.Sprint(got.Requests),
			fmt.Sprintf("%.2f", got.cpu.Seconds()), fmt.Sprintf("%.3f", got.perGB()),
			ratio(got.perGB(), all["nginx"].perGB()), ratio(got.perGB(), all["varnish"].perGB()),
			number(float64(got.pss) / 1e6),
			failures(got.Failures),
		})
	}
	b.report.heading(3, "%s (ideal %.2f s)", c.title, ideal.Seconds())
	b.report.table([]string{"peer", "fetches", "bytes fetched / size", "TTFB p50 / p99 / max s", "p99 x nginx", "all done s", "x varnish", "of ideal", "served", "CPU-s", "CPU-s/GB", "x nginx", "x varnish", "PSS MB", "failures"}, rows)
	return all, nil
}

// coldCase is one load of many packages on a cache that has none of them.
type coldCase struct {
	name    string
	title   string
	archive *archive
	files   []string
	plan    load.Plan // without targets
	shape   origin.Shape
}

// coldMixed lets clients fetch many packages of all sizes: first each client all of them,
// then all clients together each once, as a pool is read that nobody has read before.
func coldMixed(b *bench) error {
	a := b.archive
	every := coldCase{
		name: "D", archive: a, files: a.mixed,
		plan:  load.Plan{Connections: 50, Timeout: 20 * time.Second},
		shape: origin.Shape{BytesPerSecond: 100e6, Latency: 5 * time.Millisecond},
	}
	every.title = fmt.Sprintf("50 clients, each asks in its own order for %s (%s); link of 100 MB/s, 5 ms",
		a.describe(a.mixed), bytesText(float64(a.bytes(a.mixed...))))
	// Log-uniform from 8 KB to 8 MB: half of the packages have 3 % of the bytes.
	pool, sets := b.newArchiveOf(9, packageSet{"pool", 200, func(i int) int64 { return int64(8000 * math.Pow(1000, float64(i)/199)) }})
	once := coldCase{
		name: "D2", archive: pool, files: sets["pool"],
		plan:  load.Plan{Connections: 20, Shared: true, Timeout: 20 * time.Second},
		shape: origin.Shape{Latency: 5 * time.Millisecond},
	}
	once.title = fmt.Sprintf("20 clients together ask once for each of %s (%s); 5 ms to the archive, its link as fast as the machine",
		pool.describe(once.files), bytesText(float64(pool.bytes(once.files...))))
	b.report.heading(2, "D. Cold: many packages that are not in the cache")
	b.report.printf(`Medians of %d; each time every server starts with an empty cache. In D nearly all answers are of what another client has just
had fetched; in D2 every answer is a miss, so that its CPU is what one costs: aptmesh hashes and syncs to the disk what it keeps,
nginx only writes it, Varnish keeps it in memory.
`, b.repeats)
	return errors.Join(b.coldTable(every), b.coldTable(once))
}

// coldTable measures all caches in turn, each time from an empty cache.
func (b *bench) coldTable(c coldCase) (err error) {
	progress("   %s: %s", c.name, c.title)
	var makers []maker
	for _, s := range b.caches() {
		makers = append(makers, b.lone(s.name, s.name, s.command))
	}
	pairs, err := makePairs(pairPlan{name: c.name, archive: c.archive}, makers...)
	defer func() { err = errors.Join(err, closePairs(pairs)) }()
	if err != nil {
		return err
	}
	unique := float64(c.archive.bytes(c.files...))
	all := map[string]series{}
	for range b.repeats {
		for _, p := range pairs {
			settle()
			if err := p.fresh(); err != nil {
				return fmt.Errorf("%s: %w", p.name, err)
			}
			plan := c.plan
			plan.Addr, plan.Targets = p.front().addr, c.archive.targets(c.files...)
			p.origin.SetShape(c.shape)
			got, err := b.measureGroup(p.group, plan, rounds(1, time.Minute))
			p.origin.SetShape(origin.Shape{})
			if err != nil {
				return fmt.Errorf("%s: %w", p.name, err)
			}
			all[p.name] = append(all[p.name], got)
		}
	}
	fetched := func(s sample) float64 { return float64(s.counts.Bytes) / unique }
	atOnce := func(s sample) float64 { return float64(s.counts.PeakAtOnce) }
	var rows [][]string
	for _, p := range pairs {
		got := all[p.name]
		value := func(f func(sample) float64) []string {
			v := got.median(f)
			return []string{number(v), ratio(v, all["nginx"].median(f)), ratio(v, all["varnish"].median(f))}
		}
		quantile := func(q float64) string {
			return number(got.median(func(s sample) float64 { return s.TTFB.Quantile(q).Seconds() * 1e3 }))
		}
		row := []string{p.name, fmt.Sprintf("%.3f", got.median(fetched)),
			number(got.median(func(s sample) float64 { return float64(s.counts.Total()) })), number(got.median(atOnce)),
			number(got.median(func(s sample) float64 { return float64(s.counts.Connections) }))}
		row = append(row, value(sample.seconds)...)
		row = append(row, number(got.median(sample.mbPerSecond)))
		row = append(row, value(sample.perGB)...)
		row = append(row, quantile(0.5)+" / "+quantile(0.99),
			number(got.median(func(s sample) float64 { return float64(s.pss) / 1e6 })), failures(got.failures()))
		rows = append(rows, row)
	}
	b.report.heading(3, "%s: %s", c.name, c.title)
	b.report.table([]string{"peer", "bytes fetched / unique", "fetches", "at once", "connections opened", "all done s", "x nginx", "x varnish",
		"MB/s to clients", "CPU-s/GB", "x nginx", "x varnish", "TTFB p50 / p99 ms", "PSS MB", "failures"}, rows)
	if got := all["aptmesh"]; len(got) > 0 {
		b.report.goal(goal{what: c.name + ": bytes fetched / unique bytes", got: got.median(fetched), limit: 1.0005})
		b.report.goal(goal{what: c.name + ": connections to the archive at once", got: got.median(atOnce), peer: all["nginx"].median(atOnce), limit: 10})
		if varnish := all["varnish"].median(sample.seconds); varnish > 0 {
			b.report.goal(goal{what: c.name + ": all done, of Varnish's", got: got.median(sample.seconds) / varnish, limit: 1.05, unit: "x"})
		}
	}
	return nil
}

// badObject lets clients insist on a package that the origin sends with one wrong
// byte. All caches are busy with it at the same time: it costs next to nothing.
func badObject(b *bench) error {
	a := b.archive
	const clients = 4
	if err := b.warmAll(b.caches()); err != nil {
		return err
	}
	b.report.heading(2, "F. A package that arrives with one wrong byte; %d clients ask for it again and again for %v", clients, b.badFor)
	servers := b.caches()
	results, errs := make([]sample, len(servers)), make([]error, len(servers))
	var all sync.WaitGroup
	for i, s := range servers {
		s.origin.Spoil(a.bad)
		if errs[i] = s.ensure(); errs[i] != nil {
			continue
		}
		all.Go(func() { results[i], errs[i] = b.insist(s, clients) })
	}
	all.Wait()
	var rows [][]string
	for i, s := range servers {
		if errs[i] != nil {
			rows = append(rows, []string{s.name, errs[i].Error()})
			continue
		}
		got := results[i]
		fetches := float64(got.fetches(a.bad))
		rows = append(rows, []string{s.name, number(fetches), fmt.Sprint(got.Failures[load.WrongBody]),
			fmt.Sprintf("%.2f", got.TTLB.Max().Seconds()), failures(got.Failures)})
		if s.name == "aptmesh" {
			b.report.goal(goal{what: fmt.Sprintf("F: fetches of a bad object in %v", b.badFor), got: fetches, limit: 3})
			b.report.goal(goal{what: "F: longest wait for the error", got: got.TTLB.Max().Seconds(), limit: 5, unit: "s"})
			b.report.goal(goal{what: "F: wrong bodies completed", got: float64(got.Failures[load.WrongBody]), limit: 0})
		}
	}
	b.report.table([]string{"peer", "fetches", "wrong bodies completed", "longest wait s", "what clients got"}, rows)
	return nil
}

// insist asks for the bad package; it is not measure, which counts CPU time of
// one server at a time.
func (b *bench) insist(s *server, clients int) (sample, error) {
	session, err := load.Dial(load.Plan{Addr: s.addr, Targets: b.archive.targets(b.archive.bad), Connections: clients,
		Pause: 200 * time.Millisecond, Timeout: 10 * time.Second})
	if err != nil {
		return sample{}, err
	}
	defer session.Close()
	s.origin.Reset()
	result := session.For(b.badFor)
	return sample{Result: result, counts: s.origin.Counts()}, nil
}

// server returns the server of that name, or nil.
func (b *bench) server(name string) *server {
	if i := slices.IndexFunc(b.servers, func(s *server) bool { return s.name == name }); i >= 0 {
		return b.servers[i]
	}
	return nil
}
