package pgp

import (
	"bytes"
	"cmp"
	"crypto"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	pgperrors "github.com/ProtonMail/go-crypto/openpgp/errors"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// ErrNotSigned means that a file is not in the form of a signed file, or of a signature, at all. An
// HTML page in place of one ends here.
var ErrNotSigned = errors.New("not a signed file")

// Why a signature does not count. A SignatureError wraps one of them per
// signature.
var (
	ErrUnknownKey           = errors.New("the key is not in the keyring")
	ErrKeyExpired           = errors.New("the key has expired")
	ErrKeyRevoked           = errors.New("the key has been revoked")
	ErrBadSignature         = errors.New("the signature does not fit the text")
	ErrSignatureExpired     = errors.New("the signature has expired")
	ErrSignatureFuture      = errors.New("the signature was made in the future")
	ErrWeakSignature        = errors.New("the signature is too weak")
	ErrUnsupportedSignature = errors.New("the signature is of a kind that is not supported")
)

// errNotYetValid is beside ErrKeyExpired where the time of a key has not come.
var errNotYetValid = errors.New("it is not valid")

// Advice is what an operator can do about a signature that does not count, for the sentence that says so; "" for nothing.
// It stands before the error, which can be long, because clients cut the sentence. place is where the missing key
// belongs.
func Advice(err error, place string) string {
	if place == "" || !errors.Is(err, ErrUnknownKey) {
		return ""
	}
	return " (if you trust its key, put it into " + place + ")"
}

// maxSkew is how far in the future a signature may have been made.
const maxSkew = 24 * time.Hour

// maxSignatures bounds the signatures of one file; Debian has three. A file with more is refused
// as a whole, because the bad one may be the last.
const maxSignatures = 32

// minRSABits is the weakest RSA key that a keyring accepts by default, as apt 2.7.13 and later do
// (APT::Key::Assert-Pubkey-Algo).
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
	// Expires is when the last of the good signatures stops to count, because it or its key expires; zero
	// for never.
	Expires time.Time
	// Expired says that the good signatures were made by keys that have expired; see WithExpiredKeys.
	Expired bool
	// Weak says with what the good signatures were made, such as "an RSA key of 1024 bits" or "SHA-1",
	// if newer clients refuse all of them; see WithWeakKeys and WithSHA1.
	Weak string
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

// SignatureError means that a file carries no good signature by a key of the keyring, or a bad
// one. errors.Is finds the reasons of each signature in it.
type SignatureError struct {
	Keyring string
	// Bad says that a signature by a key of the keyring does not fit the text. It refuses the
	// file even if another signature is good.
	Bad      bool
	Problems []SignatureProblem // in the order of the signatures; never empty
}

func (e *SignatureError) Error() string {
	texts := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		texts[i] = p.Error()
	}
	reason := "no good signature by a key of the keyring "
	if e.Bad {
		reason = "a bad signature by a key of the keyring "
	}
	return reason + e.Keyring + ": " + strings.Join(texts, "; ")
}

// Unwrap returns the reasons.
func (e *SignatureError) Unwrap() []error {
	reasons := make([]error, len(e.Problems))
	for i, p := range e.Problems {
		reasons[i] = p.Err
	}
	return reasons
}

