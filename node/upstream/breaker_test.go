package upstream

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aptmesh/aptmesh/proto"
	"github.com/aptmesh/aptmesh/proto/bubble"
)

// step is something that happens to a breaker at a time.
type step struct {
	at    time.Duration
	do    func(*breaker, time.Time) bool // tells whether something changed
	does  bool
	state string
}

func fails(kind proto.AlertKind, weight int) func(*breaker, time.Time) bool {
	return func(b *breaker, now time.Time) bool { return b.failed(kind, weight, "it failed", now) }
}

func asks(wait time.Duration) func(*breaker, time.Time) bool {
	return func(b *breaker, now time.Time) bool { return b.asked(wait, "it asked us to wait", now) }
}

func lies(path string) func(*breaker, time.Time) bool {
	return func(b *breaker, now time.Time) bool {
		return b.wrongContent(proto.Location{Archive: "a", Path: path}, "it lied", now)
	}
}

// succeeds is a good answer to a request that began so long before.
func succeeds(ago time.Duration) func(*breaker, time.Time) bool {
	return func(b *breaker, now time.Time) bool { return b.answered(now.Add(-ago), now) }
}

func nothing(*breaker, time.Time) bool { return false }

func hears(kind proto.AlertKind, node string, lasts time.Duration) func(*breaker, time.Time) bool {
	return func(b *breaker, now time.Time) bool {
		t := proto.MirrorAlert{Kind: kind, Reason: "another node says so", Node: node}
		if lasts != 0 {
			t.Until = now.Add(lasts)
		}
		before := *b
		b.receive(t, now)
		return b.until != before.until || b.opened != before.opened
	}
}

