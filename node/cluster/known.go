package cluster

import (
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"slices"

	"github.com/aptmesh/aptmesh/ring"
)

// State keeps small files durably.
type State interface {
	WriteFile(name string, data []byte) error
	ReadFile(name string) ([]byte, error) // fs.ErrNotExist where there is none
}

// knownFile is where the other nodes are kept in the state directory.
const knownFile = "cluster/nodes"

// knownNodes keeps the other nodes of the cluster over a restart. Without it a node
// that dies while this one is down would be missed by nobody after a while.
type knownNodes struct {
	state State
	log   *slog.Logger
	last  []ring.Missing // as written; of the goroutine that calls write
}

func (k *knownNodes) read() []ring.Missing {
	b, err := k.state.ReadFile(knownFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var known []ring.Missing
	if err == nil {
		err = json.Unmarshal(b, &known)
	}
	if err != nil {
		k.log.Warn("the list of this cluster's nodes could not be read; the others tell it", "error", err)
	}
	return known
}

// write keeps the nodes, unless only the time has changed since the last call.
func (k *knownNodes) write(known []ring.Missing) {
	same := func(a, b ring.Missing) bool {
		return a.Name == b.Name && a.Address == b.Address && a.Datacenter == b.Datacenter && a.Left.Equal(b.Left)
	}
	if slices.EqualFunc(known, k.last, same) {
		return
	}
	b, err := json.Marshal(known)
	if err == nil {
		err = k.state.WriteFile(knownFile, b)
	}
	if err != nil {
		k.log.Warn("the list of this cluster's nodes could not be kept", "error", err)
		return
	}
	k.last = known
}
