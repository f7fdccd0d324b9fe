package pgp

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
)

// now is when the tests take place.
var now = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

const text = "what is signed\n"

func at(t time.Time) *packet.Config {
	return &packet.Config{Time: func() time.Time { return t }, Algorithm: packet.PubKeyAlgoEdDSA}
}

// The keys of the tests. They are never changed.
var (
	goodKey    = sync.OnceValue(func() *openpgp.Entity { return mustKey("Good", at(now.AddDate(-2, 0, 0))) })
	otherKey   = sync.OnceValue(func() *openpgp.Entity { return mustKey("Other", at(now.AddDate(-2, 0, 0))) })
	rsa1024Key = sync.OnceValue(func() *openpgp.Entity {
		config := at(now.AddDate(-2, 0, 0))
		config.Algorithm, config.RSABits, config.MinRSABits = packet.PubKeyAlgoRSA, 1024, 1024
		return mustKey("Small", config)
	})
	subkeyKey = sync.OnceValue(func() *openpgp.Entity {
		e := mustKey("Sub", at(now.AddDate(-2, 0, 0)))
		if err := e.AddSigningSubkey(at(now.AddDate(-1, 0, 0))); err != nil {
			panic(err)
		}
		return e
	})
)

func mustKey(name string, config *packet.Config) *openpgp.Entity {
	e, err := openpgp.NewEntity(name, "", strings.ToLower(name)+"@example.org", config)
	if err != nil {
		panic(err)
	}
	return e
}

func binaryKeys(tb testing.TB, keys ...*openpgp.Entity) []byte {
	tb.Helper()
	var b bytes.Buffer
	for _, e := range keys {
		if err := e.Serialize(&b); err != nil {
			tb.Fatal(err)
		}
	}
	return b.Bytes()
}

