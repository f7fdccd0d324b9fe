package statedir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/aptmesh/aptmesh/node/durable"
)

// Import moves the files whose names begin with prefix from another directory of this
// kind, numbered or not, into this one. A file of the same name here is replaced. The
// caller ensures that no other process uses the other directory.
//
// It can be interrupted at any moment and repeated. On one file system each file is
// renamed. Across file systems each is written here durably before it is removed
// there, so that it always exists in one of the two places.
func (d *Dir) Import(from, prefix string) error {
	files, err := stateFiles(from, prefix)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(files) == 0 {
		return nil
	}
	if err != nil {
		return fmt.Errorf("take over the files of %s: %w", from, err)
	}
	for _, f := range files {
		if err := d.importFile(from, f); err != nil {
			return fmt.Errorf("take over state file %s of %s: %w", f.name, from, err)
		}
	}
	// What was renamed is durable in both directories from here on.
	for _, dir := range []string{d.dir, from} {
		if err := d.fs.SyncDir("import.syncdir", dir); err != nil {
			return fmt.Errorf("take over the files of %s: %w", from, err)
		}
	}
	return nil
}

func (d *Dir) importFile(from string, f stateFile) error {
	there := filepath.Join(from, f.file)
	here := filepath.Join(d.dir, f.file)
	err := d.fs.Rename("import.rename", there, here)
	if !errors.Is(err, unix.EXDEV) {
		return err
	}
	data, err := os.ReadFile(there)
	if err != nil {
		return err
	}
	if err := durable.Replace(d.fs, "import", d.tempName(), here, data); err != nil {
		return err
	}
	return d.fs.Remove("import.remove", there)
}

// Retire removes a directory of this kind that Import has emptied, with its format and
// its lock. It leaves alone a directory that still holds a file.
func Retire(dir string) error {
	if Holds(dir, "") {
		return nil
	}
	for _, name := range []string{formatName, durable.LockName, ""} {
		err := os.Remove(filepath.Join(dir, name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTEMPTY) {
			return err
		}
	}
	return nil
}

// Holds reports whether a directory holds a file whose name begins with prefix.
func Holds(dir, prefix string) bool {
	files, err := stateFiles(dir, prefix)
	return err == nil && len(files) > 0
}
