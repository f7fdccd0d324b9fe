package proto

import (
	"bytes"
	"io"
	"os"
	"time"
)

// Class orders work that competes for an upstream: a lower Class goes first.
type Class uint8

// The classes of upstream work, most urgent first.
const (
	ClassMetadata Class = iota // roots, indices: every client waits for them
	ClassPackage               // what a client asked for
	ClassPrefetch              // what nobody waits for yet
)

func (c Class) String() string {
	return [...]string{"metadata", "package", "prefetch"}[c]
}

// SHA512 is the sum by which a few archives list their files without giving a
// SHA-256. The zero SHA512 means "not known".
type SHA512 [64]byte

// Want is all one needs to obtain one object: what it must turn out to be, and
// where upstream keeps it.
type Want struct {
	// Ref is what signed metadata, or a by-hash name, says of the object. A zero
	// Digest means that nobody vouches for it: it is an unlisted file.
	Ref Ref
	// SHA512 stands in for a missing Ref.Digest where an archive lists only that.
	SHA512 SHA512
	// Where names the object upstream, best name first; never empty.
	Where []Location
	Class Class
	// Holders are nodes known to hold it; they are asked first.
	Holders []string
	// PeersOnly keeps the fetch from upstream, where the name may mean other
	// bytes by now: the root of a generation that a peer has told of.
	PeersOnly bool
}

// Provable reports whether the bytes of the object can be checked when they arrive.
func (w Want) Provable() bool { return !w.Ref.IsZero() || w.SHA512 != SHA512{} }

// Tier says where the bytes of an answer came from.
type Tier string

// The tiers of an answer.
const (
	TierMemory   Tier = "memory"
	TierDisk     Tier = "disk"
	TierPeer     Tier = "peer"
	TierUpstream Tier = "upstream"
)

// Blob is an object opened for reading. Exactly one of Bytes, File and Stream
// holds the body, so that whoever writes the answer can choose the cheapest way.
// The zero-length object has Bytes non-nil and empty.
type Blob struct {
	// Ref is what is known of the object now. While an unproven Stream runs the
	// Digest is what the bytes must turn out to be; Size may be UnknownSize.
	Ref Ref
	// Modified is upstream's own Last-Modified, and zero while the bytes are not
	// proven yet or upstream gave none. Whole seconds, UTC.
	Modified time.Time
	// Verified says that signed metadata, or the by-hash name asked for, vouches
	// for these bytes. With Stream it says that it will, or the stream will fail
	// before its last byte.
	Verified bool
	Tier     Tier

	Bytes []byte
	// File is a private handle at offset 0; Close closes it.
	File *os.File
	// Stream follows a body that is still arriving. It implements io.WriterTo,
	// which sends by the file's own way (sendfile) where it can. It yields the
	// last byte only when the content is proven, and fails instead of ending
	// where it is not. Its reads end when the context it was opened with ends.
	Stream io.ReadCloser
	// NotModified answers an Ask with Have: the asker's version is still the one.
	// There is no body then.
	NotModified bool
}

// Close releases what the blob holds. It is safe to call once on any blob.
func (b *Blob) Close() error {
	switch {
	case b.File != nil:
		return b.File.Close()
	case b.Stream != nil:
		return b.Stream.Close()
	}
	return nil
}

// Reader returns the body as a plain reader, whatever carries it.
func (b *Blob) Reader() io.Reader {
	switch {
	case b.File != nil:
		return b.File
	case b.Stream != nil:
		return b.Stream
	}
	return bytes.NewReader(b.Bytes)
}

// Request asks a source for the bytes of one location.
type Request struct {
	Loc   Location
	Class Class
	// Offset asks for the body from this byte on. A source that cannot do so
	// answers from byte 0 and says so in Transfer.Offset.
	Offset int64
	// IfRange is the validator (an ETag or an HTTP date) of the first Offset
	// bytes, so that two versions are never spliced; "" where a digest will
	// decide.
	IfRange string
	// IfNoneMatch and IfModifiedSince make the request conditional.
	IfNoneMatch     string
	IfModifiedSince time.Time
	// Head asks for everything but the body.
	Head bool
	// Size is the length in bytes that signed metadata gives the object; 0 where
	// nothing does. A mirror that has it in another length is passed over.
	Size int64
	// Mirror, where not "", is the only mirror to ask, as Transfer.From names it.
	Mirror string
	// Urgent is closed when a client begins to wait for what was asked for ahead of
	// clients; nil: never.
	Urgent <-chan struct{}
}

// ClassNow is Class, or ClassPackage where Urgent has been closed since.
func (r Request) ClassNow() Class {
	select {
	case <-r.Urgent:
		return min(r.Class, ClassPackage)
	default:
		return r.Class
	}
}

// Transfer is a body on its way from a source. The receiver closes Body.
type Transfer struct {
	Body io.ReadCloser // nil when NotModified
	// Size is the length of the whole object, not of what is left; UnknownSize
	// where the source does not say.
	Size int64
	// Offset is the position of the first byte of Body in the object.
	Offset int64
	// Modified and ETag are the source's validators; zero where it gave none.
	Modified    time.Time
	ETag        string
	ContentType string
	NotModified bool
	Tier        Tier
	// From names the mirror that gave it: the URL of its root, without credentials.
	// "" where a node of the cluster did.
	From string
}
