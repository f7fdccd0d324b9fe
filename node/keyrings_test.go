package node_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
	"github.com/aptmesh/aptmesh/node/config"
)

// A keyring that is put into a directory of signed_by counts at once. Until then the refusal names the key and the
// directory.
func TestKeyringAppears(t *testing.T) {
	a := newArchive()
	dir := t.TempDir()
	other := testarchive.NewKey("other", testarchive.KeyOptions{})
	put := func(name string, data []byte) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	put("other.gpg", other.Public())
	put("README", []byte("not a keyring"))
	put("broken.asc", []byte("nonsense"))
	w := newWorld(t, a, func(cfg *config.Config) { cfg.Archives[0].SignedBy = []string{dir} })
	got := w.get("dists/noble/InRelease")
	if got.status != 403 || !strings.Contains(string(got.body), "put it into a file in "+dir) || !strings.Contains(string(got.body), "key "+testarchive.DefaultKey().KeyID()) {
		t.Fatalf("%d %s", got.status, got.body)
	}
	put("archive.asc", a.ArmoredKeyring())
	w.eventually("the keyring counts", func() bool { return w.get("dists/noble/InRelease").status == 200 })
}

// A key in a directory that nodes share counts on all of them, also on one that has started since: their configuration
// is the same.
func TestKeyringAppearsInACluster(t *testing.T) {
	dir := t.TempDir()
	a := newArchive()
	put := func(name string, data []byte) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	put("archive.gpg", a.Keyring())
	m := newMesh(t, a, 2, func(cfg *config.Config) { cfg.Archives[0].SignedBy = []string{dir} })
	reported := func() (all []string) {
		for _, member := range m.sites[0].node.Status().Cluster.Members {
			all = append(all, member.Configuration["archives.ubuntu.signed_by"])
		}
		return all
	}
	before := reported()
	put("other.gpg", testarchive.NewKey("other", testarchive.KeyOptions{}).Public())
	m.eventually("both nodes report the new key", func() bool {
		now := reported()
		return len(now) == 2 && now[0] == now[1] && now[0] != before[0]
	})
}
