package e2e

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
)

// readAll reads an answer's body.
func readAll(resp *http.Response) ([]byte, error) {
	defer resp.Body.Close()
	return io.ReadAll(resp.Body)
}

// A host whose node is killed in the middle of a download, and started again, ends
// up with the right file without anybody's help. There is an address in front of
// the node that accepts connections all the time, as the next node behind an
// anycast address does, or systemd's socket: apt (2.6.1) does not try an address
// again that has once refused a connection, however often it says it retries.
func TestAptOutlivesAKilledNode(t *testing.T) {
	t.Parallel()
	w := small(t, options{})
	address := relay(t, w.node)
	c := newApt(t, w.archive.Keyring(), "deb [signed-by=KEYRING] http://"+address+"/debian noble main")
	c.runDownload(w)

	w.archive.AddPackage("noble", testarchive.Package{Name: "hello", Version: "2", Size: 900_000})
	w.archive.Publish(w.began.Add(time.Minute))
	w.refresh("noble")
	c.run("apt-get", "update")
	stall := w.server.Inject("*/hello_2*", 1, testarchive.Stall(500_000))
	done := make(chan string, 1)
	go func() {
		out, err := c.try("apt-get", "download", "hello")
		done <- fmt.Sprintf("%v\n%s", err, out)
	}()
	<-stall.Stalled()
	w.node.Kill()
	w.node.Addr = w.node.Addrs[0]
	w.node.start()
	out := <-done
	_, want := w.find("/hello_2_")
	c.same("hello_2_amd64.deb", want)
	if t.Failed() {
		t.Logf("apt-get download: %s", out)
	}
	w.node.checkStored()
}

// relay returns an address that passes connections on to the node, as soon as
// there is one.
func relay(t *testing.T, n *node) string {
	t.Helper()
	l := must(net.Listen("tcp", "127.0.0.1:0"))(t)
	target := n.Addrs[0]
	var all sync.WaitGroup
	t.Cleanup(func() {
		l.Close()
		n.Kill() // which ends the connections
		all.Wait()
	})
	all.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer client.Close()
				for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
					server, err := net.Dial("tcp", target)
					if err != nil {
						continue
					}
					defer server.Close()
					all.Go(func() {
						_, _ = io.Copy(server, client) // it ends when either side does
						server.Close()
					})
					_, _ = io.Copy(client, server)
					return
				}
			})
		}
	})
	return l.Addr().String()
}
