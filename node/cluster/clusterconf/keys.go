// Package clusterconf is what the configuration says of the cluster that a node is in: the keys of the
// section, their defaults and documentation, and what is wrong with them. What a node does in its cluster is
// said in node/cluster, which tools that only read a configuration need not import.
package clusterconf

import (
	_ "embed"
	"net/netip"
)

//go:embed keys.go
var SettingsSource string // node/config prints the comments of the keys

// Settings is the section `cluster` of the configuration. It makes a node one of several that act as one cache. With Name "" the node stands alone
// and the rest means nothing.
type Settings struct {
	// Keeps clusters apart; "" has this node stand alone.
	Name string `yaml:"name" check:"label"`
	// A label for `aptmesh status`; "" is the node's name.
	Datacenter string `yaml:"datacenter" check:"label"`
	// Address of gossip with the other nodes, UDP and TCP.
	GossipListen string `yaml:"gossip_listen" default:":7946" check:"listen"`
	// Address from which the other nodes fetch, TCP.
	PeerListen string `yaml:"peer_listen" default:":3143" check:"listen"`
	// Host or IP address at which the others reach this node; "" picks one of the machine's.
	//
	// The ports are those of gossip_listen and peer_listen.
	Advertise string `yaml:"advertise" check:"host"`
	// Other nodes to join through, "host" or "host:port"; one that answers is enough.
	//
	// Names are looked up again and again, so one name with all addresses is enough. The node
	// itself may be among the seeds.
	Seeds []string `yaml:"seeds,flow" check:"seed"`
	// File with one base64 key of 32 bytes per line; the first encrypts, all decrypt.
	GossipKey string `yaml:"gossip_key" path:"file" reload:"yes"`
	// PEM file of the authority that signs the nodes' certificates.
	CA string `yaml:"ca" path:"file" reload:"yes"`
	// PEM file of this node's certificate; its DNS name is the node's name.
	Cert string `yaml:"cert" path:"file" reload:"yes"`
	// PEM file of its private key.
	//
	// Changed files are read without a reload.
	Key string `yaml:"key" path:"file" reload:"yes"`
	// Networks that may gossip, as 10.0.0.0/8 or an address; none: every holder of the key.
	Allow []netip.Prefix `yaml:"allow,flow"`
	// true runs without the four files: every machine that reaches the ports is trusted.
	Insecure bool `yaml:"insecure"`
}

// Secured reports whether gossip is encrypted and the nodes prove their identity.
// A checked configuration has all four files or none.
func (s Settings) Secured() bool { return s.GossipKey != "" && s.CA != "" }
