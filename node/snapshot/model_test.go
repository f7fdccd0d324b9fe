package snapshot

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/node/snapshot/names"
)

// actKey is one act by which a snapshot got a name.
type actKey struct {
	name, target, node string
	version            uint64
}

// acts are the acts of snapshots in force on a node.
func (w *world) acts() map[actKey]bool {
	w.Helper()
	var lines []struct {
		Kind names.Kind
		Name string
		Acts []names.Act
	}
	if err := json.Unmarshal(w.table.Load().data, &lines); err != nil {
		w.Fatal(err)
	}
	all := make(map[actKey]bool)
	for _, l := range lines {
		for _, a := range l.Acts {
			if l.Kind == names.Snapshot {
				all[actKey{l.Name, a.Target, a.Node, a.Version}] = true
			}
		}
	}
	return all
}

// modelled are nodes with what must be true of them.
type modelled struct {
	*nodes
	r     *rand.Rand
	order []string
	// given are all acts, and whether an operator took them away.
	given map[actKey]bool
	// orphaned are records that a node has given up and shown.
	orphaned map[string]bool
	step     int
	log      []string
}

func (m *modelled) any() *world { return m.all[m.order[m.r.IntN(len(m.order))]] }

// did notes what an operator's command on a node has given and taken.
func (m *modelled) did(w *world, what string, act func() error) {
	before := w.acts()
	// The command hears of the others first, and takes away only what its node knows then.
	w.MeetAll(m.Context())
	known := w.acts()
	err := act()
	after := w.acts()
	m.log = append(m.log, fmt.Sprintf("%d %s on %s: %v", m.step, what, w.cfg.Node, err))
	for a := range after {
		if !known[a] && !before[a] {
			if _, seen := m.given[a]; !seen {
				m.given[a] = true
			}
		}
	}
	for a := range known {
		if !after[a] {
			m.given[a] = false
		}
	}
}

// meet has all nodes that see each other exchange names. Clocks differ, so that nodes may forget a removal at different times: what
// is in force is the same nevertheless.
func (m *modelled) meet() {
	for range 2 {
		for _, name := range m.order {
			m.all[name].MeetAll(m.Context())
		}
	}
}

// pass lets time pass on all nodes; those that see each other exchange names meanwhile.
func (m *modelled) pass(d time.Duration) {
	for ; d > 0; d -= 24 * time.Hour {
		for _, w := range m.all {
			w.now = w.now.Add(min(d, 24*time.Hour))
		}
		for _, name := range m.order {
			m.all[name].MeetAll(m.Context())
			m.all[name].Tend()
		}
		m.look()
	}
}

// Operators act on nodes with wrong clocks that come and go, some of them for longer than removals are remembered. In the end
// all agree; what nobody removed is there, unless the node that alone had it gave it up and says so; what was removed is not;
// and all that is there can be served everywhere.
func TestModelOfNodes(t *testing.T) {
	last := uint64(55)
	if testing.Short() {
		last = 36
	}
	for seed := uint64(30); seed < last; seed++ { // 35 and 50 found faults
		r := rand.New(rand.NewPCG(seed, 4))
		order := []string{"n1", "n2", "n3"}
		m := &modelled{nodes: newNodes(t, order...), r: r, order: order, given: make(map[actKey]bool), orphaned: make(map[string]bool)}
		for _, w := range m.all {
			w.now = w.now.Add(time.Duration(r.Int64N(int64(2*time.Hour))) - time.Hour)
		}
		m.meet()
		for m.step = range 60 {
			w, name := m.any(), fmt.Sprint("s", r.IntN(3))
			switch r.IntN(11) {
			case 0, 1, 2:
				w.publish("ubuntu")
				m.did(w, "create "+name, func() error {
					_, _, err := w.Create(t.Context(), name, Plan{Archives: []string{"ubuntu"}, Note: fmt.Sprint(m.step)})
					return err
				})
			case 3:
				if list := w.List(); len(list) > 0 {
					name = list[r.IntN(len(list))].Name
				}
				m.did(w, "remove "+name, func() error { _, err := w.Remove(t.Context(), name, "x"); return err })
			case 4:
				if removed := w.Removed(); len(removed) > 0 {
					name = removed[r.IntN(len(removed))].Name
				}
				m.did(w, "restore "+name, func() error {
					_, _, err := w.Restore(t.Context(), name, fmt.Sprint("s", r.IntN(5)), "x")
					return err
				})
			case 5:
				m.did(w, "stable to "+name, func() error { _, err := w.SetChannel(t.Context(), "stable", name, Order{}); return err })
			case 6:
				m.partition(order[:r.IntN(len(order))]...)
			case 7:
				w.restart()
			case 8:
				m.pass(time.Duration(1+r.IntN(20)) * time.Hour)
			case 9:
				// One is cut off, running or not, for longer than removals are remembered.
				m.partition(w.cfg.Node)
				m.log = append(m.log, fmt.Sprintf("%d %s is away", m.step, w.cfg.Node))
				m.pass(time.Duration(16+r.IntN(40)) * 24 * time.Hour)
				if r.IntN(2) == 0 {
					w.restart()
				}
				m.partition()
				m.meet()
			case 10:
				m.partition()
				m.meet()
			}
			m.look()
		}
		m.partition()
		m.meet()
		m.meet()
		m.look()
		m.check(seed)
		if t.Failed() {
			t.Fatalf("seed %d:\n%s", seed, strings.Join(m.log, "\n"))
		}
	}
}

// look notes what nodes show as given up.
func (m *modelled) look() {
	for _, w := range m.all {
		for _, removed := range w.Removed() {
			if removed.Orphaned && removed.Kind == string(names.Snapshot) {
				m.orphaned[removed.Target] = true
			}
		}
	}
}

func (m *modelled) check(seed uint64) {
	m.Helper()
	for _, name := range m.order {
		w := m.all[name]
		there := w.acts()
		if first := m.all[m.order[0]]; !maps.Equal(there, first.acts()) || !slices.EqualFunc(w.Channels(), first.Channels(), func(a, b ChannelInfo) bool { return a.Name == b.Name && a.Target == b.Target }) {
			m.Errorf("seed %d: %s knows something else than %s", seed, name, m.order[0])
		}
		for act, stays := range m.given {
			switch {
			case stays && !there[act] && !m.orphaned[act.target]:
				m.Errorf("seed %d: %s has lost %+v", seed, name, act)
			case !stays && there[act]:
				m.Errorf("seed %d: on %s what was removed is back: %+v", seed, name, act)
			}
		}
		for act := range there {
			if _, known := m.given[act]; !known {
				m.Errorf("seed %d: %s has %+v, which nobody did", seed, name, act)
			}
		}
		for _, s := range w.List() {
			if !w.Known(s.Name, "ubuntu") || w.pins[pinOwner(s.Digest)] == nil {
				m.Errorf("seed %d: %s cannot serve %s", seed, name, s.Name)
			}
		}
		for _, c := range w.Channels() {
			if !w.Known(c.Name, "ubuntu") && !slices.ContainsFunc(w.Stats().Troubles, func(said string) bool { return strings.Contains(said, "channel "+c.Name) }) {
				m.Errorf("seed %d: on %s the channel %s leads nowhere, and nothing says so", seed, name, c.Name)
			}
		}
	}
}
