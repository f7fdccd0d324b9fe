// Package cluster is what being one of many nodes adds to a node: it joins the gossip
// and the peers, tells and receives announcements of suites and alarms of mirrors,
// divides the caps on upstream, hands over what only this node has when it leaves, and
// says how the other nodes do.
//
// It decides nothing about suites or objects: what other nodes ask for is answered by
// the rooms that Start is given. Nothing another node says is believed here; the rooms
// check bytes by their digest and announcements by the archive's signature.
package cluster
