package front

import (
	_ "embed"
	"net/netip"
)

//go:embed settings.go
var SettingsSource string // node/config prints the comments of the keys

// ClientLimits is the section `clients` of the configuration: which hosts may connect, and how much one
// address may take. Of an IPv6 address its network of 64 bits counts. The admin interface is not behind it.
type ClientLimits struct {
	// Networks that may connect, as 10.0.0.0/8 or an address; none: all.
	Allow []netip.Prefix `yaml:"allow,flow"`
	// Networks that may not. `deny` has the last word.
	Deny []netip.Prefix `yaml:"deny,flow"`
	// Cap on the connections of one address; 0 is none.
	//
	// apt holds one for each host in its sources, and tunnels count. A site behind one address needs as
	// many times that as it has hosts that update at once.
	Connections int `yaml:"connections" default:"0" check:"0-1000000"`
	// Cap on the bytes per second sent to one address; 0 is none.
	//
	// It holds for all its connections together. Tunnels are not counted.
	Rate int64 `yaml:"rate" default:"0"`
}
