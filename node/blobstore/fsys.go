package blobstore

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// fsys is every system call on the way of bytes to the disk, so that a test can
// make exactly one of them fail. step names the place in our code, such as
// "blob.sync"; the real file system ignores it.
type fsys interface {
	Create(step, name string) (*os.File, error)
	Write(step string, f *os.File, p []byte) (int, error)
	SetTimes(step string, f *os.File, used, modified time.Time) error
	Sync(step string, f *os.File) error
	Rename(step, from, to string) error
	SyncDir(step, name string) error
	Remove(step, name string) error
	// Free returns the bytes an unprivileged process may still allocate.
	Free(dir string) (int64, error)
}

// The modes are narrow: a store may hold packages of private archives.
const (
	dirMode  = 0o750
	fileMode = 0o640
)

type osFS struct{}

func (osFS) Create(_, name string) (*os.File, error) {
	return os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, fileMode)
}

func (osFS) Write(_ string, f *os.File, p []byte) (int, error) { return f.Write(p) }

func (osFS) SetTimes(_ string, f *os.File, used, modified time.Time) error {
	return setTimes(f.Name(), unix.NsecToTimespec(used.UnixNano()), unix.Timespec{Sec: modified.Unix()})
}

func (osFS) Sync(_ string, f *os.File) error { return f.Sync() }

func (osFS) Rename(_, from, to string) error { return os.Rename(from, to) }

func (osFS) SyncDir(_, name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

func (osFS) Remove(_, name string) error { return os.Remove(name) }

func (osFS) Free(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, &os.PathError{Op: "statfs", Path: dir, Err: err}
	}
	return int64(st.Bavail) * st.Frsize, nil
}

// setUsed writes the last use of a blob and leaves its mtime, which is
// upstream's Last-Modified, alone.
func setUsed(name string, used time.Time) error {
	return setTimes(name, unix.NsecToTimespec(used.UnixNano()), unix.Timespec{Nsec: unix.UTIME_OMIT})
}

func setTimes(name string, atime, mtime unix.Timespec) error {
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, name, []unix.Timespec{atime, mtime}, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return &os.PathError{Op: "utimensat", Path: name, Err: err}
	}
	return nil
}
