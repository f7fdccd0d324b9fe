package peerfetch

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// wrong is the error for what upstream lists otherwise. Of a peer it says only that
// this peer is of no use.
func (o byteSource) wrong(err error) error {
	if o.peer != "" {
		return &proto.PeerFailed{Peer: o.peer, Err: err}
	}
	return err
}

// broke classifies a failed read: a temporary failure of upstream, or the failure of a peer.
func (o byteSource) broke(err error) error {
	if v := verdictOf(err); v.ofUpstream() {
		return err
	}
	if o.peer == "" {
		return &proto.Unavailable{Reason: "the transfer of " + o.loc.String() + " broke", Err: err}
	}
	if errors.As(err, new(*proto.PeerFailed)) {
		return err
	}
	return &proto.PeerFailed{Peer: o.peer, Err: err}
}

// short is the error for a body that ended before its end.
func (o byteSource) short(got, size int64) error {
	err := &proto.Unavailable{Reason: fmt.Sprintf("the body ended after %d of %d bytes", got, size)}
	if o.peer != "" {
		return &proto.PeerFailed{Peer: o.peer, Err: errors.New(err.Reason)}
	}
	return err
}

// otherSize judges a source that gives the object another length than it has as
// far as we know.
func (fl *flight) otherSize(from byteSource, claimed, size int64) error {
	err := fmt.Errorf("%w: %s is %d bytes long there, listed with %d (mirror sync in progress?)", proto.ErrCorrupt, from, claimed, size)
	unlisted := !fl.object.Accepts(claimed)
	if unlisted && size == proto.UnknownSize {
		err = fmt.Errorf("%w: %s is %d bytes long there, which no listing has (mirror sync in progress?)", proto.ErrCorrupt, from, claimed)
	}
	found := fl.ledger.ofSize(from, unlisted)
	if unlisted && from.peer != "" {
		fl.distrust(from.peer, "wrong_size", err)
		return from.wrong(err)
	}
	if found.certain() && from.peer != "" {
		return from.wrong(err) // upstream, or a signature, says otherwise
	}
	return fl.blame(err, found)
}

// tooLong judges a source that does not stop at the end of the object.
func (fl *flight) tooLong(from byteSource, size int64) error {
	err := fmt.Errorf("%w: more than the listed %d bytes arrived from %s", proto.ErrCorrupt, size, from)
	switch {
	case fl.ledger.contradicts(from):
		return fl.blame(err, finding{by: []byteSource{fl.ledger.sizeFrom, from}, whole: true})
	case from.peer != "":
		return fl.blame(err, fl.ledger.ofBytes())
	}
	return fl.blame(err, finding{by: []byteSource{from}, whole: true})
}

// prove compares what arrived with what was wanted, and gives out the last byte.
func (fl *flight) prove() error {
	got := fl.body.sum()
	if !fl.proves(got.Digest) {
		var sources []string
		for _, from := range fl.ledger.gave {
			sources = append(sources, from.String())
		}
		err := fmt.Errorf("%w: %s (from %s) has SHA-256 %s, listed with %s",
			proto.ErrCorrupt, fl.object.Where.First, strings.Join(sources, ", "), got.Digest, fl.listed())
		return fl.blame(err, fl.ledger.ofBytes())
	}
	fl.mu.Lock()
	fl.proven = true
	fl.size, fl.written, fl.digest = got.Size, got.Size, got.Digest
	fl.wakeLocked()
	fl.mu.Unlock()
	return nil
}

// blame handles wrong content that one of the sources in found caused. It returns the error that
// ends the attempt. If nodes are among the sources, the flight starts again without them; a node
// that gave all bytes is reported. Mirrors are reported to upstream.
func (fl *flight) blame(err error, found finding) error {
	if slices.Contains(found.by, byteSource{partial: true}) {
		return fl.mistrust(err)
	}
	if !found.beyondUpstream() {
		fl.ledger.tainted = fl.ledger.tainted || found.whole
		if archives := fl.ledger.archives(); found.whole && len(archives) > 1 {
			fl.f.apart.note(archives)
			fl.f.metrics.unattributed.Inc()
			fl.f.cfg.Logger.Warn("one of several archives gave wrong content", "sources", found.by, "error", err)
			return fl.restart(&proto.Unavailable{Answered: true, Wrong: true, Err: err, Reason: fmt.Sprintf(
				"of %s one gave wrong bytes of it, and some had been passed on: the next request is served by one archive alone", strings.Join(archives, " and "))})
		}
		return fl.blameMirrors(err, found.by)
	}
	if found.certain() && found.by[0].peer != "" {
		if !found.whole {
			return found.by[0].wrong(err)
		}
		fl.distrust(found.by[0].peer, "wrong_bytes", err)
		return fl.restart(err)
	}
	fl.f.metrics.unattributed.Inc()
	for _, peer := range found.nodes() {
		fl.exclude(peer)
	}
	fl.f.cfg.Logger.Warn("wrong content from one of several sources",
		"location", fl.object.Where.First.String(), "sources", found.by, "error", err)
	return fl.restart(err)
}

// restart begins again with the first byte, or ends the flight if readers already got
// bytes that cannot be right.
func (fl *flight) restart(err error) error {
	if fl.startOver() {
		return &judged{verdict: discarded, err: err}
	}
	return &judged{verdict: hopeless, err: err}
}

// blameMirrors deals with wrong content that upstream gave: one mirror lied, or one of
// several did and nobody can say which.
func (fl *flight) blameMirrors(err error, from []byteSource) error {
	if !fl.object.Provable() || fl.object.Hearsay {
		return err // another version is no lie
	}
	var names []string
	var at []proto.Location
	for _, o := range from {
		if o.mirror != "" && !slices.Contains(names, o.mirror) {
			names = append(names, o.mirror)
		}
		if !slices.Contains(at, o.loc) {
			at = append(at, o.loc)
		}
	}
	if len(names) == 0 {
		return err
	}
	what := "a mirror gave wrong content"
	if len(names) == 1 {
		fl.f.metrics.mirrorCorrupt.Inc()
		for _, loc := range at {
			fl.ledger.corruptSources[byteSource{mirror: names[0], loc: loc}] = true
		}
	} else {
		what = "one of several mirrors gave wrong content"
		fl.f.metrics.unattributed.Inc()
	}
	fl.f.cfg.Logger.Warn(what, "mirrors", strings.Join(names, " "), "location", at[0].String(), "error", err)
	for _, loc := range at {
		fl.f.cfg.Upstream.Blame(loc, names, err)
	}
	return &judged{verdict: corrupt, err: err, culprits: names}
}

// distrust reports a peer that sent what cannot be true.
func (fl *flight) distrust(peer, reason string, err error) {
	fl.f.metrics.peerFailures.WithLabelValues(reason).Inc()
	fl.f.cfg.Logger.Warn("a node sent what cannot be true", "node", peer, "location", fl.object.Where.First.String(), "error", err)
	fl.exclude(peer)
	fl.f.cfg.Cluster.Distrust(peer, err)
}

// exclude keeps a peer from being asked for this object, by this flight and for some
// time by others.
func (fl *flight) exclude(peer string) {
	fl.route.abandon(peer)
	fl.f.excluded.note(peer, fl.key, time.Now())
}

// setMirror notes for status which mirror feeds the flight.
func (fl *flight) setMirror(mirror string) {
	fl.mu.Lock()
	fl.mirror = mirror
	fl.mu.Unlock()
}
