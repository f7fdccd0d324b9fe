package deb

import (
	"fmt"

	"github.com/aptmesh/aptmesh/proto"
)

// RetrySetting works around a fault of apt 2.3.7 to 3.0.2 (LP #2003851; Debian 12, Ubuntu
// 22.04 and 24.04): a request that waits before it is repeated can block its queue for
// ever, so that one broken connection hangs "apt update". Every host should have the
// setting, however it reaches this node. Later versions do not need it, and it does no harm.
const RetrySetting = `Acquire::Retries::Delay "false";`

// HostFile has the settings that send a host's http archives through the node at a URL. The proxy setting
// alone would hold for https archives, too, and a node tunnels only where the configuration says so; hence
// the second line.
func HostFile(node string) proto.HostFile {
	return proto.HostFile{
		Client: "apt", Path: "/etc/apt/apt.conf.d/30aptmesh",
		Text: fmt.Sprintf("Acquire::http::Proxy %q;\n", node) + `Acquire::https::Proxy "DIRECT";` + "\n" + RetrySetting + "\n",
		Note: "The host's sources stay as they are, and https sources go past the node. To have one cached, too,\n" +
			"replace its URL in the host's sources by the URL of the archive at the node.",
	}
}
