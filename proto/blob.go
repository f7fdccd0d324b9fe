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
	ClassUnlisted              // what a client asked for and nothing lists: clients can invent names
	ClassPrefetch              // what nobody waits for yet
)

func (c Class) String() string {
	return [...]string{"metadata", "package", "unlisted", "prefetch"}[c]
}

// SHA512 is the sum by which a few archives list their files without giving a
// SHA-256. The zero SHA512 means "not known".
type SHA512 [64]byte

// ObjectRequest is all one needs to obtain one object: what it must turn out to be, and
// where upstream keeps it.
type ObjectRequest struct {
	// Ref is what signed metadata, or a name made of a sum, says of the object. A zero
	// Digest means that nobody vouches for it: it is an unlisted file.
	Ref Ref
	// SHA512 stands in for a missing Ref.Digest where an archive lists only that.
	SHA512 SHA512
	// Others are further contents that are as right as Ref, because several current listings of the
	// name disagree; usually none. Bytes that prove to be one of them are the object, too. Each has
	// a Digest, and none is Ref. Nobody changes them.
	Others []Ref
	// Where names the object upstream; never zero.
	Where Where
	// Hearsay says that Ref is what other nodes say of the name. Bytes are checked against it, but
	// nobody is blamed for others.
	Hearsay bool
	// Base is the archive's root at another site, as Transfer.Base gives it: each name is asked
	// there first and then at the mirrors. "" for none. It is only for a Provable ObjectRequest.
	Base  string
	Class Class
	// Client is the address of the host that asks, IPv6 by its /64, with the name of the node in
	// front where another node asks for it; "" where it is not known, and where nobody asks. It is
	// only there so that no client takes all of an upstream.
	Client string
	// Holders are nodes known to hold it; they are asked first.
	Holders []string
	// PeersOnly forbids to fetch from upstream, which may have other bytes under the name
	// by now: the root of a generation that a peer has announced.
	PeersOnly bool
}

// Provable reports whether the bytes of the object can be checked when they arrive.
func (w ObjectRequest) Provable() bool { return !w.Ref.IsZero() || w.SHA512 != SHA512{} }

// Tier says where the bytes of an answer came from.
type Tier string

// The tiers of an answer.
const (
	TierMemory   Tier = "memory"
	TierDisk     Tier = "disk"
	TierPeer     Tier = "peer"
	TierUpstream Tier = "upstream"
)

// Blob is an object opened for reading. Exactly one of Bytes, File and Stream has the body,
// so that the writer of the answer can choose the cheapest way. The zero-length object has
// Bytes non-nil and empty.
type Blob struct {
	// Ref is what this node knows of the object now. While an unproven Stream runs the
	// Digest is what the bytes must turn out to be, and zero as long as they may be one of
	// several right contents; Size may be UnknownSize.
	Ref Ref
	// Modified is upstream's own Last-Modified, and zero while the bytes are not
	// proven yet or upstream gave none. Whole seconds, UTC.
	Modified time.Time
	// Verified says that signed metadata, or the name asked for if it is made of a sum, vouches
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
	// Its method Part, if it has one, is for before the first read and for the end of a part.
	Stream io.ReadCloser
	// Claimed is the Last-Modified that upstream gives for a Stream whose bytes nothing proves.
	// It is no validator yet. A client that has a part of the file from upstream itself sends it
	// in If-Range.
	Claimed time.Time
	// Doubted says that clients were given bytes of this object a while ago that turned out wrong,
	// so that a Stream must not be put behind what they have.
	Doubted bool
	// Failed, if not nil, is to be called if the File could not be read.
	Failed func(error)
	// Stale says in one sentence why the bytes may be older than upstream's; "" if they are not.
	// If it is set, Checked is when upstream last said that they are current.
	Stale   string
	Checked time.Time
	// NotModified answers a PeerRequest with Have: the requester's version is still current.
	// There is no body then.
	NotModified bool
}

// Parted is a Stream that gives parts, one at a time and in any order: bytes [from, from+length),
// up to the end. The last byte of the object comes when it is proven, as in the whole.
type Parted interface {
	Part(from, length int64)
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
	// Client is ObjectRequest.Client.
	Client string
	// Provable says that the caller has a digest to hold the bytes against.
	Provable bool
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
	// Immutable says that what is stored under the name never changes, so that a cache between
	// this node and the mirror need not check what it has.
	Immutable bool
	// Page says that an HTML page can be the true content. Otherwise one is the page of a
	// captive portal, or an error page with the wrong status.
	Page bool
	// FirstByte is PathInfo.FirstByte: a mirror that keeps its clients waiting for half as long is left
	// while another one can be asked.
	FirstByte time.Duration
	// Mirror, where not "", is the only mirror to ask, as Transfer.From names it.
	Mirror string
	// Base, where not "", is a root of the archive at another site (Transfer.Base). It is
	// asked first; without success the mirrors are asked as if there was no Base. The rules
	// for the targets of redirects hold for it.
	Base string
	// NoCache asks caches between this node and the mirror for what the mirror itself
	// serves now (RFC 9111, section 5.2.1.4). Together with validators it still is a
	// conditional request.
	NoCache bool
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
	// Checked is when upstream last said so, where a node answers that cannot ask it now; zero: it
	// said so now.
	Checked time.Time
	// From names the mirror that gave it: the URL of its root, without credentials.
	// " -> " and a host follow where bytes that can be proven come from another host that
	// the mirror redirected to. "" where a node of the cluster gave it.
	From string
	// Base is the root of the archive at the site that the mirror's redirects led to: the
	// bytes came from Base + "/" + the path of the location. Where only the last part of the
	// path was kept, a fragment names the directory of the archive that Base stands for. ""
	// where no redirect left the mirror's site, or where the name changed. apt calls it UsedMirror
	// (apt-pkg/acquire-worker.cc, ChangeSiteIsMirrorChange), and asks that site first for
	// the indexes of a suite whose root it read there (acquire-item.cc,
	// pkgAcqTransactionItem::QueueURI), but not for packages.
	Base string
}
