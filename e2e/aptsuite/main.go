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

	"golang.org/x/sync/errgroup"
)

// options are the command line.
type options struct {
	binary  string // the aptmesh to test
	cache   string // directory for apt's source, its build, logs and results
	modes   []mode
	tests   []string      // names as test-apt-update-ims; empty: all that use a web server
	out     string        // file for the page; "" writes none
	report  bool          // run nothing: judge and print what was stored
	silence time.Duration // with all processes of a test asleep for longer, apt hangs
	limit   time.Duration // for one test in one mode
	jobs    int           // tests at a time
	verbose bool
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == "hook" {
		os.Exit(hook(os.Args[2:]))
	}
	o, err := parse()
	if err == nil {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		err = run(ctx, o)
		stop()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "aptsuite:", err)
		os.Exit(1)
	}
}

func parse() (o options, err error) {
	cache, _ := os.UserCacheDir() // empty without a home; the flag is then needed
	var modes string
	flag.StringVar(&o.binary, "binary", "bin/aptmesh", "the aptmesh to test")
	flag.StringVar(&o.cache, "cache", filepath.Join(cache, "aptmesh-e2e", "aptsuite"), "directory for apt's source, its build, logs and results")
	flag.StringVar(&modes, "modes", "direct,proxy,mapped,proxy-unsigned,mapped-unsigned", "how to run each test, separated by commas")
	flag.StringVar(&o.out, "out", "", "file for the page that docs/apt-tests.md is; default: none")
	flag.BoolVar(&o.report, "report", false, "run nothing: judge the results of earlier runs")
	flag.DurationVar(&o.silence, "silence", 100*time.Second, "apt hangs if a test prints nothing and all its processes sleep for longer")
	flag.DurationVar(&o.limit, "limit", 40*time.Minute, "for one test in one mode")
	flag.IntVar(&o.jobs, "jobs", 1, "tests at a time; they mostly compute")
	flag.BoolVar(&o.verbose, "v", false, "print the failed checks")
	flag.Parse()
	o.tests = flag.Args()
	for name := range strings.SplitSeq(modes, ",") {
		m, err := parseMode(name)
		if err != nil {
			return o, err
		}
		o.modes = append(o.modes, m)
	}
	if o.cache, err = filepath.Abs(o.cache); err != nil {
		return o, err
	}
	o.binary, err = filepath.Abs(o.binary)
	return o, err
}

var errFaults = errors.New("tests fail more than exceptions.txt allows")

func run(ctx context.Context, o options) error {
	allowed, err := exceptions()
	if err != nil {
		return err
	}
	var tree aptTree
	if o.report {
		tree, err = findApt(o.cache)
	} else {
		tree, err = prepareApt(ctx, o.cache)
	}
	if err != nil {
		return err
	}
	tests, err := tree.webTests(o.tests)
	if err != nil {
		return err
	}
	if !o.report {
		if err := runAll(ctx, o, tree, tests, allowed); err != nil {
			return err
		}
	}
	results, err := load(o.cache, tests, o.modes)
	if err != nil {
		return err
	}
	bad := judge(os.Stdout, results, allowed)
	if o.out != "" {
		page := document(tree.version, tests, o.modes, results, allowed)
		if err := os.WriteFile(o.out, []byte(page), 0o644); err != nil {
			return err
		}
	}
	if bad > 0 {
		return errFaults
	}
	return nil
}

// runAll runs each test in each mode and stores what came out.
func runAll(ctx context.Context, o options, tree aptTree, tests []string, allowed []exception) error {
	running, ctx := errgroup.WithContext(ctx)
	running.SetLimit(o.jobs)
	var printing sync.Mutex
	for _, test := range tests {
		for _, m := range o.modes {
			running.Go(func() error {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				r, err := runTest(ctx, o, tree, test, m)
				if err != nil {
					return fmt.Errorf("%s, %s: %w", test, m, err)
				}
				printing.Lock()
				defer printing.Unlock()
				fmt.Printf("%-62s %-16s %s\n", test, m, r.verdict(allowed))
				if o.verbose {
					printFailed(os.Stdout, r)
				}
				return store(o.cache, r)
			})
		}
	}
	return running.Wait()
}
