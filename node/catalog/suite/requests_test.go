package suite

import (
	"errors"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// served is a leader that holds a root and has asked upstream a moment ago.
func served(t *testing.T, change ...func(*Config)) *rig {
	r := newRig(t, change...)
	r.hold(root("held", 0), Record{Checked: day0, Primary: "one"})
	r.step(MirrorAnswered{Ask: r.ask(1)})
	return r
}

func TestRequestInThePause(t *testing.T) {
	r := served(t)
	r.pass(CheckPause / 2)
	out := r.step(Request{ID: 2})
	no[*AskMirror](r, out)
	if reply := only[Reply](r, out); reply != (Reply{ID: 2}) {
		t.Fatalf("%+v", reply)
	}
	// One who wants a check that begins now waits for the end of the pause.
	out = r.step(Request{ID: 3, Since: true})
	no[*AskMirror](r, out)
	no[Reply](r, out)
	at, ok := r.m.Next()
	if !ok || at != r.at.Mono.Add(CheckPause/2) {
		t.Fatalf("next at %v", at)
	}
	r.pass(CheckPause / 2)
	out = r.step(MirrorAnswered{Ask: only[*AskMirror](r, r.step(Tick{}))})
	if only[Reply](r, out).ID != 3 {
		t.Fatal("another request was answered")
	}
}

func TestRequestsShareACheck(t *testing.T) {
	r := served(t)
	r.pass(interval / 2)
	ask := only[*AskMirror](r, r.step(Request{ID: 2}))
	for id := uint64(3); id < 10; id++ {
		if out := r.step(Request{ID: id}); len(out) != 0 {
			t.Fatalf("request %d: %+v", id, out)
		}
	}
	r.step(Abandoned{ID: 5})
	out := r.step(MirrorAnswered{Ask: ask, Err: proto.ErrNotFound})
	replies := actions[Reply](out)
	if len(replies) != 7 {
		t.Fatalf("%d replies", len(replies))
	}
	for _, reply := range replies {
		if reply.ID == 5 || !errors.Is(reply.Err, proto.ErrNotFound) {
			t.Errorf("%+v", reply)
		}
	}
}

// One who asks during a check that began before gets one of their own, with what they want of it.
func TestRequestSince(t *testing.T) {
	r := served(t)
	r.pass(interval / 2)
	ask := only[*AskMirror](r, r.step(Request{ID: 2}))
	r.pass(time.Second)
	no[*AskMirror](r, r.step(Request{ID: 3, Since: true, Unconditional: true}))
	out := r.step(MirrorAnswered{Ask: ask})
	if only[Reply](r, out).ID != 2 {
		t.Fatal("the check that began before has served the request")
	}
	r.pass(CheckPause)
	if ask = only[*AskMirror](r, r.step(Tick{})); !ask.NoCache || ask.Condition != (Validators{}) {
		t.Fatalf("an unconditional request asks %+v", ask)
	}
	if only[Reply](r, r.step(MirrorAnswered{Ask: ask})).ID != 3 {
		t.Fatal("not answered")
	}
}

// An operator's word is for one check: the next one lets no older root in.
func TestOlderIsForOneCheck(t *testing.T) {
	r := served(t)
	r.pass(2 * CheckPause)
	ask := r.ask(2)
	r.pass(time.Second)
	no[*AskMirror](r, r.step(Request{ID: 3, Since: true, Older: true}))
	out := r.step(MirrorAnswered{Ask: ask, Candidate: from("one", root("old", -1))})
	if reply := only[Reply](r, out); reply.ID != 2 || !isKind(reply.Err, KindOlder) {
		t.Fatalf("%+v", reply)
	}
	r.pass(CheckPause)
	out = r.adopt(r.step(MirrorAnswered{Ask: only[*AskMirror](r, r.step(Tick{})), Candidate: from("one", root("old", -1))}))
	if reply := only[Reply](r, out); reply.ID != 3 || reply.Err != nil {
		t.Fatalf("%+v", reply)
	}
	r.pass(2 * CheckPause)
	out = r.step(MirrorAnswered{Ask: r.ask(4), Candidate: from("one", root("older", -2))})
	if !isKind(only[Reply](r, out).Err, KindOlder) {
		t.Fatal("the operator's word went on")
	}
}

func TestHostsDoNotWaitLong(t *testing.T) {
	r := served(t)
	r.pass(interval)
	r.step(Request{ID: 2})
	r.pass(testConfig().CheckWait + 1)
	out := r.step(Request{ID: 3})
	if reply := only[Reply](r, out); reply != (Reply{ID: 3}) {
		t.Fatalf("%+v", reply)
	}
}

func TestPeersRequests(t *testing.T) {
	t.Run("what is known will do", func(t *testing.T) {
		r := served(t, clustered)
		r.pass(interval * 11 / 10)
		out := r.step(Request{ID: 2, Peer: true})
		if only[Reply](r, out).Err != nil {
			t.Fatal("refused")
		}
	})
	t.Run("what is known is too old", func(t *testing.T) {
		r := served(t, clustered)
		r.pass(interval*11/10 + 1)
		out := r.step(MirrorAnswered{Ask: only[*AskMirror](r, r.step(Request{ID: 2, Peer: true})), Err: proto.ErrNotFound})
		if !errors.Is(only[Reply](r, out).Err, proto.ErrNotFound) {
			t.Fatal("another node is not told what upstream says")
		}
	})
	t.Run("what is known is not fresh", func(t *testing.T) {
		r := served(t, clustered)
		r.pass(2 * CheckPause)
		only[*AskMirror](r, r.step(Request{ID: 2, Peer: true, Fresh: true}))
	})
	t.Run("two nodes that take each other for the leader", func(t *testing.T) {
		r := served(t, clustered)
		r.at.Rank = 1
		r.pass(time.Hour)
		ask := only[*AskLeader](r, r.step(Request{ID: 2, Fresh: true}))
		if !ask.Fresh {
			t.Fatal("the leader is not told that it is urgent")
		}
		out := r.step(Request{ID: 3, Peer: true, Fresh: true})
		if !errors.Is(only[Reply](r, out).Err, ErrAsking) {
			t.Fatal("the two wait for each other")
		}
	})
	t.Run("a node that does not lead asks upstream itself for another", func(t *testing.T) {
		r := served(t, clustered)
		r.at.Rank = 1
		r.pass(time.Hour)
		out := r.step(Request{ID: 3, Peer: true, Fresh: true})
		no[*AskLeader](r, out)
		only[*AskMirror](r, out)
	})
}

// A check that ends in the moment in which it begins answers once.
func TestOneReplyWhereACheckEndsAtOnce(t *testing.T) {
	for _, req := range []Request{{ID: 1}, {ID: 1, Since: true}, {ID: 1, Fresh: true}, {ID: 1, Since: true, Older: true}, {ID: 1, Peer: true}} {
		r := newRig(t, func(c *Config) { c.Offline = true })
		if only[Reply](r, r.step(req)).Err == nil {
			t.Errorf("%+v succeeds offline", req)
		}
		if !r.m.Idle() {
			t.Errorf("%+v still waits", req)
		}
	}
}

// Where Next names a moment, a Tick at that moment changes something, or moves the next moment on. Otherwise
// the driver would spin.
func TestNextIsNoBusyLoop(t *testing.T) {
	begin := map[string]func(t *testing.T) *rig{
		"leader": func(t *testing.T) *rig { r := served(t); r.step(Asked{}); return r },
		"leader, configured": func(t *testing.T) *rig {
			return served(t, func(c *Config) { c.Configured = true })
		},
		"offline": func(t *testing.T) *rig {
			r := newRig(t, func(c *Config) { c.Offline, c.Configured = true, true })
			return r.hold(root("held", 0, func(r *Root) { r.Manifest.ValidUntil = day0.Add(time.Hour) }), Record{})
		},
		"follower": func(t *testing.T) *rig { return follower(t) },
		"follower that only listens": func(t *testing.T) *rig {
			r := follower(t)
			r.pass(48 * time.Hour)
			r.step(announced("leader", r.m.Current(), r.at.Mono))
			return r
		},
		"follower of a liar": func(t *testing.T) *rig {
			r := follower(t)
			open := only[*OpenOffer](r, r.step(announced("liar", root("next", 1), r.at.Mono)))
			r.step(Opened{Open: open, Err: &Fault{"unreachable", proto.ErrNotFound}})
			return r
		},
		"a proof in the pause": func(t *testing.T) *rig {
			r := served(t, clustered, func(c *Config) { c.Unsigned = true })
			r.step(announced("node-2", root("next", 1), r.at.Mono))
			return r
		},
		"somebody waits": func(t *testing.T) *rig { r := served(t); r.step(Request{ID: 9, Since: true}); return r },
		"about to expire": func(t *testing.T) *rig {
			r := newRig(t)
			return r.hold(root("held", 0, func(r *Root) { r.Manifest.ValidUntil = day0.Add(48 * time.Hour) }), Record{})
		},
		"dated ahead, valid for no time": func(t *testing.T) *rig {
			r := newRig(t)
			return r.hold(root("held", 1, func(r *Root) { r.Manifest.ValidUntil = day0 }), Record{})
		},
	}
	for name, begin := range begin {
		t.Run(name, func(t *testing.T) {
			r := begin(t)
			idle := 0
			for range 500 {
				at, ok := r.m.Next()
				if !ok {
					return
				}
				wait := at.Sub(r.at.Mono)
				r.pass(wait)
				out := r.step(Tick{})
				if wait > 0 || len(out) > 0 {
					idle = 0
				} else if idle++; idle > 3 {
					t.Fatalf("Next says now for the %d. time, and nothing happens", idle)
				}
				for _, a := range out {
					switch a := a.(type) {
					case *AskMirror:
						r.step(MirrorAnswered{Ask: a, Err: proto.ErrNotFound})
					case *AskLeader:
						r.step(LeaderAnswered{Ask: a, Err: &proto.PeerFailed{Peer: "leader", Err: errors.New("down")}})
					case *OpenOffer:
						r.step(Opened{Open: a, Err: &Fault{"unreachable", proto.ErrNotFound}})
					}
				}
			}
		})
	}
}
