package ring

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cespare/xxhash/v2"
)

func mustNew(t testing.TB, names []string) *Ring {
	t.Helper()
	r, err := New(names)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// nodes are n names as people give them. Among more than ten, one begins with
// another.
func nodes(n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("node%d", i+1)
	}
	return names
}

func without(names []string, gone ...string) []string {
	return slices.DeleteFunc(slices.Clone(names), func(name string) bool { return slices.Contains(gone, name) })
}

func key(i int) []byte { return fmt.Appendf(nil, "object %d", i) }

// keysOfPartitions finds a key for each partition.
func keysOfPartitions() [][]byte {
	keys := make([][]byte, partitions)
	for i, found := 0, 0; found < partitions; i++ {
		k := key(i)
		if p := partitionOf(k); keys[p] == nil {
			keys[p] = k
			found++
		}
	}
	return keys
}

func TestNoNodes(t *testing.T) {
	r := mustNew(t, nil)
	if got := r.Owners([]byte("k"), 3); got != nil {
		t.Errorf("Owners of an empty ring: %v", got)
	}
	if r.Contains("") || r.Share("a") != 0 || len(r.Names()) != 0 || r.Len() != 0 {
		t.Error("an empty ring contains something")
	}
	if r.Hash() == mustNew(t, []string{"a"}).Hash() {
		t.Error("an empty ring hashes like one of a node")
	}
}

func TestOneAndTwoNodes(t *testing.T) {
	one := mustNew(t, []string{"a", "a"})
	if got := one.Owners([]byte("k"), 5); !slices.Equal(got, []string{"a"}) {
		t.Errorf("Owners of one node: %v", got)
	}
	if s := one.Share("a"); math.Abs(s-1) > 1e-9 {
		t.Errorf("one node owns %v of the keys", s)
	}
	two := mustNew(t, []string{"b", "a"})
	for i := range 1000 {
		got := two.Owners(key(i), 2)
		if slices.Sort(got); !slices.Equal(got, []string{"a", "b"}) {
			t.Fatalf("Owners of two nodes: %v", got)
		}
	}
	for _, n := range []int{0, -1} {
		if got := two.Owners([]byte("k"), n); got != nil {
			t.Errorf("Owners(%d) = %v", n, got)
		}
	}
}

func TestTooManyNodes(t *testing.T) {
	if _, err := New(nodes(MaxNodes + 1)); err == nil || !strings.Contains(err.Error(), "at most 256") {
		t.Errorf("New of %d names: %v", MaxNodes+1, err)
	}
	if r := mustNew(t, slices.Repeat(nodes(20), MaxNodes/10)); r.Len() != 20 {
		t.Errorf("duplicates count: %d nodes", r.Len())
	}
}

// TestPlacementIsPinned fails when owners change. Then nodes of the old and the
// new release would disagree: count Version up, and put the new sums here.
func TestPlacementIsPinned(t *testing.T) {
	want := map[int]uint64{3: 0x91d619939d9d5b35, 5: 0xf24b5fc55e77edbd, 50: 0x4ba7a9566034522e}
	for n, sum := range want {
		r := mustNew(t, nodes(n))
		d := xxhash.New()
		for p := 0; p < partitions; p += 50 {
			for _, node := range r.order(p, 3) {
				d.WriteString(r.names[node])
				d.Write([]byte{0})
			}
		}
		if d.Sum64() != sum {
			t.Errorf("owners of %d nodes changed: %#x, were %#x", n, d.Sum64(), sum)
		}
	}
}

// TestOrderOfJoining builds rings of the same names in many orders, among them
// names whose points v0.10 of the library mixed up ("node1"+"10" = "node11"+"0").
func TestOrderOfJoining(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	sets := [][]string{{"node1", "node11", "node111"}, {"a", "0:a", "1:a", ":a", "10:a"}, {"", "\x00", "ä", "日本"}}
	for _, n := range []int{1, 2, 3, 11, 100} {
		sets = append(sets, nodes(n))
	}
	for _, names := range sets {
		first := mustNew(t, names)
		for range min(3, 30/len(names)+1) {
			shuffled := slices.Clone(names)
			rnd.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
			shuffled = append(shuffled, shuffled[rnd.IntN(len(shuffled))])
			r := mustNew(t, shuffled)
			if r.Hash() != first.Hash() || !slices.Equal(r.owners, first.owners) || !slices.Equal(r.Names(), first.Names()) {
				t.Fatalf("%d nodes in another order make another ring", len(names))
			}
			for i := range 50 {
				if a, b := first.Owners(key(i), 3), r.Owners(key(i), 3); !slices.Equal(a, b) {
					t.Fatalf("owners in another order: %v and %v", a, b)
				}
			}
		}
	}
}

