package suite

import (
	"crypto/sha256"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// rig drives one machine by hand: it owns the two clocks, and nothing happens beside it.
type rig struct {
	testing.TB
	m  *Machine
	at At
}

// day0 is the wall time at which a rig begins.
var day0 = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

const interval = time.Minute

func testConfig() Config {
	return Config{
		ID: proto.Suite{Archive: "debian", Dir: "dists/stable"}, Interval: interval, CheckWait: 10 * time.Second, Patience: time.Hour,
		MaxFuture: 10 * time.Second, IdleAfter: 24 * time.Hour, RenewEvery: time.Hour, WarnBefore: 24 * time.Hour,
		ServeExpired: ServeExpired{48 * time.Hour, 6 * time.Hour, "serve", "serve_security"},
		Judge:        &namesJudge{}, Rand: func() float64 { return 0.5 },
	}
}

func newRig(t testing.TB, change ...func(*Config)) *rig {
	cfg := testConfig()
	for _, f := range change {
		f(&cfg)
	}
	return &rig{t, New(cfg), At{Mono: Mono(time.Hour), Wall: day0, Mirrors: []string{"one"}}}
}

// hold gives the machine a root, as a restart does.
func (r *rig) hold(root *Root, record Record) *rig {
	r.Helper()
	if record.Floor.IsZero() {
		record.Floor = root.Gen.Date
	}
	r.m.Restore(r.at, root, record, Never)
	return r
}

func (r *rig) step(e Event) []Action { return r.m.Step(r.at, e) }

// pass lets both clocks go on.
func (r *rig) pass(d time.Duration) { r.at.Mono, r.at.Wall = r.at.Mono.Add(d), r.at.Wall.Add(d) }

// actions picks those of one kind.
func actions[T Action](all []Action) (kind []T) {
	for _, a := range all {
		if of, ok := a.(T); ok {
			kind = append(kind, of)
		}
	}
	return kind
}

// only is the one action of its kind.
func only[T Action](r *rig, all []Action) T {
	r.Helper()
	kind := actions[T](all)
	if len(kind) != 1 {
		r.Fatalf("%d actions of type %T in %#v, want 1", len(kind), *new(T), all)
	}
	return kind[0]
}

// no is that there is no action of a kind.
func no[T Action](r *rig, all []Action) {
	r.Helper()
	if kind := actions[T](all); len(kind) != 0 {
		r.Fatalf("unexpected %T: %+v", *new(T), kind)
	}
}

// adopt carries out what takes a candidate from Stage to Commit.
func (r *rig) adopt(all []Action) []Action {
	r.Helper()
	staged := r.step(Staged{Stage: only[*Stage](r, all)})
	return r.step(Committed{Commit: only[*Commit](r, staged)})
}

// ask begins a check by somebody who wants one to begin now, and returns the question to upstream.
func (r *rig) ask(id uint64) *AskMirror {
	r.Helper()
	return only[*AskMirror](r, r.step(Request{ID: id, Since: true, Fresh: true}))
}

func digestOf(s string) proto.Digest { return proto.Digest(sha256.Sum256([]byte(s))) }

func refOf(s string) proto.Ref { return proto.Ref{Digest: digestOf(s), Size: int64(len(s))} }

var stableNames = proto.Names{Origin: "Debian", Suite: "stable", Codename: "trixie"}

// root is a signed root with this text, published days after day0.
func root(text string, days int, change ...func(*Root)) *Root {
	date := day0.AddDate(0, 0, days)
	made := &Root{
		Gen:      proto.Generation{Suite: testConfig().ID, Statement: digestOf(text), Date: date, Signed: date, RootName: "InRelease", Root: refOf(text)},
		Manifest: &proto.Manifest{Statement: digestOf(text), Date: date, Signed: date, Proven: true, Names: stableNames},
	}
	for _, f := range change {
		f(made)
	}
	return made
}

// named makes a root call its suite so.
func named(suite string) func(*Root) {
	return func(r *Root) { r.Manifest.Names.Suite = suite }
}

// resigned is the same text in other bytes.
func resigned(bytes string, after time.Duration) func(*Root) {
	return func(r *Root) {
		r.Gen.Root, r.Gen.Signed = refOf(bytes), r.Gen.Signed.Add(after)
	}
}

// from is a root that a mirror gives.
func from(mirror string, r *Root) *Candidate {
	return &Candidate{Root: *r, Mirror: mirror, Validators: Validators{Name: r.Gen.RootName, Root: r.Gen.Root, Statement: r.Gen.Statement}}
}

// byNode is a root that a node offers.
func byNode(r *Root) *Candidate { return &Candidate{Root: *r, From: []string{"node-2"}} }

// announced is what a node says of the root that it holds.
func announced(node string, r *Root, checked Mono) Received {
	return Received{From: node, Ann: proto.Announcement{Generation: r.Gen}, Checked: checked}
}

// namesJudge compares names by a simple rule of its own: "stable" is this suite, "other" is another, and
// whatever else there is, nobody knows.
type namesJudge struct {
	inOtherSuite map[proto.Digest]bool
}

func (j *namesJudge) Belongs(current *proto.Names, offered *proto.Manifest) proto.Belonging {
	switch {
	case offered.Names.Suite == "other":
		return proto.BelongsNo
	case current == nil && offered.Names.Suite == stableNames.Suite, current != nil && *current == offered.Names:
		return proto.BelongsYes
	}
	return proto.BelongsUnsure
}

func (j *namesJudge) InOtherSuite(statement proto.Digest) bool { return j.inOtherSuite[statement] }

func clustered(c *Config) { c.Clustered = true }
