package peerfetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// redirectedFor is how long a peer that was redirected to other nodes may come back and
// be served.
const redirectedFor = 10 * time.Second

var (
	errBeyondEnd = errors.New("the object ends before the byte that was asked for")
	errLeaving   = errors.New("this node is shutting down")
)

// ServePeer answers what another node, named from, asks of this one: from the store,
// from a flight that upstream feeds, or, where ask.Fill allows it, from a new flight
// that asks no node. A request is never passed on to a third node.
//
// The blob begins at byte ask.Offset: Bytes is the rest of the object, File stands
// at that byte, Stream begins with it. Ref is that of the whole object. A Stream also
// has a method Modified() time.Time, for after its io.EOF. Where the version that
// the requester has of an unlisted object is the one this node would give, the blob is
// NotModified, with the Ref of that version and no body. The blob must be closed; the
// reads of a Stream end with ctx.
//
// Errors: *proto.NotStored where there is nothing to give from here, with the nodes to
// be asked instead; proto.ErrNotFound, proto.ErrCorrupt, *proto.Unavailable and
// *proto.Refused as upstream said. Any other error says nothing about the object.
func (f *Fetcher) ServePeer(ctx context.Context, from string, req proto.PeerRequest) (*proto.Blob, error) {
	blob, result, err := f.servePeer(ctx, from, req)
	var other *proto.NotStored
	switch {
	case err == nil:
	case !errors.As(err, &other):
		result = "failed"
	case other.Busy:
		result = "busy"
	case req.Fill:
		result = "redirected"
	default:
		result = "not_stored"
	}
	f.metrics.servedToPeers.WithLabelValues(result).Inc()
	return blob, err
}

func (f *Fetcher) servePeer(ctx context.Context, from string, req proto.PeerRequest) (blob *proto.Blob, result string, err error) {
	object, err := askedFor(req)
	if err != nil {
		return nil, "", err
	}
	if object.Client != "" {
		object.Client = from + " " + object.Client // clients of two nodes are never the same
	}
	// Twice, for the reason given in Open.
	for round := 0; ; round++ {
		if blob, err := f.stored(&object); err == nil {
			if d, file := blob.Ref.Digest, blob.File; file != nil {
				blob.Failed = func(err error) { f.cfg.Store.Unreadable(d, file, err) }
			}
			return fromStore(blob, req)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return nil, "", fmt.Errorf("read the store: %w", err)
		}
		if blob := f.wasStale(&object); blob != nil {
			return fromStore(blob, req)
		}
		r, result, err := f.followFor(ctx, from, object, req)
		if err != nil {
			if blob := f.staleAfter(&object, err); blob != nil {
				return fromStore(blob, req)
			}
			return nil, "", err
		}
		blob, err := r.open()
		if err == nil {
			return blob, result, nil
		}
		r.Close()
		if !errors.Is(err, errStored) || round > 0 {
			if blob := f.staleAfter(&object, err); blob != nil {
				return fromStore(blob, req)
			}
			return nil, "", err
		}
	}
}

// askedFor checks a PeerRequest and returns what it is about. Hints of the requester's own are
// left out, and so are all names but the first of what nothing proves: one file must
// not come to stand for another on a peer's word.
func askedFor(req proto.PeerRequest) (proto.ObjectRequest, error) {
	object := req.Object
	object.Holders, object.PeersOnly = nil, false
	switch {
	case req.Offset < 0:
		return object, fmt.Errorf("asked for byte %d", req.Offset)
	case object.Provable() && (!object.Where.IsZero() || !req.Fill):
	case object.Where.IsZero():
		return object, errors.New("nothing says where upstream keeps the object")
	default:
		object.Where = proto.At(object.Where.First)
	}
	return object, nil
}

