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
