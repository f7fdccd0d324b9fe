package ring

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"
)

const (
	// stablePolls is how often in a row a joiner must see the same members.
	stablePolls = 3
	// firstRetry is after how long a node that is alone tries again; each time it
	// waits twice as long, up to RejoinEvery.
	firstRetry = time.Second
	// maxContacts is how many seeds, and how many missing nodes, are contacted at
	// once. One that answers is enough: it knows the others.
	maxContacts = 8
)

// Join contacts the seeds and returns when one has answered, when none can be
// reached (that is no error: they are tried again for ever), or with the cause of
// ctx. In the background the node then settles: it becomes Active. Seeds, and nodes
// that have vanished, are looked for until Close, so that the two sides of a
// partition find each other however long it lasted.
func (m *Members) Join(ctx context.Context) error {
	if m.ctx.Err() != nil {
		return errClosed
	}
	m.joining.Do(func() {
		m.run(m.keepJoined)
		m.run(m.settle)
	})
	select {
	case <-m.contacted:
		return nil
	case <-m.settled:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-m.ctx.Done():
		return errClosed
	}
}

// settle makes this node Active when the list of members has stood still for a few
// polls after the first contact, and is that of the view published here, or after a
// bounded time.
func (m *Members) settle() {
	tick := time.NewTicker(m.cfg.SettlePoll)
	defer tick.Stop()
	enough := time.NewTimer(m.cfg.Settle)
	defer enough.Stop()
	contacted := m.contacted
	var last []string
	for stable := 0; stable < stablePolls; {
		select {
		case <-contacted:
			contacted = nil // polls count from now on
			continue
		case <-tick.C:
		case <-enough.C:
			stable = stablePolls
			continue
		case <-m.ctx.Done():
			return
		}
		if contacted != nil {
			continue
		}
		switch now := m.roster.names(); {
		case !slices.Equal(m.View().others(), now):
			stable = 0 // this node has not heard of them by gossip yet
		case stable > 0 && slices.Equal(now, last):
			stable++
		default:
			stable, last = 1, now
		}
	}
	if !m.roster.become(Active) {
		return // it is leaving already
	}
	m.changed()
	close(m.settled)
	m.cfg.Logger.Info("this node has settled: it owns its share now", "others", len(m.roster.names()))
	// Not waiting for it to spread; it does.
	_ = m.announce(time.Millisecond)
}

// keepJoined contacts seeds and missing nodes, until the end.
func (m *Members) keepJoined() {
	contacted := sync.OnceFunc(func() { close(m.contacted) })
	retry := firstRetry
	for reached := true; ; {
		present, wanted := m.wanted()
		if len(wanted) > 0 {
			was := reached
			reached = m.contact(wanted, contacted)
			if !reached && was && len(present) == 1 {
				m.cfg.Logger.Warn("no other node can be reached; this one goes on alone, and tries again", "reasons", m.whyAlone())
			}
		}
		contacted()
		wait := m.cfg.RejoinEvery
		if m.roster.size() == 1 {
			wait = min(retry, wait)
			retry = min(2*retry, m.cfg.RejoinEvery)
		} else {
			retry = firstRetry
		}
		select {
		case <-time.After(wait*4/5 + rand.N(wait*2/5+1)):
		case <-m.ctx.Done():
			return
		}
	}
}

// wanted returns the addresses of seeds and missing nodes that nobody present is
// at, some of them by chance if there are many, and those of the present ones.
func (m *Members) wanted() (present map[string]bool, wanted []string) {
	seeds := m.seedAddresses()
	present, missing := m.roster.addresses()
	seeds = slices.DeleteFunc(seeds, func(addr string) bool { return present[addr] })
	missing = slices.DeleteFunc(missing, func(addr string) bool { return slices.Contains(seeds, addr) })
	return present, slices.Concat(some(seeds), some(missing))
}

// some returns up to maxContacts of the addresses, in any order.
func some(addrs []string) []string {
	rand.Shuffle(len(addrs), func(i, j int) { addrs[i], addrs[j] = addrs[j], addrs[i] })
	return addrs[:min(len(addrs), maxContacts)]
}

// seedAddresses looks the seeds up, all at once.
func (m *Members) seedAddresses() []string {
	found, failures := make([][]netip.AddrPort, len(m.cfg.Seeds)), make([]string, len(m.cfg.Seeds))
	var group sync.WaitGroup
	for i, seed := range m.cfg.Seeds {
		group.Go(func() {
			addrs, err := m.cfg.seedAddresses(m.ctx, seed)
			if err != nil && m.ctx.Err() == nil {
				m.unreached.Add(1)
				m.warn("a seed cannot be looked up", "seed", seed, "error", err)
				failures[i] = seed + ": its name cannot be looked up"
			}
			found[i] = addrs
		})
	}
	group.Wait()
	failures = slices.DeleteFunc(failures, func(f string) bool { return f == "" })
	m.lookups.Store(&failures)
	var addrs []string
	for _, at := range slices.Concat(found...) {
		addrs = append(addrs, at.String())
	}
	slices.Sort(addrs)
	return slices.Compact(addrs)
}

func (c *Config) seedAddresses(ctx context.Context, seed string) ([]netip.AddrPort, error) {
	host, port, err := splitHost(seed, DefaultPort)
	if err != nil {
		return nil, err
	}
	ips, err := c.addressesOf(ctx, host)
	addrs := make([]netip.AddrPort, len(ips))
	for i, ip := range ips {
		addrs[i] = netip.AddrPortFrom(ip, port)
	}
	return addrs, err
}

// noContact says why nobody was reached at an address.
type noContact struct{ address, why string }

// contact exchanges state with the nodes at the addresses, all at once, and reports whether
// any node answered. It calls reached when the first one has answered.
func (m *Members) contact(addrs []string, reached func()) bool {
	var group sync.WaitGroup
	answers, failures := make([]bool, len(addrs)), make([]noContact, len(addrs))
	for i, addr := range addrs {
		group.Go(func() {
			// memberlist resolves names in a way of its own and contacts one after the
			// other, with a long timeout each; so it gets one address at a time.
			if _, err := m.list.Join([]string{addr}); err != nil {
				m.unreached.Add(1)
				m.cfg.Logger.Debug("a node cannot be reached", "address", addr, "error", err)
				failures[i] = noContact{addr, whyNoContact(err)}
				return
			}
			answers[i] = true
			reached()
		})
	}
	group.Wait()
	failures = slices.DeleteFunc(failures, func(f noContact) bool { return f == noContact{} })
	m.failures.Store(&failures)
	return slices.Contains(answers, true)
}
