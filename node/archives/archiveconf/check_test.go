package archiveconf

import (
	"strings"
	"testing"

	"github.com/aptmesh/aptmesh/node/aptconf"
)

func TestKeyringHint(t *testing.T) {
	const ubuntu, other = "http://archive.ubuntu.com/ubuntu", "http://example.org/ubuntu"
	for _, tt := range []struct{ url, named, want string }{
		{ubuntu, "", " (" + aptconf.UbuntuKeyring + "; install the package "},
		{ubuntu, "/k.gpg", " (" + aptconf.UbuntuKeyring + "; install the package "},
		{ubuntu, aptconf.UbuntuKeyring, " (install the package "},
		{other, "/k.gpg", ""},
	} {
		if got := keyringHint(tt.url, tt.named); !strings.HasPrefix(got, tt.want) || (got == "") != (tt.want == "") {
			t.Errorf("%s with %q: %q", tt.url, tt.named, got)
		}
	}
}
