package catalog

import (
	"errors"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// What a node answers that is asked as the one that leads.
func TestAsked(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFleet(t, 2)
		f.publish()
		f.start()
		f.set(func() { f.gossip, f.loss = false, 1 })
		primary, other := f.nodes[0], f.nodes[1]
		ask := func(n *clusterNode, fresh bool) (proto.Announcement, error) {
			return n.ServeCheck(t.Context(), noble(), []string{"main/binary-amd64/Packages.xz"}, fresh)
		}
		announcement, err := ask(primary, false)
		if err != nil || announcement.Generation.Root != refOfBytes(primary.file(nobleIn)) || !announcement.Checked.Equal(time.Now()) || announcement.FirstHand {
			t.Fatalf("%+v, %v", announcement, err)
		}
		if len(announcement.Slots) != 1 {
			t.Errorf("uses %v", announcement.Slots)
		}
		f.forget()
		for range 5 { // what it knows will do
			time.Sleep(10 * time.Second)
			if _, err := ask(primary, false); err != nil {
				t.Error(err)
			}
		}
		if n := f.polls(); n > 1 {
			t.Errorf("%d looks at upstream", n)
		}
		// With fresh it looks, whether it leads or not.
		f.unlooked(primary)
		f.upgrade("2")
		for _, n := range f.nodes {
			if announcement, err := ask(n, true); err != nil || announcement.Generation.Root != refOfBytes(n.file(nobleIn)) {
				t.Errorf("%s: %+v, %v", n.name, announcement, err)
			}
		}
		// One that does not lead is content with what it heard, as it would be for
		// itself.
		time.Sleep(80 * time.Second)
		f.forget()
		if _, err := ask(other, false); err != nil || other.up.requests(nobleIn) > 0 {
			t.Errorf("%v, %s", err, f.polled())
		}
		// Upstream is down: what is held is told, but not where it had to be checked.
		f.up.failing("", &proto.Unavailable{Reason: "503", Answered: true})
		time.Sleep(5 * time.Minute)
		f.forget()
		var busy *proto.Unavailable
		if _, err := ask(primary, true); !errors.As(err, &busy) {
			t.Errorf("%v", err)
		}
		for range 20 {
			if announcement, err := ask(primary, false); err != nil || announcement.Generation.Root.IsZero() || time.Since(announcement.Checked) < 3*time.Minute {
				t.Errorf("%+v, %v", announcement, err)
			}
			time.Sleep(time.Second)
		}
		if n := primary.up.requests(nobleIn); n > 3 {
			t.Errorf("%d looks at an upstream that is down", n)
		}
		// It hangs: nobody waits for long.
		f.up.stalling("InRelease")
		start := time.Now()
		if _, err := ask(primary, true); !errors.As(err, &busy) || !busy.Answered {
			t.Errorf("%v", err)
		}
		if took := time.Since(start); took > primary.cfg.withDefaults().CheckWait {
			t.Errorf("it took %v", took)
		}
		primary.Close()
		if _, err := ask(primary, true); err == nil {
			t.Error("a closed catalog has looked")
		}
	})
}

// News of a suite that is not held are not told.
func TestAnnouncementOfNothing(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := nobleWorld(t)
		w.open()
		if _, err := w.get(nobleIn); !errors.Is(err, proto.ErrNotFound) {
			t.Fatal(err)
		}
		if n := w.Announcements(); len(n) != 0 {
			t.Errorf("%+v", n)
		}
		if _, err := w.ServeCheck(t.Context(), noble(), nil, false); !errors.Is(err, proto.ErrNotFound) {
			t.Errorf("%v", err)
		}
		time.Sleep(2 * time.Second)
		if k := w.suiteNames(); len(k) != 0 {
			t.Errorf("left: %v", k)
		}
		// Alone, a node leads and is told nothing; what it is told all the same is
		// verified like anything.
		w.publish()
		w.must(nobleIn)
		if st := w.Stats()[0]; !st.Leader || st.Rank != 0 || st.AnnouncedBy != "" {
			t.Errorf("%+v", st)
		}
		w.Receive("n9", offerOf([]byte("x"), time.Now().Add(time.Hour)))
		w.rest()
		w.listedAs(nobleIn, w.file(nobleIn))
	})
}
