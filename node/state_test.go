package node_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/node"
	"github.com/aptmesh/aptmesh/node/config"
)

// filesBelow is every file below a directory with its bytes, except the locks.
func filesBelow(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := make(map[string]string)
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		files[strings.TrimPrefix(path, dir+"/")] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// TestStateOutlivesTheCache: with the whole cache lost, the record of the suites is
// still there, and it is not in the cache that it lies.
func TestStateOutlivesTheCache(t *testing.T) {
	w := newWorld(t, newArchive(), func(cfg *config.Config) { cfg.State = t.TempDir() })
	w.update()
	w.stop()
	if err := os.RemoveAll(w.cfg.Data); err != nil {
		t.Fatal(err)
	}
	found := 0
	for name := range filesBelow(t, w.cfg.State) {
		found += strings.Count(name, "suites%2F")
	}
	if found != 1 {
		t.Errorf("%d records of suites survive the cache, want 1", found)
	}
	w.start()
	w.update()
	w.mustGet(smallDeb)
}

// TestFormatFromTheFuture: a directory of a newer version is refused with a sentence,
// and nothing on the disk has changed.
func TestFormatFromTheFuture(t *testing.T) {
	for _, c := range []struct{ name, file string }{
		{"the state", "lib/format"},
		{"the tables", "data/tables/format"},
	} {
		t.Run(c.name, func(t *testing.T) {
			root := t.TempDir()
			file := filepath.Join(root, c.file)
			if err := os.MkdirAll(filepath.Dir(file), 0o750); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, []byte("7\nWritten by aptmesh 9.9.\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			cfg := config.Default()
			cfg.Listen, cfg.Admin.Address = []string{"127.0.0.1:0"}, ""
			cfg.Data, cfg.State = filepath.Join(root, "data"), filepath.Join(root, "lib")
			before := filesBelow(t, root)
			dirs := countDirs(t, root)
			_, err := node.New(cfg, node.Options{})
			if err == nil {
				t.Fatal("the node starts")
			}
			for _, part := range []string{filepath.Dir(file), "format 7", "up to 1", "Written by aptmesh 9.9.", "start the newer version"} {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%q does not say %q", err, part)
				}
			}
			if after := filesBelow(t, root); !maps.Equal(after, before) || countDirs(t, root) != dirs {
				t.Errorf("changed on disk: %v, before %v", after, before)
			}
		})
	}
}

func countDirs(t *testing.T, root string) (n int) {
	t.Helper()
	err := filepath.WalkDir(root, func(_ string, e fs.DirEntry, err error) error {
		if err == nil && e.IsDir() {
			n++
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestStateCannotBeWritten: while the state directory is gone a node says so, and serves
// the generation that it has; it goes on by itself when the directory is back.
func TestStateCannotBeWritten(t *testing.T) {
	w := newWorld(t, newArchive(), func(cfg *config.Config) { cfg.State = filepath.Join(t.TempDir(), "lib") })
	w.update()
	old := w.file(inRelease)
	away := w.cfg.State + ".away" // renamed, because root may write whatever the mode says
	if err := os.Rename(w.cfg.State, away); err != nil {
		t.Fatal(err)
	}
	w.archive.Publish(epoch.Add(time.Minute))
	_, _ = w.node.Refresh(context.Background(), "ubuntu/noble", false)
	if degraded := w.node.Status().Degraded; !strings.Contains(degraded, w.cfg.State) {
		t.Errorf("status says %q", degraded)
	}
	if r := w.get(inRelease); r.status != 200 || string(r.body) != string(old) {
		t.Errorf("a host gets %d and %d bytes; want the generation before", r.status, len(r.body))
	}
	if err := os.Rename(away, w.cfg.State); err != nil {
		t.Fatal(err)
	}
	if _, err := w.node.Refresh(context.Background(), "ubuntu/noble", false); err != nil {
		t.Fatal(err)
	}
	w.mustGet(inRelease)
	if degraded := w.node.Status().Degraded; degraded != "" {
		t.Errorf("still degraded: %q", degraded)
	}
}

// A directory that this user may not use is named with its key, and with the command that mends it; another error keeps
// its own words.
func TestDirectoryOfAnotherUser(t *testing.T) {
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	denied := fmt.Errorf("blob store /d: %w", &fs.PathError{Op: "open", Path: "/d/lock", Err: fs.ErrPermission})
	if got := node.NotOurs(denied, "data", "/d").Error(); !strings.Contains(got, "open /d/lock: permission denied (`data:` or --data names the directory;") || !strings.Contains(got, "chown -R "+me.Username+" /d)") {
		t.Error(got)
	}
	if got := node.NotOurs(errors.New("it is in use"), "state", "/d").Error(); got != "it is in use (`state:` or --state names the directory)" {
		t.Error(got)
	}
	w := newWorld(t, newArchive())
	second := *w.cfg
	second.Listen, second.Admin.Address = []string{"127.0.0.1:0"}, "127.0.0.1:0"
	if _, err := node.New(&second, node.Options{Name: "second"}); err == nil || !strings.Contains(err.Error(), "it is in use by process ") || !strings.HasSuffix(err.Error(), "(`data:` or --data names the directory)") {
		t.Errorf("a second node in one directory: %v", err)
	}
}
