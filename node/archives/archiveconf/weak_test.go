package archiveconf

import (
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
)

// Which weak signatures count depends on the clients of the format.
func TestWeakKeysOfFormats(t *testing.T) {
	key, now := testarchive.DefaultKey(), time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	text := []byte("what is signed\n")
	sig := testarchive.SHA1Sign(text, now, key)
	for format, accepts := range map[string]bool{"": false, "apt": false, "rpm": true, "pacman": true} {
		for _, weak := range []bool{true, false} {
			a := New("a")
			a.Format, a.WeakKeys, a.SignedBy = format, weak, []string{string(key.Armored())}
			ring, err := a.Keyring()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := ring.Verify(text, sig, now); (err == nil) != (accepts && weak) {
				t.Errorf("format %q, weak_keys %v: %v", format, weak, err)
			}
		}
	}
}
