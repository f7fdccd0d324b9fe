package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
	"github.com/aptmesh/aptmesh/e2e/bench/proc"
)

const (
	// flipPatience is after what a node that does not follow has failed to.
	flipPatience = 15 * time.Second
	// restAfterFlip is longer than the second in which a node asks upstream once.
	restAfterFlip = 1300 * time.Millisecond
	quietSpan     = 3 * time.Second
	// fairNodes is how many nodes at most leave a small machine something to do but
	// to keep them alive: each pings every other once per second.
	fairNodes = 20
)

// publications is an archive with a new generation whenever one is wanted.
type publications struct {
	*archive
	src  *testarchive.Archive
	date time.Time
}

func newPublications() *publications {
	p := &publications{archive: &archive{}, src: testarchive.New(5), date: time.Now().Add(-24 * time.Hour)}
	p.src.AddSuite(testarchive.Suite{Name: "stable", ByHash: true})
	for _, name := range names("package", 500) {
		p.src.AddPackage("stable", testarchive.Package{Name: name, Version: "1.0", Size: 100})
	}
	p.publish(p.src, p.date)
	return p
}

// next makes the next generation, and returns what is new in it to every host.
func (p *publications) next() (news []string) {
	p.date = p.date.Add(time.Minute)
	p.src.AddPackage("stable", testarchive.Package{Name: "news", Version: p.date.UTC().Format("20060102.1504"), Size: 100})
	p.archive = &archive{}
	p.publish(p.src, p.date)
	return []string{p.inRelease, p.index}
}

// flipFigures are what publications to a cluster of one size came to.
type flipFigures struct {
	nodes               int
	started             time.Duration // until the new ones had joined
	idleCPU             float64       // cores, of all nodes together
	pss                 int64         // of all
	first, middle, last []time.Duration
	cpu                 time.Duration // of all nodes, for all publications
	late                int           // nodes that did not follow
	ratio               float64       // bytes fetched / bytes that were new, worst round
}

// flip publishes to clusters of several sizes. A client asks one node for the newest
// right then: what is measured is how the others come to know.
func flip(b *bench) (err error) {
	if b.server("aptmesh") == nil {
		return nil
	}
	pub := newPublications()
	all, rest, err := proc.Cores()
	if err != nil {
		return err
	}
	c, err := b.newCluster(clusterPlan{name: "flip", nodes: slices.Max(b.flips), archive: pub.archive, memory: "8MiB", cores: append(all, rest...)})
	defer func() { err = errors.Join(err, c.close()) }()
	if err != nil {
		return err
	}
	b.report.heading(2, "P. A publication, until the last node serves it")
	b.report.printf(`Each node is a process on any core, with mTLS. At the instant of publication a client asks one node, another each time, with
no-cache; every node stages the InRelease and the index of 500 packages, checks both and syncs them to the disk before it serves them.
%d publications for each size, 3 above %d nodes. "CPU ms per node" is what a node uses for one of them, the polling included: with many
nodes on few cores, the sum of that bounds the last one, not the way the news travels. Idle is all nodes together, asked for nothing:
each pings every other once per second, so on one machine it grows with the square of their number.
`, b.flipRounds, fairNodes)
	var rows [][]string
	for _, n := range b.flips {
		f, err := b.flipsOf(c, pub, n)
		if err != nil {
			cpu, _, _ := used(c.running())
			b.report.note("P: %d nodes could not be measured; they have used %.0f CPU-s so far: %v", n, cpu.Seconds(), err)
			break
		}
		rows = append(rows, f.row())
		if n <= fairNodes {
			b.report.goal(goal{what: fmt.Sprintf("P: the last of %d nodes, slowest of %d publications", n, len(f.last)), got: slices.Max(f.last).Seconds(), limit: 2, unit: "s"})
		}
		b.report.goal(goal{what: fmt.Sprintf("P: %d nodes, bytes fetched / new bytes", n), got: f.ratio, limit: 1.0005})
	}
	b.report.table([]string{"nodes", "first node ms", "half of them ms", "last node ms, median / max", "polled every ms", "CPU ms per node", "did not follow", "bytes fetched / new",
		"new ones joined in s", "idle cores", "PSS MB per node"}, rows)
	return nil
}

func (f *flipFigures) row() []string {
	middle := func(all []time.Duration) string {
		slices.Sort(all)
		return milliseconds(all[len(all)/2])
	}
	work := f.cpu / time.Duration(f.nodes*len(f.last))
	return []string{fmt.Sprint(f.nodes), middle(f.first), middle(f.middle), middle(f.last) + " / " + milliseconds(slices.Max(f.last)),
		milliseconds(pollEvery(f.nodes)), milliseconds(work), fmt.Sprint(f.late), fmt.Sprintf("%.3f", f.ratio),
		fmt.Sprintf("%.1f", f.started.Seconds()), fmt.Sprintf("%.3f", f.idleCPU), number(float64(f.pss) / 1e6 / float64(f.nodes))}
}

