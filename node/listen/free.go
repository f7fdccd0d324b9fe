package listen

import (
	"context"
	"fmt"
	"net"
	"strings"
)

// Port is an address that the configuration names, with its key.
type Port struct {
	Key, Addr string
	Packets   bool // UDP as well as TCP
}

// CheckFree binds all addresses and closes them again. The error names each that cannot be bound, with what to do
// about it: a node that notices them one after the other starts as many times in vain, and does its first work each
// time. A port that the kernel chooses, and what is no address of TCP, is passed over.
func CheckFree(ctx context.Context, ports []Port) error {
	var said []string
	var open Listeners // until the end, so that two of the addresses do not take each other's place
	defer func() { open.Close() }()
	for _, p := range ports {
		if _, port, err := SplitHostPort(p.Addr); err != nil || port == "0" {
			continue
		}
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", p.Addr)
		if err == nil {
			open = append(open, l)
			if p.Packets {
				var packets net.PacketConn
				if packets, err = (&net.ListenConfig{}).ListenPacket(ctx, "udp", p.Addr); err == nil {
					defer packets.Close()
				}
			}
		}
		if err != nil {
			said = append(said, fmt.Sprintf("%s: %v", p.Key, Explain(err)))
		}
	}
	if len(said) == 0 {
		return nil
	}
	return fmt.Errorf("%s", strings.Join(said, ". "))
}
