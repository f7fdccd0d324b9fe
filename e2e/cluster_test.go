package e2e

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
	"github.com/aptmesh/aptmesh/e2e/lab"
)

// cluster is an archive, its server, and nodes in front of it that act as one cache:
// separate processes, each on a loopback address of its own, secured with the keys of
// `aptmesh cluster init`. The archive is called "debian" and has one suite, "noble".
type cluster struct {
	t       *testing.T
	archive *testarchive.Archive
	server  *testarchive.Server
	lab     *lab.Cluster
	keyring string // file
	nodes   []*member

	mu        sync.Mutex
	published []time.Time                           // generations
	signed    map[string]map[[sha256.Size]byte]bool // what each path has ever been
	deaths    int                                   // of nodes that may have been fetching
}

// member is one of its nodes.
type member struct {
	*node
	name string
}

// newCluster publishes the packages and starts the nodes n1, n2, ... It is checked
// when the test ends well: see check.
func newCluster(t *testing.T, nodes int, packages ...testarchive.Package) *cluster {
	t.Helper()
	c := &cluster{t: t, archive: testarchive.New(7), signed: make(map[string]map[[sha256.Size]byte]bool)}
	c.archive.AddSuite(testarchive.Suite{Name: "noble", ByHash: true, Translations: true})
	for _, p := range packages {
		c.archive.AddPackage("noble", p)
	}
	c.publish()
	c.server = testarchive.NewServer(c.archive)
	t.Cleanup(c.server.Close)

	var names []string
	for i := range nodes {
		names = append(names, fmt.Sprintf("n%d", i+1))
	}
	c.keyring = writeFile(t, filepath.Join(t.TempDir(), "archive.gpg"), c.archive.Keyring())
	dir := must(os.MkdirTemp("", "aptmesh-cluster-"))(t) // not t.TempDir, whose names may be too long for a socket
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	c.lab = must(lab.NewCluster(lab.Plan{Name: "e2e", Nodes: names, Dir: dir, Binary: binary}))(t)
	for _, l := range c.lab.Nodes {
		c.add(l, filepath.Join(c.lab.Keys, l.Name))
	}
	for _, m := range c.nodes {
		m.spawn()
	}
	for _, m := range c.nodes {
		m.awaitReady()
	}
	c.agree()
	for _, m := range c.nodes {
		c.update(m)
	}
	return c
}

// update reads what `apt update` reads, at a node, which knows the packages then.
func (c *cluster) update(m *member) {
	c.t.Helper()
	_, root := c.find("/dists/noble/InRelease")
	c.fetchAll(m, "dists/noble/InRelease", strings.TrimPrefix(indexURL(root), "/debian/"))
}

// add makes a node that is not started yet. keys is the directory with its keys.
func (c *cluster) add(l *lab.Node, keys string) *member {
	c.t.Helper()
	m := &member{node: tend(c.t, l), name: l.Name}
	m.URL = l.URL()
	l.Settings = common + fmt.Sprintf(`drain: {handoff: 10s, timeout: 10s}
upstream_client: {connections_per_host: 40} # so many that no transfer is preempted by another
archives:
  debian:
    upstream: %s
    aliases: ["http://archive.example.org/debian"]
    signed_by: [%q]
    suites: [noble]
    check_every: 1s
`, c.server.URL, c.keyring) + c.lab.SectionWithKeys(l, "dc-"+l.Name, keys)
	c.nodes = append(c.nodes, m)
	return m
}

// addStranger makes a node, not started yet, that is not one of the cluster's.
func (c *cluster) addStranger(name, keys string) *member {
	m := c.add(c.lab.More(must(os.MkdirTemp("", "aptmesh-node-"))(c.t), name), keys)
	c.nodes = c.nodes[:len(c.nodes)-1]
	return m
}

// initCluster makes the keys of a cluster of its own.
func initCluster(t *testing.T, names ...string) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "cluster")
	if err := lab.InitCluster(binary, dir, "e2e", names...); err != nil {
		t.Fatal(err)
	}
	return dir
}

// publish brings out what the archive has now as the next generation.
func (c *cluster) publish() {
	c.mu.Lock() // nobody judges a body before it is noted
	defer c.mu.Unlock()
	date := time.Now().Add(-time.Hour).Truncate(time.Second)
	if n := len(c.published); n > 0 {
		date = c.published[n-1].Add(time.Minute)
	}
	c.archive.Publish(date)
	c.published = append(c.published, date)
	for path, data := range c.archive.Files() {
		if c.signed[path] == nil {
			c.signed[path] = make(map[[sha256.Size]byte]bool)
		} else if strings.HasPrefix(path, "pool/") {
			continue // such a file never changes
		}
		c.signed[path][sha256.Sum256(data)] = true
	}
}

// newest is the date of the last generation.
func (c *cluster) newest() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.published[len(c.published)-1]
}

// find returns the only file of the archive whose path has this part.
func (c *cluster) find(part string) (path string, data []byte) {
	c.t.Helper()
	for p, b := range c.archive.Files() {
		if strings.Contains("/"+p, part) {
			if path != "" {
				c.t.Fatalf("both %s and %s have %q", path, p, part)
			}
			path, data = p, b
		}
	}
	if path == "" {
		c.t.Fatalf("no file has %q", part)
	}
	return path, data
}

// owners are the nodes that would fetch a path from upstream, in the order in which
// they would be asked, as the first node sees it.
func (c *cluster) owners(path string) (owners []*member) {
	c.t.Helper()
	for _, name := range c.nodes[0].owners(path) {
		owners = append(owners, c.member(name))
	}
	return owners
}

// owners are their names, as this node sees it.
func (m *member) owners(path string) []string {
	m.t.Helper()
	var why lab.Why
	eventually(m.t, 20*time.Second, m.name+" had read the index that lists "+path, func() bool {
		why = must(m.Why(m.t.Context(), "debian/"+path))(m.t)
		return len(why.Owners) > 0
	})
	return why.Owners
}

func (c *cluster) member(name string) *member {
	c.t.Helper()
	for _, m := range c.nodes {
		if m.name == name {
			return m
		}
	}
	c.t.Fatalf("there is no node %q", name)
	return nil
}

// except are all nodes but these.
func (c *cluster) except(not ...*member) []*member {
	return slices.DeleteFunc(slices.Clone(c.nodes), func(m *member) bool { return slices.Contains(not, m) })
}

// crash ends a node as a loss of power would. Objects that it was fetching may be
// fetched once more.
func (c *cluster) crash(m *member) {
	m.Kill()
	c.mayFetchAgain()
}

func (c *cluster) mayFetchAgain() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deaths++
}
