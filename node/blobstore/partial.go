package blobstore

import (
	"cmp"
	"crypto/sha256"
	"encoding"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// A partial is an incomplete blob whose digest and size are known beforehand (Resume). The next
// writer of the blob continues where the last one stopped, also after a kill -9 or a power cut. A
// partial is two files:
//
//	<dir>/partial/d.<digest>.<size>[.<name of Only>]   the bytes so far
//	<dir>/partial/s.<the same>                         a line that names the format, then the sums
//
// A sum is the length of a prefix and its SHA-256, written at least every sumEvery bytes. Nothing
// is fsynced: after a crash the two files may be of any two moments. The longest prefix whose sums
// all match the bytes counts; the rest is cut off. So a torn tail, a block that never reached the
// disk, or a bit that has flipped costs the bytes from there on and nothing else. The digest of the
// whole blob decides whether the prefix belongs to it.
//
// Partials count against the size limit and go before any blob does.

const (
	// minPartial is the size of a blob from which it is worth keeping its beginning.
	minPartial = 1 << 20
	// sumEvery is how many bytes a crash may cost: a sum is 40 bytes, and one clone of the hash.
	sumEvery = 256 << 10
	// What is kept of unfinished blobs: how many, and for how long since the last byte.
	maxPartials   = 64
	maxPartialAge = 7 * 24 * time.Hour
	// partialShare is the part of the size limit that they may use.
	partialShare = 2

	partialFormat = "aptmesh partial 1\n"
	sumLength     = 8 + sha256.Size
)

// partialID is what the name of a partial says. What one restricted archive gave must not be the
// beginning of what is given out for another, so the archive is part of it.
type partialID struct {
	ref  proto.Ref
	from string // which writers may go on with it
}

func (id partialID) name() string {
	name := "." + id.ref.Digest.String() + "." + strconv.FormatInt(id.ref.Size, 10)
	if id.from != "" {
		name += "." + url.PathEscape(id.from)
	}
	return name
}

// parsePartial reads a name without its first letter. What is not spelled as we spell it is not
// ours.
func parsePartial(name string) (id partialID, ok bool) {
	parts := strings.SplitN(name, ".", 4)
	if len(parts) < 3 {
		return id, false
	}
	var err, errSize, errOnly error
	id.ref.Digest, err = proto.ParseDigest(parts[1])
	id.ref.Size, errSize = strconv.ParseInt(parts[2], 10, 64)
	if len(parts) == 4 {
		id.from, errOnly = url.PathUnescape(parts[3])
	}
	return id, errors.Join(err, errSize, errOnly) == nil && id.name() == name
}

func (d dirs) partialData(id partialID) string { return filepath.Join(d.partial, "d"+id.name()) }
func (d dirs) partialSums(id partialID) string { return filepath.Join(d.partial, "s"+id.name()) }

// partials are those that there are. Their bytes are in space.partial as long as no writer has
// them.
type partials struct {
	mu      sync.Mutex
	left    map[partialID]leftover // guarded by mu; by nobody written
	writing map[partialID]bool     // guarded by mu
}

// leftover is a partial that no writer has.
type leftover struct {
	size int64
	last time.Time // when its last byte came
}

// claim gives a partial to one writer, with what is left of an earlier one. false: another has it.
func (p *partials) claim(id partialID) (l leftover, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.writing[id] {
		return l, false
	}
	p.writing[id] = true
	l = p.left[id]
	delete(p.left, id)
	return l, true
}

// unclaim ends the claim of a writer that has left nothing.
func (p *partials) unclaim(id partialID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.writing, id)
}

// openPartials finds what the last process left behind. It comes before the ledger is read, in
// which these bytes are counted.
func (s *Store) openPartials() error {
	s.partials.left, s.partials.writing = make(map[partialID]leftover), make(map[partialID]bool)
	files, err := os.ReadDir(s.dirs.partial)
	if err != nil {
		return err
	}
	for _, f := range files {
		id, ok := parsePartial(f.Name()[1:])
		info, err := f.Info()
		if !ok || err != nil || f.Name()[0] != 'd' || !info.Mode().IsRegular() {
			continue
		}
		s.partials.left[id] = leftover{info.Size(), info.ModTime()}
		s.space.partial += info.Size()
	}
	for _, f := range files {
		id, ok := parsePartial(f.Name()[1:])
		if _, left := s.partials.left[id]; !ok || !left || strings.IndexByte("ds", f.Name()[0]) < 0 {
			if err := os.RemoveAll(filepath.Join(s.dirs.partial, f.Name())); err != nil {
				return err
			}
		}
	}
	s.boundPartials()
	return nil
}

// boundPartials drops the oldest partials beyond what may be kept.
func (s *Store) boundPartials() {
	s.dropPartials(func(l leftover, count int, bytes int64) bool {
		return count > maxPartials || bytes > s.space.max/partialShare || s.cfg.Now().Sub(l.last) > maxPartialAge
	})
}

