package peers

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// The first node that knows what lists a file answers for all; those that know
// nothing, do not answer or cannot be reached hold it up for no longer than a second.
func TestLookup(t *testing.T) {
	loc := proto.Location{Archive: "ubuntu", Path: "pool/main/h/hello/hello_2.10_amd64.deb"}
	known := proto.Ref{Digest: proto.DigestOf([]byte("hello")), Size: 5}
	knows := func(got proto.Location) (proto.Ref, bool) { return known, got == loc }
	for name, c := range map[string]struct {
		who      string // knows
		silent   string // does not answer, though it should
		loc      proto.Location
		want     bool
		atMost   time.Duration
		noAnswer string // has no Control
	}{
		"one knows":            {who: "c", loc: loc, want: true, atMost: 3 * oneWay},
		"one knows, one hangs": {who: "c", silent: "b:1", loc: loc, want: true, atMost: 3 * oneWay},
		"nobody knows":         {loc: loc, atMost: 3 * oneWay},
		"who knows hangs":      {who: "b", silent: "b:1", loc: loc, atMost: lookupTimeout + 3*oneWay},
		"another file":         {who: "b", loc: proto.Location{Archive: "ubuntu", Path: "pool/x.deb"}, atMost: 3 * oneWay},
		"no such question":     {who: "b", loc: proto.Location{Archive: "ubuntu", Path: "pool/../x.deb"}},
		"older nodes":          {who: "c", noAnswer: "b", loc: loc, want: true, atMost: 3 * oneWay},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				meshes, f := cluster(t, func(node string, cfg *Config) {
					a := &answers{}
					if node == c.who {
						a.lookup = knows
					}
					if cfg.Control = a; node == c.noAnswer {
						cfg.Control = nil
					}
				}, "a", "b", "c")
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
