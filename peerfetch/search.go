package peerfetch

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

const (
	// maxSilent is how many peers in a row may fail without a word before those
	// that remain are left alone: it is probably this node that is cut off.
	maxSilent = 3
	// maxBusy is how often an owner that has the object from elsewhere is asked
	// again; busyPause is the first pause before that, twice as long each time.
	maxBusy   = 6
	busyPause = 25 * time.Millisecond
	// maxPathless is how many nodes may say that they cannot reach upstream before
	// that is believed.
	maxPathless = 2
	// shunFor is how long a peer is not asked for an object that it gave wrong, or
	// that broke off when it gave it and cannot be resumed.
	shunFor = 10 * time.Minute
)

// errElsewhere says that a source is of no use now and the next one may be.
var errElsewhere = errors.New("this source does not give it")

// errAnew says that the search begins again: bytes have arrived since it began, or
// all of them have been thrown away.
var errAnew = errors.New("the search begins again")

// errNoNode is how a search ends that may not go upstream.
var errNoNode = &proto.Unavailable{Reason: "no live node has it", RetryAfter: time.Second}

// search is a flight's walk along its sources: the nodes that hold the object, its
// owners in the order in which they take over from each other, and upstream. Each
// goes on at the byte where the one before it stopped. It belongs to flight.run.
type search struct {
	fl    *flight
	route proto.Route

	owner    string          // the one that is being asked; "" for none
	asked    map[string]bool // whether they hold it, since the last look at the route
	filled   map[string]bool // as owners, since the search began anew; this node among them
	hearsay  map[string]bool // known only from what another said: where they point is not followed
	waiting  map[string]bool // would have it of this node
	pathless map[string]bool // could not reach upstream
	lastErr  error           // what the last of them said
}

// search brings the whole body in and proves it, from whichever sources it takes.
func (fl *flight) search() error {
	s := &search{fl: fl}
	for {
		err := s.look()
		switch {
		case errors.Is(err, errAnew) && fl.ctx.Err() == nil:
			continue
		case err == nil:
			fl.f.budget.succeeded(attempt{key: fl.key})
		}
		return err
	}
}

// look tries every source once. It gives peers a second chance before it goes
// upstream for what others should have had: somebody may have it by then.
func (s *search) look() error {
	s.filled, s.pathless = make(map[string]bool), make(map[string]bool)
	s.lastErr = nil
	if !s.fl.resumable() || !s.fl.turnToPeers() {
		return s.upstream()
	}
	for chance := range 2 {
		s.renewRoute()
		if err := s.askHolders(); err != errElsewhere {
			return err
		}
		if err := s.askOwners(); err != errElsewhere {
			return err
		}
		if s.fl.isPeersOnly() {
			return errNoNode
		}
		if s.filled[s.route.Self] {
			break // upstream has been tried
		}
		if chance == 0 {
			if err := s.pause(rand.N(s.fl.f.cfg.FallbackPause)); err != nil {
				return err
			}
		}
	}
	if err := s.upstream(); err != errElsewhere {
		return err
	}
	return s.lastErr
}

func (s *search) renewRoute() {
	s.route = s.fl.f.cfg.Cluster.Route(s.fl.want)
	s.asked = make(map[string]bool)
	s.hearsay = make(map[string]bool)
	s.waiting = make(map[string]bool)
}

// askHolders asks the nodes that are believed to hold the object.
func (s *search) askHolders() error {
	if s.fl.want.Ref.IsZero() {
		return errElsewhere // nothing tells who holds what has no digest
	}
	return s.askInTurn(slices.Concat(s.fl.want.Holders, s.route.Holders))
}

// askInTurn asks peers for what they hold, one after the other, and those they
// point to.
func (s *search) askInTurn(peers []string) error {
	silent := 0
	for queue := s.worthAsking(peers); len(queue) > 0; queue = s.worthAsking(queue) {
		peer := queue[0]
		err := s.visit(peer, false, queue[1:])
		var elsewhere *proto.NotHeld
		switch {
		case errors.As(err, &elsewhere):
			s.waiting[peer] = elsewhere.Busy && slices.Contains(elsewhere.Try, s.route.Self)
			if !s.hearsay[peer] {
				queue = append(s.byHearsay(elsewhere.Try), queue...)
			}
			silent = 0
		case err != errElsewhere:
			return err
		case s.fl.silent[peer]:
			if silent++; silent == maxSilent {
				return errElsewhere
			}
		}
	}
	return errElsewhere
}