// Verify checks a signature over the exact bytes of signed, and returns who made the newest good
// one. The signature is binary, or in armoured blocks with any text before and behind each; it may
// consist of several signatures. What counts follows gpgv:
//
//   - One good signature by a key of the keyring suffices.
//   - A signature that names a key of the keyring and does not fit the text is bad, and one bad
//     signature refuses the text, whatever the others are and even if the key has expired or is
//     weak. Without this rule, a mirror could add a signature of another day and stop every host
//     whose client follows it.
//   - If the signatures are not all of one class (of a text, of a file), only the first counts.
//   - Other signatures are passed over: by keys that are not in the keyring; by a key that has been
//     revoked, or has expired, unless WithExpiredKeys allows it; expired ones; ones made with MD5 or RIPEMD-160, or with SHA-1 unless
//     WithSHA1 allows it; ones made more than a day ahead of now; ones of a kind that is not
//     supported.
//   - A signature by a DSA key or by an RSA key of less than 2048 bits is passed over unless
//     WithWeakKeys allows it.
//
// A signature that is none at all fails with ErrNotSigned, one that is refused with a
// *SignatureError.
func (k *Keyring) Verify(signed, signature []byte, now time.Time) (Signer, error) {
	packets, err := signaturePackets(signature)
	if err != nil {
		return Signer{}, err
	}
	failed := &SignatureError{Keyring: k.name}
	var newest Signer
	strong, current, until := false, false, time.Time{}
	for _, p := range packets {
		s, problem := k.judge(p, signed, now)
		strong = strong || problem == nil && s.Weak == ""
		current = current || problem == nil && !s.Expired
		if problem == nil {
			if newest.KeyID == "" || s.Expires.IsZero() || !until.IsZero() && s.Expires.After(until) {
				until = s.Expires
			}
		}
		switch {
		case problem == nil && (newest.KeyID == "" || s.Created.After(newest.Created)):
			newest = s
		case problem != nil:
			failed.Bad = failed.Bad || errors.Is(problem.Err, ErrBadSignature)
			failed.Problems = append(failed.Problems, *problem)
		}
	}
	if newest.KeyID == "" || failed.Bad {
		return Signer{}, failed
	}
	if strong {
		newest.Weak = ""
	}
	newest.Expired, newest.Expires = !current, until
	return newest, nil
}

// MayFit reports whether a signature may be one of these bytes, without any key. A signature carries
// the first two bytes of the hash that was signed (RFC 9580, section 5.2.3): where they differ for each
// signature, it was made for other bytes. Bytes of other publications pass by chance once in 65,536
// times. True also for what cannot be told: for what is no signature, and for one of an unknown kind.
func MayFit(signed, signature []byte) bool {
	packets, err := signaturePackets(signature)
	if err != nil {
		return true
	}
	return slices.ContainsFunc(packets, func(p *packet.OpaquePacket) bool {
		parsed, err := p.Parse()
		sig, ok := parsed.(*packet.Signature)
		if err != nil || !ok {
			return true
		}
		in, h, err := documentHash(sig)
		if err != nil {
			return true
		}
		in.Write(signed)
		return packet.VerifyHashTag(h, sig) == nil
	})
}

// signaturePackets returns the signatures, not yet parsed, so that one signature which cannot be
// parsed does not hide the others. There is at least one.
func signaturePackets(sig []byte) ([]*packet.OpaquePacket, error) {
	if len(sig) == 0 || sig[0]&0x80 == 0 { // the first bit of every OpenPGP packet
		var err error
		if sig, err = dearmourSignatures(sig); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrNotSigned, err)
		}
	}
	var packets []*packet.OpaquePacket
	for r := packet.NewOpaqueReader(bytes.NewReader(sig)); ; {
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
		if len(packets) > maxSignatures {
			return nil, fmt.Errorf("%w: it has more than %d signatures", ErrNotSigned, maxSignatures)
		}
	}
	if len(packets) == 0 {
		return nil, fmt.Errorf("%w: it holds no signature", ErrNotSigned)
	}
	return sameClass(packets), nil
}

// sameClass returns all signatures if they are of one class, else the first alone: gpgv looks
// only at that one (proc_tree in g10/mainproc.c of GnuPG). Without this rule, a mirror could put
// a worthless signature of another class before the good one, and gpgv would not see the good
// one.
func sameClass(packets []*packet.OpaquePacket) []*packet.OpaquePacket {
	for _, p := range packets[1:] {
		if signatureClass(p) != signatureClass(packets[0]) {
			return packets[:1]
		}
	}
	return packets
}

// signatureClass returns whether a signature is of a text or of a file; 0, which means a file,
// also where gpgv cannot read the packet.
func signatureClass(p *packet.OpaquePacket) byte {
	c := p.Contents
	switch {
	case len(c) >= 20 && (c[0] == 2 || c[0] == 3): // RFC 9580, section 5.2.2
		return c[2]
	case len(c) >= 10 && (c[0] == 4 || c[0] == 5): // section 5.2.3
		return c[1]
	}
	return 0
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
	// One that has expired counts where nothing better is there and the keyring allows it.
	var good, expired *openpgp.Key
	for i := range candidates {
		key := &candidates[i]
		err := k.checkSignature(key, sig, signed, now)
		switch {
		case err == nil:
			good = key
		case k.expiredKeys && errors.Is(err, ErrKeyExpired) && !errors.Is(err, errNotYetValid):
			expired = key
		case errors.Is(err, ErrKeyRevoked):
			problem.Err, problem.Identity = err, identity(key.Entity)
			return Signer{}, problem
		case problem.Err == nil:
			problem.Err, problem.Identity = err, identity(key.Entity)
		}
	}
	switch {
	case good == nil && expired == nil:
		return Signer{}, problem
	case good == nil:
		good = expired
	}
	s := signer(good, sig)
	if s.Expired = good == expired; k.expiredKeys {
		s.Expires = expiry(nil, sig) // what becomes of the key makes no difference
	}
	return s, nil
}

