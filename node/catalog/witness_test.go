package catalog

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/node/format/rpm"
	"github.com/aptmesh/aptmesh/node/format/rpm/rpmarchive"
	"github.com/aptmesh/aptmesh/proto"
)

const witnessURL = "https://mirrors.example.org/metalink?repo=os"

// witness is the server of the metalink of os.
type witness struct {
	mu    sync.Mutex
	text  []byte // nil: it does not answer
	asked int
}

func (s *witness) names(current []byte, alternates ...[]byte) {
	var others []rpmarchive.Named
	for _, a := range alternates {
		others = append(others, rpmarchive.Named{Repomd: a})
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.text = rpmarchive.Metalink(rpmarchive.Named{Repomd: current}, others...)
}

func (s *witness) silence() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.text = nil
}

func (s *witness) requests() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked
}

func (s *witness) read(_ context.Context, archive, url string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	if archive != "a" || url != witnessURL {
		return nil, errors.New("there is no such metalink")
	}
	if s.text == nil {
		return nil, errors.New("the server does not answer")
	}
	return s.text, nil
}

// useWitness makes the archive one of RPM repositories that metalinks vouch for.
func (w *world) useWitness(s *witness) {
	a := &w.cfg.Archives[0]
	a.Format = rpm.New(rpm.Config{Metalink: func(proto.Suite) string { return witnessURL }})
	w.cfg.Witness = s.read
}

// rpmPublications are two publications of one repository, and what its root is in each.
func rpmPublications(w *world) (first, second *rpmarchive.Repo, root1, root2 []byte) {
	first = &rpmarchive.Repo{Date: time.Now().Add(-time.Hour), Packages: []rpmarchive.Package{{Name: "hello"}}}
	second = &rpmarchive.Repo{Date: time.Now().Add(-time.Minute), Packages: []rpmarchive.Package{{Name: "hello"}, {Name: "later"}}}
	w.show(first)
	return first, second, first.Render("os/")[rpmRoot], second.Render("os/")[rpmRoot]
}

// A root counts while the metalink names it. One that the metalink does not know yet waits, and hosts
// get the one before.
func TestWitness(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w, s := newWorld(t), &witness{}
		w.useWitness(s)
		_, second, root1, root2 := rpmPublications(w)
		w.open()
		if _, err := w.discover(rpmRoot); err == nil || !strings.Contains(err.Error(), "does not answer") {
			t.Fatalf("without a metalink: %v", err)
		}
		s.names(root2)
		time.Sleep(time.Minute)
		if _, err := w.discover(rpmRoot); err == nil || !strings.Contains(err.Error(), "vouched for") {
			t.Fatalf("a root that is not named: %v", err)
		}
		s.names(root2, root1) // an alternate
		time.Sleep(2 * time.Minute)
		w.listedAs(rpmRoot, root1)
		s.names(root1)
		w.show(second)
		time.Sleep(3 * time.Minute)
		w.listedAs(rpmRoot, root1)
		s.names(root2, root1)
		time.Sleep(2 * time.Minute)
		w.listedAs(rpmRoot, root2)

		// The metalink is asked with each check, and a check fails where it does not name any more what
		// the mirror still has.
		asked := s.requests()
		time.Sleep(10 * time.Minute)
		if n := s.requests() - asked; n < 8 || n > 12 {
			t.Errorf("the metalink was asked %d times in ten checks", n)
		}
		if _, err := w.Refresh(context.Background(), rpmSuite, false); err != nil {
			t.Errorf("a root that is still named: %v", err)
		}
		s.names([]byte("another"))
		time.Sleep(time.Minute)
		if _, err := w.Refresh(context.Background(), rpmSuite, false); err == nil {
			t.Error("a check of a root that is no longer named went well")
		}
		w.listedAs(rpmRoot, root2) // it stays, as it does when upstream is down

		// After a restart it is served without any metalink.
		s.silence()
		after := w.crash()
		after.listedAs(rpmRoot, root2)
	})
}

// Mirrors that all show an earlier root lag while the metalink names the one that is served as the current
// one. What the metalink names as current after that, the publisher has gone back to.
func TestWitnessOfGoingBack(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w, s := newWorld(t), &witness{}
		w.useWitness(s)
		w.cfg.Archives[0].AcceptOlder = 15 * time.Minute
		first, second, root1, root2 := rpmPublications(w)
		s.names(root2, root1)
		w.show(second)
		w.open()
		w.must(rpmRoot)
		w.show(first)
		time.Sleep(2 * time.Hour)
		w.listedAs(rpmRoot, root2)
		s.names([]byte("a third one"), root1, root2)
		time.Sleep(2 * time.Hour)
		w.listedAs(rpmRoot, root2)
		s.names(root1)
		time.Sleep(14 * time.Minute)
		w.listedAs(rpmRoot, root2)
		time.Sleep(5 * time.Minute)
		w.listedAs(rpmRoot, root1)
	})
}

// In a cluster the root is read from upstream once. Each node reads the metalink, and takes the
// leader's word only where it cannot.
func TestWitnessInACluster(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFleet(t, 3)
		servers := make([]*witness, 3)
		for i, n := range f.nodes {
			servers[i] = &witness{}
			n.useWitness(servers[i])
			n.cfg.LeaderVouches = true
		}
		_, second, root1, root2 := rpmPublications(f.nodes[0].world)
		for _, s := range servers {
			s.names(root1)
		}
		f.start()
		for _, n := range f.nodes {
			if _, err := n.discover(rpmRoot); err != nil {
				t.Fatal(err)
			}
		}
		f.settled(5 * time.Minute)
		f.forget()
		servers[0].names(root2, root1)
		servers[1].silence()
		f.nodes[0].show(second)
		f.settled(3 * time.Minute)
		f.nodes[0].listedAs(rpmRoot, root2)
		f.nodes[1].listedAs(rpmRoot, root2)
		f.nodes[2].listedAs(rpmRoot, root1) // its metalink knows nothing of it
		servers[2].names(root2, root1)
		f.settled(5 * time.Minute)
		f.nodes[2].listedAs(rpmRoot, root2)
	})
}

var rpmSuite = proto.Suite{Archive: "a", Dir: "os"}
