package proto

import (
	"encoding/json"
	"io"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestDigest(t *testing.T) {
	d := DigestOf([]byte("x"))
	for _, s := range []string{d.String(), strings.ToUpper(d.String())} {
		if got, err := ParseDigest(s); err != nil || got != d {
			t.Errorf("ParseDigest(%q) = %v, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "00", d.String()[1:], d.String() + "0", strings.Repeat("g", 64)} {
		if _, err := ParseDigest(s); err == nil {
			t.Errorf("ParseDigest(%q) succeeded", s)
		}
	}
	if d.IsZero() || !(Digest{}).IsZero() {
		t.Error("IsZero")
	}
	for _, want := range []Digest{d, {}} {
		b, err := json.Marshal(Ref{want, 3})
		var got Ref
		if err != nil || json.Unmarshal(b, &got) != nil || got != (Ref{want, 3}) {
			t.Errorf("%s became %v", b, got)
		}
	}
	if err := json.Unmarshal([]byte(`{"digest":"zz"}`), new(Ref)); err == nil {
		t.Error("a wrong digest was read")
	}
}

func TestSuite(t *testing.T) {
	for _, tt := range []struct {
		suite    Suite
		name, at string
	}{
		{Suite{Archive: "a", Dir: "dists/noble"}, "a/dists/noble", "dists/noble/root"},
		{Suite{Archive: "a"}, "a/", "root"},
		{Suite{Archive: "a", Dir: "os/x86_64", Name: "core"}, "a/os/x86_64/core", "os/x86_64/root"},
	} {
		if tt.suite.String() != tt.name || tt.suite.At("root") != (Location{"a", tt.at}) {
			t.Errorf("%+v: %s, %v", tt.suite, tt.suite, tt.suite.At("root"))
		}
	}
}

func TestGenerationOrder(t *testing.T) {
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	gen := func(says, bytes string, d time.Duration) Generation {
		return Generation{Statement: DigestOf([]byte(says)), Date: at.Add(d), Root: Ref{DigestOf([]byte(bytes)), 1}}
	}
	signed := func(by string) Generation {
		g := gen("a", "a", 0)
		g.Companions = []Companion{{Name: "sig", Ref: Ref{DigestOf([]byte(by)), 1}, Proof: true}}
		return g
	}
	beside := func(other string) Generation {
		g := gen("a", "a", 0)
		g.Companions = []Companion{{Name: "other form", Ref: Ref{DigestOf([]byte(other)), 1}}}
		return g
	}
	unknown := gen("a", "a", 0)
	unknown.Companions = []Companion{{Name: "sig", Proof: true}}
	held := gen("a", "a", 0)
	for _, tt := range []struct {
		name          string
		held, offered Generation
		want          Order
	}{
		{"the same bytes", held, held, Same},
		{"the same bytes with another date", held, gen("a", "a", time.Hour), Same},
		{"the same statement in other bytes", held, gen("a", "b", 0), Revised},
		{"the same root with another signature beside it", signed("x"), signed("y"), Revised},
		{"the same root with one more signature", held, signed("y"), Revised},
		{"the same root without its signature", signed("y"), held, Same},
		{"the same root beside which another form has changed", beside("x"), beside("y"), Same},
		{"a signature that was not known", unknown, signed("y"), Revised},
		{"known not to be there, which was not known", unknown, held, Revised},
		{"a signature that is not known any more", signed("y"), unknown, Same},
		{"it is not known whether there is a signature now", held, unknown, Same},
		{"it is still not known", unknown, unknown, Same},
		{"newer", held, gen("b", "b", time.Second), Future},
		{"older", held, gen("b", "b", -time.Second), Past},
		{"another statement of the same date", held, gen("b", "b", 0), Fork},
		{"anything, where nothing is held", Generation{}, gen("b", "b", -time.Hour*1e6), Future},
	} {
		if got := tt.held.Compare(tt.offered); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
	other := gen("b", "b", 0)
	if held.ForkWinner(other) == other.ForkWinner(held) {
		t.Error("both sides of a fork win")
	}
	later := gen("a", "b", 0)
	later.Signed = at.Add(time.Second)
	for _, pair := range [][2]Generation{{held, later}, {held, gen("a", "b", 0)}, {signed("x"), signed("y")}, {held, signed("y")}, {unknown, signed("y")}, {unknown, held}} {
		if pair[0].NewerRevision(pair[1]) == pair[1].NewerRevision(pair[0]) {
			t.Errorf("both or none of two revisions are newer: %+v", pair)
		}
	}
	if beside("x").NewerRevision(beside("y")) || beside("y").NewerRevision(beside("x")) {
		t.Error("another form beside a root makes it a newer one")
	}
	if !unknown.NewerRevision(held) || !unknown.NewerRevision(signed("y")) {
		t.Error("what is known is not newer than what is not")
	}
	if !signed("y").Settles(unknown) || held.Settles(unknown) || unknown.Settles(signed("y")) || unknown.Settles(unknown) {
		t.Error("only content settles what is not known")
	}
	if !held.NewerRevision(later) {
		t.Error("the newer signature does not count")
	}
}

func TestWantAndBlob(t *testing.T) {
	if (ObjectRequest{Ref: Ref{Size: 3}}).Provable() {
		t.Error("a size proves nothing")
	}
	if !(ObjectRequest{Ref: Ref{Digest: DigestOf(nil)}}).Provable() || !(ObjectRequest{SHA512: SHA512{1}}).Provable() {
		t.Error("a sum proves")
	}
	b := Blob{Bytes: []byte("hello")}
	if got, err := io.ReadAll(b.Reader()); err != nil || string(got) != "hello" || b.Close() != nil {
		t.Errorf("%q, %v", got, err)
	}
}

// The texts of the kinds are on the wire: a node of another version reads them.
func TestRejectKinds(t *testing.T) {
	var got []string
	for _, k := range RejectKinds() {
		got = append(got, string(k))
		if parsed, ok := ParseRejectKind(string(k)); !ok || parsed != k {
			t.Errorf("%q is not read as itself", k)
		}
	}
	if want := []string{"untrusted", "malformed", "future", "foreign", "corrupt", "loop", "expired"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if _, ok := ParseRejectKind("unheard"); ok {
		t.Error("an unknown kind is taken for one")
	}
}
