package admin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// SocketIn is the path of a node's socket below its directory of durable state.
func SocketIn(state string) string { return filepath.Join(state, "admin", "socket") }

// socketPath returns the path of a unix socket in an address: "unix:/path", or a
// path by itself.
func socketPath(addr string) (path string, ok bool) {
	if path, ok := strings.CutPrefix(addr, "unix:"); ok {
		return filepath.Clean(path), true
	}
	return filepath.Clean(addr), strings.ContainsRune(addr, '/')
}

// listenUnix listens on a socket. private makes its directory, which nobody but
// the user of this process and root enter. Otherwise the operator chose the
// directory, and the socket is for its owner and its group. The socket of a node
// that was killed is replaced.
func listenUnix(ctx context.Context, path string, private bool) (net.Listener, error) {
	mode := fs.FileMode(0o660)
	if private {
		mode = 0o600
		dir := filepath.Dir(path)
		if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
		if err := os.Chmod(dir, 0o700); err != nil {
			return nil, err
		}
	}
	if c, err := dialUnix(ctx, path); err == nil {
		c.Close()
		return nil, fmt.Errorf("another process listens on %s", path)
	} else if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	short, done, err := shortPath(path)
	if err != nil {
		return nil, err
	}
	defer done()
	l, err := (&net.ListenConfig{}).Listen(ctx, "unix", short)
	if err != nil {
		return nil, err
	}
	// The path may be short for this call only; a socket that is left is replaced.
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	if err := os.Chmod(path, mode); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return unlinking{l, path}, nil
}

// unlinking removes its socket when it is closed.
type unlinking struct {
	net.Listener
	path string
}

func (u unlinking) Close() error {
	_ = os.Remove(u.path) // one that is left is replaced at the next start
	return u.Listener.Close()
}

func dialUnix(ctx context.Context, path string) (net.Conn, error) {
	short, done, err := shortPath(path)
	if err != nil {
		return nil, err
	}
	defer done()
	return (&net.Dialer{}).DialContext(ctx, "unix", short)
}

// maxSocketPath is the longest path that fits a socket address of Linux.
const maxSocketPath = 107

// shortPath names a socket by a descriptor of its directory where its path is too
// long for the kernel. done releases that.
func shortPath(path string) (short string, done func(), err error) {
	if len(path) <= maxSocketPath {
		return path, func() {}, nil
	}
	fd, err := unix.Open(filepath.Dir(path), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", nil, &fs.PathError{Op: "open", Path: filepath.Dir(path), Err: err}
	}
	return fmt.Sprintf("/proc/self/fd/%d/%s", fd, filepath.Base(path)), func() { unix.Close(fd) }, nil
}
