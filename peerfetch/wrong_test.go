package peerfetch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/aptmesh/aptmesh/proto"
	"github.com/aptmesh/aptmesh/proto/bubble"
)

// A peer that gives a whole body of wrong bytes is named, and not asked again.
func TestLyingPeer(t *testing.T) {
	for i, o := range objects()[:3] {
		for _, corruption := range []struct {
			name  string
			fault fault
		}{{"bytes", flips(100)}, {"size", wrongSize}} {
			if o.name == "named" && corruption.name == "size" {
				continue // nobody knows better
			}
			t.Run(o.name+" "+corruption.name, func(t *testing.T) {
				bubble.Test(t, func(t *testing.T) {
					c := newCluster(t, five, o.archive())
					c.nodes["d"].hold(t, o.content)
					c.nodes["e"].hold(t, o.content)
					c.setFault("d", corruption.fault)
					_, err := c.nodes["b"].expect(o.content, o.object)
					seen := i > 0 && corruption.name == "bytes" // a small body is held until it is proven
					if (err != nil) != seen || err != nil && !errors.Is(err, proto.ErrCorrupt) {
						t.Errorf("the first reader ended with %v", err)
					}
					if _, err := c.nodes["b"].expect(o.content, o.object); err != nil {
						t.Errorf("the second reader ended with %v", err)
					}
					if got := c.asked("b"); got != "d e" {
						t.Errorf("asked %q", got)
					}
					if got := c.distrusts("b"); !slices.Equal(got, []string{"d"}) {
						t.Errorf("b distrusts %v", got)
					}
					c.check(t)
					c.close()
				})
			})
		}
	}
}

// Of a wrong body that several sources gave together, nobody is accused; but they are
// left out of the next try.
func TestWrongBodyOfSeveral(t *testing.T) {
	for i, o := range objects()[:2] {
		t.Run(o.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				c := newCluster(t, five, o.archive())
				for _, name := range []string{"c", "d", "e"} {
					c.nodes[name].hold(t, o.content)
				}
				half := int64(len(o.content) / 2)
				c.setFault("c", func(ctx context.Context, a ask, honest func() (*proto.Transfer, error)) (*proto.Transfer, error) {
					return flips(100)(ctx, a, func() (*proto.Transfer, error) { return cuts(half)(ctx, a, honest) })
				})
				if _, err := c.nodes["b"].expect(o.content, o.object); (err != nil) != (i > 0) {
					t.Errorf("the first reader ended with %v", err)
				}
				if _, err := c.nodes["b"].expect(o.content, o.object); err != nil {
					t.Errorf("the second reader ended with %v", err)
				}
				if got, want := c.asked("b"), fmt.Sprintf("c d@%d e", half); got != want {
					t.Errorf("asked %q", got)
				}
				if got := c.distrusts("b"); got != nil {
					t.Errorf("b distrusts %v", got)
				}
				if got := testutil.ToFloat64(c.nodes["b"].metrics.unattributed); got != 1 {
					t.Errorf("%g unattributed", got)
				}
				if c.up.count() != 0 {
					t.Error("it went upstream")
				}
				c.check(t)
				c.close()
			})
		})
	}
}

// The same with upstream as one of them: it is not upstream's budget that pays.
func TestWrongBodyOfAPeerAndUpstream(t *testing.T) {
	for i, o := range objects()[:2] {
		t.Run(o.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				c := newCluster(t, five, o.archive())
				c.nodes["c"].hold(t, o.content)
				half := int64(len(o.content) / 2)
				c.setFault("c", func(ctx context.Context, a ask, honest func() (*proto.Transfer, error)) (*proto.Transfer, error) {
					return flips(100)(ctx, a, func() (*proto.Transfer, error) { return cuts(half)(ctx, a, honest) })
				})
				c.noHealth = true
				if _, err := c.nodes["a"].expect(o.content, o.object); (err != nil) != (i > 0) {
					t.Errorf("the first reader ended with %v", err)
				}
				if _, err := c.nodes["a"].expect(o.content, o.object); err != nil {
					t.Errorf("the second reader ended with %v", err)
				}
				if first, second := c.up.request(0).Offset, c.up.request(1).Offset; first != half || second != 0 {
					t.Errorf("upstream was asked from byte %d, then %d", first, second)
				}
				if got := testutil.ToFloat64(c.nodes["a"].metrics.unattributed); got != 1 || c.distrusts("a") != nil {
					t.Errorf("%g unattributed, a distrusts %v", got, c.distrusts("a"))
				}
				if n := c.nodes["a"].budget.penalties.Len(); n != 0 {
					t.Errorf("%d penalties", n)
				}
				c.check(t)
				c.close()
			})
		})
	}
}

// A flight that begins again while another node follows it stays with upstream.
func TestLentFlightBeginsAgain(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		o := objects()[0]
		gate := newGated(o.content[2500:])
		healthy := o.archive()
		c := newCluster(t, five, func(i int, r proto.Request) answer {
			if i == 0 {
				return answer{body: gate, size: 5000, offset: 2500}
			}
			return healthy(i, r)
		})
		c.nodes["c"].hold(t, o.content)
		c.setFault("c", func(ctx context.Context, a ask, honest func() (*proto.Transfer, error)) (*proto.Transfer, error) {
			return flips(100)(ctx, a, func() (*proto.Transfer, error) { return cuts(2500)(ctx, a, honest) })
		})
		var all sync.WaitGroup
		all.Go(func() {
			if _, err := c.nodes["a"].expect(o.content, o.object); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait() // a waits for the second half
		c.falsely["d"] = true
		all.Go(func() {
			blob, err := c.nodes["a"].ServePeer(context.Background(), "e", proto.PeerRequest{Object: o.object})
			if err != nil {
				t.Error(err)
				return
			}
			defer blob.Close()
			if got := rest(t, blob); !bytes.Equal(got, o.content) {
				t.Errorf("e had %d bytes", len(got))
			}
		})
		synctest.Wait()
		gate.allow(5000)
		all.Wait()
		if got := c.asked("a"); got != "c" || c.up.count() != 2 {
			t.Errorf("a asked %q, %d fetches", got, c.up.count())
		}
		c.check(t)
		c.close()
	})
}

// Answers that no peer should give are of no use, and do no harm.
func TestAnswersThatMakeNoSense(t *testing.T) {
	o := objects()[1]
	for name, nonsense := range map[string]func(*proto.Transfer){
		"no body":                 func(t *proto.Transfer) { t.Body = nil },
		"unchanged, uninvited":    func(t *proto.Transfer) { t.Body, t.NotModified = nil, true },
		"from a later byte on":    func(t *proto.Transfer) { t.Offset = 1 },
		"from an earlier byte on": func(t *proto.Transfer) { t.Offset = -5 },
	} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				c := newCluster(t, five, o.archive())
				c.setFault("a", func(_ context.Context, _ ask, honest func() (*proto.Transfer, error)) (*proto.Transfer, error) {
					tr, err := honest()
					if err == nil {
						body := tr.Body
						if nonsense(tr); tr.Body == nil {
							body.Close()
						}
					}
					return tr, err
				})
				for range 2 { // the second try avoids who gave a wrong body, if it did
					if _, err := c.nodes["e"].expect(o.content, o.object); err == nil {
						break
					} else if !errors.Is(err, proto.ErrCorrupt) {
						t.Error(err)
					}
				}
				c.check(t) // waits for what is committed behind the last byte
				if !c.nodes["e"].store.has(o.object.Ref.Digest) {
					t.Error("it was not had from anybody else")
				}
				c.close()
			})
		})
	}
}
