package blobstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/aptmesh/aptmesh/proto"
)

// Report is what Verify found.
type Report struct {
	Blobs   int
	Bytes   int64
	Damaged []Damage
	// Foreign are files among the blobs that are none, by path below the store's
	// directory. They are never touched.
	Foreign []string
}

// Damage is one blob that is not what its name says.
type Damage struct {
	Digest  proto.Digest
	Reason  string
	Removed bool
}

// Verify hashes every blob of the store in dir. It changes nothing, not even a last use, and
// may run while a node uses the directory. progress, if not nil, is called now and then with
// how many of the total bytes are done. Damage is in the report; the error is about Verify
// itself, or that of ctx.
func Verify(ctx context.Context, dir string, progress func(done, total int64)) (Report, error) {
	return verify(ctx, dir, progress, false)
}

// Repair is Verify that also removes what is damaged, so that it will be fetched
// again. It, too, may run while a node uses the directory.
func Repair(ctx context.Context, dir string, progress func(done, total int64)) (Report, error) {
	return verify(ctx, dir, progress, true)
}

func verify(ctx context.Context, dir string, progress func(done, total int64), remove bool) (Report, error) {
	v := &verifier{dirs: dirsOf(dir), progress: progress, remove: remove, buf: make([]byte, 1<<20)}
	v.noAtime.Store(true)
	if err := v.list(); err != nil {
		return Report{}, fmt.Errorf("verify %s: %w", dir, err)
	}
	for _, d := range v.blobs {
		if err := ctx.Err(); err != nil {
			return v.report, fmt.Errorf("verify %s: %w", dir, err)
		}
		if err := v.one(ctx, d); err != nil {
			return v.report, fmt.Errorf("verify %s: %w", dir, err)
		}
	}
	return v.report, nil
}

type verifier struct {
	dirs     dirs
	progress func(done, total int64)
	remove   bool
	buf      []byte
	noAtime  atomic.Bool

	blobs       []proto.Digest
	done, total int64
	report      Report
}

// list finds the blobs and their total size.
func (v *verifier) list() error {
	if _, err := os.Stat(v.dirs.blobs); err != nil {
		return fmt.Errorf("this is no blob store: %w", err)
	}
	for b := range 256 {
		files, err := os.ReadDir(v.dirs.shard(byte(b)))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		for _, f := range files {
			d, ok := blobName(byte(b), f.Name())
			if !ok || !f.Type().IsRegular() {
				v.report.Foreign = append(v.report.Foreign, filepath.Join("blobs", filepath.Base(v.dirs.shard(byte(b))), f.Name()))
				continue
			}
			v.blobs = append(v.blobs, d)
			if info, err := f.Info(); err == nil {
				v.total += info.Size()
			}
		}
	}
	return nil
}

// one re-hashes a blob.
func (v *verifier) one(ctx context.Context, d proto.Digest) error {
	f, err := openQuietly(v.dirs.blob(d), &v.noAtime)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return ctx.Err() // evicted since
	case errors.Is(err, unix.EIO):
		return v.damaged(nil, d, err.Error())
	case err != nil:
		return err
	}
	defer f.Close()
	size, why, err := rehash(f, d, v.buf, func(n int) error {
		v.tell(n)
		return ctx.Err()
	})
	if err != nil {
		return err
	}
	v.report.Blobs++
	v.report.Bytes += size
	if why == "" {
		return nil
	}
	return v.damaged(f, d, why)
}

func (v *verifier) tell(n int) {
	v.done += int64(n)
	v.total = max(v.total, v.done)
	if v.progress != nil {
		v.progress(v.done, v.total)
	}
}

func (v *verifier) damaged(f *os.File, d proto.Digest, why string) error {
	damage := Damage{Digest: d, Reason: why}
	var err error
	if v.remove {
		damage.Removed, err = v.takeAway(f, d)
	}
	v.report.Damaged = append(v.report.Damaged, damage)
	return err
}

// takeAway removes a damaged blob. A node that runs may put a good one in its
// place at any moment: so the file is first moved aside, then looked at again, and
// put back should it turn out to be another.
func (v *verifier) takeAway(f *os.File, d proto.Digest) (bool, error) {
	blob := v.dirs.blob(d)
	aside := filepath.Join(v.dirs.tmp, "verify-"+strconv.Itoa(os.Getpid())+"-"+d.Short())
	err := os.Rename(blob, aside)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("remove a damaged blob: %w", err)
	}
	if f != nil && !sameFile(f, aside) {
		return false, os.Rename(aside, blob)
	}
	if err := os.Remove(aside); err != nil {
		return false, fmt.Errorf("remove a damaged blob: %w", err)
	}
	return true, nil
}

func compare(a, b proto.Digest) int { return bytes.Compare(a[:], b[:]) }
