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

func TestNewsTravels(t *testing.T) {
	full := newsOf(noble)
	flat := proto.Suite{Archive: "tools"}
	for what, news := range map[string][]proto.News{
		"everything":           {full},
		"a suite and no more":  {{Generation: proto.Generation{Suite: noble}}},
		"a flat repository":    {{Generation: proto.Generation{Suite: flat}, Uses: []string{"Packages"}}},
		"a Release alone":      {{Generation: proto.Generation{Suite: noble, Root: full.Pair.Release, Signature: full.Pair.Signature}}},
		"several":              {full, newsOf(flat), {Generation: proto.Generation{Suite: proto.Suite{Archive: "b", Dir: "x"}}}},
		"checked in the past":  {{Generation: proto.Generation{Suite: noble}, Checked: time.Now().Add(-100 * 24 * time.Hour)}},
		"checked a bit later":  {{Generation: proto.Generation{Suite: noble}, Checked: time.Now().Add(500 * time.Millisecond)}},
		"a Release of no date": {{Generation: proto.Generation{Suite: noble, Root: full.Generation.Root}}},
	} {
		t.Run(what, func(t *testing.T) {
			heard, err := UnmarshalNews(MarshalNews(Gossip{From: "ams1", News: news}))
			if err != nil || heard.From != "ams1" || len(heard.News) != len(news) {
				t.Fatalf("%d pieces of news of %q: %v", len(heard.News), heard.From, err)
			}
			for i := range news {
				sameNews(t, heard.News[i], news[i])
			}
		})
	}
	if g, err := UnmarshalNews(MarshalNews(Gossip{From: "ams1"})); g.From != "" || g.News != nil || err != nil {
		t.Errorf("no news: %+v, %v", g, err)
	}
	senseless := proto.News{Generation: proto.Generation{Suite: proto.Suite{Archive: "\xff"}}}
	if g, err := UnmarshalNews(MarshalNews(Gossip{From: "ams1", News: []proto.News{senseless, full}})); len(g.News) != 1 || err != nil {
		t.Errorf("news that cannot be written down: %+v, %v", g, err)
	}
	if b := MarshalNews(Gossip{From: "\xff", News: []proto.News{full}}); b != nil {
		t.Errorf("a teller that cannot be: %q", b)
	}
}

// TestNewsFitsIntoAPacket: what is gossiped leaves out uses and the pair, and must
// stay below the 400 bytes that gossip takes even with long names.
func TestNewsFitsIntoAPacket(t *testing.T) {
	news := newsOf(proto.Suite{Archive: strings.Repeat("a", 40), Dir: strings.Repeat("d", 100)})
	news.Uses, news.Pair = nil, proto.Pair{}
	n := len(MarshalNews(Gossip{From: strings.Repeat("n", 63), News: []proto.News{news}}))
	t.Logf("%d bytes", n)
	if n > 400 {
		t.Errorf("%d bytes", n)
	}
}

