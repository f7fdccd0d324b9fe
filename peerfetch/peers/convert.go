package peers

import (
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	pb "google.golang.org/protobuf/proto"

	"github.com/aptmesh/aptmesh/proto"
	"github.com/aptmesh/aptmesh/proto/peerpb"
)

// Bounds of what one node tells another of suites. maxNews of the largest would be
// too much for a message; whoever sends many sends several messages.
const (
	maxNews  = 1000 // in one message
	maxUses  = 4096 // of one suite
	maxUse   = 512  // bytes
	maxCheck = 10 * 365 * 24 * time.Hour
	// maxTime is the end of the year 9999, in Unix seconds: what lies beyond has no
	// RFC 3339 form.
	maxTime = 253402300799
)

// Gossip is what travels in messages that do not come from their teller directly:
// gossip, and the full exchange between two nodes.
type Gossip struct {
	From     string // the teller
	News     []proto.News
	Troubles []proto.Trouble
}

// MarshalNews writes g down. What cannot be written down (names that are not
// UTF-8) is left out, and so are troubles beyond as many as a message may have.
func MarshalNews(g Gossip) []byte {
	if !validNodeName(g.From) {
		return nil
	}
	now := time.Now()
	var all peerpb.NewsMap
	for _, n := range g.News {
		out, err := newsOut(n, now)
		if err != nil {
			continue
		}
		if len(all.News) == 0 {
			out.From = g.From
		}
		all.News = append(all.News, out)
	}
	troubles, _ := troublesOut(g.From, g.Troubles, now)
	all.Troubles = troubles[:min(len(troubles), maxMirrors)]
	b, err := pb.Marshal(&all)
	if err != nil { // all that is text has been checked
		return nil
	}
	return b
}

// UnmarshalNews reads what MarshalNews wrote, and believes nothing of it. From is
// "" where nothing is told. What makes no sense is left out; the error says that
// nothing else was there.
func UnmarshalNews(b []byte) (Gossip, error) {
	var all peerpb.NewsMap
	if err := pb.Unmarshal(b, &all); err != nil {
		return Gossip{}, err
	}
	g := Gossip{From: tellerOf(&all)}
	if len(all.News)+len(all.Troubles) == 0 {
		return Gossip{}, nil
	}
	if !validNodeName(g.From) {
		return Gossip{}, errors.New("the message does not say which node tells it")
	}
	var err, wrong error
	now := time.Now()
	g.News, err = allNewsIn(all.News, now)
	g.Troubles, wrong = allTroublesIn(all.Troubles, now)
	for i := range g.Troubles {
		g.Troubles[i].Node = g.From // who finds out tells it
	}
	if err = errors.Join(err, wrong); err != nil && len(g.News)+len(g.Troubles) == 0 {
		return Gossip{}, err
	}
	return g, nil
}

// tellerOf is who a message says that it comes from.
func tellerOf(all *peerpb.NewsMap) string {
	if len(all.News) > 0 {
		return all.News[0].GetFrom()
	}
	if len(all.Troubles) > 0 {
		return all.Troubles[0].GetNode()
	}
	return ""
}

// newsOut writes News down. Times of checking travel as ages, for the clocks of
// two nodes differ. Uses that newsIn would not take are left out.
func newsOut(n proto.News, now time.Time) (*peerpb.News, error) {
	g := n.Generation
	if err := checkSuite(g.Suite); err != nil {
		return nil, err
	}
	out := &peerpb.News{
		Generation: &peerpb.Generation{Archive: g.Suite.Archive, Dir: g.Suite.Dir},
		CheckedMs:  -1,
		Uses:       usesOut(g.Suite, n.Uses),
		FirstHand:  n.FirstHand,
	}
	if !n.Checked.IsZero() {
		out.CheckedMs = max(0, now.Sub(n.Checked).Milliseconds())
	}
	if !g.Root.IsZero() {
		out.Generation.Root, out.Generation.Date = refOut(g.Root), timeOut(g.Date)
		out.Generation.Modified = timeOut(g.Modified)
		if !g.Signature.IsZero() {
			out.Generation.Signature = refOut(g.Signature)
		}
	}
	if !n.Pair.Release.IsZero() && !n.Pair.Signature.IsZero() {
		out.PairRelease, out.PairSignature = refOut(n.Pair.Release), refOut(n.Pair.Signature)
		out.PairModified, out.PairSigned = timeOut(n.Pair.Modified), timeOut(n.Pair.Signed)
	}
	return out, nil
}

// allNewsIn reads many News. The error is that of the first that makes no sense;
// the others are good.
func allNewsIn(in []*peerpb.News, now time.Time) ([]proto.News, error) {
	if len(in) > maxNews {
		return nil, fmt.Errorf("news of %d suites, want at most %d", len(in), maxNews)
	}
	news := make([]proto.News, 0, len(in))
	var wrong error
	for _, one := range in {
		n, err := newsIn(one, now)
		if err == nil {
			news = append(news, n)
		} else if wrong == nil {
			wrong = err
		}
	}
	return news, wrong
}