// pollEvery is how often each node is asked what it serves: often enough to tell, and
// so seldom that the asking leaves the machine to the nodes.
func pollEvery(nodes int) time.Duration {
	return time.Duration(nodes) * time.Millisecond
}

// flipsOf lets the cluster grow to n nodes and publishes to them.
func (b *bench) flipsOf(c *cluster, pub *publications, n int) (*flipFigures, error) {
	progress("   %d nodes", n)
	f := &flipFigures{nodes: n}
	began := time.Now()
	if err := c.start(c.servers[len(c.running()):n]...); err != nil {
		return nil, err
	}
	f.started = time.Since(began)
	if err := c.update(pub.archive); err != nil {
		return nil, err
	}
	settle()
	if err := f.idle(c.running()); err != nil {
		return nil, err
	}
	publications := b.flipRounds
	if n > fairNodes {
		publications = min(publications, 3)
	}
	for round := range publications {
		news := pub.next()
		before, _, err := used(c.running())
		if err != nil {
			return nil, err
		}
		took, late, err := b.flipOnce(c, pub.archive, round)
		if err != nil {
			return nil, err
		}
		after, _, err := used(c.running())
		if err != nil {
			return nil, err
		}
		f.cpu += after - before
		f.first, f.middle, f.last = append(f.first, took[0]), append(f.middle, took[len(took)/2]), append(f.last, took[len(took)-1])
		f.late += late
		counts := c.origin.Counts()
		f.ratio = max(f.ratio, float64(counts.Bytes)/float64(pub.bytes(news...)))
		if f.ratio > 1.0005 {
			progress("   %d nodes, publication %d: fetched more than once: %v", n, round+1, counts.Requests)
		}
		time.Sleep(restAfterFlip)
	}
	return f, b.ctx.Err()
}

// idle measures nodes that have nothing to do.
func (f *flipFigures) idle(nodes []*server) error {
	before, _, err := used(nodes)
	if err != nil {
		return err
	}
	began := time.Now()
	time.Sleep(quietSpan)
	after, pss, err := used(nodes)
	f.idleCPU, f.pss = (after-before).Seconds()/time.Since(began).Seconds(), pss
	return err
}

// used is what servers have used together.
func used(servers []*server) (cpu time.Duration, pss int64, err error) {
	for _, s := range servers {
		u, err := s.proc.Usage()
		if err != nil {
			return 0, 0, err
		}
		cpu, pss = cpu+u.CPU, pss+u.PSS
	}
	return cpu, pss, nil
}

// flipOnce publishes what next has, has a client ask one node for it, and returns
// after what time each node served it, sorted, and how many never did.
func (b *bench) flipOnce(c *cluster, next *archive, round int) (took []time.Duration, late int, err error) {
	ctx, cancel := context.WithTimeout(b.ctx, flipPatience)
	defer cancel()
	nodes := c.running()
	want := next.files[next.inRelease].Body
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	every := pollEvery(len(nodes))
	took = make([]time.Duration, len(nodes))
	errs := make([]error, len(nodes))
	asked := make(chan struct{}) // closed when all have been asked once, for a warm connection
	var warm, all sync.WaitGroup
	warm.Add(len(nodes))
	var published time.Time
	for i, s := range nodes {
		all.Go(func() {
			_, errs[i] = serves(ctx, client, s, next.inRelease, want, "")
			warm.Done()
			if errs[i] != nil {
				return
			}
			<-asked
			errs[i] = until(ctx, every, func() (bool, error) { return serves(ctx, client, s, next.inRelease, want, "") })
			took[i] = time.Since(published)
		})
	}
	warm.Wait()
	c.origin.Reset()
	published = time.Now()
	c.origin.SetFiles(next.files)
	close(asked)
	_, err = serves(ctx, client, nodes[round%len(nodes)], next.inRelease, want, "no-cache")
	all.Wait()
	if b.ctx.Err() != nil {
		return nil, 0, b.ctx.Err()
	}
	for _, e := range errs {
		if errors.Is(e, errNotYet) || errors.Is(e, context.DeadlineExceeded) {
			late++
		} else {
			err = errors.Join(err, e)
		}
	}
	slices.Sort(took)
	return took, late, err
}

// serves reports whether a node answers with the bytes wanted.
func serves(ctx context.Context, client *http.Client, s *server, name string, want []byte, control string) (bool, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.addr+"/"+name, nil)
	if err != nil {
		return false, err
	}
	if control != "" {
		req.Header.Set("Cache-Control", control)
	}
	resp, err := client.Do(req)
	if err != nil {
		return false, err
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %s", s.name, resp.Status, firstLine(got))
	}
	return bytes.Equal(got, want), err
}
