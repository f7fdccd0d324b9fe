package plain

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

const packed = "Package: hello\nVersion: 2.10-3\n\nPackage: world\nVersion: 2.11-1\n"

// packedBy holds that text as the reference tools pack it: what the Go writers
// never make is what a reader gets wrong.
var packedBy = []struct{ name, ext, base64 string }{
	{"xz --check=none", ".xz", "/Td6WFoAAAD/EtlBAgAhARYAAAB0L+Wj4AA+ADBdACgYSGbb2jCF/hblXKh4+VxOOUP4af9UyCy9UbYAMt0a5QFSCIcrhq+NcQImAz0kwAAAAUQ/FxL1AgZynnoBAAAAAABZWg=="},
	{"xz --check=crc32", ".xz", "/Td6WFoAAAFpIt42AgAhARYAAAB0L+Wj4AA+ADBdACgYSGbb2jCF/hblXKh4+VxOOUP4af9UyCy9UbYAMt0a5QFSCIcrhq+NcQImAz0kwABNyp7DAAFIPxtdQK6QQpkNAQAAAAABWVo="},
	{"xz", ".xz", "/Td6WFoAAATm1rRGAgAhARYAAAB0L+Wj4AA+ADBdACgYSGbb2jCF/hblXKh4+VxOOUP4af9UyCy9UbYAMt0a5QFSCIcrhq+NcQImAz0kwACZ8q1LON5sfAABTD8fmCzKH7bzfQEAAAAABFla"},
	{"xz --check=sha256", ".xz", "/Td6WFoAAArh+wyhAgAhARYAAAB0L+Wj4AA+ADBdACgYSGbb2jCF/hblXKh4+VxOOUP4af9UyCy9UbYAMt0a5QFSCIcrhq+NcQImAz0kwABfVCxk9iftNFBbfXMMGwc+FZUj3nnacaf3cTrCQG7WyAABZD+1NnGXGJtLmgEAAAAAClla"},
	{"xz --block-size=24", ".xz", "/Td6WFoAAATm1rRGAgAhARYAAAB0L+WjAQAXUGFja2FnZTogaGVsbG8KVmVyc2lvbjogANpQJHknOw1FAgAhARYAAAB0L+WjAQAXMi4xMC0zCgpQYWNrYWdlOiB3b3JsZApWAMOIsrIVzxPkAgAhARYAAAB0L+WjAQAOZXJzaW9uOiAyLjExLTEKAADJj4fNj2izsQADMBgwGCcPh7tEqLHEZ/sCAAAAAARZWg=="},
	{"xz -T2 --block-size=24", ".xz", "/Td6WFoAAATm1rRGAsAcGCEBFgCHTkrKAQAXUGFja2FnZTogaGVsbG8KVmVyc2lvbjogANpQJHknOw1FAsAcGCEBFgCHTkrKAQAXMi4xMC0zCgpQYWNrYWdlOiB3b3JsZApWAMOIsrIVzxPkAsATDyEBFgDAt9zpAQAOZXJzaW9uOiAyLjExLTEKAADJj4fNj2izsQADMBgwGCcPh7tEqLHEZ/sCAAAAAARZWg=="},
	{"xz --format=lzma", ".lzma", "XQAAgAD//////////wAoGEhm29owhf4W5VyoePlcTjlD+Gn/VMgsvVG2ADLdGuUBUgiHK4avjXECJgSq3Zv//1SmAAA="},
	{"bzip2", ".bz2", "QlpoOTFBWSZTWQrL/ngAAAzbgAAQQAN4EEEALu2YgCAASEqmTQeSDRnqIGoNA0AANtYrpwkzkWg45mihMOSxQVS1SRPAjHDIJ6PLIMD/i7kinChIBWX/PAA="},
	{"zstd", ".zst", "KLUv/SQ/nQEAlAJQYWNrYWdlOiBoZWxsbwpWZXJzaW9uOiAyLjEwLTMKCndvcmxkMS0xCgIA4GiMQj0BlV9gSA=="},
}

