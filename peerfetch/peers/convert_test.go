package peers

import (
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	pb "google.golang.org/protobuf/proto"

	"github.com/aptmesh/aptmesh/proto"
	"github.com/aptmesh/aptmesh/proto/peerpb"
)

func TestAnnouncementsTravel(t *testing.T) {
	full := announcementOf(noble)
	flat := proto.Suite{Archive: "tools"}
	for what, announcements := range map[string][]proto.Announcement{
		"everything":          {full},
		"a suite and no more": {{Generation: proto.Generation{Suite: noble}}},
		"a flat repository":   {{Generation: proto.Generation{Suite: flat}, Slots: []string{"Packages"}}},
		"several":             {full, announcementOf(flat), {Generation: proto.Generation{Suite: proto.Suite{Archive: "b", Dir: "x"}}}},
		"checked in the past": {{Generation: proto.Generation{Suite: noble}, Checked: time.Now().Add(-100 * 24 * time.Hour)}},
		"checked a bit later": {{Generation: proto.Generation{Suite: noble}, Checked: time.Now().Add(500 * time.Millisecond)}},
		"a root of no date":   {{Generation: proto.Generation{Suite: noble, Statement: full.Generation.Statement, RootName: "Release", Root: full.Generation.Root}}},
	} {
		t.Run(what, func(t *testing.T) {
			heard, err := UnmarshalState(MarshalState(State{From: "ams1", Announcements: announcements}))
			if err != nil || heard.From != "ams1" || len(heard.Announcements) != len(announcements) {
				t.Fatalf("%d pieces of news of %q: %v", len(heard.Announcements), heard.From, err)
			}
			for i := range announcements {
				out, err := announcementOut(announcements[i], time.Now())
				if err != nil {
					t.Fatal(err)
				}
				direct, err := announcementIn(out, time.Now())
				if err != nil {
					t.Fatal(err)
				}
				sameAnnouncement(t, direct, announcements[i])
				announcements[i].Checked, announcements[i].FirstHand = time.Time{}, false
				sameAnnouncement(t, heard.Announcements[i], announcements[i])
			}
		})
	}
	if g, err := UnmarshalState(MarshalState(State{From: "ams1"})); g.From != "" || g.Announcements != nil || err != nil {
		t.Errorf("no news: %+v, %v", g, err)
	}
	senseless := proto.Announcement{Generation: proto.Generation{Suite: proto.Suite{Archive: "\xff"}}}
	if g, err := UnmarshalState(MarshalState(State{From: "ams1", Announcements: []proto.Announcement{senseless, full}})); len(g.Announcements) != 1 || err != nil {
		t.Errorf("news that cannot be written down: %+v, %v", g, err)
	}
	if b := MarshalState(State{From: "\xff", Announcements: []proto.Announcement{full}}); b != nil {
		t.Errorf("a teller that cannot be: %q", b)
	}
}

// What is too much for one message is told in part: everything but the slots, or some of
// the suites, others each time. Nobody ever hears nothing.
func TestFitState(t *testing.T) {
	suites := func(n, slots int) (all []proto.Announcement) {
		for i := range n {
			announcements := announcementOf(proto.Suite{Archive: "ubuntu", Dir: fmt.Sprintf("dists/suite-%d", i)})
			announcements.Slots = nil
			for s := range slots {
				announcements.Slots = append(announcements.Slots, fmt.Sprintf("%s/main/binary-amd64/Packages-%040d", announcements.Generation.Suite.Dir, s))
			}
			all = append(all, announcements)
		}
		return all
	}
	const limit = 1 << 20
	for _, tt := range []struct {
		what                     string
		suites, slots, min, most int
		whole, tellsSlots        bool
	}{
		{"little", 3, 10, 3, 3, true, true},
		{"nothing", 0, 0, 0, 0, true, false},
		{"many slots", 200, 100, 200, 200, false, false},
		{"many suites", 3 * maxAnnouncements, 0, maxAnnouncements, maxAnnouncements, false, false},
		{"long suites, and many", 20_000, 3, maxAnnouncements / 8, maxAnnouncements, false, false},
	} {
		all := suites(tt.suites, tt.slots)
		told := make(map[string]bool)
		for range 20 {
			b, whole := FitState(State{From: "ams1", Announcements: all}, limit)
			heard, err := UnmarshalState(b)
			if n := len(heard.Announcements); err != nil || whole != tt.whole || n < tt.min || n > tt.most || len(b) > limit {
				t.Fatalf("%s: %d of %d suites in %d bytes, whole: %v, %v", tt.what, n, len(all), len(b), whole, err)
			}
			for _, announcements := range heard.Announcements {
				told[announcements.Generation.Suite.Dir] = true
				if len(announcements.Slots) > 0 != tt.tellsSlots {
					t.Fatalf("%s: slots are told: %v", tt.what, announcements.Slots)
				}
			}
		}
		if len(told) < min(len(all), 3*maxAnnouncements)*9/10 {
			t.Errorf("%s: 20 messages told of %d suites", tt.what, len(told))
		}
	}
}

