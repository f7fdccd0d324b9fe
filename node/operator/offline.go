package operator

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/aptmesh/aptmesh/node/admin"
	"github.com/aptmesh/aptmesh/node/holds"
	"github.com/aptmesh/aptmesh/node/snapshot"
	"github.com/aptmesh/aptmesh/node/snapshot/offline"
	"github.com/aptmesh/aptmesh/proto"
)

func (o *Operator) newIntake() *offline.Intake {
	return offline.NewIntake(offline.Config{
		Freeze: func(archive string, at time.Time, suites []proto.Captured, given map[proto.Digest][]byte) (offline.Frozen, error) {
			f, err := o.cfg.Catalog.FreezeGiven(archive, at, suites, given, o.unsigned)
			if err != nil {
				return nil, err
			}
			return f, nil
		},
		Has: o.cfg.Archives.Has, Restricted: o.cfg.Archives.Restricted, Stored: o.storedHere,
		Create: func(size int64) (offline.Writer, error) {
			w, err := o.cfg.Store.Create(size)
			if err != nil {
				return nil, err
			}
			return w, nil
		},
		Pin: o.cfg.Store.Pin,
		Room: func() (limit, pinned int64) {
			st := o.cfg.Store.Stats()
			return o.cfg.Archives.Config().Snapshots.MaxPinned.Of(st.Max), st.Pinned
		},
		Keep: o.cfg.Snapshots.Import, Now: time.Now,
	})
}

// unsigned reports whether the configuration says that a suite needs no signature from anywhere. A certificate of its
// upstream (trust_https) says nothing of what comes from another place.
func (o *Operator) unsigned(suite proto.Suite) bool {
	a, ok := o.cfg.Archives.Config().Archive(suite.Archive)
	format := o.cfg.Archives.FormatOf(suite.Archive)
	suite.Archive = ""
	return ok && (a.Unsigned || slices.ContainsFunc(a.UnsignedSuites, func(name string) bool { return format.SuiteNamed(name) == suite }))
}

// SnapshotFiles lists the files of a snapshot.
func (o *Operator) SnapshotFiles(ctx context.Context, name string, order admin.ExportOrder, head func(*admin.ExportHead) error, emit func(*admin.SnapshotFile) error) (*admin.ExportEnd, error) {
	name, record, text, err := o.cfg.Snapshots.Text(name)
	if err != nil {
		return nil, err
	}
	suites, err := o.cfg.Snapshots.Listings(ctx, name, nil)
	if err != nil {
		return nil, err
	}
	if err := head(&admin.ExportHead{Name: name, Taken: record.Taken, Record: text}); err != nil {
		return nil, err
	}
	lister := &offline.Lister{
		Format: func(archive string) offline.Format { return o.cfg.Archives.FormatOf(archive) },
		Open:   o.cfg.Fetcher.Open, Stored: o.storedHere,
		Unlisted: func(ctx context.Context, loc proto.Location) (*proto.Blob, error) {
			return o.openUnlisted(ctx, name, loc)
		},
	}
	left, err := lister.List(ctx, suites, offline.Order{All: order.All || record.Hold == holds.LevelAll, Beside: order.Beside}, func(f *offline.File) error {
		return emit(&admin.SnapshotFile{
			Kind: string(f.Kind), Archive: f.Archive, Paths: f.Paths, SHA256: f.Ref.Digest, Size: f.Ref.Size, Stored: f.Stored, Needed: f.Needed, Missing: f.Missing,
		})
	})
	if err != nil {
		return nil, err
	}
	return (*admin.ExportEnd)(&left), nil
}

