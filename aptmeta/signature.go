package aptmeta

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"hash"
	"io"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// Why a signature does not count. A SignatureError wraps one of them per
// signature.
var (
	ErrUnknownKey       = errors.New("the key is not in the keyring")
	ErrKeyExpired       = errors.New("the key has expired")
	ErrKeyRevoked       = errors.New("the key has been revoked")
	ErrBadSignature     = errors.New("the signature does not fit the text")
	ErrSignatureExpired = errors.New("the signature has expired")
	ErrSignatureFuture  = errors.New("the signature was made in the future")
	ErrWeakSignature    = errors.New("the signature is too weak")
	ErrUnsupported      = errors.New("the signature is of a kind that is not supported")
)

// maxSkew is how far in the future a signature may have been made.
const maxSkew = 24 * time.Hour

// maxSignatures bounds the signatures of one file; Debian has three.
const maxSignatures = 32

// minRSABits is the weakest RSA key that apt accepts (APT::Key::Assert-Pubkey-Algo).
const minRSABits = 2048

// Signer tells who made a good signature.
type Signer struct {
	// KeyID and Fingerprint are those of the key that signed, which may be a
	// subkey, in upper-case digits.
	KeyID, Fingerprint string
	// Primary is the fingerprint of the primary key: what a keyring lists.
	Primary string
	// Identity is the user ID of the key, such as "Name <address>".
	Identity string
	// Created is when the signature was made, by the signer's clock.
	Created time.Time
}

// SignatureProblem tells why one signature does not count.
type SignatureProblem struct {
	KeyID    string // 16 upper-case digits; "" where the signature does not tell
	Identity string // "" where the key is not known
	Err      error  // one of the errors above, perhaps with more words
}

func (p SignatureProblem) Error() string {
	switch {
	case p.KeyID == "":
		return p.Err.Error()
	case p.Identity == "":
		return "key " + p.KeyID + ": " + p.Err.Error()
	}
	return "key " + p.KeyID + " (" + p.Identity + "): " + p.Err.Error()
}

// SignatureError means that a file carries no good signature by a key of the
// keyring. errors.Is finds the reasons of each signature in it.
type SignatureError struct {
	Keyring  string
	Problems []SignatureProblem // in the order of the signatures; never empty
}

func (e *SignatureError) Error() string {
	texts := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		texts[i] = p.Error()
	}
	return "no good signature by a key of " + e.Keyring + ": " + strings.Join(texts, "; ")
}

// Unwrap returns the reasons.
func (e *SignatureError) Unwrap() []error {
	reasons := make([]error, len(e.Problems))
	for i, p := range e.Problems {
		reasons[i] = p.Err
	}
	return reasons
}

// VerifyInRelease checks an InRelease against the keyring and returns the text
// that is signed, and nothing else of the file: its lines each end in "\n",
// without trailing white space and without escapes.
//
// The rules are those of apt (methods/gpgv.cc): one good signature by a key of the
// keyring suffices, whatever the others are; a signature does not count if its key
// or itself has expired or been revoked, if it was made with MD5, SHA-1 or
// RIPEMD-160, or by a DSA key or an RSA key of less than 2048 bits, or more than a
// day in the future of now. A file that is not exactly one clearsigned message
// fails with ErrNotSigned, one without a good signature with a *SignatureError.
func (k *Keyring) VerifyInRelease(data []byte, now time.Time) (text []byte, s Signer, err error) {
	c, err := splitClearsigned(data)
	if err != nil {
		return nil, Signer{}, fmt.Errorf("InRelease: %w", err)
	}
	s, err = k.verify(c.signed, c.signature, now)
	if err != nil {
		return nil, Signer{}, fmt.Errorf("InRelease: %w", err)
	}
	return c.text, s, nil
}

// VerifyDetached checks a Release against its Release.gpg, which may be armoured,
// also as several blocks, or binary. The rules are those of VerifyInRelease.
func (k *Keyring) VerifyDetached(text, sig []byte, now time.Time) (Signer, error) {
	if len(text) > MaxRelease || len(sig) > MaxRelease {
		return Signer{}, fmt.Errorf("detached Release.gpg: %w: larger than %d bytes", ErrNotSigned, MaxRelease)
	}
	s, err := k.verify(text, sig, now)
	if err != nil {
		return Signer{}, fmt.Errorf("detached Release.gpg: %w", err)
	}
	return s, nil
}

// verify looks for one good signature.
func (k *Keyring) verify(signed, sig []byte, now time.Time) (Signer, error) {
	packets, err := signaturePackets(sig)
	if err != nil {
		return Signer{}, err
	}
	failed := &SignatureError{Keyring: k.name}
	for _, p := range packets {
		s, problem := k.judge(p, signed, now)
		if problem == nil {
			return s, nil
		}
		failed.Problems = append(failed.Problems, *problem)
	}
	return Signer{}, failed
}

