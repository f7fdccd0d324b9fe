package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/aptmesh/aptmesh/node/admin"
	"github.com/aptmesh/aptmesh/node/snapshot/bundle"
	"github.com/aptmesh/aptmesh/node/snapshot/tree"
	"github.com/aptmesh/aptmesh/proto"
)

// imported is what an import has done.
type imported struct {
	// Snapshot is nil where it has no name, because files are missing.
	Snapshot *admin.SnapshotResult `json:"snapshot,omitempty"`
	Files    int                   `json:"files"`
	Bytes    int64                 `json:"bytes"`
	// Sent are the bytes that the node did not have yet.
	Sent    int64         `json:"sent"`
	Missing []missingFile `json:"missing"`
	// Absent are files that were missing when the bundle was written: they are not required.
	Absent  []missingFile `json:"absent"`
	Damaged []string      `json:"damaged,omitempty"`
}

func (a *app) importCommand() *cobra.Command {
	var as string
	cmd := a.asking(&cobra.Command{
		Use:   "import DIR",
		Short: "Take in a snapshot that aptmesh export has written as a bundle",
		Long: `Take in a snapshot that aptmesh export has written as a bundle. The node verifies its roots with the keys
that the archives have in its own configuration, before it stores anything, and takes only bytes that
those roots list. What it has already is not sent. When all that the bundle requires is there, the
snapshot gets its name, in the whole cluster, and the node keeps its packages.

If files are missing, they are listed, and what came is stored: bring what is missing, and import again.

Exit codes: 0 done, 1 failed, 2 usage, 3 refused: not trusted here, not one bundle, or too large, 4 incomplete.`,
		Example: `  aptmesh import /media/usb
  aptmesh import /media/usb --as 2026-w48-again`,
		Args: takes(1, 1, "the directory"),
	}, func(ctx context.Context, client *admin.Client, args []string) (any, func(io.Writer) error, error) {
		result, err := a.importBundle(ctx, client, args[0], as)
		if err != nil {
			return nil, nil, refusedExit(err)
		}
		if len(result.Missing)+len(result.Absent) > 0 {
			err = &exitError{code: exitIncomplete}
		}
		return result, result.print, err
	})
	cmd.Flags().StringVar(&as, "as", "", "`NAME` of the snapshot here (default that of the bundle)")
	return cmd
}

// refusedExit gives an error the exit code of its kind.
func refusedExit(err error) error {
	var said *admin.Error
	if errors.As(err, &said) && said.Refused || errors.Is(err, errBundle) {
		return &exitError{exitRefused, err}
	}
	return err
}

// errBundle is that there is no bundle, or one that makes no sense.
var errBundle = errors.New("the bundle cannot be imported")

// importing is one import.
type importing struct {
	client *admin.Client
	bundle *bundle.Reader
	id     proto.Digest
	result *imported
	meter  *meter

	mu      sync.Mutex
	missing map[admin.NamedFile]string // why files could not be sent; guarded by mu
}

func (a *app) importBundle(ctx context.Context, client *admin.Client, dir, as string) (*imported, error) {
	r, err := bundle.Open(dir)
	if err != nil {
		if info, wrong := os.Lstat(filepath.Join(dir, tree.Current)); wrong == nil && info.Mode()&os.ModeSymlink != 0 {
			err = fmt.Errorf("%s has a tree for web servers, which does not say what is required; export a bundle (without --tree)", dir)
		}
		var disk *fs.PathError
		if errors.As(err, &disk) {
			return nil, err
		}
		return nil, fmt.Errorf("%w: %w", errBundle, err)
	}
	defer r.Close()
	m := &importing{client: client, bundle: r, missing: make(map[admin.NamedFile]string), result: &imported{Missing: []missingFile{}, Absent: []missingFile{}, Damaged: r.Damaged}}
	if done, err := m.begin(ctx); err != nil || done {
		return m.result, err
	}
	progress, finish := showProgress(a.err, "importing")
	defer finish()
	m.meter = &meter{show: progress}
	for i := range r.Files {
		if f := &r.Files[i]; f.Kind != "root" && f.Missing == "" {
			m.meter.total += f.Size
		}
	}
	for _, kind := range []string{"index", "package"} {
		if err := m.send(ctx, kind); err != nil {
			return nil, err
		}
	}
	if len(m.result.Missing) > 0 {
		return m.result, nil
	}
	if as == "" {
		as = r.Name
	}
	m.result.Snapshot, err = client.FinishImport(ctx, m.id, as, operatorName())
	return m.result, err
}

