package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/aptmesh/aptmesh/e2e/bench/proc"
)

// scenario is one letter of the report.
type scenario struct {
	letter, title string
	run           func(*bench) error
	apt           bool // of archives of apt only
}

// scenarios run in this order. It leaves caches warm for who needs them warm:
// what restarts or spoils a server comes last.
var scenarios []scenario

func init() { // breaks the circle scenarios -> run -> options -> scenarios
	scenarios = []scenario{
		{"A", "warm hits, small packages", warmSmall, false},
		{"B", "warm hits, large packages", warmLarge, false},
		{"E", "InRelease, with and without a condition", roots, true},
		{"C", "cold herd: many clients, one package", coldHerd, false},
		{"D", "cold, many packages", coldMixed, false},
		{"F", "a bad object", badObject, false},
		{"H", "idle connections", idleConnections, false},
		{"G", "start-up with a full cache", startUp, false},
		{"M", "index: memory and adoption", realIndex, true},
		{"N", "cluster: one node gives to another", peerTransfer, true},
		{"O", "cluster: the first byte over a hop", hop, true},
		{"P", "cluster: a publication, until the last node serves it", flip, true},
		{"Q", "cluster: a cold fleet, with and without a node that dies", coldFleet, false},
		{"R", "mirrors: a fleet updates while one of three is slow", slowOfThree, true},
		{"S", "a publication: the first hosts, with and without fetching ahead", fetchAhead, true},
		{"T", "keeping a whole suite: mirrors beside tools that mirror", keepSuites, true},
	}
}

func scenarioList() string {
	var letters []string
	for _, s := range scenarios {
		letters = append(letters, s.letter)
	}
	return strings.Join(letters, ",")
}

func main() {
	if len(os.Args) == 4 && os.Args[1] == goStaticArg {
		fmt.Fprintln(os.Stderr, serveStatic(os.Args[2], os.Args[3]))
		os.Exit(1)
	}
	o, err := parseOptions(os.Args[1:])
	switch {
	case errors.Is(err, flag.ErrHelp):
		return
	case err == nil:
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		err = run(ctx, o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// progress tells a person who waits what is going on; the report is on stdout.
func progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "%s "+format+"\n", append([]any{time.Now().Format("15:04:05")}, args...)...)
}

// run does everything and always cleans up behind itself.
func run(ctx context.Context, o options) (err error) {
	if o.temp, err = os.MkdirTemp("", "aptmesh-bench-"); err != nil {
		return err
	}
	defer os.RemoveAll(o.temp)

	b := &bench{options: o, ctx: ctx, report: newReport(os.Stdout)}
	defer func() { err = errors.Join(err, b.close()) }()
	progress("making the archive")
	b.archive = newArchive(o)
	if err := b.setUp(); err != nil {
		return err
	}
	started := time.Now()
	for _, s := range scenarios {
		if !wants(o.only, s.letter) || s.apt && o.format != "apt" || ctx.Err() != nil {
			continue
		}
		progress("%s: %s", s.letter, s.title)
		if err := s.run(b); err != nil {
			b.report.note("%s (%s) could not be measured to its end: %v", s.letter, s.title, err)
		}
	}
	for _, s := range b.servers {
		if s.deaths > 0 {
			b.report.note("%s ended by itself and was started again, %d in all", s.name, s.deaths)
		}
	}
	b.report.summary(time.Since(started), b.strangers)
	return ctx.Err()
}

// setUp finds the servers and gives each its place.
func (b *bench) setUp() error {
	keyring := filepath.Join(b.temp, "archive.gpg")
	if err := os.WriteFile(keyring, b.archive.keyring, 0o644); err != nil {
		return err
	}
	files := filepath.Join(b.temp, "files")
	if err := b.archive.write(files); err != nil {
		return err
	}
	serverCores, restCores, err := proc.Cores()
	if err != nil {
		return err
	}
	b.serverCores = serverCores
	b.report.opening(b.options, b.archive, serverCores, restCores)
	for _, p := range chosen(b.options) {
		program, err := p.find(b.options)
		if err != nil {
			b.report.note("**%s is left out**: %v", p.name, err)
			continue
		}
		pl := place{program: program, dir: filepath.Join(b.temp, p.name), files: files, keyring: keyring, format: b.archive.format}
		s, err := newServer(p, pl, b.archive.files, serverCores)
		if err != nil {
			return err
		}
		b.servers = append(b.servers, s)
	}
	if len(b.servers) == 0 {
		return errors.New("there is no server to measure")
	}
	// The load generator waits in the kernel on a thread of its own; the origin
	// must not wait for the runtime to notice.
	runtime.GOMAXPROCS(max(8, len(restCores)))
	debug.SetGCPercent(400)
	return proc.PinSelf(restCores)
}

func (b *bench) close() error {
	var err error
	for _, s := range b.servers {
		err = errors.Join(err, s.close())
	}
	return err
}
