package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// startAdmin binds the admin interface, if there is one.
func (n *Node) startAdmin(ctx context.Context) error {
	addr := n.cfg.Admin
	if addr == "" {
		return nil
	}
	l, err := listenAdmin(ctx, addr)
	if err != nil {
		return fmt.Errorf("admin: %w", err)
	}
	n.mu.Lock()
	n.adminAddr = l.Addr().String()
	if path, ok := adminSocket(addr); ok {
		n.adminAddr = "unix:" + path
	}
	n.mu.Unlock()
	server := &http.Server{Handler: n.adminHandler(), ReadHeaderTimeout: 10 * time.Second}
	// It stops after the door: an operator can watch the node drain.
	n.onStop("admin", func(context.Context) error { return server.Close() })
	go func() {
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			n.fail(fmt.Errorf("the admin interface at %s ended: %w", addr, err))
		}
	}()
	return nil
}

// listenAdmin listens at "host:port" or on a unix socket that its owner and group
// may use; the socket of a node that was killed is replaced.
func listenAdmin(ctx context.Context, addr string) (net.Listener, error) {
	path, ok := adminSocket(addr)
	if !ok {
		return listen(ctx, addr)
	}
	if c, err := net.Dial("unix", path); err == nil {
		c.Close()
		return nil, fmt.Errorf("another process listens on %s", path)
	} else if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o660); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// adminHandler routes the admin interface.
func (n *Node) adminHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "alive")
	})
	mux.HandleFunc("GET /ready", n.handleReady)
	mux.Handle("GET /metrics", promhttp.HandlerFor(n.metrics, promhttp.HandlerOpts{Registry: n.metrics}))
	mux.HandleFunc("GET "+adminStatusPath, func(w http.ResponseWriter, _ *http.Request) {
		answerJSON(w, http.StatusOK, n.Status())
	})
	mux.HandleFunc("GET "+adminWhyPath, func(w http.ResponseWriter, r *http.Request) {
		answerJSON(w, http.StatusOK, n.Why(r.FormValue("url")))
	})
	mux.HandleFunc("GET "+adminRefusedPath, func(w http.ResponseWriter, _ *http.Request) {
		answerJSON(w, http.StatusOK, n.front.Refused())
	})
	mux.HandleFunc("POST "+adminRefreshPath, n.handleRefresh)
	mux.HandleFunc("POST "+adminDropPath, n.handleDrop)
	mux.HandleFunc("POST "+adminLeavePath, n.handleLeave)
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return mux
}

// handleReady is for health checks: 200 while clients should be sent here. A
// degraded store still serves, so it does not make the node unready.
func (n *Node) handleReady(w http.ResponseWriter, _ *http.Request) {
	if !n.ready.Load() {
		http.Error(w, "not ready: starting or draining", http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ready")
}

func (n *Node) handleRefresh(w http.ResponseWriter, r *http.Request) {
	result, err := n.Refresh(r.Context(), r.FormValue("suite"), r.FormValue("older") == "1")
	if err != nil {
		answerJSON(w, http.StatusBadGateway, AdminError{err.Error()})
		return
	}
	answerJSON(w, http.StatusOK, result)
}

func (n *Node) handleDrop(w http.ResponseWriter, r *http.Request) {
	result, err := n.Drop(r.FormValue("suite"))
	if err != nil {
		answerJSON(w, http.StatusConflict, AdminError{err.Error()})
		return
	}
	answerJSON(w, http.StatusOK, result)
}

func (n *Node) handleLeave(w http.ResponseWriter, _ *http.Request) {
	if n.cluster == nil {
		answerJSON(w, http.StatusConflict, AdminError{"this node stands alone: there is no cluster to leave (to stop it, end the process with SIGTERM)"})
		return
	}
	drain := n.drain()
	answerJSON(w, http.StatusOK, LeaveResult{
		Node: n.opts.Name, WithinSeconds: int64((drain.Delay + drain.Handoff + drain.Timeout).Seconds()),
		Message: "it stops being ready, hands on what only it holds, leaves the cluster, and ends",
	})
	n.Leave()
}

func answerJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	_ = encoder.Encode(v) // the client has gone; there is nobody to tell
}
