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

// requestOf writes an Ask down; via are the proxies that its request came through.
func requestOf(ask proto.Ask, via []string, ringHash uint64) *peerpb.FetchRequest {
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
		Base:     ask.Want.Base,
		Hearsay:  ask.Want.Hearsay,
		Via:      via,
		Client:   ask.Want.Client,
	}
	for _, other := range ask.Want.Others[:min(len(ask.Want.Others), maxOthers)] {
		req.Others = append(req.Others, refOut(other))
	}
	if ask.Want.SHA512 != (proto.SHA512{}) {
		req.Sha512 = ask.Want.SHA512[:]
	}
	if !ask.Have.IsZero() {
		req.Have = ask.Have[:]
	}
	for loc := range ask.Want.Where.All() {
		if len(req.Where) == maxLocations {
			break
		}
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
	if ask.Want.Others, err = othersIn(req.GetOthers()); err != nil {
		return ask, err
	}
	if len(ask.Want.Others) > 0 && !ask.Want.Provable() {
		return ask, errors.New("others: further contents of an object that nobody vouches for")
	}
	switch offset := req.GetOffset(); {
	case offset < 0:
		return ask, fmt.Errorf("offset %d is negative", offset)
	case ref.Size != proto.UnknownSize && offset > ref.Size && len(ask.Want.Others) == 0:
		return ask, fmt.Errorf("offset %d is beyond the %d bytes of the object", offset, ref.Size)
	}
	ask.Want.Hearsay = req.GetHearsay()
	if ask.Want.Client = req.GetClient(); len(ask.Want.Client) > maxClient || strings.ContainsFunc(ask.Want.Client, notVisible) {
		return ask, errors.New("client: what is no address of a client")
	}
	if ask.Want.Base, err = baseIn(req.GetBase()); err != nil {
		return ask, err
	}
	if ask.Want.Where, err = locationsIn(req.GetWhere()); err != nil {
		return ask, err
	}
	ask.Want.Ref, ask.Have = ref, have
	ask.Want.Class = proto.Class(min(req.GetClass(), uint32(proto.ClassPrefetch)))
	ask.Offset, ask.Fill = req.GetOffset(), req.GetFill()
	return ask, nil
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
