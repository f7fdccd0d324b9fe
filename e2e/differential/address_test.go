package differential

import (
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
)

// address is where a host reaches a node: the same for all nodes that stand behind it, as an anycast address is.
type address struct {
	url  string
	node atomic.Pointer[string] // host:port
}

func newAddress(t *testing.T) *address {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	a := &address{url: "http://" + listener.Addr().String()}
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return // the row is over
			}
			go a.connect(client)
		}
	}()
	return a
}

// leadTo has new connections reach a node.
func (a *address) leadTo(n *node) {
	host := strings.TrimPrefix(n.url, "http://")
	a.node.Store(&host)
}

// connect passes bytes on, both ways, until one side is done.
func (a *address) connect(client net.Conn) {
	defer client.Close()
	node, err := net.Dial("tcp", *a.node.Load())
	if err != nil {
		return // which the client sees
	}
	defer node.Close()
	go func() {
		_, _ = io.Copy(node, client) // ends with either connection
		_ = node.(*net.TCPConn).CloseWrite()
	}()
	_, _ = io.Copy(client, node)
}
