package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
	"github.com/aptmesh/aptmesh/e2e/lab"
)

// compose is deploy/compose.yaml running on this machine, with an archive on its WAN.
type compose struct {
	t       *testing.T
	dir     string
	project string
	command []string // `docker compose` or `docker-compose`, with its files
	env     []string
	archive string            // URL of the archive's server, from here
	nodes   map[string]string // URL of each node, from here
}

// sites are the services of deploy/compose.yaml.
var sites = []string{"fra1", "ams1", "nyc1"}

// newCompose builds the images and starts everything. Nothing is left of it when the
// test ends.
func newCompose(t *testing.T) *compose {
	t.Helper()
	c := &compose{t: t, dir: t.TempDir(), project: fmt.Sprintf("aptmesh-e2e-%08x", rand.Uint32()), nodes: make(map[string]string)}
	c.findTools()
	c.buildImages()
	c.configure()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the containers said:\n%s", c.try("logs", "--no-color", "--tail", "12"))
		}
		if out := c.try("down", "--volumes", "--remove-orphans", "--timeout", "20"); strings.Contains(out, "error") {
			t.Errorf("down: %s", out)
		}
	})
	c.must("up", "--detach", "--no-build")
	c.archive = c.address("archive", 8080)
	for _, site := range sites {
		c.nodes[site] = c.address(site, lab.HTTPPort)
	}
	return c
}

// findTools skips the test where there is nothing to run containers with.
func (c *compose) findTools() {
	c.t.Helper()
	for _, tool := range []string{"docker", "make"} {
		if _, err := exec.LookPath(tool); err != nil {
			c.t.Skipf("%s is not installed: the containers are not run", tool)
		}
	}
	ctx, cancel := context.WithTimeout(c.t.Context(), 10*time.Second)
	defer cancel()
	if out, err := exec.CommandContext(ctx, "docker", "version", "--format", "{{.Server.Version}}").CombinedOutput(); err != nil {
		c.t.Skipf("the Docker Engine does not answer, so the containers are not run: %s", bytes.TrimSpace(out))
	}
	if exec.CommandContext(ctx, "docker", "compose", "version").Run() == nil {
		c.command = []string{"docker", "compose"}
	} else if _, err := exec.LookPath("docker-compose"); err == nil {
		c.command = []string{"docker-compose"}
	} else {
		c.t.Skip("neither docker compose nor docker-compose is installed: the containers are not run")
	}
}

// buildImages makes the image as an operator does, and one with an archive.
func (c *compose) buildImages() {
	c.t.Helper()
	c.t.Cleanup(func() {
		for _, image := range []string{c.project, c.project + "-archive"} {
			c.docker("rmi", "--force", image)
		}
	})
	c.run("make", "-C", "..", "image", "IMAGE="+c.project, "IMAGE_CONTEXT="+filepath.Join(c.dir, "image"))

	context := filepath.Join(c.dir, "archive")
	writeFile(c.t, filepath.Join(context, "Dockerfile"), []byte("FROM scratch\nCOPY archive /archive\nUSER 65532\nENTRYPOINT [\"/archive\"]\n"))
	c.run("env", "CGO_ENABLED=0", "go", "build", "-trimpath", "-o", filepath.Join(context, "archive"), "./archive")
	c.docker("build", "--tag", c.project+"-archive", context)
}

