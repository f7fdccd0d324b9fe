package catalog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"github.com/aptmesh/aptmesh/node/catalog/suite"
	"github.com/aptmesh/aptmesh/proto"
)

// rootFile is one file of a root as somebody gave it.
type rootFile struct {
	data     []byte
	modified time.Time
	etag     string
	base     string // where a redirect led to; "" where none did
	unread   bool   // it could not be read in time, and the root can do without it
}

// optionalWait bounds the reading of files beside a root that the root can do without. pacman gives up
// after ten seconds without a byte, and waits for the root meanwhile.
const optionalWait = 5 * time.Second

// askMirror asks one mirror for the root, form by form.
func (d *driver) askMirror(ctx context.Context, q *suite.AskMirror) suite.Event {
	ctx, cancel := context.WithTimeoutCause(ctx, q.Timeout,
		&proto.Unavailable{Reason: fmt.Sprintf("the root of %s was not complete after %s", d.id, q.Timeout)})
	defer cancel()
	cand, err := d.readRoot(ctx, q)
	return suite.MirrorAnswered{Ask: q, Candidate: cand, Err: err}
}

// readRoot reads the root in the first form that the mirror has; nil if it is what the condition
// names.
func (d *driver) readRoot(ctx context.Context, q *suite.AskMirror) (*suite.Candidate, error) {
	var missing error
	for i, form := range d.forms() {
		cand, err := d.readForm(ctx, i, form, q)
		if !errors.Is(err, proto.ErrNotFound) {
			return cand, err
		}
		if missing == nil {
			missing = err
		}
	}
	return nil, missing
}

// readForm reads the root in one form: all of its files from one mirror, because a publisher
// replaces them one after the other. The error is proto.ErrNotFound only where the first file is
// missing.
func (d *driver) readForm(ctx context.Context, i int, form proto.Form, q *suite.AskMirror) (*suite.Candidate, error) {
	first := form.Files[0]
	condition := q.Condition
	if condition.Name != first.Name {
		condition = suite.Validators{}
	}
	root, err := d.fetchSmall(ctx, first, q, condition.ETag, condition.Modified)
	if err != nil {
		return nil, err
	}
	files := map[string]*rootFile{first.Name: root}
	changed := root != nil
	optional, cancel := context.WithTimeoutCause(d.ctx, optionalWait, &proto.Unavailable{Reason: fmt.Sprintf("it did not come within %s", optionalWait)})
	defer cancel()
	for _, beside := range form.Files[1:] {
		besideCtx := ctx
		if beside.Optional {
			besideCtx = optional
		}
		f, err := d.readBeside(besideCtx, beside, q, !changed)
		switch {
		case err == nil:
			files[beside.Name], changed = f, changed || f != nil
		case isMissing(err, beside):
			// Whether the rest can be trusted is for the format to decide. If nobody knew so far that
			// upstream does not have it, that is news.
			changed = changed || d.awaits(beside.Name)
		case beside.Optional && d.ctx.Err() == nil:
			d.awaited.Set(beside.Name, err, time.Now(), time.Now().Add(awaitedFor))
			if changed {
				files[beside.Name] = &rootFile{unread: true}
			} else {
				files[beside.Name] = nil // as it was
			}
		case i == 0:
			return nil, err
		default:
			return nil, fmt.Errorf("upstream has no %s: %w", d.forms()[0].Files[0].Name, err)
		}
	}
	if !changed && form.Witness == "" {
		return nil, nil
	}
	for _, file := range form.Files { // what vouches for the root has changed, or has to be asked again
		if f, asked := files[file.Name]; asked && f == nil {
			if files[file.Name], err = d.currentFile(ctx, file, q); err != nil {
				return nil, err
			}
		}
	}
	if form.Witness != "" {
		if files[proto.WitnessFile], err = d.readWitness(ctx, form.Witness); err != nil {
			return nil, err
		}
	}
	cand, err := d.candidate(i, form, files)
	if err != nil {
		if len(form.Files) == 1 && form.Witness == "" {
			err = wrongContent(err) // where there are several, one may be on its way
		}
		return nil, err
	}
	if current := d.public.Load().current; !changed && current != nil && cand.Gen.Statement == current.Statement {
		return nil, nil // of any other root the witness may say something new
	}
	f := files[first.Name]
	cand.Mirror = q.Mirror
	cand.Gen.Base = f.base
	cand.Validators = suite.Validators{Name: first.Name, Root: cand.Gen.Root, Statement: cand.Gen.Statement, ETag: f.etag, Modified: f.modified}
	return cand, nil
}

