package catalog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/aptmesh/aptmesh/node/catalog/view"
	"github.com/aptmesh/aptmesh/proto"
)

// reader reads members of the roots of one suite: into the store, and what they list into a table.
// Safe for concurrent use.
type reader struct {
	c      *Catalog
	suite  proto.Suite
	format Format
	log    *slog.Logger
	// unreadable is told of a member of which the bytes are right and make no sense to us.
	unreadable func(m *proto.Member, reason string)
}

func (d *driver) reader() *reader {
	return &reader{c: d.c, suite: d.id, format: d.archive.Load().Format, log: d.log, unreadable: d.noteUnreadable}
}

// object is what it takes to obtain a member.
func (r *reader) object(g proto.Generation, m *proto.Member, holders []string) proto.ObjectRequest {
	w := proto.ObjectRequest{Ref: m.Ref, SHA512: m.SHA512, Class: proto.ClassMetadata, Holders: holders, Base: g.Base}
	names := make([]proto.Location, 0, len(m.Upstream)+1)
	for _, name := range m.Upstream {
		names = append(names, r.suite.At(name))
	}
	if len(names) == 0 {
		names = append(names, r.suite.At(m.Path))
	}
	w.Where = proto.WhereOf(names)
	return w
}

// read brings one member into the store and its table onto the disk. holders are nodes that
// are known to hold it: their own summaries may not have announced it yet.
func (r *reader) read(ctx context.Context, g proto.Generation, m *proto.Member, holders []string) (view.Staged, error) {
	ref, err := r.drain(ctx, r.object(g, m, holders), m)
	if err != nil || !m.Lists() {
		return view.Staged{Ref: ref}, err
	}
	if r.c.tablesOf(r.suite.Archive).has(m.Table) {
		return view.Staged{Ref: ref, Table: m.Table}, nil
	}
	return r.readIndex(ctx, g, m, ref)
}

// drain reads a member to its proven end, so that the store has it.
func (r *reader) drain(ctx context.Context, object proto.ObjectRequest, m *proto.Member) (proto.Ref, error) {
	b, err := r.c.cfg.Blobs.Open(ctx, object)
	if err != nil {
		return proto.Ref{}, err
	}
	defer b.Close()
	if b.Stream == nil { // the store had it
		return b.Ref, nil
	}
	if _, err := io.Copy(io.Discard, b.Reader()); err != nil {
		return proto.Ref{}, err
	}
	if !m.Ref.IsZero() {
		return proto.Ref{Digest: m.Ref.Digest, Size: b.Ref.Size}, nil
	}
	if !b.Ref.IsZero() {
		return b.Ref, nil
	}
	// Listed by SHA-512 only: its SHA-256 is known after the fetch alone.
	again, err := r.c.cfg.Blobs.Open(ctx, object)
	if err != nil {
		return proto.Ref{}, err
	}
	defer again.Close()
	return again.Ref, nil
}

// readIndex reads what an index lists. It is parsed only after its digest has been proven: a
// decompressor is no place for bytes of unknown origin. An index that cannot be read is proven all
// the same: the generation goes on, and what the index lists stays unlisted.
func (r *reader) readIndex(ctx context.Context, g proto.Generation, m *proto.Member, ref proto.Ref) (view.Staged, error) {
	select {
	case r.c.parsing <- struct{}{}:
		defer func() { <-r.c.parsing }()
	case <-ctx.Done():
		return view.Staged{}, ctx.Err()
	}
	if r.c.tablesOf(r.suite.Archive).has(m.Table) { // the same index in another suite was quicker
		return view.Staged{Ref: ref, Table: m.Table}, nil
	}
	start := time.Now()
	list, err := r.parse(ctx, g, m)
	var broken *unreadable
	if errors.As(err, &broken) {
		r.c.metrics.unreadable.Inc()
		r.log.Warn("an index cannot be read; it is served, and what it lists is not verified", "path", m.Path, "error", broken.error)
		r.unreadable(m, firstLine(broken.Error()))
		return view.Staged{Ref: ref}, nil
	}
	if err != nil {
		return view.Staged{}, fmt.Errorf("read %s: %w", m.Path, err)
	}
	if err := r.c.tablesOf(r.suite.Archive).write(m.Table, list); err != nil {
		return view.Staged{}, fmt.Errorf("write the package table of %s: %w", m.Path, err)
	}
	r.c.metrics.parsed.Observe(time.Since(start).Seconds())
	r.log.Debug("read an index", "path", m.Path, "files", list.Len(), "took", time.Since(start))
	return view.Staged{Ref: ref, Table: m.Table}, nil
}

func firstLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	return s[:min(len(s), 300)]
}

// unreadable is that the bytes of an index are the right ones, and make no sense to us.
type unreadable struct{ error }

func (u *unreadable) Unwrap() error { return u.error }

// parse reads what a proven index lists.
func (r *reader) parse(ctx context.Context, g proto.Generation, m *proto.Member) (*view.List, error) {
	b, err := r.c.cfg.Blobs.Open(ctx, r.object(g, m, nil))
	if err != nil {
		return nil, err
	}
	defer b.Close()
	source := &watched{r: b.Reader()}
	builder := view.NewListBuilder(r.c.tablesOf(r.suite.Archive).seed, 0)
	away := &outside{}
	err = r.format.Parse(r.suite, m, source, func(f proto.File) error {
		if len(f.Path) == 0 {
			away.add(f.Outside)
			return nil
		}
		return builder.Add(f)
	})
	r.report(m, away)
	switch {
	case source.err != nil && source.err != io.EOF:
		return nil, source.err
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case err != nil:
		return nil, &unreadable{err}
	}
	// Where the store did not keep it, the proof comes with the last byte.
	if _, err := io.Copy(io.Discard, b.Reader()); err != nil {
		return nil, err
	}
	return builder.List()
}

// outside are the files of an index that are in no archive of ours, as far as the index says.
type outside struct {
	files   int
	example string
}

func (e *outside) add(url []byte) {
	if e.files++; e.files == 1 {
		e.example = string(url)
	}
}

// report counts what hosts fetch past this archive.
func (r *reader) report(m *proto.Member, away *outside) {
	if away.files == 0 {
		return
	}
	r.c.metrics.outside.WithLabelValues(r.suite.Archive).Add(float64(away.files))
	r.log.Info("an index lists files outside of its archive; hosts fetch them there, and nothing here verifies them", "path", m.Path, "files", away.files, "example", away.example)
}

// watched remembers the error of a reader, so that a failure of the source is not taken for an
// unreadable index.
type watched struct {
	r   io.Reader
	mu  sync.Mutex
	err error
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.r.Read(p)
	if err != nil {
		w.mu.Lock()
		w.err = err
		w.mu.Unlock()
	}
	return n, err
}