// configure lays out what compose.yaml takes from outside.
func (c *compose) configure() {
	c.t.Helper()
	at := func(name string) string { return filepath.Join(c.dir, name) }
	if out, errs, code := runBinary(c.t, "cluster", "init", "--name", "prod", "--nodes", strings.Join(sites, ","), "--dir", at("cluster")); code != 0 {
		c.t.Fatalf("aptmesh cluster init: exit code %d: %s%s", code, out, errs)
	}
	user := os.Getuid()
	if user == 0 { // the containers are not to be root
		user = 65532
		c.run("chown", "-R", fmt.Sprint(user), at("cluster"))
	}
	for _, site := range sites {
		text := string(must(os.ReadFile("../deploy/compose/" + site + ".yaml"))(c.t))
		for old, new := range map[string]string{
			"upstream: http://archive.ubuntu.com/ubuntu":     "upstream: http://archive.wan:8080\n    check_every: 1s\n    suites: [noble]",
			"/usr/share/keyrings/ubuntu-archive-keyring.gpg": "/usr/share/keyrings/test.gpg",
		} {
			if !strings.Contains(text, old) {
				c.t.Fatalf("deploy/compose/%s.yaml does not have %q", site, old)
			}
			text = strings.ReplaceAll(text, old, new)
		}
		text += "\nupstream_client: {connections_per_host: 60} # so many that no transfer is preempted\n"
		writeFile(c.t, at("config/"+site+".yaml"), []byte(text))
	}
	writeFile(c.t, at("keyrings/test.gpg"), testarchive.New(7).Keyring()) // the default key, as that of the container
	writeFile(c.t, at("archive.yaml"), fmt.Appendf(nil, `services:
  archive:
    image: %s-archive
    networks:
      wan: {aliases: [archive.wan]}
    ports: ["127.0.0.1::8080"]
`, c.project))
	c.command = append(c.command, "--project-name", c.project, "--file", "../deploy/compose.yaml", "--file", at("archive.yaml"))
	c.env = lab.Environ(
		"APTMESH_IMAGE="+c.project, "APTMESH_CLUSTER="+at("cluster"), "APTMESH_CONFIG="+at("config"), "APTMESH_KEYRINGS="+at("keyrings"),
		fmt.Sprintf("APTMESH_USER=%d", user),
		"APTMESH_FRA1=127.0.0.1:", "APTMESH_AMS1=127.0.0.1:", "APTMESH_NYC1=127.0.0.1:", // any port
	)
}

// run runs a command that must succeed.
func (c *compose) run(name string, args ...string) string {
	c.t.Helper()
	out, err := c.output(name, args...)
	if err != nil {
		c.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, tail(out, 30))
	}
	return out
}

