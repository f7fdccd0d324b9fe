package peers

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/aptmesh/aptmesh/proto"
	"github.com/aptmesh/aptmesh/proto/peerpb"
)

const (
	// lookups is how many nodes are asked what lists a file, and lookupTimeout how long
	// they have to answer. A client waits for it.
	lookups       = 4
	lookupTimeout = time.Second
	// lookupsAgree is how many of them must say the same: one may be wrong, or lie.
	lookupsAgree = 2
)

// Lookup asks the nearest nodes, all at once, what the signed metadata that they hold
// says of a file, and returns what two of them say; false where no two know of it, and
// so in a cluster of two. Nobody verifies it: it is their word, and nothing more.
func (m *Mesh) Lookup(ctx context.Context, loc proto.Location) (proto.Ref, bool) {
	if checkLocation(loc) != nil {
		return proto.Ref{}, false
	}
	nearest := slices.DeleteFunc(slices.Clone(m.all()), func(p *peer) bool { return !p.reachable() })
	slices.SortStableFunc(nearest, func(a, b *peer) int { return cmp.Compare(a.rtt(), b.rtt()) })
	nearest = nearest[:min(len(nearest), lookups)]

	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel() // agreement ends the other questions
	answers := make(chan proto.Ref, len(nearest))
	var asking sync.WaitGroup
	for _, p := range nearest {
		asking.Go(func() {
			if ref, err := m.lookupAt(ctx, p.name, loc); err == nil && !ref.IsZero() {
				answers <- ref
			}
		})
	}
	go func() {
		asking.Wait()
		close(answers)
	}()
	said := make(map[proto.Ref]int)
	for ref := range answers {
		if said[ref]++; said[ref] == lookupsAgree {
			return ref, true
		}
	}
	return proto.Ref{}, false
}

func (m *Mesh) lookupAt(ctx context.Context, peer string, loc proto.Location) (ref proto.Ref, err error) {
	req := &peerpb.LookupRequest{Location: &peerpb.Location{Archive: loc.Archive, Path: loc.Path}}
	err = m.call(ctx, peer, 0, func(ctx context.Context, client peerpb.ControlClient) error {
		reply, err := client.Lookup(ctx, req)
		if err != nil {
			return err
		}
		ref, err = refIn(reply.GetRef())
		return err
	})
	return ref, err
}

// Lookup answers another node what this node knows of a file.
func (s *controlServer) Lookup(ctx context.Context, req *peerpb.LookupRequest) (*peerpb.LookupReply, error) {
	from, control, err := s.control(ctx)
	if err != nil {
		return nil, err
	}
	loc := proto.Location{Archive: req.GetLocation().GetArchive(), Path: req.GetLocation().GetPath()}
	if err := checkLocation(loc); err != nil {
		return nil, s.senseless(from, err)
	}
	ref, ok := control.Lookup(loc)
	if !ok || ref.IsZero() {
		return &peerpb.LookupReply{}, nil
	}
	return &peerpb.LookupReply{Ref: refOut(ref)}, nil
}
