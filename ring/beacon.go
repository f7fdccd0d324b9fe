package ring

import (
	"errors"
	"time"
)

// The first byte of what this package sends through memberlist.
const (
	frameMessage byte = 1 // a Broadcast
	frameBeacon  byte = 2
	frameLeft    byte = 3 // nodes that left or were removed
	frameClaim   byte = 4 // a name that two nodes use
)

// silentAfter is after how many beacons that did not arrive a member is silent. By
// then, a minute, memberlist has noticed most nodes that died; and as many packets
// in a row are not lost by chance.
const silentAfter = 12

// beacon says "this is name, and gossip from here reaches you". Each node sends it
// to each other one, since memberlist does not say where UDP is blocked: it finds
// out over TCP that the node lives, keeps it, and gossip silently becomes slow.
//
// It is not broadcast: a broadcast reaches some of the nodes, and by many ways. At
// 50 nodes that is ten packets a second.
//
// Whether two nodes see the same ring is measured by the pings of peerfetch/peers
// (aptmesh_ring_disagreement).
type beacon struct{ name string }

const beaconVersion = 2

// encode returns the frame: type, version, name.
func (b beacon) encode() []byte {
	return append([]byte{frameBeacon, beaconVersion}, b.name...)
}

// decodeBeacon reads what follows the type. It may be anybody's bytes.
func decodeBeacon(b []byte) (beacon, error) {
	if len(b) < 1 || b[0] != beaconVersion || !validName(string(b[1:])) {
		return beacon{}, errors.New("not a beacon")
	}
	return beacon{string(b[1:])}, nil
}

// sendBeacons sends beacons until the end, and logs the nodes whose beacons do not arrive.
func (m *Members) sendBeacons() {
	tick := time.NewTicker(m.cfg.BeaconEvery)
	defer tick.Stop()
	for {
		frame := beacon{m.cfg.Name}.encode()
		for _, n := range m.roster.recipients() {
			// That it could not be sent shows where it does not arrive.
			_ = m.list.SendBestEffort(n, frame)
		}
		stopped, again := m.roster.silenceChanged(m.patience())
		if len(stopped) > 0 {
			m.cfg.Logger.Warn("gossip packets of members do not arrive; news of them spreads slowly: is UDP blocked?", "nodes", stopped)
		}
		if len(again) > 0 {
			m.cfg.Logger.Info("gossip packets of members arrive again", "nodes", again)
		}
		select {
		case <-tick.C:
		case <-m.ctx.Done():
			return
		}
	}
}

// patience is how long beacons may stay away.
func (m *Members) patience() time.Duration { return silentAfter * m.cfg.BeaconEvery }