// readWitness reads the document that names a root from outside the archive. It is read with every
// check, even where the mirror's root has not changed: a mirror that has stopped at a root which is
// no longer named has nothing good to say.
func (d *driver) readWitness(ctx context.Context, url string) (*rootFile, error) {
	data, err := d.c.cfg.Witness(ctx, d.id.Archive, url)
	if err != nil {
		return nil, &proto.Unavailable{Reason: fmt.Sprintf("what vouches for the root of %s cannot be read: %s", d.id, url), Err: orCause(ctx, err)}
	}
	return &rootFile{data: data}, nil
}

// isMissing reports whether an error says that a mirror does not have a file beside the root. Object
// stores refuse what they do not have.
func isMissing(err error, file proto.RootFile) bool {
	var refused *proto.Refused
	return errors.Is(err, proto.ErrNotFound) || file.Optional && errors.As(err, &refused)
}

// readBeside reads a file that vouches for the root; nil where the root has not changed and neither
// has this. One that the current root does without is asked for again if clients want it.
func (d *driver) readBeside(ctx context.Context, file proto.RootFile, q *suite.AskMirror, may bool) (*rootFile, error) {
	current := d.public.Load().current
	if !may || current == nil {
		return d.fetchSmall(ctx, file, q, "", time.Time{})
	}
	c, ok := current.Companion(file.Name)
	if !ok && file.Optional && !d.demand.wants(file.Name) {
		return nil, proto.ErrNotFound
	}
	if !ok {
		return d.fetchSmall(ctx, file, q, "", time.Time{})
	}
	if !c.Known() {
		return d.fetchSmall(ctx, file, q, "", time.Time{})
	}
	f, err := d.fetchSmall(ctx, file, q, "", c.Modified)
	if f != nil && proto.DigestOf(f.data) == c.Ref.Digest {
		return nil, nil
	}
	return f, err
}

// awaits reports whether the content of a file beside the current root is not known yet.
func (d *driver) awaits(name string) bool {
	current := d.public.Load().current
	if current == nil {
		return false
	}
	c, ok := current.Companion(name)
	return ok && !c.Known()
}

// awaitedFor is how long the error is told of a file that could not be read.
const awaitedFor = time.Hour

// notKnown is the error for a client that asks for a file beside the root of which the content is not
// known yet. Whether it is missing is not known either: clients take "not found" for final, and some of
// them for a repository that nobody signs.
func (d *driver) notKnown(name string) error {
	err, _ := d.awaited.Get(name, time.Now())
	return &proto.Unavailable{Reason: fmt.Sprintf("%s could not be read from upstream yet", d.id.At(name)), RetryAfter: 5 * time.Second, Err: err}
}

// currentFile is a file of the root that a mirror says it still has: from the store, if the mirror has
// the current root. nil if the current root does without it.
func (d *driver) currentFile(ctx context.Context, file proto.RootFile, q *suite.AskMirror) (*rootFile, error) {
	current := d.public.Load().current
	if current == nil || current.RootName != q.Condition.Name || current.Root != q.Condition.Root {
		f, err := d.fetchSmall(ctx, file, q, "", time.Time{})
		if isMissing(err, file) && file.Optional {
			return nil, nil
		}
		return f, err
	}
	c, known := current.Companion(file.Name)
	f := &rootFile{modified: c.Modified}
	switch {
	case file.Name == current.RootName:
		c.Ref, f = current.Root, &rootFile{modified: q.Condition.Modified, etag: q.Condition.ETag, base: current.Base}
	case !known:
		return nil, nil
	case !c.Known():
		return &rootFile{unread: true}, nil
	}
	var err error
	if f.data, err = d.c.readBlob(c.Ref, file.MaxBytes); err != nil {
		return d.fetchSmall(ctx, file, q, "", time.Time{})
	}
	return f, nil
}

// wrongContent marks an error that says that nobody can have signed the bytes so: a page, or a root
// that was tampered with. (A root of a key that is not known here may be good all the same.)
func wrongContent(err error) error {
	if errors.Is(err, proto.ErrForged) {
		return suite.NewWrongContent(err)
	}
	return err
}

