package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/aptmesh/aptmesh/e2e/lab"
)

// options are the command line.
type options struct {
	span    time.Duration // of the storm
	warmUp  time.Duration
	settle  time.Duration // how long a node may take to come to rest
	seed    uint64
	hosts   int
	think   time.Duration // a host pauses for less than that between two loops
	binary  string        // "" builds one
	logs    string        // directory to keep the nodes' logs in; "" keeps none
	calm    bool          // no trouble, no restarts: for a test
	problem func(string, ...any)
}

func main() {
	o := options{settle: 90 * time.Second, think: 6 * time.Second, problem: func(f string, args ...any) { fmt.Printf("  "+f+"\n", args...) }}
	flag.DurationVar(&o.span, "for", 20*time.Minute, "how long the storm lasts")
	flag.DurationVar(&o.warmUp, "warm-up", time.Minute, "the part of it that comes before the first measurement")
	flag.Uint64Var(&o.seed, "seed", uint64(time.Now().Unix()), "decides the archive, the troubles and what hosts do")
	flag.IntVar(&o.hosts, "hosts", 300, "hosts that loop")
	flag.StringVar(&o.binary, "binary", "", "the aptmesh to try, in place of one built from these sources")
	flag.StringVar(&o.logs, "logs", "", "directory to keep the nodes' logs in")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(1)
	}
}

// soak is everything that was started.
type soak struct {
	options
	dir     string
	archive *archive
	nodes   []*node
	ledger  *ledger
	chaos   *chaos
}

