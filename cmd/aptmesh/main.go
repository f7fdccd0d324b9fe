// Command aptmesh is a cache for package archives: a node, and the commands that ask
// one. Each subcommand has a file; what a node does is in package node.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/aptmesh/aptmesh/node"
	"github.com/aptmesh/aptmesh/node/config"
	"github.com/aptmesh/aptmesh/node/config/keys"
	"github.com/aptmesh/aptmesh/node/files"
)

// Exit codes.
const (
	exitFailed = 1 // the command did not do what it was asked
	exitUsage  = 2 // it was asked in a way it does not understand
	// exitRefused is the answer of `mirror` where the mirror does not fit, and of `export` and `import` where trying again
	// does not help.
	exitRefused = 3
	// exitIncomplete is the answer of `mirror`, `snapshot create`, `export` and `import` where files could not be had.
	exitIncomplete = 4
	// exitFailing is the answer of `status` about a node that fails, and of `status` and `why` where none answers.
	exitFailing = 2
	// exitLeft is the end of a node that was told to leave its cluster. It differs from a
	// failure and from SIGTERM, so that a service manager can be told not to start the
	// node again; deploy/aptmesh.service names it.
	exitLeft = 90
)

func main() {
	stop := make(chan os.Signal, 2)
	signal.Notify(stop, syscall.SIGINT, syscall.SIGTERM)
	reload := make(chan os.Signal, 1)
	signal.Notify(reload, syscall.SIGHUP)

	a := newApp(os.Stdout, os.Stderr)
	a.reload = reload
	os.Exit(a.main(context.Background(), os.Args[1:], stop))
}

// app is what the commands share: their outputs, the signals, and the places and
// makers that a test puts others in for.
type app struct {
	out, err io.Writer
	// again is closed by a second signal to stop: enough of being patient.
	again  chan struct{}
	reload <-chan os.Signal

	configFile    string // --config
	defaultConfig string // used where it exists and there is no --config
	newNode       func(*config.Config, node.Options) (server, error)
	autoConfig    func() (*config.Config, []string, error)

	// loader reads the configuration file.
	loader config.Loader
	// serviceUser is the user of the service, if this process may read more than it; nil otherwise.
	serviceUser func() *files.User
	// watched reports whether a person reads along.
	watched func(io.Writer) bool

	// understood is set when flags and arguments were: an error before is one of
	// usage.
	understood bool
}

func newApp(out, err io.Writer) *app {
	return &app{
		out: out, err: err,
		again:         make(chan struct{}),
		defaultConfig: "/etc/aptmesh/aptmesh.yaml",
		newNode: func(cfg *config.Config, o node.Options) (server, error) {
			n, err := node.New(cfg, o)
			if err != nil {
				return nil, err // not n, which would be an interface that is not nil
			}
			return n, nil
		},
		watched:     watched,
		serviceUser: serviceUser,
		autoConfig:  func() (*config.Config, []string, error) { return config.Auto("/") },
	}
}

// main runs one command line and returns the exit code. The first signal from
// stop ends the command's context; the second closes again.
func (a *app) main(ctx context.Context, args []string, stop <-chan os.Signal) int {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan struct{})
	defer close(done)
	go func() {
		for _, act := range []func(){cancel, func() { close(a.again) }} {
			select {
			case <-stop:
				act()
			case <-done:
				return
			}
		}
	}()

	root := a.rootCommand()
	root.SetArgs(args)
	ran, err := root.ExecuteContextC(ctx)
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errLeft):
		return exitLeft
	}
	if !a.understood {
		fmt.Fprintf(a.err, "aptmesh: %s; see `%s --help`\n", oneLine(err), ran.CommandPath())
		return exitUsage
	}
	var exit *exitError
	if errors.As(err, &exit) {
		if exit.err != nil {
			fmt.Fprintf(a.err, "aptmesh: %s\n", oneLine(exit.err))
		}
		return exit.code
	}
	var config *keys.Error
	if errors.As(err, &config) {
		// The one error of several lines: each names a place to mend.
		for _, p := range config.Problems {
			if p.Key != "" && p.File == "" { // no place stands before it
				fmt.Fprint(a.err, "aptmesh: ")
			}
			fmt.Fprintln(a.err, p)
		}
		return exitFailed
	}
	fmt.Fprintf(a.err, "aptmesh: %s\n", oneLine(err))
	return exitFailed
}

// oneLine keeps an error to one line, as scripts and journals like it.
func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }
