package peers

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/peerfetch/holdings"
	"github.com/aptmesh/aptmesh/proto"
	"github.com/aptmesh/aptmesh/ring"
)

// still is node "self" among others of which it believes what the test says:
// nothing is dialled.
func still(t testing.TB, others ...string) *Mesh {
	t.Helper()
	m, err := New(Config{Name: "self", Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	v := &ring.View{Nodes: []ring.Node{nodeAt("self", "self:1")}}
	var peers []*peer
	for i, name := range others {
		p := &peer{name: name, stored: holdings.NewRemote()}
		p.health.answered(t.Context(), time.Now(), time.Now(), true, 0)
		p.health.measured(time.Duration(i+1) * time.Millisecond)
		peers = append(peers, p)
		m.peers[name] = p
		v.Nodes = append(v.Nodes, nodeAt(name, name+":1"))
	}
	// They are not to be let go of as if they had connections.
	t.Cleanup(func() { m.peers = nil })
	m.others.Store(&peers)
	if v.Ring, err = ring.New(append([]string{"self"}, others...)); err != nil {
		t.Fatal(err)
	}
	m.view = v
	return m
}

// holds has a node say that it holds digests.
func (m *Mesh) holds(t testing.TB, name string, digests ...proto.Digest) {
	t.Helper()
	l := holdings.NewLocal()
	for _, d := range digests {
		l.Add(d)
	}
	c := l.Follow()
	defer c.Close()
	u, err := c.Next(t.Context())
	if err == nil {
		err = m.peers[name].stored.Apply(u)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (m *Mesh) silence(names ...string) {
	for _, name := range names {
		m.peers[name].health.silent(errSilent)
	}
}

func wantOf(d proto.Digest) proto.ObjectRequest {
	return proto.ObjectRequest{Ref: proto.Ref{Digest: d, Size: 1}, Where: where}
}

func names(n int) []string {
	var all []string
	for i := range n {
		all = append(all, fmt.Sprintf("n%02d", i))
	}
	return all
}

func TestRouteHolders(t *testing.T) {
	m := still(t, "b", "c", "d", "e", "f", "g")
	d := blob(1)
	holders := func(hints ...string) []string {
		object := wantOf(d)
		object.Holders = hints
		return m.Route(object).Holders
	}
	check := func(what string, got []string, want ...string) {
		t.Helper()
		if !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	check("nobody holds it", holders())
	check("a hint", holders("c", "self", "c", "stranger"), "c")
	m.holds(t, "d", d)
	m.holds(t, "b", d, blob(2))
	check("nearest first", holders(), "b", "d")
	check("hints first", holders("d", "f"), "d", "f", "b")
	m.peers["b"].health.rtt.Store(int64(time.Second))
	check("the other way round", holders(), "d", "b")
	m.peers["b"].health.rtt.Store(0)
	check("an unknown distance is the longest", holders(), "d", "b")
	m.silence("d")
	check("the silent are left out", holders("d"), "b")
	m.Distrust("b", errors.New("a flipped bit"))
	check("the distrusted are left out", holders("b"))
	if m.Replicated(d) || m.Replicated(blob(2)) {
		t.Error("the silent and the distrusted count for eviction")
	}
	for _, name := range []string{"c", "e", "f", "g"} {
		m.holds(t, name, d)
	}
	check("not too many", holders("g"), "g", "c", "e", "f")
	m = still(t, "b", "c")
	m.holds(t, "b", d)
	m.peers["b"].leaving.Store(true)
	check("who leaves is asked", m.Holders(d), "b")
	if m.Replicated(d) {
		t.Error("who leaves counts for eviction")
	}
	m.peers["b"].reported(errTransfer)
	check("who cannot deliver is left out", m.Holders(d))
}

func TestRouteOwners(t *testing.T) {
	m := still(t, names(9)...)
	r := m.View().Ring
	// One key of which self is the third owner, and one of which it is the last.
	var third, last proto.Digest
	for i := 0; third.IsZero() || last.IsZero(); i++ {
		d := blob(i)
		switch slices.Index(r.Owners(d[:], 10), "self") {
		case 2:
			third = d
		case 9:
			last = d
		}
	}
	owners := func(d proto.Digest) []string { return m.Route(wantOf(d)).Owners }
	order := r.Owners(third[:], 10)
	if got := owners(third); !slices.Equal(got, order[:4]) {
		t.Errorf("owners %v, want %v", got, order[:4])
	}
	m.silence(order[0], order[3])
	if got, want := owners(third), []string{order[1], "self"}; !slices.Equal(got, want) {
		t.Errorf("without the first and the fourth: %v, want %v", got, want)
	}
	m.peers[order[1]].reported(errTransfer)
	if got := owners(third); len(got) < 2 || got[0] != "self" || got[1] != order[4] {
		t.Errorf("self comes first: %v, of %v", got, order)
	}

	m = still(t, names(9)...)
	order = m.View().Ring.Owners(last[:], 10)
	if got, want := owners(last), append(order[:4:4], "self"); !slices.Equal(got, want) {
		t.Errorf("self comes last: %v, want %v", got, want)
	}
	m.Distrust(order[0], errTransfer)
	if got := owners(last); got[0] != order[1] {
		t.Errorf("a distrusted owner: %v of %v", got, order)
	}
	m.silence(names(9)...)
	if got := owners(last); !slices.Equal(got, []string{"self"}) {
		t.Errorf("nobody else answers: %v", got)
	}

	// This node may not fetch it, and nobody who may answers.
	others, err := ring.New(names(9))
	if err != nil {
		t.Fatal(err)
	}
	m.cfg.RingFor = func(_ *ring.View, archive string) *ring.Ring {
		if archive != "ubuntu" {
			t.Errorf("asked for the ring of %q", archive)
		}
		return others
	}
	if got := owners(last); !slices.Equal(got, others.Owners(last[:], 4)) {
		t.Errorf("nobody answers: %v", got)
	}
	empty, _ := ring.New(nil)
	m.cfg.RingFor = func(*ring.View, string) *ring.Ring { return empty }
	if got := m.Route(wantOf(last)); got.Owners != nil || got.Self != "self" {
		t.Errorf("an empty ring: %v", got)
	}
}

// TestRouteKeys are the ones by which peerfetch tells flights apart.
func TestRouteKeys(t *testing.T) {
	d, sum := blob(1), proto.SHA512{1, 2, 3}
	for _, tt := range []struct {
		object proto.ObjectRequest
		key    []byte
	}{
		{proto.ObjectRequest{Ref: proto.Ref{Digest: d, Size: 3}, SHA512: sum, Where: where}, d[:]},
		{proto.ObjectRequest{Ref: proto.Ref{Size: 3}, SHA512: sum, Where: where}, sum[:]},
		{proto.ObjectRequest{Ref: proto.Ref{Size: 3}, Where: where}, []byte("ubuntu/" + where.First.Path)},
		{proto.ObjectRequest{}, nil},
	} {
		if got := keyOf(tt.object); string(got) != string(tt.key) {
			t.Errorf("%+v: key %q, want %q", tt.object, got, tt.key)
		}
	}
	m := still(t, "b", "c")
	m.holds(t, "b", proto.Digest{})
	if got := m.Route(proto.ObjectRequest{}); len(got.Owners) == 0 || got.Holders != nil {
		t.Errorf("an object of which nothing is known: %+v", got)
	}
}

func TestOwners(t *testing.T) {
	m := still(t, names(9)...)
	key := []byte("suite:ubuntu/dists/noble")
	order := m.View().Ring.Owners(key, 10)
	if got := m.Owners(key, 3); !slices.Equal(got, order[:3]) {
		t.Errorf("%v, want %v", got, order[:3])
	}
	if got := m.Owners(key, 100); !slices.Equal(got, order) {
		t.Errorf("%v, want %v", got, order)
	}
	if m.Owners(key, 0) != nil || m.Owners(key, -1) != nil {
		t.Error("owners though none were asked for")
	}
	var others []string
	for _, name := range order {
		if name != "self" {
			others = append(others, name)
		}
	}
	m.peers[others[0]].reported(errTransfer)
	if got := m.Owners(key, 3); !slices.Equal(got, order[:3]) {
		t.Errorf("news needs no transfers: %v, want %v", got, order[:3])
	}
	m.silence(others[:5]...)
	want := slices.DeleteFunc(slices.Clone(order), func(name string) bool { return slices.Contains(others[:5], name) })
	if got := m.Owners(key, 3); !slices.Equal(got, want[:3]) {
		t.Errorf("five are silent: %v, want %v", got, want[:3])
	}
	m.silence(others...)
	if got := m.Owners(key, 3); !slices.Equal(got, []string{"self"}) {
		t.Errorf("all others are silent: %v", got)
	}
	var err error
	if m.view.Ring, err = ring.New(names(9)); err != nil {
		t.Fatal(err)
	}
	if got := m.Owners(key, 3); len(got) != 3 {
		t.Errorf("nobody answers: %v", got)
	}
}

func BenchmarkHolders(b *testing.B) {
	for _, n := range []int{5, 20} {
		m := still(b, names(n)...)
		for _, name := range names(n) {
			var stored []proto.Digest
			for i := range 100_000 {
				stored = append(stored, blob(i))
			}
			m.holds(b, name, stored...)
		}
		for what, d := range map[string]proto.Digest{"held": blob(1), "nowhere": blob(-1)} {
			b.Run(fmt.Sprintf("%s/%d nodes", what, n), func(b *testing.B) {
				for b.Loop() {
					m.Replicated(d)
				}
			})
		}
		b.Run(fmt.Sprintf("route/%d nodes", n), func(b *testing.B) {
			object := wantOf(blob(-1))
			for b.Loop() {
				m.Route(object)
			}
		})
	}
}
