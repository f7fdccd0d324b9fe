package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/aptmesh/aptmesh/e2e/lab"
)

// startProfile collects a CPU profile of aptmesh while the next measurement runs,
// if the options ask for profiles. What it returns waits for the end of that.
// Profiling costs a few per cent: figures from such a run are not for quoting.
func (b *bench) startProfile(title string) (wait func()) {
	s := b.server("aptmesh")
	if b.profile == "" || s == nil {
		return func() {}
	}
	// All peers take turns; the profile covers the whole, idle time costs nothing.
	length := b.span * 9 / 8 * time.Duration(b.repeats*len(b.servers))
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := fetchProfile(b.ctx, s.node, filepath.Join(b.profile, fileName(title)), length); err != nil {
			progress("profile of %s: %v", title, err)
		}
	}()
	return func() { <-done }
}

func fetchProfile(ctx context.Context, n *lab.Node, name string, length time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, length+time.Minute)
	defer cancel()
	profile, err := n.Get(ctx, fmt.Sprintf("/debug/pprof/profile?seconds=%d", int(length.Seconds())))
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	return os.WriteFile(name, profile, 0o644)
}

// fileName makes a file's name of a table's title.
func fileName(title string) string {
	clean := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, title)
	return strings.Trim(clean, "-") + ".pprof"
}
