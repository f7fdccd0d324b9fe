package peers

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/aptmesh/aptmesh/proto"
	"github.com/aptmesh/aptmesh/proto/bubble"
	"github.com/aptmesh/aptmesh/proto/peerpb"
)

var noble = proto.Suite{Archive: "ubuntu", Dir: "dists/noble"}

// announcementOf is news of a suite that says all there is to say.
func announcementOf(id proto.Suite) proto.Announcement {
	day := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	ref := func(s string) proto.Ref { return proto.Ref{Digest: proto.DigestOf([]byte(s)), Size: int64(len(s))} }
	return proto.Announcement{
		Generation: proto.Generation{
			Suite: id, Statement: proto.DigestOf([]byte("text")), Date: day, Signed: day.Add(time.Second), RootName: "InRelease", Root: ref("root"), Modified: day.Add(time.Minute),
			Companions: []proto.Companion{
				{Name: "Release", Ref: ref("release"), Modified: day.Add(2 * time.Minute)}, {Name: "Release.gpg", Ref: ref("gpg"), Modified: day.Add(3 * time.Minute), Proof: true},
				{Name: "Release.sig", Proof: true}, // not known
			},
			Base: "https://mirror.example.org/ubuntu",
		},
		Checked:   time.Now().Add(-90 * time.Second),
		Slots:     []string{"main/binary-amd64/Packages.xz", "universe/i18n/Translation-en.xz"},
		FirstHand: true,
	}
}

// sameAnnouncement compares what was told with what was heard, give or take the journey,
// which takes a loaded machine its time.
func sameAnnouncement(t *testing.T, got, want proto.Announcement) {
	t.Helper()
	if late := got.Checked.Sub(want.Checked); late < -30*time.Second || late > 30*time.Second {
		t.Errorf("checked %v later than told", late)
	}
	got.Checked = want.Checked
	if a, b := fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", want); a != b {
		t.Errorf("heard\n%s\nwas told\n%s", a, b)
	}
}

func TestSend(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		boxes := map[string]*inbox{"a": {}, "b": {}, "c": {}, "d": {}}
		meshes, f := cluster(t, func(name string, cfg *Config) { cfg.Control = &answers{received: boxes[name].received} }, "a", "b", "c", "d")
		a, announcements := meshes[0], announcementOf(noble)
		began := time.Now()
		if err := a.Announce(t.Context(), announcements); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took > 3*oneWay {
			t.Errorf("telling three nodes took %v", took)
		}
		for name, box := range boxes {
			if name == "a" {
				continue
			}
			if len(box.announcements) != 1 || box.from[0] != "a" {
				t.Fatalf("%s heard %d pieces of news", name, len(box.announcements))
			}
			sameAnnouncement(t, box.announcements[0], announcements)
		}

		// One that has fallen silent a moment ago, and one that is known to be.
		f.set("c:1", refuse)
		within(t, 2*time.Second, func() bool { return !a.peer("c").reachable() })
		f.set("d:1", hold)
		began = time.Now()
		err := a.Announce(t.Context(), announcements)
		var failed *proto.PeerFailed
		if !errors.As(err, &failed) || failed.Peer != "d" || strings.Contains(err.Error(), "node c") {
			t.Errorf("got %v", err)
		}
		if took := time.Since(began); took > sendTimeout {
			t.Errorf("a silent node held it up for %v", took)
		}
		if boxes["b"].count() != 2 || boxes["c"].count() != 1 {
			t.Error("the others were not told as they should")
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(errClosed)
		if err := a.Announce(ctx, announcements); !errors.Is(err, errClosed) {
			t.Errorf("cancelled: %v", err)
		}
	})
}

