package peers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"syscall"
	"time"

	"google.golang.org/grpc/mem"

	"github.com/aptmesh/aptmesh/proto"
	"github.com/aptmesh/aptmesh/proto/peerpb"
)

// produce obtains the body from the handler and cuts it into pieces, until it is
// whole; u.tail is set then.
func (u *upload) produce(ctx context.Context, from string, peerReq proto.PeerRequest) error {
	blob, err := u.m.cfg.Handler.ServePeer(ctx, from, peerReq)
	if err != nil {
		return err
	}
	defer blob.Close()
	if err := u.head(ctx, blob, peerReq.Offset); err != nil || blob.NotModified {
		return err
	}
	u.phase.Store(phaseTurn)
	select {
	case u.m.uploads <- struct{}{}:
		defer func() { <-u.m.uploads }()
	case <-ctx.Done():
		return ctx.Err()
	}
	switch {
	case blob.Stream != nil: // as it comes: each read that brings something is a piece
		u.phase.Store(phaseStream)
		err = u.read(ctx, blob.Stream, peerReq.Offset, blob.Ref.Size)
	case blob.File != nil:
		u.phase.Store(phaseFile)
		u.available.Store(max(peerReq.Offset, blob.Ref.Size))
		err = u.read(ctx, blob.File, peerReq.Offset, blob.Ref.Size)
		if errors.Is(err, syscall.EIO) && blob.Failed != nil {
			blob.Failed(err) // the requester continues from another source
		}
	default:
		u.phase.Store(phaseBytes)
		u.available.Store(peerReq.Offset + int64(len(blob.Bytes)))
		err = u.slice(ctx, blob.Bytes, peerReq.Offset, blob.Ref.Size)
	}
	if err != nil {
		return err
	}
	u.tail.Modified = timeOut(modifiedOf(blob))
	return nil
}

// head sends what is known of the body before its first byte.
func (u *upload) head(ctx context.Context, blob *proto.Blob, offset int64) error {
	f, err := messageFrame(kindHead, &peerpb.FetchHead{
		Ready: true, Ref: refOut(blob.Ref), Offset: offset,
		Modified: timeOut(blob.Modified), Tier: string(blob.Tier), NotModified: blob.NotModified, Checked: timeOut(blob.Checked),
	})
	if err != nil {
		return err
	}
	return u.hand(ctx, piece{wire: f.wire})
}

// hand gives a piece to the goroutine that sends.
func (u *upload) hand(ctx context.Context, p piece) error {
	select {
	case u.pieces <- p:
		return nil
	case <-ctx.Done():
		p.wire.Free()
		return ctx.Err()
	}
}

// read sends what r yields, of an object of that size that it continues at pos.
func (u *upload) read(ctx context.Context, r io.Reader, pos, size int64) error {
	for {
		buf := u.m.chunks.Get(0)
		n, err := r.Read((*buf)[dataHeader:])
		*buf = (*buf)[:dataHeader+n]
		wire := mem.BufferSlice{mem.NewBuffer(buf, u.m.chunks)}
		if n == 0 {
			wire.Free()
		} else {
			pos += int64(n)
			if size != proto.UnknownSize && pos > size {
				wire.Free()
				return fmt.Errorf("the object has more than its %d bytes", size)
			}
			u.available.Store(max(u.available.Load(), pos))
			if err := u.hand(ctx, piece{wire: wire, header: (*buf)[:dataHeader], n: n}); err != nil {
				return err
			}
		}
		switch {
		case err == io.EOF && size != proto.UnknownSize && pos != size:
			return fmt.Errorf("the object ended after %d of %d bytes", pos, size)
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		}
	}
}

// slice sends bytes in memory, without copying them.
func (u *upload) slice(ctx context.Context, b []byte, pos, size int64) error {
	if end := pos + int64(len(b)); size != proto.UnknownSize && end != size {
		return fmt.Errorf("the object ends after %d of %d bytes", end, size)
	}
	for len(b) > 0 {
		n := min(len(b), u.m.cfg.chunk)
		header := make([]byte, dataHeader)
		wire := mem.BufferSlice{mem.SliceBuffer(header), mem.SliceBuffer(b[:n])}
		if err := u.hand(ctx, piece{wire: wire, header: header, n: n}); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// modifiedOf is upstream's Last-Modified of a body that is whole.
func modifiedOf(blob *proto.Blob) time.Time {
	if s, ok := blob.Stream.(interface{ Modified() time.Time }); ok {
		return s.Modified()
	}
	return blob.Modified
}

// timeOut writes a time down in whole seconds; 0 is no time.
func timeOut(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}
