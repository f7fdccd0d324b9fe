package peers

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"unicode"

	"github.com/aptmesh/aptmesh/proto"
	"github.com/aptmesh/aptmesh/proto/peerpb"
)

const (
	maxLocations = 64
	maxArchive   = 200
	maxPath      = 4096
	maxOthers    = 16
	maxBase      = 2048
	maxProxy     = 256 // bytes of a proxy's pseudonym
	maxClient    = 64  // bytes of the address of a client
)

// nothingKnown is the Ref of an object that nobody vouches for: what its size may
// have been before says nothing of the size it has now.
var nothingKnown = proto.Ref{Size: proto.UnknownSize}

// requestOf writes a PeerRequest down; via are the proxies that its request came through.
func requestOf(peerReq proto.PeerRequest, via []string) *peerpb.FetchRequest {
	ref := peerReq.Object.Ref
	if !peerReq.Object.Provable() {
		ref = nothingKnown
	}
	req := &peerpb.FetchRequest{
		Ref:     refOut(ref),
		Class:   uint32(peerReq.Object.Class),
		Offset:  peerReq.Offset,
		Fill:    peerReq.Fill && !peerReq.Object.PeersOnly,
		Base:    peerReq.Object.Base,
		Hearsay: peerReq.Object.Hearsay,
		Via:     via,
		Client:  peerReq.Object.Client,
	}
	for _, other := range peerReq.Object.Others[:min(len(peerReq.Object.Others), maxOthers)] {
		req.Others = append(req.Others, refOut(other))
	}
	if peerReq.Object.SHA512 != (proto.SHA512{}) {
		req.Sha512 = peerReq.Object.SHA512[:]
	}
	if !peerReq.Have.IsZero() {
		req.Have = peerReq.Have[:]
	}
	for loc := range peerReq.Object.Where.All() {
		if len(req.Where) == maxLocations {
			break
		}
		req.Where = append(req.Where, &peerpb.Location{Archive: loc.Archive, Path: loc.Path})
	}
	return req
}

// readRequest reads a request that another node wrote, and believes nothing of it.
func readRequest(req *peerpb.FetchRequest) (proto.PeerRequest, error) {
	var peerReq proto.PeerRequest
	ref, err := refIn(req.GetRef())
	if err != nil {
		return peerReq, err
	}
	have, err := digestIn(req.GetHave())
	if err != nil {
		return peerReq, fmt.Errorf("have: %w", err)
	}
	if n := len(req.GetSha512()); n != 0 && n != len(peerReq.Object.SHA512) {
		return peerReq, fmt.Errorf("a SHA-512 sum of %d bytes", n)
	}
	copy(peerReq.Object.SHA512[:], req.GetSha512())
	peerReq.Object.Ref = ref
	if !peerReq.Object.Provable() {
		ref = nothingKnown
	}
	if peerReq.Object.Others, err = othersIn(req.GetOthers()); err != nil {
		return peerReq, err
	}
	if len(peerReq.Object.Others) > 0 && !peerReq.Object.Provable() {
		return peerReq, errors.New("others: further contents of an object that nobody vouches for")
	}
	switch offset := req.GetOffset(); {
	case offset < 0:
		return peerReq, fmt.Errorf("offset %d is negative", offset)
	case ref.Size != proto.UnknownSize && offset > ref.Size && len(peerReq.Object.Others) == 0:
		return peerReq, fmt.Errorf("offset %d is beyond the %d bytes of the object", offset, ref.Size)
	}
	peerReq.Object.Hearsay = req.GetHearsay()
	if peerReq.Object.Client = req.GetClient(); len(peerReq.Object.Client) > maxClient || strings.ContainsFunc(peerReq.Object.Client, notVisible) {
		return peerReq, errors.New("client: what is no address of a client")
	}
	if peerReq.Object.Base, err = baseIn(req.GetBase()); err != nil {
		return peerReq, err
	}
	if peerReq.Object.Where, err = locationsIn(req.GetWhere()); err != nil {
		return peerReq, err
	}
	peerReq.Object.Ref, peerReq.Have = ref, have
	peerReq.Object.Class = proto.Class(min(req.GetClass(), uint32(proto.ClassPrefetch)))
	peerReq.Offset, peerReq.Fill = req.GetOffset(), req.GetFill()
	return peerReq, nil
}

// othersIn reads further contents that are accepted. Each needs a digest: nothing else would prove
// it.
func othersIn(refs []*peerpb.Ref) ([]proto.Ref, error) {
	if len(refs) > maxOthers {
		return nil, fmt.Errorf("%d further contents, want at most %d", len(refs), maxOthers)
	}
	var others []proto.Ref
	for _, r := range refs {
		ref, err := refIn(r)
		switch {
		case err != nil:
			return nil, fmt.Errorf("others: %w", err)
		case ref.Digest.IsZero():
			return nil, errors.New("others: a content without a digest")
		}
		others = append(others, ref)
	}
	return others, nil
}

// baseIn reads the root of an archive at another site; "" is none. Whether it may be asked is for
// the client of upstream to decide, as it is with the target of a redirect.
func baseIn(s string) (string, error) {
	if s == "" {
		return "", nil
	}
	u, err := url.Parse(s)
	switch {
	case len(s) > maxBase:
		return "", fmt.Errorf("base: a URL of %d bytes", len(s))
	case err != nil, u.Scheme != "http" && u.Scheme != "https", u.Host == "", u.User != nil:
		return "", errors.New("base: it is not the URL of an archive")
	}
	return s, nil
}

// viaIn reads the proxies that a request came through.
func viaIn(via []string) ([]string, error) {
	if len(via) > proto.MaxVia {
		return nil, fmt.Errorf("via: %d proxies, want at most %d", len(via), proto.MaxVia)
	}
	for _, proxy := range via {
		if proxy == "" || len(proxy) > maxProxy || strings.ContainsFunc(proxy, notVisible) {
			return nil, errors.New("via: what is no name of a proxy")
		}
	}
	return via, nil
}

func notVisible(r rune) bool { return r <= ' ' || r > '~' || r == ',' }

// locationsIn reads where an object is kept upstream.
func locationsIn(where []*peerpb.Location) (proto.Where, error) {
	if len(where) == 0 || len(where) > maxLocations {
		return proto.Where{}, fmt.Errorf("%d locations, want 1 to %d", len(where), maxLocations)
	}
	locs := make([]proto.Location, 0, len(where))
	for _, named := range where {
		loc := proto.Location{Archive: named.GetArchive(), Path: named.GetPath()}
		if err := checkLocation(loc); err != nil {
			return proto.Where{}, err
		}
		if !slices.Contains(locs, loc) {
			locs = append(locs, loc)
		}
	}
	return proto.WhereOf(locs), nil
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
