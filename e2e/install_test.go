package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aptmesh/aptmesh/e2e/lab"
)

// `make install` lays out what a package or an operator wants, and the service finds its binary.
func TestMakeInstall(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	cmd := exec.Command("make", "-C", "..", "install", "DESTDIR="+root, "PREFIX=/opt/mesh", "BIN="+filepath.Join(root, "built"))
	cmd.Env = lab.Environ()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("make install: %v\n%s", err, out)
	}
	for _, name := range []string{
		"bin/aptmesh", "lib/systemd/system/aptmesh.service", "lib/sysusers.d/aptmesh.conf", "lib/tmpfiles.d/aptmesh.conf", "share/doc/aptmesh/aptmesh.yaml",
		"share/bash-completion/completions/aptmesh", "share/zsh/site-functions/_aptmesh", "share/fish/vendor_completions.d/aptmesh.fish",
	} {
		if info, err := os.Stat(filepath.Join(root, "opt/mesh", name)); err != nil || info.Size() == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
	unit := string(must(os.ReadFile(filepath.Join(root, "opt/mesh/lib/systemd/system/aptmesh.service")))(t))
	if !strings.Contains(unit, "\nExecStart=/opt/mesh/bin/aptmesh serve\n") {
		t.Errorf("the service does not run what was installed:\n%s", unit)
	}
	if out := must(exec.Command(filepath.Join(root, "opt/mesh/bin/aptmesh"), "version").Output())(t); !strings.HasPrefix(string(out), "aptmesh ") {
		t.Errorf("the installed binary says %q", out)
	}
}
