package ring

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"time"

	"github.com/hashicorp/memberlist"
)

// DefaultPort is the gossip port of a seed that is named without one, and of a
// Bind that is empty.
const DefaultPort = 7946

// MaxMessage is the longest message that Broadcast takes, in bytes. A message must
// find room in a packet beside what memberlist says itself, and one that never
// does would wait for ever.
const MaxMessage = 400

// Longest names. A packet holds two node names and the cluster's.
const (
	maxName    = 128
	maxCluster = 64
)

// Config is what Start needs. Name, Cluster and PeerAddr must be set; zero
// durations take their defaults.
type Config struct {
	// Name is the identity of this node in the ring: unique in the cluster, and
	// kept over restarts and changes of address. Letters, digits, '.', '_', '-'.
	Name string
	// Cluster keeps clusters apart: packets of another cluster are dropped unread.
	Cluster    string
	Datacenter string
	// Bind is host:port for UDP and TCP. Port 0 takes a free one; without a host,
	// all IPv4 addresses, or all addresses where what is advertised is an IPv6 one, as
	// on a machine that has no other. Default ":7946".
	Bind string
	// Advertise is where others reach Bind: a host name or address, with or without
	// port. By default it is Bind's, or where that names no address, a private one
	// of this machine.
	Advertise string
	PeerAddr  string // host:port where others reach this node's gRPC
	Version   string // of the software
	// Seeds are other nodes, as host or host:port, looked up anew at each contact;
	// a host may have several addresses. This node itself may be among them.
	Seeds []string
	// Known are the nodes that this node knew before its start, from Members.Known. They
	// are contacted like seeds, and are missing until they answer.
	Known []Missing
	// Keys encrypt the gossip: the first encrypts, all decrypt. 16, 24 or 32 bytes.
	// Without a key, every machine that reaches Bind can take part.
	Keys [][]byte
	// Allowed are the networks that nodes may be in, by the address that packets
	// come from and the one that is advertised. None: all.
	Allowed []netip.Prefix
	Logger  *slog.Logger

	// SettlePoll is how often a joiner looks whether the list of members stands
	// still, which it must three times. Default 500 ms.
	SettlePoll time.Duration
	// Settle bounds how long a joining node waits for that. Default 5 s.
	Settle time.Duration
	// RejoinEvery is how often seeds and nodes known before are contacted while
	// they are not among the members. Default 30 s.
	RejoinEvery time.Duration
	// BeaconEvery is how often a node sends a beacon by UDP to each other node. Default
	// 5 s.
	BeaconEvery time.Duration

	// Received gets each message of another node's Broadcast, in order of arrival.
	// Messages may be lost, doubled and out of order.
	Received func(msg []byte)
	// LocalState returns the state that MergeState of another node gets. Nodes exchange
	// it in full with a random node every 30 s, and when they join. More than MaxState is
	// not sent. LocalState is called by several goroutines, MergeState by the one that
	// calls Received.
	LocalState func() []byte
	MergeState func(state []byte)

	// For tests: shorter times, another network, other names.
	Timing    func(*memberlist.Config)
	Transport memberlist.Transport
	Lookup    func(ctx context.Context, host string) ([]netip.Addr, error)
}

func (c *Config) setDefaults() {
	c.Bind = cmp.Or(c.Bind, ":"+strconv.Itoa(DefaultPort))
	c.SettlePoll = cmp.Or(c.SettlePoll, 500*time.Millisecond)
	c.Settle = cmp.Or(c.Settle, 5*time.Second)
	c.RejoinEvery = cmp.Or(c.RejoinEvery, 30*time.Second)
	c.BeaconEvery = cmp.Or(c.BeaconEvery, 5*time.Second)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Lookup == nil {
		c.Lookup = func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		}
	}
}

// check names the field that is wrong.
func (c *Config) check() error {
	if !validName(c.Name) {
		return fmt.Errorf("node name %q: must be 1 to %d letters, digits, '.', '_' or '-'", c.Name, maxName)
	}
	if c.Cluster == "" || len(c.Cluster) > maxCluster {
		return fmt.Errorf("cluster name %q: must be 1 to %d bytes", c.Cluster, maxCluster)
	}
	if err := checkPeerAddr(c.PeerAddr); err != nil {
		return fmt.Errorf("peer address %q: %w", c.PeerAddr, err)
	}
	if err := checkMeta(c.self()); err != nil {
		return err
	}
	if err := checkKeys(c.Keys); err != nil {
		return err
	}
	for _, seed := range c.Seeds {
		if host, port, err := splitHost(seed, DefaultPort); err != nil || host == "" || port == 0 {
			return fmt.Errorf("seed %q: must be host or host:port", seed)
		}
	}
	for _, p := range c.Allowed {
		if !p.IsValid() {
			return errors.New("allowed networks: one is not valid")
		}
	}
	for name, d := range map[string]time.Duration{"settle": c.Settle, "settle poll": c.SettlePoll, "rejoin": c.RejoinEvery, "beacon": c.BeaconEvery} {
		if d < 0 {
			return fmt.Errorf("%s interval %v: must not be negative", name, d)
		}
	}
	return nil
}

// self is this node as it begins.
func (c *Config) self() Node {
	return Node{
		Name: c.Name, Datacenter: c.Datacenter, PeerAddr: c.PeerAddr, Version: c.Version,
		State: Joining, RingVersion: Version, Self: true,
	}
}

// validName reports whether a node may be called that; others check it too.
func validName(name string) bool {
	if name == "" || len(name) > maxName {
		return false
	}
	for i := range len(name) {
		switch b := name[i]; {
		case 'a' <= b && b <= 'z', 'A' <= b && b <= 'Z', '0' <= b && b <= '9', b == '.', b == '_', b == '-':
		default:
			return false
		}
	}
	return true
}

func checkPeerAddr(addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return err
	}
	if ip, err := netip.ParseAddr(host); host == "" || err == nil && ip.IsUnspecified() {
		return errors.New("others cannot reach that; name one address")
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("port %q is none that others can reach", port)
	}
	return nil
}

// profile is memberlist's configuration for nodes that are far from each other.
func (c *Config) profile() *memberlist.Config {
	p := memberlist.DefaultWANConfig()
	p.Name = c.Name
	p.Label = c.Cluster
	// Of five nodes or fewer nobody confirms a suspicion (memberlist asks for more
	// confirmations than there are nodes, and then for none), so one lost answer
	// must not start it: probes wait for the longest round trip, and stay 5 s apart.
	p.ProbeInterval = 5 * time.Second
	p.ProbeTimeout = 3 * time.Second
	// An exchange of state is a few kilobytes; a black hole must not hold up a
	// rejoin for longer.
	p.TCPTimeout = 10 * time.Second
	p.PushPullInterval = 30 * time.Second
	p.GossipInterval = 200 * time.Millisecond
	p.GossipNodes = 4
	p.RetransmitMult = 6
	p.GossipToTheDeadTime = 60 * time.Second
	// Without it, a node that comes back under its name from another address is
	// refused for as long as it is remembered.
	p.DeadNodeReclaimTime = 30 * time.Second
	// Fits through tunnels and any IPv6 path.
	p.UDPBufferSize = 1200
	// At 50 nodes it would save 0.2 of 0.8 KiB/s, and cost 64 KiB of memory a packet.
	p.EnableCompression = false
	for _, prefix := range networks(c.Allowed) {
		p.CIDRsAllowed = append(p.CIDRsAllowed, net.IPNet{
			IP: prefix.Addr().AsSlice(), Mask: net.CIDRMask(prefix.Bits(), prefix.Addr().BitLen()),
		})
	}
	return p
}
