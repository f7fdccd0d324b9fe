package peerfetch

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// Plan says in sentences what Open would do about want at this moment.
func (f *Fetcher) Plan(want proto.Want) []string {
	if blob, err := f.stored(&want); err == nil {
		defer blob.Close()
		return []string{fmt.Sprintf("This node holds it (%s).", blob.Tier)}
	}
	if said := f.planInFlight(want); said != "" {
		return []string{said}
	}
	if len(want.Where) > 0 {
		if err := f.mayStart(keyOf(want), want); err != nil {
			return []string{f.planRefused(want, err)}
		}
	}
	if f.cfg.Cluster == nil {
		return []string{"It would be fetched from upstream."}
	}
	return f.planSearch(want)
}

// planRefused tells why nobody would be asked at this moment, and until when.
func (f *Fetcher) planRefused(want proto.Want, err error) string {
	if a, ok := f.absence(want, time.Now()); ok {
		return fmt.Sprintf("Upstream said at %s that it has no such file. Nobody is asked again before %s, unless the archive publishes something earlier.",
			clock(a.said), clock(a.until))
	}
	return fmt.Sprintf("Nobody would be asked now, for the last answer was: %v.", err)
}

func clock(t time.Time) string { return t.UTC().Format("15:04:05 MST") }

// planInFlight tells of the flight that a request would join; "" if there is none.
func (f *Fetcher) planInFlight(want proto.Want) string {
	f.mu.Lock()
	fl, ok := f.flights[keyOf(want)]
	f.mu.Unlock()
	if !ok {
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

// planSearch tells whom a search would ask, in what order.
func (f *Fetcher) planSearch(want proto.Want) []string {
	route := f.cfg.Cluster.Route(want)
	s := &search{fl: &flight{f: f, key: keyOf(want)}, route: route}
	var plan []string
	if !want.Ref.IsZero() {
		holders := s.worthAsking(slices.Concat(want.Holders, route.Holders))
		if len(holders) > 0 {
			plan = append(plan, fmt.Sprintf("Believed to hold it, and asked first: %s.", strings.Join(holders, ", ")))
		} else {
			plan = append(plan, "No other node is believed to hold it.")
		}
	}
	if want.PeersOnly {
		return append(plan, "It is had from other nodes or not at all.")
	}
	before, isOwner := 0, false
	for _, owner := range route.Owners {
		if owner == route.Self {
			isOwner = true
			break
		}
		if s.mayAsk(owner) {
			before++
			plan = append(plan, fmt.Sprintf("Owner no. %d, %s, would fetch it from upstream for all.", before, owner))
		}
	}
	switch {
	case isOwner && before == 0:
		plan = append(plan, "This node is its owner and fetches it from upstream for all.")
	case isOwner:
		plan = append(plan, "This node is the next owner and fetches it from upstream if those before it fail.")
	default:
		plan = append(plan, fmt.Sprintf("If all fail, this node waits up to %s, looks again who holds it, and goes upstream itself.",
			f.cfg.FallbackPause.Round(time.Millisecond)))
	}
	return plan
}
