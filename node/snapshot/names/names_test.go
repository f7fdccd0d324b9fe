package names

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

var day = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func target(i int) string { return fmt.Sprintf("%04x%060x", i%0x10000, i) }

func set(t *testing.T, m *Map, kind Kind, name, to, node string, now time.Time) Act {
	t.Helper()
	a, err := m.Set(Key{kind, name}, Act{Target: to, Node: node, By: "root"}, now)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func listed(m *Map, kind Kind) (all []string) {
	for _, n := range m.List(kind) {
		all = append(all, n.Name+"="+n.Target)
	}
	return all
}

func sync(ms ...*Map) {
	for range 2 {
		for _, a := range ms {
			for _, b := range ms {
				a.Merge(b.Clone())
			}
		}
	}
}

// Whoever knows of an act and acts after it is right, however wrong the clocks are.
func TestLaterActWinsWhateverTheClocks(t *testing.T) {
	var a, b Map
	set(t, &a, Channel, "stable", "w1", "a", day.Add(time.Hour)) // an hour ahead
	b.Merge(&a)
	set(t, &b, Channel, "stable", "w2", "b", day)
	sync(&a, &b)
	for name, m := range map[string]*Map{"a": &a, "b": &b} {
		if act, ok := m.Get(Key{Channel, "stable"}); !ok || act.Target != "w2" {
			t.Errorf("on %s it is %v", name, act)
		}
		if past := m.Past("stable"); len(past) != 2 || past[0].Target != "w2" || past[1].Target != "w1" {
			t.Errorf("on %s the past is %v", name, past)
		}
	}
}

// Two nodes give one name while they are apart: both snapshots stay.
func TestOneNameTwice(t *testing.T) {
	var a, b, c Map
	set(t, &a, Snapshot, "w48", target(1), "a", day)
	set(t, &b, Snapshot, "w48", target(2), "b", day.Add(time.Second))
	sync(&a, &b, &c)
	want := []string{"w48=" + target(2), "w48~0001=" + target(1)}
	for _, m := range []*Map{&a, &b, &c} {
		if got := listed(m, Snapshot); !slices.Equal(got, want) {
			t.Fatalf("%v, want %v", got, want)
		}
	}
	if act, ok := c.Get(Key{Snapshot, "w48~0001"}); !ok || act.Target != target(1) {
		t.Errorf("the older one: %v", act)
	}
	if !c.Remove(Key{Snapshot, "w48~0001"}, "c", day.Add(time.Minute)) {
		t.Error("it cannot be removed")
	}
	sync(&a, &b, &c)
	for _, m := range []*Map{&a, &b, &c} {
		if got := listed(m, Snapshot); !slices.Equal(got, want[:1]) {
			t.Errorf("after the older was removed: %v", got)
		}
	}
	// A name that was taken away and given again by somebody who knew is no conflict.
	a.Remove(Key{Snapshot, "w48"}, "a", day.Add(2*time.Minute))
	sync(&a, &b)
	set(t, &b, Snapshot, "w48", target(3), "b", day)
	sync(&a, &b, &c)
	if got := listed(&c, Snapshot); !slices.Equal(got, []string{"w48=" + target(3)}) {
		t.Errorf("given again: %v", got)
	}
}

// Two nodes give one name to the same snapshot: that is no conflict.
func TestOneNameOneTarget(t *testing.T) {
	var a, b Map
	set(t, &a, Snapshot, "w48", target(1), "a", day)
	set(t, &b, Snapshot, "w48", target(1), "b", day.Add(time.Second))
	sync(&a, &b)
	if got := listed(&a, Snapshot); !slices.Equal(got, []string{"w48=" + target(1)}) {
		t.Errorf("%v", got)
	}
	if _, ok := a.Get(Key{Snapshot, "w48~0001"}); ok {
		t.Error("it is there twice")
	}
	a.Remove(Key{Snapshot, "w48"}, "a", day)
	sync(&a, &b)
	if got := listed(&b, Snapshot); len(got) != 0 {
		t.Errorf("after it was removed: %v", got)
	}
	if got := b.Removed(day); len(got) != 1 || got[0].Target != target(1) || b.LastRemoved("w48") != target(1) {
		t.Errorf("removed: %v", got)
	}
}

// What was taken away is remembered until it is forgotten, or there again.
func TestRemoved(t *testing.T) {
	var a, b Map
	set(t, &a, Snapshot, "w48", target(1), "a", day)
	sync(&a, &b)
	a.Remove(Key{Snapshot, "w48"}, "a", day.Add(time.Minute))
	b.Remove(Key{Snapshot, "w48"}, "b", day.Add(2*time.Minute)) // both, without knowing
	sync(&a, &b)
	for _, tt := range []struct {
		since time.Time
		n     int
	}{{day, 1}, {day.Add(90 * time.Second), 1}, {day.Add(time.Hour), 0}} {
		for _, m := range []*Map{&a, &b} {
			if got := m.Removed(tt.since); len(got) != tt.n {
				t.Errorf("since %v: %v", tt.since, got)
			}
		}
	}
	set(t, &b, Snapshot, "w48", target(2), "b", day.Add(3*time.Minute))
	if got := b.Removed(day); len(got) != 1 || got[0].Target != target(1) {
		t.Errorf("the name was given again: %v", got)
	}
	b.Remove(Key{Snapshot, "w48"}, "b", day.Add(4*time.Minute))
	if got := b.Removed(day); len(got) != 2 || got[0].Target != target(2) || b.LastRemoved("w48") != target(2) {
		t.Errorf("both are gone: %v", got)
	}
	set(t, &b, Snapshot, "w48", target(1), "b", day.Add(5*time.Minute))
	if got := b.Removed(day); len(got) != 1 || got[0].Target != target(2) {
		t.Errorf("one is back: %v", got)
	}
	b.Forget(day.Add(3*time.Minute + 30*time.Second)) // of the first removals
	if past := b.entries[Key{Snapshot, "w48"}].Past; len(past) != 1 {
		t.Errorf("remembered: %v", past)
	}
	b.Forget(day.Add(time.Hour))
	if got := listed(&b, Snapshot); len(got) != 1 || b.LastRemoved("w48") != "" {
		t.Errorf("in force: %v, removed %q", got, b.LastRemoved("w48"))
	}
}

// What was taken away does not come back with a node that has not heard of it.
func TestRemovedStaysRemoved(t *testing.T) {
	var a, b Map
	set(t, &a, Snapshot, "w48", target(1), "a", day)
	sync(&a, &b)
	a.Remove(Key{Snapshot, "w48"}, "a", day.Add(time.Second))
	old := b.Clone()
	sync(&a, &b)
	if changed := a.Merge(old); len(changed) > 0 || len(a.List(Snapshot)) > 0 {
		t.Errorf("changed %v, and there is %v", changed, listed(&a, Snapshot))
	}
	// But an act that the one who removed had not seen stays.
	set(t, old, Snapshot, "w48", target(2), "b", day)
	sync(&a, &b, old)
	if got := listed(&a, Snapshot); !slices.Equal(got, []string{"w48=" + target(2)}) {
		t.Errorf("%v", got)
	}
}

// A node that was away for longer than removals are remembered finds out which names only it has.
func TestOrphans(t *testing.T) {
	var a, b Map
	set(t, &a, Snapshot, "gone", target(1), "a", day)
	set(t, &a, Snapshot, "kept", target(2), "a", day)
	sync(&a, &b)
	a.Remove(Key{Snapshot, "gone"}, "a", day.Add(time.Second))
	a.Forget(day.Add(500 * time.Millisecond))
	if b.Clone().Only(&a, day.Add(time.Hour)) != nil {
		t.Error("a removal was forgotten too early")
	}
	a.Forget(day.Add(time.Hour))
	if b.Clone().Only(&a, day) != nil {
		t.Error("a name that is too young to be forgotten elsewhere is taken away")
	}
	orphans := b.Only(&a, day.Add(time.Hour))
	if len(orphans) != 1 || orphans[0].Name != "gone" || orphans[0].Target != target(1) {
		t.Errorf("%v", orphans)
	}
	sync(&a, &b)
	if got := listed(&a, Snapshot); !slices.Equal(got, []string{"kept=" + target(2)}) {
		t.Errorf("%v", got)
	}
}

func TestChannelRemembersTwenty(t *testing.T) {
	var a Map
	for i := range 30 {
		set(t, &a, Channel, "canary", fmt.Sprint("w", i), "a", day)
	}
	if past := a.Past("canary"); len(past) != MostPast || past[0].Target != "w29" || past[19].Target != "w10" {
		t.Errorf("%d: %v", len(past), past)
	}
}

func TestNames(t *testing.T) {
	for _, name := range []string{"", "Live", "live", "a/b", "..", ".a", "-a", "a~b", "a b", strings.Repeat("a", 65), "20261201T000000Z", "ä"} {
		if CheckName(name) == nil {
			t.Errorf("%q is taken for a name", name)
		}
	}
	for _, name := range []string{"a", "2026-w48", "stable", "before.upgrade_2", strings.Repeat("a", 64)} {
		if err := CheckName(name); err != nil {
			t.Error(err)
		}
	}
}

// The model: every act and removal with all that its node knew then. An act is in force unless
// another act or removal of its name knew of it.
type model struct {
	acts []*modelAct
}

type modelAct struct {
	name    string
	target  string // "" for a removal
	version uint64
	knew    map[*modelAct]bool // of this name
}

// Nodes with wrong clocks act, remove, exchange what they know in any order, lose and play back messages. All that know the
// same agree, nothing that nobody removed is lost, and nothing that was replaced comes back.
func TestModel(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		const nodes = 4
		var maps [nodes]*Map
		var known [nodes]map[*modelAct]bool
		var skew [nodes]time.Duration
		for i := range maps {
			maps[i], known[i] = &Map{}, make(map[*modelAct]bool)
			skew[i] = time.Duration(r.Int64N(int64(2*time.Hour))) - time.Hour
		}
		var m model
		type message struct {
			m     *Map
			known map[*modelAct]bool
		}
		var sent []message
		now := day
		clone := func(k map[*modelAct]bool) map[*modelAct]bool {
			c := make(map[*modelAct]bool, len(k))
			for a := range k {
				c[a] = true
			}
			return c
		}
		give := func(to int, msg message) {
			maps[to].Merge(msg.m.Clone())
			for a := range msg.known {
				known[to][a] = true
			}
		}
		inForce := func(i int, name string) (live []*modelAct) {
			for a := range known[i] {
				if a.name != name || a.target == "" {
					continue
				}
				replaced := false
				for b := range known[i] {
					replaced = replaced || b.knew[a]
				}
				if !replaced {
					live = append(live, a)
				}
			}
			return live
		}
		for step := range 120 {
			now = now.Add(time.Duration(r.IntN(3)) * time.Millisecond)
			i, name := r.IntN(nodes), string(rune('a'+r.IntN(3)))
			k := Key{Snapshot, name}
			switch r.IntN(6) {
			case 0, 1:
				act := set(t, maps[i], Snapshot, name, target(step), fmt.Sprint("n", i), now.Add(skew[i]))
				a := &modelAct{name: name, target: act.Target, version: act.Version, knew: make(map[*modelAct]bool)}
				for b := range known[i] {
					if b.name == name {
						a.knew[b] = true
						if b.version >= a.version {
							t.Fatalf("seed %d: an act is not after what its node knew", seed)
						}
					}
				}
				m.acts = append(m.acts, a)
				known[i][a] = true
			case 2:
				for len(maps[i].List(Snapshot)) > 0 {
					act, ok := maps[i].Get(k)
					if !ok {
						break
					}
					gone := &modelAct{name: name, knew: make(map[*modelAct]bool)}
					for b := range known[i] {
						// The newest in force goes, and all that was replaced before stays replaced.
						if b.name == name && b.target == act.Target {
							gone.knew[b] = true
						}
					}
					maps[i].Remove(k, fmt.Sprint("n", i), now.Add(skew[i]))
					gone.version = maps[i].entries[k].last()
					m.acts, known[i][gone] = append(m.acts, gone), true
					break
				}
			case 3, 4:
				sent = append(sent, message{maps[i].Clone(), clone(known[i])})
				if to := r.IntN(nodes); to != i {
					give(to, sent[len(sent)-1])
				}
			case 5:
				if len(sent) > 0 { // late, and perhaps again
					give(i, sent[r.IntN(len(sent))])
				}
			}
			for i := range maps {
				for _, name := range []string{"a", "b", "c"} {
					var want, got []string
					for _, a := range inForce(i, name) {
						want = append(want, a.target)
					}
					for _, a := range maps[i].entryOf(name) {
						got = append(got, a.Target)
					}
					slices.Sort(want)
					slices.Sort(got)
					if !slices.Equal(got, want) {
						t.Fatalf("seed %d, step %d, node %d: %s stands for %v, want %v", seed, step, i, name, got, want)
					}
				}
			}
		}
		for range 2 {
			for i := range maps {
				for j := range maps {
					give(i, message{maps[j].Clone(), clone(known[j])})
				}
			}
		}
		first, _ := maps[0].MarshalJSON()
		for i := range maps {
			if data, _ := maps[i].MarshalJSON(); string(data) != string(first) {
				t.Fatalf("seed %d: after all has been exchanged, nodes differ:\n%s\n%s", seed, first, data)
			}
		}
	}
}