func TestBreaker(t *testing.T) {
	const s, m = time.Second, time.Minute
	errs := proto.AlertErrors
	for _, tc := range []struct {
		name  string
		steps []step
	}{
		{"opens at the third failure, and again after one", []step{
			{0, fails(errs, 1), false, BreakerClosed},
			{0, fails(errs, 1), false, BreakerClosed},
			{0, fails(errs, 1), true, BreakerOpen},
			{s - 1, nothing, false, BreakerOpen},
			{s, nothing, false, BreakerHalfOpen},
			{s, succeeds(0), true, BreakerClosed},
			{2 * s, fails(errs, 1), true, BreakerOpen},
		}},
		{"opens at once for a heavy failure", []step{
			{0, fails(proto.AlertUnreachable, tripAt), true, BreakerOpen},
		}},
		{"cool-downs grow up to a minute", []step{
			{0, fails(errs, 3), true, BreakerOpen},
			{s, fails(errs, 1), true, BreakerOpen},       // for 2 s
			{2 * s, fails(errs, 1), false, BreakerOpen},  // one that was under way
			{3 * s, fails(errs, 1), true, BreakerOpen},   // 4 s
			{7 * s, fails(errs, 1), true, BreakerOpen},   // 8 s
			{15 * s, fails(errs, 1), true, BreakerOpen},  // 16 s
			{31 * s, fails(errs, 1), true, BreakerOpen},  // 32 s
			{63 * s, fails(errs, 1), true, BreakerOpen},  // 60 s
			{123 * s, fails(errs, 1), true, BreakerOpen}, // 60 s
			{182 * s, nothing, false, BreakerOpen},       //
			{183 * s, nothing, false, BreakerHalfOpen},   //
			{184 * s, succeeds(s / 2), true, BreakerClosed},
			{190 * s, fails(errs, 1), true, BreakerOpen},
			{249 * s, nothing, false, BreakerOpen},
			{250 * s, succeeds(0), true, BreakerClosed},
			{250*s + calmAfter, fails(errs, 1), true, BreakerOpen},
			{251*s + calmAfter, nothing, false, BreakerHalfOpen}, // short again
		}},
		{"what began before it opened proves nothing", []step{
			{5 * s, fails(errs, 3), true, BreakerOpen},
			{6 * s, succeeds(3 * s), false, BreakerHalfOpen},
			{6 * s, succeeds(s / 2), true, BreakerClosed},
		}},
		{"waits as long as it is asked to", []step{
			{0, asks(20 * s), true, BreakerOpen},
			{5 * s, succeeds(s), false, BreakerOpen},
			{5 * s, asks(s), false, BreakerOpen}, // no longer than before
			{5 * s, fails(errs, 3), false, BreakerOpen},
			{6 * s, asks(20 * s), true, BreakerOpen},
			{25 * s, nothing, false, BreakerOpen},
			{26 * s, nothing, false, BreakerHalfOpen},
			{26 * s, succeeds(0), true, BreakerClosed},
		}},
		{"but no longer than ten minutes", []step{
			{0, asks(24 * time.Hour), true, BreakerOpen},
			{10 * m, nothing, false, BreakerHalfOpen},
		}},
		{"wrong content for three objects", []step{
			{0, lies("x"), false, BreakerClosed},
			{0, lies("x"), false, BreakerClosed},
			{s, lies("y"), false, BreakerClosed},
			{s, lies("x"), false, BreakerClosed},
			{s, lies("z"), true, BreakerOpen},
			{30 * s, nothing, false, BreakerOpen},
			{31 * s, nothing, false, BreakerHalfOpen},
			{31 * s, lies("x"), true, BreakerOpen}, // one is enough now; for a minute
			{90 * s, nothing, false, BreakerOpen},
			{91 * s, nothing, false, BreakerHalfOpen},
		}},
		{"wrong content now and then", []step{
			{0, lies("x"), false, BreakerClosed},
			{m, lies("y"), false, BreakerClosed},
			{2 * m, lies("z"), false, BreakerClosed},
			{3 * m, lies("w"), false, BreakerClosed},
		}},
		{"another node says so", []step{
			{0, hears(errs, "n2", 30*s), true, BreakerOpen},
			{s, hears(errs, "n3", 0), false, BreakerOpen}, // not n3's to say
			{s, hears(errs, "n2", 0), true, BreakerClosed},
			{2 * s, fails(errs, 1), false, BreakerClosed},
			{2 * s, hears(errs, "n2", -s), false, BreakerClosed},
			{2 * s, hears(proto.AlertWait, "n2", 24*time.Hour), true, BreakerOpen},
			{3 * s, succeeds(2 * s), false, BreakerOpen}, // it began before
			{2*s + 10*m, nothing, false, BreakerHalfOpen},
		}},
		{"another node says so, and it is not so", []step{
			{0, hears(proto.AlertWait, "n2", 10*m), true, BreakerOpen},
			{4 * s, hears(proto.AlertWait, "n2", 10*m), true, BreakerOpen}, // for longer, and began as before
			{5 * s, succeeds(2 * s), true, BreakerClosed},
			{6 * s, hears(proto.AlertWait, "n2", 10*m), false, BreakerClosed},
			{6 * s, hears(errs, "n2", 10*m), false, BreakerClosed},
			{6 * s, hears(errs, "n3", s), true, BreakerOpen},
			{10*m + 5*s, hears(proto.AlertWait, "n2", m), true, BreakerOpen},
		}},
		{"what we found out ourselves", []step{
			{0, asks(20 * s), true, BreakerOpen},
			{0, hears(errs, "n2", 10*s), false, BreakerOpen},
			{0, hears(errs, "n2", 0), false, BreakerOpen},
			{0, hears(errs, "n2", 30*s), true, BreakerOpen},
			{25 * s, nothing, false, BreakerOpen},
			{25 * s, succeeds(s), true, BreakerClosed},
		}},
	} {
		var b breaker
		start := time.Date(2024, 4, 25, 0, 0, 0, 0, time.UTC)
		for i, st := range tc.steps {
			now := start.Add(st.at)
			if does := st.do(&b, now); does != st.does || b.state(now) != st.state {
				t.Errorf("%s, step %d: %v and %s, want %v and %s", tc.name, i, does, b.state(now), st.does, st.state)
			}
		}
	}
}

