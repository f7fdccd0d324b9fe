package blobstore

import (
	"errors"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// openQuietly opens a file for reading without the kernel noting a use: the atime
// is ours. O_NOATIME is allowed to the file's owner; where we are not, noAtime
// remembers, and reading costs a little recency, which is no harm.
func openQuietly(name string, noAtime *atomic.Bool) (*os.File, error) {
	if !noAtime.Load() {
		return os.Open(name)
	}
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NOATIME, 0)
	if errors.Is(err, unix.EPERM) {
		noAtime.Store(false)
		return os.Open(name)
	}
	return f, err
}
