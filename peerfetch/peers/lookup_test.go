package peers

import (
	"strings"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/proto"
	"github.com/aptmesh/aptmesh/proto/bubble"
)

// What two nodes say of a file is believed, and what only one says is not; those that
// know nothing, do not answer or cannot be reached hold it up for no longer than a second.
func TestLookup(t *testing.T) {
	loc := proto.Location{Archive: "ubuntu", Path: "pool/main/h/hello/hello_2.10_amd64.deb"}
	known := proto.Ref{Digest: proto.DigestOf([]byte("hello")), Size: 5}
	knows := func(got proto.Location) (proto.Ref, bool) { return known, got == loc }
	for name, c := range map[string]struct {
		who      string // those who know
		wrong    string // says something else
		silent   string // does not answer, though it should
		loc      proto.Location
		want     bool
		atMost   time.Duration
		noAnswer string // has no Control
	}{
		"two know":            {who: "cd", loc: loc, want: true, atMost: 3 * oneWay},
		"two know, one hangs": {who: "cd", silent: "b:1", loc: loc, want: true, atMost: 3 * oneWay},
		"two know, one lies":  {who: "cd", wrong: "b", loc: loc, want: true, atMost: 3 * oneWay},
		"one knows":           {who: "c", loc: loc, atMost: 3 * oneWay},
		"one knows, one lies": {who: "c", wrong: "b", loc: loc, atMost: 3 * oneWay},
		"nobody knows":        {loc: loc, atMost: 3 * oneWay},
		"who knows hangs":     {who: "bc", silent: "b:1", loc: loc, atMost: lookupTimeout + 3*oneWay},
		"another file":        {who: "bc", loc: proto.Location{Archive: "ubuntu", Path: "pool/x.deb"}, atMost: 3 * oneWay},
		"no such question":    {who: "bc", loc: proto.Location{Archive: "ubuntu", Path: "pool/../x.deb"}},
		"older nodes":         {who: "cd", noAnswer: "b", loc: loc, want: true, atMost: 3 * oneWay},
	} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				meshes, f := cluster(t, func(node string, cfg *Config) {
					a := &answers{}
					if strings.Contains(c.who, node) {
						a.lookup = knows
					}
					if node == c.wrong {
						a.lookup = func(proto.Location) (proto.Ref, bool) { return proto.Ref{Digest: blob(1), Size: 5}, true }
					}
					if cfg.Control = a; node == c.noAnswer {
						cfg.Control = nil
					}
				}, "a", "b", "c", "d")
				if c.silent != "" {
					f.set(c.silent, hold)
				}
				began := time.Now()
				ref, ok := meshes[0].Lookup(t.Context(), c.loc)
				if ok != c.want || ok && ref != known {
					t.Errorf("%s, %t", ref, ok)
				}
				if took := time.Since(began); took > c.atMost {
					t.Errorf("it took %v", took)
				}
			})
		})
	}
}