// What is found out is told: when a breaker opens, and when it closes.
func TestAlertsAreSent(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := newRealm(t, 2, inOrder)
		r.at(0, answers(503, "Retry-After", "60"))
		r.from("1.deb")
		told := r.changed()
		if len(told) != 1 || told[0].Mirror != nameOf(0) || told[0].Kind != proto.AlertWait || time.Until(told[0].Until) != time.Minute ||
			!strings.Contains(told[0].Reason, "answered 503 Service Unavailable") {
			t.Errorf("told %+v", told)
		}
		if held := r.Alerts(); len(held) != 1 || held[0] != told[0] {
			t.Errorf("holds %+v", held)
		}
		r.requests()

		// For that minute it is left in peace, by clients and probes alike.
		for i := range 59 {
			time.Sleep(time.Second)
			r.from(fmt.Sprintf("2/%d.deb", i))
		}
		synctest.Wait()
		if gets, probes := r.requests(); gets[nameOf(0)] != 0 || probes[nameOf(0)] != 0 {
			t.Errorf("asked though it asked for a minute: %v %v", gets, probes)
		}

		// Then one look in the background tells; nobody waits for it.
		time.Sleep(time.Second)
		r.wantState(0, BreakerHalfOpen)
		r.from("3.deb")
		told = r.changed()
		if len(told) != 1 || told[0].Kind != proto.AlertWait || time.Until(told[0].Until) != time.Minute {
			t.Errorf("told %+v", told)
		}
		r.at(0, nil)
		time.Sleep(time.Minute)
		r.requests()
		if got := r.from("4.deb"); got != nameOf(1) {
			t.Errorf("from %s", got)
		}
		if told = r.changed(); len(told) != 1 || told[0].Mirror != nameOf(0) || !told[0].Until.IsZero() {
			t.Errorf("told %+v", told)
		}
		if gets, probes := r.requests(); gets[nameOf(0)] != 0 || probes[nameOf(0)] != 1 {
			t.Errorf("asked %v %v", gets, probes)
		}
		if len(r.Alerts()) != 0 {
			t.Errorf("holds %+v", r.Alerts())
		}
		if got := r.from("5.deb"); got != nameOf(0) {
			t.Errorf("from %s", got)
		}
	})
}

// No client waits for a mirror that is known to be away.
func TestNobodyWaitsForADeadMirror(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := newRealm(t, 3, inOrder)
		r.dialing(0, blackHole)
		r.from("first.deb")
		began := time.Now()
		for i := range 300 {
			r.from(fmt.Sprintf("%d.deb", i))
			time.Sleep(time.Second)
		}
		if took := time.Since(began); took != 300*time.Second {
			t.Errorf("clients waited %v", took-300*time.Second)
		}
		r.wantRequests(map[string]int{nameOf(1): 301})
		if got := r.state(0); got.State == BreakerClosed || got.Alert != string(proto.AlertUnreachable) || got.Failovers[leftUnreachable] > 15 {
			t.Errorf("%+v", got)
		}
		r.dialing(0, nil)
		for range 120 {
			time.Sleep(time.Second)
			r.from("x.deb")
			synctest.Wait()
		}
		r.wantState(0, BreakerClosed)
		if got := r.from("last.deb"); got != nameOf(0) {
			t.Errorf("from %s", got)
		}
	})
}

