package rpm

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// A .treeinfo describes what an installer boots: kernels, images, and in most trees their sums. No
// repomd.xml lists it, and it lies beside repodata/ or where there is none. It is a suite of its own:
// root and index in one file, which nobody signs. Anaconda asks for .treeinfo, then for treeinfo
// (pyanaconda/modules/payloads/payload/dnf/tree_info.py); productmd writes both.
var treeNames = []string{".treeinfo", "treeinfo"}

const (
	maxTreeinfo  = 1 << 20 // bytes; those of Fedora and RHEL have some 5,000
	maxTreeFiles = 10_000
)

// isTree reports whether a suite is an installation tree.
func isTree(suite proto.Suite) bool { return suite.Name != "" }

// treeRoot splits the path of a .treeinfo.
func treeRoot(path string) (suite proto.Suite, ok bool) {
	dir, name := splitDir(path)
	return proto.Suite{Dir: dir, Name: name}, slices.Contains(treeNames, name)
}

// treeDirs are the directories that installers boot from, below that of the .treeinfo.
var treeDirs = []string{"images", "isolinux", "LiveOS", "EFI", "ppc", "boot"}

// treesOf names the trees that may list a path: those of the directory that has the images.
func treesOf(path string) (suites []proto.Suite) {
	parts := strings.Split(path, "/")
	for i := len(parts) - 2; i >= 0; i-- {
		if slices.Contains(treeDirs, parts[i]) {
			for _, name := range treeNames {
				suites = append(suites, proto.Suite{Dir: strings.Join(parts[:i], "/"), Name: name})
			}
			return suites
		}
	}
	return nil
}

// openTree reads a .treeinfo. What lists nothing is a .treeinfo as well.
func (f *Format) openTree(suite proto.Suite, text []byte, now time.Time) (*proto.Manifest, error) {
	if page := bytes.TrimLeft(text, "\xef\xbb\xbf \t\r\n"); len(page) == 0 || page[0] == '<' {
		return nil, reject(proto.RejectMalformed, fmt.Sprintf("%s is no .treeinfo (is it a web page?)", suite), proto.ErrForged)
	}
	m := &proto.Manifest{Statement: proto.DigestOf(text)}
	newest := int64(0)
	err := readTree(bytes.NewReader(text), func(section, key, value string) error {
		if section == "tree" && key == "build_timestamp" || section == "general" && key == "timestamp" {
			if n, ok := readNumber([]byte(value)); ok && n >= firstDate && n <= now.Unix() {
				newest = max(newest, n)
			}
		}
		return nil
	})
	if err != nil {
		return nil, reject(proto.RejectMalformed, fmt.Sprintf("%s cannot be read", suite), err)
	}
	if newest > 0 {
		m.Date = time.Unix(newest, 0).UTC()
	}
	m.Members = []proto.Member{{
		Path: suite.Name, Ref: proto.Ref{Digest: m.Statement, Size: int64(len(text))},
		Upstream: []string{suite.Name}, Plain: suite.Name, PlainSize: int64(len(text)), Needed: true,
		Table: m.Statement.String() + "-" + proto.DigestOf([]byte(suite.Dir+"\x00"+suite.Name)).Short(),
	}}
	return m, nil
}

// parseTree emits the files whose sums a .treeinfo has. The metadata of the repository has its own
// root, which may be newer.
func parseTree(suite proto.Suite, text io.Reader, emit func(proto.File) error) error {
	files := 0
	return readTree(text, func(section, key, value string) error {
		kind, digits, ok := strings.Cut(value, ":")
		path, err := proto.CleanPath(key)
		if section != "checksums" || !ok || err != nil || path == "" || strings.HasPrefix(path, metadataDir+"/") {
			return nil
		}
		var sum sums
		sum.readSum([]byte(strings.TrimSpace(kind)), []byte(strings.TrimSpace(digits)))
		if sum.sha256.IsZero() && sum.sha512 == (proto.SHA512{}) {
			return nil
		}
		if files++; files > maxTreeFiles {
			return fmt.Errorf("%w: %d files", errTooMany, maxTreeFiles)
		}
		return emit(proto.File{Path: []byte(suite.At(path).Path), Size: proto.UnknownSize, SHA256: sum.sha256, SHA512: sum.sha512})
	})
}

// readTree reads an INI file as Python's configparser does, as far as it matters here: keys with =
// or :, comments after # and ;, names of sections and paths as they stand.
func readTree(r io.Reader, each func(section, key, value string) error) error {
	lines := bufio.NewScanner(io.LimitReader(r, maxTreeinfo))
	lines.Buffer(nil, maxTreeinfo)
	section := ""
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' || line[0] == ';' {
			continue
		}
		if line[0] == '[' && strings.HasSuffix(line, "]") {
			section = line[1 : len(line)-1]
			continue
		}
		i := strings.IndexAny(line, "=:")
		if i < 0 {
			continue
		}
		if err := each(section, strings.TrimSpace(line[:i]), strings.TrimSpace(line[i+1:])); err != nil {
			return err
		}
	}
	return lines.Err()
}
