package main

import (
	"errors"
	"fmt"
	"math"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/aptmesh/aptmesh/e2e/bench/load"
	"github.com/aptmesh/aptmesh/e2e/bench/origin"
)

// slowMirror is the sick one of three; the others are as mirrors are.
var (
	slowMirror = origin.Shape{PerConnection: 20_000, Latency: 10 * time.Millisecond}
	fineMirror = origin.Shape{BytesPerSecond: 20e6, Latency: 10 * time.Millisecond}
)

const (
	mirrorHosts = 40 // that update at the same time
	mirrorLimit = 50 * time.Second
	// noProgress is how long a host waits for a byte: apt's own half a minute.
	noProgress = 30 * time.Second
)

// mirrored is one cache in front of three mirrors.
type mirrored struct {
	*group
	mirrors []*origin.Origin
}

// newMirrored starts three mirrors and a cache that is given their addresses, the
// slow one first.
func (b *bench) newMirrored(name string, a *archive, p peer, program string, command func(place, []string) (*exec.Cmd, error)) (m *mirrored, err error) {
	g, pl, err := b.newGroup("mirrors-"+name, a)
	m = &mirrored{group: g}
	if err != nil {
		return m, err
	}
	m.mirrors = []*origin.Origin{g.origin}
	upstreams := []string{g.origin.Addr()}
	for range 2 {
		addr, err := freeAddr()
		if err != nil {
			return m, err
		}
		o, err := origin.Start(addr, a.files)
		if err != nil {
			return m, err
		}
		m.mirrors, upstreams = append(m.mirrors, o), append(upstreams, addr)
	}
	if pl.addr, err = freeAddr(); err != nil {
		return m, err
	}
	pl.program = program
	p.command = func(p place) (*exec.Cmd, error) { return command(p, upstreams) }
	if _, err := m.add(p, pl, b.server("aptmesh").cores); err != nil {
		return m, err
	}
	return m, m.start(m.servers...)
}

func (m *mirrored) close() error {
	err := m.group.close()
	for _, o := range m.mirrors[min(1, len(m.mirrors)):] {
		err = errors.Join(err, o.Close())
	}
	return err
}

// shape gives the first mirror one shape and the others that of a fine one.
func (m *mirrored) shape(first origin.Shape) {
	for i, o := range m.mirrors {
		if i == 0 {
			o.SetShape(first)
		} else {
			o.SetShape(fineMirror)
		}
		o.Reset()
	}
}

// slowOfThree measures the update of a fleet while one of three mirrors is slow.
func slowOfThree(b *bench) error {
	if b.server("aptmesh") == nil {
		return nil
	}
	size := func(i int) int64 { return int64(20_000 * math.Pow(20, float64(i)/59)) } // 20 to 400 KB
	a, sets := newArchiveOf(8, packageSet{"fine", 60, size}, packageSet{"slow", 60, size})
	b.report.heading(2, "R. A fleet updates while one of three mirrors sends 20 KB/s")
	b.report.printf(`%d hosts, each with one connection, get %s, each in an order of its own; no cache has any of them. Two mirrors send
20 MB/s after 10 ms; the third stands first in every configuration. nginx has the three in upstream{}, in turn, and proxy_cache_lock with a
minute's patience; apt-cacher-ng has them as backends of one Remap, in this order. "All well" is the same with other packages and three
fine mirrors, just before. After %s a run is over; a host gives up a file for which no byte came in %s.
`, mirrorHosts, a.describe(sets["slow"]), mirrorLimit, noProgress)
	var rows [][]string
	var nginx, mesh sample
	for _, c := range mirrorPeers() {
		known := b.server(c.of)
		if known == nil {
			continue
		}
		progress("   %s", c.name)
		well, sick, fromSlow, err := b.oneSlow(c, known, a, sets)
		if err != nil {
			b.report.note("R: %s: %v", c.name, err)
			continue
		}
		switch c.name {
		case "nginx":
			nginx = sick
		case "aptmesh":
			mesh = sick
		}
		rows = append(rows, []string{
			c.name, fmt.Sprintf("%.2f", well.Elapsed.Seconds()), fmt.Sprintf("%.2f", sick.Elapsed.Seconds()),
			ratio(sick.Elapsed.Seconds(), well.Elapsed.Seconds()), ratio(sick.Elapsed.Seconds(), nginx.seconds()),
			fmt.Sprintf("%.3f / %.3f", sick.TTFB.Quantile(0.5).Seconds(), sick.firstByte()), ratio(sick.firstByte(), nginx.firstByte()),
			fmt.Sprintf("%.3f / %.3f", sick.TTLB.Quantile(0.5).Seconds(), sick.TTLB.Quantile(0.99).Seconds()),
			fmt.Sprintf("%.2f", float64(sick.counts.Bytes)/float64(a.bytes(sets["slow"]...))), bytesText(float64(fromSlow)),
			fmt.Sprint(sick.Requests), failures(sick.Failures),
		})
	}
	b.report.table([]string{"cache", "all well s", "one slow s", "x all well", "x nginx", "TTFB p50 / p99 s", "p99 x nginx", "whole file p50 / p99 s",
		"bytes fetched / unique", "from the slow one", "served", "failures"}, rows)
	if mesh.Result != nil {
		b.report.goal(goal{what: "R: files that failed with one slow mirror of three", got: float64(mesh.Failed()), peer: float64(failedOf(nginx)), limit: 0})
		b.report.goal(goal{what: "R: all hosts done, with one slow mirror of three", got: mesh.seconds(), peer: nginx.seconds(), limit: 15, unit: "s"})
	}
	return nil
}

