package peerfetch

import (
	"cmp"
	"context"
	"log/slog"
	"os"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// Store is where objects are kept. Safe for concurrent use.
type Store interface {
	// Get opens a blob, or returns fs.ErrNotExist. The store vouches that the
	// bytes were right when they were committed.
	Get(proto.Digest) (*proto.Blob, error)
	// Create starts a blob of size bytes (proto.UnknownSize where nobody knows)
	// and reserves room for it; proto.ErrNoSpace when there is none.
	Create(size int64) (Writer, error)
	// Resume is Create for a blob whose digest and size are proven. The writer offers the
	// partial file that the last writer left, if that one had the same from.
	Resume(ref proto.Ref, from string) (Writer, error)
	// PartialSize returns how many bytes the partial file of a blob has at most. It must not block.
	PartialSize(ref proto.Ref, from string) int64
	// Unreadable reports a blob whose file f could not be read to its end: it is a miss from
	// then on, unless it has been stored again since.
	Unreadable(d proto.Digest, f *os.File, err error)
	// Only returns the archives through which alone a blob may be given; nil where it is
	// open to all. It is called for every hit.
	Only(proto.Digest) []string
}

// Writer takes one blob into the store. Used by one flight only; Reader may be
// called at the same time as the other methods.
type Writer interface {
	// Write keeps and hashes p. When the disk is full it keeps n bytes and
	// returns proto.ErrNoSpace.
	Write(p []byte) (n int, err error)
	// TakeBack reads a piece of what the last writer left, and is to be called until there is
	// no more. It returns how many bytes the blob has by then; they are as they were received.
	TakeBack() (size int64, more bool)
	// Sum is the digest and size of all bytes written so far.
	Sum() proto.Ref
	// Reader opens a private handle at offset 0. It stays readable after Commit
	// and Abort.
	Reader() (*os.File, error)
	// Only restricts what Commit will store to an archive, besides those that an equal
	// blob has. Without a call the blob is open to all.
	Only(archive string)
	// Commit makes the blob durable under the digest of what was written.
	Commit(modified time.Time) (proto.Ref, error)
	// Abort forgets the blob. After Commit it does nothing.
	Abort()
	// Park is Abort that leaves the bytes to the next Resume.
	Park()
}

// Source is the archives upstream, each of them at one mirror or several. Nobody
// trusts it: what it yields is hashed here. Safe for concurrent use.
type Source interface {
	// Fetch asks the mirrors in the order it thinks best and returns when one of them
	// has bytes to give. A mirror whose body ended in an error before is not the first
	// to be asked for the rest.
	Fetch(context.Context, proto.Request) (*proto.Transfer, error)
	// Mirrors names those of an archive that may be asked, as Transfer.From does. It
	// must not block.
	Mirrors(archive string) []string
	// Blame reports wrong content. If from is one mirror, this mirror gave all of it. If
	// from is several, any of them may have given the wrong part, and they must be asked
	// one at a time to find out. It must not block.
	Blame(loc proto.Location, from []string, err error)
}

// Config is what a Fetcher needs. Store, Upstream and Logger must be set; a zero
// duration or size takes its default.
type Config struct {
	Store    Store
	Upstream Source
	Logger   *slog.Logger

	// Restricted reports whether only some clients may have what is in an archive; nil:
	// none is. It may change its mind at any time, and must not block (restrict.go).
	Restricted func(archive string) bool
	// Cluster is the other nodes; nil where this one is alone.
	Cluster Cluster
	// Started, if not nil, is called when this node begins to fetch an object of
	// known digest from upstream (true), and when that failed (false). It must not
	// block.
	Started func(d proto.Digest, begun bool)

	// Notes, where not nil, keeps what unlisted files are over restarts.
	Notes Notes
	// ServeStale, where not nil, is how long after upstream last said so an unlisted file of an
	// archive is given out while upstream cannot be asked. It must not block.
	ServeStale func(archive string) time.Duration

	// Linger is how long a flight continues without readers, so that a client
	// whose connection broke finds it again. Default 2 s; never more than 200 ms if the next
	// flight can resume from what this flight leaves in the store.
	Linger time.Duration
	// HoldSmall is the size in bytes up to which a body is given out only when it is proven, or
	// complete where nothing can prove it: it costs no time worth speaking of, and a bad one can be
	// fetched again before any client has noticed. Default 64 KiB.
	HoldSmall int64
	// Immutable, where not nil, reports whether upstream never changes what an archive has: an unlisted file is
	// asked for once.
	Immutable func(archive string) bool
	// UnlistedFresh is how long an unlisted file is served before upstream is
	// asked again whether it changed, unless ArchiveChanged ends that. Default 30 s.
	UnlistedFresh time.Duration
	// NotFoundFor is how long this node remembers that upstream does not have a file, for
	// names that nothing signed lists. Default 30 s; negative: not at all.
	NotFoundFor time.Duration
	// Window is how many bytes of a body are kept in memory while the store has
	// no room for it. Default 8 MiB per flight.
	Window int
	// ReaderPatience is how long the slowest reader may delay a flight with a window
	// before this reader is dropped. Default 30 s.
	ReaderPatience time.Duration

	// FallbackPause bounds the random pause before this node goes upstream for an
	// object that it expected from other nodes. The pause keeps all nodes from going
	// upstream at once when one node dies. Default 500 ms.
	FallbackPause time.Duration
	// HedgeAfter is how long a peer may take to answer before the next one that
	// holds the object is asked as well; HedgeUpTo is the size in bytes up to which
	// that is done. Defaults 100 ms and 1 MiB.
	HedgeAfter time.Duration
	HedgeUpTo  int64
}

func (c Config) withDefaults() Config {
	c.Linger = cmp.Or(c.Linger, 2*time.Second)
	c.HoldSmall = cmp.Or(c.HoldSmall, 64<<10)
	c.UnlistedFresh = cmp.Or(c.UnlistedFresh, 30*time.Second)
	c.NotFoundFor = cmp.Or(c.NotFoundFor, 30*time.Second)
	c.Window = cmp.Or(c.Window, 8<<20)
	c.ReaderPatience = cmp.Or(c.ReaderPatience, 30*time.Second)
	c.FallbackPause = cmp.Or(c.FallbackPause, 500*time.Millisecond)
	c.HedgeAfter = cmp.Or(c.HedgeAfter, 100*time.Millisecond)
	c.HedgeUpTo = cmp.Or(c.HedgeUpTo, 1<<20)
	return c
}
