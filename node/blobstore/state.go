package blobstore

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"sort"
	"strings"
)

// maxStateName is what a file system takes for one name.
const maxStateName = 255

// stateFile returns the file that holds a named piece of state. Names are free
// text, slashes included; they are escaped into one flat directory, so that
// "dists/a" and "dists/a/b" can both exist.
func stateFile(name string) (string, error) {
	if name == "" {
		return "", errors.New("a state file needs a name")
	}
	file := url.PathEscape(name)
	if file[0] == '.' { // ours, or "." and ".."
		file = "%2E" + file[1:]
	}
	if len(file) > maxStateName {
		return "", fmt.Errorf("the name of state file %.40q… is too long: %d bytes, at most %d", name, len(file), maxStateName)
	}
	return file, nil
}

// WriteFile replaces a small piece of state, durably: after a crash or a power
// cut ReadFile gives the old bytes or the new ones. When it returns nil, the new
// ones. The name is free text of up to 255 bytes after URL escaping. These bytes
// do not count against MaxBytes. Where the disk is full or fails the error wraps
// proto.ErrNoSpace and the old bytes stay.
func (s *Store) WriteFile(name string, data []byte) error {
	if err := s.begin(); err != nil {
		return err
	}
	defer s.end()
	file, err := stateFile(name)
	if err != nil {
		return err
	}
	if err := s.writeState("state", file, data); err != nil {
		return s.cannotKeep("write state file "+name, err)
	}
	s.health.mend(s.log)
	return nil
}

// ReadFile returns a piece of state; fs.ErrNotExist where there is none.
func (s *Store) ReadFile(name string) ([]byte, error) {
	file, err := stateFile(name)
	if err != nil {
		return nil, err
	}
	return s.readState(file)
}

// RemoveFile deletes a piece of state, durably. One that is not there is no
// error.
func (s *Store) RemoveFile(name string) error {
	if err := s.begin(); err != nil {
		return err
	}
	defer s.end()
	file, err := stateFile(name)
	if err != nil {
		return err
	}
	err = s.fs.Remove("state.remove", filepath.Join(s.dirs.state, file))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = s.fs.SyncDir("state.syncdir", s.dirs.state)
	}
	if err != nil {
		return fmt.Errorf("remove state file %s: %w", name, err)
	}
	return nil
}

// ListFiles returns the names of state files that begin with prefix, sorted.
func (s *Store) ListFiles(prefix string) ([]string, error) {
	files, err := os.ReadDir(s.dirs.state)
	if err != nil {
		return nil, fmt.Errorf("list state files: %w", err)
	}
	var names []string
	for _, f := range files {
		name, err := url.PathUnescape(f.Name())
		if err != nil || strings.HasPrefix(f.Name(), ".") || !strings.HasPrefix(name, prefix) {
			continue
		}
		names = append(names, name)
	}
	sort.Strings(names)
	return names, nil
}

func (s *Store) readState(file string) ([]byte, error) {
	b, err := os.ReadFile(filepath.Join(s.dirs.state, file))
	if err != nil {
		return nil, fmt.Errorf("read state file: %w", err)
	}
	return b, nil
}

// writeState replaces a file below state by the calls that commit uses for a
// blob: write, fsync, rename, fsync of the directory. what is the first half of
// the steps' names.
func (s *Store) writeState(what, file string, data []byte) error {
	tmp := s.tempName()
	err := s.writeTemp(what, tmp, data)
	if err == nil {
		err = s.fs.Rename(what+".rename", tmp, filepath.Join(s.dirs.state, file))
	}
	if err != nil {
		_ = os.Remove(tmp) // else the next Open does
		return err
	}
	return s.fs.SyncDir(what+".syncdir", s.dirs.state)
}

func (s *Store) writeTemp(what, tmp string, data []byte) error {
	f, err := s.fs.Create(what+".create", tmp)
	if err != nil {
		return err
	}
	_, err = s.fs.Write(what+".write", f, data)
	if err == nil {
		err = s.fs.Sync(what+".sync", f)
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}
