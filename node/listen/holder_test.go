package listen

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
)

// An address that is taken names who has it.
func TestExplain(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, err = All(t.Context(), []string{"127.0.0.1:0", l.Addr().String()}, nil, nil)
	if err == nil {
		t.Fatal("two listen at one address")
	}
	got := Explain(err)
	want := fmt.Sprintf("(process %d)", os.Getpid())
	if !errors.Is(got, err) || !strings.Contains(got.Error(), want) || !strings.Contains(got.Error(), "another port") {
		t.Errorf("%v; want %s", got, want)
	}
	packets, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer packets.Close()
	if _, err = net.ListenPacket("udp", packets.LocalAddr().String()); err == nil || !strings.Contains(Explain(err).Error(), want) {
		t.Errorf("a port of UDP: %v; want %s", err, want)
	}
	if other := errors.New("other"); Explain(other) != other {
		t.Error("an error of another kind is changed")
	}
	if got := listenerOn(t.TempDir(), tcpTables, 3142); got != "" {
		t.Errorf("without /proc: %q", got)
	}
	for cause, want := range map[syscall.Errno]string{syscall.EADDRNOTAVAIL: "no interface of this machine has 192.0.2.1", syscall.EACCES: "may not use port 80"} {
		err := &net.OpError{Op: "listen", Net: "tcp", Addr: &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 80}, Err: os.NewSyscallError("bind", cause)}
		if got := Explain(err); !errors.Is(got, cause) || !strings.Contains(got.Error(), want) {
			t.Errorf("%v; want %s", got, want)
		}
	}
	hidden := &net.OpError{Op: "listen", Net: "tcp", Addr: &net.TCPAddr{Port: 3142}, Err: os.NewSyscallError("bind", syscall.EADDRINUSE)}
	if got := explain(hidden, t.TempDir()); !strings.Contains(got.Error(), "apt-cacher-ng") {
		t.Errorf("%v", got)
	}
}