// An archive with one mirror only is back within two seconds of it, however long it
// was away, and the mirror is reserved the herd meanwhile.
func TestLastMirrorStandingIsProbed(t *testing.T) {
	const clients, outage = 20, 120 * time.Second
	for name, away := range map[string]func(*realm){
		"refuses connections": func(r *realm) { r.dialing(0, connectionRefused) },
		"503":                 func(r *realm) { r.at(0, answers(503)) },
		"pages":               func(r *realm) { r.at(0, page) },
	} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				r := newRealm(t, 1)
				away(r)
				began := time.Now()
				var dials atomic.Int32
				var served sync.Map // by client, when
				var wg sync.WaitGroup
				for i := range clients {
					wg.Go(func() {
						for {
							_, got, err := fetchAll(t.Context(), r.Client, get(fmt.Sprintf("%d.deb", i)))
							if err == nil && string(got) == object {
								served.Store(i, time.Since(began))
								return
							}
							dials.Add(1)
							time.Sleep(100 * time.Millisecond)
						}
					})
				}
				time.Sleep(outage)
				gets, _ := r.requests()
				if failed := r.state(0).Failovers; failed[leftErrors]+failed[leftUnreachable]+failed[leftContent] > clients+int64(outage/time.Second)+1 {
					t.Errorf("asked for %v, %v times in %v", gets, failed, outage)
				}
				r.dialing(0, nil)
				r.at(0, nil)
				wg.Wait()
				served.Range(func(client, at any) bool {
					if late := at.(time.Duration) - outage; late > 2*time.Second {
						t.Errorf("client %v was served %v after the mirror was back", client, late)
					}
					return true
				})
				r.wantState(0, BreakerClosed)
			})
		})
	}
}

// A single mirror that asked for a pause gets it, and clients are told how long.
func TestRetryAfterOfTheOnlyMirror(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := newRealm(t, 1)
		r.at(0, answers(429, "Retry-After", "20"))
		unavailable(t, second(r.Fetch(t.Context(), get("1.deb"))))
		time.Sleep(5 * time.Second)
		busy := unavailable(t, second(r.Fetch(t.Context(), get("2.deb"))))
		if busy.RetryAfter != 15*time.Second || !busy.Answered || !strings.Contains(busy.Reason, "left alone") || !strings.Contains(busy.Reason, "429") {
			t.Errorf("%+v", busy)
		}
		r.wantRequests(map[string]int{nameOf(0): 1})
		r.at(0, nil)
		time.Sleep(15 * time.Second)
		r.from("2.deb")
	})
}

// Whoever waits for a mirror that is left alone may leave.
func TestCallerLeavesTheWaitForAMirror(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := newRealm(t, 1)
		r.at(0, answers(503))
		for range tripAt + 1 {
			unavailable(t, second(r.Fetch(t.Context(), get("x.deb"))))
		}
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if _, err := r.Fetch(ctx, get("x.deb")); !errors.Is(err, ctx.Err()) || ctx.Err() == nil {
			t.Errorf("error is %v", err)
		}
	})
}

// TestReceiveAlert: what another node says counts like what we found out, but that a mirror
// cannot be reached from there only puts it last.
func TestReceiveAlert(t *testing.T) {
	for _, tc := range []struct {
		kind    proto.AlertKind
		allowed bool // to ask it, where there is no other
	}{
		{proto.AlertUnreachable, true},
		{proto.AlertErrors, true},
		{proto.AlertContent, true},
		{proto.AlertWait, false},
	} {
		t.Run(string(tc.kind), func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				r := newRealm(t, 2, inOrder)
				alert := proto.MirrorAlert{Mirror: nameOf(0), Kind: tc.kind, Reason: "node n2 saw it", Until: time.Now().Add(time.Minute), Node: "n2"}
				r.ReceiveAlert(alert)
				r.ReceiveAlert(proto.MirrorAlert{Mirror: "http://elsewhere.example.org", Kind: tc.kind, Until: alert.Until, Node: "n2"})
				if got := r.state(0); got.State != BreakerOpen || got.FoundBy != "n2" || got.Reason != "node n2 saw it" {
					t.Errorf("%+v", got)
				}
				if len(r.Alerts()) != 0 {
					t.Errorf("%+v is not ours to tell", r.Alerts())
				}
				if got := r.from("1.deb"); got != nameOf(1) {
					t.Errorf("from %s", got)
				}
				r.at(1, answers(404))
				tr, err := r.Fetch(t.Context(), get("2.deb"))
				if tc.allowed {
					if err != nil || tr.From != nameOf(0) {
						t.Fatalf("%+v, %v", tr, err)
					}
					tr.Body.Close()
					r.wantState(0, BreakerClosed)
				} else if unavailable(t, err).RetryAfter != hearsayProbe {
					t.Error(err)
				}
				r.ReceiveAlert(alert)
				alert.Until = time.Time{}
				r.ReceiveAlert(alert)
				r.wantState(0, BreakerClosed)
				if told := r.changed(); len(told) != 0 {
					t.Errorf("passed on %+v", told)
				}
			})
		})
	}
}