// worthAsking leaves out who has been asked, who is of no use, and this node.
func (s *search) worthAsking(peers []string) []string {
	var worth []string
	for _, peer := range peers {
		if !s.asked[peer] && s.mayAsk(peer) && !slices.Contains(worth, peer) {
			worth = append(worth, peer)
		}
	}
	return worth
}

func (s *search) mayAsk(peer string) bool {
	return peer != "" && peer != s.route.Self && !s.fl.silent[peer] && !s.pathless[peer] &&
		!s.fl.f.shunned.recently(peer, s.fl.key, time.Now())
}

// byHearsay returns those of peers that are worth asking because another said so.
func (s *search) byHearsay(peers []string) []string {
	worth := s.worthAsking(peers)
	for _, peer := range worth {
		s.hearsay[peer] = true
	}
	return worth
}

// askOwners has the owners get the object from upstream, the first that can; when
// it is this node's turn, that is upstream itself.
func (s *search) askOwners() error {
	for _, owner := range s.route.Owners {
		var err error
		switch {
		case s.filled[owner]:
			continue
		case owner == s.route.Self:
			if s.fl.isPeersOnly() {
				continue
			}
			err = s.upstream()
		case !s.mayAsk(owner):
			continue
		default:
			err = s.askOwner(owner)
		}
		if err != errElsewhere {
			return err
		}
	}
	return errElsewhere
}

// askOwner asks one owner until it gives the object or proves to be of no use. An
// owner that has the object from another node itself does not pass it on, but names
// that node. Where that is this one, or another that waits for this one, they wait
// for each other, for their rings differ: then the one whose name comes first goes
// upstream, and the others ask again.
func (s *search) askOwner(owner string) error {
	s.filled[owner] = true
	s.owner = owner
	defer func() { s.owner = "" }()
	back, pause := false, busyPause
	for busy := 0; ; {
		err := s.visit(owner, !s.fl.isPeersOnly(), nil)
		var elsewhere *proto.NotHeld
		if !errors.As(err, &elsewhere) {
			return err
		}
		if elsewhere.Busy {
			for _, named := range elsewhere.Try {
				delete(s.asked, named) // it may have got further since
			}
		}
		if err := s.askInTurn(s.byHearsay(elsewhere.Try)); err != errElsewhere {
			return err
		}
		peersOnly := s.fl.isPeersOnly()
		switch {
		case elsewhere.Busy && !peersOnly && s.firstOfCircle(owner, elsewhere.Try):
			return s.upstream()
		case elsewhere.Busy && busy < maxBusy:
			if err := s.pause(pause/2 + rand.N(pause)); err != nil {
				return err
			}
			pause *= 2
			busy++
		case !elsewhere.Busy && !back && !peersOnly:
			back = true // those it named did not have it: it will see to it itself
		default:
			return errElsewhere
		}
	}
}

// firstOfCircle reports whether owner waits, directly or for one more node, for this
// one, and the name of this one comes before theirs.
func (s *search) firstOfCircle(owner string, named []string) bool {
	self := s.route.Self
	if slices.Contains(named, self) {
		return self < owner
	}
	return self < owner && slices.ContainsFunc(named, func(peer string) bool {
		return s.waiting[peer] && self < peer
	})
}

// upstream goes upstream from here. errElsewhere says that it could not be reached
// and another owner may.
func (s *search) upstream() error {
	fl := s.fl
	if s.filled[s.route.Self] {
		return errElsewhere
	}
	s.filled[s.route.Self] = true
	if fl.body.written > 0 {
		fl.f.metrics.resumed.Inc()
	}
	fl.setFeed(feedUpstream, "")
	fl.announce()
	err := fl.fetchUpstream()
	if err == nil || fl.ctx.Err() != nil || errors.As(err, new(*held)) || !isPathless(err) {
		return err
	}
	if s.believe(s.route.Self, err) || !fl.resumable() || !fl.turnToPeers() {
		return err
	}
	fl.retract()
	return errElsewhere
}

