// Package peers is the other nodes, as this node sees them: it fetches bytes from them, checks
// whether they can be reached, follows what they store, and exchanges announcements and alerts with
// them.
//
// # Connections
//
// Every node listens at one address and speaks gRPC there. It keeps two connections to each other
// node: one for bytes (Fetch), and one for everything else (the service Control of proto/peerpb),
// so that no transfer delays an announcement or a ping. Both are opened as soon as the node is
// known, and again whenever they break.
//
// # Fetch
//
// Fetch is a stream of frames that are not protobuf, so that bytes are never copied into and out of
// messages. The requester sends one request frame. The peer answers with
//
//	head (bare)      "accepted", at once
//	keepalive        every second without another frame: what the peer waits for, and since when
//	head (ready)     when the peer knows what it will send
//	data ...         the bytes, as they arrive
//	tail             the end of a complete body
//
// or ends the stream with a status whose detail is a peerpb.Failure. Each data frame says how many
// bytes of the object the peer has. So the requester notices a connection that is slower than the
// peer, and gives it up.
//
// A keepalive shows that the peer is there. It is not progress. The requester leaves a peer that
// sends next to nothing: after 3 s if the peer stores the object, was not asked to fetch it, or
// waits for its own disk; after 15 s if the peer reports that it waits for upstream. A peer whose
// disk hangs reports it as soon as it knows.
//
// A stream that ends without a tail has failed, even if it carried bytes.
//
// # Health
//
// Membership says which nodes exist. Health says which of them are worth asking now. A node is
// alive while it answers the pings of the control connection: one ping a second, two seconds to
// answer, and one more ping at once when a connection breaks or a call fails. Announcements are
// exchanged only with nodes that are alive. A node is healthy while it is alive, its other
// connection works, its disk answers (the answer to a ping says so), and its transfers do not fail
// or stall. Bytes are requested only from healthy nodes. health.go says how a node becomes healthy
// again.
//
// # Holdings
//
// Each node follows what each other node stores (package holdings), so that it knows where an
// object is without a question. The holdings of a node that is not healthy are remembered, but not
// used.
//
// # Alerts
//
// A node sends what it finds out about a mirror (proto.MirrorAlert) to all nodes that are alive,
// and to nodes that come alive while the alert lasts. The alert carries its remaining duration,
// never a time. No node believes it for more than ten minutes, and no node passes it on. So an
// alert ends when its finder says so or when its time is over, and it cannot circulate. It never
// travels by gossip, because a gossip packet can be played back.
//
// Locks: Mesh.mu, peer.mu and health.mu are never held together, nor during I/O.
package peers