// freePartials drops the oldest partials until need bytes are free, and returns how many are.
func (s *Store) freePartials(need int64) (freed int64) {
	s.dropPartials(func(l leftover, _ int, _ int64) bool {
		more := freed < need
		if more {
			freed += l.size
		}
		return more
	})
	return freed
}

// forgetPartials drops what is left of a blob that has been stored.
func (s *Store) forgetPartials(d proto.Digest) {
	p := &s.partials
	p.mu.Lock()
	defer p.mu.Unlock()
	for id := range p.left {
		if id.ref.Digest == d {
			s.dropPartial(id)
		}
	}
}

// dropPartials drops partials, the oldest first, as long as next says so. next gets the oldest
// partial, and the number and the bytes of all that are left.
func (s *Store) dropPartials(next func(l leftover, count int, bytes int64) bool) {
	p := &s.partials
	p.mu.Lock()
	defer p.mu.Unlock()
	oldest := make([]partialID, 0, len(p.left))
	bytes := int64(0)
	for id, l := range p.left {
		oldest = append(oldest, id)
		bytes += l.size
	}
	slices.SortFunc(oldest, func(a, b partialID) int {
		return cmp.Or(p.left[a].last.Compare(p.left[b].last), compare(a.ref.Digest, b.ref.Digest))
	})
	for _, id := range oldest {
		l := p.left[id]
		if !next(l, len(p.left), bytes) {
			return
		}
		bytes -= l.size
		s.dropPartial(id)
	}
}

// dropPartial removes a partial that no writer has. The caller holds partials.mu.
func (s *Store) dropPartial(id partialID) {
	_ = s.fs.Remove("partial.drop", s.dirs.partialData(id))
	_ = s.fs.Remove("partial.drop", s.dirs.partialSums(id))
	s.space.dropped(s.partials.left[id].size)
	delete(s.partials.left, id)
}

// PartialSize returns how many bytes of a blob its partial has at most: bytes that do not match
// their sums are cut off when the partial is resumed.
func (s *Store) PartialSize(ref proto.Ref, from string) int64 {
	s.partials.mu.Lock()
	defer s.partials.mu.Unlock()
	return s.partials.left[partialID{ref, from}].size
}

// Resume begins a blob whose digest and size are known, if possible with the partial that an earlier
// writer left: the caller reads it with TakeBack before it writes. What the writer leaves behind
// when it is parked, or when the process dies, is for the next writer with the same from only.
// Errors are those of Create.
//
// Commit does not check the digest: it stores the bytes under the digest that they have. A caller
// that finds another digest than expected calls Abort.
func (s *Store) Resume(ref proto.Ref, from string) (*Writer, error) {
	id := partialID{ref, from}
	if ref.Size < minPartial || len(id.name()) > 200 {
		return s.Create(ref.Size)
	}
	if err := s.begin(); err != nil {
		return nil, err
	}
	defer s.end()
	defer s.watch.begin().end()
	if s.fits(ref.Size) != nil {
		return s.createUnder(ref.Size)
	}
	left, ok := s.partials.claim(id)
	if !ok {
		return s.createUnder(ref.Size)
	}
	p, data, err := s.openPartial(id, left)
	if err != nil {
		s.space.dropped(left.size)
		s.partials.unclaim(id)
		if m := s.createMemory(ref.Size); m != nil {
			return m, nil
		}
		return nil, s.cannotKeep("create a file for an unfinished blob", err)
	}
	s.space.taken(left.size)
	return &Writer{
		s: s, path: data.Name(), f: data, hash: sha256.New(), promised: ref.Size,
		reserved: left.size, back: left.size, partial: p,
	}, nil
}

// partial is the part of a Writer that has one.
type partial struct {
	id    partialID
	sums  *os.File // nil when no more sums can be written
	known []sum    // of the part of the old partial that was not read back yet
	end   int64    // of the sums that hold, in their file
	noted int64    // the length of the last prefix whose sum was written
}

type sum struct {
	length int64
	sum    [sha256.Size]byte
}

// openPartial opens the two files of a partial, and makes those that are missing.
func (s *Store) openPartial(id partialID, left leftover) (*partial, *os.File, error) {
	p := &partial{id: id, end: int64(len(partialFormat))}
	data, err := os.OpenFile(s.dirs.partialData(id), os.O_RDWR, 0)
	if err == nil {
		p.sums, p.known, err = readSums(s.dirs.partialSums(id))
	}
	if err == nil && left.size > 0 {
		return p, data, nil
	}
	if data != nil {
		data.Close()
	}
	// Nothing to go on from, or nothing that vouches for it.
	_ = s.fs.Remove("partial.drop", s.dirs.partialData(id))
	_ = s.fs.Remove("partial.drop", s.dirs.partialSums(id))
	p.known = nil
	if p.sums != nil {
		p.sums.Close()
	}
	if data, err = s.fs.Create("partial.create", s.dirs.partialData(id)); err != nil {
		return nil, nil, err
	}
	if p.sums, err = s.fs.Create("partial.sums", s.dirs.partialSums(id)); err == nil {
		_, err = s.fs.Write("partial.format", p.sums, []byte(partialFormat))
	}
	if err != nil {
		p.dropSums(s)
	}
	return p, data, nil
}

