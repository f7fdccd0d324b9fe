package upstream

// share is a node's part of caps that hold for a whole cluster.
type share struct {
	connections    func(host string) int // nil: all
	bytesPerSecond int64                 // 0: all
}

// foreign reports whether no connection to a host is ours.
func (sh share) foreign(host string) bool {
	return sh.connections != nil && sh.connections(host) <= 0
}

// slots returns how many connections to a host are ours: at least one, because without a
// connection this node could not go upstream at all.
func (sh share) limit(cfg Config, host string) int {
	if sh.connections == nil {
		return cfg.ConnectionsPerHost
	}
	return min(max(sh.connections(host), 1), cfg.ConnectionsPerHost)
}

// rate returns how many bytes per second are ours; 0 = no limit.
func (sh share) rate(cfg Config) int64 {
	if sh.bytesPerSecond <= 0 || cfg.Rate > 0 && cfg.Rate < sh.bytesPerSecond {
		return cfg.Rate
	}
	return sh.bytesPerSecond
}

// SetShare makes connections and bytesPerSecond this node's part of
// Settings.ConnectionsPerHost and Settings.Rate, which are caps of the whole
// cluster then. It stays in force, also across Reconfigure, until it is set again. nil
// and 0 stand for the whole configured caps, and a share is never more than those.
//
// connections returns how many of the connections to a host are ours. It is called with
// names of hosts as in HostsOf and HostStats.Host, and also for the targets of redirects. A
// result below 1 counts as 1: a node without a connection of its own goes upstream only if
// no other node can, and first asks mirrors of which it has a share. connections is called
// at once for each known host and later for each new one, under a lock: it must be quick,
// and must not call the Client.
//
// The share holds at once for new transfers. Running transfers are not cut for a lower
// share, but no new one starts until there is room below it.
func (c *Client) SetShare(connections func(host string) int, bytesPerSecond int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.share = share{connections, bytesPerSecond}
	s := c.settings.Load()
	if c.limit(s) {
		s.closeIdle() // they count at the other end, too
	}
}

// limit puts the caps of s, or this node's share of them, in force. It reports whether any
// host has fewer slots now. The caller holds mu.
func (c *Client) limit(s *settings) (fewer bool) {
	for name, h := range c.hosts {
		h.foreign.Store(c.share.foreign(name))
		if h.scheduler.configure(c.share.limit(s.cfg, name), patienceOf(s.cfg)) {
			fewer = true
		}
	}
	c.limiter.set(c.share.rate(s.cfg))
	return fewer
}
