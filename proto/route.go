package proto

// Route is where to look for an object, in order, as one node sees the cluster
// at one moment.
type Route struct {
	// Self is the node that asks.
	Self string
	// Holders are other nodes that are believed to store it, nearest first.
	Holders []string
	// Owners are the nodes that the ring has the object fetched by, in the order
	// in which they would take it over from each other; those known to be out of
	// reach are left out. Self may be among them.
	Owners []string
}
