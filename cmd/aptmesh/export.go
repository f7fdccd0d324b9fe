package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/aptmesh/aptmesh/node/admin"
	"github.com/aptmesh/aptmesh/node/snapshot/bundle"
	"github.com/aptmesh/aptmesh/node/snapshot/tree"
	"github.com/aptmesh/aptmesh/proto"
)

// exportPlan is what to export, and where to.
type exportPlan struct {
	name, dir, since, chunk string
	tree, bundle, all       bool
}

// exported is what an export has done.
type exported struct {
	Snapshot string    `json:"snapshot"`
	Taken    time.Time `json:"taken"`
	Dir      string    `json:"dir"`
	// Generation is the directory of a tree that its link leads to now.
	Generation string `json:"generation,omitempty"`
	Unchanged  bool   `json:"unchanged,omitempty"`
	// Files and Bytes are the snapshot's, each name once. Written are the bytes that were written by this run, Omitted the
	// files that the receiver has already.
	Files   int           `json:"files"`
	Bytes   int64         `json:"bytes"`
	Written int64         `json:"written"`
	Omitted int           `json:"omitted,omitempty"`
	Missing []missingFile `json:"missing"`
	admin.ExportEnd
}

// missingFile is a file that could not be had.
type missingFile struct {
	File  string `json:"file"`
	Error string `json:"error"`
}

func (a *app) exportCommand() *cobra.Command {
	var plan exportPlan
	cmd := a.asking(&cobra.Command{
		Use:   "export NAME --to DIR",
		Short: "Write a snapshot to a directory, for a site without a link",
		Long: `Write a snapshot to a directory: its signed roots and indexes, and the packages of it that the node
has, or with --all every package that it lists. The command writes as the user who runs it; it reads
from the node.

A bundle (the default) is for another node: carry it there, and run aptmesh import. It consists of files
that every file system takes. --since leaves out what the receiver has from an earlier bundle, whose
manifest.jsonl it names; or what an earlier snapshot lists.

A tree (--tree) is for any web server: serve DIR/current. It is replaced as a whole, and two generations
before it are kept. Unchanged files are linked, and a run that changes nothing writes nothing.

Either can be interrupted at any moment: the next run goes on.

Exit codes: 0 done, 1 failed, 2 usage, 3 refused, 4 incomplete: files could not be had, and are listed.`,
		Example: `  aptmesh export 2026-w48 --to /media/usb
  aptmesh export 2026-w49 --to /media/usb2 --since /media/usb/manifest.jsonl
  aptmesh export stable --to /srv/mirror --tree --all`,
		Args: takes(1, 1, "the name of the snapshot"),
	}, func(ctx context.Context, client *admin.Client, args []string) (any, func(io.Writer) error, error) {
		plan.name = args[0]
		result, err := a.export(ctx, client, &plan)
		if err != nil {
			return nil, nil, err
		}
		if len(result.Missing)+len(result.Unread) > 0 {
			err = &exitError{code: exitIncomplete}
		}
		return result, result.print, err
	})
	cmd.Flags().StringVar(&plan.dir, "to", "", "`DIR` to write to")
	cmd.Flags().StringVar(&plan.since, "since", "", "leave out what is in an earlier bundle, or listed by an earlier snapshot: the `MANIFEST` or the name")
	cmd.Flags().StringVar(&plan.chunk, "chunk-size", "", "`SIZE` of the files of a bundle (default 3.9GiB, which FAT takes)")
	cmd.Flags().BoolVar(&plan.tree, "tree", false, "write a tree for a web server")
	cmd.Flags().BoolVar(&plan.bundle, "bundle", false, "write a bundle for another node (the default)")
	cmd.Flags().BoolVar(&plan.all, "all", false, "write every package that is listed; the node fetches those that it does not have")
	_ = cmd.MarkFlagDirname("to")
	return cmd
}

// usageError is an error of how the command was called.
func usageError(format string, args ...any) error {
	return &exitError{exitUsage, fmt.Errorf(format, args...)}
}

