package ring

import (
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/aptmesh/aptmesh/proto/expiring"
)

// Claim is a name that two nodes use at once.
type Claim struct {
	Name  string    `json:"name"`
	Known string    `json:"known"` // the address of the node that has the name
	Other string    `json:"other"` // the address of the node that claims it, and is kept out
	At    time.Time `json:"-"`
	told  time.Time // when it was last passed on
}

const (
	maxClaims = 256
	// claimFor is how long a claim is remembered. A node that is kept out tries again
	// every RejoinEvery.
	claimFor = 2 * time.Minute
)

func encodeClaim(c Claim) []byte {
	b, _ := json.Marshal(c) // three strings
	return append([]byte{frameClaim}, b...)
}

// receiveClaim remembers a claim, whether this node or another one found it, and passes
// it on now and then: the node whose name is claimed may never meet the claimant. Which of the two nodes is
// in the cluster, each says by what it sees itself. It runs on the goroutine of deliver.
func (m *Members) receiveClaim(frame []byte) {
	var c Claim
	if json.Unmarshal(frame[1:], &c) != nil || !validName(c.Name) || len(frame) > MaxMessage {
		return
	}
	now := time.Now()
	before, known := m.claims.Get(c.Name, now)
	if !known && m.claims.Each(now, nil) == maxClaims {
		return // a claim that made room for another would count as new again, and travel for ever
	}
	c.At, c.told = now, before.told
	pass := !known || now.Sub(before.told) > claimFor/4
	if pass {
		c.told = now
	}
	if m.roster.addressOf(c.Name) == c.Other {
		c.Known, c.Other = c.Other, c.Known
	}
	m.claims.Set(c.Name, c, now, now.Add(claimFor))
	if pass {
		m.broadcasts.QueueBroadcast(broadcast(frame))
		m.broadcasts.Prune(maxBroadcasts)
	}
}

// recentClaims returns the claims that are remembered, by name.
func (m *Members) recentClaims() []Claim {
	return sorted(m.claims, func(a, b Claim) int { return strings.Compare(a.Name, b.Name) })
}

// sorted returns the values of a map that have not ended.
func sorted[V any](m *expiring.Map[string, V], compare func(a, b V) int) []V {
	var all []V
	m.Each(time.Now(), func(_ string, v V) { all = append(all, v) })
	slices.SortFunc(all, compare)
	return all
}