// TestFailover compares the order of owners with rings that the library builds
// without the nodes before.
func TestFailover(t *testing.T) {
	keys := keysOfPartitions()
	for _, tt := range []struct{ nodes, deep, every int }{{2, 2, 7}, {3, 3, 13}, {5, 5, 61}, {12, 4, 601}, {50, 3, 2001}} {
		names := nodes(tt.nodes)
		r := mustNew(t, names)
		built := make(map[string]*Ring)
		for p := 0; p < partitions; p += tt.every {
			owners := r.Owners(keys[p], tt.deep)
			for i, owner := range owners {
				gone := slices.Sorted(slices.Values(owners[:i]))
				sub, ok := built[strings.Join(gone, " ")]
				if !ok {
					sub = mustNew(t, without(names, gone...))
					built[strings.Join(gone, " ")] = sub
				}
				if want := sub.Owners(keys[p], 1)[0]; owner != want {
					t.Fatalf("%d nodes, partition %d: owner %d is %s, but without %v it is %s", tt.nodes, p, i, owner, gone, want)
				}
			}
		}
	}
}

// TestDepthDoesNotMatter asks for orders in several depths: what was kept of one
// answer must fit the next.
func TestDepthDoesNotMatter(t *testing.T) {
	names := nodes(7)
	deep := mustNew(t, names)
	for i := range 20 {
		want := deep.Owners(key(i), 7)
		stepwise := mustNew(t, names)
		for _, n := range []int{1, 3, 2, 7, 5, 99} {
			if got := stepwise.Owners(key(i), n); !slices.Equal(got, want[:min(n, 7)]) {
				t.Fatalf("Owners(%d) = %v, of %v", n, got, want)
			}
		}
		if slices.Sort(want); !slices.Equal(want, deep.Names()) {
			t.Fatalf("not every node is among all owners: %v", want)
		}
	}
}

// TestMovement bounds what moves when a node leaves or, seen the other way, joins:
// what that node owns, and at most 2 % of all keys between the other nodes (the
// load limit makes some move on; measured at most 1 %).
func TestMovement(t *testing.T) {
	const between = 0.02
	for _, n := range []int{2, 3, 5, 10, 20, 50} {
		names := nodes(n)
		all := mustNew(t, names)
		var worst, most float64
		for i := 0; i < n; i += max(1, n/5) {
			rest := mustNew(t, without(names, names[i]))
			var owned, moved int
			for p := range partitions {
				before, after := all.names[all.owners[p]], rest.names[rest.owners[p]]
				switch {
				case before == names[i]:
					owned++
				case before != after:
					moved++
				}
			}
			worst = max(worst, float64(moved)/partitions)
			most = max(most, float64(owned+moved)/partitions)
		}
		t.Logf("%2d nodes, one leaves or joins: %4.1f %% of the keys change owner (1/n is %4.1f %%), %.1f %% between the others", n, 100*most, 100/float64(n), 100*worst)
		if worst > between {
			t.Errorf("%d nodes: %.1f %% moved between nodes that stayed", n, 100*worst)
		}
		if most > load/float64(n)+between {
			t.Errorf("%d nodes: %.1f %% moved", n, 100*most)
		}
	}
}

func TestShares(t *testing.T) {
	for _, n := range []int{1, 2, 3, 5, 20, 50, 100} {
		r := mustNew(t, nodes(n))
		var sum float64
		low, high := 1.0, 0.0
		for _, name := range r.Names() {
			s := r.Share(name)
			sum += s
			low, high = min(low, s*float64(n)), max(high, s*float64(n))
		}
		t.Logf("%3d nodes: shares %.2f to %.2f of an equal one", n, low, high)
		if math.Abs(sum-1) > 1e-9 {
			t.Errorf("%d nodes: shares add up to %v", n, sum)
		}
		if most := math.Ceil(partitions/float64(n)*load) / partitions * float64(n); high > most+1e-9 {
			t.Errorf("%d nodes: one has %.3f of an equal share, above %.3f", n, high, most)
		}
		if low < 0.4 {
			t.Errorf("%d nodes: one has only %.2f of an equal share", n, low)
		}
	}
}

