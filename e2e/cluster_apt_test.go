package e2e

import (
	"fmt"
	"sync"
	"testing"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
)

// on makes a host that has the node in its sources.
func (c *cluster) on(m *member) *apt {
	c.t.Helper()
	return newApt(c.t, c.archive.Keyring(), fmt.Sprintf("deb [signed-by=KEYRING] %[1]s/debian noble main\ndeb-src [signed-by=KEYRING] %[1]s/debian noble main", m.URL))
}

// atOnce runs one apt command on all hosts at the same time; each must succeed
// without a word of complaint.
func (c *cluster) atOnce(hosts []*apt, args ...string) {
	c.t.Helper()
	var all sync.WaitGroup
	for i, host := range hosts {
		all.Go(func() {
			if out, err := host.try("apt-get", args...); err != nil || complaint.MatchString(out) {
				c.t.Errorf("host %d: apt-get %q: %v\n%s", i, args, err, out)
			}
		})
	}
	all.Wait()
	if c.t.Failed() {
		c.t.FailNow()
	}
}

// Two hosts at two nodes do the same at the same time: upstream sends each object
// once, and a third host at a third node costs upstream nothing at all.
func TestClusterWithApt(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, hello()...)
	hosts := []*apt{c.on(c.nodes[0]), c.on(c.nodes[1])}
	everything := func(hosts ...*apt) {
		t.Helper()
		c.atOnce(hosts, "update")
		c.atOnce(hosts, "download", "hello")
		c.atOnce(hosts, "source", "--download-only", "hello", "tool")
		c.atOnce(hosts, "-y", "--download-only", "install", "hello")
	}
	everything(hosts...)
	_, deb := c.find("hello_2.10-1+b1~x_amd64.deb")
	for _, host := range hosts {
		host.same("hello_1%3a2.10-1+b1~x_amd64.deb", deb)
	}

	before := c.fetched()
	everything(c.on(c.nodes[2]))
	if after := c.fetched(); after != before {
		t.Errorf("upstream sent %d bodies for two hosts, and %d more for the third", before, after-before)
	}

	// What is new reaches all of them, whole, and once.
	c.archive.AddPackage("noble", testarchive.Package{Name: "hello", Version: "1:2.11-1", Size: 60_000, Depends: "libworld1 (>= 1.0)"})
	c.publish()
	c.agree()
	hosts = append(hosts, c.on(c.nodes[2]))
	c.atOnce(hosts, "update")
	c.atOnce(hosts, "download", "hello")
	_, deb = c.find("hello_2.11-1_amd64.deb")
	for _, host := range hosts {
		host.same("hello_1%3a2.11-1_amd64.deb", deb)
	}
	c.check()
}
