package node

import "github.com/aptmesh/aptmesh/node/front"

// What to set on a host, as front says it.
const (
	HostFile     = front.HostFile
	RetrySetting = front.RetrySetting
)

// HostSettings is the text of HostFile on a host that uses the node at url.
func HostSettings(url string) string { return front.HostSettings(url) }

// HostCommand is what to type on a host for that.
func HostCommand(url string) string { return front.HostCommand(url) }
