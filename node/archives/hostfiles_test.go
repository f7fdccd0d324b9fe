package archives

import (
	"os"
	"strings"
	"testing"

	"github.com/aptmesh/aptmesh/node/archives/archiveconf"
)

// One text for hosts: the README's first steps are what the commands and the page print.
func TestHostFileInREADME(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	files := HostFiles("http://NODE:3142", []archiveconf.Archive{{Name: "ubuntu", Format: "apt"}, {Name: "debian", Format: "apt"}})
	if len(files) != 1 || !strings.Contains(string(readme), "\n"+files[0].Command()) {
		t.Errorf("README.md lacks\n%v", files)
	}
}

// Archives of one format share a file, with its head once.
func TestHostFiles(t *testing.T) {
	files := HostFiles("http://n:3142", []archiveconf.Archive{
		{Name: "debian", Format: "apt"},
		{Name: "fedora", Format: "rpm", Suites: []string{"40/x86_64/os", "40/x86_64/os~updates/repodata"}},
		{Name: "vendor/tools", Format: "rpm"},
		{Name: "arch", Format: "pacman"},
		{Name: "arm/linux", Format: "pacman", Suites: []string{"aarch64/core/core", "aarch64/extra/extra.db", "aarch64/extra/extra.files"}},
	})
	want := `sudo tee /etc/yum.repos.d/aptmesh.repo <<'END'
# Copy gpgkey= and gpgcheck= from each repository's own file, and disable the repository there.
[aptmesh-fedora-40-x86_64-os]
name=fedora/40/x86_64/os from aptmesh
baseurl=http://n:3142/fedora/40/x86_64/os
enabled=1
[aptmesh-fedora-40-x86_64-os-updates]
name=fedora/40/x86_64/os~updates from aptmesh
baseurl=http://n:3142/fedora/40/x86_64/os~updates
enabled=1
# Add the directory that has repodata/ to the URL. $releasever and $basearch can be part of it.
[aptmesh-vendor-tools]
name=vendor/tools from aptmesh
baseurl=http://n:3142/vendor/tools
enabled=1
END
`
	if len(files) != 4 || files[0].Client != "apt" || files[1].Command() != want {
		t.Fatalf("%+v", files)
	}
	for i, want := range []string{
		"# Write \"Include = /etc/pacman.d/aptmesh-arch\" before the other servers of a repository in /etc/pacman.conf.\nServer = http://n:3142/arch/$repo/os/$arch\n",
		"# Write \"Include = /etc/pacman.d/aptmesh-arm-linux\" before the other servers of a repository in /etc/pacman.conf.\nServer = http://n:3142/arm/linux/$arch/$repo\n",
	} {
		if got := files[2+i].Content(); got != want {
			t.Errorf("%s", got)
		}
	}
}
