package proto

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
)

// Digest is a SHA-256 sum. It is a value: comparable, usable as a map key, safe
// to copy. The zero Digest means "not known"; no content is ever stored under it.
type Digest [sha256.Size]byte

// DigestOf returns the digest of b.
func DigestOf(b []byte) Digest { return sha256.Sum256(b) }

// ParseDigest reads the 64 hexadecimal digits of a SHA-256 sum, in either case.
func ParseDigest(s string) (Digest, error) {
	var d Digest
	if len(s) != hex.EncodedLen(len(d)) {
		return Digest{}, fmt.Errorf("not a SHA-256 sum: %d characters, want %d", len(s), hex.EncodedLen(len(d)))
	}
	if _, err := hex.Decode(d[:], []byte(s)); err != nil {
		return Digest{}, fmt.Errorf("not a SHA-256 sum: %w", err)
	}
	return d, nil
}

// String returns the 64 lower-case hexadecimal digits.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// Short returns the first 12 digits, for logs.
func (d Digest) Short() string { return hex.EncodeToString(d[:6]) }

// IsZero reports whether the digest is not known.
func (d Digest) IsZero() bool { return d == Digest{} }

// MarshalText writes the digest as in String; the zero Digest as "".
func (d Digest) MarshalText() ([]byte, error) {
	if d.IsZero() {
		return nil, nil
	}
	return []byte(d.String()), nil
}

// UnmarshalText is the reverse of MarshalText.
func (d *Digest) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		*d = Digest{}
		return nil
	}
	parsed, err := ParseDigest(string(b))
	if err != nil {
		return err
	}
	*d = parsed
	return nil
}

// UnknownSize is the Size of a Ref whose length is not known yet.
const UnknownSize = -1

// Ref is all one needs to prove a blob: its digest and its length in bytes.
// Size is UnknownSize where only the name is known (a request by a name made of a sum, for a
// generation this node has not seen).
type Ref struct {
	Digest Digest `json:"digest"`
	Size   int64  `json:"size"`
}

// IsZero reports whether the ref names nothing.
func (r Ref) IsZero() bool { return r.Digest.IsZero() }

func (r Ref) String() string { return fmt.Sprintf("%s/%d", r.Digest.Short(), r.Size) }
