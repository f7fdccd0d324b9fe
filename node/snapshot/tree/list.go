package tree

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"unicode"

	"github.com/aptmesh/aptmesh/proto"
)

// File is a file of a tree.
type File struct {
	Path string // below the tree, with slashes
	Ref  proto.Ref
	// Root says that clients read it first: it is never there without what it lists.
	Root bool
	// age is how many generations ago it was last one of the snapshot's own files.
	age int
}

// keepFor is for how many generations files stay that are the snapshot's no more.
const keepFor = 2

// CheckPath says why a path cannot be one of a tree's.
func CheckPath(p string) error {
	switch {
	case p == "" || p == "." || path.Clean(p) != p || !filepath.IsLocal(filepath.FromSlash(p)):
		return fmt.Errorf("%q does not lie in the tree", p)
	case strings.ContainsFunc(p, unicode.IsControl):
		return fmt.Errorf("%q has control characters", p)
	}
	return nil
}

// writeList writes down which files a generation has.
func writeList(w io.Writer, files []File) error {
	buffered := bufio.NewWriter(w)
	for i := range files {
		f := &files[i]
		kind := "file"
		if f.Root {
			kind = "root"
		}
		fmt.Fprintf(buffered, "%s %d %d %s %s\n", f.Ref.Digest, f.Ref.Size, f.age, kind, f.Path)
	}
	fmt.Fprintln(buffered, "end")
	return buffered.Flush()
}

// readList reads which files a generation has. It fails if the list is not whole.
func readList(root *os.Root, name string) (files []File, err error) {
	f, err := root.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if lines.Text() == "end" {
			return files, nil
		}
		words := strings.SplitN(lines.Text(), " ", 5)
		if len(words) != 5 {
			return nil, fmt.Errorf("%s: %q is no line of a list", name, lines.Text())
		}
		file := File{Path: words[4], Root: words[3] == "root"}
		var wrong [4]error
		file.Ref.Digest, wrong[0] = proto.ParseDigest(words[0])
		file.Ref.Size, wrong[1] = strconv.ParseInt(words[1], 10, 64)
		file.age, wrong[2] = strconv.Atoi(words[2])
		wrong[3] = CheckPath(file.Path)
		if err := errors.Join(wrong[:]...); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		files = append(files, file)
	}
	return nil, fmt.Errorf("%s is cut short: %w", name, fs.ErrInvalid)
}
