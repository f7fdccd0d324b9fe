package expiring

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// at is a number of seconds after start.
func at(s int) time.Time { return start.Add(time.Duration(s) * time.Second) }

// TestTable plays a script on a map of three entries: "0 a=1+5" sets a to 1 at 0 s, for
// 5 s; "0 a=1" sets it for ever; "0 -a" deletes it; "3 ?" compares the entries at 3 s
// with want.
func TestTable(t *testing.T) {
	for _, c := range []struct{ name, script, want string }{
		{"nothing", "0 ?", ""},
		{"an entry ends at its time", "0 a=1+5; 4 ?", "a=1"},
		{"and is over then", "0 a=1+5; 5 ?", ""},
		{"one without an end stays", "0 a=1; 999999 ?", "a=1"},
		{"setting again replaces the value", "0 a=1+5; 1 a=2+5; 2 ?", "a=2"},
		{"and the end, which may come earlier", "0 a=1+50; 1 a=2+1; 2 ?", ""},
		{"or later", "0 a=1+2; 1 a=2+50; 20 ?", "a=2"},
		{"deleted is gone", "0 a=1; 0 b=2; 1 -a; 1 -x; 2 ?", "b=2"},
		{"full: what was set first goes", "0 a=1; 0 b=2; 0 c=3; 0 d=4; 1 ?", "b=2 c=3 d=4"},
		{"full, but the key is there", "0 a=1; 0 b=2; 0 c=3; 0 b=4; 1 ?", "a=1 b=4 c=3"},
		{"setting again renews the age", "0 a=1; 0 b=2; 0 c=3; 0 a=5; 0 d=4; 1 ?", "a=5 c=3 d=4"},
		{"what was deleted leaves its place", "0 a=1; 0 b=2; 0 c=3; 0 -b; 0 d=4; 1 ?", "a=1 c=3 d=4"},
		{"what is over makes room", "0 a=1+1; 0 b=2+1; 0 c=3; 2 d=4; 2 e=5; 3 ?", "c=3 d=4 e=5"},
		{"age counts, not the end", "0 a=1+99; 0 b=2+1; 0 c=3+99; 2 d=4; 3 ?", "c=3 d=4"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := New[string, string](3)
			for step := range strings.SplitSeq(c.script, "; ") {
				when, what, _ := strings.Cut(step, " ")
				var s, lasts int
				if _, err := fmt.Sscan(when, &s); err != nil {
					t.Fatal(err)
				}
				k, v, set := strings.Cut(what, "=")
				switch {
				case set:
					v, for_, ends := strings.Cut(v, "+")
					var until time.Time
					if ends {
						if _, err := fmt.Sscan(for_, &lasts); err != nil {
							t.Fatal(err)
						}
						until = at(s + lasts)
					}
					m.Set(k, v, at(s), until)
				case what == "?":
					wantEntries(t, m, at(s), c.want)
				default:
					m.Delete(strings.TrimPrefix(what, "-"))
				}
				if m.Len() > 3 || m.Len() != m.ages.Len() {
					t.Errorf("%d entries and %d ages after %q", m.Len(), m.ages.Len(), step)
				}
			}
		})
	}
}

func wantEntries(t *testing.T, m *Map[string, string], now time.Time, want string) {
	t.Helper()
	entries := make(map[string]string)
	if n := m.Each(now, func(k, v string) { entries[k] = v }); n != len(entries) || n != m.Each(now, nil) {
		t.Errorf("Each counts %d of %d entries", n, len(entries))
	}
	var got []string
	for _, k := range slices.Sorted(maps.Keys(entries)) {
		got = append(got, k+"="+entries[k])
	}
	if all := strings.Join(got, " "); all != want {
		t.Errorf("there is %q, want %q", all, want)
	}
	for _, k := range []string{"a", "b", "c", "d", "e"} {
		v, ok := m.Get(k, now)
		if listed, is := entries[k]; v != listed || ok != is {
			t.Errorf("Get(%s) = %q, %v; Each has %q, %v", k, v, ok, listed, is)
		}
	}
}

func TestUpdate(t *testing.T) {
	m := New[string, int](2)
	count := func(s int) {
		m.Update("k", at(s), func(old int, ok bool) (int, time.Time) {
			if ok != (old > 0) {
				t.Errorf("at %d s: %d, %v", s, old, ok)
			}
			return old + 1, at(s + 10)
		})
	}
	for _, s := range []int{0, 5, 14} {
		count(s)
	}
	if n, _ := m.Get("k", at(23)); n != 3 {
		t.Errorf("counted to %d", n)
	}
	count(24) // over: it begins anew
	if n, _ := m.Get("k", at(24)); n != 1 {
		t.Errorf("counted to %d after the end", n)
	}
	m.Set("other", 7, at(24), time.Time{})
	m.DeleteFunc(func(k string, v int) bool { return v == 7 && k == "other" })
	if m.Len() != 1 {
		t.Errorf("%d entries after DeleteFunc", m.Len())
	}
}

// TestFlood: however many keys come, the newest is there and the memory bounded; and
// entries that all last equally long are gone from memory soon after they are over.
func TestFlood(t *testing.T) {
	m := New[int, int](100)
	for i := range 10_000 {
		m.Set(i, i, at(i), at(i+10))
		if v, ok := m.Get(i, at(i)); !ok || v != i {
			t.Fatalf("%d was forgotten at once", i)
		}
		if m.Len() > 10 {
			t.Fatalf("%d entries in memory, of which 10 are not over", m.Len())
		}
	}
}

// TestManyAtOnce is for the race detector.
func TestManyAtOnce(t *testing.T) {
	m := New[int, int](50)
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(1, uint64(g)))
			for i := range 2000 {
				k := r.IntN(100)
				switch r.IntN(5) {
				case 0:
					m.Delete(k)
				case 1:
					m.Get(k, at(i))
				case 2:
					m.Each(at(i), func(int, int) {})
				case 3:
					m.DeleteFunc(func(k, _ int) bool { return k%7 == 0 })
				default:
					m.Update(k, at(i), func(old int, _ bool) (int, time.Time) { return old + 1, at(i + 5) })
				}
			}
		})
	}
	wg.Wait()
	if m.Len() > 50 || m.Len() != m.ages.Len() {
		t.Errorf("%d entries, %d ages", m.Len(), m.ages.Len())
	}
}

func BenchmarkSetWhenFull(b *testing.B) {
	m := New[int, int](4096)
	for i := range b.N {
		m.Set(i, i, start, at(10))
	}
}