// fetchSmall reads one root file; nil if the mirror says that it has not changed.
func (d *driver) fetchSmall(ctx context.Context, file proto.RootFile, q *suite.AskMirror, etag string, modified time.Time) (*rootFile, error) {
	loc := d.id.At(file.Name)
	if d.archive.Load().Offline {
		return nil, d.public.Load().belief.Why()
	}
	req := proto.Request{Loc: loc, Class: proto.ClassMetadata, Mirror: q.Mirror, IfNoneMatch: etag, IfModifiedSince: modified, NoCache: q.NoCache}
	if d.public.Load().current == nil && !d.configured() {
		req.Class = proto.ClassUnlisted // anybody can make up the name of a suite
	}
	t, err := d.c.cfg.Upstream.Fetch(ctx, req)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", loc, orCause(ctx, err))
	}
	if t.NotModified {
		if t.Body != nil {
			t.Body.Close()
		}
		if etag == "" && modified.IsZero() {
			return nil, &proto.Unavailable{Reason: fmt.Sprintf("read %s: upstream says 304 to a request without conditions", loc)}
		}
		return nil, nil
	}
	data, err := readSmall(t, file.MaxBytes)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", loc, orCause(ctx, err))
	}
	return &rootFile{data: data, modified: t.Modified, etag: t.ETag, base: t.Base}, nil
}

// orCause says why ctx ended, if that is what made err.
func orCause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

func refOfBytes(b []byte) proto.Ref {
	return proto.Ref{Digest: proto.DigestOf(b), Size: int64(len(b))}
}

func readSmall(t *proto.Transfer, most int64) ([]byte, error) {
	defer t.Body.Close()
	b, err := io.ReadAll(io.LimitReader(t.Body, most+1))
	var typed *proto.Unavailable
	switch {
	case errors.As(err, &typed) || errors.Is(err, proto.ErrCorrupt):
		return nil, err
	case err != nil:
		return nil, &proto.Unavailable{Reason: "the transfer broke", Err: err}
	case int64(len(b)) > most:
		return nil, &proto.Rejected{Kind: proto.RejectMalformed, Reason: fmt.Sprintf("it is larger than %d bytes, which is what clients read of it", most)}
	case t.Size != proto.UnknownSize && t.Size != int64(len(b)):
		return nil, &proto.Unavailable{Reason: fmt.Sprintf("it ended after %d of %d bytes", len(b), t.Size)}
	}
	return b, nil
}

// candidate verifies and reads the files of one form, from whatever source.
func (d *driver) candidate(i int, form proto.Form, files map[string]*rootFile) (*suite.Candidate, error) {
	bytesOf := make(map[string][]byte, len(files))
	for name, f := range files {
		if f != nil && !f.unread {
			bytesOf[name] = f.data
		}
	}
	now := d.c.cfg.Now()
	m, err := d.archive.Load().Format.Open(d.id, bytesOf, now)
	if err != nil {
		return nil, fmt.Errorf("the root of %s: %w", d.id, err)
	}
	root := files[form.Files[0].Name]
	g := proto.Generation{
		Suite: d.id, Statement: m.Statement, Date: m.Date, Signed: m.Signed,
		RootName: form.Files[0].Name, Root: refOfBytes(root.data), Modified: root.modified,
	}
	if m.Date.IsZero() {
		// The best there is to order it by. A clock ahead of ours is not signed and is no reason to
		// refuse it.
		g.Date = now.UTC().Truncate(time.Second)
		if !root.modified.IsZero() && root.modified.Before(g.Date) {
			g.Date = root.modified
		}
	}
	for _, beside := range form.Files[1:] {
		switch f := files[beside.Name]; {
		case f == nil:
		case f.unread:
			g.Companions = append(g.Companions, proto.Companion{Name: beside.Name, Proof: true})
		default:
			g.Companions = append(g.Companions, proto.Companion{Name: beside.Name, Ref: refOfBytes(f.data), Modified: f.modified, Proof: true})
		}
	}
	return &suite.Candidate{Root: suite.Root{Gen: g, Manifest: m, Undated: m.Date.IsZero(), Form: i}, Files: bytesOf}, nil
}

// announcedTimeout bounds the reading of a small file from the nodes that announced it.
const announcedTimeout = 10 * time.Second

// openOffer reads a root by digest from the nodes that announce it, and verifies it.
func (d *driver) openOffer(ctx context.Context, o *suite.OpenOffer) suite.Event {
	cand, err := d.offered(ctx, o)
	return suite.Opened{Open: o, Candidate: cand, Err: err}
}

