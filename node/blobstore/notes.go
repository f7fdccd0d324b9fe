package blobstore

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/aptmesh/aptmesh/node/durable"
)

// The notes of a store about itself. Both may be lost: the scan finds out again.
const (
	ledgerName = "usage" // the most bytes that blobs may use
	scrubName  = "scrub" // the last digest that was scrubbed
)

// readNote returns a note; fs.ErrNotExist where there is none.
func (s *Store) readNote(name string) ([]byte, error) {
	return os.ReadFile(filepath.Join(s.dirs.root, name))
}

// writeNote replaces a note durably. what is the first half of the steps' names.
func (s *Store) writeNote(what, name string, data []byte) error {
	return durable.Replace(s.fs, what, s.tempName(), filepath.Join(s.dirs.root, name), data)
}

// adoptNotes takes up the notes of a store that still kept them among the files of
// other rooms, in state/ with a leading dot.
func (s *Store) adoptNotes() error {
	for _, name := range []string{ledgerName, scrubName} {
		old := filepath.Join(s.dirs.root, "state", "."+name)
		err := s.fs.Rename("open.rename", old, filepath.Join(s.dirs.root, name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
