package main

import (
	"fmt"
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
	var rows [][]string
	for _, s := range b.caches() {
		s.origin.SetShape(c.shape)
		got, err := b.measure(s, load.Plan{Targets: b.archive.targets(c.file), Connections: c.clients, Timeout: 3 * b.patience},
			rounds(1, time.Minute+ideal))
		s.origin.SetShape(origin.Shape{})
		if err != nil {
			return all, fmt.Errorf("%s: %w", s.name, err)
		}
		all[s.name] = got
		rows = append(rows, []string{
			s.name,
			fmt.Sprint(got.fetches(c.file)),
			fmt.Sprintf("%.2f", float64(got.counts.Bytes)/float64(size)),
			fmt.Sprintf("%.3f / %.3f / %.3f", got.TTFB.Quantile(0.5).Seconds(), got.firstByte(), got.TTFB.Max().Seconds()),
			ratio(got.firstByte(), all["nginx"].firstByte()),
			fmt.Sprintf("%.2f", got.Elapsed.Seconds()),
			fmt.Sprintf("%.2f", got.Elapsed.Seconds()/ideal.Seconds()),
			fmt.Sprint(got.Requests),
			fmt.Sprintf("%.2f", got.cpu.Seconds()), fmt.Sprintf("%.3f", got.perGB()),
			number(float64(got.pss) / 1e6),
			failures(got.Failures),
		})
	}
	b.report.heading(3, "%s (ideal %.2f s)", c.title, ideal.Seconds())
	b.report.table([]string{"peer", "fetches", "bytes fetched / size", "TTFB p50 / p99 / max s", "p99 x nginx", "all done s", "of ideal", "served", "CPU-s", "CPU-s/GB", "PSS MB", "failures"}, rows)
	return all, nil
}

// coldMixed lets clients fetch many packages, each in an order of its own.
func coldMixed(b *bench) error {
	a := b.archive
	const clients = 50
	unique := a.bytes(a.mixed...)
	if err := b.warmAll(b.caches()); err != nil {
		return err
	}
	b.report.heading(2, "D. Cold: %d clients, each asks in its own order for %s (%s); link of 100 MB/s, 5 ms",
		clients, a.describe(a.mixed), bytesText(float64(unique)))
	var rows [][]string
	var nginx sample
	for _, s := range b.caches() {
		s.origin.SetShape(origin.Shape{BytesPerSecond: 100e6, Latency: 5 * time.Millisecond})
		got, err := b.measure(s, load.Plan{Targets: a.targets(a.mixed...), Connections: clients, Timeout: 20 * time.Second},
			rounds(1, time.Minute))
		s.origin.SetShape(origin.Shape{})
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		if s.name == "nginx" {
			nginx = got
		}
		rows = append(rows, []string{
			s.name,
			fmt.Sprintf("%.3f", float64(got.counts.Bytes)/float64(unique)),
			fmt.Sprint(got.counts.Total()), fmt.Sprint(got.counts.PeakAtOnce), fmt.Sprint(got.counts.Connections),
			fmt.Sprintf("%.2f", got.Elapsed.Seconds()), ratio(got.Elapsed.Seconds(), nginx.seconds()),
			number(got.mbPerSecond()), fmt.Sprintf("%.3f", got.perGB()),
			milliseconds(got.TTFB.Quantile(0.5)) + " / " + milliseconds(got.TTFB.Quantile(0.99)),
			number(float64(got.pss) / 1e6), failures(got.Failures),
		})
		if s.name == "aptmesh" {
			b.report.goal(goal{what: "D: bytes fetched / unique bytes", got: float64(got.counts.Bytes) / float64(unique), limit: 1.0005})
			b.report.goal(goal{what: "D: connections to the archive at once", got: float64(got.counts.PeakAtOnce), peer: float64(nginx.counts.PeakAtOnce), limit: 10})
		}
	}
	b.report.table([]string{"peer", "bytes fetched / unique", "fetches", "at once", "connections opened", "all done s", "x nginx", "MB/s to clients", "CPU-s/GB", "TTFB p50 / p99 ms", "PSS MB", "failures"}, rows)
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
