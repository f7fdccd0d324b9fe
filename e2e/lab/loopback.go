package lab

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
)

// Loopbacks returns n neighbouring loopback addresses, 127.x.y.1 and up, on which all
// the ports are free, TCP and UDP. The network is a random one, so that clusters that
// run at the same time on one machine do not meet. Linux has all of 127.0.0.0/8;
// elsewhere this fails.
func Loopbacks(n int, ports ...int) ([]string, error) {
	err := errors.New("no tries")
	for range 20 {
		// Debian calls the machine itself 127.0.1.1.
		network := fmt.Sprintf("127.%d.%d", 2+rand.IntN(250), rand.IntN(256))
		addrs := make([]string, n)
		for i := range addrs {
			addrs[i] = fmt.Sprintf("%s.%d", network, i+1)
		}
		if err = AllFree(addrs, ports...); err == nil {
			return addrs, nil
		}
	}
	return nil, fmt.Errorf("looking for free loopback addresses: %w", err)
}

// AllFree says which of the ports is taken on one of the addresses; nil if none is.
func AllFree(addrs []string, ports ...int) error {
	for _, addr := range addrs {
		for _, port := range ports {
			hostPort := net.JoinHostPort(addr, fmt.Sprint(port))
			l, err := net.Listen("tcp", hostPort)
			if err != nil {
				return err
			}
			l.Close()
			u, err := net.ListenPacket("udp", hostPort)
			if err != nil {
				return err
			}
			u.Close()
		}
	}
	return nil
}
