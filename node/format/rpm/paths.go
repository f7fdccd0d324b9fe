package rpm

import (
	"encoding/hex"
	"slices"
	"strings"
	"time"

	"github.com/aptmesh/aptmesh/node/format/plain"
	"github.com/aptmesh/aptmesh/proto"
)

// How long a request is held back in place of an error that may pass. librepo asks up to four times without a
// pause, and gives up a transfer that brings less than 1,000 bytes a second for 30 seconds; zypper asks once, and
// waits for 60. Of a root that cannot be had, four times the short one is enough to learn that.
const (
	holdRoot = 6 * time.Second
	holdFile = 25 * time.Second
)

// PathInfo goes by the name alone. Only a root is metadata by its name: whoever makes up other names
// must not stand before clients that wait for what is listed.
func (f *Format) PathInfo(path string) proto.PathInfo {
	info := proto.PathInfo{Kind: "other", Class: proto.ClassUnlisted}
	_, name := splitDir(path)
	switch _, inMetadata, ok := cutMetadata(path); {
	case ok:
		info.Kind, info.Index = "index", true
		switch inMetadata {
		case "repomd.xml", "repomd.xml.asc", "repomd.xml.key":
			// librepo asks for it with no-cache each time (yum.c, lr_yum_download_repomd).
			info = proto.PathInfo{Kind: "root", Root: true, Class: proto.ClassMetadata, NoCacheByHabit: true}
		default:
			info.Hash, info.Immutable = hashName(name)
			if info.Immutable {
				info.Proof = proto.ProofHint
			}
		}
	case isPackage(path):
		info.Kind, info.Package = "package", true
	case slices.Contains(treeNames, name):
		info = proto.PathInfo{Kind: "root", Root: true, Class: proto.ClassMetadata, Probed: true}
	default:
		info.Page = mayBePage(name)
	}
	info.ContentType, info.Hold = contentType(name), holdRoot
	if info.Package || info.Index {
		info.Hold = holdFile
	}
	return info
}

// hashName reads the sum that a name begins with: <sum>-primary.xml.gz. createrepo_c and all others
// that write such names put the file's own sum there; nothing makes them.
func hashName(name string) (h proto.HashName, ok bool) {
	digits, _, ok := strings.Cut(name, "-")
	if !ok {
		return h, false
	}
	switch len(digits) {
	case 32:
		h.Kind = proto.HashMD5
	case 40:
		h.Kind = proto.HashSHA1
	case 64:
		h.Kind = proto.HashSHA256
	case 128:
		h.Kind = proto.HashSHA512
	default:
		return h, false
	}
	for i := range len(digits) / 2 {
		hi, lo := hexValue(digits[2*i]), hexValue(digits[2*i+1])
		if hi > 15 || lo > 15 {
			return proto.HashName{}, false
		}
		h.Sum[i] = hi<<4 | lo
	}
	return h, true
}

func hexValue(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10
	}
	return 0xff
}

// mayBePage reports whether a file that no client knows may be an HTML page, such as a listing of a
// directory. What installers and zypper probe for is none: media.1/media, .treeinfo, license files.
func mayBePage(name string) bool {
	_, ext := plain.TrimCompression(name)
	if ext != "" || strings.HasPrefix(name, ".") || strings.HasPrefix(name, "RPM-GPG-KEY") {
		return false
	}
	switch name {
	case "media", "products", "content", "directory.yast", "mirrorlist", "metalink":
		return false
	}
	for _, suffix := range []string{".asc", ".key", ".tar", ".img", ".iso", ".xml", ".zck"} {
		if strings.HasSuffix(name, suffix) {
			return false
		}
	}
	return true
}

// contentTypes are those by suffix. No client looks at them; browsers and proxies do, so none runs
// anything.
var contentTypes = map[string]string{
	".rpm": "application/x-rpm", ".drpm": "application/x-rpm",
	".xml": "text/xml; charset=utf-8", ".asc": "application/pgp-signature", ".key": "application/pgp-keys",
	".gz": "application/gzip", ".xz": "application/x-xz", ".bz2": "application/x-bzip2", ".zst": "application/zstd",
	".lzma": "application/x-lzma", ".lz4": "application/x-lz4",
	".txt": "text/plain; charset=utf-8", ".yaml": "text/plain; charset=utf-8", ".treeinfo": "text/plain; charset=utf-8",
}

func contentType(name string) string {
	if i := strings.LastIndexByte(name, '.'); i >= 0 {
		if t, ok := contentTypes[name[i:]]; ok {
			return t
		}
	}
	return "application/octet-stream"
}

// sums are what an index says of a file.
type sums struct {
	sha256 proto.Digest
	sha512 proto.SHA512
	weak   proto.HashKey // of a kind that proves nothing
}

// readSum reads a sum of the kind that an attribute "type" names. Kinds that proto does not know
// (sha224, sha384) and text that is no sum leave it as it was: the file is listed, and not provable.
func (s *sums) readSum(kind, digits []byte) {
	switch string(kind) {
	case "sha256":
		var d proto.Digest
		if decodeHex(d[:], digits) {
			s.sha256 = d
		}
	case "sha512":
		var d proto.SHA512
		if decodeHex(d[:], digits) {
			s.sha512 = d
		}
	case "sha", "sha1":
		var d [20]byte
		if decodeHex(d[:], digits) {
			s.weak = proto.HashKey{Kind: proto.HashSHA1, Sum: [16]byte(d[:])}
		}
	case "md5":
		var d [16]byte
		if decodeHex(d[:], digits) {
			s.weak = proto.HashKey{Kind: proto.HashMD5, Sum: d}
		}
	}
}

func decodeHex(dst, digits []byte) bool {
	if len(digits) != 2*len(dst) {
		return false
	}
	_, err := hex.Decode(dst, digits)
	return err == nil
}

// Names are those by which clients ask for a member, below the suite's directory.
func (f *Format) Names(m *proto.Member) []string { return []string{m.Path} }

// Beside are files that clients ask for beside a listed one, though no index lists them: none.
func (f *Format) Beside(string) []string { return nil }