// TestAnnouncementFitsIntoAPacket: what is gossiped leaves out uses and the pair, and must
// stay below the 400 bytes that gossip takes even with long names.
func TestAnnouncementFitsIntoAPacket(t *testing.T) {
	announcements := announcementOf(proto.Suite{Archive: strings.Repeat("a", 40), Dir: strings.Repeat("d", 100)})
	announcements.Slots, announcements.Generation.Companions = nil, announcements.Generation.Proving()
	announcements.Generation.Base = ""
	n := len(MarshalState(State{From: strings.Repeat("n", 63), Announcements: []proto.Announcement{announcements}}))
	t.Logf("%d bytes", n)
	if n > 400 {
		t.Errorf("%d bytes", n)
	}
}

func TestAnnouncementsOfOthersAreNotBelieved(t *testing.T) {
	now := time.Now()
	long := strings.Repeat("x", maxSlot+1)
	for what, spoil := range map[string]func(*peerpb.Announcement){
		"no generation":          func(n *peerpb.Announcement) { n.Generation = nil },
		"no archive":             func(n *peerpb.Announcement) { n.Generation.Archive = "" },
		"a suite elsewhere":      func(n *peerpb.Announcement) { n.Generation.Dir = "../.." },
		"a suite with a slash":   func(n *peerpb.Announcement) { n.Generation.Dir = "/dists" },
		"a control character":    func(n *peerpb.Announcement) { n.Generation.Dir = "dists/\n" },
		"a long name":            func(n *peerpb.Announcement) { n.Generation.Dir = strings.Repeat("x", maxPath+1) },
		"half a digest":          func(n *peerpb.Announcement) { n.Generation.Root.Digest = make([]byte, 16) },
		"an unknown size":        func(n *peerpb.Announcement) { n.Generation.Root.Size = -1 },
		"a size below that":      func(n *peerpb.Announcement) { n.Generation.Companions[0].Ref.Size = -2 },
		"no statement":           func(n *peerpb.Announcement) { n.Generation.Statement = nil },
		"no name of the root":    func(n *peerpb.Announcement) { n.Generation.RootName = "" },
		"a root elsewhere":       func(n *peerpb.Announcement) { n.Generation.RootName = "../x" },
		"a long base":            func(n *peerpb.Announcement) { n.Generation.Base = strings.Repeat("x", maxBase+1) },
		"too many companions":    func(n *peerpb.Announcement) { n.Generation.Companions = make([]*peerpb.Companion, maxCompanions+1) },
		"a date beyond all":      func(n *peerpb.Announcement) { n.Generation.Date = math.MaxInt64 },
		"modified beyond all":    func(n *peerpb.Announcement) { n.Generation.Modified = maxTime + 1 },
		"a companion of nothing": func(n *peerpb.Announcement) { n.Generation.Companions[0].Ref = nil },
		"half a companion":       func(n *peerpb.Announcement) { n.Generation.Companions[1].Ref.Digest = []byte("abc") },
		"signed beyond all":      func(n *peerpb.Announcement) { n.Generation.Signed = math.MaxInt64 },
		"a use elsewhere":        func(n *peerpb.Announcement) { n.Slots = append(n.Slots, "a/../../b") },
		"an absolute use":        func(n *peerpb.Announcement) { n.Slots = []string{"/etc/passwd"} },
		"a use of nothing":       func(n *peerpb.Announcement) { n.Slots = []string{""} },
		"a long use":             func(n *peerpb.Announcement) { n.Slots = []string{long} },
		"too many uses":          func(n *peerpb.Announcement) { n.Slots = make([]string, maxSlots+1) },
	} {
		out, err := announcementOut(announcementOf(noble), now)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := announcementIn(out, now); err != nil {
			t.Fatal(err)
		}
		spoil(out)
		if got, err := announcementIn(out, now); err == nil {
			t.Errorf("%s: believed as %+v", what, got)
		}
	}
	if _, err := announcementIn(nil, now); err == nil {
		t.Error("nothing at all is believed")
	}
	// What makes no sense is taken for "not known".
	out, _ := announcementOut(announcementOf(noble), now)
	out.CheckedMs, out.Generation.Date = math.MaxInt64, math.MinInt64
	got, err := announcementIn(out, now)
	if err != nil || !got.Checked.IsZero() || !got.Generation.Date.IsZero() {
		t.Errorf("%v, %+v", err, got)
	}

	for what, b := range map[string][]byte{
		"garbage":    []byte("garbage"),
		"nobody":     mustMarshal(t, &peerpb.State{Announcements: []*peerpb.Announcement{out}}),
		"only bad":   mustMarshal(t, &peerpb.State{Announcements: []*peerpb.Announcement{{From: "a"}}}),
		"too much":   mustMarshal(t, &peerpb.State{Announcements: append([]*peerpb.Announcement{{From: "a"}}, make([]*peerpb.Announcement, maxAnnouncements)...)}),
		"a bad name": mustMarshal(t, &peerpb.State{Announcements: []*peerpb.Announcement{{From: "a\nb", Generation: out.Generation}}}),
	} {
		if g, err := UnmarshalState(b); err == nil {
			t.Errorf("%s: believed as %+v", what, g)
		}
	}
}

