package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/aptmesh/aptmesh/e2e/bench/load"
	"github.com/aptmesh/aptmesh/e2e/bench/origin"
)

// bench is one run of the benchmark.
type bench struct {
	options
	ctx     context.Context
	archive *archive
	servers []*server
	report  *report

	serverCores []int // for what is measured

	warmed    map[string]bool // servers whose cache has been filled
	strangers []float64       // cores that others kept busy, one per measurement
}

// sample is one measurement of one server.
type sample struct {
	*load.Result
	cpu       time.Duration   // of the server, or of all servers of a group
	each      []time.Duration // of each server of a group
	pss       int64           // bytes, at its end
	processes int
	counts    origin.Counts
}

// perThousand is the server's CPU time per 1000 right answers, in milliseconds; 0
// where there were none.
func (s sample) perThousand() float64 { return perUnit(s.cpu.Seconds()*1e6, s.Requests) }

// perGB is the server's CPU time per gigabyte of right bodies, in seconds; 0 where
// there were none, or where the server was not measured.
func (s sample) perGB() float64 {
	if s.Result == nil {
		return 0
	}
	return perUnit(s.cpu.Seconds()*1e9, s.Bytes)
}

func perUnit(cost float64, units int64) float64 {
	if units == 0 {
		return 0
	}
	return cost / float64(units)
}

func (s sample) perSecond() float64 { return float64(s.Requests) / s.Elapsed.Seconds() }

func (s sample) mbPerSecond() float64 { return float64(s.Bytes) / 1e6 / s.Elapsed.Seconds() }

// measure opens the plan's connections, runs the load and reads off what it cost.
func (b *bench) measure(s *server, plan load.Plan, work func(*load.Session) *load.Result) (sample, error) {
	if err := cmp.Or(b.ctx.Err(), s.ensure()); err != nil {
		return sample{}, err
	}
	plan.Addr = s.addr
	return b.measureGroup(&group{servers: []*server{s}, origin: s.origin}, plan, work)
}

// rounds is a load that asks for everything n times.
func rounds(n int, limit time.Duration) func(*load.Session) *load.Result {
	return func(s *load.Session) *load.Result { return s.Rounds(n, limit) }
}

// lasting is a load that goes on for d, after a short stretch that is not counted.
func lasting(d time.Duration) func(*load.Session) *load.Result {
	return func(s *load.Session) *load.Result {
		s.For(d / 8)
		return s.For(d)
	}
}

// caches returns the servers that fetch what they do not have.
func (b *bench) caches() []*server {
	return slices.DeleteFunc(slices.Clone(b.servers), func(s *server) bool { return s.reference })
}

// warm fills a server's cache the way apt would: root, index, packages. It is
// done once per server; what goes wrong is noted.
func (b *bench) warm(s *server) error {
	if b.warmed[s.name] {
		return s.ensure()
	}
	s.origin.SetShape(origin.Shape{})
	a := b.archive
	for _, names := range [][]string{{a.inRelease}, {a.index}, append(slices.Concat(a.small, a.middle), a.big)} {
		got, err := b.measure(s, load.Plan{Targets: a.targets(names...), Connections: 1}, rounds(1, time.Minute))
		if err != nil {
			return err
		}
		if got.Failed() > 0 {
			b.report.note("filling the cache of %s: %s", s.name, failures(got.Failures))
		}
	}
	if b.warmed == nil {
		b.warmed = map[string]bool{}
	}
	b.warmed[s.name] = true
	return nil
}

// warmAll fills the caches of those servers. One that cannot be brought to work
// takes no further part.
func (b *bench) warmAll(servers []*server) error {
	for _, s := range servers {
		err := b.warm(s)
		if err == nil {
			continue
		}
		if b.ctx.Err() != nil {
			return b.ctx.Err()
		}
		b.report.note("**%s takes no further part**: %v", s.name, err)
		b.servers = slices.DeleteFunc(slices.Clone(b.servers), func(other *server) bool { return other == s })
		if err := s.close(); err != nil {
			b.report.note("ending %s: %v", s.name, err)
		}
	}
	if len(b.servers) == 0 {
		return errors.New("no server is left to measure")
	}
	return nil
}

// series is the repetitions of one measurement of one server.
type series []sample

// median returns the middle of what f says of each repetition; 0 where there are none.
func (ss series) median(f func(sample) float64) float64 {
	if len(ss) == 0 {
		return 0
	}
	values := make([]float64, len(ss))
	for i, s := range ss {
		values[i] = f(s)
	}
	slices.Sort(values)
	return (values[(len(values)-1)/2] + values[len(values)/2]) / 2
}

// failures adds up what went wrong in all repetitions.
func (ss series) failures() map[string]int {
	all := map[string]int{}
	for _, s := range ss {
		for reason, n := range s.Failures {
			all[reason] += n
		}
	}
	return all
}

// repeat measures all servers in turn, as often as the options say, so that a
// change of the machine's mood hits all of them.
func (b *bench) repeat(servers []*server, plan load.Plan, work func(*load.Session) *load.Result) (map[string]series, error) {
	all := map[string]series{}
	for range b.repeats {
		for _, s := range servers {
			if s.maxConnections > 0 && plan.Connections > s.maxConnections {
				continue
			}
			got, err := b.measure(s, plan, work)
			if err != nil {
				return all, fmt.Errorf("%s: %w", s.name, err)
			}
			all[s.name] = append(all[s.name], got)
		}
	}
	return all, nil
}