func unbase64(tb testing.TB, s string) []byte {
	tb.Helper()
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func decompress(name string, data io.Reader, limit int64) ([]byte, error) {
	r, err := Decompress(name, data, limit)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

func TestDecompressReference(t *testing.T) {
	for _, test := range packedBy {
		t.Run(test.name, func(t *testing.T) {
			data := unbase64(t, test.base64)
			for _, r := range []io.Reader{
				bytes.NewReader(data), iotest.OneByteReader(bytes.NewReader(data)), iotest.DataErrReader(bytes.NewReader(data)),
			} {
				if got, err := decompress("x"+test.ext, r, int64(len(packed))); err != nil || string(got) != packed {
					t.Errorf("got %q, %v", got, err)
				}
			}
			if got, err := decompress("x"+test.ext, bytes.NewReader(data), int64(len(packed)-1)); !errors.Is(err, ErrTooLarge) || len(got) != len(packed)-1 {
				t.Errorf("over the limit: %q, %v", got, err)
			}
			// Cut short it never passes for whole.
			for i := range data {
				if got, err := decompress("x"+test.ext, bytes.NewReader(data[:i]), 1<<12); err == nil {
					t.Errorf("the first %d of %d bytes give %q without an error", i, len(data), got)
				}
			}
			if test.ext == ".lzma" || test.name == "xz --check=none" {
				return // no checksum of the content
			}
			for i := range data {
				damaged := bytes.Clone(data)
				damaged[i] ^= 0x10
				if got, err := decompress("x"+test.ext, bytes.NewReader(damaged), 1<<12); err == nil && string(got) != packed {
					t.Errorf("byte %d damaged: %q without an error", i, got)
				}
			}
		})
	}
}

func TestDecompressRoundTrip(t *testing.T) {
	data := someIndex(300 << 10)
	for _, ext := range []string{"", ".gz", ".xz", ".zst", ".lz4"} {
		small := compress(t, ext, data)
		if got, err := decompress("x"+ext, bytes.NewReader(small), int64(len(data))); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%q: %d bytes, %v", ext, len(got), err)
		}
		if ext == "" {
			continue
		}
		twice := append(bytes.Clone(small), small...)
		if got, err := decompress("x"+ext, bytes.NewReader(twice), int64(2*len(data))); err != nil || !bytes.Equal(got, append(bytes.Clone(data), data...)) {
			t.Errorf("%q twice: %d bytes, %v", ext, len(got), err)
		}
		// zlib hands a page out as it is, and so does apt.
		if _, err := decompress("x"+ext, strings.NewReader("<html>It works!</html>"), 1<<20); !errors.Is(err, ErrCorrupt) && ext != ".gz" {
			t.Errorf("%q: a page: %v", ext, err)
		}
	}
	padded := append(append(compress(t, ".xz", data), make([]byte, 8)...), compress(t, ".xz", nil)...)
	if got, err := decompress("x.xz", bytes.NewReader(append(padded, 0, 0, 0, 0)), 1<<30); err != nil || !bytes.Equal(got, data) {
		t.Errorf("xz with padding: %d bytes, %v", len(got), err)
	}
}

func TestDecompressArguments(t *testing.T) {
	if _, err := Decompress("x.gz", strings.NewReader(""), -1); err == nil {
		t.Error("a negative limit is accepted")
	}
	for _, ext := range []string{".xz", ".bz2", ".zst", ".lzma"} {
		if _, err := decompress("Packages"+ext, strings.NewReader(""), 1); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "Packages"+ext) {
			t.Errorf("empty %s: %v", ext, err)
		}
	}
	boom := errors.New("boom")
	for _, ext := range []string{"", ".gz", ".xz", ".bz2", ".zst", ".lzma", ".lz4"} {
		if _, err := decompress("x"+ext, iotest.ErrReader(boom), 1); !errors.Is(err, boom) || errors.Is(err, ErrCorrupt) {
			t.Errorf("a reader that fails, %s: %v", ext, err)
		}
	}
	r, err := Decompress("x", strings.NewReader("abc"), 3)
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	if _, err := r.Read(make([]byte, 1)); err == nil {
		t.Error("it can be read after Close")
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}

// askFor lets the header of the first block of an xz file ask for a dictionary.
func askFor(xz []byte, size byte) []byte {
	xz = bytes.Clone(xz)
	const header, dict = 12, 12 + 4
	length := (int(xz[header]) + 1) * 4
	xz[dict] = size
	binary.LittleEndian.PutUint32(xz[header+length-4:], crc32.ChecksumIEEE(xz[header:header+length-4]))
	return xz
}

// TestDecompressHostile holds that no header makes us allocate what it asks for.
func TestDecompressHostile(t *testing.T) {
	xz := unbase64(t, packedBy[2].base64)
	if got, err := decompress("x.xz", bytes.NewReader(askFor(xz, 22)), 1<<30); err != nil || string(got) != packed {
		t.Fatalf("the header is not where it should be: %q, %v", got, err)
	}
	const fourGiB, oneGiB, oneAndAHalfGiB = 40, 36, 37
	lzma := unbase64(t, packedBy[6].base64)
	binary.LittleEndian.PutUint32(lzma[1:], 0xffffffff)
	bomb := compress(t, ".xz", make([]byte, 4<<20))
	tests := []struct {
		name, ext string
		data      io.Reader
		limit     int64
		mayUse    uint64
		mentions  string // "": it is read
	}{
		{"xz asks for 4 GiB", ".xz", bytes.NewReader(askFor(xz, fourGiB)), 1 << 33, 1 << 20, "dictionary"},
		{"xz asks for 1 GiB", ".xz", bytes.NewReader(askFor(xz, oneGiB)), 1 << 33, 1 << 20, "dictionary"},
		{"xz asks for 1.5 GiB and can use 1 MiB", ".xz", bytes.NewReader(askFor(xz, oneAndAHalfGiB)), 1 << 20, 3 << 20, ""},
		{"lzma asks for 4 GiB", ".lzma", bytes.NewReader(lzma), 1 << 33, 1 << 20, "dictionary"},
		{"zstd asks for 2 TiB", ".zst", strings.NewReader("\x28\xb5\x2f\xfd\x00\xf8\x01\x00\x00"), 1 << 33, 1 << 20, "window"},
		{"zstd asks for 144 MiB", ".zst", strings.NewReader("\x28\xb5\x2f\xfd\x00\x89\x01\x00\x00"), 1 << 33, 1 << 20, "window"},
		{"zstd asks for 128 MiB", ".zst", strings.NewReader("\x28\xb5\x2f\xfd\x00\x88\x01\x00\x00"), 1 << 33, MaxDecompressMemory, ""},
		{"xz asks for 128 MiB", ".xz", bytes.NewReader(askFor(xz, 30)), 1 << 33, MaxDecompressMemory, ""},
		{"xz asks for 192 MiB", ".xz", bytes.NewReader(askFor(xz, 31)), 1 << 33, 1 << 20, "dictionary"},
		{"a bomb of zeros", ".xz", bytes.NewReader(bomb), 1 << 20, 4 << 20, ErrTooLarge.Error()},
		{"small blocks, large dictionaries", ".xz", manyBlocks(xz, 200), 1 << 33, xzBudget + 20<<20, "small blocks"},
		{"plain without end", "", zeros{}, 1 << 20, 8 << 20, ErrTooLarge.Error()},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			r, err := Decompress("x"+test.ext, test.data, test.limit)
			if err == nil {
				_, err = io.Copy(io.Discard, r)
				r.Close()
			}
			runtime.ReadMemStats(&after)
			if (err != nil) != (test.mentions != "") || err != nil && !strings.Contains(err.Error(), test.mentions) {
				t.Errorf("error %v does not mention %q", err, test.mentions)
			}
			if used := after.TotalAlloc - before.TotalAlloc; used > test.mayUse {
				t.Errorf("allocated %d bytes, may %d", used, test.mayUse)
			}
		})
	}
}