// signaturePackets returns the signatures in a file, not yet parsed, so that one
// which cannot be parsed does not hide the others. There is at least one.
func signaturePackets(sig []byte) ([]*packet.OpaquePacket, error) {
	sig, err := unarmour(sig)
	if err != nil {
		return nil, err
	}
	var packets []*packet.OpaquePacket
	r := packet.NewOpaqueReader(bytes.NewReader(sig))
	for len(packets) < maxSignatures {
		p, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("%w: its signature is damaged: %w", ErrNotSigned, err)
		}
		const tagSignature, tagMarker = 2, 10
		switch p.Tag {
		case tagSignature:
			packets = append(packets, p)
		case tagMarker:
		default:
			return nil, fmt.Errorf("%w: a packet of type %d where a signature belongs", ErrNotSigned, p.Tag)
		}
	}
	if len(packets) == 0 {
		return nil, fmt.Errorf("%w: it holds no signature", ErrNotSigned)
	}
	return packets, nil
}

// unarmour returns the binary form of a signature file. Between armoured blocks
// there may be nothing but white space.
func unarmour(sig []byte) ([]byte, error) {
	if len(sig) > 0 && sig[0]&0x80 != 0 {
		return sig, nil
	}
	var all []byte
	for rest := bytes.TrimSpace(sig); len(rest) > 0; rest = bytes.TrimSpace(rest) {
		if !bytes.HasPrefix(rest, []byte(signatureBegin)) {
			return nil, fmt.Errorf("%w: %.60q is not a signature", ErrNotSigned, rest)
		}
		block, after, ok := cutArmour(rest)
		if !ok {
			return nil, fmt.Errorf("%w: the signature is cut short", ErrNotSigned)
		}
		body, _, err := readArmour(block)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrNotSigned, err)
		}
		all, rest = append(all, body...), after
	}
	return all, nil
}

// judge checks one signature.
func (k *Keyring) judge(p *packet.OpaquePacket, signed []byte, now time.Time) (Signer, *SignatureProblem) {
	sig, err := parseSignature(p)
	if err != nil {
		return Signer{}, &SignatureProblem{Err: err}
	}
	problem := &SignatureProblem{KeyID: fmt.Sprintf("%016X", *sig.IssuerKeyId)}
	candidates := k.keys.KeysById(*sig.IssuerKeyId)
	if len(candidates) == 0 {
		problem.Err = ErrUnknownKey
		return Signer{}, problem
	}
	// Several keyrings may hold the same key, one of them prolonged, or revoked.
	// A revocation holds wherever it stands; else any copy that is good will do.
	var good *openpgp.Key
	for i := range candidates {
		key := &candidates[i]
		err := checkSignature(key, sig, signed, now)
		switch {
		case err == nil:
			good = key
		case errors.Is(err, ErrKeyRevoked):
			problem.Err, problem.Identity = err, identity(key.Entity)
			return Signer{}, problem
		case problem.Err == nil:
			problem.Err, problem.Identity = err, identity(key.Entity)
		}
	}
	if good == nil {
		return Signer{}, problem
	}
	return signer(good, sig), nil
}

func signer(key *openpgp.Key, sig *packet.Signature) Signer {
	return Signer{
		KeyID:       key.PublicKey.KeyIdString(),
		Fingerprint: fmt.Sprintf("%X", key.PublicKey.Fingerprint),
		Primary:     fmt.Sprintf("%X", key.Entity.PrimaryKey.Fingerprint),
		Identity:    identity(key.Entity),
		Created:     sig.CreationTime.UTC(),
	}
}

func identity(e *openpgp.Entity) string {
	if id := e.PrimaryIdentity(); id != nil {
		return id.Name
	}
	return ""
}

// parseSignature reads a signature packet. Weak hashes are told apart before the
// library calls them unknown.
func parseSignature(p *packet.OpaquePacket) (*packet.Signature, error) {
	// The first bytes are version, type, key algorithm and hash algorithm. Version 5
	// was never standardised, 3 is PGP's from the nineties.
	if c := p.Contents; len(c) < 4 || c[0] != 4 && c[0] != 6 {
		return nil, fmt.Errorf("%w: neither version 4 nor 6", ErrUnsupported)
	} else if c[3] == 1 {
		return nil, fmt.Errorf("%w: it is made with MD5", ErrWeakSignature)
	}
	parsed, err := p.Parse()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnsupported, err)
	}
	sig, ok := parsed.(*packet.Signature)
	if !ok {
		return nil, ErrUnsupported
	}
	if sig.IssuerKeyId == nil {
		return nil, fmt.Errorf("%w: it does not name its key", ErrUnsupported)
	}
	return sig, nil
}

