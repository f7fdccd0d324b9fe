package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/aptmesh/aptmesh/e2e/bench/load"
	"github.com/aptmesh/aptmesh/e2e/bench/origin"
	"github.com/aptmesh/aptmesh/e2e/bench/proc"
)

// group is servers that are measured as one: the nodes of a cluster, the caches of
// several sites, or a cache and the server it fetches from. All have one archive.
type group struct {
	name    string
	servers []*server
	origin  *origin.Origin
}

// newGroup makes the directory of a group and starts what its servers fetch from.
func (b *bench) newGroup(name string, a *archive) (*group, place, error) {
	g, pl := &group{name: name}, place{dir: filepath.Join(b.temp, name), format: a.format}
	if err := os.MkdirAll(pl.dir, 0o755); err != nil {
		return nil, pl, err
	}
	pl.keyring = filepath.Join(pl.dir, "archive.gpg")
	if err := os.WriteFile(pl.keyring, a.keyring, 0o644); err != nil {
		return nil, pl, err
	}
	addr, err := freeAddr()
	if err != nil {
		return nil, pl, err
	}
	pl.upstream = addr
	g.origin, err = origin.Start(addr, a.files)
	return g, pl, err
}

// add adds a server that is not started yet; its directory is one below pl's.
func (g *group) add(p peer, pl place, cores []int) (*server, error) {
	pl.dir = filepath.Join(pl.dir, fmt.Sprintf("server%d", len(g.servers)+1))
	s := &server{peer: p, place: pl, origin: g.origin, node: pl.node(), cores: cores}
	g.servers = append(g.servers, s)
	return s, os.MkdirAll(pl.dir, 0o755)
}

// close ends all servers at once and removes what they kept: nobody comes back to it.
func (g *group) close() error {
	errs := make([]error, len(g.servers))
	var all sync.WaitGroup
	for i, s := range g.servers {
		all.Go(func() {
			if s.proc != nil {
				errs[i] = s.kill()
			}
			errs[i] = errors.Join(errs[i], os.RemoveAll(s.dir))
		})
	}
	all.Wait()
	if g.origin != nil {
		errs = append(errs, g.origin.Close())
	}
	return errors.Join(errs...)
}

// measureGroup is measure for servers that work together and run already. A plan
// without an address spreads its connections over all of them. What the work kills
// is not counted as a failure; what it used is lost.
func (b *bench) measureGroup(g *group, plan load.Plan, work func(*load.Session) *load.Result) (sample, error) {
	if b.ctx.Err() != nil {
		return sample{}, b.ctx.Err()
	}
	if plan.Addr == "" {
		for _, s := range g.servers {
			plan.Others = append(plan.Others, s.addr)
		}
		plan.Addr, plan.Others = plan.Others[0], plan.Others[1:]
	}
	session, err := load.Dial(plan)
	if err != nil {
		return sample{}, err
	}
	defer session.Close()
	g.origin.Reset()
	procs, before := make([]*proc.Process, len(g.servers)), make([]proc.Usage, len(g.servers))
	for i, s := range g.servers {
		procs[i] = s.proc
		if before[i], err = s.proc.Usage(); err != nil {
			return sample{}, err
		}
	}
	from, err := proc.ReadBusy()
	if err != nil {
		return sample{}, err
	}
	out := sample{Result: work(session), each: make([]time.Duration, len(g.servers))}
	to, err := proc.ReadBusy()
	if err != nil {
		return sample{}, err
	}
	lost := false
	for i, s := range g.servers {
		after, err := procs[i].Usage()
		if err != nil || !procs[i].Alive() {
			lost = true
			if s.proc != nil { // nobody killed it
				out.Failures["the server ended by itself"]++
			}
			continue
		}
		out.each[i] = after.CPU - before[i].CPU
		out.cpu += out.each[i]
		out.pss += after.PSS
		out.processes += after.Processes
	}
	out.counts = g.origin.Counts()
	if !lost && to.At.Sub(from.At) > time.Second/2 { // what is shorter says nothing, at 10 ms a tick
		b.strangers = append(b.strangers, proc.Strangers(from, to, out.cpu))
	}
	return out, nil
}

// fetch has one server fetch files over a few connections, each file once, and
// fails where one does not come as it should.
func (b *bench) fetch(s *server, targets []load.Target) error {
	session, err := load.Dial(load.Plan{Addr: s.addr, Targets: targets, Connections: min(8, len(targets)), Shared: true})
	if err != nil {
		return err
	}
	defer session.Close()
	if got := session.Rounds(1, 2*time.Minute); got.Failed() > 0 {
		return fmt.Errorf("%s (%s): %s: %s", s.name, s.addr, failures(got.Failures), tail(s.logFile()))
	}
	return b.ctx.Err()
}

// spawn starts servers; await waits until all are ready.
func (g *group) spawn(servers ...*server) error {
	for _, s := range servers {
		if err := s.spawn(); err != nil {
			return err
		}
	}
	return nil
}

// start starts servers and waits until each takes connections.
func (g *group) start(servers ...*server) error {
	if err := g.spawn(servers...); err != nil {
		return err
	}
	for _, s := range servers {
		if _, err := s.await(func() bool { return s.answers(nil) }, 20*time.Second); err != nil {
			return err
		}
	}
	return nil
}

// settle has the kernel write to the disk what earlier measurements left to be written:
// a node that syncs what it keeps would wait for that, too.
func settle() {
	unix.Sync()
}

// wipe stops a server and empties its directory.
func (s *server) wipe() error {
	return cmp.Or(s.stop(), os.RemoveAll(s.dir), os.MkdirAll(s.dir, 0o755))
}
