package blobstore

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/time/rate"

	"github.com/aptmesh/aptmesh/proto"
)

const (
	// scrubChunk is what the scrub reads at a time, and its burst.
	scrubChunk = 64 << 10
	// scrubRest is the least time from one round's end to the next one's
	// beginning: a small store need not be hashed over and over.
	scrubRest = 24 * time.Hour
	// scrubNote is how often the position is written down. What a crash loses of
	// it is hashed once more.
	scrubNote = time.Minute
)

// runScrub re-hashes all blobs again and again, in the order of their names, at a
// bounded rate, going on after a restart where it was.
func (s *Store) runScrub(ctx context.Context) {
	if s.cfg.ScrubBytesPerSecond == 0 {
		return
	}
	limit := rate.NewLimiter(rate.Limit(s.cfg.ScrubBytesPerSecond), scrubChunk)
	sc := &scrub{s: s, limit: limit, buf: make([]byte, scrubChunk), noted: time.Now()}
	if text, err := s.readNote(scrubName); err == nil {
		// Anything else than a digest means: from the beginning.
		_ = sc.last.UnmarshalText(text)
	}
	for sc.round(ctx) == nil {
		sc.last = proto.Digest{}
		sc.note()
		select {
		case <-ctx.Done():
		case <-time.After(scrubRest):
		}
	}
	sc.note()
}

// scrub is the state of the one scrubbing goroutine.
type scrub struct {
	s     *Store
	limit *rate.Limiter
	buf   []byte
	last  proto.Digest // the last one done
	noted time.Time
}

// note writes the position down; if that fails, the work is merely done again.
func (sc *scrub) note() {
	text, _ := sc.last.MarshalText()
	_ = sc.s.writeNote("scrub", scrubName, text)
	sc.noted = time.Now()
}

// round goes from the position to the end. It fails only with ctx.
func (sc *scrub) round(ctx context.Context) error {
	for b := int(sc.last[0]); b < 256; b++ {
		for _, d := range sc.rest(byte(b)) {
			if err := sc.one(ctx, d); err != nil {
				return err
			}
			sc.last = d
			if time.Since(sc.noted) > scrubNote {
				sc.note()
			}
		}
	}
	return ctx.Err()
}

// rest lists the known blobs of a shard beyond the position, in order.
func (sc *scrub) rest(b byte) []proto.Digest {
	sh := &sc.s.index[b]
	var rest []proto.Digest
	sh.mu.RLock()
	for d := range sh.blob {
		if compare(d, sc.last) > 0 || sc.last.IsZero() {
			rest = append(rest, d)
		}
	}
	sh.mu.RUnlock()
	slices.SortFunc(rest, compare)
	return rest
}

// one re-hashes a blob. It fails only with ctx: what cannot be read at all
// because of the process (too many open files) is left for the next round.
func (sc *scrub) one(ctx context.Context, d proto.Digest) error {
	f, st, err := sc.s.openBlob(sc.s.dirs.blob(d))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		sc.s.forgetVanished(d)
		return ctx.Err()
	case errors.Is(err, unix.EIO):
		sc.s.damaged(d, nil, err.Error())
		return ctx.Err()
	case err != nil:
		return ctx.Err()
	}
	defer f.Close()
	n, why, err := rehash(f, d, sc.buf, func(n int) error { return sc.limit.WaitN(ctx, n) })
	sc.s.metrics.scrubbed.Add(float64(n))
	if err != nil {
		return err
	}
	if why == "" {
		why = wrongLength(d, st.Size, sc.s.index.shard(d).get(d))
	}
	if why != "" {
		sc.s.damaged(d, f, why)
	}
	return nil
}

// rehash reads f and returns what is wrong with it, "" if it is the blob d. after is called
// with the bytes of each read, and may slow it down or end it with an error.
func rehash(f *os.File, d proto.Digest, buf []byte, after func(n int) error) (read int64, why string, err error) {
	h := sha256.New()
	for {
		n, err := f.Read(buf)
		h.Write(buf[:n])
		read += int64(n)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return read, err.Error(), nil
		}
		if err := after(n); err != nil {
			return read, "", err
		}
	}
	if got := proto.Digest(h.Sum(nil)); got != d {
		return read, "its content hashes to " + got.String(), nil
	}
	return read, "", nil
}

// Check hashes a blob that is stored, and removes it where it is not what its name says. It reports whether the blob
// is stored and whole. after is called with the bytes of each read, and may slow it down or end it with an error; nil
// does neither. It fails with the error of after, and where the blob cannot be read because of this process.
func (s *Store) Check(d proto.Digest, after func(n int) error) (whole bool, err error) {
	f, st, err := s.openBlob(s.dirs.blob(d))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		s.forgetVanished(d)
		return false, nil
	case errors.Is(err, unix.EIO):
		s.damaged(d, nil, err.Error())
		return false, nil
	case err != nil:
		return false, err
	}
	defer f.Close()
	if after == nil {
		after = func(int) error { return nil }
	}
	_, why, err := rehash(f, d, make([]byte, 256<<10), after)
	if err != nil {
		return false, err
	}
	if why == "" {
		why = wrongLength(d, st.Size, s.index.shard(d).get(d))
	}
	if why != "" {
		s.damaged(d, f, why)
	}
	return why == "", nil
}
