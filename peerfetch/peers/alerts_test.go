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
	"unicode"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
	pb "google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/aptmesh/aptmesh/proto"
	"github.com/aptmesh/aptmesh/proto/bubble"
	"github.com/aptmesh/aptmesh/proto/peerpb"
)

const germany = "http://de.archive.ubuntu.com/ubuntu"

// alertsOf is trouble of each kind, and one that is over.
func alertsOf(now time.Time) []proto.MirrorAlert {
	return []proto.MirrorAlert{
		{Mirror: germany, Kind: proto.AlertWait, Reason: "it answered 429 and asks to wait 30 s", Until: now.Add(30 * time.Second)},
		{Mirror: "https://mirror.example.org:8443/pub/ubuntu", Kind: proto.AlertUnreachable, Reason: "connection refused", Until: now.Add(time.Second)},
		{Mirror: "http://[2001:db8::1]/ubuntu", Kind: proto.AlertErrors, Until: now.Add(2 * time.Minute)},
		{Mirror: "http://archive.ubuntu.com/ubuntu", Kind: proto.AlertContent, Reason: "pages in place of packages", Until: now.Add(maxAlertFor)},
		{Mirror: "http://archive.ubuntu.com/other", Kind: proto.AlertWait},
	}
}

// sameAlert compares what was sent with what was received, except for the sender and
// give or take the journey: what has passed meanwhile may be over.
func sameAlert(t *testing.T, got, want proto.MirrorAlert) {
	t.Helper()
	late := got.Until.Sub(want.Until)
	switch {
	case want.Until.IsZero() && !got.Until.IsZero():
		t.Errorf("%s: what is over lasts until %v", got.Mirror, got.Until)
	case got.Until.IsZero() && time.Until(want.Until) > 0:
		t.Errorf("%s: over, though it lasts until %v", got.Mirror, want.Until)
	case !got.Until.IsZero() && (late < -time.Minute || late > time.Minute):
		t.Errorf("%s: until %v, was sent %v", got.Mirror, got.Until, want.Until)
	}
	got.Until, got.Node = want.Until, want.Node
	if got != want {
		t.Errorf("received\n%+v\nwas sent\n%+v", got, want)
	}
}

// believable holds that what was received is within bounds, whoever said it.
func believable(t *testing.T, alert proto.MirrorAlert) {
	t.Helper()
	text := alert.Mirror + alert.Reason
	if len(alert.Reason) > maxAlertReason || checkMirror(alert.Mirror) != nil ||
		!utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl) ||
		time.Until(alert.Until) > maxAlertFor || alert.Kind == "" && !alert.Until.IsZero() {
		t.Fatalf("believed %+v", alert)
	}
}

// alertBox collects what a node hears of mirrors.
type alertBox struct {
	mu       sync.Mutex
	from     []string
	alerts   []proto.MirrorAlert
	messages int
}

func (b *alertBox) received(from string, alerts []proto.MirrorAlert) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.messages++
	for _, t := range alerts {
		b.from, b.alerts = append(b.from, from), append(b.alerts, t)
	}
}

func (b *alertBox) all() (from []string, alerts []proto.MirrorAlert) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.from), slices.Clone(b.alerts)
}

// of is what was received of a mirror last; false if nothing was.
func (b *alertBox) of(mirror string) (proto.MirrorAlert, bool) {
	_, alerts := b.all()
	for _, t := range slices.Backward(alerts) {
		if t.Mirror == mirror {
			return t, true
		}
	}
	return proto.MirrorAlert{}, false
}

func TestSendAlerts(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		boxes := map[string]*alertBox{"a": {}, "b": {}, "c": {}, "d": {}}
		meshes, f := cluster(t, func(name string, cfg *Config) {
			cfg.Control = &answers{receivedAlerts: boxes[name].received, received: func(string, []proto.Announcement) { t.Error("an announcement was received") }}
		}, "a", "b", "c", "d")
		a, sent := meshes[0], alertsOf(time.Now())
		if err := a.SendAlerts(t.Context(), sent...); err != nil {
			t.Fatal(err)
		}
		for name, box := range boxes {
			from, received := box.all()
			if name == "a" && len(received) == 0 {
				continue
			}
			if len(received) != len(sent) {
				t.Fatalf("%s received %+v", name, received)
			}
			for i := range sent {
				if from[i] != "a" || received[i].Node != "a" {
					t.Errorf("%s received it from %s, found by %q", name, from[i], received[i].Node)
				}
				if late := received[i].Until.Sub(sent[i].Until); late < 0 || late > time.Second {
					t.Errorf("%s: until %v later than sent", name, late)
				}
				sameAlert(t, received[i], sent[i])
			}
		}

		// One that has fallen silent a moment ago is waited for, for a while; one that
		// is known to be silent is not. What cannot be sent holds up nothing.
		f.set("c:1", refuse)
		within(t, 2*time.Second, func() bool { return !a.peer("c").reachable() })
		f.set("d:1", hold)
		err := a.SendAlerts(t.Context(), proto.MirrorAlert{Mirror: "no mirror"}, sent[0])
		var failed *proto.PeerFailed
		if !errors.As(err, &failed) || failed.Peer != "d" || strings.Contains(err.Error(), "node c") || !strings.Contains(err.Error(), "no mirror") {
			t.Errorf("got %v", err)
		}
		_, b := boxes["b"].all()
		_, c := boxes["c"].all()
		if len(b) != len(sent)+1 || len(c) != len(sent) {
			t.Errorf("b received %d, c %d", len(b), len(c))
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(errClosed)
		if err := a.SendAlerts(ctx, sent...); !errors.Is(err, errClosed) {
			t.Errorf("cancelled: %v", err)
		}
	})
}

