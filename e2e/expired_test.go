package e2e

import (
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
)

// The key of a repository has expired, and its publisher goes on signing with it. zypper accepts that, and pacman where it
// is told to trust all keys, so they get it through a node; dnf refuses it there as it does directly.
func TestSignedByAnExpiredKey(t *testing.T) {
	t.Parallel()
	key := testarchive.NewKey("Expired", testarchive.KeyOptions{Expires: time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)})
	t.Run("rpm", func(t *testing.T) {
		t.Parallel()
		w := newRPMRepository(t, true)
		w.key = key
		w.publish()
		w.node = newNode(t, w.config())
		w.node.start()
		for _, url := range []string{w.server.URL + "/repo", w.node.URL + "/r"} {
			w.zypper(url).run("refresh", "r")
			dnf := w.dnfAt(url, "r.repo_gpgcheck=1", "r.gpgkey=file://"+w.keyFile())
			if out, err := dnf.Command(t.Context(), "makecache").CombinedOutput(); err == nil {
				t.Errorf("dnf accepts it at %s: %s", url, out)
			}
		}
	})
	t.Run("pacman", func(t *testing.T) {
		t.Parallel()
		r := newPacRepo(t, false)
		r.key = key
		r.publish(pacPackages...)
		n := newNode(t, r.config())
		n.start()
		for _, url := range []string{r.server.URL, n.URL + "/arch"} {
			h := newPacHost(t, url)
			h.trust(key, "Required DatabaseRequired DatabaseTrustAll")
			h.must("-Sy")
			h.has(r, "db/sync", "core.db", "core.db.sig")
		}
	})
}
