package aptmeta

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ProtonMail/go-crypto/openpgp"

	"github.com/aptmesh/aptmesh/node/format/pgp"
)

func testdata(tb testing.TB, name string) []byte {
	tb.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		tb.Fatal(err)
	}
	return data
}

func gnupgKeyring(tb testing.TB) *pgp.Keyring {
	tb.Helper()
	k, err := pgp.ReadKeyring("gpg-keys.asc", testdata(tb, "gpg-keys.asc"))
	if err != nil {
		tb.Fatal(err)
	}
	return k
}

// TestGnuPG reads what GnuPG wrote.
func TestGnuPG(t *testing.T) {
	k := gnupgKeyring(t)
	if n := len(k.Fingerprints()); n != 2 {
		t.Fatalf("%d keys", n)
	}
	text, s, err := VerifyInRelease(k, testdata(t, "gpg-InRelease"), now)
	if err != nil || string(text) != releaseText || !strings.Contains(s.Identity, "Test Archive") {
		t.Errorf("InRelease: %q, %+v, %v", text, s, err)
	}
	// Each of the two signatures is enough.
	keys, err := openpgp.ReadArmoredKeyRing(bytes.NewReader(testdata(t, "gpg-keys.asc")))
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range keys {
		alone := keyring(t, key)
		if _, s, err := VerifyInRelease(alone, testdata(t, "gpg-InRelease"), now); err != nil || s.KeyID != key.PrimaryKey.KeyIdString() {
			t.Errorf("key %s alone: %+v, %v", key.PrimaryKey.KeyIdString(), s, err)
		}
	}
	if _, err := VerifyDetached(k, []byte(releaseText), testdata(t, "gpg-Release.gpg"), now); err != nil {
		t.Errorf("Release.gpg: %v", err)
	}
	if _, _, err := VerifyInRelease(k, testdata(t, "gpg-InRelease-sha1"), now); !errors.Is(err, pgp.ErrWeakSignature) || !strings.Contains(err.Error(), "SHA-1") {
		t.Errorf("SHA-1: %v", err)
	}
}

// FuzzVerifyInRelease holds the one promise that matters: the keys of this keyring
// signed one text only, so whatever is accepted has that text.
func FuzzVerifyInRelease(f *testing.F) {
	good := testdata(f, "gpg-InRelease")
	f.Add(good)
	f.Add(bytes.ReplaceAll(good, []byte("\n"), []byte("\r\n")))
	f.Add(bytes.ReplaceAll(good, []byte("\n"), []byte(" \n")))
	f.Add(append([]byte("Suite: evil\n\n"), good...))
	f.Add(append(bytes.Clone(good), good...))
	f.Add(testdata(f, "gpg-InRelease-sha1"))
	k := gnupgKeyring(f)
	detached := testdata(f, "gpg-Release.gpg")
	binary, err := dearmour(detached)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(binary)
	f.Add([]byte(releaseText))
	f.Fuzz(func(t *testing.T, data []byte) {
		text, s, err := VerifyInRelease(k, data, now)
		if err == nil && (string(text) != releaseText || s.KeyID == "") {
			t.Fatalf("accepted %q, signed by %+v", text, s)
		}
		if err != nil && text != nil {
			t.Fatalf("text %q with the error %v", text, err)
		}
		if _, err := VerifyDetached(k, []byte(releaseText), data, now); err == nil && len(data) < len(detached)/2 {
			t.Fatal("accepted something shorter than a signature")
		}
		if _, err := VerifyDetached(k, data, detached, now); err == nil && string(data) != releaseText {
			t.Fatalf("the signature of another text is accepted for %q", data)
		}
	})
}
