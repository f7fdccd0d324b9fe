package tree

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// site is a directory that trees are written to, and what is published.
type site struct {
	t    testing.TB
	dir  string
	now  time.Time
	gone map[string]bool // contents that cannot be had
}

func newSite(t testing.TB) *site {
	return &site{t: t, dir: filepath.Join(t.TempDir(), "site"), now: time.Unix(1.7e9, 0), gone: make(map[string]bool)}
}

// contents names files by path and content; a path that begins with dists/ and has no by-hash is a root.
func filesOf(contents map[string]string) (files []File) {
	for path, text := range contents {
		files = append(files, File{
			Path: path, Ref: proto.Ref{Digest: proto.DigestOf([]byte(text)), Size: int64(len(text))},
			Root: strings.HasSuffix(path, "InRelease"),
		})
	}
	return files
}

func (s *site) build(contents map[string]string) (*Result, error) {
	s.t.Helper()
	s.now = s.now.Add(time.Minute)
	byDigest := make(map[proto.Digest]string)
	for _, text := range contents {
		byDigest[proto.DigestOf([]byte(text))] = text
	}
	return Build(s.t.Context(), Config{
		Dir: s.dir, Modified: time.Unix(1.6e9, 0), Progress: func(int64) {}, Now: func() time.Time { return s.now },
		Fetch: func(_ context.Context, f *File) (io.ReadCloser, time.Time, error) {
			text := byDigest[f.Ref.Digest]
			if s.gone[text] {
				return nil, time.Time{}, errors.New("gone upstream")
			}
			return io.NopCloser(strings.NewReader(text)), time.Unix(1.5e9, 0), nil
		},
	}, filesOf(contents), func(f *File) bool { return !strings.HasPrefix(f.Path, "a/pool/") })
}

func (s *site) must(contents map[string]string) *Result {
	s.t.Helper()
	r, err := s.build(contents)
	if err != nil {
		s.t.Fatal(err)
	}
	return r
}

