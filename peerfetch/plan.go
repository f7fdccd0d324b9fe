package peerfetch

import (
	"fmt"
	"strings"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// Plan says in sentences what Open would do about want at this moment.
func (f *Fetcher) Plan(object proto.ObjectRequest) []string {
	if blob, err := f.stored(&object); err == nil {
		defer blob.Close()
		return []string{fmt.Sprintf("This node stores it (%s).", blob.Tier)}
	}
	if said := f.planInFlight(object); said != "" {
		return []string{said}
	}
	if !object.Where.IsZero() {
		if err := f.mayStart(f.keyOf(object), object); err != nil {
			return []string{f.planRefused(object, err)}
		}
	}
	plan, _ := f.planRoute(object, false)
	return plan
}

// PlanOffline is Plan where this node asks no upstream for the object. nodes reports whether another node would be
// asked, which may have it or fetch it.
func (f *Fetcher) PlanOffline(object proto.ObjectRequest) (plan []string, nodes bool) {
	return f.planRoute(object, true)
}

// planRefused says why no source would be asked at this moment, and until when.
func (f *Fetcher) planRefused(object proto.ObjectRequest, err error) string {
	if a, ok := f.absence(object, time.Now()); ok {
		return fmt.Sprintf("Upstream said at %s that it has no such file. Nobody is asked again before %s, unless the archive publishes something earlier.",
			clock(a.said), clock(a.until))
	}
	return fmt.Sprintf("Nobody would be asked now, for the last answer was: %v.", err)
}

func clock(t time.Time) string { return t.UTC().Format("15:04:05 MST") }

// planInFlight describes the flight that a request would join; "" if there is none.
func (f *Fetcher) planInFlight(object proto.ObjectRequest) string {
	fl := f.flightOf(object)
	if fl == nil {
		return ""
	}
	now := fl.describe()
	source := "a source still to be found"
	switch {
	case now.Mirror != "":
		source = "upstream (" + now.Mirror + ")"
	case now.Source == "upstream":
		source = now.Source
	case now.Source != "":
		source = "node " + now.Source
	}
	size := "a size not known yet"
	if now.Ref.Size != proto.UnknownSize {
		size = fmt.Sprintf("%d bytes", now.Ref.Size)
	}
	return fmt.Sprintf("It is being fetched from %s: %d of %s are here, %d readers follow, and a request would join them.",
		source, now.Written, size, now.Readers)
}

// planRoute walks the route that a flight would take if each node failed, until this node asks
// upstream, and describes the steps.
func (f *Fetcher) planRoute(object proto.ObjectRequest, offline bool) (plan []string, nodes bool) {
	r := routingOf(f, f.keyOf(object), object)
	r.mayAsk = func() bool { return f.cfg.Cluster != nil }
	r.peersOnly = func() bool { return object.PeersOnly }
	r.random = func(most time.Duration) time.Duration { return most }
	route := newRoute(r)
	var holders, owners []string
	last := route.next()
	for ; last.do == askPeer; last = route.next() {
		verdict := failed
		if route.owner.name == "" {
			holders, verdict = append(holders, last.peer), lacking
		} else {
			owners = append(owners, last.peer)
		}
		route.nodeEnded(last.fill, outcome{verdict: verdict, by: byteSource{peer: last.peer}})
	}
	nodes = len(holders)+len(owners) > 0
	if continuable(&object) {
		if left := f.cfg.Store.PartialSize(object.Ref, object.Where.First.Archive); left > 0 {
			plan = append(plan, fmt.Sprintf("An earlier fetch left up to %d of its %d bytes on this node's disk: the rest would be fetched.", left, object.Ref.Size))
		}
	}
	switch {
	case f.cfg.Cluster == nil || !r.digest:
	case len(holders) > 0:
		plan = append(plan, fmt.Sprintf("Believed to store it, and asked first: %s.", strings.Join(holders, ", ")))
	default:
		plan = append(plan, "No other node is believed to store it.")
	}
	if last.do == end {
		return append(plan, "Only other nodes may be asked for it."), nodes
	}
	unless := ""
	if offline {
		unless = ", unless it is offline, too"
	}
	for i, owner := range owners {
		plan = append(plan, fmt.Sprintf("Owner no. %d, %s, would fetch it from upstream for all%s.", i+1, owner, unless))
	}
	switch {
	case offline:
		return append(plan, "This node asks no upstream for it (offline: true)."), nodes
	case f.cfg.Cluster == nil:
		plan = append(plan, "It would be fetched from upstream.")
	case last.do == pause:
		plan = append(plan, fmt.Sprintf("If all fail, this node waits up to %s, looks again which nodes store it, and then asks upstream itself.",
			last.wait.Round(time.Millisecond)))
	case len(owners) == 0:
		plan = append(plan, "This node is its owner and fetches it from upstream for all.")
	default:
		plan = append(plan, "This node is the next owner and fetches it from upstream if those before it fail.")
	}
	return append(plan, f.planTargets(object)...), nodes
}

// planTargets lists the names by which upstream would be asked, and the mirrors if there is a
// choice.
func (f *Fetcher) planTargets(object proto.ObjectRequest) []string {
	var plan []string
	for loc := range object.Where.All() {
		mirrors := f.cfg.Upstream.Mirrors(loc.Archive)
		switch {
		case len(mirrors) > 1:
			plan = append(plan, fmt.Sprintf("Upstream is %s at one of %s.", loc, strings.Join(mirrors, ", ")))
		case object.Where.Len() > 1:
			plan = append(plan, fmt.Sprintf("Upstream is %s.", loc))
		}
	}
	return plan
}
