package main

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/aptmesh/aptmesh/e2e/bench/load"
	"github.com/aptmesh/aptmesh/e2e/bench/origin"
	"github.com/aptmesh/aptmesh/e2e/bench/proc"
	"github.com/aptmesh/aptmesh/e2e/lab"
)

// server is one peer set up in a directory of its own, with an origin of its own
// so that what it fetches is counted apart.
type server struct {
	peer
	place
	origin *origin.Origin
	node   *lab.Node // for what only aptmesh has
	cores  []int
	proc   *proc.Process // nil while it is stopped
	deaths int           // times it ended by itself
}

// freeAddr finds a port of the loopback interface that nobody listens on. It is
// below those the kernel hands to clients, which could take it while its server is
// stopped, and below 32768, from which on apt-cacher-ng neither listens nor connects.
func freeAddr() (string, error) {
	var err error
	for range 100 {
		var l net.Listener
		if l, err = net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 20000+rand.IntN(12000))); err == nil {
			defer l.Close()
			return l.Addr().String(), nil
		}
	}
	return "", fmt.Errorf("finding a free port: %w", err)
}

// newServer prepares a server; it does not start it.
func newServer(p peer, pl place, files map[string]origin.File, cores []int) (*server, error) {
	s := &server{peer: p, place: pl, cores: cores}
	if err := os.MkdirAll(pl.dir, 0o755); err != nil {
		return nil, err
	}
	for _, addr := range []*string{&s.addr, &s.upstream} {
		var err error
		if *addr, err = freeAddr(); err != nil {
			return nil, err
		}
	}
	s.node = s.place.node()
	var err error
	s.origin, err = origin.Start(s.upstream, files)
	return s, err
}

// start starts the server and returns how long it took until the first right
// answer to the request given; nil = until it accepts connections.
func (s *server) start(first *load.Target, patience time.Duration) (time.Duration, error) {
	if err := s.spawn(); err != nil {
		return 0, err
	}
	return s.await(func() bool { return s.answers(first) }, patience)
}

// spawn starts the server and waits for nothing.
func (s *server) spawn() error {
	cmd, err := s.command(s.place)
	if err != nil {
		return fmt.Errorf("setting up %s: %w", s.name, err)
	}
	s.proc, err = proc.Start(cmd, s.cores, s.logFile())
	return err
}

// await returns how long after its start the server was ready.
func (s *server) await(ready func() bool, patience time.Duration) (time.Duration, error) {
	for time.Since(s.proc.Started) < patience {
		if !s.proc.Alive() {
			return 0, fmt.Errorf("%s ended at once: %s", s.name, tail(s.logFile()))
		}
		if ready() {
			return time.Since(s.proc.Started), nil
		}
		time.Sleep(time.Millisecond)
	}
	return 0, fmt.Errorf("%s gave no right answer within %v: %s", s.name, patience, tail(s.logFile()))
}

func (s *server) answers(first *load.Target) bool {
	conn, err := net.DialTimeout("tcp", s.addr, time.Second)
	if err != nil {
		return false
	}
	conn.Close()
	if first == nil {
		return true
	}
	session, err := load.Dial(load.Plan{Addr: s.addr, Targets: []load.Target{*first}, Connections: 1})
	if err != nil {
		return false
	}
	defer session.Close()
	return session.Rounds(1, 10*time.Second).Failed() == 0
}

func (s *server) logFile() string { return filepath.Join(s.dir, "output.log") }

// ensure starts the server where it is not running, and counts it where it
// should have been.
func (s *server) ensure() error {
	if s.proc != nil {
		if s.proc.Alive() {
			return nil
		}
		s.deaths++
		progress("%s has ended by itself and is started again: %s", s.name, tail(s.logFile()))
	}
	_, err := s.start(nil, 20*time.Second)
	return err
}

func (s *server) stop() error {
	if s.proc == nil {
		return nil
	}
	p := s.proc
	s.proc = nil
	return p.Stop(15 * time.Second)
}

// kill ends the server as a loss of power would.
func (s *server) kill() error {
	p := s.proc
	s.proc = nil
	return p.Kill()
}

// close ends the server and its origin.
func (s *server) close() error {
	err := s.stop()
	s.origin.Close()
	return err
}

// tail returns the last lines of a log, on one line, for a message.
func tail(name string) string {
	text, err := os.ReadFile(name)
	if err != nil {
		return err.Error()
	}
	const most = 400
	if len(text) > most {
		text = text[len(text)-most:]
	}
	return fmt.Sprintf("%q", text)
}
