package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/aptmesh/aptmesh/node"
	"github.com/aptmesh/aptmesh/node/config"
	"github.com/aptmesh/aptmesh/node/config/keys"
)

// server is the part of *node.Node that serve drives.
type server interface {
	Start(context.Context) error
	Addrs() []string
	Reload(*config.Config) (applied, needRestart []string, err error)
	ReloadFailed(error)
	Stop(context.Context) error
	Wait() <-chan error
	// Leaving is closed when an operator asked the node to leave its cluster, and
	// with that to end.
	Leaving() <-chan struct{}
}

// errLeft ends a node that was told to leave, even if a step failed: the node must not be
// started again.
var errLeft = errors.New("this node has left its cluster")

// stopGrace is added to the configured drain. It is for closing the listeners and the
// store, and for telling the other nodes.
const stopGrace = 10 * time.Second

// stopWithin is how long a node may take to stop.
func stopWithin(cfg *config.Config) time.Duration {
	within := cfg.Drain.Delay + cfg.Drain.Timeout + stopGrace
	if cfg.Cluster.Name != "" {
		within += cfg.Drain.Handoff
	}
	return within
}

// overrides are the settings of the command line, which win over the file.
type overrides struct {
	listen    []string
	data      string
	state     string
	admin     string
	logLevel  string
	logFormat string
	changed   func(flag string) bool
}

func (o *overrides) apply(cfg *config.Config) error {
	if o.changed("listen") {
		cfg.Listen = o.listen
	}
	if o.changed("data") {
		cfg.SetData(o.data)
	}
	if o.changed("state") {
		cfg.SetState(o.state)
	}
	if o.changed("admin") {
		cfg.SetAdmin(o.admin)
	}
	if o.changed("log-level") {
		cfg.Log.Level = o.logLevel
	}
	if o.changed("log-format") {
		cfg.Log.Format = o.logFormat
	}
	return o.name(cfg.Validate())
}

// flags are those that set a key.
var flags = map[string]string{"listen": "listen", "data": "data", "state": "state", "admin": "admin", "log.level": "log-level", "log.format": "log-format"}

// name has a problem of a key that a flag set begin with the flag.
func (o *overrides) name(err error) error {
	var found *keys.Error
	if errors.As(err, &found) {
		for i, p := range found.Problems {
			key, _, _ := strings.Cut(p.Key, "[")
			if flag := flags[key]; flag != "" && o.changed(flag) {
				found.Problems[i].Message = "--" + flag + strings.TrimPrefix(p.Message, p.Key)
			}
		}
	}
	return err
}

func (a *app) serveCommand() *cobra.Command {
	var o overrides
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run a node",
		Long: `Run a node until SIGTERM or SIGINT. After the signal it lets running requests finish and
leaves its cluster, as "aptmesh leave" does. A second signal stops it at once. SIGHUP reads
the configuration again, applies what a running node can change, and logs what needs a
restart.

Without a configuration file the node serves the archives of this machine's own apt sources,
or Ubuntu's if there are none. On a terminal, also on that of a container, it prints the
settings for a host, as "aptmesh client-config" does. The log goes to stderr, the lines of log.access to stdout.`,
		Example: `  aptmesh serve                                     # no configuration needed
  aptmesh serve --config /etc/aptmesh/aptmesh.yaml
  aptmesh serve --listen 127.0.0.1:3142 --data /tmp/aptmesh --log-level debug`,
		Args: takes(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.changed = cmd.Flags().Changed
			a.loader.Data = o.data // its file system is the one that counts
			return a.serve(cmd.Context(), &o)
		},
	}
	f := cmd.Flags()
	f.StringSliceVarP(&o.listen, "listen", "l", nil, "`ADDRESS` to serve hosts at, such as :3142; may be repeated")
	f.StringVarP(&o.data, "data", "d", "", "`DIR` of the cache")
	f.StringVar(&o.state, "state", "", "`DIR` of what must survive (default inside --data, if that is given)")
	f.StringVar(&o.admin, "admin", "", "`ADDRESS` of the admin interface: host:port, unix:/path, or \"\" for none")
	f.StringVar(&o.logLevel, "log-level", "", "debug, info, warn or error")
	f.StringVar(&o.logFormat, "log-format", "", "text or json")
	_ = cmd.MarkFlagDirname("data")
	_ = cmd.MarkFlagDirname("state")
	for flag, words := range map[string][]string{"log-level": {"debug", "info", "warn", "error"}, "log-format": {"text", "json"}} {
		_ = cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp))
	}
	return cmd
}

