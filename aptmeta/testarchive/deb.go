package testarchive

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"time"
)

// noise returns n incompressible bytes that depend on the key alone.
func noise(key string, n int64) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8(sha256.Sum256([]byte(key))).Read(b)
	return b
}

// noiseKey tells packages, salts and archives apart.
func (a *Archive) noiseKey(p Package) string {
	return fmt.Sprintf("%d %s %s %s %s", a.seed, p.Name, p.Version, p.Arch, p.Salt)
}

// deb builds a binary package: an ar archive of debian-binary, control.tar.gz
// and data.tar (deb(5)). The data member is left uncompressed: its payload would
// not shrink, and sixty megabytes should not cost a second.
func (a *Archive) deb(p Package) []byte {
	payload := noise(a.noiseKey(p), p.Size)
	name := "./usr/share/" + p.Name + "/payload"

	var control bytes.Buffer
	fmt.Fprintf(&control, "Package: %s\nVersion: %s\nArchitecture: %s\nMaintainer: %s\nInstalled-Size: %d\n",
		p.Name, p.Version, p.Arch, maintainer, p.Size/1024+1)
	if p.Depends != "" {
		fmt.Fprintf(&control, "Depends: %s\n", p.Depends)
	}
	fmt.Fprintf(&control, "Section: %s\nPriority: optional\nDescription: %s\n", p.Section, p.Description)

	// No md5sums: without them the .deb's length does not depend on its payload,
	// and a rebuild in place is what hurts caches most, other bytes of one length.
	controlTar := tarball(tarFile{"./", nil}, tarFile{"./control", control.Bytes()})
	dataTar := tarball(tarFile{"./", nil}, tarFile{"./usr/", nil}, tarFile{"./usr/share/", nil},
		tarFile{"./usr/share/" + p.Name + "/", nil}, tarFile{name, payload})
	return arArchive(
		tarFile{"debian-binary", []byte("2.0\n")},
		tarFile{"control.tar.gz", Compress(".gz", controlTar)},
		tarFile{"data.tar", dataTar},
	)
}

const maintainer = "Test Archive <archive@example.org>"

// tarFile is a member of a tarball or of an ar archive; a name that ends in '/'
// is a directory.
type tarFile struct {
	name string
	data []byte
}

func tarball(files ...tarFile) []byte {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, f := range files {
		h := &tar.Header{Name: f.name, Mode: 0o644, Size: int64(len(f.data)), ModTime: keyBirth,
			Uname: "root", Gname: "root", Format: tar.FormatGNU, Typeflag: tar.TypeReg}
		if f.name[len(f.name)-1] == '/' {
			h.Mode, h.Typeflag = 0o755, tar.TypeDir
		}
		must(w.WriteHeader(h))
		_, err := w.Write(f.data)
		must(err)
	}
	must(w.Close())
	return buf.Bytes()
}

func arArchive(files ...tarFile) []byte {
	var buf bytes.Buffer
	buf.WriteString("!<arch>\n")
	for _, f := range files {
		fmt.Fprintf(&buf, "%-16s%-12d%-6d%-6d%-8s%-10d`\n", f.name, keyBirth.Unix(), 0, 0, "100644", len(f.data))
		buf.Write(f.data)
		if len(f.data)%2 == 1 {
			buf.WriteByte('\n')
		}
	}
	return buf.Bytes()
}

// releaseDate is how a Release writes a date.
func releaseDate(t time.Time) string { return t.UTC().Format("Mon, 02 Jan 2006 15:04:05") + " UTC" }