// shows demands what the link leads to: just these files.
func (s *site) shows(contents map[string]string) {
	s.t.Helper()
	root := os.DirFS(filepath.Join(s.dir, Current))
	found := make(map[string]string)
	err := fs.WalkDir(root, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := fs.ReadFile(root, p)
		found[p] = string(data)
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	for p, text := range contents {
		if found[p] != text {
			s.t.Errorf("%s is %q, want %q", p, found[p], text)
		}
		delete(found, p)
	}
	for p := range found {
		s.t.Errorf("%s is there", p)
	}
}

func with(contents map[string]string, more ...string) map[string]string {
	all := make(map[string]string)
	for p, text := range contents {
		all[p] = text
	}
	for i := 0; i < len(more); i += 2 {
		if all[more[i]] = more[i+1]; more[i+1] == "" {
			delete(all, more[i])
		}
	}
	return all
}

// publication is what the nth publication of an archive has: a root, an index under two names, and packages.
func publication(n int) map[string]string {
	index := fmt.Sprintf("index %d", n)
	return map[string]string{
		"a/dists/InRelease": fmt.Sprintf("root %d", n), "a/dists/Packages": index, "a/dists/by-hash/" + strconv.Itoa(n): index,
		"a/pool/same": "same", fmt.Sprintf("a/pool/p%d", n): fmt.Sprintf("package %d", n),
	}
}

// Each generation has its files, and the names of the two before that clients may still ask for; older ones go.
func TestGenerations(t *testing.T) {
	s := newSite(t)
	first := s.must(publication(1))
	s.shows(publication(1))
	if first.Fetched != int64(len("root 1index 1samepackage 1")) || first.Linked != 0 {
		t.Errorf("%+v", first)
	}
	info, err := os.Stat(filepath.Join(s.dir, Current, "a/pool/same"))
	if err != nil || info.Mode().Perm() != 0o644 || info.ModTime().Unix() != 1.5e9 {
		t.Errorf("%v %v, %v", info.Mode(), info.ModTime(), err)
	}
	if r := s.must(publication(1)); !r.Unchanged || r.Generation != first.Generation {
		t.Errorf("an unchanged run: %+v", r)
	}
	second := s.must(publication(2))
	s.shows(with(publication(2), "a/dists/by-hash/1", "index 1", "a/pool/p1", "package 1"))
	if second.Linked != int64(len("same")) || second.Unchanged {
		t.Errorf("%+v", second)
	}
	again, err := os.Stat(filepath.Join(s.dir, Current, "a/pool/same"))
	if err != nil || !os.SameFile(info, again) {
		t.Errorf("an unchanged file is another one: %v", err)
	}
	s.must(publication(3))
	s.must(publication(4))
	s.shows(with(publication(4), "a/dists/by-hash/2", "index 2", "a/pool/p2", "package 2", "a/dists/by-hash/3", "index 3", "a/pool/p3", "package 3"))
	s.left(3)
	// A file that somebody has removed from the tree comes back.
	if err := os.Remove(filepath.Join(s.dir, Current, "a/pool/p4")); err != nil {
		t.Fatal(err)
	}
	if r := s.must(publication(4)); r.Unchanged {
		t.Errorf("%+v", r)
	}
	s.shows(with(publication(4), "a/dists/by-hash/2", "", "a/dists/by-hash/3", "index 3", "a/pool/p3", "package 3"))
}

// left demands how many generations there are, and nothing else of programs that were killed.
func (s *site) left(generations int) {
	s.t.Helper()
	all, err := os.ReadDir(s.dir)
	if err != nil {
		s.t.Fatal(err)
	}
	var names []string
	for _, e := range all {
		names = append(names, e.Name())
	}
	dirs := len(slices.DeleteFunc(slices.Clone(names), func(n string) bool { return !stampName.MatchString(n) }))
	if dirs != generations || len(names) != 2*generations+2 { // a list for each, the link and the lock
		s.t.Errorf("%q is there", names)
	}
}

// A clock that goes back, a link that somebody has put back, and one that leads to another place.
func TestOdd(t *testing.T) {
	s := newSite(t)
	first := s.must(publication(1))
	s.now = s.now.Add(-time.Hour)
	second := s.must(publication(2))
	if second.Generation <= first.Generation {
		t.Errorf("%s is behind %s", second.Generation, first.Generation)
	}
	link := filepath.Join(s.dir, Current)
	if err := errors.Join(os.Remove(link), os.Symlink(first.Generation, link)); err != nil {
		t.Fatal(err)
	}
	s.shows(publication(1))
	s.must(publication(3))
	s.shows(with(publication(3), "a/dists/by-hash/1", "index 1", "a/pool/p1", "package 1"))
	s.left(2)
	for _, target := range []string{"/etc", "../other", "20010101T000000Z/../../x"} {
		if err := errors.Join(os.Remove(link), os.Symlink(target, link)); err != nil {
			t.Fatal(err)
		}
		if _, err := s.build(publication(4)); err == nil || !strings.Contains(err.Error(), "no export has made") {
			t.Errorf("a link to %s: %v", target, err)
		}
	}
}

// What a power cut may have left of an unfinished generation is hashed before it is used.
func TestUnfinished(t *testing.T) {
	s := newSite(t)
	partial := filepath.Join(s.dir, "20231114T221400Z"+newSuffix)
	for name, text := range map[string]string{"a/pool/same": "same", "a/pool/p1": "pack\x00\x00\x00\x00\x00", "a/dists/InRelease": "", "a/stray": "x", ".new-1": "p"} {
		file := filepath.Join(partial, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	r := s.must(publication(1))
	s.shows(publication(1))
	if r.Fetched != int64(len("root 1index 1package 1")) {
		t.Errorf("%d bytes were fetched", r.Fetched)
	}
	s.left(1)
}

// Files that cannot be had: a package is left out and listed; without an index, the tree stays as it was.
func TestMissing(t *testing.T) {
	s := newSite(t)
	s.must(publication(1))
	s.gone["package 2"] = true
	r := s.must(publication(2))
	if len(r.Missing) != 1 || r.Missing[0].File.Path != "a/pool/p2" {
		t.Errorf("%+v", r.Missing)
	}
	now := with(publication(2), "a/pool/p2", "", "a/dists/by-hash/1", "index 1", "a/pool/p1", "package 1")
	s.shows(now)
	if r := s.must(publication(2)); !r.Unchanged || len(r.Missing) != 1 {
		t.Errorf("what is missing still makes a new generation: %+v", r)
	}
	s.shows(now)
	s.left(2)
	s.gone["index 3"] = true
	if _, err := s.build(publication(3)); !errors.Is(err, ErrBroken) || !strings.Contains(err.Error(), "gone upstream") {
		t.Errorf("without an index: %v", err)
	}
	s.shows(now)
	// Names that are in each other's way.
	r = s.must(with(publication(4), "a/pool/same/below", "x"))
	if len(r.Missing) != 1 {
		t.Errorf("%+v", r.Missing)
	}
}

// No path leads out of the tree, and no link in it is followed.
func TestPaths(t *testing.T) {
	for _, p := range []string{"", "/etc/passwd", "../x", "a/../../x", "a//b", "a/./b", "a/b/", "a\nb", "a\x00b", "."} {
		if CheckPath(p) == nil {
			t.Errorf("%q may be one of a tree's", p)
		}
		s := newSite(t)
		if _, err := s.build(map[string]string{p: "x"}); err == nil {
			t.Errorf("%q is written", p)
		}
	}
	for _, p := range []string{"a/b", "a/..b/c", "a/lib+x_1%3a2~3.deb", ".treeinfo"} {
		if err := CheckPath(p); err != nil {
			t.Error(err)
		}
	}
	s := newSite(t)
	outside := t.TempDir()
	partial := filepath.Join(s.dir, "20231114T221400Z"+newSuffix, "a")
	if err := errors.Join(os.MkdirAll(partial, 0o755), os.Symlink(outside, filepath.Join(partial, "pool"))); err != nil {
		t.Fatal(err)
	}
	s.must(publication(1))
	s.shows(publication(1))
	if all, err := os.ReadDir(outside); err != nil || len(all) > 0 {
		t.Errorf("%v is written through a link, %v", all, err)
	}
}

// slowly is a process that builds generations until it is killed: see TestKilled.
func slowly() {
	dir, n := os.Getenv("TREE_DIR"), 0
	for n, _ = strconv.Atoi(os.Getenv("TREE_FROM")); ; n++ {
		contents := long(n)
		byDigest := make(map[proto.Digest]string)
		for _, text := range contents {
			byDigest[proto.DigestOf([]byte(text))] = text
		}
		_, err := Build(context.Background(), Config{
			Dir: dir, Modified: time.Now(), Progress: func(int64) {}, Now: time.Now,
			Fetch: func(_ context.Context, f *File) (io.ReadCloser, time.Time, error) {
				return io.NopCloser(iotestReader(byDigest[f.Ref.Digest])), time.Time{}, nil
			},
		}, filesOf(contents), func(*File) bool { return true })
		if err != nil {
			fmt.Println("FAILED", err)
			os.Exit(1)
		}
	}
}

// iotestReader gives a text in pieces, so that being killed in the middle of a file is likely.
func iotestReader(text string) io.Reader {
	var parts []io.Reader
	for piece := range slices.Chunk([]byte(text), 512) {
		parts = append(parts, bytes.NewReader(piece))
	}
	return io.MultiReader(parts...)
}

// long is a publication of some size: its root says what must be there.
func long(n int) map[string]string {
	all := map[string]string{"a/pool/same": strings.Repeat("same", 3000)}
	for i := range 30 {
		all[fmt.Sprintf("a/pool/%d-%d", n, i)] = strings.Repeat(fmt.Sprint(n, " ", i, " "), 500)
	}
	all["a/dists/InRelease"] = fmt.Sprint(n)
	return all
}

func TestMain(m *testing.M) {
	if os.Getenv("TREE_DIR") != "" {
		slowly()
	}
	os.Exit(m.Run())
}

// awaitLink waits for the first generation, and returns how long that took.
func awaitLink(t *testing.T, dir string) time.Duration {
	t.Helper()
	for began := time.Now(); ; time.Sleep(time.Millisecond) {
		took := time.Since(began)
		if _, err := os.Lstat(filepath.Join(dir, Current)); err == nil {
			return took
		}
		if took > 30*time.Second {
			t.Fatal("there is no generation")
		}
	}
}

// At whatever moment a program is killed, the link leads to a whole tree, and the next run goes on.
func TestKilled(t *testing.T) {
	rounds := 40
	if testing.Short() {
		rounds = 8
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	dir := t.TempDir()
	last, moved := 0, 0
	var usual time.Duration // until a process has made a generation
	for round := range rounds {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "TREE_DIR="+dir, fmt.Sprintf("TREE_FROM=%d", last))
		var said bytes.Buffer
		cmd.Stdout, cmd.Stderr = &said, &said
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if round == 0 {
			usual = awaitLink(t, dir)
		} else {
			time.Sleep(time.Duration(random.Int64N(int64(2 * usual)))) // the moment of death
		}
		if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // it was killed
		if strings.Contains(said.String(), "FAILED") {
			t.Fatalf("round %d: %s", round, said.String())
		}
		root, err := os.ReadFile(filepath.Join(dir, Current, "a/dists/InRelease"))
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		n, err := strconv.Atoi(string(root))
		if err != nil || n < last {
			t.Fatalf("round %d: the link leads to %q, after %d", round, root, last)
		}
		for p, text := range long(n) {
			if data, err := os.ReadFile(filepath.Join(dir, Current, p)); err != nil || string(data) != text {
				t.Fatalf("round %d: generation %d: %s has %d bytes, %v", round, n, p, len(data), err)
			}
		}
		if n > last {
			moved++
		}
		last = n
	}
	if moved == 0 {
		t.Error("no round has come to a new generation")
	}
	s := &site{t: t, dir: dir, now: time.Now().Add(time.Hour)}
	s.must(long(last + 1))
	s.must(long(last + 2))
	s.must(long(last + 3))
	s.left(3)
	t.Logf("%d of %d rounds came to a new generation; the last is %d", moved, rounds, last)
}