// readSums opens a file of sums. One of another format is an error.
func readSums(name string) (*os.File, []sum, error) {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return nil, nil, err
	}
	text, err := io.ReadAll(f)
	if rest, ok := strings.CutPrefix(string(text), partialFormat); err == nil && ok {
		var sums []sum
		for ; len(rest) >= sumLength; rest = rest[sumLength:] {
			next := sum{length: int64(binary.BigEndian.Uint64([]byte(rest[:8])))}
			copy(next.sum[:], rest[8:])
			sums = append(sums, next)
		}
		return f, sums, nil
	}
	f.Close()
	return nil, nil, cmp.Or(err, errors.New("sums of an unknown format"))
}

// TakeBack reads on in what an earlier writer left, up to the next of its sums, and makes that part
// of what was written. It returns how many bytes that makes, and whether there may be more.
// Everything that does not fit its sum, and all behind it, is cut off. It must not run at the same
// time as Write.
func (w *Writer) TakeBack() (size int64, more bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := w.partial
	if p == nil || w.ended || w.err != nil || w.back == 0 {
		return w.size, false
	}
	if len(p.known) > 0 && w.takePiece(p.known[0]) {
		p.known = p.known[1:]
		if w.back > 0 {
			return w.size, true
		}
	}
	w.cut()
	return w.size, false
}

// takePiece accepts the bytes up to a sum, if they match it. The caller holds mu.
func (w *Writer) takePiece(next sum) bool {
	piece := next.length - w.size
	if piece <= 0 || piece > w.back || next.length > w.promised {
		return false
	}
	before, err := w.hash.(encoding.BinaryMarshaler).MarshalBinary()
	if err != nil {
		return false
	}
	n, err := io.Copy(w.hash, io.NewSectionReader(w.f, w.size, piece))
	if err != nil || n != piece || [sha256.Size]byte(w.hash.Sum(nil)) != next.sum {
		_ = w.hash.(encoding.BinaryUnmarshaler).UnmarshalBinary(before)
		return false
	}
	w.size += piece
	w.back -= piece
	w.partial.noted = w.size
	w.partial.end += sumLength
	return true
}

// cut ends reading back: both files are cut after the last sum that matches. The caller holds mu.
func (w *Writer) cut() {
	p := w.partial
	p.known = nil
	w.s.space.wrote(-w.back) // these bytes are to come once more
	w.back = 0
	if err := w.f.Truncate(w.size); err != nil {
		w.err = w.s.cannotKeep("cut an unfinished blob", err)
		return
	}
	if _, err := w.f.Seek(w.size, io.SeekStart); err != nil {
		w.err = w.s.cannotKeep("cut an unfinished blob", err)
		return
	}
	if p.sums == nil {
		return
	}
	err := p.sums.Truncate(p.end)
	if err == nil {
		_, err = p.sums.Seek(p.end, io.SeekStart)
	}
	if err != nil {
		p.dropSums(w.s)
	}
}

// noteSum writes the sum of all bytes so far, if the last one was at least every bytes ago. The
// caller holds mu.
func (w *Writer) noteSum(every int64) {
	p := w.partial
	if p == nil || p.sums == nil || w.size-p.noted < every {
		return
	}
	line := binary.BigEndian.AppendUint64(make([]byte, 0, sumLength), uint64(w.size))
	if _, err := w.s.fs.Write("partial.sum", p.sums, w.hash.Sum(line)); err != nil {
		p.dropSums(w.s) // what comes after it would be read as something else
		return
	}
	p.noted = w.size
}

// dropSums gives up noting sums: nobody will go on from here.
func (p *partial) dropSums(s *Store) {
	if p.sums != nil {
		p.sums.Close()
		p.sums = nil
	}
	if err := s.fs.Remove("partial.drop", s.dirs.partialSums(p.id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.log.Warn("cannot remove the sums of an unfinished blob; remove them by hand", "file", s.dirs.partialSums(p.id), "error", err)
	}
}

// Park ends the writer like Abort, but what was written stays for the next Resume, where there is
// something to go on from.
func (w *Writer) Park() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended {
		return
	}
	p := w.partial
	w.noteSum(1)
	if p == nil || p.sums == nil || w.size+w.back == 0 || w.err != nil || w.s.begin() != nil {
		w.finish(errAborted)
		return
	}
	defer w.s.end()
	w.ended, w.end = true, errAborted
	w.f.Close()
	p.sums.Close()
	size := w.size + w.back
	w.s.space.park(w.reserved, size)
	ps := &w.s.partials
	ps.mu.Lock()
	delete(ps.writing, p.id)
	ps.left[p.id] = leftover{size, w.s.cfg.Now()}
	ps.mu.Unlock()
	w.s.boundPartials()
}

// endPartial removes a writer's partial, whose bytes became a blob or were given up. The caller
// holds mu.
func (w *Writer) endPartial() {
	if w.partial == nil {
		return
	}
	w.partial.dropSums(w.s)
	w.s.partials.unclaim(w.partial.id)
}
