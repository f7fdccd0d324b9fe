package aptmeta

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func testdata(tb testing.TB, name string) []byte {
	tb.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		tb.Fatal(err)
	}
	return data
}

func gnupgKeyring(tb testing.TB) *Keyring {
	tb.Helper()
	k, err := ReadKeyring("gpg-keys.asc", testdata(tb, "gpg-keys.asc"))
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
	text, s, err := k.VerifyInRelease(testdata(t, "gpg-InRelease"), now)
	if err != nil || string(text) != releaseText || !strings.Contains(s.Identity, "Test Archive") {
		t.Errorf("InRelease: %q, %+v, %v", text, s, err)
	}
	// Each of the two signatures is enough.
	for _, key := range k.keys {
		alone := &Keyring{name: "alone", keys: k.keys[:0:0]}
		alone.keys = append(alone.keys, key)
		if _, s, err := alone.VerifyInRelease(testdata(t, "gpg-InRelease"), now); err != nil || s.KeyID != key.PrimaryKey.KeyIdString() {
			t.Errorf("key %s alone: %+v, %v", key.PrimaryKey.KeyIdString(), s, err)
		}
	}
	if _, err := k.VerifyDetached([]byte(releaseText), testdata(t, "gpg-Release.gpg"), now); err != nil {
		t.Errorf("Release.gpg: %v", err)
	}
	if _, _, err := k.VerifyInRelease(testdata(t, "gpg-InRelease-sha1"), now); !errors.Is(err, ErrWeakSignature) || !strings.Contains(err.Error(), "SHA-1") {
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
	binary, err := dearmourSignatures(detached)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(binary)
	f.Add([]byte(releaseText))
	f.Fuzz(func(t *testing.T, data []byte) {
		text, s, err := k.VerifyInRelease(data, now)
		if err == nil && (string(text) != releaseText || s.KeyID == "") {
			t.Fatalf("accepted %q, signed by %+v", text, s)
		}
		if err != nil && text != nil {
			t.Fatalf("text %q with the error %v", text, err)
		}
		if _, err := k.VerifyDetached([]byte(releaseText), data, now); err == nil && len(data) < len(detached)/2 {
			t.Fatal("accepted something shorter than a signature")
		}
		if _, err := k.VerifyDetached(data, detached, now); err == nil && string(data) != releaseText {
			t.Fatalf("the signature of another text is accepted for %q", data)
		}
	})
}

// FuzzReadKeyring holds that no keyring makes us fail in an uncontrolled way.
func FuzzReadKeyring(f *testing.F) {
	f.Add(testdata(f, "gpg-keys.asc"))
	f.Add(binaryKeys(f, goodKey()))
	f.Add(binaryKeys(f, subkeyKey()))
	f.Fuzz(func(t *testing.T, data []byte) {
		k, err := ReadKeyring("x", data)
		if err == nil && len(k.Fingerprints()) == 0 {
			t.Fatal("no keys and no error")
		}
		if err == nil {
			// Keys that nobody should have are still asked to verify.
			_, _, _ = k.VerifyInRelease(testdata(t, "gpg-InRelease"), now)
		}
	})
}
