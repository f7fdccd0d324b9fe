package peers

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/proto"
	"github.com/aptmesh/aptmesh/proto/bubble"
)

// What two nodes tell each other of snapshots arrives as it was said, in both directions.
func TestSnapshotsAreExchanged(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		meshes, _ := cluster(t, func(node string, cfg *Config) {
			cfg.Control = &answers{snapshots: func(from string, told proto.SnapshotNews) (proto.SnapshotNews, error) {
				if string(told.Names) == "bad" {
					return proto.SnapshotNews{}, errors.New("it makes no sense")
				}
				return proto.SnapshotNews{Names: fmt.Append(nil, from, " told ", node, " ", string(told.Names)), Away: told.Away, Wanted: told.Wanted, Records: told.Records}, nil
			}}
		}, "a", "b")
		told := proto.SnapshotNews{Names: []byte("names"), Away: proto.WasOff, Wanted: []string{"x", "y"}, Records: [][]byte{[]byte("one"), []byte("two")}}
		got, err := meshes[0].Snapshots(t.Context(), "b", told)
		if err != nil || string(got.Names) != "a told b names" || got.Away != proto.WasOff || !slices.Equal(got.Wanted, told.Wanted) || len(got.Records) != 2 || string(got.Records[1]) != "two" {
			t.Errorf("%+v, %v", got, err)
		}
		if _, err := meshes[0].Snapshots(t.Context(), "b", proto.SnapshotNews{Names: []byte("bad")}); err == nil {
			t.Error("what makes no sense is taken")
		}
		if alive, silent := meshes[0].Nodes(); !slices.Equal(alive, []string{"b"}) || len(silent) > 0 {
			t.Errorf("alive are %v, silent %v", alive, silent)
		}
	})
}

// A node hears within two pings that another one knows other names; of one that knows the same it hears nothing.
func TestDifferentSnapshotsAreNoticed(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		told := make(map[string]int)
		cluster(t, func(node string, cfg *Config) {
			sums := map[string]uint64{"a": 1, "b": 1, "c": 2, "d": 0}
			cfg.Control = &answers{sum: sums[node], differ: func(other string) {
				mu.Lock()
				defer mu.Unlock()
				told[node+other]++
			}}
		}, "a", "b", "c", "d")
		time.Sleep(3 * time.Second)
		mu.Lock()
		defer mu.Unlock()
		for _, pair := range []string{"ac", "bc", "ca", "cb"} {
			if told[pair] == 0 {
				t.Errorf("%s: not noticed", pair)
			}
		}
		for _, pair := range []string{"ab", "ba", "ad", "da", "cd"} {
			if told[pair] > 0 {
				t.Errorf("%s: noticed, and there is nothing", pair)
			}
		}
	})
}

// What a node has another one do for a mirror, and what that says of it.
func TestMirrorsOfOtherNodes(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		meshes, _ := cluster(t, func(_ string, cfg *Config) { cfg.Control = &answers{} }, "a", "b")
		if got, err := meshes[0].Mirror(t.Context(), "b", "m", "run"); err != nil || string(got) != "run" {
			t.Errorf("%q, %v", got, err)
		}
		if _, err := meshes[0].Mirror(t.Context(), "b", "other", "run"); err == nil || !strings.Contains(err.Error(), "there is no such mirror") {
			t.Errorf("%v", err)
		}
		if _, err := meshes[0].Mirror(t.Context(), "c", "m", "run"); err == nil {
			t.Error("a node that is not there has answered")
		}
	})
}
