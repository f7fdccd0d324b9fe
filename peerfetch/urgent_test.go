package peerfetch

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/aptmesh/aptmesh/proto"
	"github.com/aptmesh/aptmesh/proto/bubble"
)

// What is fetched ahead of clients becomes urgent when one waits for it: at upstream,
// also where another node asks it for us, and for a client of any node.
func TestAheadBecomesUrgent(t *testing.T) {
	for name, c := range map[string]struct {
		ahead, client string // who fetches ahead, and whose client comes
	}{
		"the node itself":         {"a", "a"},
		"by way of the owner":     {"c", "c"},
		"a client of the owner":   {"c", "a"},
		"a client of a third":     {"c", "d"},
		"of whom nobody is first": {"a", "b"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				content := randomBytes(300_000, 54)
				gate := newGated(content)
				var asked []proto.Request
				five := newCluster(t, five, func(_ int, r proto.Request) answer {
					asked = append(asked, r)
					return answer{body: gate, size: int64(len(content))}
				})
				object := wantOf(content)
				var all sync.WaitGroup
				open := func(node string, class proto.Class) {
					all.Go(func() {
						object := object
						object.Class = class
						if _, err := five.nodes[node].expect(content, object); err != nil {
							t.Errorf("%s: %v", node, err)
						}
					})
					synctest.Wait()
				}
				open(c.ahead, proto.ClassPrefetch)
				open("e", proto.ClassPrefetch)
				if len(asked) != 1 || asked[0].ClassNow() != proto.ClassPrefetch {
					t.Fatalf("ahead of clients upstream was asked %d times: %+v", len(asked), asked)
				}
				open(c.client, proto.ClassPackage)
				if len(asked) != 1 || asked[0].ClassNow() != proto.ClassPackage {
					t.Errorf("with a client upstream was asked %d times, the first is of class %s", len(asked), asked[0].ClassNow())
				}
				gate.allow(len(content))
				all.Wait()
				five.check(t)
				five.close()
			})
		})
	}
}

// A question that ends before any client comes leaves nobody behind who waits for one.
func TestAheadOfNobody(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		content := randomBytes(300_000, 55)
		c := newCluster(t, five, serve(content))
		object := wantOf(content)
		object.Class = proto.ClassPrefetch
		if _, err := c.nodes["c"].expect(content, object); err != nil {
			t.Error(err)
		}
		c.check(t)
		blob, err := c.nodes["c"].Open(context.Background(), wantOf(content))
		if err != nil {
			t.Fatal(err)
		}
		blob.Close()
		c.close() // the bubble ends only if all goroutines do
	})
}
