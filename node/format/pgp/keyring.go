package pgp

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// Keyring holds the public keys that an archive's signatures are checked with. It
// does not change once made, and is safe for concurrent use.
type Keyring struct {
	name     string
	keys     openpgp.EntityList
	weakKeys bool // see WithWeakKeys
	sha1     bool // see WithSHA1
	// see WithExpiredKeys
	expiredKeys bool
}

// ReadKeyring reads the public keys of a keyring file, armoured or binary, one or
// several. The name, commonly the file's, is used in error messages only. Keys of
// a kind that is not supported are left out as long as another one is left.
// GnuPG's keybox files (.kbx) and private keys are refused, as package managers do not use them
// either.
func ReadKeyring(name string, data []byte) (*Keyring, error) {
	keys, err := readKeys(data)
	if err != nil {
		return nil, fmt.Errorf("keyring %s: %w", name, err)
	}
	for _, e := range keys {
		if e.PrivateKey != nil {
			return nil, fmt.Errorf("keyring %s: it holds a private key; export the public key alone", name)
		}
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("keyring %s: it holds no public key", name)
	}
	return &Keyring{name: name, keys: keys}, nil
}

func readKeys(data []byte) (openpgp.EntityList, error) {
	switch {
	case len(bytes.TrimSpace(data)) == 0:
		return nil, errors.New("it is empty")
	case len(data) >= 12 && string(data[8:12]) == "KBXf":
		return nil, errors.New("it is a GnuPG keybox file; convert it with gpg --export")
	case data[0]&0x80 != 0: // the first bit of every OpenPGP packet
		return readBinaryKeys(data)
	}
	var keys openpgp.EntityList
	found := false
	for {
		block, rest, ok := cutArmour(data)
		if !ok {
			break
		}
		found = true
		body, kind, err := readArmour(block)
		if err != nil {
			return nil, err
		}
		if kind != openpgp.PublicKeyType {
			return nil, fmt.Errorf("it holds a %s instead of a public key", kind)
		}
		more, err := readBinaryKeys(body)
		if err != nil {
			return nil, err
		}
		keys = append(keys, more...)
		data = rest
	}
	if !found {
		return nil, errors.New("it is neither an armoured nor a binary OpenPGP key")
	}
	return keys, nil
}

// readBinaryKeys walks over all packets first: the library leaves out a key that is
// cut short as it leaves out one that it does not support.
func readBinaryKeys(data []byte) (openpgp.EntityList, error) {
	for r := packet.NewOpaqueReader(bytes.NewReader(data)); ; {
		if _, err := r.Next(); err == io.EOF {
			break
		} else if err != nil {
			return nil, fmt.Errorf("it is damaged or cut short: %w", err)
		}
	}
	keys, err := openpgp.ReadKeyRing(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("cannot read its keys: %w", err)
	}
	return keys, nil
}

// WithWeakKeys returns a keyring of the same keys that accepts, or refuses, signatures by DSA
// keys and by RSA keys of less than 2048 bits. A keyring refuses them by default, as apt 3 does.
// Launchpad signed with RSA-1024 keys up to 2024, and apt 2.4 and 2.6 accept them. Weak hashes
// stay refused, except as WithSHA1 says.
func (k *Keyring) WithWeakKeys(accept bool) *Keyring {
	changed := *k
	changed.weakKeys = accept
	return &changed
}

// WithSHA1 returns a keyring of the same keys that accepts, or refuses, signatures made with SHA-1. A
// keyring refuses them by default, as every apt does. The clients that leave the matter to GnuPG accept
// them, because it calls only MD5 a weak digest by itself (additional_weak_digest in main of g10/gpg.c): librepo
// and libzypp by way of gpgme, as on RHEL up to 9 and SUSE, and pacman. Where librepo uses rpm's own OpenPGP
// (use_gpgme in librepo.spec: not since Fedora 39 and RHEL 10), the policy of the system decides. apt calls SHA-1
// untrusted (Digests in methods/gpgv.cc).
func (k *Keyring) WithSHA1(accept bool) *Keyring {
	changed := *k
	changed.sha1 = accept
	return &changed
}