// A node that says again and again that the only mirror wants to be left alone does not
// keep this one from it: a try shows that it is not so, and then nothing of the kind is
// believed of that node for a while.
func TestHearsayDoesNotSilenceTheLastMirror(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := newRealm(t, 1)
		var saying sync.WaitGroup
		defer saying.Wait()
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		saying.Go(func() {
			for ctx.Err() == nil {
				r.ReceiveAlert(proto.MirrorAlert{Mirror: nameOf(0), Kind: proto.AlertWait, Reason: "n2 says so", Until: time.Now().Add(10 * time.Minute), Node: "n2"})
				time.Sleep(50 * time.Millisecond)
			}
		})
		synctest.Wait()
		if wait := unavailable(t, second(r.Fetch(t.Context(), get("1.deb")))).RetryAfter; wait != hearsayProbe {
			t.Errorf("to be asked again after %v", wait)
		}
		time.Sleep(hearsayProbe)
		for i := range 100 {
			if got := r.from(fmt.Sprintf("%d.deb", i)); got != nameOf(0) {
				t.Fatalf("from %q", got)
			}
			time.Sleep(time.Second)
		}
		r.wantState(0, BreakerClosed)
		r.ReceiveAlert(proto.MirrorAlert{Mirror: nameOf(0), Kind: proto.AlertWait, Reason: "so does n3", Until: time.Now().Add(time.Minute), Node: "n3"})
		r.wantState(0, BreakerOpen)
	})
}

// Where the mirror did ask for a pause, one try per node is all that hearsay costs.
func TestHearsayThatIsTrue(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := newRealm(t, 1)
		r.at(0, answers(429, "Retry-After", "300"))
		r.ReceiveAlert(proto.MirrorAlert{Mirror: nameOf(0), Kind: proto.AlertWait, Reason: "n2 says so", Until: time.Now().Add(5 * time.Minute), Node: "n2"})
		for range 100 {
			unavailable(t, second(r.Fetch(t.Context(), get("1.deb"))))
			time.Sleep(time.Second)
		}
		r.wantRequests(map[string]int{nameOf(0): 1})
	})
}

// A mirror that lacks what others have, again and again, is left alone; one that is
// behind is not.
func TestMirrorThatLacksEverything(t *testing.T) {
	for _, tc := range []struct {
		lacks int // of 12
		want  string
	}{{12, BreakerOpen}, {9, BreakerClosed}} {
		bubble.Test(t, func(t *testing.T) {
			r := newRealm(t, 2, inOrder)
			for i := range 12 {
				r.at(0, nil)
				if i%12 < tc.lacks {
					r.at(0, answers(404))
				}
				r.from(fmt.Sprintf("%d.deb", i))
			}
			r.wantState(0, tc.want)
			if tc.want != BreakerOpen {
				return
			}
			// "Not found" does not tell that it is well again.
			time.Sleep(contentCoolDown)
			r.from("x.deb")
			synctest.Wait()
			r.wantState(0, BreakerOpen)
			r.at(0, nil)
			time.Sleep(2 * contentCoolDown)
			r.from("x.deb")
			synctest.Wait()
			r.wantState(0, BreakerClosed)
		})
	}
}

// Those who wait for the only mirror all hear what one of them found out.
func TestWaitersShareWhatAProbeFinds(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := newRealm(t, 1)
		r.at(0, answers(503))
		for range tripAt + 1 { // the last is let through at once
			unavailable(t, second(r.Fetch(t.Context(), get("x.deb"))))
		}
		r.requests()
		began := time.Now()
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				unavailable(t, second(r.Fetch(t.Context(), get("x.deb"))))
				if took := time.Since(began); took != probeEvery {
					t.Errorf("waited for %v", took)
				}
			})
		}
		wg.Wait()
		r.wantRequests(map[string]int{nameOf(0): 1})
	})
}
