package node

import "github.com/aptmesh/aptmesh/node/front"

// What to set on a host, as front says it.
const (
	HostFile     = front.HostFile
	RetrySetting = front.RetrySetting
)

// HostCommand is what to type on a host to send its http archives through the node at url.
func HostCommand(url string) string { return front.HostCommand(url) }
