package archives

import (
	"log/slog"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/node/archives/archiveconf"
	"github.com/aptmesh/aptmesh/node/catalog"
	"github.com/aptmesh/aptmesh/node/config"
	"github.com/aptmesh/aptmesh/node/front"
	"github.com/aptmesh/aptmesh/node/mirrorlist"
	"github.com/aptmesh/aptmesh/node/upstream"
)

// rooms are told of archives. The catalog takes its time until held is closed.
type rooms struct {
	held  chan struct{} // nil: it takes none
	began chan struct{}
	front []string // the archives that hosts can reach
}

type upstreamRoom struct{}

func (upstreamRoom) Reconfigure(upstream.Config) error { return nil }

func (r *rooms) Reconfigure([]catalog.Archive) error {
	if r.held != nil {
		close(r.began)
		<-r.held
	}
	return nil
}

func (r *rooms) Apply(rules front.Rules) error {
	r.front = nil
	for _, a := range rules.Archives {
		r.front = append(r.front, a.Name)
	}
	return nil
}

// Hosts that ask for an archive of a class while it is being made wait until all rooms have it.
func TestEnsureWaitsForAllRooms(t *testing.T) {
	class := archiveconf.New("ppa")
	class.Upstream, class.Unsigned = "http://ppa.example.org/*/*/ubuntu", true
	cfg := config.Default()
	cfg.UpstreamClient.AuthConf = nil
	cfg.Archives = []archiveconf.Archive{class}
	log := slog.New(slog.DiscardHandler)
	r := &rooms{}
	a, err := New(Config{
		Configured: cfg, Table: NewTable(cfg, keptLists{}, log), Lists: mirrorlist.New(mirrorlist.Config{State: keptLists{}, Logger: log}),
		Upstream: upstreamRoom{}, Catalog: r, Front: r, State: keptLists{}, Logger: log,
	})
	if err != nil {
		t.Fatal(err)
	}
	const name = "ppa/alice/tools"
	r.held, r.began = make(chan struct{}), make(chan struct{})
	done := make(chan error, 2)
	go func() { done <- a.Ensure(name, "10.0.0.1") }()
	<-r.began
	go func() { done <- a.Ensure(name, "10.0.0.1") }()
	select {
	case err := <-done:
		t.Fatalf("a host is let in before all rooms have the archive (%v)", err)
	case <-time.After(100 * time.Millisecond):
	}
	close(r.held)
	for range 2 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if len(r.front) != 1 || r.front[0] != name {
		t.Errorf("hosts reach %q", r.front)
	}
}
