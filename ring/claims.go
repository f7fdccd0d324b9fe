package ring

import (
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"time"
)

// Claim is a name that two nodes use at once.
type Claim struct {
	Name  string    `json:"name"`
	Known string    `json:"known"` // the address of the node that has the name
	Other string    `json:"other"` // the address of the node that claims it, and is kept out
	At    time.Time `json:"-"`
}

// claims remembers who used the name of another node lately, by name, of
// maxMissing names at most.
type claims struct {
	mu     sync.Mutex
	byName map[string]Claim // guarded by mu
}

// claimFor is how long a claim is remembered. A node that is kept out tries again
// every RejoinEvery.
const claimFor = 2 * time.Minute

// note reports whether the claim was not known before.
func (c *claims) note(claim Claim) (added bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before, known := c.byName[claim.Name]
	if !known && len(c.byName) >= maxMissing {
		return false
	}
	if c.byName == nil {
		c.byName = make(map[string]Claim)
	}
	claim.At = time.Now()
	c.byName[claim.Name] = claim
	return !known || claim.At.Sub(before.At) > claimFor/4
}

// recent returns the claims that are not old, by name.
func (c *claims) recent() []Claim {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []Claim
	for name, claim := range c.byName {
		if time.Since(claim.At) > claimFor {
			delete(c.byName, name)
			continue
		}
		all = append(all, claim)
	}
	slices.SortFunc(all, func(a, b Claim) int { return strings.Compare(a.Name, b.Name) })
	return all
}

func encodeClaim(c Claim) []byte {
	b, _ := json.Marshal(c) // three strings
	return append([]byte{frameClaim}, b...)
}

// receiveClaim notes a claim, whether this node or another one found it, and passes
// news on. The node whose name is claimed may meet the other one never.
func (m *Members) receiveClaim(frame []byte) {
	var c Claim
	if json.Unmarshal(frame[1:], &c) != nil || !validName(c.Name) || len(frame) > MaxMessage {
		return
	}
	if m.claims.note(c) {
		m.broadcasts.QueueBroadcast(broadcast(frame))
		m.broadcasts.Prune(maxBroadcasts)
	}
}