func TestNewsOfOthersIsNotBelieved(t *testing.T) {
	now := time.Now()
	long := strings.Repeat("x", maxUse+1)
	for what, spoil := range map[string]func(*peerpb.News){
		"no generation":           func(n *peerpb.News) { n.Generation = nil },
		"no archive":              func(n *peerpb.News) { n.Generation.Archive = "" },
		"a suite elsewhere":       func(n *peerpb.News) { n.Generation.Dir = "../.." },
		"a suite with a slash":    func(n *peerpb.News) { n.Generation.Dir = "/dists" },
		"a control character":     func(n *peerpb.News) { n.Generation.Dir = "dists/\n" },
		"a long name":             func(n *peerpb.News) { n.Generation.Dir = strings.Repeat("x", maxPath+1) },
		"half a digest":           func(n *peerpb.News) { n.Generation.Root.Digest = make([]byte, 16) },
		"an unknown size":         func(n *peerpb.News) { n.Generation.Root.Size = -1 },
		"a size below that":       func(n *peerpb.News) { n.Generation.Signature.Size = -2 },
		"a date beyond all":       func(n *peerpb.News) { n.Generation.Date = math.MaxInt64 },
		"modified beyond all":     func(n *peerpb.News) { n.Generation.Modified = maxTime + 1 },
		"half a pair":             func(n *peerpb.News) { n.PairSignature = nil },
		"the other half":          func(n *peerpb.News) { n.PairRelease = nil },
		"half a digest in a pair": func(n *peerpb.News) { n.PairSignature.Digest = n.PairSignature.Digest[:3] },
		"signed beyond all":       func(n *peerpb.News) { n.PairSigned = math.MaxInt64 },
		"a use elsewhere":         func(n *peerpb.News) { n.Uses = append(n.Uses, "a/../../b") },
		"an absolute use":         func(n *peerpb.News) { n.Uses = []string{"/etc/passwd"} },
		"a use of nothing":        func(n *peerpb.News) { n.Uses = []string{""} },
		"a long use":              func(n *peerpb.News) { n.Uses = []string{long} },
		"too many uses":           func(n *peerpb.News) { n.Uses = make([]string, maxUses+1) },
	} {
		out, err := newsOut(newsOf(noble), now)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := newsIn(out, now); err != nil {
			t.Fatal(err)
		}
		spoil(out)
		if got, err := newsIn(out, now); err == nil {
			t.Errorf("%s: believed as %+v", what, got)
		}
	}
	if _, err := newsIn(nil, now); err == nil {
		t.Error("nothing at all is believed")
	}
	// What makes no sense is taken for "not known".
	out, _ := newsOut(newsOf(noble), now)
	out.CheckedMs, out.Generation.Date = math.MaxInt64, math.MinInt64
	got, err := newsIn(out, now)
	if err != nil || !got.Checked.IsZero() || !got.Generation.Date.IsZero() {
		t.Errorf("%v, %+v", err, got)
	}

	for what, b := range map[string][]byte{
		"garbage":    []byte("garbage"),
		"nobody":     mustMarshal(t, &peerpb.NewsMap{News: []*peerpb.News{out}}),
		"only bad":   mustMarshal(t, &peerpb.NewsMap{News: []*peerpb.News{{From: "a"}}}),
		"too much":   mustMarshal(t, &peerpb.NewsMap{News: append([]*peerpb.News{{From: "a"}}, make([]*peerpb.News, maxNews)...)}),
		"a bad name": mustMarshal(t, &peerpb.NewsMap{News: []*peerpb.News{{From: "a\nb", Generation: out.Generation}}}),
	} {
		if g, err := UnmarshalNews(b); err == nil {
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
	for what, kept := range map[string][][]byte{
		"half a digest": {d[:], d[:9]}, "no digest": {{}}, "many": {d[:], d[:], d[:]},
	} {
		if got, err := digestsIn(kept, 2); err == nil {
			t.Errorf("%s: believed as %v", what, got)
		}
	}
}

// FuzzUnmarshalNews reads what strangers may gossip. What is believed can be told
// again and is heard the same.
func FuzzUnmarshalNews(f *testing.F) {
	f.Add(MarshalNews(Gossip{From: "ams1", News: []proto.News{newsOf(noble)}}))
	f.Add(MarshalNews(Gossip{From: "ams1", News: []proto.News{newsOf(noble), {Generation: proto.Generation{Suite: proto.Suite{Archive: "tools"}}}}}))
	f.Add(MarshalNews(Gossip{From: "ams1", News: []proto.News{newsOf(noble)}, Troubles: troublesOf(time.Now())}))
	f.Add(MarshalNews(Gossip{From: "ams1", Troubles: troublesOf(time.Now())}))
	f.Add([]byte("\x0a\x00"))
	f.Add([]byte("\x12\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		told, err := UnmarshalNews(b)
		if err != nil || len(told.News)+len(told.Troubles) == 0 {
			return
		}
		if !validNodeName(told.From) {
			t.Fatalf("told by %q", told.From)
		}
		heard, err := UnmarshalNews(MarshalNews(told))
		if err != nil || heard.From != told.From || len(heard.News) != len(told.News) || len(heard.Troubles) != len(told.Troubles) {
			t.Fatalf("%v: %+v became %+v", err, told, heard)
		}
		for i, news := range told.News {
			// The journey takes time, and ages are cut to milliseconds.
			if d := heard.News[i].Checked.Sub(news.Checked); d < -time.Minute || d > time.Minute {
				t.Fatalf("checked %v became %v", news.Checked, heard.News[i].Checked)
			}
			heard.News[i].Checked = news.Checked
			if !reflect.DeepEqual(heard.News[i], news) {
				t.Fatalf("%+v became %+v", news, heard.News[i])
			}
			if fmt.Sprint(news.Generation.Date.Year()) > "9999" {
				t.Fatalf("date %v", news.Generation.Date)
			}
		}
		for i, trouble := range told.Troubles {
			believable(t, trouble)
			sameTrouble(t, heard.Troubles[i], trouble)
		}
	})
}

// FuzzControlMessages reads what a node may be asked, in all of its forms.
func FuzzControlMessages(f *testing.F) {
	d := blob(1)
	offer, err := offerOut(proto.Want{Ref: proto.Ref{Digest: d, Size: 7}, Where: where})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(mustMarshal(f, &peerpb.OfferRequest{Offers: []*peerpb.Offer{offer, offer}}))
	tell, errs := troubleRequests(troublesOf(time.Now()))
	if len(errs) > 0 {
		f.Fatal(errs)
	}
	f.Add(mustMarshal(f, tell[0]))
	f.Add(mustMarshal(f, &peerpb.OfferReply{Kept: [][]byte{d[:]}}))
	f.Add(mustMarshal(f, &peerpb.AskRequest{Archive: "a", Dir: "d", Uses: []string{"x/y"}}))
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
		var kept peerpb.OfferReply
		if pb.Unmarshal(b, &kept) == nil {
			if digests, err := digestsIn(kept.Kept, 3); err == nil && len(digests) > 3 {
				t.Fatalf("%d digests", len(digests))
			}
		}
		var ask peerpb.AskRequest
		if pb.Unmarshal(b, &ask) == nil {
			id := proto.Suite{Archive: ask.Archive, Dir: ask.Dir}
			if checkSuite(id) == nil {
				if uses, err := usesIn(id, ask.Uses); err == nil && !reflect.DeepEqual(usesOut(id, uses), uses) {
					t.Fatalf("%q would not be told again", uses)
				}
			}
		}
		var tell peerpb.TellRequest
		if pb.Unmarshal(b, &tell) == nil {
			troubles, _ := allTroublesIn(tell.Troubles, time.Now())
			if len(troubles) > maxMirrors {
				t.Fatalf("trouble with %d mirrors", len(troubles))
			}
			for _, trouble := range troubles {
				believable(t, trouble)
			}
		}
		var held peerpb.Holdings
		if pb.Unmarshal(b, &held) == nil && !reflect.DeepEqual(holdingsIn(holdingsOut(holdingsIn(&held))), holdingsIn(&held)) {
			t.Fatal("holdings change on the way")
		}
	})
}
