package main

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
)

// tree is an archive as hosts would get it: its files by their paths, errMissing for one that is not there.
type tree func(name string) ([]byte, error)

var errMissing = errors.New("is missing")

// dirTree is what a web server would give out of a directory.
func dirTree(dir string) tree {
	return func(name string) ([]byte, error) {
		data, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(name)))
		if errors.Is(err, os.ErrNotExist) {
			err = errMissing
		}
		return data, err
	}
}

// broken says in a sentence why a host that updates and then installs everything would fail; "" if it
// would not. It reads the Release, the index that it lists, and all packages, and compares the sums.
func (get tree) broken() string {
	const index = "main/binary-amd64/Packages"
	release, err := get(suiteDir + "/InRelease")
	if errors.Is(err, errMissing) {
		release, err = get(suiteDir + "/Release")
	}
	if err != nil {
		return fmt.Sprintf("the Release: %v", err)
	}
	sums := releaseSums(string(release))
	var packages []byte
	why := "the Release lists none that could be read here"
	for _, ext := range []string{".gz", ""} { // tools keep some compressions only
		sum, listed := sums[index+ext]
		if !listed {
			continue
		}
		name := path.Join(suiteDir, index+ext)
		body, err := get(name)
		if errors.Is(err, errMissing) {
			body, err = get(path.Join(path.Dir(name), "by-hash/SHA256", sum))
		}
		if err != nil {
			why = fmt.Sprintf("%s: %v", name, err)
			continue
		}
		if testarchive.Sum(testarchive.SHA256, body) != sum {
			return name + " is not what the Release lists"
		}
		if packages = body; ext == ".gz" {
			z, err := gzip.NewReader(bytes.NewReader(body))
			if err != nil {
				return fmt.Sprintf("%s: %v", name, err)
			}
			if packages, err = io.ReadAll(z); err != nil {
				return fmt.Sprintf("%s: %v", name, err)
			}
		}
		break
	}
	if packages == nil {
		return "no index: " + why
	}
	for stanza := range strings.SplitSeq(strings.TrimSpace(string(packages)), "\n\n") {
		name, sum := field(stanza, "Filename"), field(stanza, "SHA256")
		body, err := get(name)
		if err != nil {
			return fmt.Sprintf("%s: %v", name, err)
		}
		if testarchive.Sum(testarchive.SHA256, body) != sum {
			return name + " is not what the index lists"
		}
	}
	return ""
}

// releaseSums are the SHA-256 sums in a Release, by path.
func releaseSums(release string) map[string]string {
	sums := make(map[string]string)
	in := false
	for line := range strings.Lines(release) {
		switch f := strings.Fields(line); {
		case !strings.HasPrefix(line, " "):
			in = strings.HasPrefix(line, "SHA256:")
		case in && len(f) == 3:
			sums[f[2]] = f[0]
		}
	}
	return sums
}

// field is the value of a field in a stanza.
func field(stanza, name string) string {
	for line := range strings.Lines(stanza) {
		if value, ok := strings.CutPrefix(line, name+": "); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
