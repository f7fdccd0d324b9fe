package e2e

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// zckdl fetches the chunks that have changed between two versions of a file, hundreds of them in one
// request: of a file that is stored, and of one that is only half here.
func TestZchunk(t *testing.T) {
	t.Parallel()
	needTools(t, "zck")
	client := needClient(t, "zckdl")
	dir := t.TempDir()
	old := zck(t, dir, "old", 0)
	content := must(os.ReadFile(zck(t, dir, "new", 1)))(t)

	var requests atomic.Int32
	half := make(chan struct{})
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/new.zck" {
			http.NotFound(w, r)
			return
		}
		requests.Add(1)
		w.Header().Set("Content-Length", fmt.Sprint(len(content)))
		_, _ = w.Write(content[:len(content)/2])
		_ = http.NewResponseController(w).Flush()
		select {
		case <-half:
		case <-r.Context().Done():
		}
		_, _ = w.Write(content[len(content)/2:])
	}))
	defer up.Close()
	n := newNode(t, fmt.Sprintf("archives:\n  rpms:\n    upstream: %s\n    unsigned: true\n", up.URL))
	n.start()

	for _, state := range []string{"arriving", "stored"} {
		if state == "arriving" {
			time.AfterFunc(2*time.Second, func() { close(half) })
		}
		to := t.TempDir()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		cmd := client.Command(ctx, "zckdl", "--fail-no-ranges", "-s", old, n.URL+"/rpms/new.zck")
		cmd.Dir = to
		out, err := cmd.CombinedOutput()
		cancel()
		if err != nil {
			t.Fatalf("%s: %v\n%s", state, err, out)
		}
		if got := must(os.ReadFile(filepath.Join(to, "new.zck")))(t); !bytes.Equal(got, content) {
			t.Errorf("%s: it made another file of %d bytes", state, len(got))
		}
		var fetched int
		if _, after, ok := strings.Cut(string(out), "Downloaded "); !ok || must(fmt.Sscan(after, &fetched))(t) != 1 || fetched > len(content)/2 {
			t.Errorf("%s: it fetched %d of %d bytes\n%s", state, fetched, len(content), out)
		}
		if state == "arriving" {
			n.get("/rpms/new.zck") // now it is stored
		}
	}
	if n := requests.Load(); n != 1 {
		t.Errorf("upstream was asked %d times", n)
	}
}

// zck makes a zchunk file of 900 chunks, of which every third differs from one version to the next.
func zck(t *testing.T, dir, name string, version uint64) string {
	t.Helper()
	var text bytes.Buffer
	for i := range uint64(900) {
		r := rand.New(rand.NewPCG(i, version*(1-min(i%3, 1))))
		fmt.Fprintf(&text, "<package %d>\n", i)
		for range 200 {
			fmt.Fprintf(&text, "<requires %x/>\n", r.Uint32())
		}
	}
	xml := writeFile(t, filepath.Join(dir, name+".xml"), text.Bytes())
	out := filepath.Join(dir, name+".zck")
	if said, err := exec.Command("zck", "-s", "<package", "-o", out, xml).CombinedOutput(); err != nil {
		t.Fatalf("zck: %v\n%s", err, said)
	}
	return out
}
