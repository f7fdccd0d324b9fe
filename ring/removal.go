package ring

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"time"
)

var (
	// ErrPresent means that a node to be removed takes part in the gossip.
	ErrPresent = errors.New("the node is a member of the cluster")
	// ErrUnknown means that no node of that name is missing.
	ErrUnknown = errors.New("no node of that name is missing")
)

// Remove makes all nodes forget a missing node: at once by gossip, and by the next full
// exchange where a node misses the gossip. When it returns, this node's view is without it.
func (m *Members) Remove(name string) error {
	if err := m.roster.forget(name); err != nil {
		return err
	}
	m.spreadLeft()
	m.changedNow()
	m.cfg.Logger.Warn("a missing node was removed from the cluster", "node", name)
	return nil
}

// Known returns the other nodes, for Config.Known of a later process.
func (m *Members) Known() []Missing { return m.roster.known() }

// spreadLeft gossips the departures that fit into a packet; a full exchange
// carries all.
func (m *Members) spreadLeft() {
	all := m.roster.goneNodes()
	for len(all) > 0 {
		frame := append([]byte{frameLeft}, encodeLeft(all)...)
		if len(frame) <= MaxMessage {
			m.broadcasts.QueueBroadcast(broadcast(frame))
			m.broadcasts.Prune(maxBroadcasts)
			return
		}
		oldest, first := "", time.Time{}
		for name, at := range all {
			if oldest == "" || at.Before(first) {
				oldest, first = name, at
			}
		}
		delete(all, oldest)
	}
}

// receiveLeft accepts what another node knows of departures, and passes on what was new.
func (m *Members) receiveLeft(b []byte) {
	gone, err := decodeLeft(b)
	if err != nil {
		return
	}
	if added := m.roster.learn(gone); len(added) > 0 {
		m.cfg.Logger.Info("nodes have left or were removed, and are not looked for any more", "nodes", added)
		m.changed()
		m.spreadLeft()
	}
}

func encodeLeft(gone map[string]time.Time) []byte {
	seconds := make(map[string]int64, len(gone))
	for name, at := range gone {
		seconds[name] = at.Unix()
	}
	b, _ := json.Marshal(seconds) // a map of strings to numbers
	return b
}

// decodeLeft reads what encodeLeft wrote. It may be anybody's bytes.
func decodeLeft(b []byte) (map[string]time.Time, error) {
	var seconds map[string]int64
	if err := json.Unmarshal(b, &seconds); err != nil {
		return nil, err
	}
	if len(seconds) > maxMissing {
		return nil, errors.New("too many departures")
	}
	gone := make(map[string]time.Time, len(seconds))
	for name, at := range seconds {
		gone[name] = time.Unix(at, 0)
	}
	return gone, nil
}

// A full exchange carries the departures, after their length, and then the state.
func joinState(goneNodes, state []byte) []byte {
	b := binary.AppendUvarint(nil, uint64(len(goneNodes)))
	return append(append(b, goneNodes...), state...)
}

func splitState(b []byte) (goneNodes, state []byte, err error) {
	n, size := binary.Uvarint(b)
	if size <= 0 || n > uint64(len(b)-size) {
		return nil, nil, errors.New("not a state")
	}
	return b[size : size+int(n)], b[size+int(n):], nil
}
