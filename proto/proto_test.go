package proto

import (
	"encoding/json"
	"io"
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
		dir, base, inRelease string
		flat                 bool
	}{
		{"dists/noble", "", "dists/noble/InRelease", false},
		{"dists/jessie/updates", "", "dists/jessie/updates/InRelease", false},
		{"owner/ppa/ubuntu/dists/noble", "owner/ppa/ubuntu", "owner/ppa/ubuntu/dists/noble/InRelease", false},
		{"", "", "InRelease", true},
		{"tools/stable", "tools/stable", "tools/stable/InRelease", true},
		{"distsx", "distsx", "distsx/InRelease", true},
	} {
		s := Suite{"a", tt.dir}
		if s.Base() != tt.base || s.Flat() != tt.flat || s.At("InRelease") != (Location{"a", tt.inRelease}) {
			t.Errorf("%q: base %q, flat %v, %v", tt.dir, s.Base(), s.Flat(), s.At("InRelease"))
		}
	}
}

func TestGenerationOrder(t *testing.T) {
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	gen := func(name string, d time.Duration) Generation {
		return Generation{Date: at.Add(d), Root: Ref{DigestOf([]byte(name)), 1}}
	}
	held := gen("a", 0)
	for _, tt := range []struct {
		name    string
		offered Generation
		want    Order
	}{
		{"the same root", held, Same},
		{"the same root with another date", gen("a", time.Hour), Same},
		{"newer", gen("b", time.Second), Future},
		{"older", gen("b", -time.Second), Past},
		{"another root of the same date", gen("b", 0), Fork},
	} {
		if got := held.Compare(tt.offered); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
	if got := (Generation{}).Compare(gen("a", -time.Hour*1e6)); got != Future {
		t.Errorf("anything is newer than nothing: %s", got)
	}
	other := gen("b", 0)
	if held.ForkWinner(other) == other.ForkWinner(held) {
		t.Error("both sides of a fork win")
	}
}

func TestWantAndBlob(t *testing.T) {
	if (Want{Ref: Ref{Size: 3}}).Provable() {
		t.Error("a size proves nothing")
	}
	if !(Want{Ref: Ref{Digest: DigestOf(nil)}}).Provable() || !(Want{SHA512: SHA512{1}}).Provable() {
		t.Error("a sum proves")
	}
	b := Blob{Bytes: []byte("hello")}
	if got, err := io.ReadAll(b.Reader()); err != nil || string(got) != "hello" || b.Close() != nil {
		t.Errorf("%q, %v", got, err)
	}
}