func (a *app) serve(ctx context.Context, o *overrides) error {
	l, err := a.loadConfig()
	if err != nil {
		return err
	}
	if err := o.apply(l.cfg); err != nil {
		return err
	}
	level := new(slog.LevelVar)
	level.Set(l.cfg.Log.SlogLevel())
	log := a.logger(l.cfg.Log.Format, level)
	log.Info("starting", "version", buildVersion(), "configuration", l.from, "data", l.cfg.Data, "state", l.cfg.StateDir())
	l.report(log)

	n, err := a.newNode(l.cfg, node.Options{Logger: log, Level: level, AccessLog: a.out, Version: buildVersion()})
	if err != nil {
		return err
	}
	if err := n.Start(ctx); err != nil {
		return err
	}
	url, known := hostURL(l.cfg, n.Addrs())
	if a.watched(a.out) && l.cfg.Log.Format == "text" {
		printHints(a.out, l.cfg, url, known)
	}
	log.Info("serving", "archives", strings.Join(l.cfg.Archives.Names(), ", "), "listen", strings.Join(n.Addrs(), ", "), "hosts", hostAdvice(url, known))
	notify(log, "READY=1")

	current, failed := l.cfg, n.Wait()
	for {
		select {
		case <-ctx.Done():
			return a.stop(n, stopWithin(current), log)
		case <-n.Leaving():
			log.Info("an operator asked this node to leave its cluster")
			if err := a.stop(n, stopWithin(current), log); err != nil {
				log.Error("leaving", "error", err)
			}
			return errLeft
		case err := <-failed:
			// Whatever still works is let go in good order.
			if stopErr := a.stop(n, stopGrace, log); stopErr != nil {
				log.Error("stopping after a failure", "error", stopErr)
			}
			return fmt.Errorf("the node cannot go on: %w", err)
		case <-a.reload:
			notify(log, reloading())
			if cfg, err := a.reloadNode(n, current, o, log); err != nil {
				n.ReloadFailed(err)
				log.Error("reload failed; everything stays as it was", "error", err)
			} else {
				current = cfg
			}
			notify(log, "READY=1")
		}
	}
}

// reloadNode reads the configuration again and gives it to the node. A file that no longer names
// archives is refused, because it may be only partly written.
func (a *app) reloadNode(n server, running *config.Config, o *overrides, log *slog.Logger) (*config.Config, error) {
	l, err := a.loadConfig()
	if err != nil {
		return nil, err
	}
	if l.cfg.FromMachine && !running.FromMachine {
		what := l.from + " names no archives"
		if l.auto {
			what = "the configuration file is gone"
		}
		return nil, errors.New(what + ", and this node serves those of a configuration file; to have it serve the archives of this machine's own apt, restart it")
	}
	if err := o.apply(l.cfg); err != nil {
		return nil, err
	}
	l.report(log)
	applied, restart, err := n.Reload(l.cfg)
	if err != nil {
		return nil, err
	}
	log.Info("configuration reloaded", "configuration", l.from, "applied", applied)
	if len(restart) > 0 {
		log.Warn("these changes wait for a restart", "keys", restart)
	}
	return l.cfg, nil
}

// stop drains the node, within that time and until a second signal.
func (a *app) stop(n server, within time.Duration, log *slog.Logger) error {
	notify(log, "STOPPING=1")
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	go func() {
		select {
		case <-a.again:
			cancel()
		case <-ctx.Done():
		}
	}()
	log.Info("stopping; running requests may finish", "within", within)
	if err := n.Stop(ctx); err != nil {
		return fmt.Errorf("stopping: %w", err)
	}
	log.Info("stopped")
	return nil
}

// report logs what the operator should know about a configuration.
func (l *loaded) report(log *slog.Logger) {
	for _, w := range l.warnings {
		log.Warn("configuration: " + w)
	}
	for _, n := range l.notes {
		log.Info("apt sources: " + n)
	}
}

func (a *app) logger(format string, level slog.Leveler) *slog.Logger {
	options := &slog.HandlerOptions{Level: level}
	if format == "json" {
		return slog.New(slog.NewJSONHandler(a.err, options))
	}
	return slog.New(slog.NewTextHandler(a.err, options))
}
