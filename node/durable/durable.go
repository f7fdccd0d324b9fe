// Package durable is the last step of bytes on their way to the disk: the system
// calls that make a file survive a crash and a power cut, and the lock that keeps a
// directory to one process. The store of blobs and the directory of state files both
// write through it, so that the order of the calls is decided in one place.
//
// It is not a store: it knows no layout, keeps nothing in memory, and has no opinion
// about what a file means.
package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// The modes are narrow: files may come from private archives.
const (
	DirMode  = 0o750
	FileMode = 0o640
)

// FS is every system call that changes a directory, so that a test can make exactly
// one of them fail. step names the place in our code, such as "state.sync"; OS
// ignores it. It is safe for concurrent use.
type FS interface {
	// Create makes a new file to write and read; one of that name is an error.
	Create(step, name string) (*os.File, error)
	Write(step string, f *os.File, p []byte) (int, error)
	Sync(step string, f *os.File) error
	Rename(step, from, to string) error
	// SyncDir makes the names in a directory durable.
	SyncDir(step, name string) error
	Remove(step, name string) error
}

// OS is the real file system.
type OS struct{}

// Create implements FS.
func (OS) Create(_, name string) (*os.File, error) {
	return os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, FileMode)
}

// Write implements FS.
func (OS) Write(_ string, f *os.File, p []byte) (int, error) { return f.Write(p) }

// Sync implements FS.
func (OS) Sync(_ string, f *os.File) error { return f.Sync() }

// Rename implements FS.
func (OS) Rename(_, from, to string) error { return os.Rename(from, to) }

// SyncDir implements FS.
func (OS) SyncDir(_, name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// Remove implements FS.
func (OS) Remove(_, name string) error { return os.Remove(name) }

// Replace puts data in the place of file, by these system calls in this order:
//
//	openat(tmp, O_CREAT|O_EXCL), write(tmp)
//	fsync(tmp)          the bytes are on disk; a failure ends it here
//	rename(tmp, file)   the file is the old one or the new one, never a part
//	fsync(directory)    the name is on disk
//
// After an error of any of the first calls the old file stands untouched and tmp is
// removed, or left for the caller's next start. After an error of the last one the
// file is the new one, but a power cut may bring the old one back. tmp must be on the
// same file system, and nobody else's. what is the first half of the steps' names.
func Replace(fsys FS, what, tmp, file string, data []byte) error {
	err := writeTemp(fsys, what, tmp, data)
	if err == nil {
		err = fsys.Rename(what+".rename", tmp, file)
	}
	if err != nil {
		_ = fsys.Remove(what+".undo", tmp)
		return err
	}
	return fsys.SyncDir(what+".syncdir", filepath.Dir(file))
}

func writeTemp(fsys FS, what, tmp string, data []byte) error {
	f, err := fsys.Create(what+".create", tmp)
	if err != nil {
		return err
	}
	_, err = fsys.Write(what+".write", f, data)
	if err == nil {
		err = fsys.Sync(what+".sync", f)
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

// Mkdirs makes those directories that are missing, and reports whether any was.
func Mkdirs(names ...string) (made bool, err error) {
	for _, name := range names {
		switch err := os.Mkdir(name, DirMode); {
		case err == nil:
			made = true
		case !errors.Is(err, fs.ErrExist):
			return made, err
		}
	}
	return made, nil
}

// Explain says in the operator's words what a failed write in dir means, and what to
// do.
func Explain(dir string, err error) string {
	switch {
	case errors.Is(err, unix.ENOSPC):
		return fmt.Sprintf("the file system of %s is full: free space (or inodes) on it, or lower cache.max_size (%v)", dir, err)
	case errors.Is(err, unix.EDQUOT):
		return fmt.Sprintf("the disk quota for %s is used up: raise it, or lower cache.max_size (%v)", dir, err)
	case errors.Is(err, unix.EIO):
		return fmt.Sprintf("the disk under %s fails: look at the kernel log, then run aptmesh verify (%v)", dir, err)
	case errors.Is(err, unix.EROFS):
		return fmt.Sprintf("the file system of %s is read-only: look at the kernel log for the cause, then remount it (%v)", dir, err)
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return fmt.Sprintf("no permission to write in %s: give it to the user this process runs as (%v)", dir, err)
	}
	return fmt.Sprintf("cannot write in %s: %v", dir, err)
}
