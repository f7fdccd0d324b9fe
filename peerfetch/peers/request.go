package peers

import (
	"errors"
	"fmt"
	"strings"
	"unicode"

	"github.com/aptmesh/aptmesh/proto"
	"github.com/aptmesh/aptmesh/proto/peerpb"
)

const (
	maxLocations = 64
	maxArchive   = 200
	maxPath      = 4096
)

// nothingKnown is the Ref of an object that nobody vouches for: what its size may
// have been before says nothing of the size it has now.
var nothingKnown = proto.Ref{Size: proto.UnknownSize}

// requestOf writes an Ask down.
func requestOf(ask proto.Ask, ringHash uint64) *peerpb.FetchRequest {
	ref := ask.Want.Ref
	if !ask.Want.Provable() {
		ref = nothingKnown
	}
	req := &peerpb.FetchRequest{
		Ref:      refOut(ref),
		Class:    uint32(ask.Want.Class),
		Offset:   ask.Offset,
		Fill:     ask.Fill && !ask.Want.PeersOnly,
		RingHash: ringHash,
	}
	if ask.Want.SHA512 != (proto.SHA512{}) {
		req.Sha512 = ask.Want.SHA512[:]
	}
	if !ask.Have.IsZero() {
		req.Have = ask.Have[:]
	}
	for _, loc := range ask.Want.Where[:min(len(ask.Want.Where), maxLocations)] {
		req.Where = append(req.Where, &peerpb.Location{Archive: loc.Archive, Path: loc.Path})
	}
	return req
}

// askOf reads a request that another node wrote, and believes nothing of it.
func askOf(req *peerpb.FetchRequest) (proto.Ask, error) {
	var ask proto.Ask
	ref, err := refIn(req.GetRef())
	if err != nil {
		return ask, err
	}
	have, err := digestIn(req.GetHave())
	if err != nil {
		return ask, fmt.Errorf("have: %w", err)
	}
	if n := len(req.GetSha512()); n != 0 && n != len(ask.Want.SHA512) {
		return ask, fmt.Errorf("a SHA-512 sum of %d bytes", n)
	}
	copy(ask.Want.SHA512[:], req.GetSha512())
	ask.Want.Ref = ref
	if !ask.Want.Provable() {
		ref = nothingKnown
	}
	switch offset := req.GetOffset(); {
	case offset < 0:
		return ask, fmt.Errorf("offset %d is negative", offset)
	case ref.Size != proto.UnknownSize && offset > ref.Size:
		return ask, fmt.Errorf("offset %d is beyond the %d bytes of the object", offset, ref.Size)
	}
	if ask.Want.Where, err = locationsIn(req.GetWhere()); err != nil {
		return ask, err
	}
	ask.Want.Ref, ask.Have = ref, have
	ask.Want.Class = proto.Class(min(req.GetClass(), uint32(proto.ClassPrefetch)))
	ask.Offset, ask.Fill = req.GetOffset(), req.GetFill()
	return ask, nil
}

// locationsIn reads where an object is kept upstream.
func locationsIn(where []*peerpb.Location) ([]proto.Location, error) {
	if len(where) == 0 || len(where) > maxLocations {
		return nil, fmt.Errorf("%d locations, want 1 to %d", len(where), maxLocations)
	}
	locs := make([]proto.Location, len(where))
	for i, loc := range where {
		locs[i] = proto.Location{Archive: loc.GetArchive(), Path: loc.GetPath()}
		if err := checkLocation(locs[i]); err != nil {
			return nil, err
		}
	}
	return locs, nil
}

// checkLocation reports what is wrong with a location that another node names. A
// path that leads out of its archive, or that is not spelt canonically, would be
// an object of its own.
func checkLocation(loc proto.Location) error {
	switch {
	case loc.Archive == "" || len(loc.Archive) > maxArchive:
		return fmt.Errorf("the name of an archive has %d bytes", len(loc.Archive))
	case loc.Path == "" || len(loc.Path) > maxPath:
		return fmt.Errorf("a path has %d bytes", len(loc.Path))
	case strings.ContainsFunc(loc.Archive, unicode.IsControl), strings.ContainsFunc(loc.Path, unicode.IsControl):
		return errors.New("a location holds a control character")
	}
	for segment := range strings.SplitSeq(loc.Path, "/") {
		if segment == "" || segment == "." || segment == ".." {
			return fmt.Errorf("the path %q is not canonical", loc.Path)
		}
	}
	return nil
}

// refOut writes a Ref down.
func refOut(ref proto.Ref) *peerpb.Ref {
	out := &peerpb.Ref{Size: ref.Size}
	if !ref.Digest.IsZero() {
		out.Digest = ref.Digest[:]
	}
	return out
}

// refIn reads a Ref; none at all is one of which nothing is known.
func refIn(ref *peerpb.Ref) (proto.Ref, error) {
	if ref == nil {
		return nothingKnown, nil
	}
	digest, err := digestIn(ref.GetDigest())
	if err != nil {
		return proto.Ref{}, err
	}
	if ref.GetSize() < proto.UnknownSize {
		return proto.Ref{}, fmt.Errorf("a size of %d bytes", ref.GetSize())
	}
	return proto.Ref{Digest: digest, Size: ref.GetSize()}, nil
}

// digestIn reads a digest; no bytes are the zero Digest.
func digestIn(b []byte) (proto.Digest, error) {
	var d proto.Digest
	if len(b) != 0 && len(b) != len(d) {
		return d, fmt.Errorf("a SHA-256 sum of %d bytes", len(b))
	}
	copy(d[:], b)
	return d, nil
}