// newsIn reads News that another node wrote, and believes nothing of it.
func newsIn(in *peerpb.News, now time.Time) (proto.News, error) {
	g := in.GetGeneration()
	id := proto.Suite{Archive: g.GetArchive(), Dir: g.GetDir()}
	n := proto.News{Generation: proto.Generation{Suite: id}, FirstHand: in.GetFirstHand()}
	err := checkSuite(id)
	if err == nil {
		n.Uses, err = usesIn(id, in.GetUses())
	}
	if err != nil {
		return proto.News{}, err
	}
	if age := in.GetCheckedMs(); age >= 0 && age <= maxCheck.Milliseconds() {
		n.Checked = now.Add(-time.Duration(age) * time.Millisecond)
	}
	r := newsReader{}
	n.Generation.Root = r.ref(g.GetRoot())
	n.Pair.Release, n.Pair.Signature = r.ref(in.GetPairRelease()), r.ref(in.GetPairSignature())
	if !n.Generation.Root.IsZero() {
		n.Generation.Signature = r.ref(g.GetSignature())
		n.Generation.Date, n.Generation.Modified = r.time(g.GetDate()), r.time(g.GetModified())
	}
	if n.Pair.Release.IsZero() != n.Pair.Signature.IsZero() {
		return proto.News{}, fmt.Errorf("suite %s: one half of a pair", id)
	}
	if !n.Pair.Release.IsZero() {
		n.Pair.Modified, n.Pair.Signed = r.time(in.GetPairModified()), r.time(in.GetPairSigned())
	}
	if r.err != nil {
		return proto.News{}, fmt.Errorf("suite %s: %w", id, r.err)
	}
	return n, nil
}

// newsReader reads the values of a News; err is the first that makes no sense.
type newsReader struct{ err error }

// ref reads a Ref of which the size is known; no digest is the zero Ref.
func (r *newsReader) ref(in *peerpb.Ref) proto.Ref {
	ref, err := refIn(in)
	switch {
	case err != nil:
		r.fail(err)
		return proto.Ref{}
	case ref.IsZero():
		return proto.Ref{}
	case ref.Size < 0:
		r.fail(fmt.Errorf("the size of %s is not told", ref.Digest.Short()))
	}
	return ref
}

// time reads seconds; 0 and less is no time.
func (r *newsReader) time(seconds int64) time.Time {
	if seconds > maxTime {
		r.fail(fmt.Errorf("%d seconds after 1970 is no time", seconds))
		return time.Time{}
	}
	return timeIn(seconds)
}

func (r *newsReader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
}

// checkSuite reports what is wrong with a suite that another node names.
func checkSuite(id proto.Suite) error {
	if !utf8.ValidString(id.Archive) || !utf8.ValidString(id.Dir) {
		return errors.New("the name of a suite is not UTF-8")
	}
	if err := checkLocation(id.At("Release")); err != nil {
		return fmt.Errorf("no suite can be there: %w", err)
	}
	return nil
}

// checkUse reports what is wrong with a path below a suite.
func checkUse(id proto.Suite, use string) error {
	if len(use) > maxUse {
		return fmt.Errorf("a path below %s has %d bytes", id, len(use))
	}
	return checkLocation(id.At(use))
}

// usesOut keeps the uses that usesIn takes.
func usesOut(id proto.Suite, uses []string) []string {
	var kept []string
	for _, use := range uses {
		if len(kept) < maxUses && utf8.ValidString(use) && checkUse(id, use) == nil {
			kept = append(kept, use)
		}
	}
	return kept
}

func usesIn(id proto.Suite, uses []string) ([]string, error) {
	if len(uses) > maxUses {
		return nil, fmt.Errorf("%d uses of %s, want at most %d", len(uses), id, maxUses)
	}
	for _, use := range uses {
		if err := checkUse(id, use); err != nil {
			return nil, err
		}
	}
	return uses, nil
}

// offerOut writes down an object that a leaving node holds. Where it may be
// missing: it is fetched from the node that offers it.
func offerOut(w proto.Want) (*peerpb.Offer, error) {
	if w.Ref.IsZero() || w.Ref.Size < 0 {
		return nil, errors.New("only what has a digest and a size can be offered")
	}
	out := &peerpb.Offer{Ref: refOut(w.Ref)}
	for _, loc := range w.Where[:min(len(w.Where), maxLocations)] {
		if utf8.ValidString(loc.Archive) && utf8.ValidString(loc.Path) && checkLocation(loc) == nil {
			out.Where = append(out.Where, &peerpb.Location{Archive: loc.Archive, Path: loc.Path})
		}
	}
	return out, nil
}

// offerIn reads an offer of from: only peers are to be asked for it, from first.
func offerIn(from string, in *peerpb.Offer) (proto.Want, error) {
	ref, err := refIn(in.GetRef())
	switch {
	case err != nil:
		return proto.Want{}, err
	case ref.IsZero() || ref.Size < 0:
		return proto.Want{}, errors.New("an offer without a digest and a size")
	}
	w := proto.Want{Ref: ref, Class: proto.ClassPrefetch, Holders: []string{from}, PeersOnly: true}
	if len(in.GetWhere()) > 0 {
		if w.Where, err = locationsIn(in.GetWhere()); err != nil {
			return proto.Want{}, err
		}
	}
	return w, nil
}

// digestsIn reads many digests, at most max of them.
func digestsIn(in [][]byte, max int) ([]proto.Digest, error) {
	if len(in) > max {
		return nil, fmt.Errorf("%d digests, want at most %d", len(in), max)
	}
	digests := make([]proto.Digest, len(in))
	for i, b := range in {
		d, err := digestIn(b)
		if err != nil {
			return nil, err
		}
		if d.IsZero() {
			return nil, errors.New("a digest of no bytes")
		}
		digests[i] = d
	}
	return digests, nil
}
