package aptmeta

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/clearsign"
	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"github.com/aptmesh/aptmesh/node/format/pgp"
)

// now is when the tests take place.
var now = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

const releaseText = `Origin: Example
Suite: noble
Date: Mon, 01 Jun 2026 10:00:00 UTC
Description: lines that try the escape
 - one
- two
--- three
SHA256:
 e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 0 main/binary-amd64/Packages
`

func at(t time.Time) *packet.Config {
	return &packet.Config{Time: func() time.Time { return t }, Algorithm: packet.PubKeyAlgoEdDSA}
}

// The keys of the tests. They are never changed.
var (
	goodKey    = sync.OnceValue(func() *openpgp.Entity { return mustKey("Good", at(now.AddDate(-2, 0, 0))) })
	otherKey   = sync.OnceValue(func() *openpgp.Entity { return mustKey("Other", at(now.AddDate(-2, 0, 0))) })
	expiredKey = sync.OnceValue(func() *openpgp.Entity {
		config := at(now.AddDate(-2, 0, 0))
		config.KeyLifetimeSecs = 365 * 24 * 3600
		return mustKey("Expired", config)
	})
	revokedKey = sync.OnceValue(func() *openpgp.Entity {
		e := mustKey("Revoked", at(now.AddDate(-2, 0, 0)))
		if err := e.RevokeKey(packet.KeyCompromised, "stolen", at(now.AddDate(-1, 0, 0))); err != nil {
			panic(err)
		}
		return e
	})
	rsa1024Key = sync.OnceValue(func() *openpgp.Entity {
		config := at(now.AddDate(-2, 0, 0))
		config.Algorithm, config.RSABits, config.MinRSABits = packet.PubKeyAlgoRSA, 1024, 1024
		return mustKey("Small", config)
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

func keyring(tb testing.TB, keys ...*openpgp.Entity) *pgp.Keyring {
	tb.Helper()
	k, err := pgp.ReadKeyring("test.gpg", binaryKeys(tb, keys...))
	if err != nil {
		tb.Fatal(err)
	}
	return k
}

// inRelease signs text as gpg --clearsign does, by all keys in one block.
func inRelease(tb testing.TB, text string, config *packet.Config, keys ...*openpgp.Entity) []byte {
	tb.Helper()
	private := make([]*packet.PrivateKey, len(keys))
	for i, e := range keys {
		private[i] = e.PrivateKey
	}
	var b bytes.Buffer
	w, err := clearsign.EncodeMulti(&b, private, config)
	if err != nil {
		tb.Fatal(err)
	}
	// Unlike gpg, the library writes a newline of its own behind the last one.
	if _, err := w.Write([]byte(strings.TrimSuffix(text, "\n"))); err != nil {
		tb.Fatal(err)
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	b.WriteByte('\n')
	return b.Bytes()
}

func detached(tb testing.TB, text string, config *packet.Config, e *openpgp.Entity) []byte {
	tb.Helper()
	var b bytes.Buffer
	if err := openpgp.DetachSign(&b, e, strings.NewReader(text), config); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

func TestVerifyInRelease(t *testing.T) {
	short := at(now.AddDate(0, 0, -3))
	short.SigLifetimeSecs = 24 * 3600
	small := at(now)
	small.MinRSABits = 1024
	tests := []struct {
		name     string
		ring     *pgp.Keyring
		data     []byte
		signer   *openpgp.Entity // nil: refused
		is       []error
		mentions []string
	}{
		{name: "one good signature", ring: keyring(t, goodKey()), data: inRelease(t, releaseText, at(now), goodKey()), signer: goodKey()},
		{name: "good among unknown ones, last", ring: keyring(t, goodKey()),
			data: inRelease(t, releaseText, at(now), otherKey(), goodKey()), signer: goodKey()},
		{name: "good among unknown ones, first", ring: keyring(t, goodKey()),
			data: inRelease(t, releaseText, at(now), goodKey(), otherKey()), signer: goodKey()},
		{name: "good beside expired and revoked", ring: keyring(t, expiredKey(), revokedKey(), goodKey()),
			data: inRelease(t, releaseText, at(now), expiredKey(), revokedKey(), goodKey()), signer: goodKey()},
		{name: "clock of the signer an hour ahead", ring: keyring(t, goodKey()),
			data: inRelease(t, releaseText, at(now.Add(time.Hour)), goodKey()), signer: goodKey()},
		{name: "unknown key", ring: keyring(t, goodKey()), data: inRelease(t, releaseText, at(now), otherKey()),
			is: []error{pgp.ErrUnknownKey}, mentions: []string{otherKey().PrimaryKey.KeyIdString(), "test.gpg", "not in the keyring"}},
		{name: "expired key", ring: keyring(t, expiredKey()), data: inRelease(t, releaseText, at(now), expiredKey()),
			is: []error{pgp.ErrKeyExpired}, mentions: []string{expiredKey().PrimaryKey.KeyIdString(), "Expired", "expired on 2025-06-01"}},
		{name: "revoked key", ring: keyring(t, revokedKey()), data: inRelease(t, releaseText, at(now), revokedKey()),
			is: []error{pgp.ErrKeyRevoked}, mentions: []string{revokedKey().PrimaryKey.KeyIdString(), "revoked"}},
		{name: "revoked in one keyring only", data: inRelease(t, releaseText, at(now), revokedKey()),
			ring: pgp.MergeKeyrings(keyring(t, unrevoked(revokedKey())), keyring(t, revokedKey())), is: []error{pgp.ErrKeyRevoked}},
		{name: "changed text", ring: keyring(t, goodKey()), is: []error{pgp.ErrBadSignature},
			data: bytes.Replace(inRelease(t, releaseText, at(now), goodKey()), []byte("noble"), []byte("nobel"), 1)},
		{name: "each signature has its reason", ring: keyring(t, expiredKey(), revokedKey()),
			data: inRelease(t, releaseText, at(now), expiredKey(), revokedKey(), otherKey()),
			is:   []error{pgp.ErrKeyExpired, pgp.ErrKeyRevoked, pgp.ErrUnknownKey}},
		{name: "RSA of 1024 bits", ring: keyring(t, rsa1024Key()), data: inRelease(t, releaseText, small, rsa1024Key()),
			is: []error{pgp.ErrWeakSignature}, mentions: []string{"1024"}},
		{name: "made two days ahead", ring: keyring(t, goodKey()), data: inRelease(t, releaseText, at(now.AddDate(0, 0, 2)), goodKey()),
			is: []error{pgp.ErrSignatureFuture}},
		{name: "expired signature", ring: keyring(t, goodKey()), data: inRelease(t, releaseText, short, goodKey()),
			is: []error{pgp.ErrSignatureExpired}},
		{name: "empty keyring", ring: pgp.MergeKeyrings(), data: inRelease(t, releaseText, at(now), goodKey()), is: []error{pgp.ErrUnknownKey}},
		{name: "a page", ring: keyring(t, goodKey()), data: []byte("<html>It works!</html>"), is: []error{pgp.ErrNotSigned}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			text, signer, err := VerifyInRelease(test.ring, test.data, now)
			if test.signer != nil {
				if err != nil {
					t.Fatal(err)
				}
				if string(text) != releaseText {
					t.Errorf("text %q, want %q", text, releaseText)
				}
				if want := test.signer.PrimaryKey.KeyIdString(); signer.KeyID != want || signer.Created.IsZero() || signer.Identity == "" {
					t.Errorf("signer %+v, want %s", signer, want)
				}
				return
			}
			if err == nil || text != nil || signer != (pgp.Signer{}) {
				t.Fatalf("accepted: %v %v", signer, err)
			}
			for _, is := range test.is {
				if !errors.Is(err, is) {
					t.Errorf("error %q is not %q", err, is)
				}
			}
			for _, words := range test.mentions {
				if !strings.Contains(err.Error(), words) {
					t.Errorf("error %q does not mention %q", err, words)
				}
			}
		})
	}
}

// unrevoked returns the key as it was before its revocation.
func unrevoked(e *openpgp.Entity) *openpgp.Entity {
	before := *e
	before.Revocations = nil
	return &before
}

func TestVerifyDetached(t *testing.T) {
	ring := keyring(t, goodKey())
	binary := detached(t, releaseText, at(now), goodKey())
	other := detached(t, releaseText, at(now), otherKey())
	block := armoured(t, openpgp.SignatureType, binary)
	otherBlock := armoured(t, openpgp.SignatureType, other)
	// A header of 2 bytes, then version, type, key algorithm and hash algorithm. The
	// library makes no weak signatures; the claim to be one must suffice.
	md5, sha1 := bytes.Clone(binary), bytes.Clone(binary)
	md5[5], sha1[5] = 1, 2
	if binary[2] != 4 || binary[5] != 8 {
		t.Fatalf("the signature does not look as expected: %x", binary[:6])
	}
	v3 := bytes.Clone(binary)
	v3[2], v3[4] = 3, 0 // version and class
	wrap := func(packets ...[]byte) []byte { return armoured(t, openpgp.SignatureType, bytes.Join(packets, nil)) }
	tests := []struct {
		name string
		text string
		sig  []byte
		is   error // nil: good
	}{
		{"armoured", releaseText, block, nil},
		{"two packets", releaseText, wrap(other, binary), nil},
		{"two blocks", releaseText, append(bytes.Clone(otherBlock), block...), nil},
		{"an unsupported one first", releaseText, wrap(v3, binary), nil},
		{"binary", releaseText, binary, pgp.ErrNotSigned},
		{"an empty line before", releaseText, append([]byte("\n"), block...), pgp.ErrNotSigned},
		{"an empty line behind", releaseText, append(bytes.Clone(block), '\n'), pgp.ErrNotSigned},
		{"other text", releaseText + "\n", block, pgp.ErrBadSignature},
		{"other key", releaseText, otherBlock, pgp.ErrUnknownKey},
		{"MD5", releaseText, wrap(md5), pgp.ErrWeakSignature},
		{"claims to be SHA-1", releaseText, wrap(sha1), pgp.ErrBadSignature},
		{"version 3", releaseText, wrap(v3), pgp.ErrUnsupportedSignature},
		{"empty", releaseText, nil, pgp.ErrNotSigned},
		{"a page", releaseText, []byte("<html></html>"), pgp.ErrNotSigned},
		{"cut short", releaseText, wrap(binary[:len(binary)-1]), pgp.ErrNotSigned},
		{"cut short armour", releaseText, block[:len(block)/2], pgp.ErrNotSigned},
		{"a key in its place", releaseText, armoured(t, openpgp.PublicKeyType, binaryKeys(t, goodKey())), pgp.ErrNotSigned},
		{"a key in the armour of a signature", releaseText, wrap(binaryKeys(t, goodKey())), pgp.ErrNotSigned},
		{"a key behind the signature", releaseText, wrap(binary, binaryKeys(t, goodKey())), pgp.ErrNotSigned},
		{"too many", releaseText, wrap(bytes.Repeat(binary, 1000)), pgp.ErrNotSigned},
		{"text between blocks", releaseText, append(append(bytes.Clone(otherBlock), "evil\n"...), block...), pgp.ErrNotSigned},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s, err := VerifyDetached(ring, []byte(test.text), test.sig, now)
			if !errors.Is(err, test.is) {
				t.Fatalf("error %v, want %v", err, test.is)
			}
			if test.is == nil && s.KeyID != goodKey().PrimaryKey.KeyIdString() {
				t.Errorf("signer %+v", s)
			}
		})
	}
}

// TestOwnLists verifies what apt has on this machine, where there is such a thing.
func TestOwnLists(t *testing.T) {
	rings, _ := filepath.Glob("/usr/share/keyrings/*-archive-keyring.gpg")
	lists, _ := filepath.Glob("/var/lib/apt/lists/*InRelease")
	var keyrings []*pgp.Keyring
	for _, name := range rings {
		if data, err := os.ReadFile(name); err == nil {
			k, err := pgp.ReadKeyring(filepath.Base(name), data)
			if err != nil {
				t.Fatal(err)
			}
			keyrings = append(keyrings, k)
		}
	}
	if len(keyrings) == 0 || len(lists) == 0 {
		t.Skip("apt has no lists here")
	}
	for _, name := range lists {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Skip(err)
		}
		text, _, err := VerifyInRelease(pgp.MergeKeyrings(keyrings...), data, time.Now())
		if errors.Is(err, pgp.ErrUnknownKey) || errors.Is(err, pgp.ErrKeyExpired) {
			continue // of an archive with a keyring elsewhere, or an old machine
		}
		if err != nil {
			t.Fatalf("%s: %v", filepath.Base(name), err)
		}
		if r, err := ParseRelease(text); err != nil || len(r.Members) == 0 {
			t.Errorf("%s: %v", filepath.Base(name), err)
		}
	}
}

// dearmour returns the packets of one armoured block.
func dearmour(block []byte) ([]byte, error) {
	b, err := armor.Decode(bytes.NewReader(block))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(b.Body)
}

// signatureOf returns the packet of a clearsigned signature of the text.
func signatureOf(tb testing.TB, text string, config *packet.Config, e *openpgp.Entity) []byte {
	tb.Helper()
	c, err := splitClearsigned(inRelease(tb, text, config, e))
	if err != nil {
		tb.Fatal(err)
	}
	sig, err := dearmour(c.signature)
	if err != nil {
		tb.Fatal(err)
	}
	return sig
}

// withSignatures returns text clearsigned with exactly these packets in one block.
func withSignatures(tb testing.TB, text string, packets ...[]byte) []byte {
	tb.Helper()
	signed := inRelease(tb, text, at(now), goodKey())
	return append(signed[:bytes.Index(signed, []byte(signatureBegin))], armoured(tb, openpgp.SignatureType, bytes.Join(packets, nil))...)
}

type signatureMix struct {
	name    string
	data    []byte
	ring    *pgp.Keyring
	is      error     // nil: accepted
	created time.Time // of the signature that counts
	// apt is what apt 2.6 with gpgv says where it is not what we say.
	apt string
}

// signatureMixes are files with several signatures, of which some do not count.
func signatureMixes(tb testing.TB, text string) []signatureMix {
	earlier, weak := now.Add(-time.Hour), at(now)
	weak.MinRSABits = 1024
	short := at(now.AddDate(0, 0, -3))
	short.SigLifetimeSecs = 24 * 3600
	six := at(now)
	six.V6Keys, six.Algorithm = true, packet.PubKeyAlgoEd25519
	v6 := mustKey("Six", six)
	good := signatureOf(tb, text, at(now), goodKey())
	older := signatureOf(tb, text, at(earlier), goodKey())
	bad := signatureOf(tb, text+"X: y\n", at(earlier), goodKey())
	unknown := signatureOf(tb, text, at(now), otherKey())
	unknownBad := signatureOf(tb, text+"X: y\n", at(now), otherKey())
	expired := signatureOf(tb, text, short, goodKey())
	expiredBad := signatureOf(tb, text+"X: y\n", short, goodKey())
	ofExpired := signatureOf(tb, text, at(now), expiredKey())
	ofExpiredBad := signatureOf(tb, text+"X: y\n", at(now), expiredKey())
	ofRevoked := signatureOf(tb, text, at(now), revokedKey())
	ofRevokedBad := signatureOf(tb, text+"X: y\n", at(now), revokedKey())
	small := signatureOf(tb, text, weak, rsa1024Key())
	smallBad := signatureOf(tb, text+"X: y\n", weak, rsa1024Key())
	ofSix := signatureOf(tb, text, six, v6)
	broken := []byte{0xc2, 5, 4, 1, 1, 8, 0}
	md5 := bytes.Clone(unknown)
	md5[5] = 1
	all := keyring(tb, goodKey(), expiredKey(), revokedKey(), rsa1024Key())
	weakToo := all.WithWeakKeys(true)
	mix := func(packets ...[]byte) []byte { return withSignatures(tb, text, packets...) }
	return []signatureMix{
		{"good", mix(good), all, nil, now, ""},
		{"bad", mix(bad), all, pgp.ErrBadSignature, time.Time{}, ""},
		{"good, bad of the same key", mix(good, bad), all, pgp.ErrBadSignature, time.Time{}, ""},
		{"bad of the same key, good", mix(bad, good), all, pgp.ErrBadSignature, time.Time{}, ""},
		{"good, bad of an expired key", mix(good, ofExpiredBad), all, pgp.ErrBadSignature, time.Time{}, ""},
		{"good, bad of a revoked key", mix(good, ofRevokedBad), all, pgp.ErrBadSignature, time.Time{}, ""},
		{"good, bad and expired", mix(good, expiredBad), all, pgp.ErrBadSignature, time.Time{}, ""},
		{"good, bad of a weak key", mix(good, smallBad), all, pgp.ErrBadSignature, time.Time{}, ""},
		{"good, bad of an unknown key", mix(good, unknownBad), all, nil, now, ""},
		{"bad of an unknown key, good", mix(unknownBad, good), all, nil, now, ""},
		{"good, unknown key", mix(good, unknown), all, nil, now, ""},
		{"unknown key, good", mix(unknown, good), all, nil, now, ""},
		{"unknown key", mix(unknown), all, pgp.ErrUnknownKey, time.Time{}, ""},
		{"good, expired", mix(good, expired), all, nil, now, ""},
		{"expired, good", mix(expired, good), all, nil, now, "refused"}, // sqv accepts it
		{"expired", mix(expired), all, pgp.ErrSignatureExpired, time.Time{}, ""},
		{"good, of an expired key", mix(good, ofExpired), all, nil, now, ""},
		{"of an expired key", mix(ofExpired), all, pgp.ErrKeyExpired, time.Time{}, ""},
		{"good, of a revoked key", mix(ofRevoked, good), all, nil, now, ""},
		{"of a revoked key", mix(ofRevoked), all, pgp.ErrKeyRevoked, time.Time{}, ""},
		{"good twice, the newer first", mix(good, older), all, nil, now, ""},
		{"good twice, the newer last", mix(older, good), all, nil, now, ""},
		{"the same twice", mix(good, good), all, nil, now, ""},
		{"good, MD5 by an unknown key", mix(md5, good), all, nil, now, ""},
		{"a broken packet, good", mix(broken, good), all, pgp.ErrUnsupportedSignature, time.Time{}, ""},
		{"version 6 by an unknown key, good", mix(ofSix, good), all, pgp.ErrUnknownKey, time.Time{}, ""},
		{"good, version 6 by an unknown key", mix(good, ofSix), all, nil, now, ""},
		{"of a weak key", mix(small), all, pgp.ErrWeakSignature, time.Time{}, "accepted"}, // apt 3 refuses it
		{"of a weak key, allowed", mix(small), weakToo, nil, now, ""},
		{"bad of a weak key, allowed", mix(smallBad), weakToo, pgp.ErrBadSignature, time.Time{}, ""},
		{"good, of a weak key", mix(small, good), all, nil, now, ""},
		{"good, and of a weak key, allowed", mix(small, good), weakToo, nil, now, ""},
	}
}

func TestSignatureMixes(t *testing.T) {
	for _, test := range signatureMixes(t, releaseText) {
		t.Run(test.name, func(t *testing.T) {
			_, s, err := VerifyInRelease(test.ring, test.data, now)
			if !errors.Is(err, test.is) || !s.Created.Equal(test.created) {
				t.Errorf("signed at %s: %v; want %s, %v", s.Created, err, test.created, test.is)
			}
			var refused *pgp.SignatureError
			if errors.As(err, &refused) && refused.Bad != errors.Is(test.is, pgp.ErrBadSignature) {
				t.Errorf("Bad is %t: %v", refused.Bad, err)
			}
		})
	}
}

// TestSignatureMixesAsApt holds that the apt of this machine accepts the same files.
func TestSignatureMixesAsApt(t *testing.T) {
	apt := newRealApt(t, binaryKeys(t, goodKey(), expiredKey(), revokedKey(), rsa1024Key()))
	tests := signatureMixes(t, aptReleaseText)
	for _, test := range tests {
		apt.add(map[string][]byte{"InRelease": test.data, "main/binary-amd64/Packages": nil})
	}
	accepted, said := apt.update("")
	for i, test := range tests {
		want := test.is == nil
		if test.apt != "" {
			want = test.apt == "accepted"
		}
		if accepted[i] != want {
			t.Errorf("%s: apt accepts it: %t\n%s", test.name, accepted[i], apt.about(said, i))
		}
	}
}

// What only weak keys have signed is told apart from what a strong one has signed as well.
func TestWeakSigner(t *testing.T) {
	for _, test := range signatureMixes(t, releaseText) {
		_, s, err := VerifyInRelease(test.ring, test.data, now)
		want := ""
		if test.name == "of a weak key, allowed" {
			want = "an RSA key of 1024 bits"
		}
		if s.Weak != want {
			t.Errorf("%s: weak is %q, want %q (%v)", test.name, s.Weak, want, err)
		}
	}
}
