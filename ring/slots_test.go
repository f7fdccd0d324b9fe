package ring

import (
	"fmt"
	"slices"
	"sync"
	"testing"
)

// checkSlots holds a split against what Slots promises.
func checkSlots(t *testing.T, host string, limit int, names []string, slots map[string]int) {
	t.Helper()
	distinct := slices.Compact(slices.Sorted(slices.Values(names)))
	if len(slots) != len(distinct) {
		t.Fatalf("%d names have slots, of %d", len(slots), len(distinct))
	}
	sum, least, most := 0, int(^uint(0)>>1), 0
	for _, name := range distinct {
		n, ok := slots[name]
		if !ok {
			t.Fatalf("%q is missing", name)
		}
		sum, least, most = sum+n, min(least, n), max(most, n)
	}
	if len(distinct) > 0 && (sum != max(limit, 0) || most-least > 1 || least < 0) {
		t.Fatalf("%s: %d among %d: sum %d, from %d to %d", host, limit, len(distinct), sum, least, most)
	}
}

func TestSlots(t *testing.T) {
	for n := range 9 {
		for limit := -1; limit < 30; limit++ {
			names := append(nodes(n), nodes(n/2)...)
			slots := Slots("archive.ubuntu.com", limit, names)
			checkSlots(t, "archive.ubuntu.com", limit, names, slots)
			slices.Reverse(names)
			for name, n := range Slots("archive.ubuntu.com", limit, names) {
				if slots[name] != n {
					t.Fatalf("the order of names matters: %s has %d and %d", name, slots[name], n)
				}
			}
		}
	}
}

// TestSlotsDependOnTheHost sees that not the same nodes get the odd slot at every
// host.
func TestSlotsDependOnTheHost(t *testing.T) {
	got := make(map[string]int)
	for i := range 300 {
		for name, n := range Slots(fmt.Sprintf("mirror%d.example", i), 1, nodes(3)) {
			got[name] += n
		}
	}
	for name, n := range got {
		if n < 60 || n > 140 {
			t.Errorf("%s has the one slot of %d hosts of 300", name, n)
		}
	}
}

// TestSlotsStay sees that a node that comes takes slots, and moves none between
// others.
func TestSlotsStay(t *testing.T) {
	for i := range 50 {
		host := fmt.Sprintf("mirror%d.example", i)
		before, after := Slots(host, 3, nodes(6)), Slots(host, 3, nodes(7))
		for name, n := range before {
			if n == 0 && after[name] == 1 {
				t.Errorf("%s: %s has a slot because another node came", host, name)
			}
		}
	}
}

func FuzzSlots(f *testing.F) {
	f.Add("archive.ubuntu.com", 8, uint8(3))
	f.Fuzz(func(t *testing.T, host string, limit int, n uint8) {
		names := nodes(int(n) % 64)
		checkSlots(t, host, limit, names, Slots(host, limit, names))
	})
}

