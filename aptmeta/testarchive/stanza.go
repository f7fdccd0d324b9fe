package testarchive

import (
	"bytes"
	"cmp"
	"fmt"
	"strings"
	"time"
)

// addToPool makes the files of a package, puts them in the pool unless it is
// Missing, and returns the package's stanza.
func (a *Archive) addToPool(s Suite, p Package, date time.Time) string {
	if p.Source {
		return a.addSource(s, p, date)
	}
	path := p.file(s)
	deb := []byte(a.noiseKey(p)) // something to list for a package that is Missing
	if !p.Missing {
		deb = a.deb(p)
		a.store(path, deb, date)
	}
	size := max(int64(len(deb)), p.Size)
	var b strings.Builder
	fmt.Fprintf(&b, "Package: %s\nArchitecture: %s\nVersion: %s\nPriority: optional\nSection: %s\nMaintainer: %s\nInstalled-Size: %d\n",
		p.Name, p.Arch, p.Version, p.Section, maintainer, p.Size/1024+1)
	if p.Depends != "" {
		fmt.Fprintf(&b, "Depends: %s\n", p.Depends)
	}
	fmt.Fprintf(&b, "Filename: %s\nSize: %d\n", cmp.Or(p.Listed, a.listedPath(s, path)), size)
	for _, hash := range s.IndexHashes {
		fmt.Fprintf(&b, "%s: %s\n", packagesField[hash], Sum(hash, deb))
	}
	fmt.Fprintf(&b, "Description: %s\nDescription-md5: %s\n", p.Description, Sum(MD5Sum, []byte(p.Description+"\n")))
	for _, line := range p.Fields {
		b.WriteString(line + "\n")
	}
	return b.String()
}

// packagesField is how a Packages file calls each hash.
var packagesField = map[string]string{MD5Sum: "MD5sum", SHA1: "SHA1", SHA256: "SHA256", SHA512: "SHA512"}

// listedPath is the path of a pool file as an index gives it.
func (a *Archive) listedPath(s Suite, path string) string {
	if !s.Flat || s.FlatFromRoot {
		return path
	}
	return "./" + strings.TrimPrefix(strings.TrimPrefix(path, s.Dir()), "/")
}

// store puts a file in the pool. A file that is there with the same bytes keeps
// its date.
func (a *Archive) store(path string, data []byte, date time.Time) {
	if old, ok := a.pool[path]; ok && bytes.Equal(old.Data, data) {
		return
	}
	a.pool[path] = newFile(data, date)
}