func failedOf(s sample) int {
	if s.Result == nil {
		return 0
	}
	return s.Failed()
}

// mirrorPeer is a cache and how it is told of three mirrors.
type mirrorPeer struct {
	name, of string // of: the server whose program it is
	command  func(p place, upstreams []string) (*exec.Cmd, error)
}

func mirrorPeers() []mirrorPeer {
	return []mirrorPeer{
		{"nginx", "nginx", nginxMirrors},
		{"acng", "acng", acngMirrors},
		{"aptmesh", "aptmesh", aptmeshMirrors},
	}
}

// oneSlow measures one cache twice: with three fine mirrors, and with one that is slow.
func (b *bench) oneSlow(c mirrorPeer, known *server, a *archive, sets map[string][]string) (well, sick sample, fromSlow int64, err error) {
	m, err := b.newMirrored(c.name, a, known.peer, known.program, c.command)
	defer func() { err = errors.Join(err, m.close()) }()
	if err != nil {
		return well, sick, 0, err
	}
	m.shape(fineMirror)
	for _, name := range []string{a.inRelease, a.index} {
		if err := b.fetch(m.servers[0], a.targets(name)); err != nil {
			return well, sick, 0, err
		}
	}
	if well, err = b.fleetUpdate(m, a, sets["fine"], fineMirror); err != nil {
		return well, sick, 0, err
	}
	if sick, err = b.fleetUpdate(m, a, sets["slow"], slowMirror); err != nil {
		return well, sick, 0, err
	}
	return well, sick, m.mirrors[0].Counts().Bytes, nil
}

// fleetUpdate has all hosts get all files once; the bytes of all mirrors are counted.
func (b *bench) fleetUpdate(m *mirrored, a *archive, files []string, first origin.Shape) (sample, error) {
	m.shape(first)
	got, err := b.measureGroup(m.group, load.Plan{Addr: m.servers[0].addr, Targets: a.targets(files...), Connections: mirrorHosts, Timeout: noProgress},
		rounds(1, mirrorLimit))
	if err != nil {
		return got, err
	}
	for _, o := range m.mirrors[1:] {
		got.counts.Bytes += o.Counts().Bytes
	}
	return got, nil
}

func nginxMirrors(p place, upstreams []string) (*exec.Cmd, error) {
	return nginxWith(p, fmt.Sprintf(`
  upstream archive { server %s; keepalive 32; }
  server {
    listen %s backlog=4096;
    location / {
      proxy_pass http://archive;%s
      proxy_cache_lock_timeout 1m; proxy_cache_lock_age 1m;
      proxy_next_upstream error timeout http_500 http_502 http_503 http_504 http_403 http_404 http_429;
    }
  }
`, strings.Join(upstreams, "; server "), p.addr, nginxCaching))
}

func acngMirrors(p place, upstreams []string) (*exec.Cmd, error) {
	// What stands after the first URL of a Remap are further URLs, in their order.
	urls := make([]string, len(upstreams))
	for i, u := range upstreams {
		urls[i] = fmt.Sprintf("http://%s/%s", u, mount)
	}
	p.upstream = upstreams[0]
	cmd, err := acngCommand(p)
	if err != nil {
		return nil, err
	}
	return cmd, replaceInFile(filepath.Join(p.dir, "acng.conf"), urls[0], strings.Join(urls, " "))
}

func aptmeshMirrors(p place, upstreams []string) (*exec.Cmd, error) {
	var all []string
	for _, u := range upstreams {
		all = append(all, fmt.Sprintf("%q", "http://"+u+"/"+mount))
	}
	p.upstream = upstreams[0]
	cmd, err := aptmeshCommand(p)
	if err != nil {
		return nil, err
	}
	return cmd, replaceInFile(filepath.Join(p.dir, "aptmesh.yaml"), "upstream: "+all[0], "upstreams: ["+strings.Join(all, ", ")+"]")
}
