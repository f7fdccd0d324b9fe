// Package files reads whole files that a configuration names, and says in words for an operator why one
// cannot be read. It does not know what is in them, and it writes nothing.
package files

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// ReadBounded reads a whole file that is not expected to be longer than max bytes.
func ReadBounded(name string, max int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, max+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > max {
		return nil, fmt.Errorf("%s is longer than %d MiB", name, max>>20)
	}
	return data, nil
}

// Trouble says why a file cannot be read. hint says where else to get it, which is no help where it is there and may
// not be read.
func Trouble(name string, err error, hint string) string {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return name + " does not exist" + hint
	case errors.Is(err, fs.ErrPermission):
		return name + " may not be read by this user"
	}
	return err.Error() + hint
}

// OthersMayRead reports whether every user of the machine may read a file, as far as its mode says.
func OthersMayRead(file string) bool {
	info, err := os.Stat(file)
	return err == nil && info.Mode().Perm()&0o004 != 0
}
