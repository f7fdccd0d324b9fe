package e2e

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// errElsewhere is for an answer that sends a host behind an anycast address to
// another node: no connection, or 503.
var errElsewhere = errors.New("this node turns hosts away")

// fetch downloads a path from a node as a host does. A complete body that is not
// signed fails the test; that there is none is the caller's to judge.
func (c *cluster) fetch(ctx context.Context, client *http.Client, m *member, path string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, m.URL+"/debian/"+path, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("%s: %w: %w", m.name, errElsewhere, err)
	case err != nil:
		return fmt.Errorf("%s: %w", m.name, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		line, _ := io.ReadAll(io.LimitReader(resp.Body, 500)) // for a person
		err := fmt.Errorf("%s: %s: %s: %s", m.name, path, resp.Status, line)
		if resp.StatusCode == http.StatusServiceUnavailable {
			return fmt.Errorf("%w: %w", errElsewhere, err)
		}
		return err
	}
	h := sha256.New()
	n, err := io.Copy(h, resp.Body)
	if err != nil {
		return fmt.Errorf("%s: %s: after %d of %d bytes: %w", m.name, path, n, resp.ContentLength, err)
	}
	if !c.isSigned(path, [sha256.Size]byte(h.Sum(nil))) {
		c.t.Errorf("%s: %s is complete with %d bytes that nobody signed", m.name, path, n)
	}
	return nil
}

// fetchAll downloads all paths from a node, some at a time.
func (c *cluster) fetchAll(m *member, paths ...string) {
	c.t.Helper()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 4}}
	defer client.CloseIdleConnections()
	var hosts sync.WaitGroup
	for part := range slices.Chunk(paths, (len(paths)+3)/4) {
		hosts.Go(func() {
			for _, path := range part {
				if err := c.fetch(c.t.Context(), client, m, path); err != nil {
					c.t.Error(err)
				}
			}
		})
	}
	hosts.Wait()
}

// hosts are clients that download without end, each from the node that its address
// leads it to, and from another one when that one turns it away.
type hosts struct {
	c      *cluster
	cancel context.CancelFunc
	all    sync.WaitGroup
	done   atomic.Int64 // bodies
	failed atomic.Int64
	moved  atomic.Int64 // times that one was turned away
}

// load starts so many hosts, spread over the nodes, that download these paths in
// turn until they are stopped.
func (c *cluster) load(n int, nodes []*member, paths []string) *hosts {
	ctx, cancel := context.WithCancel(c.t.Context())
	h := &hosts{c: c, cancel: cancel}
	for i := range n {
		h.all.Go(func() { h.run(ctx, i, nodes, paths) })
	}
	return h
}

func (h *hosts) run(ctx context.Context, i int, nodes []*member, paths []string) {
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	at := i % len(nodes)
	for turn := i; ctx.Err() == nil; turn++ {
		path := paths[turn%len(paths)]
		err := errElsewhere
		for try := 0; errors.Is(err, errElsewhere) && try < 2*len(nodes) && ctx.Err() == nil; try++ {
			if try > 0 {
				h.moved.Add(1)
				at = (at + 1) % len(nodes)
			}
			// Not ctx: a host that has begun goes on to the end.
			err = h.c.fetch(h.c.t.Context(), client, nodes[at], path)
		}
		if err != nil && ctx.Err() == nil {
			h.failed.Add(1)
			h.c.t.Errorf("host %d: %v", i, err)
			return
		}
		h.done.Add(1)
		hold(ctx, 2*time.Millisecond) // two processors do all of this
	}
}

// stop ends the load, and says how it was.
func (h *hosts) stop() {
	h.cancel()
	h.all.Wait()
	h.c.t.Logf("hosts: %d downloads, %d failed, turned away %d times", h.done.Load(), h.failed.Load(), h.moved.Load())
	if h.done.Load() == 0 {
		h.c.t.Error("no host downloaded anything")
	}
}

// first waits until so many downloads were done since a moment ago.
func (h *hosts) more(n int64) {
	h.c.t.Helper()
	goal := h.done.Load() + n
	eventually(h.c.t, time.Minute, "hosts downloaded more", func() bool { return h.done.Load() >= goal || h.c.t.Failed() })
}
