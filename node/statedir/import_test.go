package statedir

import (
	"bufio"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/aptmesh/aptmesh/node/durable/durabletest"
)

// crashDirs turns the test binary into a process that migrates and is killed.
const crashDirs = "APTMESH_TEST_IMPORT"

func TestMain(m *testing.M) {
	if dirs := os.Getenv(crashDirs); dirs != "" {
		old, dir, _ := strings.Cut(dirs, ":")
		fmt.Println("begins")
		if _, err := Open(importing(nil, old, dir)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Println("done")
		select {} // until it is killed
	}
	os.Exit(m.Run())
}

// farFS has every two directories on different file systems.
type farFS struct{ *durabletest.FS }

func (f farFS) Rename(step, from, to string) error {
	if err := f.FS.Note(step); err != nil {
		return err
	}
	if filepath.Dir(from) != filepath.Dir(to) {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: unix.EXDEV}
	}
	return f.FS.OS.Rename(step, from, to)
}

// importing is a directory that takes over the files of another one when it is new.
func importing(disk *durabletest.FS, old, dir string) Config {
	if disk == nil {
		disk = &durabletest.FS{}
	}
	return Config{Dir: dir, Format: 1, Program: "aptmesh test", FS: farFS{disk}, Migrate: func(d *Dir, _ int) error {
		return d.Import(old, "")
	}}
}

// fill makes a directory of the time before formats were numbered.
func fill(t *testing.T, dir string, n int) map[string]string {
	t.Helper()
	files := make(map[string]string)
	for i := range n {
		file, err := fileName(fmt.Sprintf("suites/ubuntu/dists_%d.json", i))
		if err != nil {
			t.Fatal(err)
		}
		files[file] = strings.Repeat(fmt.Sprintf("state %d\n", i), 100)
	}
	for file, text := range files {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return files
}

// states is what a directory holds besides files of our own.
func states(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := tree(t, dir)
	maps.DeleteFunc(files, func(file, _ string) bool { return isOurs(file) })
	return files
}

// wantTogether checks that each file is whole in one of the two directories.
func wantTogether(t *testing.T, old, dir string, want map[string]string) {
	t.Helper()
	there, here := states(t, old), states(t, dir)
	for file, text := range want {
		if there[file] != text && here[file] != text {
			t.Errorf("%s is whole in neither directory: %q and %q", file, there[file], here[file])
		}
	}
}

// wantMoved checks that everything has arrived and nothing was left behind.
func wantMoved(t *testing.T, old, dir string, want map[string]string) {
	t.Helper()
	if got := states(t, dir); !maps.Equal(got, want) {
		t.Errorf("%d files arrived, want %d: %v", len(got), len(want), got)
	}
	if left := states(t, old); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	for file := range tree(t, dir) {
		if strings.HasPrefix(file, tempPrefix) {
			t.Errorf("left over: %s", file)
		}
	}
}

// TestDieWhileImporting lets the process die before each of its calls in turn, and once
// more while it repeats: no file is ever lost, a number is written only when all are
// there, and the next start brings the rest.
func TestDieWhileImporting(t *testing.T) {
	for _, far := range []bool{false, true} {
		t.Run(fmt.Sprintf("another file system %v", far), func(t *testing.T) {
			points := 0
			for n, done := 0, false; !done; n++ {
				old, dir := t.TempDir(), t.TempDir()
				want := fill(t, old, 3)
				disk := &durabletest.FS{}
				cfg := importing(disk, old, dir)
				if !far {
					cfg.FS = disk
				}
				for _, calls := range []int{n, 2} {
					disk.Heal()
					disk.DieAfter(calls)
					d, err := Open(cfg)
					if err == nil {
						done = done || calls == n
						d.Close()
						break
					}
					if !errors.Is(err, durabletest.ErrDead) {
						t.Fatalf("death after %d calls: Open = %v", n, err)
					}
					points++
					wantTogether(t, old, dir, want)
					if tree(t, dir)[formatName] != "" && len(states(t, dir)) < len(want) {
						t.Errorf("death after %d calls: the format is written, and only %d files are there", n, len(states(t, dir)))
					}
				}
				disk.Heal()
				d, err := Open(cfg)
				if err != nil {
					t.Fatal(err)
				}
				wantMoved(t, old, dir, want)
				d.Close()
			}
			if points < 10 {
				t.Errorf("the process died at only %d points", points)
			}
		})
	}
}

// TestKillWhileImporting kills a real process that moves files, again and again.
func TestKillWhileImporting(t *testing.T) {
	old, dir := t.TempDir(), t.TempDir()
	want := fill(t, old, 120)
	for round := range 12 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), crashDirs+"="+old+":"+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		lines.Scan() // "begins"
		timer := time.AfterFunc(time.Duration(3*round)*time.Millisecond, func() { _ = cmd.Process.Kill() })
		done := lines.Scan()
		if done {
			_ = cmd.Process.Kill()
		}
		_ = cmd.Wait() // "signal: killed"
		timer.Stop()
		wantTogether(t, old, dir, want)
		if done {
			t.Logf("done in round %d", round)
			break
		}
	}
	d, err := Open(importing(nil, old, dir))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	wantMoved(t, old, dir, want)
}

// TestImportPrefix takes only what was named, replaces what is here, and leaves what is
// no state file.
func TestImportPrefix(t *testing.T) {
	old := t.TempDir()
	from := open(t, Config{Dir: old})
	write(t, from, "lists/a", "1")
	write(t, from, "lists/b", "2")
	write(t, from, "suites/a", "3")
	from.Close()
	d := open(t, Config{})
	write(t, d, "lists/a", "stale")
	if err := d.Import(old, "lists/"); err != nil {
		t.Fatal(err)
	}
	wantFile(t, d, "lists/a", "1")
	wantFile(t, d, "lists/b", "2")
	if names, _ := d.ListFiles(""); len(names) != 2 {
		t.Errorf("took %v", names)
	}
	if err := Retire(old); err != nil || !Holds(old, "suites/") || Holds(old, "lists/") {
		t.Errorf("what was not named must stay: %v, %v", err, tree(t, old))
	}
	if err := d.Import(old, ""); err != nil {
		t.Fatal(err)
	}
	if err := Retire(old); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(old); err == nil {
		t.Error("the emptied directory is still there")
	}
	if err := d.Import(old, ""); err != nil {
		t.Errorf("Import of a directory that is gone: %v", err)
	}
}
