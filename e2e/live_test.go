package e2e

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/e2e/lab"
)

// mirror is the archive that this machine's own apt uses.
type mirror struct {
	url, release, component, keyring string
}

// configuredMirror asks apt for this machine's first http archive, and skips the
// test where there is none or it does not answer.
func configuredMirror(t *testing.T) mirror {
	t.Helper()
	if testing.Short() || os.Getenv("APTMESH_LIVE") == "0" {
		t.Skip("the real mirror is left in peace: -short or APTMESH_LIVE=0")
	}
	out, err := exec.Command("apt-get", "indextargets", "--format", "$(REPO_URI)|$(RELEASE)|$(COMPONENT)", "Created-By: Packages").Output()
	if err != nil {
		t.Skip("apt-get indextargets: this machine's apt names no archive: ", err)
	}
	m := mirror{}
	for line := range strings.Lines(string(out)) {
		f := strings.Split(strings.TrimSpace(line), "|")
		if len(f) == 3 && strings.HasPrefix(f[0], "http://") {
			m.url, m.release, m.component = strings.TrimSuffix(f[0], "/"), f[1], f[2]
			break
		}
	}
	if m.url == "" {
		t.Skip("this machine's apt names no http archive")
	}
	for _, keyring := range []string{"/usr/share/keyrings/debian-archive-keyring.gpg", "/usr/share/keyrings/ubuntu-archive-keyring.gpg"} {
		if _, err := os.Stat(keyring); err == nil {
			m.keyring = keyring
		}
	}
	if m.keyring == "" {
		t.Skip("this machine has no keyring of Debian's or Ubuntu's archive")
	}
	resp, err := (&http.Client{Timeout: 15 * time.Second}).Head(m.url + "/dists/" + m.release + "/InRelease")
	if err != nil {
		t.Skip("this machine's mirror does not answer: ", err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Skip("this machine's mirror does not answer as one: ", resp.Status)
	}
	return m
}

// liveNode runs `aptmesh serve` without any configuration. Its data outlive the
// test, so that repeated runs take little from the mirror; whoever comes second
// waits for its turn.
func liveNode(t *testing.T) *node {
	t.Helper()
	cache := filepath.Join(must(os.UserCacheDir())(t), "aptmesh-e2e")
	turn := must(os.OpenFile(writeFile(t, filepath.Join(cache, "turn"), nil), os.O_RDWR, 0))(t)
	if err := syscall.Flock(int(turn.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	n := newNode(t, "")
	t.Cleanup(func() {
		n.Kill() // before others get their turn
		turn.Close()
	})
	n.Bare = true
	n.Args = []string{
		"--listen", "127.0.0.1:0", "--admin", n.Admin(),
		"--data", filepath.Join(cache, "data"), "--log-format", "json", "--log-level", "debug",
	}
	for _, e := range os.Environ() { // the mirror may be behind this machine's proxy
		if strings.Contains(strings.ToLower(e), "_proxy=") {
			n.Env = append(n.Env, e)
		}
	}
	n.start()
	return n
}

// upstreamBytes is what the node has received from all upstreams.
func (n *node) upstreamBytes() (sum int64) {
	n.t.Helper()
	for _, u := range n.status().Upstreams {
		sum += u.Bytes
	}
	return sum
}

// A node without configuration serves the archive that this machine's own apt
// uses, from which apt downloads and debootstrap makes systems.
func TestRealMirror(t *testing.T) {
	t.Parallel()
	m := configuredMirror(t)
	n := liveNode(t)
	c := newApt(t, must(os.ReadFile(m.keyring))(t), fmt.Sprintf("deb [signed-by=KEYRING] %s %s %s", m.url, m.release, m.component), proxy(n))

	began := time.Now()
	c.run("apt-get", "update")
	t.Logf("apt update: %s, %d bytes from upstream", time.Since(began).Round(time.Millisecond), n.upstreamBytes())
	c.run("apt-get", "download", "hello", "debootstrap")
	for _, a := range n.accessLog() {
		if a.Status >= 400 || a.Kind == "package" && !a.Listed {
			t.Errorf("%s: status %d, listed %v: %s", a.URL, a.Status, a.Listed, a.Error)
		}
	}
	t.Run("debootstrap twice", func(t *testing.T) { debootstrapTwice(t, n, c, m) })
}

// debootstrapTwice makes a system through the node, and downloads what a second one is
// made of; the second time no package comes from upstream. debootstrap is the one just downloaded: nothing is
// installed on this machine.
func debootstrapTwice(t *testing.T, n *node, c *apt, m mirror) {
	if os.Getuid() != 0 {
		t.Skip("debootstrap wants root")
	}
	if _, err := exec.LookPath("wget"); err != nil {
		t.Skip("debootstrap wants wget")
	}
	debs := must(filepath.Glob(filepath.Join(c.root, "work", "debootstrap_*.deb")))(t)
	if len(debs) != 1 {
		t.Fatalf("downloaded: %q", debs)
	}
	tools := filepath.Join(c.root, "tools")
	c.run("dpkg-deb", "-x", debs[0], tools)

	// In mounts of its own: whatever debootstrap mounts goes away with it.
	command, stage := []string{"unshare", "--mount", "--propagation", "private"}, []string(nil)
	if err := exec.Command("unshare", "--mount", "--propagation", "private", "true").Run(); err != nil {
		t.Log("no mounts of its own: only the first stage of debootstrap, which downloads and unpacks")
		command, stage = nil, []string{"--foreign"}
	}
	command = append(command, "/bin/sh", filepath.Join(tools, "usr/sbin/debootstrap"), "--variant=minbase", "--keyring="+m.keyring)
	command = append(command, stage...)

	packages := func() (all, upstream int) {
		for _, a := range n.accessLog() {
			if a.Kind == "package" {
				all++
				if a.Tier == "upstream" {
					upstream++
				}
			}
		}
		return all, upstream
	}
	for round := range 2 {
		allBefore, upstreamBefore := packages()
		bytesBefore, began := n.upstreamBytes(), time.Now()
		target := filepath.Join(c.root, fmt.Sprintf("system%d", round))
		args := append([]string{}, command...)
		if round == 1 { // it asks the node for the same again, and is spared the unpacking
			args = append(args, "--download-only")
		}
		args = append(args, m.release, target, m.url)
		ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, args[0], args[1:]...)
		cmd.Env = lab.Environ("DEBOOTSTRAP_DIR="+filepath.Join(tools, "usr/share/debootstrap"), "http_proxy="+n.URL, "LC_ALL=C")
		lab.DieWithUs(cmd)
		if out, err := cmd.CombinedOutput(); err != nil {
			log, _ := os.ReadFile(filepath.Join(target, "debootstrap/debootstrap.log"))
			t.Fatalf("debootstrap: %v\n%s\n%s", err, tail(string(out), 10), tail(string(log), 10))
		}
		all, upstream := packages()
		received := n.upstreamBytes() - bytesBefore
		t.Logf("round %d: %s, %d packages, %d of them from upstream, %d bytes from upstream", round+1,
			time.Since(began).Round(time.Second), all-allBefore, upstream-upstreamBefore, received)
		if all-allBefore < 50 {
			t.Errorf("only %d packages went through the node", all-allBefore)
		}
		if round == 1 && (upstream != upstreamBefore || received > 1<<20) {
			t.Errorf("the second time, %d packages and %d bytes came from upstream", upstream-upstreamBefore, received)
		}
		if round == 1 {
			break
		}
		status := filepath.Join(target, "var/lib/dpkg/status")
		if b, err := os.ReadFile(status); err != nil || stage == nil && !bytes.Contains(b, []byte("Package: base-files")) {
			t.Errorf("this is no system: %v", err)
		}
	}
}
