package peers

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
	"unicode/utf8"

	pb "google.golang.org/protobuf/proto"

	"github.com/aptmesh/aptmesh/proto"
	"github.com/aptmesh/aptmesh/proto/peerpb"
)

// Bounds of what a node sends about suites. maxAnnouncements of the largest size would be
// too much for one message; a sender of many uses several messages.
const (
	maxAnnouncements = 1000 // in one message
	maxSlots         = 4096 // of one suite
	maxSlot          = 512  // bytes
	maxCompanions    = 16   // of one root
	maxCheck         = 10 * 365 * 24 * time.Hour
	// maxTime is the end of the year 9999, in Unix seconds: later times have no RFC 3339
	// form.
	maxTime = 253402300799
)

// State is the content of messages that do not come from their sender directly: gossip, and
// the full exchange between two nodes.
//
// A node with the gossip key can write a State in the name of another node. Anybody on the
// network can record one and play it back. So a State says only which generations exist;
// each node verifies those itself. It never says what is true now: that upstream still has a
// generation, or that a mirror fails. The node that found that out sends it directly.
type State struct {
	From          string // the sender, as it says
	Announcements []proto.Announcement
}

// FitState is MarshalState for a message of at most limit bytes, and of as many suites as a
// message may have. If not all fits, it first leaves out the slots, which nodes also send
// directly. Then it leaves out suites, different ones each time, so that every suite is sent
// in time. whole is whether nothing was left out.
func FitState(g State, limit int) (b []byte, whole bool) {
	whole = len(g.Announcements) <= maxAnnouncements
	if whole {
		if b = MarshalState(g); len(b) <= limit {
			return b, true
		}
	}
	n := len(g.Announcements)
	some := make([]proto.Announcement, n)
	for i, at := 0, rand.N(max(n, 1)); i < n; i++ {
		some[i] = g.Announcements[(at+i)%n]
		some[i].Slots = nil
	}
	for some = some[:min(n, maxAnnouncements)]; ; some = some[:len(some)/2] {
		if b = MarshalState(State{From: g.From, Announcements: some}); len(b) <= limit {
			return b, false
		}
	}
}

// MarshalState writes g down. What cannot be written down (names that are not
// UTF-8) is left out.
func MarshalState(g State) []byte {
	if !validNodeName(g.From) {
		return nil
	}
	now := time.Now()
	var all peerpb.State
	for _, n := range g.Announcements {
		out, err := announcementOut(n, now)
		if err != nil {
			continue
		}
		if len(all.Announcements) == 0 {
			out.From = g.From
		}
		out.CheckedMs, out.FirstHand = -1, false
		all.Announcements = append(all.Announcements, out)
	}
	b, err := pb.Marshal(&all)
	if err != nil { // all that is text has been checked
		return nil
	}
	return b
}

// UnmarshalState reads what MarshalState wrote, and trusts nothing of it. From is "" if
// there is no announcement. It leaves out what makes no sense. The error says that nothing
// remained.
func UnmarshalState(b []byte) (State, error) {
	var all peerpb.State
	if err := pb.Unmarshal(b, &all); err != nil {
		return State{}, err
	}
	if len(all.Announcements) == 0 {
		return State{}, nil
	}
	g := State{From: all.Announcements[0].GetFrom()}
	if !validNodeName(g.From) {
		return State{}, errors.New("the message does not say which node tells it")
	}
	var err error
	g.Announcements, err = announcementsIn(all.Announcements, time.Now())
	if err != nil && len(g.Announcements) == 0 {
		return State{}, err
	}
	for i := range g.Announcements {
		g.Announcements[i].Checked, g.Announcements[i].FirstHand = time.Time{}, false
	}
	return g, nil
}

