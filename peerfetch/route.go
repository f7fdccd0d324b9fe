package peerfetch

import (
	"errors"
	"slices"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

const (
	// maxSilent is how many peers in a row may fail without an answer before the
	// remaining ones are not asked: it is probably this node that is cut off.
	maxSilent = 3
	// maxBusy is how often an owner that fetches the object from another peer is
	// asked again; busyPause is the first pause before that, and doubles each time.
	maxBusy   = 6
	busyPause = 25 * time.Millisecond
	// maxAnswers is how many nodes must say the same of upstream before it is believed: that it
	// cannot be reached, or that it does not give an object that signed metadata lists. One site
	// behind a filter must not fail its share of all objects.
	maxAnswers = 2
)

// errNoNode is how a flight ends that may not go upstream.
var errNoNode = &proto.Unavailable{Reason: "no live node has it", RetryAfter: time.Second}

// route is the order in which a flight asks its sources, one step at a time: the nodes that are
// believed to store the object, its owners in the order of failover, and upstream. It decides by the
// outcomes that nodeEnded and upstreamEnded report. It does no I/O, reads no clock, and belongs to
// flight.run.
type route struct {
	routing
	view proto.Route // the result of the last locate

	stage      stage
	located    int             // how often, in this round
	queue      []string        // nodes to be asked for what they store, in order
	silences   int             // nodes of the queue that failed, in a row
	owner      owner           // the owner that is asked now
	asked      map[string]bool // nodes that were asked for what they store, since the last locate
	hearsay    map[string]bool // nodes named by other nodes: the nodes that they name are not asked
	waiting    map[string]bool // nodes that wait for this node
	owned      map[string]bool // owners that were asked in this round, and this node
	revivals   map[string]int  // how often a node failed after it had sent bytes
	useless    map[string]bool // to this flight
	ownWayNext bool            // an owner waited in vain for upstream
	answers    []nodeAnswer    // of nodes, in this round, about upstream
	end        step            // how the flight ends, once that is decided
}

// routing is what a route knows of its flight. All functions return at once.
type routing struct {
	locate    func() proto.Route // which nodes may have the object now
	avoid     func(peer string) bool
	mayAsk    func() bool                       // other nodes: none follows the flight, and the rest can come from any
	peersOnly func() bool                       // no reader wants it from upstream
	random    func(time.Duration) time.Duration // from zero to the one given
	pause     time.Duration                     // at most, before this node asks upstream for what it expected from other nodes
	holders   []string                          // besides those that locate names
	digest    bool                              // the object has one, so nodes know which of them store it
	listed    bool                              // signed metadata lists the object
}

// owner is the owner that is asked now.
type owner struct {
	name  string           // "" for none
	said  *proto.NotStored // its last answer, if that was one
	busy  int              // how often it was fetching the object from another node
	back  bool             // it was asked again after the nodes that it named did not have the object
	pause time.Duration    // the next one before it is asked again
	ready bool             // that pause is over
	wrong int              // how often it found one of its mirrors corrupt and has others
	next  bool             // ask it again at once, because it has another mirror
}

// nodeAnswer is how upstream answered a node.
type nodeAnswer struct {
	node string
	outcome
}

type stage uint8

const (
	beginning stage = iota
	amongNodes
	pausing // before another look: somebody may have it by then
	ownWay  // this node asks upstream
	ending
)

// step is what a flight does next.
type step struct {
	do      action
	peer    string
	fill    bool          // the peer may go upstream
	spare   string        // a peer to be asked as well if that takes long; "" for none
	wait    time.Duration // with pause
	err     error         // with end
	hearsay bool          // with end: err is what other nodes say of upstream
}

type action uint8

const (
	askPeer action = iota
	askUpstream
	pause
	end
)

func newRoute(r routing) *route {
	return &route{routing: r, useless: make(map[string]bool), revivals: make(map[string]int)}
}

// again begins the route anew: bytes have arrived since it began, or all of them have been thrown
// away.
func (r *route) again() { r.stage = beginning }

// next returns the next step. The caller reports how it ended to nodeEnded or upstreamEnded, except
// for a pause.
func (r *route) next() step {
	for {
		switch r.stage {
		case beginning:
			r.owned, r.answers, r.located, r.owner = make(map[string]bool), nil, 0, owner{}
			if !r.mayAsk() {
				r.goUpstream()
				continue
			}
			r.locateAgain()
		case amongNodes:
			if s, ok := r.nextHolder(); ok {
				return s
			}
			if s, ok := r.nextOwner(); ok {
				return s
			}
		case pausing:
			r.locateAgain()
		case ownWay:
			return step{do: askUpstream}
		case ending:
			return r.end
		}
	}
}

// locateAgain asks which nodes may have the object. Nodes that were asked before may be asked again.
func (r *route) locateAgain() {
	r.view = r.locate()
	r.located++
	r.asked, r.hearsay, r.waiting = make(map[string]bool), make(map[string]bool), make(map[string]bool)
	r.queue, r.silences = nil, 0
	if r.digest {
		r.queue = slices.Concat(r.holders, r.view.Holders)
	}
	r.stage = amongNodes
}

// nextHolder is the next node that is believed to hold the object.
func (r *route) nextHolder() (step, bool) {
	if r.queue = r.worthAsking(r.queue); len(r.queue) == 0 {
		return step{}, false
	}
	s := step{do: askPeer, peer: r.queue[0]}
	if r.queue = r.queue[1:]; len(r.queue) > 0 {
		s.spare = r.queue[0]
	}
	r.asked[s.peer] = true
	return s, true
}

// nextOwner has the owners get the object from upstream, the first that can; when it is this
// node's turn, that is upstream itself. Without an owner left there is another look, and then this
// node goes upstream whether it is an owner or not. False says that the stage has changed.
func (r *route) nextOwner() (step, bool) {
	if s, ok := r.sameOwner(); ok || r.stage != amongNodes {
		return s, ok
	}
	if r.ownWayNext && !r.owned[r.view.Self] && !r.peersOnly() {
		r.goUpstream()
		return step{}, false
	}
	for _, name := range r.view.Owners {
		switch {
		case r.owned[name]:
		case name == r.view.Self:
			if !r.peersOnly() {
				r.goUpstream()
				return step{}, false
			}
		case r.mayAskNode(name):
			r.owned[name], r.asked[name] = true, true
			r.owner = owner{name: name, pause: busyPause}
			return step{do: askPeer, peer: name, fill: !r.peersOnly()}, true
		}
	}
	switch {
	case r.peersOnly():
		r.finish(errNoNode, false)
	case r.owned[r.view.Self]:
		r.finish(r.combined())
	case r.located == 1:
		r.stage = pausing
		return step{do: pause, wait: r.random(r.pause)}, true
	default:
		r.goUpstream()
	}
	return step{}, false
}

// sameOwner asks the same owner again, if that makes sense. An owner that fetches the object from
// another node does not pass it on, but names that node. If the named node is this one, or waits for
// this one, the nodes wait for each other, because their rings differ. Then the node whose name
// comes first asks upstream, and the others ask again.
func (r *route) sameOwner() (step, bool) {
	o := &r.owner
	said, peersOnly := o.said, r.peersOnly()
	ask := step{do: askPeer, peer: o.name, fill: !peersOnly}
	switch {
	case o.name != "" && o.next:
		o.next = false
		return ask, true
	case o.name == "" || said == nil:
		o.name = ""
		return step{}, false
	}
	switch {
	case said.Busy && o.ready:
		o.ready = false
	case said.Busy && !peersOnly && r.firstOfCircle(o.name, said.Try):
		r.goUpstream()
		return step{}, false
	case said.Busy && o.busy < maxBusy:
		wait := o.pause/2 + r.random(o.pause)
		o.busy, o.pause, o.ready = o.busy+1, 2*o.pause, true
		return step{do: pause, wait: wait}, true
	case !said.Busy && !o.back && !peersOnly:
		o.back = true // the nodes that it named did not have it: it fetches it itself
	default:
		o.name = ""
		return step{}, false
	}
	o.said = nil
	r.asked[o.name] = true
	return ask, true
}

// firstOfCircle reports whether owner waits, directly or for one more node, for this
// one, and the name of this one comes before theirs.
func (r *route) firstOfCircle(owner string, named []string) bool {
	self := r.view.Self
	if slices.Contains(named, self) {
		return self < owner
	}
	return self < owner && slices.ContainsFunc(named, func(peer string) bool {
		return r.waiting[peer] && self < peer
	})
}

// worthAsking leaves out nodes that have been asked or are of no use, and this node.
func (r *route) worthAsking(peers []string) []string {
	var worth []string
	for _, peer := range peers {
		if !r.asked[peer] && r.mayAskNode(peer) && !slices.Contains(worth, peer) {
			worth = append(worth, peer)
		}
	}
	return worth
}

func (r *route) mayAskNode(peer string) bool {
	return peer != "" && peer != r.view.Self && !r.useless[peer] && !r.avoid(peer) &&
		!slices.ContainsFunc(r.answers, func(w nodeAnswer) bool { return w.node == peer })
}

// goUpstream lets this node ask upstream, once in a round.
func (r *route) goUpstream() {
	r.owner = owner{}
	switch {
	case r.owned[r.view.Self]:
		r.finish(r.combined())
	case r.peersOnly():
		r.finish(errNoNode, false)
	default:
		r.owned[r.view.Self] = true
		r.stage = ownWay
	}
}

// waitsFor names the node that this node waits for while it asks peer, for other nodes that ask. It
// is the owner as long as an owner is asked, even if peer is another node. So two nodes that wait
// for each other find out.
func (r *route) waitsFor(peer string) string {
	if r.owner.name != "" {
		return r.owner.name
	}
	return peer
}

// alsoAsked notes that the spare of a step was asked as well.
func (r *route) alsoAsked(peer string) { r.asked[peer] = true }

// nodeEnded records how asking a node ended, except for a complete body. fill is as in the step,
// and false for a spare.
func (r *route) nodeEnded(fill bool, o outcome) {
	switch o.verdict {
	case discarded:
		r.again()
	case lacking:
		r.notStored(fill, o)
	case slow:
		// Upstream is slow at an owner. This node's own way may be quicker; other owners would cost
		// as long once more.
		r.failed(o.by.peer, fill)
		r.ownWayNext = true
	default:
		if r.promisesBetter(fill, o) {
			r.owner.next = true
			r.owner.wrong++
			return
		}
		if o.verdict.ofUpstream() {
			r.noteAnswer(o.by.peer, o)
			return
		}
		r.failed(o.by.peer, fill)
	}
}

// promisesBetter reports whether the owner found one of its mirrors corrupt and has another mirror.
// Any other owner would first have to find the corrupt mirror out for itself.
func (r *route) promisesBetter(fill bool, o outcome) bool {
	var busy *proto.Unavailable
	return o.verdict == corrupt && fill && r.owner.name == o.by.peer && r.owner.wrong < maxLapses &&
		errors.As(o.err, &busy) && busy.Wrong && busy.RetryAfter == 0
}

// failed notes that a node is of no use to this flight.
func (r *route) failed(peer string, fill bool) {
	r.useless[peer] = true
	if fill {
		r.owner = owner{}
		return
	}
	if r.silences++; r.silences == maxSilent {
		r.queue = nil
	}
}

// abandon keeps the flight from a node.
func (r *route) abandon(peer string) { r.useless[peer] = true }

// maxRevivals is how often a node that broke off in the middle is asked for the rest.
const maxRevivals = 16

// revived begins the route anew after a node that had sent bytes failed: if the node is alive, it
// still has more. A node that always breaks off is excluded in the end.
func (r *route) revived(peer string) {
	if r.revivals[peer]++; r.revivals[peer] <= maxRevivals {
		delete(r.useless, peer)
	}
	r.again()
}

// notStored records that a node does not give the object, and which nodes it names.
func (r *route) notStored(fill bool, o outcome) {
	said := new(proto.NotStored)
	errors.As(o.err, &said)
	peer := o.by.peer
	r.silences = 0
	if !fill {
		r.waiting[peer] = said.Busy && slices.Contains(said.Try, r.view.Self)
		if !r.hearsay[peer] {
			r.queue = append(r.byHearsay(said.Try), r.queue...)
		}
		return
	}
	r.owner.said = said
	if said.Busy {
		for _, named := range said.Try {
			delete(r.asked, named) // it may have got further since
		}
	}
	r.queue = r.byHearsay(said.Try)
}

// byHearsay returns those of peers that are worth asking, and notes that another node named them.
func (r *route) byHearsay(peers []string) []string {
	worth := r.worthAsking(peers)
	for _, peer := range worth {
		r.hearsay[peer] = true
	}
	return worth
}

// noteAnswer records how upstream answered a node, this one included. It ends the route if enough
// nodes got the same answer.
func (r *route) noteAnswer(node string, o outcome) {
	if r.owner.name == node {
		r.owner = owner{}
	}
	if r.peersOnly() {
		return // what upstream says is no matter
	}
	r.answers = append(r.answers, nodeAnswer{node, o})
	if r.believes(o) {
		r.finish(o.err, node != r.view.Self)
	}
}

// upstreamEnded records how this node's own attempts at upstream ended.
func (r *route) upstreamEnded(o outcome) {
	if o.verdict.ofUpstream() {
		r.stage = amongNodes
		r.noteAnswer(r.view.Self, o)
	}
	if !r.ended() && (!o.verdict.ofUpstream() || !r.mayAsk()) {
		r.finish(o.err, false)
	}
}

// ended reports whether the next step is the last.
func (r *route) ended() bool { return r.stage == ending }

// believes reports whether enough nodes got the same answer as o, the last one. If upstream asked to
// wait, no other node asks it either. After wrong content the pause is the node's own, and another
// node may have better mirrors.
func (r *route) believes(o outcome) bool {
	asksToWait := retryAfter(o.err) > 0 && o.verdict != corrupt
	if o.verdict != unreachable && (!r.listed || asksToWait) {
		return true
	}
	same := 0
	for _, w := range r.answers {
		if (w.verdict == unreachable) == (o.verdict == unreachable) {
			same++
		}
	}
	return same >= maxAnswers
}

// combined is the result of all answers of this round, and whether other nodes gave any of them.
func (r *route) combined() (err error, hearsay bool) {
	var said []error
	for _, w := range r.answers {
		said = append(said, w.err)
		hearsay = hearsay || w.node != r.view.Self
	}
	if err = worst(said); err == nil {
		return errNoNode, false
	}
	return err, hearsay
}

func (r *route) finish(err error, hearsay bool) {
	r.stage, r.end = ending, step{do: end, err: err, hearsay: hearsay}
}
