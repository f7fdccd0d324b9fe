package blobstore

import (
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/aptmesh/aptmesh/node/durable"
)

// fsys is every system call on the way of bytes to the disk, so that a test can
// make exactly one of them fail. step names the place in our code, such as
// "blob.sync"; the real file system ignores it.
type fsys interface {
	durable.FS
	SetTimes(step string, f *os.File, used, modified time.Time) error
	// Free returns the bytes an unprivileged process may still allocate.
	Free(dir string) (int64, error)
}

const (
	dirMode  = durable.DirMode
	fileMode = durable.FileMode
)

type osFS struct{ durable.OS }

func (osFS) SetTimes(_ string, f *os.File, used, modified time.Time) error {
	return setTimes(f.Name(), unix.NsecToTimespec(used.UnixNano()), unix.Timespec{Sec: modified.Unix()})
}

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
