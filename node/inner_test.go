package node_test

import (
	"net/netip"
	"testing"

	"github.com/aptmesh/aptmesh/node/archives/archiveconf"
	"github.com/aptmesh/aptmesh/node/config"
)

// What only some clients may read is not read through an archive around it.
func TestRestrictedArchiveInsideAnother(t *testing.T) {
	const deb = "pool/main/s/small/small_1_amd64.deb"
	for _, tt := range []struct {
		name  string
		allow []netip.Prefix
		want  int
	}{
		{"open", nil, 200}, {"allowed", []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}, 200}, {"restricted", []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}, 403},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, newArchive(), func(c *config.Config) {
				pro := archiveconf.New("pro")
				pro.Upstream, pro.Allow = c.Archives[0].Upstream+"/pool", tt.allow
				pro.Unsigned = true
				c.Archives = append(c.Archives, pro)
			})
			if got := w.get("dists/noble/InRelease"); got.status != 200 {
				t.Fatal(got.status, got.err)
			}
			if got := w.get(deb); got.status != tt.want {
				t.Errorf("through the archive around it: %d, want %d", got.status, tt.want)
			}
			if asked := w.up.Requests(deb); asked > 0 != (tt.want == 200) {
				t.Errorf("upstream was asked %d times", asked)
			}
		})
	}
}