// TestJoiningNodeReceivesAlerts: a node that was not there, or did not answer, when
// trouble was sent hears of it when it answers.
func TestJoiningNodeReceivesAlerts(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var box alertBox
		var mu sync.Mutex
		var holds []proto.MirrorAlert // guarded by mu
		meshes, f := cluster(t, func(name string, cfg *Config) {
			if name == "b" {
				cfg.Control = &answers{receivedAlerts: box.received}
				return
			}
			cfg.Control = &answers{alerts: func() []proto.MirrorAlert { mu.Lock(); defer mu.Unlock(); return holds }}
		}, "a", "b")
		a := meshes[0]
		synctest.Wait()
		if from, received := box.all(); len(received) > 0 {
			t.Fatalf("received %+v of %v, and nothing was known", received, from)
		}
		f.set("b:1", refuse)
		within(t, 3*time.Second, func() bool { return !a.peer("b").reachable() })
		mu.Lock()
		holds = alertsOf(time.Now())[:1]
		mu.Unlock()
		if err := a.SendAlerts(t.Context(), holds...); err != nil {
			t.Errorf("a node known to be gone is sent: %v", err)
		}
		f.set("b:1", carry)
		within(t, 10*time.Second, func() bool { _, ok := box.of(germany); return ok })
		if got, _ := box.of(germany); got.Node != "a" || !got.Until.After(time.Now()) {
			t.Errorf("received %+v", got)
		}
	})
}

func TestAlertsOfManyMirrors(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var box alertBox
		meshes, _ := cluster(t, func(_ string, cfg *Config) { cfg.Control = &answers{receivedAlerts: box.received} }, "a", "b")
		var many []proto.MirrorAlert
		for i := range 2*maxMirrors + 1 {
			many = append(many, proto.MirrorAlert{
				Mirror: fmt.Sprintf("http://mirror.example.org/%d", i), Kind: proto.AlertErrors, Until: time.Now().Add(24 * time.Hour),
				Reason: strings.Repeat("ä", maxReason) + "\n",
			})
		}
		if err := meshes[0].SendAlerts(t.Context(), many...); err != nil {
			t.Fatal(err)
		}
		_, received := box.all()
		if len(received) != len(many) || box.messages != 3 {
			t.Fatalf("%d of %d received, in %d messages", len(received), len(many), box.messages)
		}
		for i := range received {
			believable(t, received[i])
			if received[i].Mirror != many[i].Mirror || time.Until(received[i].Until) < maxAlertFor-time.Second || len(received[i].Reason) != maxAlertReason {
				t.Fatalf("received %+v", received[i])
			}
		}
	})
}

