package cluster

import (
	"context"
	"io"
	"sync"

	"github.com/aptmesh/aptmesh/proto"
)

// offerBatch is how many blobs are offered to a peer in one call. It returns when
// the peer has them, so that a bound in time wastes little.
const offerBatch = 16

// handOff offers every blob that no other live node holds to the node that owns it
// now, the most recently used first, until all are taken or ctx ends.
func (c *Cluster) handOff(ctx context.Context) {
	queues := make(map[string][]proto.ObjectRequest)
	var offered, kept int
	send := func(peer string) {
		wants := queues[peer]
		queues[peer] = nil
		offered += len(wants)
		taken, err := c.mesh.Offer(ctx, peer, wants)
		kept += len(taken)
		if err != nil {
			c.log.Warn("handing off what only this node holds", "to", peer, "error", err)
		}
	}
	for ref := range c.rooms.Store.LastCopies(c.Replicated) {
		peer := c.successor(ref.Digest)
		if peer == "" || ctx.Err() != nil {
			break
		}
		queues[peer] = append(queues[peer], handedOff(ref, c.rooms.Store.Only(ref.Digest), ""))
		if len(queues[peer]) == offerBatch {
			send(peer)
		}
	}
	for peer := range queues {
		if len(queues[peer]) > 0 && ctx.Err() == nil {
			send(peer)
		}
	}
	c.log.Info("handed off the last copies of this node", "offered", offered, "taken", kept, "complete", ctx.Err() == nil)
}

// successor is the node that owns a digest when this one is gone; "" if nobody does.
func (c *Cluster) successor(d proto.Digest) string {
	for _, name := range c.mesh.Owners(d[:], 2) {
		if name != c.name {
			return name
		}
	}
	return ""
}

// takeParallel is how many blobs are taken over from a leaving node at one time.
const takeParallel = 4

// takeOver fetches what a leaving node offers, and returns what is stored now.
func (c *Cluster) takeOver(ctx context.Context, from string, offers []proto.ObjectRequest) []proto.Digest {
	var mu sync.Mutex
	var kept []proto.Digest
	var wg sync.WaitGroup
	places := make(chan struct{}, takeParallel)
	for _, offer := range offers {
		places <- struct{}{}
		wg.Go(func() {
			defer func() { <-places }()
			if !c.rooms.Store.Has(offer.Ref.Digest) && c.drain(ctx, handedOff(offer.Ref, onlyOf(offer), from)) != nil {
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
func (c *Cluster) drain(ctx context.Context, want proto.ObjectRequest) error {
	b, err := c.rooms.Objects.Open(ctx, want)
	if err != nil {
		return err
	}
	defer b.Close()
	_, err = io.Copy(io.Discard, b.Reader())
	return err
}

// handedOff is the want of a blob that a leaving node offers: only peers have it. only are the
// archives through which alone it may be given.
func handedOff(ref proto.Ref, only []string, from string) proto.ObjectRequest {
	var names []proto.Location
	for _, archive := range only {
		names = append(names, proto.Location{Archive: archive, Path: ref.Digest.String()})
	}
	if len(names) == 0 {
		names = []proto.Location{{Archive: proto.HandedOffArchive, Path: ref.Digest.String()}}
	}
	w := proto.ObjectRequest{Ref: ref, Where: proto.WhereOf(names), Class: proto.ClassPrefetch, PeersOnly: true}
	if from != "" {
		w.Holders = []string{from}
	}
	return w
}

// onlyOf is what the offer of another node says of a blob.
func onlyOf(offer proto.ObjectRequest) []string {
	var only []string
	for loc := range offer.Where.All() {
		if loc.Archive != proto.HandedOffArchive {
			only = append(only, loc.Archive)
		}
	}
	return only
}
