package rpmarchive

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"

	"github.com/klauspost/compress/zstd"
)

// Zchunk packs text as a zchunk file (zchunk_format.txt): each chunk begins at the mark, and the
// first kilobytes of the text are the dictionary of all.
func Zchunk(text, mark []byte) []byte {
	dict := text[:min(len(text), 2<<10)]
	if len(dict) < 8 {
		dict = nil
	}
	plainEncoder, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	must(err)
	opts := []zstd.EOption{zstd.WithEncoderConcurrency(1)}
	if dict != nil {
		opts = append(opts, zstd.WithEncoderDictRaw(0, dict))
	}
	encoder, err := zstd.NewWriter(nil, opts...)
	must(err)

	var index, data bytes.Buffer
	add := func(e *zstd.Encoder, plain []byte) {
		var packed []byte
		sum := make([]byte, 16)
		if len(plain) > 0 {
			packed = e.EncodeAll(plain, nil)
			s := sha512.Sum512(packed)
			copy(sum, s[:])
		}
		index.Write(sum)
		index.Write(varint(len(packed)))
		index.Write(varint(len(plain)))
		data.Write(packed)
	}
	add(plainEncoder, dict)
	chunks := 1
	for rest := text; len(rest) > 0; chunks++ {
		end := len(rest)
		if i := bytes.Index(rest[1:], mark); i >= 0 {
			end = i + 1
		}
		add(encoder, rest[:end])
		rest = rest[end:]
	}
	const half512, zstdKind, sha256Kind = 3, 2, 1
	entries := bytes.Join([][]byte{varint(half512), varint(chunks), index.Bytes()}, nil)
	sum := sha256.Sum256(data.Bytes())
	header := bytes.Join([][]byte{sum[:], varint(0), varint(zstdKind), varint(len(entries)), entries, varint(0)}, nil)
	lead := bytes.Join([][]byte{[]byte("\x00ZCK1"), varint(sha256Kind), varint(len(header))}, nil)
	headerSum := sha256.Sum256(append(bytes.Clone(lead), header...))
	return bytes.Join([][]byte{lead, headerSum[:], header, data.Bytes()}, nil)
}

// varint writes a number of seven bits a byte, the lowest first; the last byte has its highest bit
// set.
func varint(n int) []byte {
	var b []byte
	for ; n > 0x7f; n >>= 7 {
		b = append(b, byte(n&0x7f))
	}
	return append(b, byte(n)|0x80)
}

func must(err error) {
	if err != nil {
		panic("rpmarchive: " + err.Error())
	}
}
