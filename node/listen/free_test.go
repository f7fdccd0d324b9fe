package listen

import (
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
)

// All addresses that are taken are named at once, with their keys and who has them, and those that are free stay so.
func TestCheckFree(t *testing.T) {
	var taken []string
	for range 2 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		taken = append(taken, l.Addr().String())
	}
	packets, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer packets.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	free := l.Addr().String()
	l.Close()
	here := fmt.Sprintf("(process %d)", os.Getpid())
	err = CheckFree(t.Context(), []Port{
		{Key: "a", Addr: taken[0]}, {Key: "b", Addr: free}, {Key: "c", Addr: taken[1]}, {Key: "d", Addr: packets.LocalAddr().String(), Packets: true},
		{Key: "e", Addr: "127.0.0.1:0"}, {Key: "f", Addr: "unix:/run/x"}, {Key: "g", Addr: ""},
	})
	if err == nil {
		t.Fatal("nothing is taken")
	}
	parts := strings.Split(err.Error(), ". ")
	if len(parts) != 3 {
		t.Fatalf("%q", parts)
	}
	for i, key := range []string{"a: listen tcp ", "c: listen tcp ", "d: listen udp "} {
		if !strings.HasPrefix(parts[i], key) || !strings.Contains(parts[i], here) {
			t.Errorf("%q, want %s… %s", parts[i], key, here)
		}
	}
	if err := CheckFree(t.Context(), []Port{{Key: "b", Addr: free, Packets: true}}); err != nil {
		t.Error(err)
	}
	if l, err = net.Listen("tcp", free); err != nil {
		t.Fatal(err)
	}
	l.Close()
}