func view(t *testing.T, states map[string]State) *View {
	t.Helper()
	var all []Node
	for name, s := range states {
		all = append(all, Node{Name: name, State: s, RingVersion: Version})
	}
	v, err := NewView(all)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestView(t *testing.T) {
	v := view(t, map[string]State{"c": Active, "a": Active, "b": Joining, "d": Leaving, "e": State(9)})
	if got := v.Ring.Names(); !slices.Equal(got, []string{"a", "c"}) {
		t.Errorf("ring of %v", got)
	}
	if n, ok := v.Node("d"); !ok || n.State != Leaving {
		t.Errorf("Node(d) = %v, %v", n, ok)
	}
	if _, ok := v.Node("cc"); ok {
		t.Error("a node that is not there")
	}
	if !slices.IsSortedFunc(v.Nodes, func(a, b Node) int { return int(a.Name[0]) - int(b.Name[0]) }) {
		t.Error("nodes are not sorted")
	}
	old, err := NewView([]Node{{Name: "a", State: Active, RingVersion: Version + 1}})
	if err != nil || len(old.Nodes) != 1 || old.Ring.Len() != 0 {
		t.Errorf("a node of another ring version owns: %v, %v", old, err)
	}
	if s := fmt.Sprint(Joining, Active, Leaving, State(7)); s != "joining active leaving unknown" {
		t.Errorf("states are called %s", s)
	}
}

// Of more nodes than a ring has room for, the same ones own on all nodes, whatever each
// has seen before; the dead leave it, and hardly anybody else.
func TestMoreNodesThanARingHas(t *testing.T) {
	all := nodes(300)
	active := func(names []string) []Node {
		var members []Node
		for _, name := range names {
			members = append(members, Node{Name: name, State: Active, RingVersion: Version, Self: name == "self"})
		}
		return members
	}
	var one, other *View // what two nodes see that learn of the others in another order
	var err error
	for n := 240; n <= len(all); n += 60 {
		if one, err = newView(active(all[:n]), ringOf(one)); err != nil {
			t.Fatal(err)
		}
		if other, err = newView(active(all[len(all)-n:]), ringOf(other)); err != nil {
			t.Fatal(err)
		}
	}
	if one.Ring.Hash() != other.Ring.Hash() || one.Ring.Len() != MaxNodes || len(one.Nodes) != len(all) {
		t.Fatalf("rings of %d and %d of %d nodes, alike: %v", one.Ring.Len(), other.Ring.Len(), len(one.Nodes), one.Ring.Hash() == other.Ring.Hash())
	}
	if n, _ := one.left(); n != len(all)-MaxNodes {
		t.Errorf("%d own nothing", n)
	}
	owned := 0.0
	for _, name := range all {
		owned += one.Ring.Share(name)
	}
	if owned < 0.999 || owned > 1.001 {
		t.Errorf("%v of the keys are owned", owned)
	}

	dead := one.Ring.Names()[7]
	after, err := newView(active(slices.DeleteFunc(slices.Clone(all), func(name string) bool { return name == dead })), one.Ring)
	if err != nil {
		t.Fatal(err)
	}
	if after.Ring.Contains(dead) || after.Ring.Len() != MaxNodes {
		t.Errorf("a ring of %d, with the dead one: %v", after.Ring.Len(), after.Ring.Contains(dead))
	}
	came := 0
	for _, name := range after.Ring.Names() {
		if !one.Ring.Contains(name) {
			came++
		}
	}
	if came != 1 {
		t.Errorf("%d others own because of one death", came)
	}
	few, err := newView(active(all[:10]), after.Ring)
	if n, _ := few.left(); err != nil || few.Ring.Len() != 10 || n != 0 {
		t.Errorf("back to ten: a ring of %d, %d own nothing, %v", few.Ring.Len(), n, err)
	}
}

func ringOf(v *View) *Ring {
	if v == nil {
		return nil
	}
	return v.Ring
}

func TestRingFor(t *testing.T) {
	states := make(map[string]State)
	for _, name := range nodes(6) {
		states[name] = Active
	}
	v := view(t, states)
	for _, limit := range []int{-1, 0, 6, 7, 100} {
		if v.RingFor("h", limit) != v.Ring {
			t.Errorf("a limit of %d needs a ring of its own", limit)
		}
	}
	for limit := 1; limit < 6; limit++ {
		r := v.RingFor("h", limit)
		if r.Len() != limit {
			t.Fatalf("limit %d: ring of %v", limit, r.Names())
		}
		for name, n := range Slots("h", limit, v.Ring.Names()) {
			if r.Contains(name) != (n > 0) {
				t.Errorf("limit %d: %s has %d slots, in the ring: %v", limit, name, n, r.Contains(name))
			}
		}
		if v.RingFor("h", limit) != r {
			t.Error("built again")
		}
	}
	if v := (&View{Ring: mustNew(t, nodes(3))}); v.RingFor("h", 2).Len() != 2 {
		t.Error("a view made by hand has no rings for hosts")
	}
}

func TestRingForManyHosts(t *testing.T) {
	v := &View{Ring: mustNew(t, nodes(3))}
	first := v.RingFor("host0", 1)
	for i := range maxLimited - 1 {
		v.Ring.some.rings[limitedTo{fmt.Sprint("host", i), 1}] = first
	}
	for i := range 5 {
		v.RingFor(fmt.Sprint("host", i), 2)
	}
	if n := len(v.Ring.some.rings); n > maxLimited {
		t.Errorf("%d rings are kept", n)
	}
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for i := range 20 {
				if v.RingFor(fmt.Sprint("other", i%5), 2).Len() != 2 {
					t.Error("not a ring of two")
				}
			}
		})
	}
	group.Wait()
}