func armoured(tb testing.TB, kind string, data []byte) []byte {
	tb.Helper()
	var b bytes.Buffer
	w, err := armor.Encode(&b, kind, nil)
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := w.Write(data); err != nil {
		tb.Fatal(err)
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	b.WriteByte('\n')
	return b.Bytes()
}

func keyring(tb testing.TB, keys ...*openpgp.Entity) *Keyring {
	tb.Helper()
	k, err := ReadKeyring("test.gpg", binaryKeys(tb, keys...))
	if err != nil {
		tb.Fatal(err)
	}
	return k
}

func detached(tb testing.TB, text string, config *packet.Config, e *openpgp.Entity) []byte {
	tb.Helper()
	var b bytes.Buffer
	if err := openpgp.DetachSign(&b, e, strings.NewReader(text), config); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

// The rules about which signatures count are tested by the formats, against their clients. These are
// the forms that a signature may have.
func TestVerifyForms(t *testing.T) {
	ring := keyring(t, goodKey())
	binary := detached(t, text, at(now), goodKey())
	other := detached(t, text, at(now), otherKey())
	block := armoured(t, openpgp.SignatureType, binary)
	otherBlock := armoured(t, openpgp.SignatureType, other)
	join := func(parts ...string) []byte { return []byte(strings.Join(parts, "")) }
	for _, test := range []struct {
		name string
		sig  []byte
		is   error // nil: good
	}{
		{"binary", binary, nil},
		{"binary, two", bytes.Join([][]byte{other, binary}, nil), nil},
		{"armoured", block, nil},
		{"armoured, CRLF", bytes.ReplaceAll(block, []byte("\n"), []byte("\r\n")), nil},
		{"two blocks", join(string(otherBlock), string(block)), nil},
		{"words before, between and behind", join("signed:\n", string(otherBlock), "and\n\n", string(block), "\nbye\n"), nil},
		{"of another text", detached(t, text+"\n", at(now), goodKey()), ErrBadSignature},
		{"good, then of another text", bytes.Join([][]byte{binary, detached(t, text+"x", at(now), goodKey())}, nil), ErrBadSignature},
		{"of another key", other, ErrUnknownKey},
		{"empty", nil, ErrNotSigned},
		{"a page", []byte("<html></html>"), ErrNotSigned},
		{"binary, cut short", binary[:len(binary)-1], ErrNotSigned},
		{"armoured, cut short", block[:len(block)/2], ErrNotSigned},
		{"a key", binaryKeys(t, goodKey()), ErrNotSigned},
		{"too many", bytes.Repeat(binary, maxSignatures+1), ErrNotSigned},
	} {
		s, err := ring.Verify([]byte(text), test.sig, now)
		if !errors.Is(err, test.is) || test.is == nil && s.KeyID != goodKey().PrimaryKey.KeyIdString() {
			t.Errorf("%s: signed by %+v, error %v, want %v", test.name, s, err, test.is)
		}
	}
}

func TestSubkeySigns(t *testing.T) {
	e := subkeyKey()
	sub := e.Subkeys[len(e.Subkeys)-1]
	sig := armoured(t, openpgp.SignatureType, detached(t, text, at(now), e))
	s, err := keyring(t, e).Verify([]byte(text), sig, now)
	if err != nil {
		t.Fatal(err)
	}
	if s.KeyID != sub.PublicKey.KeyIdString() {
		t.Errorf("signed by %s, want the subkey %s", s.KeyID, sub.PublicKey.KeyIdString())
	}
	if s.Primary == s.Fingerprint {
		t.Errorf("primary %s is the subkey's own fingerprint", s.Primary)
	}
	// A subkey for encryption must not sign, even if it could.
	stripped := *e
	stripped.Subkeys = append([]openpgp.Subkey(nil), e.Subkeys...)
	binding := *sub.Sig
	binding.FlagSign, binding.EmbeddedSignature = false, nil
	last := &stripped.Subkeys[len(stripped.Subkeys)-1]
	last.Sig = &binding
	ring := &Keyring{name: "test.gpg", keys: openpgp.EntityList{&stripped}}
	for _, binding.FlagsValid = range []bool{true, false} {
		if _, err := ring.Verify([]byte(text), sig, now); !errors.Is(err, ErrUnsupportedSignature) {
			t.Errorf("a subkey without the signing flag: %v", err)
		}
	}
	// Nor one that was revoked while its primary key lives on.
	if err := e.RevokeSubkey(last, packet.KeySuperseded, "", at(now.AddDate(0, -1, 0))); err != nil {
		t.Fatal(err)
	}
	last.Sig = sub.Sig
	if _, err := ring.Verify([]byte(text), sig, now); !errors.Is(err, ErrKeyRevoked) {
		t.Errorf("a revoked subkey: %v", err)
	}
}

func TestReadKeyring(t *testing.T) {
	two := binaryKeys(t, goodKey(), otherKey())
	block := armoured(t, openpgp.PublicKeyType, binaryKeys(t, goodKey()))
	otherBlock := armoured(t, openpgp.PublicKeyType, binaryKeys(t, otherKey()))
	var private bytes.Buffer
	if err := goodKey().SerializePrivateWithoutSigning(&private, nil); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name  string
		data  []byte
		keys  int
		fails string
	}{
		{"binary", two, 2, ""},
		{"armoured", block, 1, ""},
		{"several in one block", armoured(t, openpgp.PublicKeyType, two), 2, ""},
		{"several blocks with words between", append(append(append([]byte("# ours\n"), block...), "and\n"...), otherBlock...), 2, ""},
		{"empty", nil, 0, "empty"},
		{"keybox", append([]byte("\x00\x00\x00\x20\x01\x01\x00\x02KBXf"), make([]byte, 20)...), 0, "keybox"},
		{"page", []byte("<html>It works!</html>"), 0, "neither"},
		{"private", private.Bytes(), 0, "private"},
		{"private block", armoured(t, openpgp.PrivateKeyType, private.Bytes()), 0, "PRIVATE"},
		{"signature", armoured(t, openpgp.SignatureType, detached(t, "x", at(now), goodKey())), 0, "instead of a public key"},
		{"cut short", two[:len(two)-3], 0, "cut short"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			k, err := ReadKeyring("some.gpg", test.data)
			if test.fails != "" {
				if err == nil || !strings.Contains(err.Error(), test.fails) || !strings.Contains(err.Error(), "some.gpg") {
					t.Fatalf("error %v, want one about %q and the file", err, test.fails)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := len(k.Fingerprints()); got != test.keys {
				t.Errorf("%d keys, want %d", got, test.keys)
			}
		})
	}
}

func TestWeakKeys(t *testing.T) {
	got := MergeKeyrings(keyring(t, goodKey()), keyring(t, rsa1024Key())).WeakKeys()
	want := fmt.Sprintf("an RSA key of 1024 bits (%X)", rsa1024Key().PrimaryKey.Fingerprint)
	if len(got) == 0 || got[0] != want || len(keyring(t, goodKey()).WeakKeys()) > 0 {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestWithWeakKeys(t *testing.T) {
	weak := keyring(t, rsa1024Key())
	small := at(now)
	small.MinRSABits = 1024
	sig := detached(t, text, small, rsa1024Key())
	for name, test := range map[string]struct {
		ring  *Keyring
		fails bool
	}{
		"default":              {weak, true},
		"allowed":              {weak.WithWeakKeys(true), false},
		"and refused again":    {weak.WithWeakKeys(true).WithWeakKeys(false), true},
		"the original is left": {weak, true},
		"all merged allow it":  {MergeKeyrings(nil, weak.WithWeakKeys(true), keyring(t, goodKey()).WithWeakKeys(true)), false},
		"one does not, first":  {MergeKeyrings(keyring(t, goodKey()), weak.WithWeakKeys(true)), true},
		"one does not, last":   {MergeKeyrings(weak.WithWeakKeys(true), keyring(t, goodKey())), true},
	} {
		_, err := test.ring.Verify([]byte(text), sig, now)
		if (err != nil) != test.fails {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && !strings.Contains(err.Error(), "`weak_keys: true`") {
			t.Errorf("%s: %v names no way out", name, err)
		}
	}
}

// What old vendors sign with SHA-1 is taken where clients take it, and said.
func TestWithSHA1(t *testing.T) {
	key := testarchive.NewKey("Old", testarchive.KeyOptions{})
	weak, strong := testarchive.SHA1Sign([]byte(text), now, key), detached(t, text, at(now), goodKey())
	old, err := ReadKeyring("old.gpg", key.Public())
	if err != nil {
		t.Fatal(err)
	}
	ring := MergeKeyrings(old, keyring(t, goodKey()))
	for name, test := range map[string]struct {
		ring  *Keyring
		sig   []byte
		weak  string
		fails bool
	}{
		"default":              {ring, weak, "", true},
		"weak keys are not it": {ring.WithWeakKeys(true), weak, "", true},
		"allowed":              {ring.WithSHA1(true), weak, "SHA-1", false},
		"the original is left": {ring, weak, "", true},
		"one merged does not":  {MergeKeyrings(ring.WithSHA1(true), ring), weak, "", true},
		"all merged do":        {MergeKeyrings(ring.WithSHA1(true), ring.WithSHA1(true)), weak, "SHA-1", false},
		"beside a strong one":  {ring.WithSHA1(true), append(bytes.Clone(weak), strong...), "", false},
		"strong":               {ring.WithSHA1(true), strong, "", false},
	} {
		s, err := test.ring.Verify([]byte(text), test.sig, now)
		if (err != nil) != test.fails || s.Weak != test.weak {
			t.Errorf("%s: weak %q, %v", name, s.Weak, err)
		}
	}
	if _, err := ring.WithSHA1(true).Verify([]byte(text+"x"), weak, now); !errors.Is(err, ErrBadSignature) {
		t.Errorf("a changed text: %v", err)
	}
}

// FuzzReadKeyring holds that no keyring makes us fail in an uncontrolled way.
func FuzzReadKeyring(f *testing.F) {
	f.Add(armoured(f, openpgp.PublicKeyType, binaryKeys(f, goodKey(), rsa1024Key())))
	f.Add(binaryKeys(f, goodKey()))
	f.Add(binaryKeys(f, subkeyKey()))
	sig := detached(f, text, at(now), goodKey())
	f.Fuzz(func(t *testing.T, data []byte) {
		k, err := ReadKeyring("x", data)
		if err == nil && len(k.Fingerprints()) == 0 {
			t.Fatal("no keys and no error")
		}
		if err == nil {
			// Keys that nobody should have are still asked to verify.
			_, _ = k.Verify([]byte(text), sig, now)
		}
	})
}

// Keyrings have the same sum if they accept the same signatures.
func TestSum(t *testing.T) {
	sum := func(k *Keyring) string {
		s, err := k.Sum()
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	one, other := keyring(t, goodKey()), keyring(t, otherKey())
	if sum(one) != sum(one.Named("x")) {
		t.Error("the name counts")
	}
	all := []string{sum(one), sum(other), sum(one.WithWeakKeys(true)), sum(one.WithSHA1(true)), sum(MergeKeyrings(one, other))}
	slices.Sort(all)
	if len(slices.Compact(all)) != 5 {
		t.Errorf("%q", all)
	}
}

// Expires is the last moment at which a signature counts, however it ends.
func TestSignerExpires(t *testing.T) {
	birth := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
	end := birth.AddDate(3, 0, 0)
	lasting := testarchive.NewKey("lasting", testarchive.KeyOptions{})
	ending := testarchive.NewKey("ending", testarchive.KeyOptions{Expires: end})
	later := testarchive.NewKey("later", testarchive.KeyOptions{Expires: end.AddDate(1, 0, 0)})
	sub := testarchive.NewKey("sub", testarchive.KeyOptions{Expires: end, SigningSubkey: true})
	for _, tt := range []struct {
		name string
		keys []*testarchive.Key
		want time.Time
	}{
		{"never", []*testarchive.Key{lasting}, time.Time{}},
		{"a key ends", []*testarchive.Key{ending}, end},
		{"a subkey ends", []*testarchive.Key{sub}, end},
		{"the last of two", []*testarchive.Key{ending, later}, end.AddDate(1, 0, 0)},
		{"the other way", []*testarchive.Key{later, ending}, end.AddDate(1, 0, 0)},
		{"one of them lasts", []*testarchive.Key{ending, lasting}, time.Time{}},
		{"the other one lasts", []*testarchive.Key{lasting, ending}, time.Time{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			k, err := ReadKeyring("k", testarchive.Keyring(tt.keys...))
			if err != nil {
				t.Fatal(err)
			}
			made := birth.AddDate(2, 0, 0)
			sig := testarchive.DetachSign([]byte(text), made, tt.keys...)
			s, err := k.Verify([]byte(text), sig, made)
			if err != nil || !s.Expires.Equal(tt.want) {
				t.Fatalf("%v, %v, want %v", s.Expires, err, tt.want)
			}
			for _, at := range []time.Time{tt.want.Add(-time.Second), tt.want.Add(time.Second)} {
				if _, err := k.Verify([]byte(text), sig, at); !tt.want.IsZero() && (err == nil) != at.Before(tt.want) {
					t.Errorf("at %v: %v", at, err)
				}
			}
		})
	}
}
