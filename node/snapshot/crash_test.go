package snapshot

import (
	"context"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/node/durable/durabletest"
	"github.com/aptmesh/aptmesh/node/statedir"
)

// killable is a world whose state lies in a directory, on a disk that stops at any call.
type killable struct {
	*world
	disk *durabletest.FS
	dir  string
}

func newKillable(t *testing.T) *killable {
	k := &killable{world: newWorld(t), disk: &durabletest.FS{}, dir: filepath.Join(t.TempDir(), "state")}
	k.Keeper.Close()
	k.open()
	return k
}

func (k *killable) open() {
	k.Helper()
	dir, err := statedir.Open(statedir.Config{Dir: k.dir, Format: 1, Program: "test", FS: k.disk})
	if err != nil {
		k.Fatal(err)
	}
	k.cfg.State = dir
	k.start()
}

// again starts on what the killed process left behind.
func (k *killable) again() {
	k.Helper()
	k.Keeper.Close()
	k.cfg.State.(*statedir.Dir).Close()
	k.disk.Heal()
	k.open()
}

// seen is what hosts and operators see.
func (k *killable) seen() (all []string) {
	for _, s := range k.List() {
		lost := ""
		if s.Record == nil {
			lost = " lost"
		}
		all = append(all, "snapshot "+s.Name+lost)
	}
	for _, c := range k.Channels() {
		all = append(all, "channel "+c.Name+" at "+c.Target)
	}
	for _, r := range k.Removed() {
		all = append(all, "removed "+r.Name)
	}
	return all
}

// A process that is killed at any step of writing leaves the state before an act, or the state after it, and nothing else: no
// snapshot without its record, no channel that leads nowhere, no record that nobody needs.
func TestKilledAtEachWrite(t *testing.T) {
	other := newWorld(t)
	other.publish("ubuntu")
	other.create("theirs", "ubuntu")
	news := other.news([]string{other.List()[0].Digest})
	for _, tt := range []struct {
		name string
		act  func(k *killable) error
		want func(before []string) []string
	}{
		{"create", func(k *killable) error {
			_, _, err := k.Create(context.Background(), "new", Plan{Archives: []string{"ubuntu"}})
			return err
		}, func(s []string) []string { return append(s, "snapshot new") }},
		{"move", func(k *killable) error {
			_, err := k.SetChannel(context.Background(), "stable", "w2", Order{})
			return err
		}, func(s []string) []string {
			return append(slices.DeleteFunc(s, func(s string) bool { return s == "channel stable at w1" }), "channel stable at w2")
		}},
		{"remove", func(k *killable) error { _, err := k.Remove(context.Background(), "w2", "x"); return err }, func(s []string) []string {
			return append(slices.DeleteFunc(s, func(s string) bool { return s == "snapshot w2" }), "removed w2")
		}},
		{"restore", func(k *killable) error {
			_, _, err := k.Restore(context.Background(), "w0", "", "x")
			return err
		}, func(s []string) []string {
			return append(slices.DeleteFunc(s, func(s string) bool { return s == "removed w0" }), "snapshot w0")
		}},
		{"hear of another node's", func(k *killable) error { return k.take("other", news) }, func(s []string) []string { return append(s, "snapshot theirs") }},
		{"the end of a day of grace", func(k *killable) error {
			k.now = k.now.Add(graceFor + time.Hour)
			k.Tend()
			return nil
		}, func(s []string) []string {
			return slices.DeleteFunc(s, func(s string) bool { return s == "removed w0" })
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			steps := 0
			for ; ; steps++ {
				k := newKillable(t)
				for _, name := range []string{"w0", "w1", "w2"} {
					k.create(name, "ubuntu")
					k.publish("ubuntu")
				}
				if _, err := k.SetChannel(t.Context(), "stable", "w1", Order{}); err != nil {
					t.Fatal(err)
				}
				if _, err := k.Remove(t.Context(), "w0", "x"); err != nil {
					t.Fatal(err)
				}
				before := k.seen()
				after := tt.want(slices.Clone(before))
				slices.Sort(before)
				slices.Sort(after)
				k.disk.DieAfter(steps)
				err := tt.act(k)
				died := k.disk.Dead()
				for range 2 { // and what a second start makes of it
					k.again()
					got := k.seen()
					slices.Sort(got)
					isBefore, isAfter := slices.Equal(got, before), slices.Equal(got, after)
					switch {
					case !isBefore && !isAfter:
						t.Errorf("killed at step %d (%v): %q, before it was %q", steps, err, got, before)
					case !died && !isAfter:
						t.Errorf("after it was done: %q", got)
					}
					for _, s := range k.List() {
						if k.pins[pinOwner(s.Digest)] == nil {
							t.Errorf("killed at step %d: %s is not pinned", steps, s.Name)
						}
					}
					k.gives("stable", "ubuntu", map[bool]int{false: 2, true: 3}[slices.Contains(got, "channel stable at w2")])
					files, err := k.cfg.State.ListFiles(recordDir)
					if want := len(k.table.Load().needed); err != nil || len(files) != want || len(k.pins) != want {
						t.Errorf("killed at step %d: %d records and %d pins, of which %d are needed (%v)", steps, len(files), len(k.pins), want, err)
					}
				}
				if !died {
					break
				}
			}
			if steps < 4 {
				t.Errorf("it takes only %d steps", steps)
			}
		})
	}
}
