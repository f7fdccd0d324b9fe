package main

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/aptmesh/aptmesh/e2e/bench/load"
)

// startUp stops each server in good order, starts it again on its cache, and
// waits for the first right answer.
func startUp(b *bench) error {
	if err := b.warmAll(b.servers); err != nil {
		return err
	}
	b.report.heading(2, "G. Start-up on a warm cache, until the first right answer")
	first := b.archive.targets(b.archive.small[0])[0]
	var rows [][]string
	for _, s := range b.servers {
		if s.volatile {
			rows = append(rows, []string{s.name, "nothing: it keeps its cache in memory"})
			continue
		}
		if err := s.stop(); err != nil {
			b.report.note("stopping %s: %v", s.name, err)
		}
		held := "the packages above"
		if s.name == "aptmesh" {
			if err := fillStore(filepath.Join(s.dir, "data", "blobs"), b.fillers); err != nil {
				return err
			}
			held += fmt.Sprintf(" and %s small blobs", thousands(int64(b.fillers)))
		}
		s.origin.Reset()
		times, err := restarts(s, &first, 3)
		if err != nil {
			rows = append(rows, []string{s.name, held, err.Error()})
			continue
		}
		rows = append(rows, []string{s.name, held, fmt.Sprintf("%.3f", times[1].Seconds()), fmt.Sprintf("%.3f", times[2].Seconds()),
			bytesText(float64(s.origin.Counts().Bytes))})
		if s.name == "aptmesh" {
			b.report.goal(goal{what: "G: first right answer after start", got: times[1].Seconds(), limit: 0.5, unit: "s"})
		}
	}
	b.report.table([]string{"peer", "cache holds", "first right answer s (median of 3)", "slowest s", "fetched meanwhile"}, rows)
	return nil
}

// restarts starts and stops a stopped server n times, and returns how long the
// first right answers took, sorted.
func restarts(s *server, first *load.Target, n int) ([]time.Duration, error) {
	var times []time.Duration
	for range n {
		took, err := s.start(first, 30*time.Second)
		if err := cmp.Or(err, s.stop()); err != nil {
			return nil, err
		}
		times = append(times, took)
	}
	slices.Sort(times)
	return times, nil
}

// fillStore adds small blobs to a stopped node's store, each under its own sum.
// It knows the store's layout (node/blobstore): asking a node for as many would
// take minutes.
func fillStore(blobs string, n int) error {
	if _, err := os.Stat(blobs); err != nil {
		return fmt.Errorf("aptmesh keeps its blobs elsewhere by now: %w", err)
	}
	body := make([]byte, 256)
	for i := range n {
		binary.BigEndian.PutUint64(body, uint64(i))
		sum := sha256.Sum256(body)
		name := hex.EncodeToString(sum[:])
		dir := filepath.Join(blobs, name[:2])
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, name), body, 0o644); err != nil {
			return err
		}
	}
	return nil
}
