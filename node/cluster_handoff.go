package node

import (
	"context"
	"io"
	"sync"

	"github.com/aptmesh/aptmesh/proto"
)

// offerBatch is how many blobs are offered to a peer in one call. It returns when
// the peer has them, so that a bound in time wastes little.
const offerBatch = 16

// handOn offers every blob that no other live node holds to the node that owns it
// now, the most recently used first, until all are taken or ctx ends.
func (c *cluster) handOn(ctx context.Context) {
	queues := make(map[string][]proto.ObjectRequest)
	var offered, kept int
	send := func(peer string) {
		wants := queues[peer]
		queues[peer] = nil
		offered += len(wants)
		taken, err := c.mesh.Offer(ctx, peer, wants)
		kept += len(taken)
		if err != nil {
			c.log.Warn("handing on what only this node holds", "to", peer, "error", err)
		}
	}
	for ref := range c.store.LastCopies(c.replicated) {
		peer := c.heir(ref.Digest)
		if peer == "" || ctx.Err() != nil {
			break
		}
		queues[peer] = append(queues[peer], handedOn(ref, c.store.Only(ref.Digest), ""))
		if len(queues[peer]) == offerBatch {
			send(peer)
		}
	}
	for peer := range queues {
		if len(queues[peer]) > 0 && ctx.Err() == nil {
			send(peer)
		}
	}
	c.log.Info("handed on what only this node held", "offered", offered, "taken", kept, "complete", ctx.Err() == nil)
}

// heir is the node that owns a digest when this one is gone; "" if nobody does.
func (c *cluster) heir(d proto.Digest) string {
	for _, name := range c.mesh.Owners(d[:], 2) {
		if name != c.name {
			return name
		}
	}
	return ""
}

// takeParallel is how many blobs are taken over from a leaving node at one time.
const takeParallel = 4

// takeOver fetches what a leaving node offers, and tells what is held now.
func (c *cluster) takeOver(ctx context.Context, from string, offers []proto.ObjectRequest) []proto.Digest {
	var mu sync.Mutex
	var kept []proto.Digest
	var wg sync.WaitGroup
	places := make(chan struct{}, takeParallel)
	for _, offer := range offers {
		places <- struct{}{}
		wg.Go(func() {
			defer func() { <-places }()
			if !c.store.Has(offer.Ref.Digest) && c.drain(ctx, handedOn(offer.Ref, onlyOf(offer), from)) != nil {
				return
			}
			mu.Lock()
			kept = append(kept, offer.Ref.Digest)
			mu.Unlock()
		})
	}
	wg.Wait()
	return kept
}

// drain reads an object to its proven end, so that the store keeps it.
func (c *cluster) drain(ctx context.Context, want proto.ObjectRequest) error {
	b, err := c.fetcher.Open(ctx, want)
	if err != nil {
		return err
	}
	defer b.Close()
	_, err = io.Copy(io.Discard, b.Reader())
	return err
}