func (a *app) export(ctx context.Context, client *admin.Client, plan *exportPlan) (*exported, error) {
	switch {
	case plan.dir == "":
		return nil, usageError("--to is missing: name the directory to write to")
	case plan.tree && plan.bundle:
		return nil, usageError("--tree and --bundle: name one of them")
	case plan.tree && (plan.since != "" || plan.chunk != ""):
		return nil, usageError("--since and --chunk-size are for bundles; a tree links what is unchanged by itself")
	}
	most := uint64(bundle.DefaultChunk)
	if plan.chunk != "" {
		var err error
		if most, err = humanize.ParseBytes(plan.chunk); err != nil || most < 1<<20 || most > 1<<60 {
			return nil, usageError("--chunk-size: %q is no size of 1MiB or more, such as 3.9GiB", plan.chunk)
		}
	}
	dir, err := filepath.Abs(plan.dir)
	if err != nil {
		return nil, err
	}
	e := &exporting{client: client, result: &exported{Dir: dir, Missing: []missingFile{}}}
	if err := e.list(ctx, plan); err != nil {
		return nil, err
	}
	progress, finish := showProgress(a.err, "exporting")
	defer finish()
	e.meter = &meter{show: progress, total: e.result.Bytes}
	if plan.tree {
		return e.result, e.tree(ctx)
	}
	return e.result, e.bundle(ctx, plan.since, int64(most))
}

// meter adds up what is done. Safe for concurrent use.
type meter struct {
	mu          sync.Mutex
	show        func(done, total int64)
	done, total int64
}

func (m *meter) add(n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.done += n
	m.show(m.done, m.total)
}

// exporting is one export.
type exporting struct {
	client *admin.Client
	result *exported
	head   *admin.ExportHead
	files  []admin.SnapshotFile
	since  map[proto.Digest]bool // what the receiver has already
	meter  *meter
}

// list asks the node for the files.
func (e *exporting) list(ctx context.Context, plan *exportPlan) error {
	var end *admin.ExportEnd
	var err error
	// A bundle has no place for what nothing vouches for.
	e.head, end, err = e.client.SnapshotFiles(ctx, plan.name, admin.ExportOrder{All: plan.all, Beside: plan.tree}, func(f *admin.SnapshotFile) error {
		e.files = append(e.files, *f)
		e.result.Files++
		e.result.Bytes += max(f.Size, 0)
		return nil
	})
	if err != nil {
		return err
	}
	e.result.Snapshot, e.result.Taken, e.result.ExportEnd = e.head.Name, e.head.Taken, *end
	e.since = make(map[proto.Digest]bool)
	if plan.since == "" {
		return nil
	}
	if strings.ContainsRune(plan.since, filepath.Separator) {
		m, err := bundle.ReadManifest(plan.since)
		if err != nil {
			return fmt.Errorf("--since: %w", err)
		}
		for _, f := range m.Files {
			if f.Missing == "" {
				e.since[f.SHA256] = true
			}
		}
		return nil
	}
	_, _, err = e.client.SnapshotFiles(ctx, plan.since, admin.ExportOrder{All: plan.all}, func(f *admin.SnapshotFile) error {
		e.since[f.SHA256] = true
		return nil
	})
	if err != nil {
		return fmt.Errorf("--since: %w", err)
	}
	return nil
}

// miss notes a file that could not be had.
func (e *exporting) miss(archive, path, reason string) {
	e.result.Missing = append(e.result.Missing, missingFile{archive + "/" + path, reason})
}

// errNode is in errors of the connection to the node: no other file can be had then.
var errNode = errors.New("the node does not answer")

// open opens a file of the snapshot.
func (e *exporting) open(ctx context.Context, f admin.NamedFile) (io.ReadCloser, time.Time, error) {
	body, modified, err := e.client.SnapshotFile(ctx, e.head.Name, f)
	var said *admin.Error
	if err != nil && !errors.As(err, &said) && ctx.Err() == nil {
		err = fmt.Errorf("%w: %w", errNode, err)
	}
	return body, modified, err
}

