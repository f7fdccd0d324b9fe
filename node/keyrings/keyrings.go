// Package keyrings reads the keys that `signed_by` of an archive names: files, directories, patterns of
// files, and key blocks in place of a path. It says when a directory or a pattern means other files than
// before. What the keys sign is not known here.
package keyrings

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/aptmesh/aptmesh/node/files"
	"github.com/aptmesh/aptmesh/node/format/pgp"
)

// MaxFile bounds a keyring file in bytes; that of Debian's developers has 30 MB.
const MaxFile = 64 << 20

// KeyBlock begins a public key written in place of a keyring's path.
const KeyBlock = "-----BEGIN PGP PUBLIC KEY BLOCK-----"

// IsInline reports whether an entry is an armoured key block rather than the path of a keyring.
func IsInline(entry string) bool { return strings.HasPrefix(strings.TrimSpace(entry), KeyBlock) }

// Read returns the keys of all entries together; nil where there is no entry.
func Read(entries []string) (*pgp.Keyring, error) {
	if len(entries) == 0 {
		return nil, nil
	}
	rings := make([]*pgp.Keyring, 0, len(entries))
	for _, entry := range entries {
		ring, _, err := ReadEntry(entry)
		if err != nil {
			return nil, err
		}
		rings = append(rings, ring)
	}
	return pgp.MergeKeyrings(rings...), nil
}

// Dir is where a further keyring is put so that it counts: the first directory, or pattern of files,
// among the entries; "" where there is none.
func Dir(entries []string) string {
	if i := slices.IndexFunc(entries, isSet); i >= 0 {
		return entries[i]
	}
	return ""
}

// Stamp changes when a file of a directory or pattern among the entries appears, changes or goes. A
// single keyring is read again by a reload alone.
func Stamp(entries []string) string {
	var stamp strings.Builder
	done := make(map[string]bool)
	for _, entry := range entries {
		if done[entry] || !isSet(entry) {
			continue
		}
		done[entry] = true
		names, err := filesOf(entry)
		fmt.Fprintln(&stamp, entry, err)
		for _, name := range names {
			if info, err := os.Stat(name); err == nil {
				fmt.Fprintln(&stamp, name, info.ModTime().UnixNano(), info.Size())
			}
		}
	}
	return stamp.String()
}

// Files are the files that an entry means now: none for a key block.
func Files(entry string) []string {
	switch {
	case IsInline(entry):
		return nil
	case !isSet(entry):
		return []string{entry}
	}
	names, err := filesOf(entry)
	if err != nil {
		return []string{entry}
	}
	return names
}

// isSet reports whether an entry stands for all keyrings of a directory, or for
// those that a pattern matches.
func isSet(entry string) bool {
	if IsInline(entry) {
		return false
	}
	if strings.HasSuffix(entry, "/") || strings.ContainsAny(entry, "*?[") {
		return true
	}
	info, err := os.Stat(entry)
	return err == nil && info.IsDir()
}

// filesOf lists the files of a set. Of a directory they are those that apt takes from
// trusted.gpg.d: plain names that end in .gpg or .asc (GetListOfFilesInDir in apt-pkg/contrib/fileutl.cc).
// Empty and hidden files count as absent.
func filesOf(entry string) ([]string, error) {
	var names []string
	if strings.Contains(entry, "**") {
		return nil, fmt.Errorf("%s: ** does not go down into directories; write a pattern for each, such as /etc/apt/keyrings/*.gpg", entry)
	}
	if strings.ContainsAny(entry, "*?[") {
		var err error
		if names, err = filepath.Glob(entry); err != nil {
			return nil, fmt.Errorf("%s is no pattern of files: %w", entry, err)
		}
	} else {
		list, err := os.ReadDir(entry)
		if err != nil {
			return nil, err
		}
		for _, e := range list {
			if plainName(e.Name()) {
				names = append(names, filepath.Join(entry, e.Name()))
			}
		}
	}
	return slices.DeleteFunc(names, func(name string) bool {
		info, err := os.Stat(name)
		return err != nil || !info.Mode().IsRegular() || info.Size() == 0 || strings.HasPrefix(filepath.Base(name), ".")
	}), nil
}

func plainName(name string) bool {
	return (strings.HasSuffix(name, ".gpg") || strings.HasSuffix(name, ".asc")) &&
		!strings.ContainsFunc(name, func(c rune) bool {
			return !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("._-", c))
		})
}

// ReadEntry reads one entry. In a directory or pattern, files that are no keyrings are
// left out with a warning, and there may be no keyring yet.
func ReadEntry(entry string) (ring *pgp.Keyring, leftOut []string, err error) {
	if IsInline(entry) {
		ring, err = pgp.ReadKeyring("in the configuration", []byte(entry))
		return ring, nil, err
	}
	if !isSet(entry) {
		ring, err = ReadFile(entry)
		return ring, nil, err
	}
	names, err := filesOf(entry)
	if err != nil {
		return nil, nil, err
	}
	var rings []*pgp.Keyring
	for _, name := range names {
		r, err := ReadFile(name)
		if err != nil {
			leftOut = append(leftOut, files.Trouble(name, err, ""))
			continue
		}
		rings = append(rings, r)
	}
	return pgp.MergeKeyrings(rings...).Named(entry), leftOut, nil
}

// ReadFile reads one keyring.
func ReadFile(name string) (*pgp.Keyring, error) {
	data, err := files.ReadBounded(name, MaxFile)
	if err != nil {
		return nil, err
	}
	return pgp.ReadKeyring(name, data)
}

// maxNamed bounds how many files or keys a warning names: a pattern may match hundreds.
const maxNamed = 3

func fewOf(all []string) string {
	if n := len(all) - maxNamed; n > 0 {
		all = append(all[:maxNamed:maxNamed], fmt.Sprintf("and %d more", n))
	}
	return strings.Join(all, "; ")
}

// Troubles says what is wrong with an entry though the archive can be served, for warnings.
func Troubles(entry string) (troubles []string, err error) {
	ring, leftOut, err := ReadEntry(entry)
	if err != nil {
		return nil, err
	}
	if len(ring.Fingerprints()) == 0 {
		troubles = append(troubles, entry+" holds no keyring, so nothing of the archive is accepted until one is put there")
	}
	if len(leftOut) > 0 {
		troubles = append(troubles, "left out: "+fewOf(leftOut))
	}
	if weak := ring.WeakKeys(); len(weak) > 0 {
		troubles = append(troubles, "holds weak keys, whose signatures apt 2.7.13 and later refuses, and this node with `weak_keys: false`: "+fewOf(weak))
	}
	return troubles, nil
}
