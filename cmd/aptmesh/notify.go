package main

import (
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// notify sends the node's state to the service manager, by the protocol of sd_notify(3): a
// datagram to the socket that NOTIFY_SOCKET names. Without that variable it does nothing.
func notify(log *slog.Logger, state string) {
	socket := os.Getenv("NOTIFY_SOCKET")
	if socket == "" {
		return
	}
	if name, ok := strings.CutPrefix(socket, "@"); ok {
		socket = "\x00" + name // the abstract namespace
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err == nil {
		_, err = conn.Write([]byte(state))
		conn.Close()
	}
	if err != nil {
		log.Warn("the service manager could not be told", "state", state, "error", err)
	}
}

// reloading is the state that begins a reload; sd_notify(3) wants the time of the
// monotonic clock with it.
func reloading() string {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return "RELOADING=1"
	}
	return fmt.Sprintf("RELOADING=1\nMONOTONIC_USEC=%d", now.Nano()/1000)
}
