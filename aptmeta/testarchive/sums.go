package testarchive

import (
	"bytes"
	"compress/gzip"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"io"
	"math/bits"
	"sync"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
	"github.com/ulikunitz/xz/lzma"
)

// The names of the hash blocks of a Release, and of the by-hash directories.
const (
	MD5Sum = "MD5Sum"
	SHA1   = "SHA1"
	SHA256 = "SHA256"
	SHA512 = "SHA512"
)

// Sum returns the hexadecimal sum of b by the algorithm of that name.
func Sum(hash string, b []byte) string {
	switch hash {
	case MD5Sum:
		s := md5.Sum(b)
		return hex.EncodeToString(s[:])
	case SHA1:
		s := sha1.Sum(b)
		return hex.EncodeToString(s[:])
	case SHA256:
		s := sha256.Sum256(b)
		return hex.EncodeToString(s[:])
	case SHA512:
		s := sha512.Sum512(b)
		return hex.EncodeToString(s[:])
	}
	panic("testarchive: no hash is called " + hash)
}

// compressor remembers what it compressed: most indices do not change from one
// generation to the next.
type compressor struct {
	mu   sync.Mutex
	done map[compressKey][]byte
}

type compressKey struct {
	ext string
	sum [sha256.Size]byte
}

func (c *compressor) compress(ext string, b []byte) []byte {
	if ext == "" {
		return b
	}
	key := compressKey{ext, sha256.Sum256(b)}
	c.mu.Lock()
	defer c.mu.Unlock()
	if out, ok := c.done[key]; ok {
		return out
	}
	out := Compress(ext, b)
	if c.done == nil {
		c.done = map[compressKey][]byte{}
	}
	c.done[key] = out
	return out
}

var gzipWriters = sync.Pool{New: func() any { return gzip.NewWriter(nil) }}

// Compress compresses b in the format of the suffix: .gz, .xz, .zst or .lzma, or
// "" for b itself. The result depends on nothing else.
func Compress(ext string, b []byte) []byte {
	var buf bytes.Buffer
	var w io.WriteCloser
	var err error
	// A dictionary larger than the text only costs time to clear; liblzma wants
	// a power of two.
	dict := 1 << min(max(bits.Len(uint(len(b))), 16), 23)
	switch ext {
	case "":
		return b
	case ".gz":
		gz := gzipWriters.Get().(*gzip.Writer)
		defer gzipWriters.Put(gz)
		gz.Reset(&buf)
		w = gz
	case ".xz":
		w, err = xz.WriterConfig{DictCap: dict}.NewWriter(&buf)
	case ".lzma":
		w, err = lzma.WriterConfig{DictCap: dict}.NewWriter(&buf)
	case ".zst":
		w, err = zstd.NewWriter(&buf, zstd.WithEncoderConcurrency(1))
	default:
		panic("testarchive: no compression has the suffix " + ext)
	}
	must(err)
	_, err = w.Write(b)
	must(err)
	must(w.Close())
	return buf.Bytes()
}