func signer(key *openpgp.Key, sig *packet.Signature) Signer {
	return Signer{
		KeyID:       key.PublicKey.KeyIdString(),
		Fingerprint: fmt.Sprintf("%X", key.PublicKey.Fingerprint),
		Primary:     fmt.Sprintf("%X", key.Entity.PrimaryKey.Fingerprint),
		Identity:    identity(key.Entity),
		Created:     sig.CreationTime.UTC(),
		Expires:     expiry(key, sig),
		Weak:        cmp.Or(weakness(key.PublicKey), weakHash(sig)),
	}
}

// expiry is when a good signature stops to count; zero for never.
func expiry(key *openpgp.Key, sig *packet.Signature) (end time.Time) {
	ends := func(from time.Time, seconds *uint32) {
		if seconds == nil || *seconds == 0 {
			return
		}
		if at := from.Add(time.Duration(*seconds) * time.Second).UTC(); end.IsZero() || at.Before(end) {
			end = at
		}
	}
	ends(sig.CreationTime, sig.SigLifetimeSecs)
	if key == nil {
		return end
	}
	if primary, _ := key.Entity.PrimarySelfSignature(); primary != nil {
		ends(key.Entity.PrimaryKey.CreationTime, primary.KeyLifetimeSecs)
		ends(primary.CreationTime, primary.SigLifetimeSecs)
	}
	if own := key.SelfSignature; own != nil {
		ends(key.PublicKey.CreationTime, own.KeyLifetimeSecs)
		ends(own.CreationTime, own.SigLifetimeSecs)
		if cross := own.EmbeddedSignature; cross != nil {
			ends(cross.CreationTime, cross.SigLifetimeSecs)
		}
	}
	return end
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
		return nil, fmt.Errorf("%w: neither version 4 nor 6", ErrUnsupportedSignature)
	} else if c[3] == 1 {
		return nil, fmt.Errorf("%w: it is made with MD5", ErrWeakSignature)
	}
	parsed, err := p.Parse()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnsupportedSignature, err)
	}
	sig, ok := parsed.(*packet.Signature)
	if !ok {
		return nil, ErrUnsupportedSignature
	}
	if sig.IssuerKeyId == nil {
		return nil, fmt.Errorf("%w: it does not name its key", ErrUnsupportedSignature)
	}
	return sig, nil
}

// checkSignature checks a signature against one key that has its ID. It looks at the mathematics
// first, as gpgv does, so that a bad signature is bad even if its key is weak or has expired.
func (k *Keyring) checkSignature(key *openpgp.Key, sig *packet.Signature, signed []byte, now time.Time) error {
	if err := checkBytes(key.PublicKey, sig, signed); err != nil {
		return err
	}
	if err := k.checkStrength(key.PublicKey, sig); err != nil {
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
			return fmt.Errorf("%w: it demands that %q be understood", ErrUnsupportedSignature, notation.Name)
		}
	}
	return checkKey(key, at)
}

// checkStrength applies apt's floor for algorithms: for hashes that of all versions (Digests,
// methods/gpgv.cc), for keys that of apt 3 (APT::Key::Assert-Pubkey-Algo), which WithWeakKeys
// lowers to what apt 2.4 and 2.6 accept.
func (k *Keyring) checkStrength(key *packet.PublicKey, sig *packet.Signature) error {
	switch sig.Hash {
	case crypto.SHA224, crypto.SHA256, crypto.SHA384, crypto.SHA512, crypto.SHA3_256, crypto.SHA3_512:
	case crypto.SHA1:
		if !k.sha1 {
			return fmt.Errorf("%w: it is made with %s", ErrWeakSignature, sig.Hash)
		}
	default:
		return fmt.Errorf("%w: it is made with %s", ErrWeakSignature, sig.Hash)
	}
	if weak := weakness(key); weak != "" && !k.weakKeys {
		return fmt.Errorf("%w: it is made by %s (let the archive sign with a newer key, or allow weak keys for it: `weak_keys: true`)", ErrWeakSignature, weak)
	}
	return nil
}