// announcementOut writes an announcement down. Times of checking travel as ages, because the clocks
// of two nodes differ. Slots that announcementIn would not take are left out.
func announcementOut(a proto.Announcement, now time.Time) (*peerpb.Announcement, error) {
	g := a.Generation
	if err := checkSuite(g.Suite); err != nil {
		return nil, err
	}
	out := &peerpb.Announcement{
		Generation: &peerpb.Generation{Archive: g.Suite.Archive, Dir: g.Suite.Dir, Name: g.Suite.Name},
		CheckedMs:  -1,
		Slots:      slotsOut(g.Suite, a.Slots),
		FirstHand:  a.FirstHand,
	}
	if !a.Checked.IsZero() {
		out.CheckedMs = max(0, now.Sub(a.Checked).Milliseconds())
	}
	if g.Root.IsZero() {
		return out, nil
	}
	to := out.Generation
	to.Root, to.RootName, to.Statement = refOut(g.Root), g.RootName, g.Statement[:]
	to.Date, to.Signed, to.Modified, to.Base = timeOut(g.Date), timeOut(g.Signed), timeOut(g.Modified), g.Base
	to.BackFrom, to.BackAt = timeOut(g.Back.From), timeOut(g.Back.At)
	for _, c := range g.Companions {
		if !c.Stray && len(to.Companions) < maxCompanions {
			to.Companions = append(to.Companions, &peerpb.Companion{Name: c.Name, Ref: refOut(c.Ref), Modified: timeOut(c.Modified), Proof: c.Proof})
		}
	}
	return out, nil
}

// announcementsIn reads many announcements. The error is that of the first that makes no sense; the
// others are good.
func announcementsIn(in []*peerpb.Announcement, now time.Time) ([]proto.Announcement, error) {
	if len(in) > maxAnnouncements {
		return nil, fmt.Errorf("announcements of %d suites, want at most %d", len(in), maxAnnouncements)
	}
	all := make([]proto.Announcement, 0, len(in))
	var wrong error
	for _, one := range in {
		a, err := announcementIn(one, now)
		if err == nil {
			all = append(all, a)
		} else if wrong == nil {
			wrong = err
		}
	}
	return all, wrong
}

// announcementIn reads an announcement that another node wrote, and believes nothing of it.
func announcementIn(in *peerpb.Announcement, now time.Time) (proto.Announcement, error) {
	g := in.GetGeneration()
	id := proto.Suite{Archive: g.GetArchive(), Dir: g.GetDir(), Name: g.GetName()}
	a := proto.Announcement{Generation: proto.Generation{Suite: id}, FirstHand: in.GetFirstHand()}
	err := checkSuite(id)
	if err == nil {
		a.Slots, err = slotsIn(id, in.GetSlots())
	}
	if err != nil {
		return proto.Announcement{}, err
	}
	if age := in.GetCheckedMs(); age >= 0 && age <= maxCheck.Milliseconds() {
		a.Checked = now.Add(-time.Duration(age) * time.Millisecond)
	}
	r := announcementReader{}
	if a.Generation.Root = r.ref(g.GetRoot()); !a.Generation.Root.IsZero() {
		r.generation(&a.Generation, g)
	}
	if r.err != nil {
		return proto.Announcement{}, fmt.Errorf("suite %s: %w", id, r.err)
	}
	return a, nil
}

// announcementReader reads the values of an announcement; err is the first that makes no sense.
type announcementReader struct{ err error }

// generation reads what belongs to a root.
func (r *announcementReader) generation(g *proto.Generation, in *peerpb.Generation) {
	g.Date, g.Signed, g.Modified = r.time(in.GetDate()), r.time(in.GetSigned()), r.time(in.GetModified())
	g.Back = proto.Back{From: r.time(in.GetBackFrom()), At: r.time(in.GetBackAt())}
	var err error
	if g.Statement, err = digestIn(in.GetStatement()); err != nil || g.Statement.IsZero() {
		r.fail(fmt.Errorf("the statement of a root is not told"))
	}
	g.RootName = r.fileName(g.Suite, in.GetRootName())
	if g.Base = in.GetBase(); len(g.Base) > maxBase || !utf8.ValidString(g.Base) {
		r.fail(fmt.Errorf("a base of %d bytes", len(g.Base)))
	}
	if n := len(in.GetCompanions()); n > maxCompanions {
		r.fail(fmt.Errorf("%d companions of a root, want at most %d", n, maxCompanions))
		return
	}
	for _, c := range in.GetCompanions() {
		companion := proto.Companion{Name: r.fileName(g.Suite, c.GetName()), Ref: r.ref(c.GetRef()), Modified: r.time(c.GetModified()), Proof: c.GetProof()}
		if !companion.Known() && !companion.Proof {
			r.fail(fmt.Errorf("a companion without content"))
		}
		g.Companions = append(g.Companions, companion)
	}
}