// run does everything, and leaves nothing behind.
func run(ctx context.Context, o options) (err error) {
	s := &soak{options: o, ledger: newLedger()}
	fmt.Printf("seed %d: %s with %d hosts\n", o.seed, o.span, o.hosts)
	if s.dir, err = os.MkdirTemp("", "aptmesh-soak-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.cleanUp()) }()
	if err := s.start(ctx); err != nil {
		return err
	}
	defer func() {
		if said := s.summary(); err == nil {
			err = said
		}
	}()
	if err := s.storm(ctx, min(s.warmUp, s.span/4), 0); err != nil {
		return err
	}
	before, err := s.calmDown(ctx)
	if err != nil {
		return err
	}
	if err := s.storm(ctx, s.span-min(s.warmUp, s.span/4), 1); err != nil {
		return err
	}
	after, err := s.calmDown(ctx)
	if err != nil {
		return err
	}
	if !s.calm { // too short to tell growth from noise
		s.compare(before, after)
	}
	return nil
}

// start makes the archive and starts the nodes.
func (s *soak) start(ctx context.Context) (err error) {
	if s.binary == "" {
		if s.binary, err = lab.Build(ctx, s.dir); err != nil {
			return err
		}
	}
	if s.archive, err = newArchive(s.seed, 3); err != nil {
		return err
	}
	if s.nodes, err = makeNodes(s.dir, 3, s.archive); err != nil {
		return err
	}
	s.chaos = &chaos{archive: s.archive, nodes: s.nodes, binary: s.binary, say: s.problem, happened: make(map[string]int)}
	var started sync.WaitGroup
	errs := make([]error, len(s.nodes))
	for i, n := range s.nodes {
		started.Go(func() { errs[i] = n.start(ctx, s.binary) })
	}
	started.Wait()
	return errors.Join(errs...)
}

// storm lets hosts loop and trouble happen for a while. part makes the seeds differ.
func (s *soak) storm(ctx context.Context, span time.Duration, part uint64) error {
	ctx, cancel := context.WithTimeout(ctx, span)
	defer cancel()
	seed := s.seed + part<<32
	at, forwarded, err := forward(ctx, s.nodes)
	if err != nil {
		return err
	}
	var all sync.WaitGroup
	errs := make(chan error, 2)
	for i := range s.hosts {
		all.Go(func() { newHost(i, seed, s.nodes, s.archive, s.ledger).loop(ctx, s.think) })
	}
	all.Go(func() { s.chaos.publish(ctx, rand.New(rand.NewPCG(seed, 2))) })
	if !s.calm {
		for i := range s.archive.mirrors {
			all.Go(func() { s.chaos.mirror(ctx, i, rand.New(rand.NewPCG(seed, uint64(10+i)))) })
		}
		all.Go(func() { errs <- s.chaos.restart(ctx, rand.New(rand.NewPCG(seed, 3))) })
		all.Go(func() { errs <- aptLoop(ctx, at, s.archive, s.ledger, rand.New(rand.NewPCG(seed, 4))) })
	}
	all.Go(func() { s.watch(ctx) })
	all.Wait()
	cancel()
	forwarded()
	close(errs)
	for e := range errs {
		err = errors.Join(err, e)
	}
	return err
}

// watch tells a person who waits how it goes, and sees whether a node ends by itself.
func (s *soak) watch(ctx context.Context) {
	for pause(ctx, 30*time.Second) {
		s.ledger.mu.Lock()
		loops, files, failed := s.ledger.loops, s.ledger.files, sum(s.ledger.failures)
		s.ledger.mu.Unlock()
		s.problem("%s: %d loops, %d files, %d failed, %d promises broken", time.Now().Format(time.TimeOnly), loops, files, failed, s.ledger.broken())
		if last := s.nodes[len(s.nodes)-1]; !last.Process().Alive() {
			s.ledger.violate("%s ended by itself", last.Name)
			return
		}
	}
}

func sum(counts map[string]int) (n int) {
	for _, c := range counts {
		n += c
	}
	return n
}

// calmDown has one host after the other be served, now that all is well again, and
// then measures the nodes at rest.
func (s *soak) calmDown(ctx context.Context) ([]sample, error) {
	for _, m := range s.archive.mirrors {
		m.ClearFaults()
	}
	for i, n := range s.nodes {
		h := newHost(i, s.seed, s.nodes, s.archive, newLedger())
		served := false
		for deadline := time.Now().Add(2 * time.Minute); !served && time.Now().Before(deadline) && ctx.Err() == nil; {
			served = h.once(ctx)
		}
		h.close()
		if !served && ctx.Err() == nil {
			s.ledger.violate("%s cannot be served by %s although all is well again: %v", h.name, n.Name, h.ledger.failures)
		}
	}
	var all []sample
	for _, n := range s.nodes {
		one, err := settled(ctx, n, s.settle)
		if err != nil {
			return all, err
		}
		s.problem("%s at rest: %s", n.Name, one)
		all = append(all, one)
	}
	return all, ctx.Err()
}

// compare holds the node that ran all the time to what it used after the warm-up.
func (s *soak) compare(before, after []sample) {
	for i, n := range s.nodes {
		restarted := n.restarts.Load() > 0
		if more := grown(before[i], after[i]); more != "" && !restarted {
			s.ledger.violate("%s uses more than after its warm-up: %s", n.Name, more)
		}
	}
}

// summary prints what happened; an error says that a promise was broken.
func (s *soak) summary() error {
	l := s.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	fmt.Printf("\n%d loops of %d hosts, %d files, %.1f GB; %d took apt's retries, %d were gone on with\n",
		l.loops, s.hosts, l.files, float64(l.bytes)/1e9, l.retried, l.resumed)
	if lab.HaveApt() {
		fmt.Printf("%d commands of the real apt\n", l.aptRuns)
	} else {
		fmt.Println("no real apt on this machine: that part was skipped")
	}
	failed := sum(l.failures)
	fmt.Printf("%d failures after all retries, %.3f %% of all files:\n", failed, 100*float64(failed)/float64(max(1, l.files)))
	list(l.failures)
	fmt.Println("what happened meanwhile:")
	list(s.chaos.happened)
	fmt.Printf("promises broken: %d\n", len(l.violations))
	for _, v := range l.violations {
		fmt.Println("  " + v)
	}
	if len(l.violations) > 0 {
		return fmt.Errorf("%d promises broken; --seed %d draws the same troubles", len(l.violations), s.seed)
	}
	return nil
}

func list(counts map[string]int) {
	for _, what := range slices.Sorted(maps.Keys(counts)) {
		fmt.Printf("  %6d  %s\n", counts[what], what)
	}
}

// cleanUp ends what was started and deletes what was written, but for logs that are
// wanted.
func (s *soak) cleanUp() error {
	var ending sync.WaitGroup
	for _, n := range s.nodes {
		ending.Go(func() { n.stop(syscall.SIGTERM) })
	}
	ending.Wait()
	if s.archive != nil {
		s.archive.close()
	}
	var errs []error
	if s.logs != "" {
		errs = append(errs, os.MkdirAll(s.logs, 0o755))
		for _, n := range s.nodes {
			text, err := os.ReadFile(n.LogFile())
			errs = append(errs, err, os.WriteFile(filepath.Join(s.logs, n.Name+".log"), text, 0o644))
		}
	}
	return errors.Join(append(errs, os.RemoveAll(s.dir))...)
}