// maxRoots bounds the root files together, in bytes.
const maxRoots = 512 << 20

// begin shows the node the roots. done: some are missing, so that nothing can be verified.
func (m *importing) begin(ctx context.Context) (done bool, err error) {
	roots := make(map[proto.Digest][]byte)
	left := int64(maxRoots)
	for i := range m.bundle.Files {
		f := &m.bundle.Files[i]
		m.result.Files++
		m.result.Bytes += max(f.Size, 0)
		if f.Missing != "" {
			m.result.Absent = append(m.result.Absent, missingFile{f.Archive + "/" + f.Path, f.Missing})
			continue
		}
		if f.Kind != "root" || roots[f.SHA256] != nil {
			continue
		}
		if left -= f.Size; left < 0 {
			return false, fmt.Errorf("%w: its root files have more than %s", errBundle, bytesOf(maxRoots))
		}
		data, err := m.read(f)
		if err != nil {
			m.result.Missing = append(m.result.Missing, missingFile{f.Archive + "/" + f.Path, err.Error()})
			continue
		}
		roots[f.SHA256] = data
	}
	if len(m.result.Missing) > 0 {
		return true, nil
	}
	begun, err := m.client.BeginImport(ctx, m.bundle.Record, roots)
	if err != nil {
		return false, err
	}
	m.id = begun.Import
	return false, nil
}

// read reads a small file and checks it.
func (m *importing) read(f *bundle.File) ([]byte, error) {
	body, err := m.bundle.Content(f.Ref())
	if err != nil {
		return nil, err
	}
	defer body.Close()
	data, err := io.ReadAll(body)
	if err == nil && proto.DigestOf(data) != f.SHA256 {
		err = errDamaged
	}
	return data, err
}

var errDamaged = errors.New("it is damaged in the bundle: copy the bundle again")

// lackingBatch is how many files the node is asked about at one time.
const lackingBatch = 1000