// fileName reads the name of a root file.
func (r *announcementReader) fileName(id proto.Suite, name string) string {
	if name == "" {
		r.fail(fmt.Errorf("a root file without a name"))
	} else if err := checkSlot(id, name); err != nil {
		r.fail(err)
	}
	return name
}

// ref reads a Ref of which the size is known; no digest is the zero Ref.
func (r *announcementReader) ref(in *peerpb.Ref) proto.Ref {
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
func (r *announcementReader) time(seconds int64) time.Time {
	if seconds > maxTime {
		r.fail(fmt.Errorf("%d seconds after 1970 is no time", seconds))
		return time.Time{}
	}
	return timeIn(seconds)
}

func (r *announcementReader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
}

// checkSuite reports what is wrong with a suite that another node names.
func checkSuite(id proto.Suite) error {
	if !utf8.ValidString(id.Archive) || !utf8.ValidString(id.Dir) {
		return errors.New("the name of a suite is not UTF-8")
	}
	if err := checkLocation(id.At("root")); err != nil {
		return fmt.Errorf("no suite can be there: %w", err)
	}
	return nil
}

// checkSlot reports what is wrong with a path below a suite.
func checkSlot(id proto.Suite, use string) error {
	if len(use) > maxSlot {
		return fmt.Errorf("a path below %s has %d bytes", id, len(use))
	}
	return checkLocation(id.At(use))
}

// slotsOut keeps the uses that slotsIn takes.
func slotsOut(id proto.Suite, slots []string) []string {
	var stored []string
	for _, use := range slots {
		if len(stored) < maxSlots && utf8.ValidString(use) && checkSlot(id, use) == nil {
			stored = append(stored, use)
		}
	}
	return stored
}

func slotsIn(id proto.Suite, slots []string) ([]string, error) {
	if len(slots) > maxSlots {
		return nil, fmt.Errorf("%d uses of %s, want at most %d", len(slots), id, maxSlots)
	}
	for _, use := range slots {
		if err := checkSlot(id, use); err != nil {
			return nil, err
		}
	}
	return slots, nil
}

// offerOut writes down an object that a leaving node holds. Where it may be
// missing: it is fetched from the node that offers it.
func offerOut(w proto.ObjectRequest) (*peerpb.Offer, error) {
	if w.Ref.IsZero() || w.Ref.Size < 0 {
		return nil, errors.New("only what has a digest and a size can be offered")
	}
	out := &peerpb.Offer{Ref: refOut(w.Ref)}
	for loc := range w.Where.All() {
		if len(out.Where) == maxLocations {
			break
		}
		if utf8.ValidString(loc.Archive) && utf8.ValidString(loc.Path) && checkLocation(loc) == nil {
			out.Where = append(out.Where, &peerpb.Location{Archive: loc.Archive, Path: loc.Path})
		}
	}
	return out, nil
}

// offerIn reads an offer of from: only peers are to be asked for it, from first.
func offerIn(from string, in *peerpb.Offer) (proto.ObjectRequest, error) {
	ref, err := refIn(in.GetRef())
	switch {
	case err != nil:
		return proto.ObjectRequest{}, err
	case ref.IsZero() || ref.Size < 0:
		return proto.ObjectRequest{}, errors.New("an offer without a digest and a size")
	}
	w := proto.ObjectRequest{Ref: ref, Class: proto.ClassPrefetch, Holders: []string{from}, PeersOnly: true}
	if len(in.GetWhere()) > 0 {
		if w.Where, err = locationsIn(in.GetWhere()); err != nil {
			return proto.ObjectRequest{}, err
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
