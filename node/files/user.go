package files

import (
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// User is a user of this machine, whose access to files can be asked before the user's process tries.
type User struct {
	Name   string
	id     uint32
	groups []uint32
}

// LookUpUser finds a user by name.
func LookUpUser(name string) (*User, error) {
	found, err := user.Lookup(name)
	if err != nil {
		return nil, err
	}
	u := &User{Name: name}
	id, err := strconv.ParseUint(found.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	u.id = uint32(id)
	groups, err := found.GroupIds()
	if err != nil {
		return nil, err
	}
	for _, text := range groups {
		if id, err := strconv.ParseUint(text, 10, 32); err == nil {
			u.groups = append(u.groups, uint32(id))
		}
	}
	return u, nil
}

// Refuses names what keeps the user from reading a file or directory: the first directory on the way that
// the user may not enter, or the name itself. It is "" if nothing does, as far as owners and modes say:
// access lists are not read, and what has one is taken as readable.
func (u *User) Refuses(name string) (at string, isDir bool) {
	name, err := filepath.Abs(name)
	if err != nil {
		return "", false
	}
	ways := []string{name}
	if real, err := filepath.EvalSymlinks(name); err == nil && real != name {
		ways = append(ways, real)
	}
	for _, way := range ways {
		for dir := filepath.Dir(way); ; dir = filepath.Dir(dir) {
			if !u.may(dir, unix.X_OK) {
				at = dir // one further up, if there is any, is met later
			}
			if dir == filepath.Dir(dir) {
				break
			}
		}
		if at != "" {
			return at, true
		}
		if !u.may(way, unix.R_OK) {
			return way, false
		}
	}
	return "", false
}

// may reports whether the mode of a file lets the user do something with it.
func (u *User) may(name string, what uint32) bool {
	info, err := os.Stat(name)
	if err != nil || u.id == 0 {
		return true // whoever opens it says so
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return true
	}
	if info.IsDir() {
		what |= unix.X_OK
	}
	bits := uint32(info.Mode() & fs.ModePerm)
	switch {
	case owner.Uid == u.id:
		bits >>= 6
	case slices.Contains(u.groups, owner.Gid):
		bits >>= 3
	}
	if bits&what == what {
		return true
	}
	n, err := unix.Getxattr(name, "system.posix_acl_access", nil)
	return err == nil && n > 0
}
