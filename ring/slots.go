package ring

import (
	"cmp"
	"slices"
	"strings"
	"sync"

	"github.com/cespare/xxhash/v2"
)

// Slots splits a cluster-wide limit of connections to one upstream host among names, whose
// order and duplicates do not matter. The parts add up to limit and differ by at most one;
// the host decides which names get one more. If limit is below the number of names, limit
// of them get 1 and the others 0. A limit below 0 counts as 0.
func Slots(host string, limit int, names []string) map[string]int {
	slots := make(map[string]int, len(names))
	ranked := rank(host, names)
	if len(ranked) == 0 {
		return slots
	}
	limit = max(limit, 0)
	each, extra := limit/len(ranked), limit%len(ranked)
	for i, name := range ranked {
		slots[name] = each
		if i < extra {
			slots[name]++
		}
	}
	return slots
}

// rank orders names, without duplicates, by their rendezvous hash with a host:
// when a name comes or goes, the others keep their order.
func rank(host string, names []string) []string {
	type weighted struct {
		name   string
		weight uint64
	}
	weights := make([]weighted, 0, len(names))
	d := xxhash.New()
	for _, name := range names {
		d.Reset()
		d.WriteString(host)
		d.Write([]byte{0}) // no host has one: "ab"+"c" is not "a"+"bc"
		d.WriteString(name)
		weights = append(weights, weighted{name, d.Sum64()})
	}
	slices.SortFunc(weights, func(a, b weighted) int {
		return cmp.Or(cmp.Compare(b.weight, a.weight), strings.Compare(a.name, b.name))
	})
	weights = slices.Compact(weights)
	ranked := make([]string, len(weights))
	for i, w := range weights {
		ranked[i] = w.name
	}
	return ranked
}

// maxLimited is how many hosts' rings are kept. There are as many hosts as the
// configuration names, so it only guards against one that changes for ever.
const maxLimited = 256

// limitedRings are rings of some of a ring's nodes, by what they were asked for.
type limitedRings struct {
	mu    sync.RWMutex
	rings map[limitedTo]*Ring // guarded by mu
}

type limitedTo struct {
	host  string
	limit int
}

// limited returns the ring of the limit nodes that rank first for a host. The
// limit is at least 1 and less than the number of nodes.
func (r *Ring) limited(host string, limit int) *Ring {
	c, key := &r.some, limitedTo{host, limit}
	c.mu.RLock()
	known := c.rings[key]
	c.mu.RUnlock()
	if known != nil {
		return known
	}
	some, err := New(rank(host, r.names)[:limit])
	if err != nil {
		return r // of more names there is one, so this cannot be
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if known := c.rings[key]; known != nil {
		return known
	}
	if c.rings == nil || len(c.rings) >= maxLimited {
		c.rings = make(map[limitedTo]*Ring)
	}
	c.rings[key] = some
	return some
}
