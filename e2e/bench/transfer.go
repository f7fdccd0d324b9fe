package main

import (
	"errors"
	"fmt"
	"os/exec"
	"time"

	"github.com/aptmesh/aptmesh/e2e/bench/load"
)

// transferCase is one load that makes one server fetch from another.
type transferCase struct {
	title string
	plan  load.Plan
}

// peerTransfer moves files from a node that holds them, over a node that does not, to
// a client; and the same from and over nginx.
func peerTransfer(b *bench) (err error) {
	if b.server("aptmesh") == nil {
		return nil
	}
	count := int(b.transfer / b.transferSmall)
	progress("   making %s of packages", bytesText(float64(2*b.transfer)))
	a, sets := newArchiveOf(3,
		packageSet{"huge", 1, sized(b.transfer)},
		packageSet{"many", count, sized(b.transferSmall - 5000)}, // a package is some 5 KB more than what it installs
	)
	cases := []transferCase{
		{"one file of " + bytesText(float64(a.bytes(sets["huge"]...))) + ", one connection", load.Plan{Targets: a.targets(sets["huge"]...), Connections: 1}},
		{fmt.Sprintf("%s, 16 connections", a.describe(sets["many"])), load.Plan{Targets: a.targets(sets["many"]...), Connections: 16, Shared: true}},
	}
	plan, err := b.newPairPlan("transfer", a, "256MiB", append(sets["many"], sets["huge"]...))
	if err != nil {
		return err
	}
	var makers []maker
	if b.server("nginx") != nil {
		makers = append(makers, b.lone("nginx", "nginx", func(p place) (*exec.Cmd, error) { return nginxFiles(p, "") }))
	}
	if static := b.server("go-static"); static != nil {
		makers = append(makers, b.lone("go-static", "go-static", static.command))
	}
	for _, way := range []string{plain, mTLS} {
		if b.server("nginx") != nil {
			makers = append(makers, b.nginxPair(way))
		}
		if static := b.server("go-static"); static != nil && way == plain {
			makers = append(makers, func(plan pairPlan) (*pair, error) {
				back := peer{name: "go-static", command: func(p place) (*exec.Cmd, error) {
					p.program = static.program
					return goStaticCommand(p)
				}}
				return b.newPair(plan, "aptmesh <- go-static", plain, b.server("aptmesh").place, back, b.server("aptmesh").peer)
			})
		}
		makers = append(makers, b.aptmeshPair(way))
	}
	pairs, err := makePairs(plan, makers...)
	defer func() { err = errors.Join(err, closePairs(pairs)) }()
	if err != nil {
		return err
	}
	all := make(map[*pair][]series)
	for round := range b.pairRounds {
		for _, p := range pairs {
			progress("   round %d: %s, %s", round+1, p.name, p.way)
			got, err := b.transferOnce(p, cases)
			if err != nil {
				return fmt.Errorf("%s, %s: %w", p.name, p.way, err)
			}
			for i, s := range got {
				if round == 0 {
					all[p] = append(all[p], nil)
				}
				all[p][i] = append(all[p][i], s)
			}
		}
	}
	b.report.heading(2, "N. One node gives to another: cold at the node that is asked, held by the other")
	b.report.printf(`Means of %d. All servers share one core. "a <- b": the client asks a, which has nothing, keeps what it fetches from b, and passes it on.
Giver is the one that has the files, taker the one in between: aptmesh hashes there what it keeps; nginx does not.
go-static is to aptmesh what an archive is: the difference between that taker and the one below is what the peer protocol costs.
A giver's x is to nginx giving the file to the client itself, plain, by sendfile; the other x are to nginx <- nginx by the same way.
`, b.pairRounds)
	for i, c := range cases {
		b.transferTable(c.title, pairs, func(p *pair) series { return all[p][i] })
	}
	return nil
}

// transferOnce measures all cases with a taker that has nothing.
func (b *bench) transferOnce(p *pair, cases []transferCase) ([]sample, error) {
	settle()
	if err := p.fresh(); err != nil {
		return nil, err
	}
	var all []sample
	for _, c := range cases {
		c.plan.Addr, c.plan.Timeout = p.front().addr, 2*b.patience
		got, err := b.measureGroup(p.group, c.plan, rounds(1, time.Minute))
		if err != nil {
			return nil, err
		}
		all = append(all, got)
	}
	return all, nil
}

// giverPerGB and takerPerGB are CPU seconds per gigabyte; a lone server is a giver.
func giverPerGB(s sample) float64 { return perUnit(s.each[0].Seconds()*1e9, s.Bytes) }

func takerPerGB(s sample) float64 {
	if len(s.each) == 1 {
		return 0
	}
	return perUnit(s.each[1].Seconds()*1e9, s.Bytes)
}

func (b *bench) transferTable(title string, pairs []*pair, of func(*pair) series) {
	// base is nginx's figure for the same way; 0 without one.
	base := func(way string, f func(sample) float64) float64 {
		for _, p := range pairs {
			if p.way == way && (p.name == "nginx" || p.name == "nginx <- nginx") {
				return of(p).median(f)
			}
		}
		return 0
	}
	b.report.heading(3, "N: %s", title)
	var rows [][]string
	for _, p := range pairs {
		got := of(p)
		value := func(f func(sample) float64, way string) []string {
			v := got.median(f)
			return []string{number(v), ratio(v, base(way, f))}
		}
		row := append([]string{p.name, p.way}, value(sample.mbPerSecond, p.way)...)
		row = append(row, value(giverPerGB, none)...)
		if len(p.servers) > 1 {
			row = append(row, value(takerPerGB, p.way)...)
		} else {
			row = append(row, "-", "-")
		}
		row = append(row, value(sample.perGB, p.way)...)
		row = append(row, bytesText(got.median(func(s sample) float64 { return float64(s.counts.Bytes) })), failures(got.failures()))
		rows = append(rows, row)
	}
	b.report.table([]string{"server", "way", "MB/s", "x", "giver CPU-s/GB", "x", "taker CPU-s/GB", "x", "both CPU-s/GB", "x", "from the archive", "failures"}, rows)
}
