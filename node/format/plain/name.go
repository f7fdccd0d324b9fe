package plain

import "strings"

// TrimCompression splits a path into the name of the uncompressed file and the
// suffix that names its compression, with the dot; ext is "" where there is none. It knows the
// suffixes that Decompress reads.
func TrimCompression(name string) (base, ext string) {
	i := strings.LastIndexByte(name, '.')
	if i < 0 {
		return name, ""
	}
	switch ext = name[i:]; ext {
	case ".gz", ".xz", ".bz2", ".zst", ".lzma", ".lz4":
		return name[:i], ext
	}
	return name, ""
}
