package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/aptmesh/aptmesh/node/listen"
)

// Node is what the interface shows and changes. An error is a sentence for the
// operator.
type Node interface {
	// Ready reports whether clients should be sent to the node.
	Ready() bool
	Status() *Status
	Why(url string) *Why
	// Refused lists what hosts ask for and the node does not serve.
	Refused() []RefusedURL
	Refresh(ctx context.Context, suite string, older bool) (*RefreshResult, error)
	Drop(suite string) (*DropResult, error)
	// Remove has a missing node forgotten by all nodes of the cluster.
	Remove(name string) (*RemoveResult, error)
	// Leave begins to drain and returns at once.
	Leave() (*LeaveResult, error)
	Snapshots
	Mirrors
	Hosts
	Offline
}

// Config is what a Server needs. Without an address Socket means nothing.
type Config struct {
	Settings
	// Socket is the unix socket for changes of a node whose address is TCP. Its directory
	// is made for the node's own user only.
	Socket  string
	Node    Node
	Metrics *prometheus.Registry
	// Failed is called when a listener ends by itself.
	Failed func(error)
}

// Server answers the admin interface.
type Server struct {
	cfg     Config
	tcp     string // the real address of the TCP listener
	socket  string // the path of the unix socket; "" while there is none
	ready   string // the real address of the listener for load balancers
	servers []*http.Server
}

// Listen binds the configured addresses and serves until Close.
func Listen(ctx context.Context, cfg Config) (*Server, error) {
	s := &Server{cfg: cfg}
	if err := s.listen(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *Server) listen(ctx context.Context) error {
	if at := s.cfg.ReadyAddress; at != "" {
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", at)
		if err != nil {
			return fmt.Errorf("ready_listen: %w", err)
		}
		s.ready = l.Addr().String()
		s.serve(l, s.health())
	}
	if s.cfg.Address == "" {
		return nil
	}
	path, isSocket := socketPath(s.cfg.Address)
	if !isSocket {
		if err := s.cfg.CheckAddress(); err != nil {
			return fmt.Errorf("admin: %w", err)
		}
		if err := s.cfg.CheckToken(); err != nil {
			return fmt.Errorf("admin_token_file: %w", err)
		}
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", s.cfg.Address)
		if err != nil {
			return fmt.Errorf("admin: %w", err)
		}
		s.tcp = l.Addr().String()
		guard := tcpGuard{server: s, loopback: listen.IsLoopback(s.cfg.Address)}
		s.serve(l, guard.protect(s.everything()))
		path = s.cfg.Socket
	}
	l, err := listenUnix(ctx, path, !isSocket)
	if err != nil {
		return fmt.Errorf("admin: %w", err)
	}
	s.socket = path
	s.serve(l, sameOrigin(s.everything()))
	return nil
}

func (s *Server) serve(l net.Listener, h http.Handler) {
	server := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	s.servers = append(s.servers, server)
	go func() {
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			s.cfg.Failed(fmt.Errorf("the admin interface at %s ended: %w", l.Addr(), err))
		}
	}()
}

// Addr is the address for a [Client]: TCP where there is some, else the socket,
// else "".
func (s *Server) Addr() string {
	switch {
	case s.tcp != "":
		return s.tcp
	case s.socket != "":
		return "unix:" + s.socket
	}
	return ""
}

// Socket is the path of the unix socket, "" where there is none.
func (s *Server) Socket() string { return s.socket }

// TCP are the addresses of all TCP listeners.
func (s *Server) TCP() []string {
	var all []string
	for _, at := range []string{s.tcp, s.ready} {
		if at != "" {
			all = append(all, at)
		}
	}
	return all
}

// Close ends all listeners and connections.
func (s *Server) Close() error {
	var errs []error
	for _, server := range s.servers {
		errs = append(errs, server.Close())
	}
	return errors.Join(errs...)
}

// health answers what a load balancer asks.
func (s *Server) health() *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "alive")
	})
	// A degraded store still serves, so it does not make the node unready.
	mux.HandleFunc("GET /ready", func(w http.ResponseWriter, _ *http.Request) {
		if !s.cfg.Node.Ready() {
			http.Error(w, "not ready: starting or draining", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ready")
	})
	return mux
}

// everything answers the whole interface.
func (s *Server) everything() http.Handler {
	mux, node := s.health(), s.cfg.Node
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.cfg.Metrics, promhttp.HandlerOpts{Registry: s.cfg.Metrics}))
	mux.HandleFunc("GET "+statusPath, func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, node.Status())
	})
	mux.HandleFunc("GET "+whyPath, func(w http.ResponseWriter, r *http.Request) {
		answer(w, http.StatusOK, node.Why(r.FormValue("url")))
	})
	mux.HandleFunc("GET "+refusedPath, func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, node.Refused())
	})
	mux.HandleFunc("POST "+refreshPath, func(w http.ResponseWriter, r *http.Request) {
		result, err := node.Refresh(r.Context(), r.FormValue("suite"), r.FormValue("older") == "1")
		answerOr(w, http.StatusBadGateway, result, err)
	})
	mux.HandleFunc("POST "+dropPath, func(w http.ResponseWriter, r *http.Request) {
		result, err := node.Drop(r.FormValue("suite"))
		answerOr(w, http.StatusConflict, result, err)
	})
	mux.HandleFunc("POST "+removePath, func(w http.ResponseWriter, r *http.Request) {
		result, err := node.Remove(r.FormValue("node"))
		answerOr(w, http.StatusConflict, result, err)
	})
	serveSnapshots(mux, node)
	serveMirrors(mux, node)
	serveHosts(mux, node)
	serveOffline(mux, node)
	mux.HandleFunc("POST "+leavePath, func(w http.ResponseWriter, _ *http.Request) {
		result, err := node.Leave()
		answerOr(w, http.StatusConflict, result, err)
	})
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return mux
}

// answerOr answers with the result, or with that status where there is an error.
func answerOr(w http.ResponseWriter, status int, result any, err error) {
	if err != nil {
		var said *Error
		if !errors.As(err, &said) {
			said = &Error{Message: err.Error()}
		}
		answer(w, status, said)
		return
	}
	answer(w, http.StatusOK, result)
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	_ = encoder.Encode(v) // an error means that the client has gone
}
