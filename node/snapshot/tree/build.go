package tree

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/aptmesh/aptmesh/proto"
)

// Names in the directory of a tree.
const (
	Current     = "current" // the link
	newLink     = "current.new"
	lockName    = "lock"
	listSuffix  = ".list"
	newSuffix   = ".partial"
	goneSuffix  = ".removing"
	stampLayout = "20060102T150405Z"
	keptBefore  = 2 // generations that stay beside the current one
)

var stampName = regexp.MustCompile(`^[0-9]{8}T[0-9]{6}Z$`)

// Config is what Build needs. All fields must be set.
type Config struct {
	Dir string
	// Fetch opens the content of a file. modified is zero where nothing is known.
	Fetch func(ctx context.Context, f *File) (body io.ReadCloser, modified time.Time, err error)
	// Modified is the date of files of which nothing is known.
	Modified time.Time
	// Progress is called with the bytes of the files that are there, by several goroutines at one time.
	Progress func(done int64)
	Now      func() time.Time
}

// Result is what Build has done.
type Result struct {
	// Generation is the name of the one that the link leads to.
	Generation string
	Unchanged  bool
	// Fetched are the bytes that were written, Linked those that the generation before had.
	Fetched, Linked int64
	// Missing are files that could not be had.
	Missing []Missing
}

// Missing is a file that could not be had.
type Missing struct {
	File File
	Err  error
}

// ErrBroken is that the tree was not switched, because it would lack files that clients of its roots need.
var ErrBroken = errors.New("the tree stays as it was")

// Build makes a generation of files and switches to it. Files that cannot be had are returned as missing; where one is
// needed, the link stays where it was: ErrBroken. needed says which ones those are.
func Build(ctx context.Context, cfg Config, files []File, needed func(*File) bool) (*Result, error) {
	if err := os.MkdirAll(cfg.Dir, 0o755); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(cfg.Dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	unlock, err := lock(root)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", cfg.Dir, err)
	}
	defer unlock()
	b := &builder{Config: cfg, root: root, needed: needed, result: &Result{}}
	if err := b.build(ctx, files); err != nil {
		return b.result, fmt.Errorf("%s: %w", cfg.Dir, err)
	}
	return b.result, nil
}

// lock takes the directory for this process.
func lock(root *os.Root) (unlock func(), err error) {
	f, err := root.OpenFile(lockName, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, errors.New("another export writes there at this moment")
	}
	return func() { f.Close() }, nil
}

type builder struct {
	Config
	root   *os.Root
	needed func(*File) bool
	result *Result

	current string // the generation that the link leads to; "" for none
	before  []File // its files
	name    string // the new generation
	tree    *os.Root
	linked  map[proto.Digest]string // of files of before, the first path
	temps   atomic.Int64

	mu    sync.Mutex                // guards what follows
	there map[proto.Digest]string   // contents in the new generation, by one of their paths
	paths map[string]proto.Ref      // files of the new generation
	busy  map[proto.Digest]struct{} // being fetched
}

func (b *builder) build(ctx context.Context, files []File) error {
	for i := range files {
		if err := CheckPath(files[i].Path); err != nil {
			return err
		}
	}
	slices.SortFunc(files, func(x, y File) int { return strings.Compare(x.Path, y.Path) })
	if err := b.findCurrent(); err != nil {
		return err
	}
	if b.unchanged(files) {
		b.result.Unchanged, b.result.Generation = true, b.current
		return b.prune()
	}
	if err := b.begin(files); err != nil {
		return err
	}
	defer b.tree.Close()
	if err := b.fill(ctx, files); err != nil {
		return err
	}
	missing := make(map[string]bool)
	for _, m := range b.result.Missing {
		missing[m.File.Path] = true
		if b.needed(&m.File) {
			return fmt.Errorf("%w, because %s cannot be had: %w", ErrBroken, m.File.Path, m.Err)
		}
	}
	files = slices.DeleteFunc(slices.Clone(files), func(f File) bool { return missing[f.Path] })
	if len(missing) > 0 && b.unchanged(files) { // what was missing is missing still
		b.result.Unchanged, b.result.Generation = true, b.current
		return b.prune()
	}
	files = append(files, b.carryOver()...)
	if err := b.finish(files); err != nil {
		return err
	}
	return b.prune()
}