// TestSendAfterARestart finds a connection that is broken and a first attempt to
// connect that fails.
func TestSendAfterARestart(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var box inbox
		meshes, f := cluster(t, func(_ string, cfg *Config) {
			cfg.Control = &answers{received: box.received}
			cfg.Health.Every, cfg.Health.Wait = time.Hour, time.Hour // nobody else mends it
		}, "a", "b")
		f.set("b:1", refuse)
		synctest.Wait()
		time.AfterFunc(10*time.Millisecond, func() { f.set("b:1", carry) })
		messages, _ := announceRequests([]proto.Announcement{announcementOf(noble)})
		if err := meshes[0].send(t.Context(), meshes[0].peer("b"), messages[0]); err != nil || box.count() != 1 {
			t.Errorf("%v; %d heard", err, box.count())
		}
		if f.dialled() < 4 {
			t.Errorf("%d dials: the first was not refused", f.dialled())
		}
	})
}

func TestSendMuch(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var box inbox
		meshes, _ := cluster(t, func(_ string, cfg *Config) { cfg.Control = &answers{received: box.received} }, "a", "b")
		var all []proto.Announcement
		for i := range 2500 {
			all = append(all, proto.Announcement{Generation: proto.Generation{Suite: proto.Suite{Archive: "ppa", Dir: fmt.Sprint(i)}}})
		}
		slots := make([]string, 3*maxSlots)
		for i := range slots {
			slots[i] = fmt.Sprintf("%0*d", maxSlot, i)
		}
		slots[7] = strings.Repeat("x", maxSlot+1)
		slots[8] = "../other"
		for i := range 3 {
			all[i].Slots = slots
		}
		bad := proto.Announcement{Generation: proto.Generation{Suite: proto.Suite{Archive: "ppa", Dir: "a/../b"}}}
		err := meshes[0].Announce(t.Context(), append(all, bad)...)
		if err == nil || strings.Contains(err.Error(), "node") {
			t.Errorf("news that cannot be told: %v", err)
		}
		if len(box.announcements) != len(all) || len(box.from) < 5 {
			t.Fatalf("%d of %d heard, in %d messages", len(box.announcements), len(all), len(box.from))
		}
		if got := box.announcements[0].Slots; len(got) != maxSlots || slices.Contains(got, slots[7]) || slices.Contains(got, slots[8]) {
			t.Errorf("%d uses", len(got))
		}
	})
}

func TestAsk(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		announcements := announcementOf(noble)
		var mu sync.Mutex
		var asked func(context.Context) (proto.Announcement, error) // guarded by mu
		var seen string                                             // guarded by mu
		meshes, f := cluster(t, func(_ string, cfg *Config) {
			cfg.Control = &answers{asked: func(ctx context.Context, from string, id proto.Suite, slots []string, fresh bool) (proto.Announcement, error) {
				mu.Lock()
				seen = fmt.Sprintln(from, id, slots, fresh)
				answer := asked
				mu.Unlock()
				return answer(ctx)
			}}
		}, "a", "b")
		a := meshes[0]
		ask := func() (proto.Announcement, error) {
			return a.CheckSuite(t.Context(), "b", noble, []string{"x", "../y"}, true)
		}
		answer := func(f func(context.Context) (proto.Announcement, error)) {
			mu.Lock()
			defer mu.Unlock()
			asked = f
		}
		var failed *proto.PeerFailed

		answer(func(context.Context) (proto.Announcement, error) { return announcements, nil })
		got, err := ask()
		mu.Lock()
		if err != nil || seen != "a ubuntu/dists/noble [x] true\n" {
			t.Errorf("%v; asked as %s", err, seen)
		}
		mu.Unlock()
		sameAnnouncement(t, got, announcements)

		answer(func(context.Context) (proto.Announcement, error) {
			time.Sleep(20 * time.Second)
			return proto.Announcement{}, &proto.Unavailable{Reason: "archive.ubuntu.com is busy", Answered: true, RetryAfter: 7 * time.Second}
		})
		var busy *proto.Unavailable
		if _, err := ask(); !errors.As(err, &busy) || !busy.Answered || busy.RetryAfter != 7*time.Second {
			t.Errorf("upstream's trouble: %v", err)
		}
		answer(func(context.Context) (proto.Announcement, error) { return proto.Announcement{}, proto.ErrNotFound })
		if _, err := ask(); !errors.Is(err, proto.ErrNotFound) {
			t.Errorf("no such suite: %v", err)
		}
		answer(func(context.Context) (proto.Announcement, error) {
			return announcementOf(proto.Suite{Archive: "ubuntu", Dir: "dists/jammy"}), nil
		})
		if _, err := ask(); !errors.As(err, &failed) || !strings.Contains(err.Error(), "jammy") {
			t.Errorf("another suite: %v", err)
		}

		// It answers pings, but not this.
		answer(func(ctx context.Context) (proto.Announcement, error) {
			<-ctx.Done()
			return proto.Announcement{}, ctx.Err()
		})
		began := time.Now()
		if _, err := ask(); !errors.As(err, &failed) || time.Since(began) != askTimeout || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("no answer: %v after %v", err, time.Since(began))
		}
		// It falls silent meanwhile.
		time.AfterFunc(5*time.Second, func() { f.set("b:1", hold) })
		began = time.Now()
		if _, err := ask(); !errors.As(err, &failed) || !errors.Is(err, errSilent) || time.Since(began) > 8500*time.Millisecond {
			t.Errorf("frozen: %v after %v", err, time.Since(began))
		}
		began = time.Now()
		if _, err := ask(); !errors.As(err, &failed) || !errors.Is(err, errSilent) || time.Since(began) != 0 {
			t.Errorf("known to be frozen: %v after %v", err, time.Since(began))
		}
		if _, err := a.CheckSuite(t.Context(), "nobody", noble, nil, false); !errors.As(err, &failed) || failed.Peer != "nobody" {
			t.Errorf("a stranger: %v", err)
		}
		f.set("b:1", carry)
		within(t, 3*time.Second, func() bool { return a.peer("b").reachable() })
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := a.CheckSuite(ctx, "b", noble, nil, false); !errors.Is(err, context.DeadlineExceeded) || errors.As(err, &failed) {
			t.Errorf("the caller has no more time: %v", err)
		}
	})
}

