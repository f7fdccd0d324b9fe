package deb

import "strings"

// ArchiveRoot is the part of a path that looks like the root of an archive: what stands before dists/ or pool/,
// or else the directory of the file, of which two levels tell most.
func ArchiveRoot(path string) string {
	at := "/" + path + "/"
	for _, dir := range []string{"/dists/", "/pool/"} {
		if i := strings.Index(at, dir); i >= 0 {
			return strings.Trim(at[:i], "/")
		}
	}
	dir, _ := splitDir(path)
	levels := strings.Split(dir, "/")
	return strings.Join(levels[:min(len(levels), 2)], "/")
}