// bundle writes a bundle.
func (e *exporting) bundle(ctx context.Context, since string, most int64) (err error) {
	w, err := bundle.Create(e.result.Dir, bundle.Head{Name: e.head.Name, Taken: e.head.Taken, Record: e.head.Record, Since: since}, most)
	if errors.Is(err, bundle.ErrOther) {
		return &exitError{exitRefused, err}
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	ctx, cancel := context.WithCancel(ctx)
	ahead := e.fetchAhead(ctx, w)
	defer ahead()
	defer cancel()
	files := make([]bundle.File, 0, len(e.files))
	for i := range e.files {
		f := &e.files[i]
		entry := bundle.File{Kind: f.Kind, Archive: f.Archive, Path: f.Paths[0], SHA256: f.SHA256, Size: f.Size, Missing: f.Missing}
		if f.Missing == "" {
			if err := e.write(ctx, w, f, &entry); err != nil {
				return fmt.Errorf("%s: %w", e.result.Dir, err)
			}
		}
		if entry.Missing != "" {
			e.miss(f.Archive, f.Paths[0], entry.Missing)
		}
		e.meter.add(max(f.Size, 0))
		files = append(files, entry)
	}
	if err := w.Finish(files); err != nil {
		return fmt.Errorf("%s: %w", e.result.Dir, err)
	}
	return nil
}

// write writes one file into a bundle, or notes in its entry why it is not there. Roots always are, so that the receiver
// can verify them first.
func (e *exporting) write(ctx context.Context, w *bundle.Writer, f *admin.SnapshotFile, entry *bundle.File) error {
	if f.Kind != "root" && e.since[f.SHA256] {
		entry.Omitted = true
		e.result.Omitted++
		return nil
	}
	if w.Has(f.SHA256) {
		return nil
	}
	var source *bundle.SourceError
	for attempt := 0; ; attempt++ {
		body, _, err := e.open(ctx, f.Named())
		if err == nil {
			err = w.Add(entry.Ref(), body)
			body.Close()
		}
		switch {
		case err == nil:
			e.result.Written += f.Size
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.As(err, &source) && attempt == 0: // it ended early: whether that was the node shows now
		case errors.As(err, &source) || !errors.Is(err, errNode) && errors.As(err, new(*admin.Error)):
			entry.Missing = err.Error()
			return nil
		default:
			return err
		}
	}
}

// aheadParallel is how many files the node is made to fetch at one time, before they are written.
const aheadParallel = 8

// fetchAhead has the node fetch files that it does not have. A bundle is written one file after the other, and
// upstream is slow.
func (e *exporting) fetchAhead(ctx context.Context, w *bundle.Writer) (wait func()) {
	var group errgroup.Group
	group.SetLimit(aheadParallel)
	var lacking []admin.NamedFile
	for i := range e.files {
		if f := &e.files[i]; !f.Stored && f.Missing == "" && !e.since[f.SHA256] && !w.Has(f.SHA256) {
			lacking = append(lacking, f.Named())
		}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for _, f := range lacking {
			if ctx.Err() != nil {
				break
			}
			group.Go(func() error {
				if body, _, err := e.open(ctx, f); err == nil { // a failure shows again when it is written
					_, _ = io.Copy(io.Discard, body)
					body.Close()
				}
				return nil
			})
		}
		_ = group.Wait() // none fails
	}()
	return func() { <-done }
}

// tree writes a tree.
func (e *exporting) tree(ctx context.Context) error {
	unix.Umask(0o022) // web servers run as other users
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var files []tree.File
	from := make(map[proto.Digest]admin.NamedFile)
	needed := make(map[string]bool)
	taken := make(map[string]bool)
	for i := range e.files {
		f := &e.files[i]
		if f.Missing != "" && f.Needed {
			return &exitError{exitIncomplete, fmt.Errorf("%s: %w, because %s/%s cannot be had: %s", e.result.Dir, tree.ErrBroken, f.Archive, f.Paths[0], f.Missing)}
		}
		if f.Missing != "" {
			e.miss(f.Archive, f.Paths[0], f.Missing)
			continue
		}
		from[f.SHA256] = f.Named()
		for _, path := range f.Paths {
			path = f.Archive + "/" + path
			if err := tree.CheckPath(path); err != nil {
				e.miss(f.Archive, f.Paths[0], err.Error())
				break
			}
			if taken[path] {
				continue
			}
			taken[path], needed[path] = true, f.Needed
			files = append(files, tree.File{Path: path, Ref: proto.Ref{Digest: f.SHA256, Size: f.Size}, Root: f.Kind == "root"})
			e.meter.total += f.Size
		}
	}
	e.meter.total -= e.result.Bytes // each file counts once for each name
	result, err := tree.Build(ctx, tree.Config{
		Dir: e.result.Dir, Modified: e.head.Taken, Progress: e.meter.add, Now: time.Now,
		Fetch: func(ctx context.Context, f *tree.File) (io.ReadCloser, time.Time, error) {
			body, modified, err := e.open(ctx, from[f.Ref.Digest])
			if errors.Is(err, errNode) {
				cancel(err)
			}
			return body, modified, err
		},
	}, files, func(f *tree.File) bool { return needed[f.Path] })
	if errors.Is(err, tree.ErrBroken) {
		return &exitError{exitIncomplete, err}
	}
	if err != nil {
		return err
	}
	for _, m := range result.Missing {
		e.result.Missing = append(e.result.Missing, missingFile{m.File.Path, m.Err.Error()})
	}
	e.result.Generation, e.result.Unchanged, e.result.Written = result.Generation, result.Unchanged, result.Fetched
	return nil
}

func (r *exported) print(w io.Writer) error {
	var b strings.Builder
	switch {
	case r.Unchanged:
		fmt.Fprintf(&b, "%s: %s has it already (%s, %s)\n", r.Snapshot, filepath.Join(r.Dir, tree.Current), counted(r.Files, "file"), bytesOf(r.Bytes))
	case r.Generation != "":
		fmt.Fprintf(&b, "%s: %s, %s, of which %s were written; %s leads to it\n", r.Snapshot, counted(r.Files, "file"), bytesOf(r.Bytes), bytesOf(r.Written), filepath.Join(r.Dir, tree.Current))
	default:
		fmt.Fprintf(&b, "%s: %s, %s, of which %s were written to %s\n", r.Snapshot, counted(r.Files, "file"), bytesOf(r.Bytes), bytesOf(r.Written), r.Dir)
	}
	if r.Omitted > 0 {
		fmt.Fprintf(&b, "%s left out, because the receiver has them already\n", counted(r.Omitted, "file"))
	}
	if r.Unstored > 0 {
		fmt.Fprintf(&b, "%s left out, because the node does not have them; --all fetches them\n", counted(r.Unstored, "package"))
	}
	if r.Unprovable > 0 {
		fmt.Fprintf(&b, "%s left out, because no strong sum is listed for them\n", counted(r.Unprovable, "file"))
	}
	if r.Conflicting > 0 {
		fmt.Fprintf(&b, "%s left out, because another suite has another file of the same name\n", counted(r.Conflicting, "file"))
	}
	for _, sentence := range r.Unread {
		fmt.Fprintf(&b, "missing: %s\n", sentence)
	}
	writeMissing(&b, r.Missing)
	_, err := io.WriteString(w, b.String())
	return err
}

// maxMissing bounds what is listed for people; --json has all of it.
const maxMissing = 50

func writeMissing(b *strings.Builder, missing []missingFile) {
	for _, m := range missing[:min(len(missing), maxMissing)] {
		fmt.Fprintf(b, "missing: %s: %s\n", m.File, m.Error)
	}
	if n := len(missing) - maxMissing; n > 0 {
		fmt.Fprintf(b, "and %s more (--json lists them)\n", counted(n, "file"))
	}
}