// TestXZIndex holds that the index at the end of a stream must fit its blocks.
func TestXZIndex(t *testing.T) {
	xz := unbase64(t, packedBy[2].base64)
	index := bytes.Index(xz, []byte{0x00, 0x01, 0x4c, 0x3f}) // one block of 0x4c bytes, 0x3f plain
	for at, damage := range map[int]byte{0: 0, 1: 2, 2: 0x4d, 3: 0x3e} {
		changed := bytes.Clone(xz)
		changed[index+at] = damage
		binary.LittleEndian.PutUint32(changed[index+4:], crc32.ChecksumIEEE(changed[index:index+4]))
		if _, err := decompress("x.xz", bytes.NewReader(changed), 1<<20); (err == nil) != (at == 0) {
			t.Errorf("byte %d of the index changed to %d: %v", at, damage, err)
		}
	}
}

// oddFile is a compressed file in a form that the usual tools do not make.
type oddFile struct {
	name, ext string
	data      []byte
	want      string
	is        error
	unlikeApt bool // apt reads the first stream only; zlib reports no end that comes too early
}

func oddFiles(tb testing.TB) []oddFile {
	tb.Helper()
	var files []oddFile
	add := func(name, ext, want string, is error, parts ...[]byte) {
		files = append(files, oddFile{name, ext, bytes.Join(parts, nil), want, is, false})
	}
	zeros, garbage := make([]byte, 10), []byte("garbage behind it, and more of it")
	xz, lzma := unbase64(tb, packedBy[2].base64), unbase64(tb, packedBy[6].base64)
	gz, zst, lz4 := compress(tb, ".gz", []byte(packed)), unbase64(tb, packedBy[8].base64), compress(tb, ".lz4", []byte(packed))
	bz2 := unbase64(tb, packedBy[7].base64)
	skippable := []byte("\x50\x2a\x4d\x18\x03\x00\x00\x00abc")
	for _, f := range []struct {
		ext  string
		data []byte
	}{{".gz", gz}, {".xz", xz}, {".bz2", bz2}, {".lz4", lz4}} {
		add("zeros behind "+f.ext, f.ext, packed, nil, f.data, zeros)
		add("garbage behind "+f.ext, f.ext, packed, nil, f.data, garbage)
		add("two streams of "+f.ext, f.ext, packed+packed, nil, f.data, f.data)
		files[len(files)-1].unlikeApt = f.ext != ".gz"
		add("two streams of "+f.ext+" and garbage", f.ext, packed+packed, nil, f.data, f.data, garbage)
		files[len(files)-1].unlikeApt = f.ext != ".gz"
		add("half of "+f.ext, f.ext, "", ErrCorrupt, f.data[:len(f.data)/2])
		files[len(files)-1].unlikeApt = f.ext == ".gz"
	}
	add("not gzip", ".gz", packed, nil, []byte(packed))
	add("empty gzip", ".gz", "", nil)
	add("one byte of gzip", ".gz", "\x1f", nil, gz[:1])
	add("an empty member", ".gz", packed, nil, compress(tb, ".gz", nil), gz)
	add("half a member behind gzip", ".gz", "", ErrCorrupt, gz, gz[:len(gz)/2])
	files[len(files)-1].unlikeApt = true
	add("gzip damaged", ".gz", "", ErrCorrupt, gz[:len(gz)-8], zeros[:8])
	add("xz under the name of lzma", ".lzma", packed, nil, xz)
	add("lzma under the name of xz", ".xz", packed, nil, lzma)
	add("xz with padding of another length", ".xz", packed, nil, xz, zeros[:3])
	add("two frames of zstd", ".zst", packed+packed, nil, zst, zst)
	add("skippable frames of zstd", ".zst", packed, nil, skippable, zst, skippable)
	add("garbage behind zstd", ".zst", "", ErrCorrupt, zst, garbage)
	add("half of zstd", ".zst", "", ErrCorrupt, zst[:len(zst)/2])
	return files
}

