package config

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/aptmesh/aptmesh/node/format/pgp"
)

// maxKeyring bounds a keyring file in bytes; that of Debian's developers has 30 MB.
const maxKeyring = 64 << 20

// keyBlock begins a public key written in place of a keyring's path.
const keyBlock = "-----BEGIN PGP PUBLIC KEY BLOCK-----"

// IsInlineKey reports whether an entry of signed_by is an armoured key block
// rather than the path of a keyring.
func IsInlineKey(entry string) bool { return strings.HasPrefix(strings.TrimSpace(entry), keyBlock) }

// Keyring reads every entry of signed_by and returns all their keys together; nil
// where it has none.
func (a Archive) Keyring() (*pgp.Keyring, error) {
	if len(a.SignedBy) == 0 {
		return nil, nil
	}
	rings := make([]*pgp.Keyring, 0, len(a.SignedBy))
	for _, entry := range a.SignedBy {
		ring, _, err := readKeyring(entry)
		if err != nil {
			return nil, fmt.Errorf("archive %s: signed_by: %w", a.Name, err)
		}
		rings = append(rings, ring)
	}
	return pgp.MergeKeyrings(rings...).WithWeakKeys(a.WeakKeys), nil
}

// KeyringsDir is where a further keyring of the archive is put so that it counts: the first
// directory, or pattern of files, in signed_by; "" where it has none.
func (a Archive) KeyringsDir() string {
	for _, entry := range a.SignedBy {
		if isKeyringSet(entry) {
			return entry
		}
	}
	return ""
}

// KeyringsStamp changes when a file of a directory or pattern in signed_by appears, changes or goes.
// A single keyring is read again by a reload alone.
func (c *Config) KeyringsStamp() string {
	var stamp strings.Builder
	done := make(map[string]bool)
	for _, a := range c.Archives {
		for _, entry := range a.SignedBy {
			if done[entry] || !isKeyringSet(entry) {
				continue
			}
			done[entry] = true
			files, err := keyringFiles(entry)
			fmt.Fprintln(&stamp, entry, err)
			for _, name := range files {
				if info, err := os.Stat(name); err == nil {
					fmt.Fprintln(&stamp, name, info.ModTime().UnixNano(), info.Size())
				}
			}
		}
	}
	return stamp.String()
}

// isKeyringSet reports whether an entry of signed_by stands for all keyrings of a directory, or for
// those that a pattern matches.
func isKeyringSet(entry string) bool {
	if IsInlineKey(entry) {
		return false
	}
	if strings.HasSuffix(entry, "/") || strings.ContainsAny(entry, "*?[") {
		return true
	}
	info, err := os.Stat(entry)
	return err == nil && info.IsDir()
}

// keyringFiles lists the files of a set. Of a directory they are those that apt takes from
// trusted.gpg.d: plain names that end in .gpg or .asc (GetListOfFilesInDir in apt-pkg/contrib/fileutl.cc).
// Empty and hidden files count as absent.
func keyringFiles(entry string) ([]string, error) {
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
			if plainKeyringName(e.Name()) {
				names = append(names, filepath.Join(entry, e.Name()))
			}
		}
	}
	return slices.DeleteFunc(names, func(name string) bool {
		info, err := os.Stat(name)
		return err != nil || !info.Mode().IsRegular() || info.Size() == 0 || strings.HasPrefix(filepath.Base(name), ".")
	}), nil
}

func plainKeyringName(name string) bool {
	return (strings.HasSuffix(name, ".gpg") || strings.HasSuffix(name, ".asc")) &&
		!strings.ContainsFunc(name, func(c rune) bool {
			return !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("._-", c))
		})
}

// readKeyring reads one entry of signed_by. In a directory or pattern, files that are no keyrings are
// left out with a warning, and there may be no keyring yet.
func readKeyring(entry string) (ring *pgp.Keyring, leftOut []string, err error) {
	if IsInlineKey(entry) {
		ring, err = pgp.ReadKeyring("in the configuration", []byte(entry))
		return ring, nil, err
	}
	if !isKeyringSet(entry) {
		ring, err = readKeyringFile(entry)
		return ring, nil, err
	}
	files, err := keyringFiles(entry)
	if err != nil {
		return nil, nil, err
	}
	var rings []*pgp.Keyring
	for _, name := range files {
		r, err := readKeyringFile(name)
		if err != nil {
			leftOut = append(leftOut, fileTrouble(name, err, ""))
			continue
		}
		rings = append(rings, r)
	}
	return pgp.MergeKeyrings(rings...).Named(entry), leftOut, nil
}

func readKeyringFile(name string) (*pgp.Keyring, error) {
	data, err := ReadBounded(name, maxKeyring)
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

// keyringTroubles says what is wrong with an entry of signed_by though the archive can be served, for warnings.
func keyringTroubles(entry string) (troubles []string, err error) {
	ring, leftOut, err := readKeyring(entry)
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