// findCurrent reads where the link leads.
func (b *builder) findCurrent() error {
	target, err := b.root.Readlink(Current)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("%s is no link of an exported tree: %w", Current, err)
	case !stampName.MatchString(target):
		return fmt.Errorf("%s leads to %q, which no export has made", Current, target)
	}
	b.current = target
	b.before, err = readList(b.root, target+listSuffix)
	if err != nil {
		b.before = nil // everything is written again
	}
	return nil
}

// unchanged reports whether the current generation has just these files, all of them.
func (b *builder) unchanged(files []File) bool {
	own := slices.DeleteFunc(slices.Clone(b.before), func(f File) bool { return f.age > 0 })
	if b.current == "" || len(own) == 0 || !slices.Equal(own, files) {
		return false
	}
	for i := range own {
		info, err := b.root.Lstat(path.Join(b.current, own[i].Path))
		if err != nil || info.Size() != own[i].Ref.Size || !info.Mode().IsRegular() {
			return false
		}
	}
	return true
}

// begin makes the directory of the new generation, or goes on with that of a program that was killed.
func (b *builder) begin(files []File) error {
	stamps, others, err := b.names()
	if err != nil {
		return err
	}
	b.name = b.Now().UTC().Format(stampLayout)
	for _, s := range stamps {
		switch {
		case s <= b.current:
		case b.current == "" || s > b.current: // complete, and the link was not replaced any more; or the operator has put the link back
			if err := b.root.Rename(s, s+newSuffix); err != nil {
				return err
			}
			others = append(others, s+newSuffix)
		}
	}
	if b.name <= b.current {
		last, err := time.Parse(stampLayout, b.current)
		if err != nil {
			return err
		}
		b.name = last.Add(time.Second).Format(stampLayout)
	}
	dir := b.name + newSuffix
	for _, old := range others {
		if _, err := b.root.Lstat(dir); errors.Is(err, fs.ErrNotExist) && strings.HasSuffix(old, newSuffix) {
			if err := b.root.Rename(old, dir); err != nil {
				return err
			}
		} else if old != dir {
			if err := b.remove(old); err != nil {
				return err
			}
		}
	}
	if err := b.root.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if b.tree, err = b.root.OpenRoot(dir); err != nil {
		return err
	}
	b.there, b.paths, b.busy = make(map[proto.Digest]string), make(map[string]proto.Ref), make(map[proto.Digest]struct{})
	b.linked = make(map[proto.Digest]string)
	for i := range b.before {
		if f := &b.before[i]; b.linked[f.Ref.Digest] == "" {
			b.linked[f.Ref.Digest] = f.Path
		}
	}
	return b.resume(files)
}

// names are those of generations, in order, and of what programs that were killed have left.
func (b *builder) names() (stamps, others []string, err error) {
	dir, err := b.root.Open(".")
	if err != nil {
		return nil, nil, err
	}
	defer dir.Close()
	all, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, nil, err
	}
	slices.Sort(all)
	for _, name := range all {
		bare := strings.TrimSuffix(strings.TrimSuffix(name, newSuffix), goneSuffix)
		switch {
		case stampName.MatchString(name):
			stamps = append(stamps, name)
		case bare != name && stampName.MatchString(bare):
			others = append(others, name)
		}
	}
	return stamps, others, nil
}

// resume hashes what is in the new generation's directory, and removes what is not to be there.
func (b *builder) resume(files []File) error {
	wanted := make(map[string]proto.Ref, len(files))
	for i := range files {
		wanted[files[i].Path] = files[i].Ref
	}
	var wrong []string
	err := fs.WalkDir(b.tree.FS(), ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		ref, ok := wanted[p]
		if !ok || !d.Type().IsRegular() || b.hashOf(p) != ref {
			wrong = append(wrong, p)
			return nil
		}
		b.there[ref.Digest], b.paths[p] = p, ref
		return nil
	})
	if err != nil {
		return err
	}
	for _, p := range wrong {
		if err := b.tree.Remove(p); err != nil {
			return err
		}
	}
	return nil
}