// believe notes that a node cannot reach upstream and reports whether that makes
// enough of them.
func (s *search) believe(node string, err error) bool {
	s.pathless[node] = true
	s.lastErr = err
	return len(s.pathless) >= maxPathless
}

// awaiting names, for others that ask, whom this node waits for: as long as an owner
// is being asked, that owner, whoever else is asked meanwhile. So two nodes that wait
// for each other find out.
func (s *search) awaiting(peer string) {
	if s.owner != "" {
		peer = s.owner
	}
	s.fl.setFeed(feedAsking, peer)
}

// pause waits, or returns an error if the flight ends meanwhile.
func (s *search) pause(d time.Duration) error {
	s.awaiting("")
	select {
	case <-time.After(d):
		return nil
	case <-s.fl.ctx.Done():
		return s.fl.ctx.Err()
	}
}

// visit has one peer give what it can, and one of spare as well if that takes long
// and the object is small. It returns nil when the body is complete and proven,
// *proto.NotHeld where the peer does not have it, errElsewhere and errAnew, or what
// the flight ends with.
func (s *search) visit(peer string, fill bool, spare []string) error {
	fl := s.fl
	s.awaiting(peer)
	won, lost := s.ask(peer, fill, spare)
	var outcome error
	for _, a := range lost {
		if err := s.judge(a.peer, a.err); outcome == nil || err != errElsewhere && !errors.As(err, new(*proto.NotHeld)) {
			outcome = err
		}
	}
	if won == nil {
		return outcome
	}
	fl.setFeed(feedPeer, won.peer)
	before := fl.body.written
	err := fl.take(won)
	if err == nil || errors.Is(err, errStored) {
		return err
	}
	err = s.judge(won.peer, err)
	if err != errElsewhere && !errors.As(err, new(*proto.NotHeld)) {
		return err
	}
	switch {
	case !fl.resumable() && !fl.startOver():
		fl.shun(won.peer) // the client's next try shall not end in the same way
		return &proto.Unavailable{Reason: fmt.Sprintf("the transfer of %s from node %s broke, and nothing tells whether another is the same", fl.want.Where[0], won.peer)}
	case fl.body.written-before >= progress:
		delete(fl.silent, won.peer) // it had something: if it is alive, it still has
		return errAnew
	}
	return errElsewhere
}

// judge says what it means for the search that a peer ended with err.
func (s *search) judge(peer string, err error) error {
	fl := s.fl
	failures := fl.f.metrics.peerFailures
	var elsewhere *proto.NotHeld
	switch {
	case fl.ctx.Err() != nil, errors.Is(err, errAnew), errors.As(err, new(*ended)):
		return err
	case errors.As(err, new(*proto.PeerFailed)):
	case errors.As(err, &elsewhere):
		reason := "not_held"
		if elsewhere.Busy {
			reason = "busy"
		}
		failures.WithLabelValues(reason).Inc()
		return elsewhere
	case !toldByUpstream(err):
	case fl.isPeersOnly():
		return errElsewhere // what upstream says is no matter
	case isPathless(err) && !s.believe(peer, err):
		failures.WithLabelValues("no_upstream").Inc()
		return errElsewhere
	default:
		fl.f.budget.told(attempt{key: fl.key}, err, time.Now())
		return err
	}
	failures.WithLabelValues("unreachable").Inc()
	fl.silent[peer] = true
	fl.f.cfg.Logger.Debug("a node does not give an object", "node", peer, "location", fl.want.Where[0].String(), "error", err)
	return errElsewhere
}

// toldByUpstream reports whether err is something that a peer was told by upstream,
// and not its own trouble.
func toldByUpstream(err error) bool {
	return errors.Is(err, proto.ErrNotFound) || errors.Is(err, proto.ErrCorrupt) ||
		errors.As(err, new(*proto.Refused)) || errors.As(err, new(*proto.Unavailable))
}

// isPathless reports whether err says that upstream could not be reached, so that
// another node may have more luck.
func isPathless(err error) bool {
	var trouble *proto.Unavailable
	return errors.As(err, &trouble) && !trouble.Answered
}