func TestOffer(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var calls []int
		failAt := 0
		meshes, _ := cluster(t, func(_ string, cfg *Config) {
			cfg.Control = &answers{offered: func(ctx context.Context, from string, offers []proto.ObjectRequest) []proto.Digest {
				if calls = append(calls, len(offers)); len(calls) == failAt {
					<-ctx.Done()
					return nil
				}
				var stored []proto.Digest
				for _, w := range offers {
					if from != "a" || !w.PeersOnly || w.Class != proto.ClassPrefetch || !slices.Equal(w.Holders, []string{"a"}) {
						t.Errorf("offered %+v", w)
					}
					if w.Ref.Digest[0]%2 == 0 {
						stored = append(stored, w.Ref.Digest)
					}
				}
				return append(stored, blob(-1)) // that was not offered
			}}
		}, "a", "b")
		a := meshes[0]
		var objects []proto.ObjectRequest
		even := 0
		for i := range 12_000 {
			w := proto.ObjectRequest{Ref: proto.Ref{Digest: blob(i), Size: int64(i)}}
			switch i {
			case 0:
				w.Where = where
			case 1:
				w.Where = proto.At(proto.Location{Path: "by digest"})
			}
			if w.Ref.Digest[0]%2 == 0 {
				even++
			}
			objects = append(objects, w)
		}
		stored, err := a.Offer(t.Context(), "b", objects)
		if err != nil || len(stored) != even || !slices.Equal(calls, []int{10_000, 2000}) {
			t.Errorf("%v; kept %d of %d in calls of %v", err, len(stored), even, calls)
		}
		calls, failAt = nil, 2
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		stored, err = a.Offer(ctx, "b", objects)
		if !errors.Is(err, context.DeadlineExceeded) || len(stored) == 0 || len(stored) >= even {
			t.Errorf("%v; kept %d", err, len(stored))
		}
		if _, err := a.Offer(t.Context(), "b", []proto.ObjectRequest{{Where: where}}); err == nil {
			t.Error("what has no digest was offered")
		}
	})
}

