// Package peers is the other nodes as this one sees them: how their bytes are
// had, whether they can be reached, what they hold and what they say.
//
// # Connections
//
// Every node listens on one address and speaks gRPC there. To each other node it
// keeps two connections: one for bytes (Fetch), one for everything else (the
// service Control of proto/peerpb), so that no transfer stands in the way of news
// or of a sign of life. Both are made as soon as the node is known, and made again
// whenever they break.
//
// # Fetch
//
// Fetch is a stream of frames that are not protobuf, so that bytes are never
// copied into messages and out of them again. The requester sends one request frame.
// The node asked answers with
//
//	head (bare)      "accepted", at once
//	keepalive        every second without another frame: what is waited for, since when
//	head (ready)     when it knows what it will send
//	data ...         the bytes, as they come in
//	tail             the end of a body that is whole
//
// or ends the stream with a status whose detail is a peerpb.Failure. Data says how
// many bytes of the object the node asked has by now. So the requester can tell a
// connection that does not deliver what the peer has, which is given up.
//
// A keepalive shows that the peer is there, and is no progress. A peer that gives next
// to nothing is left: after three seconds where it has the object at hand, was not
// asked to get it, or waits for its own disk; after fifteen where it says that it waits
// for upstream. A peer whose disk hangs says so as soon as it knows.
//
// A stream that ends without a tail has failed, however many bytes it brought.
//
// # Health
//
// Membership says who is there; health, who is worth asking right now. A node is
// alive while it answers the pings of the control connection: one a second, two
// for the answer to come, and one more at once when a connection breaks or a call
// fails. Only who is alive is told news and asked for it. A node is healthy, and
// asked for bytes, while it is alive, its other connection works, its disk answers (it
// says so in its answer to a ping) and its transfers do not fail or stall; see
// health.go for how it comes back.
//
// # Holdings
//
// Each node follows what each other node holds (package holdings), so that it is
// known without asking who may have an object. What is known of a node that is not
// healthy is kept, but not used.
//
// # Troubles
//
// What a node finds out about a mirror (proto.Trouble) it tells all who are alive,
// and whoever comes alive later while it still holds. How much longer it holds
// travels, never a time; nobody believes it for more than ten minutes, or passes it
// on. So it ends with its finder's word or with its time, and cannot circulate. It
// never travels by gossip, where a packet can be played back.
//
// Locks: Mesh.mu, peer.mu and health.mu are never held together, nor over I/O.
package peers
