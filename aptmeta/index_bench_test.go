package aptmeta

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
)

// syntheticPackages makes a Packages of at least size bytes with the shape of
// Debian's main: some 22 lines and 800 bytes to a stanza. It compresses about as
// well as the real one, for the dependencies come from a small vocabulary and the
// sums from none.
func syntheticPackages(size int) []byte {
	rng := rand.New(rand.NewPCG(1, 2))
	var b bytes.Buffer
	b.Grow(size + 4096)
	words := make([]string, 2000)
	for i := range words {
		words[i] = fmt.Sprintf("lib%c%cx%d", 'a'+rng.IntN(26), 'a'+rng.IntN(26), rng.IntN(3000))
	}
	sum := func(n int) []byte {
		s := make([]byte, n)
		for i := range s {
			s[i] = byte(rng.Uint32())
		}
		return s
	}
	for i := 0; b.Len() < size; i++ {
		name := fmt.Sprintf("%s%d", words[i%len(words)], i)
		fmt.Fprintf(&b, "Package: %s\nVersion: %d.%d-%d\nInstalled-Size: %d\nMaintainer: Some Team <team%d@example.org>\nArchitecture: amd64\n",
			name, rng.IntN(20), rng.IntN(40), rng.IntN(9), rng.IntN(100000), rng.IntN(50))
		b.WriteString("Depends: libc6 (>= 2.34)")
		for range rng.IntN(12) {
			fmt.Fprintf(&b, ", %s (>= %d.%d)", words[rng.IntN(len(words))], rng.IntN(9), rng.IntN(30))
		}
		fmt.Fprintf(&b, "\nSuggests: %s-doc\nDescription: a package of %s for tests\nHomepage: https://example.org/%s\nDescription-md5: %x\n",
			name, words[rng.IntN(len(words))], name, sum(16))
		fmt.Fprintf(&b, "Multi-Arch: same\nTag: implemented-in::c, role::shared-lib, devel::library,\n x11::library\nSection: libs\nPriority: optional\n")
		fmt.Fprintf(&b, "Filename: pool/main/%c/%s/%s_%d.%d_amd64.deb\nSize: %d\nMD5sum: %x\nSHA256: %x\n\n",
			name[0], name, name, rng.IntN(20), rng.IntN(40), rng.IntN(1<<24), sum(16), sum(32))
	}
	return b.Bytes()
}

var benchPackages = sync.OnceValue(func() []byte { return syntheticPackages(50 << 20) })

// BenchmarkParseIndex is what a node spends on main's Packages at each adoption,
// beside decompressing it.
func BenchmarkParseIndex(b *testing.B) {
	data := benchPackages()
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		files := 0
		err := ParseIndex(Packages, "main/binary-amd64/Packages", bytes.NewReader(data), func(File) error {
			files++
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(files), "files")
	}
}

// BenchmarkDecompress gives plain bytes per second of each format.
