package view

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/bits"
)

// Seed is the secret under which the paths of one archive are hashed. The caller keeps it beside
// the lists that are made under it; without it they are worth nothing and are made again.
type Seed [16]byte

// NewSeed makes a seed from the system's randomness.
func NewSeed() Seed {
	var s Seed
	rand.Read(s[:]) // never fails
	return s
}

// MarshalText writes the 32 hexadecimal digits of the seed.
func (s Seed) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(s[:])), nil }

// UnmarshalText reads what MarshalText wrote.
func (s *Seed) UnmarshalText(b []byte) error {
	if len(b) != hex.EncodedLen(len(s)) {
		return fmt.Errorf("a seed of %d digits, want %d", len(b), hex.EncodedLen(len(s)))
	}
	_, err := hex.Decode(s[:], b)
	return err
}

// mark identifies the seed of a list, without revealing the seed.
func (s Seed) mark() uint64 { return s.hash([]byte("the seed of a list of files")) }

// hash is SipHash-2-4 (Aumasson and Bernstein, "SipHash: a fast short-input PRF", 2012). A secret
// seed of xxHash would not do: it has pairs of inputs that collide under half of all seeds.
func (s Seed) hash(b []byte) uint64 {
	k0, k1 := binary.LittleEndian.Uint64(s[:]), binary.LittleEndian.Uint64(s[8:])
	v := sip{k0 ^ 0x736f6d6570736575, k1 ^ 0x646f72616e646f6d, k0 ^ 0x6c7967656e657261, k1 ^ 0x7465646279746573}
	last := uint64(len(b)) << 56
	for ; len(b) >= 8; b = b[8:] {
		v.word(binary.LittleEndian.Uint64(b))
	}
	for i, c := range b {
		last |= uint64(c) << (8 * i)
	}
	v.word(last)
	v.v2 ^= 0xff
	for range 4 {
		v.round()
	}
	return v.v0 ^ v.v1 ^ v.v2 ^ v.v3
}

type sip struct{ v0, v1, v2, v3 uint64 }

func (v *sip) word(m uint64) {
	v.v3 ^= m
	v.round()
	v.round()
	v.v0 ^= m
}

func (v *sip) round() {
	v.v0 += v.v1
	v.v2 += v.v3
	v.v1 = bits.RotateLeft64(v.v1, 13) ^ v.v0
	v.v3 = bits.RotateLeft64(v.v3, 16) ^ v.v2
	v.v0 = bits.RotateLeft64(v.v0, 32) + v.v3
	v.v2 += v.v1
	v.v3 = bits.RotateLeft64(v.v3, 21) ^ v.v0
	v.v1 = bits.RotateLeft64(v.v1, 17) ^ v.v2
	v.v2 = bits.RotateLeft64(v.v2, 32)
}
