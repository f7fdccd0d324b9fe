// Package cluster is what a node does as a member of a cluster: it joins the gossip and the
// peers, sends and receives announcements of suites and alerts of mirrors, divides the caps
// on upstream, hands off last copies when the node leaves, and reports the health of the
// other nodes.
//
// It decides nothing about suites or objects: the rooms that Start gets answer the requests
// of other nodes. It trusts nothing that another node says: the rooms check bytes by their
// digest and announcements by the archive's signature.
package cluster