// checkSignature checks a signature against one key that has its ID. It looks at
// the mathematics before the dates, so that "expired" is only said of a signature
// which that key really made.
func checkSignature(key *openpgp.Key, sig *packet.Signature, signed []byte, now time.Time) error {
	if err := checkStrength(key.PublicKey, sig); err != nil {
		return err
	}
	if err := checkBytes(key.PublicKey, sig, signed); err != nil {
		return err
	}
	if sig.CreationTime.After(now.Add(maxSkew)) {
		return fmt.Errorf("%w (%s)", ErrSignatureFuture, day(sig.CreationTime))
	}
	// Within the tolerance, a signer whose clock is ahead of ours is right.
	at := now
	if sig.CreationTime.After(at) {
		at = sig.CreationTime
	}
	if sig.SigExpired(at) {
		return ErrSignatureExpired
	}
	for _, notation := range sig.Notations {
		if notation.IsCritical {
			return fmt.Errorf("%w: it demands that %q be understood", ErrUnsupported, notation.Name)
		}
	}
	return checkKey(key, at)
}

// checkStrength applies apt's floor for algorithms.
func checkStrength(key *packet.PublicKey, sig *packet.Signature) error {
	switch sig.Hash {
	case crypto.SHA224, crypto.SHA256, crypto.SHA384, crypto.SHA512, crypto.SHA3_256, crypto.SHA3_512:
	default:
		return fmt.Errorf("%w: it is made with %s", ErrWeakSignature, sig.Hash)
	}
	switch key.PubKeyAlgo {
	case packet.PubKeyAlgoRSA, packet.PubKeyAlgoRSASignOnly:
		if bits, err := key.BitLength(); err != nil || bits < minRSABits {
			return fmt.Errorf("%w: it is made by an RSA key of %d bits, less than %d", ErrWeakSignature, bits, minRSABits)
		}
	case packet.PubKeyAlgoDSA:
		return fmt.Errorf("%w: it is made by a DSA key", ErrWeakSignature)
	}
	return nil
}

// checkBytes checks the signature proper.
func checkBytes(key *packet.PublicKey, sig *packet.Signature, signed []byte) error {
	h, err := sig.PrepareVerify()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnsupported, err)
	}
	var in hash.Hash
	switch sig.SigType {
	case packet.SigTypeBinary:
		in = h
	case packet.SigTypeText:
		in = openpgp.NewCanonicalTextHash(h)
	default:
		return fmt.Errorf("%w: it is not a signature of a document", ErrUnsupported)
	}
	in.Write(signed)
	if err := key.VerifySignature(h, sig); err != nil {
		return ErrBadSignature
	}
	return nil
}

// checkKey checks that a key is good for signing at a time. The bindings between
// a primary key, its user IDs and its subkeys were verified when it was read.
func checkKey(key *openpgp.Key, at time.Time) error {
	primary, primaryID := key.Entity.PrimarySelfSignature()
	if primary == nil || key.SelfSignature == nil {
		return fmt.Errorf("%w: the key carries no signature of its own", ErrUnsupported)
	}
	subkey := key.PublicKey != key.Entity.PrimaryKey
	switch {
	case key.Entity.Revoked(at), subkey && key.Revoked(at), primaryID != nil && primaryID.Revoked(at):
		return ErrKeyRevoked
	case subkey && !key.SelfSignature.FlagSign,
		key.SelfSignature.FlagsValid && !key.SelfSignature.FlagSign:
		return fmt.Errorf("%w: the key is not meant for signing", ErrUnsupported)
	}
	if err := checkLifetime(key.Entity.PrimaryKey, primary, at); err != nil {
		return err
	}
	if !subkey {
		return nil
	}
	if cross := key.SelfSignature.EmbeddedSignature; cross == nil || cross.SigExpired(at) {
		return fmt.Errorf("%w: its binding to the primary key", ErrKeyExpired)
	}
	return checkLifetime(key.PublicKey, key.SelfSignature, at)
}

func checkLifetime(key *packet.PublicKey, self *packet.Signature, at time.Time) error {
	switch {
	case key.CreationTime.After(at):
		return fmt.Errorf("%w: or rather, it is not valid before %s", ErrKeyExpired, day(key.CreationTime))
	case key.KeyExpired(self, at):
		ended := key.CreationTime.Add(time.Duration(*self.KeyLifetimeSecs) * time.Second)
		return fmt.Errorf("%w on %s", ErrKeyExpired, day(ended))
	case self.SigExpired(at):
		return fmt.Errorf("%w: its certification has", ErrKeyExpired)
	}
	return nil
}

func day(t time.Time) string { return t.UTC().Format("2006-01-02") }
