package testarchive

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/clearsign"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// keyBirth is when every key was made: before any date a test would publish at.
var keyBirth = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// KeyOptions says what is special about a key.
type KeyOptions struct {
	// Expires is when the key stops being valid; zero means never.
	Expires time.Time
	// Revoked adds a revocation to the public key.
	Revoked bool
	// SigningSubkey signs with a subkey, as Debian's archive keys do.
	SigningSubkey bool
}

// Key is an Ed25519 OpenPGP key. Expired and revoked keys still sign: only what
// their public half says of them differs.
type Key struct {
	Name   string
	signer *openpgp.Entity // neither expires nor is revoked
	public []byte          // binary, with expiry and revocation
}

var defaultKey = sync.OnceValue(func() *Key { return NewKey("Testarchive Signing Key", KeyOptions{}) })

// DefaultKey is the key that signs where a suite names none; one per process.
func DefaultKey() *Key { return defaultKey() }

// NewKey returns the key of that name. The same name and options give the same
// key in every process; the options do not change its fingerprint.
func NewKey(name string, opt KeyOptions) *Key {
	signer := newEntity(name, KeyOptions{SigningSubkey: opt.SigningSubkey})
	public := newEntity(name, opt)
	if opt.Revoked {
		must(public.RevokeKey(packet.KeyCompromised, "lost by the test", keyConfig(name, keyBirth.AddDate(1, 0, 0))))
	}
	var buf bytes.Buffer
	must(public.Serialize(&buf))
	return &Key{Name: name, signer: signer, public: buf.Bytes()}
}

func newEntity(name string, opt KeyOptions) *openpgp.Entity {
	cfg := keyConfig(name, keyBirth)
	if !opt.Expires.IsZero() {
		cfg.KeyLifetimeSecs = uint32(opt.Expires.Sub(keyBirth) / time.Second)
	}
	e, err := openpgp.NewEntity(name, "", "archive@example.org", cfg)
	must(err)
	if opt.SigningSubkey {
		must(e.AddSigningSubkey(cfg))
	}
	return e
}

// keyConfig makes everything about a key or a signature a function of its name
// and the time: gpg, and a test that compares two processes, need no more.
func keyConfig(name string, now time.Time) *packet.Config {
	deterministic := false
	return &packet.Config{
		Rand:                                  rand.NewChaCha8(sha256.Sum256([]byte("testarchive key " + name))),
		Time:                                  func() time.Time { return now },
		Algorithm:                             packet.PubKeyAlgoEdDSA,
		DefaultHash:                           crypto.SHA512,
		NonDeterministicSignaturesViaNotation: &deterministic,
	}
}

// Fingerprint returns the upper-case hexadecimal fingerprint of the primary key.
func (k *Key) Fingerprint() string { return fmt.Sprintf("%X", k.signer.PrimaryKey.Fingerprint) }

// KeyID returns the upper-case 16-digit id of the key that signs: the subkey's
// where there is one.
func (k *Key) KeyID() string { return k.signingKey(keyBirth.AddDate(0, 0, 1)).PublicKey.KeyIdString() }

// Public returns the binary public key.
func (k *Key) Public() []byte { return bytes.Clone(k.public) }

// Armored returns the public key in ASCII armour.
func (k *Key) Armored() []byte { return armored(openpgp.PublicKeyType, k.public) }

func (k *Key) signingKey(now time.Time) openpgp.Key {
	key, ok := k.signer.SigningKey(now)
	if !ok {
		panic(fmt.Sprintf("testarchive: key %q cannot sign at %s: publish at a later date", k.Name, now))
	}
	return key
}

// ClearSign wraps text as an InRelease signed by all keys.
func ClearSign(text []byte, at time.Time, keys ...*Key) []byte {
	private := make([]*packet.PrivateKey, len(keys))
	for i, k := range keys {
		private[i] = k.signingKey(at).PrivateKey
	}
	var buf bytes.Buffer
	w, err := clearsign.EncodeMulti(&buf, private, keyConfig("signature", at))
	must(err)
	_, err = w.Write(text)
	must(err)
	must(w.Close())
	buf.WriteByte('\n')
	return buf.Bytes()
}

// DetachSign returns the armoured detached signature of text by all keys, as in
// a Release.gpg.
func DetachSign(text []byte, at time.Time, keys ...*Key) []byte {
	return armored(openpgp.SignatureType, BinarySign(text, at, keys...))
}

// BinarySign is DetachSign without armour.
func BinarySign(text []byte, at time.Time, keys ...*Key) []byte {
	var sigs bytes.Buffer
	for _, k := range keys {
		must(openpgp.DetachSign(&sigs, k.signer, bytes.NewReader(text), keyConfig("signature", at)))
	}
	return sigs.Bytes()
}

// SHA1Sign returns the binary signature of text by a key as GnuPG made it by default up to 2.0. The
// library makes none with SHA-1 by itself.
func SHA1Sign(text []byte, at time.Time, k *Key) []byte {
	key := k.signingKey(at)
	config, salted := keyConfig("signature", at), false
	config.NonDeterministicSignaturesViaNotation = &salted // there is no salt for SHA-1
	sig := &packet.Signature{
		Version: 4, SigType: packet.SigTypeBinary, PubKeyAlgo: key.PublicKey.PubKeyAlgo, Hash: crypto.SHA1,
		CreationTime: at, IssuerKeyId: &key.PublicKey.KeyId,
	}
	h, err := sig.PrepareSign(config)
	must(err)
	h.Write(text)
	must(sig.Sign(h, key.PrivateKey, config))
	var b bytes.Buffer
	must(sig.Serialize(&b))
	return b.Bytes()
}

// Keyring joins the binary public keys into one keyring file.
func Keyring(keys ...*Key) []byte {
	var buf bytes.Buffer
	for _, k := range keys {
		buf.Write(k.public)
	}
	return buf.Bytes()
}

// ArmoredKeyring joins the public keys into one armoured block, as in a .asc file.
func ArmoredKeyring(keys ...*Key) []byte { return armored(openpgp.PublicKeyType, Keyring(keys...)) }

func armored(kind string, b []byte) []byte {
	var buf bytes.Buffer
	w, err := armor.Encode(&buf, kind, nil)
	must(err)
	_, err = w.Write(b)
	must(err)
	must(w.Close())
	buf.WriteByte('\n')
	return buf.Bytes()
}

func must(err error) {
	if err != nil {
		panic("testarchive: " + err.Error())
	}
}
