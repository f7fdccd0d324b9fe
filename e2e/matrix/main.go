package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// options are the command line.
type options struct {
	out, filter string
	formats     []format
	nodes       int // 0: one and three
	seed        uint64
	parallel    int           // cells at a time
	batch       int           // cells that share their nodes
	timeout     time.Duration // of nodes for mirrors that say nothing
	hopeless    time.Duration // between two tries of a client whom no mirror can help
	log         *slog.Logger
	progress    io.Writer
}

func defaults() options {
	return options{
		formats: formats[:1], seed: 1, parallel: 32, batch: 120, timeout: time.Second, hopeless: 200 * time.Millisecond,
		log: slog.New(slog.DiscardHandler), progress: io.Discard,
	}
}

func main() {
	o := defaults()
	var verbose bool
	names := flag.String("format", "apt", "formats of the archives, separated by commas: apt, rpm, pacman; or all")
	flag.StringVar(&o.out, "out", "", "file to write the table to; default: standard output")
	flag.StringVar(&o.filter, "filter", "", "only cells whose name has all of these words in it, separated by commas")
	flag.IntVar(&o.nodes, "nodes", 0, "only clusters of that size, 1 or 3")
	flag.Uint64Var(&o.seed, "seed", o.seed, "decides the archives' bytes and which node is asked")
	flag.IntVar(&o.parallel, "parallel", o.parallel, "cells at a time; most of them wait")
	flag.IntVar(&o.batch, "batch", o.batch, "cells that share their nodes")
	flag.DurationVar(&o.timeout, "timeout", o.timeout, "how long nodes wait for a mirror that says nothing")
	flag.BoolVar(&verbose, "v", false, "the nodes' logs")
	flag.Parse()
	o.progress = os.Stderr
	if err := o.choose(*names); err != nil {
		fmt.Fprintln(os.Stderr, "matrix:", err)
		os.Exit(2)
	}
	if verbose {
		o.log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := report(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "matrix:", err)
		os.Exit(1)
	}
}

// choose takes the formats of those names.
func (o *options) choose(names string) error {
	if names == "all" {
		o.formats = formats
		return nil
	}
	o.formats = nil
	for name := range strings.SplitSeq(names, ",") {
		f, err := formatNamed(strings.TrimSpace(name))
		if err != nil {
			return err
		}
		o.formats = append(o.formats, f)
	}
	return nil
}

var errBroken = errors.New("promises were broken")

// report runs what was chosen and writes the table.
func report(ctx context.Context, o options) error {
	began := time.Now()
	var all []*cell
	for _, form := range o.formats {
		for _, nodes := range []int{1, 3} {
			if o.nodes != 0 && o.nodes != nodes {
				continue
			}
			chosen := choose(cells(form, nodes), o.filter)
			if err := run(ctx, o, nodes, chosen); err != nil {
				return err
			}
			all = append(all, chosen...)
		}
	}
	bad := 0
	for _, c := range all {
		bad += len(c.broken) + len(c.costly)
	}
	fmt.Fprintf(o.progress, "%d cells in %.0f s, %d promises broken\n", len(all), time.Since(began).Seconds(), bad)
	text := document(all, o.timeout)
	if o.out == "" {
		fmt.Print(text)
	} else if err := os.WriteFile(o.out, []byte(text), 0o644); err != nil {
		return err
	}
	if bad > 0 {
		return errBroken
	}
	return nil
}

// choose keeps the cells whose name has all the words of a filter.
func choose(all []*cell, filter string) []*cell {
	var chosen []*cell
	for _, c := range all {
		fits := true
		for word := range strings.SplitSeq(filter, ",") {
			fits = fits && strings.Contains(c.String(), strings.TrimSpace(word))
		}
		if fits {
			chosen = append(chosen, c)
		}
	}
	return chosen
}

// run plays cells for so many nodes, batch by batch.
func run(ctx context.Context, o options, nodes int, all []*cell) error {
	for len(all) > 0 {
		n := min(o.batch, len(all))
		if err := runBatch(ctx, o, nodes, all[:n]); err != nil {
			return err
		}
		all = all[n:]
	}
	return nil
}

// runBatch plays cells that share their nodes.
func runBatch(ctx context.Context, o options, nodes int, batch []*cell) (err error) {
	rnd := rand.New(rand.NewPCG(o.seed, uint64(nodes)))
	for i, c := range batch {
		defer c.close()
		if err := c.furnish(fmt.Sprintf("127.0.0.%d", 2+i%250), rnd); err != nil {
			return err
		}
	}
	w, err := newWorld(ctx, o, nodes, batch)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	began := time.Now()
	free := make(chan struct{}, o.parallel)
	var playing sync.WaitGroup
	for _, c := range batch {
		free <- struct{}{}
		playing.Go(func() {
			c.play(ctx, o, w)
			<-free
		})
	}
	playing.Wait()
	for _, c := range batch {
		for _, b := range slices.Concat(c.broken, c.costly) {
			fmt.Fprintf(o.progress, "BROKEN %s: %s\n", c, b)
		}
		if !c.struck {
			fmt.Fprintf(o.progress, "did not strike: %s\n", c)
		}
	}
	fmt.Fprintf(o.progress, "%d cells, %d nodes: %.0f s\n", len(batch), nodes, time.Since(began).Seconds())
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return w.check()
}
