package front

import (
	"fmt"
	"strings"
)

// HostFile is where a host keeps its HostSettings.
const HostFile = "/etc/apt/apt.conf.d/30aptmesh"

// RetrySetting works around a fault of apt 2.3.7 to 3.0.2 (LP #2003851; Debian 12, Ubuntu
// 22.04 and 24.04): a request that waits before it is repeated can block its queue for
// ever, so that one broken connection hangs "apt update". Every host should have it,
// however it reaches this node; later versions do not need it and take no harm.
const RetrySetting = `Acquire::Retries::Delay "false";`

// HostSettings are the lines of apt.conf that send a host's http archives through the node
// at url. All that aptmesh prints for hosts has them from here. The proxy setting would
// hold for https archives, too, and a node tunnels only where the key connect says so; hence
// the second line.
func HostSettings(url string) []string {
	return []string{
		fmt.Sprintf("Acquire::http::Proxy %q;", url),
		`Acquire::https::Proxy "DIRECT";`,
		RetrySetting,
	}
}

// HostCommand is what to type on a host for that.
func HostCommand(url string) string {
	return "sudo tee " + HostFile + " <<'END'\n" + strings.Join(HostSettings(url), "\n") + "\nEND\n"
}