func (m *Map) entryOf(name string) []Act {
	if e := m.entries[Key{Snapshot, name}]; e != nil {
		return e.Acts
	}
	return nil
}

func TestWrittenAndRead(t *testing.T) {
	var a, b Map
	set(t, &a, Snapshot, "w48", target(1), "a", day)
	set(t, &b, Snapshot, "w48", target(2), "b", day)
	set(t, &a, Channel, "stable", "w48", "a", day)
	a.Merge(&b)
	a.Remove(Key{Snapshot, "w48"}, "a", day)
	data, err := json.Marshal(&a)
	if err != nil {
		t.Fatal(err)
	}
	var read Map
	if err := json.Unmarshal(data, &read); err != nil {
		t.Fatal(err)
	}
	x, _ := a.Sum()
	if y, _ := read.Sum(); x != y {
		t.Error("it is not what was written")
	}
	for _, bad := range []string{
		`{}`, `[{"kind":"x","name":"a","seen":{"n":1}}]`, `[{"kind":"snapshot","name":"../a","seen":{"n":1}}]`,
		`[{"kind":"snapshot","name":"a","seen":{}}]`, `[{"kind":"snapshot","name":"a","seen":{"n":18446744073709551615}}]`,
		`[{"kind":"snapshot","name":"a","seen":{"n":1},"acts":[{"version":2,"node":"n","target":"x"}]}]`,
		`[{"kind":"snapshot","name":"a","seen":{"n":1},"acts":[{"version":1,"node":"n","target":""}]}]`,
		`[{"kind":"snapshot","name":"a","seen":{"n":1},"acts":[{"version":1,"node":"n\n","target":"x"}]}]`,
		`[{"kind":"channel","name":"a","seen":{"n":1},"acts":[{"version":1,"node":"n","target":"x","live":"a\u0001"}]}]`,
		`[{"kind":"snapshot","name":"a","seen":{"n":1}},{"kind":"snapshot","name":"a","seen":{"n":1}}]`,
	} {
		if err := json.Unmarshal([]byte(bad), &read); err == nil {
			t.Errorf("%s is taken", bad)
		}
	}
	if y, _ := read.Sum(); x != y {
		t.Error("what was refused has changed the map")
	}
}

