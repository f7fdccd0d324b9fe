package e2e

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
	"github.com/aptmesh/aptmesh/e2e/lab"
)

// resumer is a client that goes on with what it has of a file, on a host of its own.
type resumer struct {
	// run downloads through a node; the file is complete where it gives no error.
	run func(ctx context.Context, n *node) error
	// got is what the host has of the file: whole says that the client takes it for complete.
	got func() (data []byte, whole bool)
}

// resumers are those of the clients of pacman's format, for one package.
var resumers = map[string]func(t *testing.T, r *pacRepo, file string) resumer{
	"curl": func(t *testing.T, r *pacRepo, file string) resumer {
		client, name := needClient(t, "curl"), filepath.Join(t.TempDir(), file)
		var done atomic.Bool
		return resumer{
			run: func(ctx context.Context, n *node) error {
				out, err := client.Command(ctx, "curl", "-sSf", "-C", "-", "-o", name, n.URL+"/arch/"+pacDir+"/"+file).CombinedOutput()
				if done.Store(err == nil); err != nil {
					return fmt.Errorf("%w: %s", err, out)
				}
				return nil
			},
			got: func() ([]byte, bool) { data, _ := os.ReadFile(name); return data, done.Load() },
		}
	},
	"pacman": func(t *testing.T, r *pacRepo, file string) resumer {
		h := newPacHost(t, "http://nobody.invalid")
		return resumer{
			run: func(ctx context.Context, n *node) error {
				if err := h.at(n.URL + "/arch"); err != nil {
					return err
				}
				if out, err := h.Command(ctx, "-Sy").CombinedOutput(); err != nil {
					return fmt.Errorf("%w: %s", err, out)
				}
				out, err := h.Command(ctx, "-Sw", "app").CombinedOutput()
				if err != nil {
					return fmt.Errorf("%w: %s", err, out)
				}
				return nil
			},
			got: func() ([]byte, bool) {
				if data, err := os.ReadFile(filepath.Join(h.Dir, "cache", file)); err == nil {
					return data, true
				}
				data, _ := os.ReadFile(filepath.Join(h.Dir, "cache", file+".part"))
				return data, false
			},
		}
	},
}

// at gives a host another server.
func (h *pacHost) at(url string) error {
	text, err := os.ReadFile(h.Config())
	if err != nil {
		return err
	}
	lines := strings.Split(string(text), "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, "Server = ") {
			lines[i] = "Server = " + url + "/" + pacDir
		}
	}
	return os.WriteFile(h.Config(), []byte(strings.Join(lines, "\n")), 0o644)
}

// A client whose node dies in the middle of a package goes on at another node with what it has. The other node sends
// the rest and no more.
func TestResumeAtAnotherNode(t *testing.T) {
	t.Parallel()
	for name, client := range resumers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newPacRepo(t, false)
			r.publish(pacPackages...)
			nodes := newTrio(t, r.config("unsigned: true"))
			file := pacPackages[0].File()
			want := r.files[file]
			c := client(t, r, file)
			stall := r.server.Inject(pacDir+"/"+file, 1, testarchive.Stall(2<<20))
			failed := make(chan error, 1)
			go func() { failed <- c.run(t.Context(), nodes[0]) }()
			<-stall.Stalled()
			// What came before the stall is with the host now, or will be in a moment.
			eventually(t, 10*time.Second, "the host has a part of the package", func() bool {
				data, _ := c.got()
				return len(data) > 1<<20
			})
			nodes[0].Kill()
			if err := <-failed; err == nil {
				t.Fatal("the client noticed nothing")
			}
			stall.Remove()
			part, _ := c.got()
			if err := c.run(t.Context(), nodes[1]); err != nil {
				t.Fatal(err)
			}
			if got, whole := c.got(); !whole || !bytes.Equal(got, want) {
				t.Errorf("it has %d bytes of %d in the end, whole: %v", len(got), len(want), whole)
			}
			resumed := false
			for _, a := range nodes[1].accessLog() {
				resumed = resumed || strings.HasSuffix(a.URL, file) && a.Status == http.StatusPartialContent && a.Bytes == int64(len(want)-len(part))
			}
			if !resumed {
				t.Errorf("the second node did not send the %d bytes that were left", len(want)-len(part))
			}
			if n := r.server.Bytes(pacDir + "/" + file); n > int64(2*len(want)) {
				t.Errorf("upstream sent %d bytes of a package of %d", n, len(want))
			}
			nodes[1].checkStored()
		})
	}
}