// weakness says what is weak about a key; "" for nothing.
func weakness(key *packet.PublicKey) string {
	switch key.PubKeyAlgo {
	case packet.PubKeyAlgoRSA, packet.PubKeyAlgoRSASignOnly:
		if bits, err := key.BitLength(); err != nil || bits < minRSABits {
			return fmt.Sprintf("an RSA key of %d bits", bits)
		}
	case packet.PubKeyAlgoDSA:
		return "a DSA key"
	}
	return ""
}

// weakHash says what is weak about the hash of a signature; "" for nothing.
func weakHash(sig *packet.Signature) string {
	if sig.Hash == crypto.SHA1 {
		return "SHA-1"
	}
	return ""
}

// checkBytes checks the signature proper.
func checkBytes(key *packet.PublicKey, sig *packet.Signature, signed []byte) error {
	in, h, err := documentHash(sig)
	if err != nil {
		return err
	}
	in.Write(signed)
	var mismatch pgperrors.SignatureError
	switch err := key.VerifySignature(h, sig); {
	case err == nil:
		return nil
	case errors.As(err, &mismatch):
		return ErrBadSignature
	default: // the key is of another algorithm than the signature, or cannot sign
		return fmt.Errorf("%w: %w", ErrUnsupportedSignature, err)
	}
}

// documentHash returns the hash h of a signature of a document, and where the document is to be
// written: h itself, or what puts a text into its canonical form.
func documentHash(sig *packet.Signature) (in, h hash.Hash, err error) {
	if h, err = sig.PrepareVerify(); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrUnsupportedSignature, err)
	}
	switch sig.SigType {
	case packet.SigTypeBinary:
		return h, h, nil
	case packet.SigTypeText:
		return openpgp.NewCanonicalTextHash(h), h, nil
	}
	return nil, nil, fmt.Errorf("%w: it is not a signature of a document", ErrUnsupportedSignature)
}

// checkKey checks that a key is good for signing at a time. The bindings between
// a primary key, its user IDs and its subkeys were verified when it was read.
func checkKey(key *openpgp.Key, at time.Time) error {
	primary, primaryID := key.Entity.PrimarySelfSignature()
	if primary == nil || key.SelfSignature == nil {
		return fmt.Errorf("%w: the key carries no signature of its own", ErrUnsupportedSignature)
	}
	subkey := key.PublicKey != key.Entity.PrimaryKey
	switch {
	case key.Entity.Revoked(at), subkey && key.Revoked(at), primaryID != nil && primaryID.Revoked(at):
		return ErrKeyRevoked
	case subkey && !key.SelfSignature.FlagSign,
		key.SelfSignature.FlagsValid && !key.SelfSignature.FlagSign:
		return fmt.Errorf("%w: the key is not meant for signing", ErrUnsupportedSignature)
	case subkey && key.SelfSignature.EmbeddedSignature == nil:
		return fmt.Errorf("%w: the key is not bound to its primary key", ErrUnsupportedSignature)
	}
	if err := checkLifetime(key.Entity.PrimaryKey, primary, at); err != nil {
		return err
	}
	if !subkey {
		return nil
	}
	if key.SelfSignature.EmbeddedSignature.SigExpired(at) {
		return fmt.Errorf("%w: its binding to the primary key", ErrKeyExpired)
	}
	return checkLifetime(key.PublicKey, key.SelfSignature, at)
}

func checkLifetime(key *packet.PublicKey, self *packet.Signature, at time.Time) error {
	switch {
	case key.CreationTime.After(at):
		return fmt.Errorf("%w: or rather, %w before %s", ErrKeyExpired, errNotYetValid, day(key.CreationTime))
	case key.KeyExpired(self, at):
		ended := key.CreationTime.Add(time.Duration(*self.KeyLifetimeSecs) * time.Second)
		return fmt.Errorf("%w on %s", ErrKeyExpired, day(ended))
	case self.SigExpired(at):
		return fmt.Errorf("%w: its certification has", ErrKeyExpired)
	}
	return nil
}

func day(t time.Time) string { return t.UTC().Format("2006-01-02") }