func TestStatuses(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		meshes, f := cluster(t, func(name string, cfg *Config) {
			size := map[string]int{"b": 5 << 20, "c": 10, "d": 10, "e": maxStatus + 1}[name]
			cfg.Control = &answers{status: func() []byte { return []byte(strings.Repeat(name, size)) }}
		}, "a", "b", "c", "d", "e")
		f.set("c:1", hold)
		began := time.Now()
		got := meshes[0].Statuses(t.Context())
		if time.Since(began) > statusTimeout {
			t.Errorf("it took %v", time.Since(began))
		}
		if len(got) != 2 || string(got["d"]) != "dddddddddd" || len(got["b"]) != 5<<20 {
			t.Errorf("%d statuses", len(got))
		}
	})
}

// TestSenselessMessages come from a node of the cluster that has gone mad.
func TestSenselessMessages(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var box inbox
		var alerts alertBox
		offered := 0
		var log logged
		meshes, _ := cluster(t, func(name string, cfg *Config) {
			if name == "b" {
				cfg.Logger = log.logger()
				cfg.Control = &answers{
					received: box.received, receivedAlerts: alerts.received,
					offered: func(context.Context, string, []proto.ObjectRequest) []proto.Digest { offered++; return nil },
				}
			}
		}, "a", "b")
		client := peerpb.NewControlClient(meshes[0].peer("b").control)
		good, err := announcementOut(announcementOf(noble), time.Now())
		if err != nil {
			t.Fatal(err)
		}
		bad, _ := announcementOut(announcementOf(noble), time.Now())
		bad.Generation.Root.Digest = []byte("short")
		digest := blob(1)
		for what, call := range map[string]func() error{
			"bad news among good": func() error {
				_, err := client.Announce(t.Context(), &peerpb.AnnounceRequest{Announcements: []*peerpb.Announcement{good, bad, good}})
				return err
			},
			"too much news": func() error {
				_, err := client.Announce(t.Context(), &peerpb.AnnounceRequest{Announcements: make([]*peerpb.Announcement, maxAnnouncements+1)})
				return err
			},
			"bad trouble among good, and beside bad news": func() error {
				_, err := client.Announce(t.Context(), &peerpb.AnnounceRequest{Announcements: []*peerpb.Announcement{bad}, Alerts: []*peerpb.MirrorAlert{
					{Mirror: "x"}, {Mirror: germany, Kind: peerpb.MirrorAlert_WAIT, ForMs: 1000},
				}})
				return err
			},
			"too many troubles": func() error {
				_, err := client.Announce(t.Context(), &peerpb.AnnounceRequest{Alerts: make([]*peerpb.MirrorAlert, maxMirrors+1)})
				return err
			},
			"no suite": func() error {
				_, err := client.CheckSuite(t.Context(), &peerpb.CheckSuiteRequest{Dir: "dists/noble"})
				return err
			},
			"a use that leads elsewhere": func() error {
				_, err := client.CheckSuite(t.Context(), &peerpb.CheckSuiteRequest{Archive: "ubuntu", Dir: "dists/noble", Slots: []string{"../../x"}})
				return err
			},
			"too many offers": func() error {
				_, err := client.Offer(t.Context(), &peerpb.OfferRequest{Offers: make([]*peerpb.Offer, maxOffers+1)})
				return err
			},
			"an offer of nothing": func() error {
				_, err := client.Offer(t.Context(), &peerpb.OfferRequest{Offers: []*peerpb.Offer{{Ref: &peerpb.Ref{Digest: digest[:], Size: 1}}, nil}})
				return err
			},
		} {
			if err := call(); status.Code(err) != codes.InvalidArgument {
				t.Errorf("%s: %v", what, err)
			}
		}
		if _, err := client.Announce(t.Context(), &peerpb.AnnounceRequest{Announcements: []*peerpb.Announcement{{From: strings.Repeat("x", 5<<20)}}}); status.Code(err) != codes.ResourceExhausted {
			t.Errorf("a message of 5 MiB: %v", err)
		}
		if len(box.announcements) != 2 || offered != 0 {
			t.Errorf("%d pieces of news were heard, %d offers", len(box.announcements), offered)
		}
		if from, heard := alerts.all(); len(heard) != 1 || from[0] != "a" || heard[0].Node != "a" {
			t.Errorf("heard %+v of mirrors, from %v", heard, from)
		}
		if n := log.count("makes no sense"); n != 1 {
			t.Errorf("%d log lines:\n%s", n, log.String())
		}

		// And the other way round: a has no Control at all.
		back := peerpb.NewControlClient(meshes[1].peer("a").control)
		if _, err := back.Announce(t.Context(), &peerpb.AnnounceRequest{}); status.Code(err) != codes.Unimplemented {
			t.Errorf("a node without Control: %v", err)
		}
		if _, err := back.Ping(t.Context(), &peerpb.PingRequest{}); err != nil {
			t.Errorf("a node without Control does not answer pings: %v", err)
		}
	})
}