func (b *builder) hashOf(p string) (ref proto.Ref) {
	f, err := b.tree.Open(p)
	if err != nil {
		return ref
	}
	defer f.Close()
	sum := sha256.New()
	if ref.Size, err = io.Copy(sum, f); err == nil {
		ref.Digest = proto.Digest(sum.Sum(nil))
	}
	return ref
}

// parallel is how many files are written at one time.
const parallel = 4

// fill brings all files into the new generation: first one of each content, then the other names of it.
func (b *builder) fill(ctx context.Context, files []File) error {
	group, filling := errgroup.WithContext(ctx)
	group.SetLimit(parallel)
	var later []*File
	for i := range files {
		f := &files[i]
		if _, busy := b.busy[f.Ref.Digest]; busy {
			later = append(later, f)
			continue
		}
		b.busy[f.Ref.Digest] = struct{}{}
		group.Go(func() error { return b.put(filling, f) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	for _, f := range later {
		if err := b.put(ctx, f); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// put brings one file into the new generation. It fails only where the run must end.
func (b *builder) put(ctx context.Context, f *File) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	b.mu.Lock()
	_, done := b.paths[f.Path]
	same := b.there[f.Ref.Digest]
	b.mu.Unlock()
	if done {
		b.Progress(f.Ref.Size)
		return nil
	}
	err := mkdirAll(b.tree, path.Dir(f.Path))
	if err == nil {
		err = b.link(f, same)
	}
	if errors.Is(err, errNoLink) {
		err = b.fetch(ctx, f)
	}
	var disk *diskError
	switch {
	case errors.As(err, &disk):
		return fmt.Errorf("write %s: %w", f.Path, disk.error)
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if err != nil {
		b.result.Missing = append(b.result.Missing, Missing{*f, err})
		return nil
	}
	b.there[f.Ref.Digest], b.paths[f.Path] = f.Path, f.Ref
	b.Progress(f.Ref.Size)
	return nil
}

func mkdirAll(root *os.Root, dir string) error {
	if dir == "." {
		return nil
	}
	return onDisk(root.MkdirAll(dir, 0o755))
}

// errNoLink is that a content is nowhere yet.
var errNoLink = errors.New("nothing to link to")

// link makes a file a name of the same content: in the new generation, or in the one before.
func (b *builder) link(f *File, same string) error {
	if same != "" && b.tree.Link(same, f.Path) == nil {
		return nil
	}
	old := b.linked[f.Ref.Digest]
	if old == "" {
		return errNoLink
	}
	info, err := b.root.Lstat(path.Join(b.current, old))
	if err != nil || !info.Mode().IsRegular() || info.Size() != f.Ref.Size {
		return errNoLink
	}
	if err := b.root.Link(path.Join(b.current, old), path.Join(b.name+newSuffix, f.Path)); err != nil {
		return errNoLink // as where it has too many names already, or the file system knows none
	}
	atomic.AddInt64(&b.result.Linked, f.Ref.Size)
	return nil
}

// diskError is that the tree cannot be written.
type diskError struct{ error }

func (e *diskError) Unwrap() error { return e.error }

// onDisk makes an error of the file system a *diskError, except where names of the snapshot are in each other's way.
func onDisk(err error) error {
	if err == nil || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.EISDIR) || errors.Is(err, unix.EEXIST) {
		return err
	}
	return &diskError{err}
}

// fetch writes a file. It gets its name when its bytes are proven.
func (b *builder) fetch(ctx context.Context, f *File) error {
	body, modified, err := b.Fetch(ctx, f)
	if err != nil {
		return err
	}
	defer body.Close()
	temp := fmt.Sprintf(".new-%d", b.temps.Add(1))
	out, err := b.tree.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return &diskError{err}
	}
	defer b.tree.Remove(temp) // it has another name, or is good for nothing
	err = copyProven(out, body, f.Ref)
	if closed := out.Close(); err == nil && closed != nil {
		err = &diskError{closed}
	}
	if err != nil {
		return err
	}
	if modified.IsZero() {
		modified = b.Modified
	}
	// The umask may have made it private, and web servers run as other users.
	if err := errors.Join(b.tree.Chmod(temp, 0o644), b.tree.Chtimes(temp, modified, modified)); err != nil {
		return &diskError{err}
	}
	if err := onDisk(b.tree.Rename(temp, f.Path)); err != nil {
		return err
	}
	atomic.AddInt64(&b.result.Fetched, f.Ref.Size)
	return nil
}

func copyProven(out *os.File, body io.Reader, ref proto.Ref) error {
	sum := sha256.New()
	source := &sourced{r: io.LimitReader(body, ref.Size+1)}
	n, err := io.Copy(io.MultiWriter(out, sum), source)
	switch {
	case source.err != nil:
		return source.err
	case err != nil:
		return &diskError{err}
	case n != ref.Size || proto.Digest(sum.Sum(nil)) != ref.Digest:
		return fmt.Errorf("%w: it has %d bytes of %d, or others than are listed", proto.ErrCorrupt, n, ref.Size)
	}
	return nil
}

// sourced remembers what reading failed with.
type sourced struct {
	r   io.Reader
	err error
}

func (s *sourced) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}

// carryOver gives the new generation files of those before, under names that are free.
func (b *builder) carryOver() (files []File) {
	for _, f := range b.before {
		if _, taken := b.paths[f.Path]; taken || f.Root || f.age >= keepFor {
			continue
		}
		err := mkdirAll(b.tree, path.Dir(f.Path))
		if err == nil {
			err = b.root.Link(path.Join(b.current, f.Path), path.Join(b.name+newSuffix, f.Path))
		}
		if err == nil { // otherwise the name is a directory now, or it was removed by hand
			f.age++
			files = append(files, f)
		}
	}
	return files
}

// finish makes the new generation durable, and then the current one. After each step, the link leads to a whole tree.
func (b *builder) finish(files []File) error {
	list, err := b.root.OpenFile(b.name+listSuffix, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	if err := errors.Join(writeList(list, files), list.Close()); err != nil {
		return err
	}
	if err := b.sync(); err != nil {
		return err
	}
	if err := b.root.Rename(b.name+newSuffix, b.name); err != nil {
		return err
	}
	if err := b.root.Remove(newLink); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := b.root.Symlink(b.name, newLink); err != nil {
		return fmt.Errorf("%w (a tree needs a file system with symbolic links; export a bundle to others)", err)
	}
	// At this point the generation has its name, and nobody uses it.
	if err := b.sync(); err != nil {
		return err
	}
	if err := b.root.Rename(newLink, Current); err != nil {
		return err
	}
	b.current, b.result.Generation = b.name, b.name
	return b.sync()
}

// sync makes all that was written durable: of tens of thousands of files, one by one, that would take minutes.
func (b *builder) sync() error {
	dir, err := b.root.Open(".")
	if err != nil {
		return err
	}
	defer dir.Close()
	return os.NewSyscallError("syncfs", unix.Syncfs(int(dir.Fd())))
}

// prune removes generations that nobody needs any more, and what programs that were killed have left.
func (b *builder) prune() error {
	stamps, others, err := b.names()
	if err != nil {
		return err
	}
	stamps = slices.DeleteFunc(stamps, func(s string) bool { return s >= b.current })
	for _, old := range append(stamps[:max(0, len(stamps)-keptBefore)], others...) {
		if err := b.remove(old); err != nil {
			return err
		}
	}
	return b.pruneLists()
}

// pruneLists removes lists of generations that are no more.
func (b *builder) pruneLists() error {
	dir, err := b.root.Open(".")
	if err != nil {
		return err
	}
	defer dir.Close()
	all, err := dir.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, name := range all {
		if bare, ok := strings.CutSuffix(name, listSuffix); ok && stampName.MatchString(bare) && !slices.Contains(all, bare) {
			if err := b.root.Remove(name); err != nil {
				return err
			}
		}
	}
	return nil
}

// remove removes a generation.
func (b *builder) remove(name string) error {
	bare := strings.TrimSuffix(strings.TrimSuffix(name, newSuffix), goneSuffix)
	if !strings.HasSuffix(name, goneSuffix) {
		if err := b.root.Rename(name, bare+goneSuffix); err != nil {
			return err
		}
	}
	return b.root.RemoveAll(bare + goneSuffix)
}
