package view

import "testing"

// The vectors are those of the authors' paper (appendix A) and reference programme.
func TestSipHash(t *testing.T) {
	var key Seed
	var in [64]byte
	for i := range in {
		in[i] = byte(i)
	}
	copy(key[:], in[:])
	for n, want := range map[int]uint64{
		0: 0x726fdb47dd0e0e31, 1: 0x74f839c593dc67fd, 7: 0xab0200f58b01d137, 8: 0x93f5f5799a932462,
		15: 0xa129ca6149be45e5, 63: 0x958a324ceb064572,
	} {
		if got := key.hash(in[:n]); got != want {
			t.Errorf("%d bytes: %x, want %x", n, got, want)
		}
	}
	path := string(make([]byte, 100))
	if n := testing.AllocsPerRun(100, func() { key.hash([]byte(path)) }); n > 0 {
		t.Errorf("hashing a string allocates %v times", n)
	}
}

func TestSeedText(t *testing.T) {
	s := NewSeed()
	if s == NewSeed() {
		t.Fatal("two seeds are equal")
	}
	text, _ := s.MarshalText()
	var got Seed
	if err := got.UnmarshalText(text); err != nil || got != s {
		t.Errorf("%s became %x: %v", text, got, err)
	}
	for _, bad := range []string{"", "00", string(text) + "00", "zz" + string(text[2:])} {
		if got.UnmarshalText([]byte(bad)) == nil {
			t.Errorf("%q is read as a seed", bad)
		}
	}
}