// WithExpiredKeys returns a keyring of the same keys that counts, or passes over, signatures by keys that have
// expired. A keyring passes them over by default, as gpgv does, and so apt, and librepo (check_signature in
// librepo/gpg_gpgme.c). libzypp counts them as good (readSignaturesFprsOptVerify in zypp-common/KeyManager.cc), and
// so does libalpm where its SigLevel trusts the key (_alpm_check_pgp_helper in lib/libalpm/signing.c).
func (k *Keyring) WithExpiredKeys(accept bool) *Keyring {
	changed := *k
	changed.expiredKeys = accept
	return &changed
}

// MergeKeyrings returns a keyring with the keys of all. Nil ones are left out. It accepts weak
// keys, SHA-1 and expired keys (see WithWeakKeys, WithSHA1, WithExpiredKeys) only if each of them does.
func MergeKeyrings(keyrings ...*Keyring) *Keyring {
	merged := &Keyring{}
	var names []string
	for _, k := range keyrings {
		if k != nil {
			merged.weakKeys = k.weakKeys && (len(names) == 0 || merged.weakKeys)
			merged.sha1 = k.sha1 && (len(names) == 0 || merged.sha1)
			merged.expiredKeys = k.expiredKeys && (len(names) == 0 || merged.expiredKeys)
			merged.keys = append(merged.keys, k.keys...)
			names = append(names, k.name)
		}
	}
	merged.name = strings.Join(names, ", ")
	return merged
}

// Named returns a keyring of the same keys with another name.
func (k *Keyring) Named(name string) *Keyring {
	changed := *k
	changed.name = name
	return &changed
}

// Name returns the name given to ReadKeyring, or all names of merged keyrings.
func (k *Keyring) Name() string { return k.name }

// Fingerprints returns those of the primary keys, in upper-case digits.
func (k *Keyring) Fingerprints() []string {
	prints := make([]string, len(k.keys))
	for i, e := range k.keys {
		prints[i] = fmt.Sprintf("%X", e.PrimaryKey.Fingerprint)
	}
	return prints
}

// Sum is the same for keyrings that accept the same signatures, whatever they are called.
func (k *Keyring) Sum() (string, error) {
	sum := sha256.New()
	fmt.Fprintln(sum, k.weakKeys, k.sha1, k.expiredKeys)
	for _, e := range k.keys {
		if err := e.Serialize(sum); err != nil {
			return "", fmt.Errorf("keyring %s: %w", k.name, err)
		}
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// Armoured returns the keys as one armoured block.
func (k *Keyring) Armoured() (string, error) {
	var b strings.Builder
	w, err := armor.Encode(&b, openpgp.PublicKeyType, nil)
	for _, e := range k.keys {
		if err == nil {
			err = e.Serialize(w)
		}
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return "", fmt.Errorf("keyring %s: %w", k.name, err)
	}
	return b.String() + "\n", nil
}

// WeakKeys names the keys whose signatures WithWeakKeys is about, such as "an RSA key of 1024 bits (FINGERPRINT)".
func (k *Keyring) WeakKeys() (keys []string) {
	for _, e := range k.keys {
		signing := []*packet.PublicKey{e.PrimaryKey}
		for _, sub := range e.Subkeys {
			if sub.Sig != nil && sub.Sig.FlagSign {
				signing = append(signing, sub.PublicKey)
			}
		}
		for _, key := range signing {
			if weak := weakness(key); weak != "" {
				keys = append(keys, fmt.Sprintf("%s (%X)", weak, key.Fingerprint))
			}
		}
	}
	return keys
}

// readArmour decodes one armoured block.
func readArmour(block []byte) (body []byte, kind string, err error) {
	b, err := armor.Decode(bytes.NewReader(block))
	if err != nil {
		return nil, "", errors.New("its armour is damaged")
	}
	body, err = io.ReadAll(b.Body)
	if err != nil {
		return nil, "", fmt.Errorf("its armour is damaged: %w", err)
	}
	return body, b.Type, nil
}
