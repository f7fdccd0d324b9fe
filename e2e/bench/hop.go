package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aptmesh/aptmesh/e2e/bench/load"
)

// hopFigures are what was measured of one pair.
type hopFigures struct {
	cold, warm, owned series
}

// hop asks for small packages, one after the other on one connection, and looks how
// long the first byte takes: from the archive, over another server, from the disk.
func hop(b *bench) (err error) {
	node := b.server("aptmesh")
	if node == nil {
		return nil
	}
	a, sets := newArchiveOf(4,
		packageSet{"held", b.hops, sized(5000)},
		packageSet{"cold", 2 * b.hops * b.pairRounds, sized(5000)}, // one half is owned by the other node
	)
	plan, err := b.newPairPlan("hop", a, "0", sets["held"])
	if err != nil {
		return err
	}
	makers := []maker{b.lone("aptmesh", "aptmesh <- archive", node.command), b.aptmeshPair(plain), b.aptmeshPair(mTLS)}
	if nginx := b.server("nginx"); nginx != nil {
		makers = append([]maker{b.lone("nginx", "nginx <- archive", nginx.command), b.nginxPair(plain), b.nginxPair(mTLS)}, makers...)
	}
	pairs, err := makePairs(plan, makers...)
	defer func() { err = errors.Join(err, closePairs(pairs)) }()
	if err != nil {
		return err
	}
	all := make(map[*pair]*hopFigures)
	for _, p := range pairs {
		all[p] = &hopFigures{}
	}
	for round := range b.pairRounds {
		cold := sets["cold"][round*2*b.hops:][:2*b.hops]
		for _, p := range pairs {
			progress("   round %d: %s, %s", round+1, p.name, p.way)
			if err := b.hopOnce(p, all[p], a.targets(sets["held"]...), cold, a); err != nil {
				return fmt.Errorf("%s, %s: %w", p.name, p.way, err)
			}
		}
	}
	b.hopTable(a, sets["held"], pairs, all)
	return nil
}

// hopOnce measures one pair once. The packages of cold are in neither server.
func (b *bench) hopOnce(p *pair, into *hopFigures, held []load.Target, cold []string, a *archive) error {
	settle()
	if err := p.fresh(); err != nil {
		return err
	}
	ask := func(targets []load.Target) (sample, error) {
		return b.measureGroup(p.group, load.Plan{Addr: p.front().addr, Targets: targets, Connections: 1}, rounds(1, time.Minute))
	}
	for _, s := range []*series{&into.cold, &into.warm} {
		got, err := ask(held)
		if err != nil {
			return err
		}
		*s = append(*s, got)
	}
	if p.name != "aptmesh <- aptmesh" {
		return nil
	}
	owned, err := ownedBy(b.ctx, p.front(), p.servers[0].name, cold)
	if err != nil {
		return err
	}
	got, err := ask(a.targets(owned...))
	if err != nil {
		return err
	}
	into.owned = append(into.owned, got)
	return nil
}

// ownedBy picks the files that another node would fetch from the archive.
func ownedBy(ctx context.Context, s *server, owner string, names []string) ([]string, error) {
	var owned []string
	for _, name := range names {
		w, err := s.node.Why(ctx, name)
		if err != nil {
			return nil, err
		}
		if len(w.Owners) > 0 && w.Owners[0] == owner {
			owned = append(owned, name)
		}
	}
	if len(owned) == 0 {
		return nil, fmt.Errorf("%s owns none of %d files", owner, len(names))
	}
	return owned, nil
}

func (b *bench) hopTable(a *archive, held []string, pairs []*pair, all map[*pair]*hopFigures) {
	b.report.heading(2, "O. The first byte over a hop: %s, one request at a time", a.describe(held))
	b.report.printf(`Means of %d. All servers share one core; the archive answers at once. "From behind": nothing is held here, all is held by the server behind it.
"Through its owner": nothing is held anywhere; the other node owns it, fetches it from the archive, and passes it on meanwhile.
Extra is p50 from behind minus p50 from the disk here; x is to nginx by the same way. aptmesh has no memory tier here, and checks what it passes on.
`, b.pairRounds)
	quantile := func(s series, q float64) float64 {
		return s.median(func(s sample) float64 { return s.TTFB.Quantile(q).Seconds() * 1e3 })
	}
	both := func(s series) string {
		if len(s) == 0 {
			return "-"
		}
		return number(quantile(s, 0.5)) + " / " + number(quantile(s, 0.99))
	}
	nginx := make(map[string]float64) // p50 from behind, by way
	var rows [][]string
	for _, p := range pairs {
		f := all[p]
		cold := quantile(f.cold, 0.5)
		if _, ok := nginx[p.way]; !ok && p.name != "aptmesh <- aptmesh" && p.name != "aptmesh <- archive" {
			nginx[p.way] = cold
		}
		wrong := make(map[string]int)
		for _, s := range []series{f.cold, f.warm, f.owned} {
			for reason, n := range s.failures() {
				wrong[reason] += n
			}
		}
		rows = append(rows, []string{p.name, p.way, both(f.cold), ratio(cold, nginx[p.way]), number(quantile(f.cold, 0.5) - quantile(f.warm, 0.5)),
			both(f.owned), both(f.warm), failures(wrong)})
	}
	b.report.table([]string{"server", "way", "from behind p50 / p99 ms", "x", "extra ms", "through its owner p50 / p99 ms", "from the disk here p50 / p99 ms", "failures"}, rows)
}