func TestDecompressOddFiles(t *testing.T) {
	for _, test := range oddFiles(t) {
		for _, r := range []io.Reader{bytes.NewReader(test.data), iotest.OneByteReader(bytes.NewReader(test.data))} {
			got, err := decompress("x"+test.ext, r, 1<<20)
			if !errors.Is(err, test.is) || err == nil && string(got) != test.want {
				t.Errorf("%s: %q, %v", test.name, got, err)
			}
		}
	}
}

// TestDecompressAsApt holds that the apt of this machine reads the same bytes from the same file.
func TestDecompressAsApt(t *testing.T) {
	const helper = "/usr/lib/apt/apt-helper"
	if _, err := os.Stat(helper); err != nil {
		t.Skip("apt is not installed: nothing to compare with")
	}
	dir := t.TempDir()
	for _, test := range oddFiles(t) {
		name := filepath.Join(dir, "odd"+test.ext)
		if err := os.WriteFile(name, test.data, 0o644); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(helper, "cat-file", name).CombinedOutput()
		said := string(out)
		if !test.unlikeApt && ((err != nil) != (test.is != nil) || err == nil && said != test.want) {
			t.Errorf("%s: apt reads %q, %v", test.name, said, err)
		}
	}
}

// TestDecompressUnsupported tells apart what nobody but we is to blame for.
func TestDecompressUnsupported(t *testing.T) {
	xz := unbase64(t, packedBy[2].base64)
	filters := bytes.Clone(xz)
	filters[13] = 1 // two filters
	length := (int(filters[12]) + 1) * 4
	binary.LittleEndian.PutUint32(filters[12+length-4:], crc32.ChecksumIEEE(filters[12:12+length-4]))
	lzma := unbase64(t, packedBy[6].base64)
	binary.LittleEndian.PutUint32(lzma[1:], 512<<20)
	for name, test := range map[string]struct {
		ext  string
		data []byte
	}{
		"xz with a filter": {".xz", filters},
		"xz dictionary":    {".xz", askFor(xz, 36)},
		"lzma dictionary":  {".lzma", lzma},
		"zstd window":      {".zst", []byte("\x28\xb5\x2f\xfd\x00\x89\x01\x00\x00")},
		"zstd dictionary":  {".zst", []byte("\x28\xb5\x2f\xfd\x21\x07\x03\x01\x00\x00")},
	} {
		_, err := decompress("x"+test.ext, bytes.NewReader(test.data), 1<<33)
		if !errors.Is(err, ErrUnsupported) || errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// zeros never ends.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// manyBlocks makes an xz file of n equal blocks that each ask for 64 MiB.
func manyBlocks(xz []byte, n int) io.Reader {
	const sixtyFourMiB = 28
	xz = askFor(xz, sixtyFourMiB)
	// Header of the stream, one block with its check, then the index.
	block := xz[12:bytes.Index(xz, []byte{0x00, 0x01, 0x4c})]
	return bytes.NewReader(append(bytes.Clone(xz[:12]), bytes.Repeat(block, n)...))
}

// FuzzDecompress holds the limit on any input, and that the answer does not depend
// on how the stream is cut into reads.
func FuzzDecompress(f *testing.F) {
	exts := []string{"", ".gz", ".xz", ".bz2", ".zst", ".lzma", ".lz4"}
	for _, seed := range packedBy {
		for i, ext := range exts {
			if ext == seed.ext {
				f.Add(uint8(i), unbase64(f, seed.base64))
			}
		}
	}
	f.Add(uint8(1), compress(f, ".gz", []byte(packed)))
	f.Add(uint8(6), compress(f, ".lz4", []byte(packed)))
	for _, odd := range oddFiles(f) {
		f.Add(uint8(slices.Index(exts, odd.ext)), odd.data)
	}
	f.Fuzz(func(t *testing.T, format uint8, data []byte) {
		const limit = 1 << 16
		ext := exts[int(format)%len(exts)]
		got, err := decompress("x"+ext, bytes.NewReader(data), limit)
		if len(got) > limit {
			t.Fatalf("%d bytes", len(got))
		}
		pieces, errPieces := decompress("x"+ext, iotest.OneByteReader(bytes.NewReader(data)), limit)
		if !bytes.Equal(got, pieces) || (err == nil) != (errPieces == nil) {
			t.Fatalf("in one piece %q, %v; in many %q, %v", got, err, pieces, errPieces)
		}
	})
}
