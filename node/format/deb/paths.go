package deb

import (
	"encoding/hex"
	"slices"
	"strings"

	"github.com/aptmesh/aptmesh/aptmeta"
	"github.com/aptmesh/aptmesh/node/format/plain"
	"github.com/aptmesh/aptmesh/proto"
)

// maxSuites bounds the suites that a path is looked for in.
const maxSuites = 3

// Suites guesses the directories whose Release, or whose indexes, may list a path. A path below a
// pool does not show its suite.
func (f *Format) Suites(path string) []proto.Suite {
	var dirs []string
	switch kind := aptmeta.Classify(path); {
	case kind == aptmeta.KindOther, kind == aptmeta.KindRoot:
		return nil
	case len(afterDists(path)) > 0:
		dirs = aptmeta.GuessSuiteDirs(path)
	case kind == aptmeta.KindPackage || kind == aptmeta.KindSource:
		dirs = above(path)
	default:
		dirs = append(aptmeta.GuessSuiteDirs(path), withoutComponent(path)...)
	}
	suites := make([]proto.Suite, 0, maxSuites)
	for _, dir := range dirs[:min(len(dirs), maxSuites)] {
		suites = append(suites, proto.Suite{Dir: dir})
	}
	return suites
}

// above are the directories that a flat repository with a package may lie in: beside the package, or
// above it.
func above(path string) []string {
	if strings.Contains("/"+path, "/pool/") {
		return nil
	}
	var dirs []string
	for dir, _ := splitDir(path); ; dir, _ = splitDir(dir) {
		dirs = append(dirs, dir)
		if dir == "" || len(dirs) == maxSuites {
			return dirs
		}
	}
}

// withoutComponent is the suite of an index where no directory is called dists, because the
// archive's configured root lies below it: what stands before <component>/binary-<architecture>.
func withoutComponent(path string) []string {
	segments := strings.Split(path, "/")
	i := slices.IndexFunc(segments, isPart)
	if i < 1 {
		return nil
	}
	return []string{strings.Join(segments[:i-1], "/")}
}

const typeText = "text/plain; charset=utf-8"

// PathInfo judges by the path alone. Only a root is metadata by its name: a client that invents other
// names must not go before clients that wait for listed files. The catalog knows which files a root
// or an index lists.
func (f *Format) PathInfo(path string) proto.PathInfo {
	if _, t, sum, ok := aptmeta.ParseByHash(path); ok {
		return byHashInfo(path, t, sum)
	}
	kind := aptmeta.Classify(path)
	info := proto.PathInfo{
		Kind: kind.String(), Class: proto.ClassUnlisted, ContentType: contentType(path, kind),
		Page: kind == aptmeta.KindOther && mayBePage(path),
	}
	switch kind {
	case aptmeta.KindRoot:
		info.Root, info.Class = true, proto.ClassMetadata
	case aptmeta.KindPackage:
		info.Package = true
	case aptmeta.KindIndex, aptmeta.KindPatch:
		info.Index = true
	}
	return info
}

// byHashInfo is PathInfo for a by-hash name.
func byHashInfo(path string, t aptmeta.HashType, sum [64]byte) proto.PathInfo {
	info := proto.PathInfo{
		Kind: aptmeta.KindByHash.String(), Class: proto.ClassUnlisted, ContentType: contentType(path, aptmeta.KindByHash),
		Immutable: true, Hash: proto.HashName{Kind: hashKinds[t], Sum: sum},
	}
	if t == aptmeta.SHA256 || t == aptmeta.SHA512 {
		info.Proof = proto.ProofSure
	}
	return info
}

// mayBePage reports whether a file that apt does not know may be an HTML page, or may come with the
// type of one from a server that knows no better.
func mayBePage(path string) bool {
	_, name := splitDir(path)
	_, ext := plain.TrimCompression(name)
	return ext == "" && !slices.ContainsFunc([]string{".gpg", ".asc", ".tar", ".lz"}, func(s string) bool { return strings.HasSuffix(name, s) })
}

// contentType judges by the name alone. apt ignores it; browsers and proxies do not, so it is never
// a type that a browser executes.
func contentType(path string, kind aptmeta.Kind) string {
	switch kind {
	case aptmeta.KindPackage:
		return "application/vnd.debian.binary-package"
	case aptmeta.KindByHash:
		return "application/octet-stream"
	case aptmeta.KindRoot:
		if strings.HasSuffix(path, ".gpg") {
			return "application/pgp-signature"
		}
		return typeText
	}
	_, name := splitDir(path)
	ext := ""
	if i := strings.LastIndexByte(name, '.'); i >= 0 {
		ext = name[i:]
	}
	switch ext {
	case ".xz":
		return "application/x-xz"
	case ".gz", ".tgz":
		return "application/gzip"
	case ".bz2":
		return "application/x-bzip2"
	case ".zst":
		return "application/zstd"
	case ".lzma":
		return "application/x-lzma"
	case ".lz4":
		return "application/x-lz4"
	case ".dsc", ".asc", ".txt", ".yml", ".list", ".sources":
		return typeText
	case ".gpg":
		return "application/octet-stream"
	}
	if kind == aptmeta.KindIndex {
		return typeText
	}
	return "application/octet-stream"
}

// Names are those by which clients ask for a member, below the suite's directory: its path, and those by hash. apt asks by
// the strongest sum that the Release has, debootstrap by SHA-256 alone.
func (f *Format) Names(m *proto.Member) []string {
	names := []string{m.Path}
	if !m.Ref.IsZero() {
		names = append(names, aptmeta.ByHashPath(m.Path, aptmeta.SHA256, m.Ref.Digest.String()))
	}
	if m.SHA512 != (proto.SHA512{}) {
		names = append(names, aptmeta.ByHashPath(m.Path, aptmeta.SHA512, hex.EncodeToString(m.SHA512[:])))
	}
	return names
}

// Beside are files that clients ask for beside a listed one, though no index lists them: none.
func (f *Format) Beside(string) []string { return nil }