// Whatever another node sends, a map stays one: merging is the same in any order, and what it writes it reads.
func FuzzMerge(f *testing.F) {
	f.Add([]byte(`[{"kind":"snapshot","name":"a","seen":{"n":1},"acts":[{"version":1,"node":"n","target":"x"}]}]`),
		[]byte(`[{"kind":"snapshot","name":"a","seen":{"m":2},"acts":[{"version":2,"node":"m","target":"y"}]}]`))
	f.Add([]byte(`[{"kind":"channel","name":"a","seen":{"n":3},"past":[{"version":1,"node":"n","target":"x"}]}]`), []byte(`[]`))
	f.Add([]byte(`[{"kind":"channel","name":"a","seen":{"n":3},"acts":[{"version":1,"node":"n","target":"x","live":"*-security"}]}]`),
		[]byte(`[{"kind":"channel","name":"a","seen":{"n":3},"acts":[{"version":1,"node":"n","target":"x"}]}]`))
	f.Fuzz(func(t *testing.T, x, y []byte) {
		var a, b Map
		if json.Unmarshal(x, &a) != nil || json.Unmarshal(y, &b) != nil {
			return
		}
		one, two := a.Clone(), b.Clone()
		one.Merge(&b)
		two.Merge(&a)
		p, err := one.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		q, _ := two.MarshalJSON()
		if string(p) != string(q) {
			t.Fatalf("the order matters:\n%s\n%s", p, q)
		}
		one.Merge(&b)
		if again, _ := one.MarshalJSON(); string(again) != string(p) {
			t.Fatalf("merging again changes it:\n%s\n%s", p, again)
		}
	})
}

func TestBefore(t *testing.T) {
	var m Map
	to := func(target string, back bool) {
		t.Helper()
		if _, err := m.Set(Key{Channel, "stable"}, Act{Target: target, Node: "a", Back: back}, day); err != nil {
			t.Fatal(err)
		}
	}
	is := func(want string) {
		t.Helper()
		if got, _ := m.Before("stable"); got.Target != want {
			t.Errorf("before it was %q, want %q", got.Target, want)
		}
	}
	is("")
	to("w1", false)
	is("")
	to("w2", false)
	to("w3", false)
	is("w2")
	to("w2", true)
	is("w1")
	to("w4", false)
	is("w2")
	to("w2", true)
	to("w1", true)
	is("")
}
