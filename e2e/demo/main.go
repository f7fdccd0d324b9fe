// Command demo shows a cluster on one machine: three aptmesh nodes in three
// "datacenters" (loopback addresses), an archive in front of which they stand, and
// real package managers on hosts that use them. It tells what happens line by line, and cleans up
// behind itself. `make demo` runs it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/aptmesh/aptmesh/e2e/lab"
)

// options are the command line.
type options struct {
	binary string // "" builds one
	keep   bool
	quick  bool
	format format
}

func main() {
	var o options
	flag.StringVar(&o.binary, "binary", "", "the aptmesh to show, in place of one built from these sources")
	flag.BoolVar(&o.keep, "keep", false, "leave everything running at the end, until Ctrl-C")
	flag.BoolVar(&o.quick, "quick", false, "fewer hosts and smaller packages")
	name := flag.String("format", "apt", "format of the archive: apt, rpm or pacman")
	flag.Parse()
	var err error
	if o.format, err = formatNamed(*name); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err = run(ctx, o)
	switch {
	case err == nil:
	case ctx.Err() != nil:
		fmt.Println("Interrupted; everything was cleaned up.")
		os.Exit(130)
	default:
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// demo is everything that was started, and what it is started with.
type demo struct {
	options
	ctx     context.Context
	dir     string // holds everything
	archive *archive
	nodes   []*lab.Node
	hosts   []host
	served  int // clients that are no package manager
}

// act is one step of the story.
type act struct {
	title string
	play  func(*demo) error
}

var acts = []act{
	{"An archive, and three nodes in front of it", (*demo).startAll},
	{"Two hosts do the same at the same time", (*demo).twoHosts},
	{"A herd asks for one large package", (*demo).herd},
	{"What that cost upstream", (*demo).accounts},
	{"The archive publishes", (*demo).publication},
	{"The status, as one node tells it", (*demo).showStatus},
	{"The owner of a package dies in the middle of it", (*demo).loss},
}

// run plays all acts, and cleans up whatever happens.
func run(ctx context.Context, o options) (err error) {
	d := &demo{options: o, ctx: ctx}
	if d.dir, err = os.MkdirTemp("", "aptmesh-demo-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.cleanUp()) }()
	if err := d.build(); err != nil {
		return err
	}
	began := time.Now()
	for _, a := range acts {
		fmt.Printf("\n%s\n", a.title)
		if err := a.play(d); err != nil {
			return fmt.Errorf("%s: %w", strings.ToLower(a.title[:1])+a.title[1:], err)
		}
	}
	fmt.Printf("\nAll of this took %s.\n", seconds(time.Since(began)))
	if d.keep {
		d.invite()
		<-ctx.Done()
	}
	return nil
}

// say prints one line of the story.
func say(format string, args ...any) { fmt.Printf("  "+format+"\n", args...) }

func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }

func megabytes(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/1e6) }

// build makes the binary, unless there is one.
func (d *demo) build() (err error) {
	if d.binary != "" {
		d.binary, err = filepath.Abs(d.binary)
	} else {
		d.binary, err = lab.Build(d.ctx, d.dir)
	}
	return err
}

// invite tells what can be tried with what is left running.
func (d *demo) invite() {
	fmt.Println("\nEverything goes on running until Ctrl-C. In another terminal:")
	n := d.nodes[0]
	say("%s status --admin %s", d.binary, n.Admin())
	say("%s why --admin %s demo/%s", d.binary, n.Admin(), d.archive.big)
	say("curl -sI %s/demo/%s", n.URL(), d.archive.big)
	if len(d.hosts) > 0 {
		say("%s", strings.Join(d.hosts[0].update(d.ctx).Args, " "))
	}
}

// cleanUp ends what was started, in the order of its making backwards.
func (d *demo) cleanUp() error {
	var errs []error
	for _, h := range d.hosts {
		errs = append(errs, h.remove())
	}
	var ending sync.WaitGroup
	for _, n := range d.nodes {
		ending.Go(func() { n.Process().Stop(3 * time.Second) })
	}
	ending.Wait()
	if d.archive != nil {
		d.archive.server.Close()
	}
	return errors.Join(append(errs, os.RemoveAll(d.dir))...)
}
