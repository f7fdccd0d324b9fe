package blobstore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/aptmesh/aptmesh/node/durable"
	"github.com/aptmesh/aptmesh/proto"
)

// A blob may carry a mark: the only names through which it may be served. The store does not know
// what the names mean, and gives the blob to every caller; the caller obeys the mark.
//
// A mark is a file of its own, only/<digest>, with one name a line. It is durable before its blob
// has a name, and goes after the blob is durably gone. So whatever a power cut takes, a blob that
// needs a mark has one. A mark too many makes a blob that is open to all a restricted one, until
// it is committed again without a name.

// marks are the blobs that carry a mark. A mark's names are read when they are asked for.
type marks struct {
	mu    sync.RWMutex
	names map[proto.Digest][]string // guarded by mu; nil names: not read yet
}

// unreadable stands for the names of a mark that cannot be read: nobody has it.
var unreadable = []string{""}

// mark returns the path of a blob's mark.
func (d dirs) mark(digest proto.Digest) string { return filepath.Join(d.only, digest.String()) }

// Only returns the only names through which a blob may be served; nil if it is open to all, or not
// stored.
func (s *Store) Only(d proto.Digest) []string {
	if _, only, ok := s.overflow.stat(d); ok {
		return only
	}
	s.marks.mu.RLock()
	names, marked := s.marks.names[d]
	s.marks.mu.RUnlock()
	if !marked || names != nil {
		return names
	}
	sh := s.index.shard(d)
	sh.change.Lock()
	defer sh.change.Unlock()
	return s.readMark(d)
}

// readMark is Only for a caller that holds the shard's change.
func (s *Store) readMark(d proto.Digest) []string {
	s.marks.mu.RLock()
	names, marked := s.marks.names[d]
	s.marks.mu.RUnlock()
	if !marked || names != nil {
		return names
	}
	text, err := os.ReadFile(s.dirs.mark(d))
	if err == nil {
		names = strings.Fields(string(text))
	}
	if len(names) == 0 {
		s.log.Error("cannot read through which archives a blob may be given, so it is given through none; remove the blob and its mark by hand",
			"blob", d, "file", s.dirs.mark(d), "error", err)
		names = unreadable
	}
	s.marks.set(d, names)
	return names
}

// set marks the names of a blob. The caller holds the shard's change.
func (n *marks) set(d proto.Digest, names []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.names[d] = names
}

// Only restricts what will be committed to a name, which holds no white space, besides those that
// the mark of an equal blob has. An equal blob without a mark is open to all, and stays so. Without
// a call of Only, a Commit makes the blob open to all.
func (w *Writer) Only(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.only = name
}

// markOnly writes the mark that a blob needs before it gets its name. before says that there is an
// equal blob. The caller holds the shard's change.
func (s *Store) markOnly(d proto.Digest, name string, before bool) error {
	if name == "" {
		return nil
	}
	names := s.readMark(d)
	if before && names == nil || slices.Contains(names, name) {
		return nil
	}
	names = append(slices.Clone(names), name)
	names = slices.DeleteFunc(names, func(n string) bool { return n == "" }) // unreadable
	err := durable.Replace(s.fs, "only", s.tempName(), s.dirs.mark(d), []byte(strings.Join(names, "\n")+"\n"))
	if err == nil || !s.hasMark(d) {
		s.marks.set(d, names) // if in doubt, restricted
	}
	return err
}

// openToAll removes the mark of a blob that was committed without a name. The caller holds the
// shard's change. A mark that comes back after a power cut restricts the blob again, which is safe.
func (s *Store) openToAll(d proto.Digest) {
	if s.hasMark(d) {
		s.dropMark(d)
	}
}

// dropMarkOf removes the mark of a blob that was removed. The caller holds the shard's change.
func (s *Store) dropMarkOf(d proto.Digest) {
	if !s.hasMark(d) {
		return
	}
	// The blob must not come back without its mark.
	if err := s.fs.SyncDir("only.gone", s.dirs.shard(d[0])); err == nil {
		s.dropMark(d)
	}
}

func (s *Store) hasMark(d proto.Digest) bool {
	s.marks.mu.RLock()
	defer s.marks.mu.RUnlock()
	_, marked := s.marks.names[d]
	return marked
}

// dropMark removes a mark. One that cannot be removed stays in force.
func (s *Store) dropMark(d proto.Digest) {
	if err := s.fs.Remove("only.remove", s.dirs.mark(d)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.log.Warn("cannot remove the mark of a blob, which stays restricted", "blob", d, "error", err)
		return
	}
	s.marks.mu.Lock()
	delete(s.marks.names, d)
	s.marks.mu.Unlock()
}

// openMarks finds the marks that there are.
func (s *Store) openMarks() error {
	s.marks.names = make(map[proto.Digest][]string)
	dir, err := os.Open(s.dirs.only)
	if err != nil {
		return err
	}
	defer dir.Close()
	files, err := dir.Readdirnames(-1)
	if err != nil {
		return fmt.Errorf("list the marks of blobs: %w", err)
	}
	for _, file := range files {
		if d, err := proto.ParseDigest(file); err == nil {
			s.marks.names[d] = nil
		}
	}
	return nil
}

// dropOrphanMarks removes the marks that a crash has left without a blob.
func (s *Store) dropOrphanMarks() {
	s.marks.mu.RLock()
	marked := make([]proto.Digest, 0, len(s.marks.names))
	for d := range s.marks.names {
		marked = append(marked, d)
	}
	s.marks.mu.RUnlock()
	for _, d := range marked {
		sh := s.index.shard(d)
		sh.change.Lock()
		if !exists(s.dirs.blob(d)) {
			s.dropMarkOf(d)
		}
		sh.change.Unlock()
	}
}