// send brings the files of a kind to the node, and notes what is missing after that.
func (m *importing) send(ctx context.Context, kind string) error {
	lacking, err := m.lacking(ctx, kind)
	if err != nil {
		return err
	}
	group, sending := errgroup.WithContext(ctx)
	group.SetLimit(sendParallel)
	seen := make(map[proto.Digest]bool)
	m.meter.add(m.sizeOf(kind, lacking)) // what is there already
	for _, f := range lacking {
		if seen[f.SHA256] { // under another name
			m.meter.add(f.Size)
			continue
		}
		seen[f.SHA256] = true
		group.Go(func() error { return m.sendFile(sending, f) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if len(lacking) == 0 {
		return nil
	}
	// Once more, so that nothing is taken for there that is not.
	if lacking, err = m.lacking(ctx, kind); err != nil {
		return err
	}
	for _, f := range lacking {
		reason := m.missing[f]
		if reason == "" {
			reason = "the node did not keep it; `aptmesh status` says how its store does"
		}
		m.result.Missing = append(m.result.Missing, missingFile{f.Archive + "/" + f.Path, reason})
	}
	return nil
}

// sizeOf is how many bytes the files of a kind have that are not among those which are lacking.
func (m *importing) sizeOf(kind string, lacking []admin.NamedFile) (n int64) {
	for i := range m.bundle.Files {
		if f := &m.bundle.Files[i]; f.Kind == kind && f.Missing == "" {
			n += f.Size
		}
	}
	for _, f := range lacking {
		n -= f.Size
	}
	return n
}

// lacking are the files of a kind that the node does not have.
func (m *importing) lacking(ctx context.Context, kind string) (lacking []admin.NamedFile, err error) {
	var batch []admin.NamedFile
	ask := func() error {
		if len(batch) == 0 {
			return nil
		}
		places, err := m.client.LackingFiles(ctx, m.id, batch)
		if err != nil {
			return err
		}
		for _, place := range places {
			if place < 0 || place >= len(batch) {
				return errors.New("the node's answer makes no sense: is it of another version than this command?")
			}
			lacking = append(lacking, batch[place])
		}
		batch = batch[:0]
		return nil
	}
	for i := range m.bundle.Files {
		f := &m.bundle.Files[i]
		if f.Kind != kind || f.Missing != "" {
			continue
		}
		batch = append(batch, admin.NamedFile{Archive: f.Archive, Path: f.Path, SHA256: f.SHA256, Size: f.Size})
		if len(batch) == lackingBatch {
			if err := ask(); err != nil {
				return nil, err
			}
		}
	}
	return lacking, ask()
}

// sendParallel is how many files are sent at one time.
const sendParallel = 4

// sendFile sends one file. It fails only where no other file can be sent either.
func (m *importing) sendFile(ctx context.Context, f admin.NamedFile) error {
	defer m.meter.add(f.Size)
	body, err := m.bundle.Content(proto.Ref{Digest: f.SHA256, Size: f.Size})
	if err != nil {
		m.miss(f, m.notThere())
		return nil
	}
	defer body.Close()
	sum := sha256.New()
	source := &readError{r: body}
	err = m.client.ImportFile(ctx, m.id, f, io.TeeReader(source, sum))
	var said *admin.Error
	switch {
	case err == nil:
		m.mu.Lock()
		m.result.Sent += f.Size
		m.mu.Unlock()
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case source.err != nil:
		m.miss(f, fmt.Sprintf("it cannot be read from the bundle: %v", source.err))
	case source.n == f.Size && proto.Digest(sum.Sum(nil)) != f.SHA256:
		m.miss(f, errDamaged.Error())
	case errors.As(err, &said) && !said.Refused:
		m.miss(f, said.Message)
	default:
		return err
	}
	return nil
}

// notThere says why the bundle lacks a file.
func (m *importing) notThere() string {
	switch {
	case len(m.bundle.Damaged) > 0:
		return "it lay in a part of the bundle that is damaged"
	case m.bundle.Since != "":
		return "it is not in the bundle, which was written for a site that has it already (--since " + m.bundle.Since + "); import the earlier bundle first, or export again without --since"
	}
	return "it is not in the bundle: a chunk of it was not copied"
}

func (m *importing) miss(f admin.NamedFile, reason string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.missing[f] = reason
}

// readError remembers what reading failed with, and counts bytes.
type readError struct {
	r   io.Reader
	n   int64
	err error
}

func (r *readError) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	r.n += int64(n)
	if err != nil && !errors.Is(err, io.EOF) {
		r.err = err
	}
	return n, err
}

func (r *imported) print(w io.Writer) error {
	var b strings.Builder
	for _, sentence := range r.Damaged {
		fmt.Fprintf(&b, "damaged: %s\n", sentence)
	}
	writeMissing(&b, r.Missing)
	writeMissing(&b, r.Absent)
	fmt.Fprintf(&b, "%s, %s, of which %s were new here\n", counted(r.Files, "file"), bytesOf(r.Bytes), bytesOf(r.Sent))
	if r.Snapshot == nil {
		fmt.Fprintf(&b, "the snapshot has no name yet, because %s missing; what came is stored: bring the rest, and import again\n", are(len(r.Missing), "file"))
		_, err := io.WriteString(w, b.String())
		return err
	}
	fmt.Fprintf(&b, "%s: %s, imported\n", r.Snapshot.Name, suitesOf(len(r.Snapshot.Suites)))
	if len(r.Absent) > 0 {
		fmt.Fprintf(&b, "%s missing, because the site that exported it did not have them\n", are(len(r.Absent), "file"))
	}
	writeWarnings(&b, &r.Snapshot.Snapshot)
	b.WriteString(unreachedLine(r.Snapshot.Unreached))
	_, err := io.WriteString(w, b.String())
	return err
}

// are counts things that are something.
func are(n int, what string) string {
	if n == 1 {
		return "1 " + what + " is"
	}
	return counted(n, what) + " are"
}
