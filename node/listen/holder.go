package listen

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// Explain says what to do about an address that cannot be bound. It names the process that already uses
// the address, as far as /proc shows it: a service manager may hide other users' processes. Any other
// error stays as it is.
func Explain(err error) error { return explain(err, "/proc") }

func explain(err error, proc string) error {
	var op *net.OpError
	if !errors.As(err, &op) || op.Op != "listen" {
		return err
	}
	var at netip.AddrPort
	tables, option := tcpTables, "t"
	switch addr := op.Addr.(type) {
	case *net.TCPAddr:
		at = addr.AddrPort()
	case *net.UDPAddr:
		at, tables, option = addr.AddrPort(), udpTables, "u"
	default:
		return err
	}
	port := int(at.Port())
	switch {
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("%w: no interface of this machine has %s; `ip address` lists those it has, and \":%d\" is all of them", err, at.Addr().Unmap(), port)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("%w: this user may not use port %d; choose one from 1024 on, or give the service AmbientCapabilities=CAP_NET_BIND_SERVICE", err, port)
	case !errors.Is(err, syscall.EADDRINUSE):
		return err
	}
	switch holder := listenerOn(proc, tables, port); {
	case holder != "":
		return fmt.Errorf("%w: port %d is in use by %s; stop it, or give this node another port", err, port, holder)
	case port == 3142:
		return fmt.Errorf("%w: port 3142 is apt-cacher-ng's, too: stop that (systemctl disable --now apt-cacher-ng), or give this node another port", err)
	}
	return fmt.Errorf("%w: `ss -l%snp 'sport = :%d'`, as root, names the process", err, option, port)
}

// tables are those of proc(5) in which sockets stand, with the state of one that listens.
type tables struct {
	names []string
	state string
}

var (
	tcpTables = tables{[]string{"net/tcp", "net/tcp6"}, "0A"}
	udpTables = tables{[]string{"net/udp", "net/udp6"}, "07"}
)

// listenerOn names the process that listens on a port, by the tables of proc(5); "" if they do not show it.
func listenerOn(proc string, in tables, port int) string {
	sockets := make(map[string]bool)
	for _, table := range in.names {
		f, err := os.Open(filepath.Join(proc, table))
		if err != nil {
			continue
		}
		for lines := bufio.NewScanner(f); lines.Scan(); {
			// sl local_address rem_address st ... inode is the tenth
			fields := strings.Fields(lines.Text())
			if len(fields) > 9 && fields[3] == in.state && strings.HasSuffix(fields[1], fmt.Sprintf(":%04X", port)) {
				sockets["socket:["+fields[9]+"]"] = true
			}
		}
		f.Close()
	}
	if len(sockets) == 0 {
		return ""
	}
	open, _ := filepath.Glob(filepath.Join(proc, "[0-9]*/fd/*")) // the pattern is good
	for _, fd := range open {
		if target, err := os.Readlink(fd); err != nil || !sockets[target] {
			continue
		}
		process := filepath.Dir(filepath.Dir(fd))
		name, err := os.ReadFile(filepath.Join(process, "comm"))
		if err != nil {
			name = []byte("a process")
		}
		return fmt.Sprintf("%s (process %s)", strings.TrimSpace(string(name)), filepath.Base(process))
	}
	return ""
}
