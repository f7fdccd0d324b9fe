package archiveconf

import (
	"strings"
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

// So does which keys may have expired.
func TestExpiredKeysOfFormats(t *testing.T) {
	now := time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	text := []byte("what is signed\n")
	for format, accepts := range map[string]bool{"": false, "apt": false, "rpm": true, "pacman": true, "rpm ": true} {
		key := testarchive.NewKey("Expired", testarchive.KeyOptions{Expires: now.AddDate(-1, 0, 0), SigningSubkey: strings.HasSuffix(format, " ")})
		format = strings.TrimSpace(format)
		a := New("a")
		a.Format, a.SignedBy = format, []string{string(key.Armored())}
		ring, err := a.Keyring()
		if err != nil {
			t.Fatal(err)
		}
		s, err := ring.Verify(text, testarchive.DetachSign(text, now, key), now)
		if (err == nil) != accepts || s.Expired != accepts || !s.Expires.IsZero() {
			t.Errorf("format %q: %+v, %v", format, s, err)
		}
		if _, err := ring.Verify([]byte("something else"), testarchive.DetachSign(text, now, key), now); err == nil {
			t.Errorf("format %q: a bad signature by an expired key counts", format)
		}
	}
}
