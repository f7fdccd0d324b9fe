package node

import (
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/aptmesh/aptmesh/node/listen"
	"github.com/aptmesh/aptmesh/node/operator"
)

// life is the phase of a node between start and end. Safe for concurrent use.
type life struct {
	log    *slog.Logger
	ready  atomic.Bool
	doing  atomic.Pointer[string] // what a node that stops does just now
	failed chan error             // of a listener that ended by itself

	hosts   listen.Addresses // that hosts connect to
	listens listen.Addresses // all that no redirect may lead to

	reload atomic.Pointer[reload] // the latest one

	leaving   chan struct{} // closed when an operator asked the node to leave
	leaveOnce sync.Once
}

var _ operator.Node = (*life)(nil)

func newLife(log *slog.Logger) *life {
	return &life{log: log, failed: make(chan error, 1), leaving: make(chan struct{})}
}

func (l *life) Ready() bool     { return l.ready.Load() }
func (l *life) Addrs() []string { return l.hosts.All() }
func (l *life) LeaveSoon()      { l.leaveOnce.Do(func() { close(l.leaving) }) }

// reload is how a reload of the configuration ended.
type reload struct {
	failed  error
	restart []string // keys whose changes wait for a restart
}

// Reload says why the latest reload failed, and which changes wait for a restart.
func (l *life) Reload() (failed string, restart []string) {
	switch r := l.reload.Load(); {
	case r == nil:
		return "", nil
	case r.failed != nil:
		return r.failed.Error(), r.restart
	default:
		return "", r.restart
	}
}

// Collectors returns the metrics of the node's phases, for the caller to register.
func (l *life) Collectors() []prometheus.Collector {
	return []prometheus.Collector{prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "aptmesh_config_reload_failed",
		Help: "1 while the latest reload of the configuration failed: the configuration from before it is in force.",
	}, func() float64 {
		if failed, _ := l.Reload(); failed != "" {
			return 1
		}
		return 0
	})}
}

// reloadFailed notes a reload that changed nothing: what waited for a restart before still does.
func (l *life) reloadFailed(err error) {
	_, restart := l.Reload()
	l.reload.Store(&reload{err, restart})
}

func (l *life) Stopping() string {
	if doing := l.doing.Load(); doing != nil {
		return *doing
	}
	return ""
}

// stopping notes what the node does now, for status while it stops.
func (l *life) stopping(format string, args ...any) {
	said := fmt.Sprintf(format, args...)
	l.doing.Store(&said)
	l.log.Info("stopping: the node " + said)
}

func (l *life) fail(err error) {
	select {
	case l.failed <- err:
	default: // the first one is enough
	}
}
