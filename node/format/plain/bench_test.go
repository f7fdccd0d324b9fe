package plain

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/ulikunitz/xz"
)

// someIndex makes at least size bytes with the shape of an index: words that come again, numbers,
// and sums that no compression shrinks.
func someIndex(size int) []byte {
	rng := rand.New(rand.NewPCG(1, 2))
	var b bytes.Buffer
	b.Grow(size + 4096)
	for i := 0; b.Len() < size; i++ {
		fmt.Fprintf(&b, "name: lib%d\nversion: %d.%d\nsize: %d\nneeds:", i, rng.IntN(20), rng.IntN(40), rng.IntN(1e6))
		for range rng.IntN(12) {
			fmt.Fprintf(&b, " lib%d", rng.IntN(2000))
		}
		fmt.Fprintf(&b, "\nsha256: %016x%016x%016x%016x\n\n", rng.Uint64(), rng.Uint64(), rng.Uint64(), rng.Uint64())
	}
	return b.Bytes()
}

// BenchmarkDecompress gives plain bytes per second of each format.
func BenchmarkDecompress(b *testing.B) {
	data := someIndex(16 << 20)
	for _, format := range []string{".gz", ".xz", ".zst"} {
		packed := compress(b, format, data)
		b.Run(format[1:], func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			b.ReportMetric(float64(len(data))/float64(len(packed)), "ratio")
			for b.Loop() {
				r, err := Decompress("Packages"+format, bytes.NewReader(packed), int64(len(data)))
				if err != nil {
					b.Fatal(err)
				}
				if _, err := io.Copy(io.Discard, r); err != nil {
					b.Fatal(err)
				}
				r.Close()
			}
		})
	}
}

// compress packs data in a format that there is a Go writer for.
func compress(tb testing.TB, ext string, data []byte) []byte {
	tb.Helper()
	var b bytes.Buffer
	var w io.WriteCloser
	var err error
	switch ext {
	case "":
		return data
	case ".gz":
		w = gzip.NewWriter(&b)
	case ".xz":
		w, err = xz.NewWriter(&b)
	case ".zst":
		w, err = zstd.NewWriter(&b)
	case ".lz4":
		w = lz4.NewWriter(&b)
	default:
		tb.Fatalf("no writer for %s", ext)
	}
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := w.Write(data); err != nil {
		tb.Fatal(err)
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}