// TestShareIsThatOfKeys holds Share against keys.
func TestShareIsThatOfKeys(t *testing.T) {
	r := mustNew(t, nodes(4))
	owned := make(map[string]int)
	const keys = 40000
	for i := range keys {
		owned[r.Owners(key(i), 1)[0]]++
	}
	for name, n := range owned {
		if got := float64(n) / keys; math.Abs(got-r.Share(name)) > 0.02 {
			t.Errorf("%s owns %.3f of the keys, Share says %.3f", name, got, r.Share(name))
		}
	}
}

func TestHashTellsNamesApart(t *testing.T) {
	seen := make(map[uint64][]string)
	for _, names := range [][]string{nil, {"a"}, {"b"}, {"a", "b"}, {"ab"}, {"a", "b", "c"}, {"ab", "c"}, {"a", "bc"}, {"abc"}, {""}} {
		h := mustNew(t, names).Hash()
		if other, ok := seen[h]; ok {
			t.Errorf("%q and %q hash alike", names, other)
		}
		seen[h] = names
	}
}

// TestResultsBelongToTheCaller changes what it was given.
func TestResultsBelongToTheCaller(t *testing.T) {
	names := []string{"c", "a", "b"}
	r := mustNew(t, names)
	if !slices.Equal(names, []string{"c", "a", "b"}) {
		t.Fatal("New changed its argument")
	}
	owners := r.Owners([]byte("k"), 3)
	want := slices.Clone(owners)
	owners[0], names[0], r.Names()[0] = "x", "x", "x"
	if got := r.Owners([]byte("k"), 3); !slices.Equal(got, want) || !r.Contains("c") || !r.Contains("a") {
		t.Error("a caller's change reached the ring")
	}
}

func TestConcurrentOwners(t *testing.T) {
	r, alone := mustNew(t, nodes(9)), mustNew(t, nodes(9))
	var group sync.WaitGroup
	for worker := range 8 {
		group.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(worker), 0))
			for range 300 {
				r.Owners(key(rnd.IntN(60)), 1+rnd.IntN(9))
			}
		})
	}
	group.Wait()
	for i := range 60 {
		if got, want := r.Owners(key(i), 9), alone.Owners(key(i), 9); !slices.Equal(got, want) {
			t.Fatalf("asked by many: %v, by one: %v", got, want)
		}
	}
}

func FuzzRing(f *testing.F) {
	f.Add("node1 node11 node111 node1", "key", uint64(1))
	f.Add("a", "", uint64(0))
	f.Add("0:a a 00:a", "\x00", uint64(7))
	f.Fuzz(func(t *testing.T, list, key string, seed uint64) {
		names := strings.Split(list, " ")
		names = names[:min(len(names), 4)]
		r := mustNew(t, names)
		distinct := r.Names()
		owners := r.Owners([]byte(key), len(names)+1)
		if sorted := slices.Sorted(slices.Values(owners)); !slices.Equal(sorted, distinct) {
			t.Fatalf("owners %q are not the names %q", owners, distinct)
		}
		rand.New(rand.NewPCG(seed, 0)).Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
		again := mustNew(t, names)
		if again.Hash() != r.Hash() || !slices.Equal(again.Owners([]byte(key), len(names)), owners) {
			t.Fatal("another order of joining, other owners")
		}
		for i := range owners {
			if got := mustNew(t, without(distinct, owners[:i]...)).Owners([]byte(key), 1)[0]; got != owners[i] {
				t.Fatalf("without %q the owner is %q, not %q", owners[:i], got, owners[i])
			}
		}
	})
}

func BenchmarkNew(b *testing.B) {
	for _, n := range []int{3, 5, 20, 50, 100} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			names := nodes(n)
			for b.Loop() {
				mustNew(b, names)
			}
		})
	}
}

func BenchmarkOwners(b *testing.B) {
	k := []byte("0123456789abcdef0123456789abcdef")
	for _, n := range []int{5, 50} {
		r := mustNew(b, nodes(n))
		b.Run(fmt.Sprintf("3of%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				r.Owners(k, 3)
			}
		})
		b.Run(fmt.Sprintf("3of%d/first", n), func(b *testing.B) {
			for b.Loop() {
				r.orders[partitions-1].Store(nil)
				r.order(partitions-1, 3)
			}
		})
		b.Run(fmt.Sprintf("all%d/first", n), func(b *testing.B) {
			for b.Loop() {
				r.orders[partitions-1].Store(nil)
				r.order(partitions-1, n)
			}
		})
	}
}