func (d *driver) offered(ctx context.Context, o *suite.OpenOffer) (*suite.Candidate, error) {
	for i, form := range d.forms() {
		if form.Files[0].Name != o.Gen.RootName {
			continue
		}
		files := make(map[string]*rootFile)
		var err error
		if files[o.Gen.RootName], err = d.openAnnounced(ctx, form.Files[0], o.Gen.Root, o.Gen.Modified, o.From); err != nil {
			return nil, err
		}
		for _, beside := range form.Files[1:] {
			c, ok := o.Gen.Companion(beside.Name)
			if !ok {
				continue
			}
			if !c.Known() {
				files[beside.Name] = &rootFile{unread: true}
				continue
			}
			if files[beside.Name], err = d.openAnnounced(ctx, beside, c.Ref, c.Modified, o.From); err != nil {
				return nil, err
			}
		}
		if form.Witness != "" {
			files[proto.WitnessFile] = d.witnessOfOffer(ctx, form.Witness)
		}
		cand, err := d.candidate(i, form, files)
		switch {
		case err != nil && files[proto.WitnessFile] != nil:
			return nil, err // nobody has lied: what this node reads may be behind what the other has read
		case err != nil:
			return nil, &suite.Fault{Kind: "refused", Err: err}
		}
		cand.From, cand.Gen.Base, cand.Offered = o.From, o.Gen.Base, o.Gen.Companions
		return cand, nil
	}
	return nil, &suite.Fault{Kind: "refused", Err: fmt.Errorf("%q is no root file of this archive", o.Gen.RootName)}
}

// witnessOfOffer reads the witness of a root that other nodes have brought; nil where this node cannot
// read it, so that another node's word has to do.
func (d *driver) witnessOfOffer(ctx context.Context, url string) *rootFile {
	if d.archive.Load().Offline {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, witnessTimeout)
	defer cancel()
	f, err := d.readWitness(ctx, url)
	if err != nil {
		d.log.Info("this node takes the leader's word for a root, because it cannot read what vouches for it", "error", err)
		return nil
	}
	return f
}

// witnessTimeout bounds the reading of a witness while other nodes have the root already.
const witnessTimeout = 5 * time.Second

// openAnnounced reads a root file from the nodes that announced it. Its errors are *suite.Fault.
func (d *driver) openAnnounced(ctx context.Context, file proto.RootFile, ref proto.Ref, modified time.Time, from []string) (*rootFile, error) {
	if ref.Size > file.MaxBytes {
		return nil, &suite.Fault{Kind: "refused", Err: fmt.Errorf("%s of %d bytes: larger than one may be", file.Name, ref.Size)}
	}
	ctx, cancel := context.WithTimeout(ctx, announcedTimeout)
	defer cancel()
	b, err := d.c.cfg.Blobs.Open(ctx, proto.ObjectRequest{
		Ref: ref, Where: proto.At(d.id.At(file.Name)), Class: proto.ClassMetadata, Holders: from, PeersOnly: true,
	})
	if err != nil {
		return nil, &suite.Fault{Kind: "unreachable", Err: fmt.Errorf("%s cannot be read: %w", file.Name, err)}
	}
	defer b.Close()
	data, err := io.ReadAll(io.LimitReader(b.Reader(), file.MaxBytes+1))
	switch {
	case err != nil:
		return nil, &suite.Fault{Kind: "unreachable", Err: fmt.Errorf("%s cannot be read: %w", file.Name, err)}
	case proto.DigestOf(data) != ref.Digest:
		return nil, &suite.Fault{Kind: "refused", Err: fmt.Errorf("%s is not what was announced", file.Name)}
	}
	return &rootFile{data: data, modified: modified}, nil
}

// readBlob reads a small object that the store must hold.
func (c *Catalog) readBlob(ref proto.Ref, most int64) ([]byte, error) {
	if ref.Size > most {
		return nil, fmt.Errorf("%s is larger than a root may be", ref)
	}
	b, err := c.cfg.Store.Get(ref.Digest)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	var data bytes.Buffer
	if _, err := io.Copy(&data, io.LimitReader(b.Reader(), most+1)); err != nil {
		return nil, err
	}
	if proto.DigestOf(data.Bytes()) != ref.Digest {
		return nil, fmt.Errorf("%s is damaged in the store: %w", ref, fs.ErrNotExist)
	}
	return data.Bytes(), nil
}
