package peerfetch

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/aptmesh/aptmesh/proto"
)

// A name may have several right contents at one time, because two current listings of it disagree
// (proto.ObjectRequest.Others). A flight for a request with several contents takes the content that
// its first source gives. As soon as the length identifies this content, the flight continues with
// it alone. Until then, only the mirror that gave the beginning can give the rest, as with unlisted
// files. In both cases the bytes are proven against the whole set.

// version is which of several versions of an object a flight takes: of an unlisted file, or of
// several right contents.
type version struct {
	known    learned        // what upstream last said of an unlisted file
	era      uint64         // of the archive's absent files when the flight began
	validity proto.Transfer // validators of the first transfer
	ifRange  string         // validator of what has arrived, where no digest decides
	narrowed proto.Ref      // of several right contents, the one that is arriving; zero: not known
	swapped  int            // how often the flight began again with another right content
}

// maxSwaps is how often a flight begins again with another right content.
const maxSwaps = 3

// setOf identifies a set of contents; the order of its members does not matter.
func setOf(object *proto.ObjectRequest) proto.Digest {
	set := slices.SortedFunc(object.Contents(), func(a, b proto.Ref) int { return slices.Compare(a.Digest[:], b.Digest[:]) })
	h := sha256.New()
	for _, ref := range set {
		h.Write(ref.Digest[:])
	}
	h.Write(object.SHA512[:])
	return proto.Digest(h.Sum(nil))
}

// decided reports whether a digest says what the rest of the body must be, whichever source gives
// it.
func (fl *flight) decided() bool {
	return fl.object.Provable() && (len(fl.object.Others) == 0 || !fl.narrowed.IsZero())
}

// narrow notes which of several contents the first source gives, if its length identifies it.
func (fl *flight) narrow(size int64) {
	if len(fl.object.Others) > 0 && size != proto.UnknownSize {
		fl.narrowed = fl.object.Only(size)
	}
}

// otherContent is the error for a source that gives another right content than the one that the
// flight continues with. The source did nothing wrong.
func (fl *flight) otherContent(from byteSource) error {
	if fl.swapped < maxSwaps && fl.startOver() {
		fl.swapped++
		return &judged{verdict: otherContent, err: errors.New("this source gives another right content")}
	}
	return from.wrong(&proto.Unavailable{Reason: fmt.Sprintf("%s gives another current version of it than the one that is half here", from), Answered: true})
}

// proves reports whether what arrived is a right content.
func (fl *flight) proves(got proto.Digest) bool {
	if fl.sha512 != nil && proto.SHA512(fl.sha512.Sum(nil)) == fl.object.SHA512 {
		return true
	}
	for ref := range fl.object.Contents() {
		if ref.Digest == got {
			return true
		}
	}
	return !fl.object.Provable()
}

// listed names the right contents in the order in which they are preferred.
func (fl *flight) listed() string {
	said := fl.object.Ref.Digest.String()
	if fl.object.Ref.IsZero() {
		said = "a SHA-512"
	}
	for _, other := range fl.object.Others {
		said += " or " + other.Digest.String()
	}
	return said
}

// refLocked is what is known of the object. The caller holds mu.
func (fl *flight) refLocked() proto.Ref {
	switch {
	case fl.proven && fl.object.Provable(), fl.proven && fl.size == 0:
		return proto.Ref{Digest: fl.digest, Size: fl.size}
	case len(fl.object.Others) > 0:
		return proto.Ref{Digest: fl.object.Only(fl.size).Digest, Size: fl.size}
	}
	return proto.Ref{Digest: fl.object.Ref.Digest, Size: fl.size}
}

// storedOther opens the first of several right contents that the store holds. It is kept out of
// stored for the sake of the stack of every idle connection.
//
//go:noinline
func (f *Fetcher) storedOther(object *proto.ObjectRequest) (*proto.Blob, error) {
	for _, other := range object.Others {
		if blob, err := f.fromStore(other, object.Where.First.Archive); !errors.Is(err, fs.ErrNotExist) {
			return blob, err
		}
	}
	return nil, fs.ErrNotExist
}