// TestStateSaysNothingOfNow: what is gossiped, or exchanged in full, may be years old,
// and from anybody who has the key. It must renew nothing and silence no mirror.
func TestStateSaysNothingOfNow(t *testing.T) {
	announcements := announcementOf(noble)
	announcements.FirstHand = true
	received, err := UnmarshalState(MarshalState(State{From: "ams1", Announcements: []proto.Announcement{announcements}}))
	if err != nil || len(received.Announcements) != 1 || received.Announcements[0].Generation.Compare(announcements.Generation) != proto.Same {
		t.Fatalf("received %+v: %v", received, err)
	}
	// Somebody else writes what MarshalState would not.
	fresh, err := announcementOut(announcements, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	fresh.From, fresh.CheckedMs = "ams1", 0
	forged := mustMarshal(t, &peerpb.State{Announcements: []*peerpb.Announcement{fresh}})
	alert, err := alertOut(alertsOf(time.Now())[0], time.Now())
	if err != nil {
		t.Fatal(err)
	}
	forged = protowire.AppendTag(forged, 2, protowire.BytesType) // where State once had alerts
	forged = protowire.AppendBytes(forged, mustMarshal(t, alert))
	received, err = UnmarshalState(forged)
	if err != nil || len(received.Announcements) != 1 {
		t.Fatalf("received %+v: %v", received, err)
	}
	if got := received.Announcements[0]; !got.Checked.IsZero() || got.FirstHand {
		t.Errorf("believed that upstream was asked at %v, first hand: %v", got.Checked, got.FirstHand)
	}
}

func TestAlertsOfOthersAreNotBelieved(t *testing.T) {
	now := time.Now()
	good := func() *peerpb.MirrorAlert {
		return &peerpb.MirrorAlert{Mirror: germany, Kind: peerpb.MirrorAlert_WAIT, Reason: "busy", ForMs: 30_000}
	}
	if got, err := alertIn(good(), now); err != nil || got.Until != now.Add(30*time.Second) {
		t.Fatalf("%+v: %v", got, err)
	}
	for what, spoil := range map[string]func(*peerpb.MirrorAlert){
		"no mirror":           func(p *peerpb.MirrorAlert) { p.Mirror = "" },
		"a long mirror":       func(p *peerpb.MirrorAlert) { p.Mirror += strings.Repeat("x", maxMirror) },
		"not UTF-8":           func(p *peerpb.MirrorAlert) { p.Mirror += "\xff" },
		"a control character": func(p *peerpb.MirrorAlert) { p.Mirror += "\u0085" },
		"a path":              func(p *peerpb.MirrorAlert) { p.Mirror = "/etc/passwd" },
		"a file":              func(p *peerpb.MirrorAlert) { p.Mirror = "file:///etc/passwd" },
		"no host":             func(p *peerpb.MirrorAlert) { p.Mirror = "http://:80/ubuntu" },
		"a password":          func(p *peerpb.MirrorAlert) { p.Mirror = "http://me:secret@archive.ubuntu.com/ubuntu" },
		"no URL":              func(p *peerpb.MirrorAlert) { p.Mirror = "http://[::1/" },
		"time backwards":      func(p *peerpb.MirrorAlert) { p.ForMs = -1 },
	} {
		p := good()
		spoil(p)
		if got, err := alertIn(p, now); err == nil {
			t.Errorf("%s: believed as %+v", what, got)
		}
		if got, err := alertsIn([]*peerpb.MirrorAlert{p, good()}, now); err == nil || len(got) != 1 {
			t.Errorf("%s among others: %+v, %v", what, got, err)
		}
		if out, err := alertOut(proto.MirrorAlert{Mirror: p.Mirror, Kind: proto.AlertWait}, now); err == nil && p.Mirror != germany {
			t.Errorf("%s: sent as %+v", what, out)
		}
	}
	if _, err := alertIn(nil, now); err == nil {
		t.Error("nothing at all is believed")
	}
	if got, err := alertsIn(slices.Repeat([]*peerpb.MirrorAlert{good()}, maxMirrors+1), now); err == nil || len(got) > 0 {
		t.Errorf("too many: %d, %v", len(got), err)
	}
	// No longer than bounded, and no kind of which nothing is known here; that such
	// a one is over can do no harm.
	p := good()
	p.ForMs, p.Reason = 1<<62, strings.Repeat("x\n", maxReason)
	got, err := alertIn(p, now)
	if err != nil || got.Until != now.Add(maxAlertFor) {
		t.Errorf("for ever: %+v, %v", got, err)
	}
	believable(t, got)
	// What has hardly a moment left is not over yet.
	brief := proto.MirrorAlert{Mirror: germany, Kind: proto.AlertWait, Until: now.Add(time.Microsecond)}
	if out, err := alertOut(brief, now); err != nil || out.ForMs != 1 {
		t.Errorf("for a microsecond: %v, %v", out, err)
	}
	p.Kind = 99
	if got, err := alertsIn([]*peerpb.MirrorAlert{p}, now); err != nil || len(got) > 0 {
		t.Errorf("a kind of the future: %+v, %v", got, err)
	}
	p.ForMs = 0
	if got, err := alertsIn([]*peerpb.MirrorAlert{p}, now); err != nil || len(got) != 1 {
		t.Errorf("a kind of the future, over: %+v, %v", got, err)
	}
	if _, err := alertOut(proto.MirrorAlert{Mirror: germany, Kind: "odd", Until: now.Add(time.Minute)}, now); err == nil {
		t.Error("trouble of no kind is sent")
	}
}

// TestOldNodesCanReceive: a node of a version without alerts reads the rest of a
// message.
func TestOldNodesCanReceive(t *testing.T) {
	now := time.Now()
	messages, errs := alertRequests(alertsOf(now))
	if len(errs) > 0 || len(messages) != 1 {
		t.Fatalf("%d messages: %v", len(messages), errs)
	}
	old := dynamicpb.NewMessage(withoutAlerts(t, "AnnounceRequest"))
	if err := pb.Unmarshal(mustMarshal(t, messages[0]), old); err != nil {
		t.Errorf("an old node cannot be sent: %v", err)
	}
}

// withoutAlerts is a message as it was before there were alerts.
func withoutAlerts(t *testing.T, message protoreflect.Name) protoreflect.MessageDescriptor {
	t.Helper()
	file := protodesc.ToFileDescriptorProto(peerpb.File_proto_peerpb_peer_proto)
	for _, m := range file.MessageType {
		m.Field = slices.DeleteFunc(m.Field, func(f *descriptorpb.FieldDescriptorProto) bool { return f.GetName() == "troubles" })
	}
	old, err := protodesc.NewFile(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	return old.Messages().ByName(message)
}