// output runs a command, also when the test is about to end.
func (c *compose) output(name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = c.env // nil before it is known: that of this process
	lab.DieWithUs(cmd)
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

func (c *compose) docker(args ...string) string {
	c.t.Helper()
	return c.run("docker", args...)
}

func (c *compose) must(args ...string) string {
	c.t.Helper()
	return c.run(c.command[0], slices.Concat(c.command[1:], args)...)
}

// try is must for what may fail.
func (c *compose) try(args ...string) string {
	out, err := c.output(c.command[0], slices.Concat(c.command[1:], args)...)
	if err != nil {
		return fmt.Sprintf("error: %v: %s", err, out)
	}
	return out
}

// address is the URL at which a port of a service is reached from here.
func (c *compose) address(service string, port int) string {
	c.t.Helper()
	return "http://" + c.must("port", service, fmt.Sprint(port))
}

// container is the id of a service's container.
func (c *compose) container(service string) string {
	c.t.Helper()
	return c.must("ps", "--quiet", service)
}

// get fetches a URL as somebody who is no node.
func (c *compose) get(url string) (int, []byte) {
	client := http.Client{Timeout: 20 * time.Second}
	resp, err := client.Get(url)
	if err != nil {
		return 0, []byte(err.Error())
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, []byte(err.Error())
	}
	return resp.StatusCode, body
}

// root is the InRelease that a base URL gives out now; "" for none.
func (c *compose) root(base string) string {
	status, body := c.get(base + "/dists/noble/InRelease")
	if status != http.StatusOK {
		return ""
	}
	return string(body)
}

// agree waits until all nodes see each other and place objects alike.
func (c *compose) agree() {
	c.t.Helper()
	eventually(c.t, time.Minute, "the nodes were one cluster", func() bool {
		rings := make(map[string]bool)
		for _, site := range sites {
			var s struct {
				Cluster   clusterStatus
				Upstreams []struct{ Limit int }
			}
			if json.Unmarshal([]byte(c.try("exec", "-T", site, "aptmesh", "status", "--json")), &s) != nil || s.Cluster.active() != len(sites) {
				return false // it does not answer yet, or is not told of all
			}
			for _, u := range s.Upstreams {
				if u.Limit < 20 {
					return false // its share of the 60 connections is not in force yet
				}
			}
			rings[s.Cluster.RingHash] = true
		}
		return len(rings) == 1
	})
}

// follow waits until nodes serve what the archive has.
func (c *compose) follow(nodes ...string) {
	c.t.Helper()
	want := c.root(c.archive)
	for _, n := range nodes {
		eventually(c.t, 40*time.Second, n+" served the newest generation", func() bool { return c.root(c.nodes[n]+"/ubuntu") == want })
	}
}

// check has each node serve all packages at the same time, and demands that upstream
// was asked by a node for each object once.
func (c *compose) check(nodes ...string) {
	c.t.Helper()
	var all sync.WaitGroup
	for _, n := range nodes {
		all.Go(func() {
			for i := range 20 {
				path := fmt.Sprintf("/pool/main/p/pkg%02[1]d/pkg%02[1]d_1_amd64.deb", i)
				_, want := c.get(c.archive + path)
				if status, got := c.get(c.nodes[n] + "/ubuntu" + path); status != http.StatusOK || !bytes.Equal(got, want) {
					c.t.Errorf("%s: %s: status %d, %d bytes of %d: %.200s", n, path, status, len(got), len(want), got)
				}
			}
		})
	}
	all.Wait()
	sent := make(map[string]int)
	for _, r := range c.requests() {
		if strings.HasPrefix(r.Path, "pool/") || strings.Contains(r.Path, "/by-hash/") {
			sent[r.Path]++
		}
	}
	if len(sent) < 20 {
		c.t.Errorf("the nodes asked upstream for %d objects only", len(sent))
	}
	for path, n := range sent {
		if n != 1 {
			c.t.Errorf("the nodes asked upstream %d times for %s", n, path)
		}
	}
}

// requests are what the nodes asked the archive for, and got.
func (c *compose) requests() (all []testarchive.Request) {
	c.t.Helper()
	status, body := c.get(c.archive + "/-/requests")
	var log []testarchive.Request
	if err := json.Unmarshal(body, &log); err != nil {
		c.t.Fatalf("status %d: %v: %.200s", status, err, body)
	}
	for _, r := range log {
		if r.Bytes > 0 && strings.HasPrefix(r.Header.Get("User-Agent"), "aptmesh") {
			all = append(all, r)
		}
	}
	return all
}

// The containers of deploy/compose.yaml act as one cache; one that is cut off from
// the others goes on serving what it has, and follows as soon as it is back.
func TestCompose(t *testing.T) {
	t.Parallel()
	c := newCompose(t)
	c.agree()
	c.follow(sites...)
	c.check("fra1", "ams1")
	c.check("nyc1") // costs upstream nothing

	wan, cut := c.project+"_wan", c.container("nyc1")
	before := c.root(c.archive)
	c.docker("network", "disconnect", wan, cut)
	resp, err := http.Post(c.archive+"/-/publish", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	c.follow("fra1", "ams1")
	if c.root(c.nodes["nyc1"]+"/ubuntu") != before {
		t.Error("nyc1, which is cut off, does not serve what it had")
	}
	c.docker("network", "connect", "--alias", "nyc1.wan", wan, cut)
	c.follow("nyc1")
	c.check(sites...)

	for _, site := range sites {
		eventually(t, 40*time.Second, site+" was healthy", func() bool {
			return c.docker("inspect", "--format", "{{.State.Health.Status}}", c.container(site)) == "healthy"
		})
	}
	if out := c.must("exec", "-T", "fra1", "aptmesh", "status"); !strings.Contains(out, "3 nodes in 3 datacenters") {
		t.Errorf("aptmesh status says\n%s", out)
	}
}