// fromStore moves a stored blob to the byte that was asked for, or answers that the
// requester has it.
func fromStore(blob *proto.Blob, req proto.PeerRequest) (*proto.Blob, string, error) {
	var err error
	switch {
	case !req.Object.Provable() && !req.Have.IsZero() && blob.Ref.Digest == req.Have:
		err = blob.Close()
		blob = &proto.Blob{Ref: blob.Ref, Modified: blob.Modified, Tier: blob.Tier, NotModified: true, Checked: blob.Checked}
		return blob, "not_modified", err
	case req.Offset > blob.Ref.Size:
		err = errBeyondEnd
	case blob.File != nil:
		_, err = blob.File.Seek(req.Offset, io.SeekStart)
	default:
		blob.Bytes = blob.Bytes[req.Offset:]
	}
	if err != nil {
		blob.Close()
		return nil, "", err
	}
	return blob, "stored", nil
}

// followFor returns a reader, for another node, of a flight that upstream feeds,
// and whether that was "followed" or newly "filled".
func (f *Fetcher) followFor(ctx context.Context, from string, object proto.ObjectRequest, req proto.PeerRequest) (r *reader, result string, err error) {
	for {
		var route proto.Route
		if f.cfg.Cluster != nil {
			route = f.cfg.Cluster.Route(object)
		}
		r, undecided, err := f.admit(ctx, &object, route.Self, req.Offset)
		switch {
		case err != nil:
			return nil, "", err
		case r != nil:
			return r, "followed", nil
		case undecided == nil:
			r, err := f.fillFor(ctx, from, object, req, route)
			if r != nil || err != nil {
				return r, "filled", err
			}
			continue // somebody else was quicker
		}
		select {
		case <-undecided:
		case <-ctx.Done():
			return nil, "", context.Cause(ctx)
		}
	}
}

// admit is flight.admit for the flight of k, if there is one.
func (f *Fetcher) admit(ctx context.Context, object *proto.ObjectRequest, self string, offset int64) (*reader, <-chan struct{}, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil, nil, errLeaving
	}
	if fl, ok := f.flights[f.keyOf(*object)]; ok && !fl.outdated() {
		return fl.admit(ctx, self, object, offset)
	}
	return nil, nil, nil
}

// fillFor starts a flight for another node, if it may go upstream and nobody else
// has the object; it returns nothing if there is a flight by now.
func (f *Fetcher) fillFor(ctx context.Context, from string, object proto.ObjectRequest, req proto.PeerRequest, route proto.Route) (*reader, error) {
	k, now := f.keyOf(object), time.Now()
	others := otherHolders(object, route, from)
	switch {
	case !req.Fill:
		return nil, &proto.NotStored{Peer: route.Self, Try: others}
	case len(others) > 0 && !f.redirected.recently(from, k, now):
		// Should none of them have it after all, the requester comes back.
		f.redirected.note(from, k, now)
		return nil, &proto.NotStored{Peer: route.Self, Try: others}
	}
	if err := f.mayAskUpstream(k, object, now); err != nil {
		return nil, f.refuse(forPeer(err))
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil, errLeaving
	}
	if fl, ok := f.flights[k]; ok && !fl.over(req.Offset) && !fl.outdated() {
		return nil, nil
	}
	r, err := f.startLocked(ctx, k, object, true, req.Offset)
	if err != nil {
		return nil, err
	}
	r.peer = true
	return r, nil
}

// forPeer is err as it is sent to another node. A time to wait replaces the details,
// except for a verdict, which is sent beside it.
func forPeer(err error) error {
	var busy *proto.Unavailable
	if !errors.As(err, &busy) || busy.RetryAfter <= 0 {
		return err
	}
	sent := &proto.Unavailable{Reason: busy.Error(), RetryAfter: busy.RetryAfter, Answered: busy.Answered, Wrong: busy.Wrong}
	var verdict *proto.Rejected
	if errors.As(err, &verdict) {
		sent.Err = verdict
	}
	return sent
}

// otherHolders are the nodes, other than the requester and this one, that are believed
// to hold the object.
func otherHolders(object proto.ObjectRequest, route proto.Route, requester string) []string {
	if object.Ref.IsZero() {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(route.Holders), func(peer string) bool {
		return peer == requester || peer == route.Self
	})
}