// A mirror lies in the middle of a package, so that the host has all but the end of a wrong one, and runs pacman again at
// another node, which knows nothing of that and sends the rest. pacman never takes the file for the package, and has it
// after the run that follows. (curl alone compares no sum, and would keep the file: docs/pacman.md.)
func TestPacmanResumesAfterALie(t *testing.T) {
	t.Parallel()
	r := newPacRepo(t, false)
	r.publish(pacPackages...)
	l := testarchive.NewServer(r.archive)
	t.Cleanup(l.Close)
	r.liar = l
	nodes := newTrio(t, r.config("unsigned: true"))
	file := pacPackages[0].File()
	want := r.files[file]
	lie := l.Inject(pacDir+"/"+file, 0, testarchive.WrongBytes(int64(len(want)/2)))
	c := resumers["pacman"](t, r, file)
	for run := range 3 {
		err := c.run(t.Context(), nodes[run])
		got, whole := c.got()
		t.Logf("run %d: %d bytes, whole: %v, %v", run+1, len(got), whole, err)
		switch {
		case err == nil && !bytes.Equal(got, want):
			t.Fatalf("run %d: pacman takes %d wrong bytes for the package", run+1, len(got))
		case run == 0 && (err == nil || len(got) < len(want)/2):
			t.Errorf("the host has %d bytes, %v: the mirror's lie did not get to it", len(got), err)
		case run == 2 && err != nil:
			t.Error("pacman has not got the package in three runs")
		}
	}
	if lie.Hits() == 0 {
		t.Error("the mirror was not asked for what it lies about")
	}
	for _, n := range nodes {
		n.checkStored()
	}
}

// dnf goes on with what an earlier run left, also where another node is its proxy now.
func TestDnfResumesAtAnotherNode(t *testing.T) {
	t.Parallel()
	w := newRPMRepository(t, false)
	w.size = 8 << 20
	w.build("1.1", "hello")
	w.publish()
	nodes := newTrio(t, w.config())
	w.node = nodes[0]
	client, program := needDnf(t)
	dir := t.TempDir()
	host := func(n *node) *lab.Dnf {
		return must(lab.NewDnf(client, program, dir, w.server.URL+"/repo", "proxy="+n.URL))(t)
	}
	mustRun(t, host(nodes[0]).Command(t.Context(), "makecache"))
	path := "repo/Packages/noarch/hello-1.1-1.noarch.rpm"
	size := int64(len(must(os.ReadFile(filepath.Join(w.dir, strings.TrimPrefix(path, "repo/"))))(t)))
	stall := w.server.Inject(path, 1, testarchive.Stall(4<<20))
	ctx, kill := context.WithCancel(t.Context())
	go func() {
		<-stall.Stalled()
		time.Sleep(time.Second) // what the node has is with dnf then, most of it; that it has nothing is right, too
		nodes[0].Kill()
		kill()
	}()
	if out, err := host(nodes[0]).Command(ctx, "install", "hello").CombinedOutput(); err == nil {
		t.Errorf("dnf was not killed: %s", out)
	}
	stall.Remove()
	mustRun(t, host(nodes[1]).Command(t.Context(), "install", "hello"))
	if got := strings.TrimSpace(string(must(os.ReadFile(filepath.Join(dir, "root/usr/share/hello/version")))(t))); got != "1.1" {
		t.Errorf("version %q is installed", got)
	}
	for _, a := range nodes[1].accessLog() {
		if strings.HasSuffix(a.URL, ".rpm") {
			t.Logf("the second node sent %d of %d bytes, status %d", a.Bytes, size, a.Status)
		}
	}
	if n := w.server.Bytes(path); n > 2*size {
		t.Errorf("upstream sent %d bytes of a package of %d", n, size)
	}
	nodes[1].checkStored()
}
