package pacman

import (
	"strings"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// patience is how long a request may wait for its first byte. The client gives up where less than a
// byte a second comes within ten seconds, and takes it for a failure of the whole host
// (curl_set_handle_opts in dload.c).
const patience = 7 * time.Second

// hold is how long a request is held back in place of an error that may pass: pacman asks no server twice, and
// after three errors it asks the host for nothing more (dload.c).
const hold = 6 * time.Second

// isPackage reports whether a file's name is that of a package: NAME-VERSION-RELEASE-ARCH.pkg.tar, of
// any compression.
func isPackage(name string) bool {
	i := strings.LastIndex(name, ".pkg.tar")
	return i > 0 && (i+8 == len(name) || name[i+8] == '.' && strings.IndexByte(name[i+9:], '.') < 0)
}

// PathInfo goes by the name of the file. Nothing in a repository is named by its sum, and a package
// that was built again under its old name replaces the old one.
func (f *Format) PathInfo(path string) proto.PathInfo {
	_, name := splitDir(path)
	info := proto.PathInfo{Kind: "other", Class: proto.ClassUnlisted, ContentType: binary, FirstByte: patience, Hold: hold, DropsAt416: true}
	signed, isSignature := strings.CutSuffix(name, sig)
	switch {
	case isDatabase(signed):
		info.Kind, info.Root, info.Class = "root", true, proto.ClassMetadata
	case isSignature:
		info.Kind = "signature"
	case isPackage(name):
		info.Kind, info.Package, info.ContentType = "package", true, compressed(name)
	default:
		info.Page = strings.IndexByte(name, '.') < 0
	}
	if isSignature {
		info.ContentType = "application/pgp-signature"
	}
	return info
}

const binary = "application/octet-stream"

func compressed(name string) string {
	switch name[strings.LastIndexByte(name, '.'):] {
	case ".zst":
		return "application/zstd"
	case ".xz":
		return "application/x-xz"
	case ".gz":
		return "application/gzip"
	case ".bz2":
		return "application/x-bzip2"
	}
	return binary
}

// Names are those by which clients ask for a member, below the suite's directory.
func (f *Format) Names(m *proto.Member) []string { return []string{m.Path} }

// Beside is the signature of a package, which pacman asks for where the database does not have it (SigLevel = Required).
func (f *Format) Beside(path string) []string {
	if _, name := splitDir(path); isPackage(name) {
		return []string{path + sig}
	}
	return nil
}