func mustMarshal(t testing.TB, m pb.Message) []byte {
	t.Helper()
	b, err := pb.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestOffersOfOthersAreNotBelieved(t *testing.T) {
	d := blob(1)
	ref := &peerpb.Ref{Digest: d[:], Size: 5}
	for what, offer := range map[string]*peerpb.Offer{
		"nothing":         nil,
		"no ref":          {},
		"no digest":       {Ref: &peerpb.Ref{Size: 5}},
		"no size":         {Ref: &peerpb.Ref{Digest: d[:], Size: -1}},
		"half a digest":   {Ref: &peerpb.Ref{Digest: d[:5], Size: 1}},
		"a path upwards":  {Ref: ref, Where: []*peerpb.Location{{Archive: "a", Path: "../x"}}},
		"many locations":  {Ref: ref, Where: make([]*peerpb.Location, maxLocations+1)},
		"an odd location": {Ref: ref, Where: []*peerpb.Location{nil}},
	} {
		if got, err := offerIn("a", offer); err == nil {
			t.Errorf("%s: believed as %+v", what, got)
		}
	}
	for what, stored := range map[string][][]byte{
		"half a digest": {d[:], d[:9]}, "no digest": {{}}, "many": {d[:], d[:], d[:]},
	} {
		if got, err := digestsIn(stored, 2); err == nil {
			t.Errorf("%s: believed as %v", what, got)
		}
	}
}

// FuzzUnmarshalNews reads what strangers may gossip. What is believed can be told
// again and is heard the same.
func FuzzUnmarshalState(f *testing.F) {
	f.Add(MarshalState(State{From: "ams1", Announcements: []proto.Announcement{announcementOf(noble)}}))
	f.Add(MarshalState(State{From: "ams1", Announcements: []proto.Announcement{announcementOf(noble), {Generation: proto.Generation{Suite: proto.Suite{Archive: "tools"}}}}}))
	f.Add([]byte("\x0a\x00"))
	f.Add([]byte("\x12\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		told, err := UnmarshalState(b)
		if err != nil || len(told.Announcements) == 0 {
			return
		}
		if !validNodeName(told.From) {
			t.Fatalf("told by %q", told.From)
		}
		heard, err := UnmarshalState(MarshalState(told))
		if err != nil || heard.From != told.From || len(heard.Announcements) != len(told.Announcements) {
			t.Fatalf("%v: %+v became %+v", err, told, heard)
		}
		for i, announcements := range told.Announcements {
			if !announcements.Checked.IsZero() || announcements.FirstHand {
				t.Fatalf("believed that upstream was asked at %v", announcements.Checked)
			}
			if !reflect.DeepEqual(heard.Announcements[i], announcements) {
				t.Fatalf("%+v became %+v", announcements, heard.Announcements[i])
			}
			if fmt.Sprint(announcements.Generation.Date.Year()) > "9999" {
				t.Fatalf("date %v", announcements.Generation.Date)
			}
		}
	})
}

// FuzzControlMessages reads what a node may be asked, in all of its forms.
func FuzzControlMessages(f *testing.F) {
	d := blob(1)
	offer, err := offerOut(proto.ObjectRequest{Ref: proto.Ref{Digest: d, Size: 7}, Where: where})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(mustMarshal(f, &peerpb.OfferRequest{Offers: []*peerpb.Offer{offer, offer}}))
	tell, errs := alertRequests(alertsOf(time.Now()))
	if len(errs) > 0 {
		f.Fatal(errs)
	}
	f.Add(mustMarshal(f, tell[0]))
	f.Add(mustMarshal(f, &peerpb.OfferReply{Stored: [][]byte{d[:]}}))
	f.Add(mustMarshal(f, &peerpb.CheckSuiteRequest{Archive: "a", Dir: "d", Slots: []string{"x/y"}}))
	f.Add(mustMarshal(f, &peerpb.Holdings{Begin: true, FilterBits: 64, FilterHashes: 2, Filter: d[:8], Added: []uint64{1}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		var offers peerpb.OfferRequest
		if pb.Unmarshal(b, &offers) == nil {
			for _, offer := range offers.Offers {
				w, err := offerIn("a", offer)
				if err != nil {
					continue
				}
				if w.Ref.IsZero() || w.Ref.Size < 0 || !w.PeersOnly {
					t.Fatalf("offered %+v", w)
				}
				if _, err := offerOut(w); err != nil {
					t.Fatal(err)
				}
			}
		}
		var stored peerpb.OfferReply
		if pb.Unmarshal(b, &stored) == nil {
			if digests, err := digestsIn(stored.Stored, 3); err == nil && len(digests) > 3 {
				t.Fatalf("%d digests", len(digests))
			}
		}
		var ask peerpb.CheckSuiteRequest
		if pb.Unmarshal(b, &ask) == nil {
			id := proto.Suite{Archive: ask.Archive, Dir: ask.Dir}
			if checkSuite(id) == nil {
				if slots, err := slotsIn(id, ask.Slots); err == nil && !reflect.DeepEqual(slotsOut(id, slots), slots) {
					t.Fatalf("%q would not be told again", slots)
				}
			}
		}
		var tell peerpb.AnnounceRequest
		if pb.Unmarshal(b, &tell) == nil {
			alerts, _ := alertsIn(tell.Alerts, time.Now())
			if len(alerts) > maxMirrors {
				t.Fatalf("trouble with %d mirrors", len(alerts))
			}
			for _, alert := range alerts {
				believable(t, alert)
			}
		}
		var remote peerpb.Holdings
		if pb.Unmarshal(b, &remote) == nil && !reflect.DeepEqual(holdingsIn(holdingsOut(holdingsIn(&remote))), holdingsIn(&remote)) {
			t.Fatal("holdings change on the way")
		}
	})
}
