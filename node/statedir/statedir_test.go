package statedir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/aptmesh/aptmesh/node/durable/durabletest"
	"github.com/aptmesh/aptmesh/proto"
)

func open(t *testing.T, cfg Config) *Dir {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = t.TempDir()
	}
	if cfg.Format == 0 {
		cfg.Format = 1
	}
	cfg.Program = "aptmesh test"
	d, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func write(t *testing.T, d *Dir, name, text string) {
	t.Helper()
	if err := d.WriteFile(name, []byte(text)); err != nil {
		t.Fatal(err)
	}
}

func wantFile(t *testing.T, d *Dir, name, want string) {
	t.Helper()
	if got, err := d.ReadFile(name); err != nil || string(got) != want {
		t.Errorf("ReadFile(%q) = %q, %v; want %q", name, got, err, want)
	}
}

// tree is every file below a directory, and its bytes.
func tree(t *testing.T, dir string) map[string]string {
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
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return files
}

func TestFiles(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made", "on", "the way")
	d := open(t, Config{Dir: dir})
	names := []string{"suite/a/dists/x", "suite/a/dists/x/updates", "suite/.hidden", ".usage", "..", "ü %2F", "format", "lock"}
	for _, name := range names {
		if _, err := d.ReadFile(name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("ReadFile(%q) before: %v", name, err)
		}
		write(t, d, name, "old")
		write(t, d, name, name)
	}
	d.Close()
	d = open(t, Config{Dir: dir})
	for _, name := range names {
		wantFile(t, d, name, name)
	}
	if got, err := d.ListFiles("suite/"); err != nil || fmt.Sprint(got) != "[suite/.hidden suite/a/dists/x suite/a/dists/x/updates]" {
		t.Errorf("ListFiles: %v %v", got, err)
	}
	if got, _ := d.ListFiles(""); len(got) != len(names) {
		t.Errorf("ListFiles of all: %v", got)
	}
	for range 2 {
		if err := d.RemoveFile(names[0]); err != nil {
			t.Fatal(err)
		}
	}
	if got, _ := d.ListFiles("suite/"); len(got) != 2 {
		t.Errorf("after RemoveFile: %v", got)
	}
	for _, bad := range []string{"", strings.Repeat("x", 256)} {
		if err := d.WriteFile(bad, nil); err == nil || errors.Is(err, proto.ErrNoSpace) {
			t.Errorf("WriteFile with a name of %d bytes: %v", len(bad), err)
		}
	}
	d.Close()
	for what, err := range map[string]error{"WriteFile": d.WriteFile("a", nil), "RemoveFile": d.RemoveFile("a")} {
		if !errors.Is(err, fs.ErrClosed) {
			t.Errorf("%s after Close: %v", what, err)
		}
	}
}

// TestOrder: the bytes are synced before they get their name, and the name before
// WriteFile returns.
func TestOrder(t *testing.T) {
	disk := &durabletest.FS{}
	d := open(t, Config{FS: disk})
	disk.Steps()
	write(t, d, "a", "x")
	want := []string{"state.create", "state.write", "state.sync", "state.rename", "state.syncdir"}
	if got := disk.Steps(); !slices.Equal(got, want) {
		t.Errorf("WriteFile: %v\nwant       %v", got, want)
	}
	if err := d.RemoveFile("a"); err != nil {
		t.Fatal(err)
	}
	if got := disk.Steps(); !slices.Equal(got, []string{"state.remove", "state.syncdir"}) {
		t.Errorf("RemoveFile: %v", got)
	}
}

// TestWriteFails: whichever call fails, the old bytes stay, the directory says why it
// is degraded, nothing is left over, and the next write mends it.
func TestWriteFails(t *testing.T) {
	for _, step := range []string{"state.create", "state.write", "state.sync", "state.rename"} {
		t.Run(step, func(t *testing.T) {
			disk := &durabletest.FS{}
			d := open(t, Config{FS: disk})
			write(t, d, "a", "old")
			before := tree(t, d.dir)
			disk.Break(step, unix.ENOSPC)
			if err := d.WriteFile("a", []byte("new")); !errors.Is(err, proto.ErrNoSpace) || !errors.Is(err, unix.ENOSPC) {
				t.Fatalf("WriteFile = %v", err)
			}
			if after := tree(t, d.dir); fmt.Sprint(after) != fmt.Sprint(before) {
				t.Errorf("the directory holds %v; before the failure %v", after, before)
			}
			if !strings.Contains(d.Degraded(), d.dir+" is full") {
				t.Errorf("Degraded = %q", d.Degraded())
			}
			disk.Heal()
			write(t, d, "a", "new")
			wantFile(t, d, "a", "new")
			if d.Degraded() != "" {
				t.Errorf("still degraded: %s", d.Degraded())
			}
		})
	}
}

func TestOneProcess(t *testing.T) {
	d := open(t, Config{})
	_, err := Open(Config{Dir: d.dir, Format: 1})
	if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("process %d", os.Getpid())) {
		t.Errorf("a second Open: %v", err)
	}
}

// TestFormat is what Open makes of each content of the file.
func TestFormat(t *testing.T) {
	for _, c := range []struct {
		text    string // of the file; "-": there is none
		refused []string
	}{
		{"-", nil},
		{"1\nwritten by aptmesh 0.9\n", []string{"format 1", "knows format 2 only", "written by aptmesh 0.9", "use the older version"}},
		{"2\nwritten by aptmesh 1.0\n", nil},
		{"2", nil},
		{"3\nwritten by aptmesh 7.1\nmore", []string{"format 3", "up to 2", "written by aptmesh 7.1", "start the newer version", "another directory"}},
		{"99", []string{"format 99"}},
		{"", []string{"format number"}},
		{"0\n", []string{"format number"}},
		{"-1\n", []string{"format number"}},
		{"two\n", []string{"format number"}},
	} {
		t.Run(c.text, func(t *testing.T) {
			dir := t.TempDir()
			if c.text != "-" {
				if err := os.WriteFile(filepath.Join(dir, formatName), []byte(c.text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			before := tree(t, dir)
			d, err := Open(Config{Dir: dir, Format: 2, Program: "aptmesh test"})
			if c.refused == nil {
				if err != nil {
					t.Fatal(err)
				}
				defer d.Close()
				if now := tree(t, dir)[formatName]; !strings.HasPrefix(now, "2") || c.text == "-" && !strings.Contains(now, "aptmesh test") {
					t.Errorf("the format is %q now", now)
				}
				return
			}
			if err == nil {
				t.Fatal("Open succeeded")
			}
			for _, part := range append(c.refused, dir) {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%q does not say %q", err, part)
				}
			}
			if after := tree(t, dir); fmt.Sprint(after) != fmt.Sprint(before) {
				t.Errorf("a refused directory was changed: %v, before %v", after, before)
			}
		})
	}
}
