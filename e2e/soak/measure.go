package main

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// sample is what a process uses.
type sample struct {
	goroutines, files, rss, heap float64
}

// measure asks a node for what it uses.
func measure(ctx context.Context, n *node) (sample, error) {
	text, err := n.Get(ctx, "/metrics")
	if err != nil {
		return sample{}, err
	}
	var s sample
	for name, value := range map[string]*float64{
		"go_goroutines": &s.goroutines, "process_open_fds": &s.files,
		"process_resident_memory_bytes": &s.rss, "go_memstats_heap_inuse_bytes": &s.heap,
	} {
		if err := find(string(text), name, value); err != nil {
			return s, fmt.Errorf("%s: %w", n.Name, err)
		}
	}
	return s, nil
}

func find(metrics, name string, value *float64) error {
	for line := range strings.Lines(metrics) {
		if rest, ok := strings.CutPrefix(line, name+" "); ok {
			_, err := fmt.Sscan(rest, value)
			return err
		}
	}
	return fmt.Errorf("no metric %s", name)
}

// settled measures a node that nobody asks for anything, once what it uses has stood
// still for a while; it takes the least that was seen.
func settled(ctx context.Context, n *node, limit time.Duration) (sample, error) {
	least, err := measure(ctx, n)
	if err != nil {
		return least, err
	}
	still := 0
	for deadline := time.Now().Add(limit); still < 10 && time.Now().Before(deadline) && pause(ctx, time.Second); {
		s, err := measure(ctx, n)
		if err != nil {
			return least, err
		}
		still++
		if s.goroutines < least.goroutines || s.files < least.files {
			still = 0
		}
		least = sample{min(least.goroutines, s.goroutines), min(least.files, s.files), min(least.rss, s.rss), min(least.heap, s.heap)}
	}
	return least, nil
}

// grown says what a process uses more of than it may; "" if nothing. A little is
// noise: a connection here, a page of the heap there.
func grown(before, after sample) string {
	var much []string
	check := func(what string, before, after, times, plus, unit float64) {
		if after > before*times+plus {
			much = append(much, fmt.Sprintf("%s from %.0f to %.0f", what, before/unit, after/unit))
		}
	}
	check("goroutines", before.goroutines, after.goroutines, 1.2, 30, 1)
	check("open files", before.files, after.files, 1.2, 30, 1)
	check("RSS in MB", before.rss, after.rss, 1.3, 48e6, 1e6)
	return strings.Join(much, ", ")
}

func (s sample) String() string {
	return fmt.Sprintf("%4.0f goroutines, %3.0f files, RSS %5.1f MB, heap %5.1f MB", s.goroutines, s.files, s.rss/1e6, s.heap/1e6)
}