// TestOverRealConnections has three nodes with certificates talk over TCP. A call
// has two seconds to come through, which a machine that does much else may need for
// itself: so calls are made until one does.
func TestOverRealConnections(t *testing.T) {
	trust := newAuthority(t, "cluster")
	announcements := map[string]*inbox{"a": {}, "b": {}, "c": {}}
	alerts := map[string]*alertBox{"a": {}, "b": {}, "c": {}}
	tune := func(name string) Config {
		return Config{TLS: trust.node(t, name), Health: HealthConfig{Every: 50 * time.Millisecond, Wait: 15 * time.Second}, Control: &answers{
			received: announcements[name].received,
			asked: func(context.Context, string, proto.Suite, []string, bool) (proto.Announcement, error) {
				return announcementOf(noble), nil
			},
			status:         func() []byte { return []byte(name) },
			receivedAlerts: alerts[name].received,
			alerts: func() []proto.MirrorAlert {
				return []proto.MirrorAlert{{Mirror: "http://mirror.example.org/" + name, Kind: proto.AlertErrors, Until: time.Now().Add(time.Minute)}}
			},
		}}
	}
	a, b, c := newMesh(t, "a", tune("a")), newMesh(t, "b", tune("b")), newMesh(t, "c", tune("c"))
	acquaint(t, a, b, c)
	eventually(t, func() bool { return a.peer("b").healthy() && a.peer("c").healthy() && a.peer("b").rtt() > 0 })
	eventually(t, func() bool { return a.Announce(t.Context(), announcementOf(noble)) == nil })
	told := alertsOf(time.Now())
	eventually(t, func() bool { return a.SendAlerts(t.Context(), told...) == nil })
	for _, name := range []string{"b", "c"} {
		if announcements[name].count() == 0 || announcements[name].from[0] != "a" {
			t.Errorf("%s was told by %v", name, announcements[name].from)
		}
		got, _ := alerts[name].of(germany)
		if sameAlert(t, got, told[0]); got.Node != "a" {
			t.Errorf("%s heard of %+v", name, got)
		}
		eventually(t, func() bool { _, greeted := alerts[name].of("http://mirror.example.org/a"); return greeted })
	}
	var got proto.Announcement
	eventually(t, func() (ok bool) {
		var err error
		got, err = a.CheckSuite(t.Context(), "b", noble, nil, false)
		return err == nil
	})
	sameAnnouncement(t, got, announcementOf(noble))
	eventually(t, func() bool { all := a.Statuses(t.Context()); return string(all["b"]) == "b" && string(all["c"]) == "c" })
	c.cfg.Local.Add(blob(1))
	eventually(t, func() bool { return slices.Equal(a.Route(wantOf(blob(1))).Holders, []string{"c"}) })

	// A node that stops answering, and one whose connections break.
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool { return !a.peer("c").reachable() && !a.peer("c").healthy() && !a.Replicated(blob(1)) })
	if err := a.Announce(t.Context(), announcementOf(noble)); err != nil && strings.Contains(err.Error(), "node c") {
		t.Errorf("a node known to be gone is told: %v", err)
	}
	again := tune("c")
	again.Local = c.cfg.Local
	acquaint(t, a, b, newMesh(t, "c", again))
	eventually(t, func() bool { return a.peer("c").healthy() && a.Replicated(blob(1)) })
}

// eventually waits until cond holds, in real time.
func eventually(t *testing.T, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !cond(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it does not come to be so")
		}
	}
}