// SnapshotFile opens a file of a snapshot.
func (o *Operator) SnapshotFile(ctx context.Context, name string, file admin.NamedFile) (*proto.Blob, error) {
	loc := proto.Location{Archive: file.Archive, Path: file.Path}
	e, err := o.cfg.Snapshots.Discover(ctx, name, loc, false)
	if err != nil {
		return nil, err
	}
	ref := proto.Ref{Digest: file.SHA256, Size: file.Size}
	object := e.Object
	for content := range object.Contents() {
		if content.Digest == ref.Digest {
			object.Ref, object.Others = ref, nil
		}
	}
	if !object.Ref.IsZero() && object.Ref != ref {
		return nil, fmt.Errorf("%s of the snapshot %s is not the file that was listed: the snapshot was replaced", loc, name)
	}
	var b *proto.Blob
	if e.Listed {
		b, err = offline.OpenStored(ctx, o.cfg.Fetcher.Open, object)
	} else {
		b, err = o.openUnlisted(ctx, name, loc)
	}
	if err != nil {
		return nil, err
	}
	if b.Ref != ref {
		b.Close()
		return nil, fmt.Errorf("%s has another content than was listed", loc)
	}
	return b, nil
}

// maxUnlisted bounds a file that no index lists, in bytes: such files are signatures.
const maxUnlisted = 1 << 20

// openUnlisted reads a file that no index of a snapshot lists.
func (o *Operator) openUnlisted(ctx context.Context, name string, loc proto.Location) (*proto.Blob, error) {
	e, err := o.cfg.Snapshots.Discover(ctx, name, loc, false)
	if err != nil {
		return nil, err
	}
	b, err := o.cfg.Fetcher.Open(ctx, e.Object)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	data, err := io.ReadAll(io.LimitReader(b.Reader(), maxUnlisted+1))
	switch {
	case err != nil:
		return nil, err
	case len(data) > maxUnlisted:
		return nil, fmt.Errorf("%s has more than %d bytes", loc, maxUnlisted)
	}
	return &proto.Blob{Bytes: data, Ref: proto.Ref{Digest: proto.DigestOf(data), Size: int64(len(data))}, Modified: b.Modified, Tier: b.Tier}, nil
}

// BeginImport verifies the root files of a snapshot.
func (o *Operator) BeginImport(ctx context.Context, record []byte, roots map[proto.Digest][]byte) (*admin.ImportBegun, error) {
	id, err := o.intake.Begin(ctx, record, roots)
	if err != nil {
		return nil, importError(err)
	}
	return &admin.ImportBegun{Import: id}, nil
}

// LackingFiles says which files of a snapshot are not here.
func (o *Operator) LackingFiles(ctx context.Context, id proto.Digest, files []admin.NamedFile) ([]int, error) {
	named := make([]offline.Named, len(files))
	for i, f := range files {
		named[i] = namedOf(f)
	}
	lacking, err := o.intake.Lacking(ctx, id, named)
	return lacking, importError(err)
}

func namedOf(f admin.NamedFile) offline.Named {
	return offline.Named{Location: proto.Location{Archive: f.Archive, Path: f.Path}, Ref: proto.Ref{Digest: f.SHA256, Size: f.Size}}
}

// ImportFile takes in one file of a snapshot.
func (o *Operator) ImportFile(ctx context.Context, id proto.Digest, file admin.NamedFile, body io.Reader) (*admin.Done, error) {
	if err := o.intake.Put(ctx, id, namedOf(file), body); err != nil {
		return nil, importError(err)
	}
	return &admin.Done{Message: "stored"}, nil
}

// FinishImport gives the snapshot its name.
func (o *Operator) FinishImport(ctx context.Context, id proto.Digest, name, by string) (*admin.SnapshotResult, error) {
	s, err := o.intake.Finish(ctx, id, name, by)
	if err != nil {
		if errors.Is(err, snapshot.ErrExists) {
			err = &admin.Error{Message: err.Error() + "; import it --as another name", Refused: true}
		}
		return nil, importError(err)
	}
	r := &admin.SnapshotResult{Snapshot: o.snapshotOf(s), Unreached: s.Unreached}
	if err := o.predict(ctx, &r.Snapshot); err != nil { // the snapshot is there
		r.Warnings = append(r.Warnings, fmt.Sprintf("what will become of it cannot be said: %v", err))
	}
	return r, nil
}

// importError marks what trying again does not help.
func importError(err error) error {
	if errors.Is(err, offline.ErrRefused) {
		return &admin.Error{Message: err.Error(), Refused: true}
	}
	return err
}
