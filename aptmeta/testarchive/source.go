package testarchive

import (
	"bytes"
	"cmp"
	"fmt"
	"strings"
	"time"
)

// addSource makes a source package that dpkg-source unpacks: format 3.0 (quilt),
// or 3.0 (native) where the version has no Debian revision. It returns the
// stanza of the Sources file.
func (a *Archive) addSource(s Suite, p Package, date time.Time) string {
	files := a.sourceTarballs(p)
	dsc := tarFile{p.file(s)[strings.LastIndexByte(p.file(s), '/')+1:], p.dsc(files)}
	files = append([]tarFile{dsc}, files...)
	if !p.Missing {
		for _, f := range files {
			a.store(join(p.dir(s), f.name), f.data, date)
		}
	}

	var b strings.Builder
	fmt.Fprintf(&b, "Package: %s\nBinary: %s\nVersion: %s\nMaintainer: %s\nArchitecture: any\nStandards-Version: 4.6.2\nFormat: %s\n",
		p.Name, p.Name, p.Version, maintainer, p.sourceFormat())
	for _, hash := range s.IndexHashes {
		b.WriteString(sumBlock(hash, files))
	}
	directory := a.listedPath(s, p.dir(s))
	if s.Flat && !s.FlatFromRoot {
		directory = "."
	}
	fmt.Fprintf(&b, "Directory: %s\nPriority: optional\nSection: %s\n", cmp.Or(p.Listed, directory), p.Section)
	for _, line := range p.Fields {
		b.WriteString(line + "\n")
	}
	return b.String()
}

func (p Package) sourceFormat() string {
	if p.native() {
		return "3.0 (native)"
	}
	return "3.0 (quilt)"
}

// upstreamVersion is the version without epoch and Debian revision.
func (p Package) upstreamVersion() string {
	v := p.fileVersion()
	if i := strings.LastIndexByte(v, '-'); i >= 0 {
		return v[:i]
	}
	return v
}

func (a *Archive) sourceTarballs(p Package) []tarFile {
	// The upstream tarball is shared by all Debian revisions.
	payload := noise(fmt.Sprintf("%d %s %s %s", a.seed, p.Name, p.upstreamVersion(), p.Salt), p.Size)
	top := p.Name + "-" + p.upstreamVersion() + "/"
	upstream := []tarFile{{top, nil}, {top + "payload", payload}}

	changelog := fmt.Sprintf("%s (%s) unstable; urgency=low\n\n  * Made for tests.\n\n -- %s  %s\n",
		p.Name, p.Version, maintainer, keyBirth.Format(time.RFC1123Z))
	control := fmt.Sprintf("Source: %s\nMaintainer: %s\nStandards-Version: 4.6.2\n\nPackage: %s\nArchitecture: any\nDescription: %s\n",
		p.Name, maintainer, p.Name, p.Description)
	debian := []tarFile{
		{"debian/", nil},
		{"debian/changelog", []byte(changelog)},
		{"debian/control", []byte(control)},
		{"debian/source/", nil},
		{"debian/source/format", []byte(p.sourceFormat() + "\n")},
	}
	name := p.Name + "_" + p.fileVersion()
	if p.native() {
		for _, f := range debian {
			upstream = append(upstream, tarFile{top + f.name, f.data})
		}
		return []tarFile{{name + ".tar.xz", a.packed.compress(".xz", tarball(upstream...))}}
	}
	return []tarFile{
		{p.Name + "_" + p.upstreamVersion() + ".orig.tar.xz", a.packed.compress(".xz", tarball(upstream...))},
		{name + ".debian.tar.xz", a.packed.compress(".xz", tarball(debian...))},
	}
}

// dsc describes the tarballs, unsigned.
func (p Package) dsc(files []tarFile) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "Format: %s\nSource: %s\nBinary: %s\nArchitecture: any\nVersion: %s\nMaintainer: %s\nStandards-Version: 4.6.2\n",
		p.sourceFormat(), p.Name, p.Name, p.Version, maintainer)
	for _, hash := range []string{SHA1, SHA256, MD5Sum} {
		b.WriteString(sumBlock(hash, files))
	}
	return b.Bytes()
}

// sourcesField is how a Sources or .dsc file calls each block of sums.
var sourcesField = map[string]string{MD5Sum: "Files", SHA1: "Checksums-Sha1", SHA256: "Checksums-Sha256", SHA512: "Checksums-Sha512"}

func sumBlock(hash string, files []tarFile) string {
	var b strings.Builder
	b.WriteString(sourcesField[hash] + ":\n")
	for _, f := range files {
		fmt.Fprintf(&b, " %s %d %s\n", Sum(hash, f.data), len(f.data), f.name)
	}
	return b.String()
}
