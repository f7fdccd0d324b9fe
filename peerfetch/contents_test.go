package peerfetch

import (
	"bytes"
	"context"
	"crypto/sha512"
	"errors"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// either is an ObjectRequest for which all contents are right, the first one preferred.
func either(contents ...[]byte) proto.ObjectRequest {
	w := wantOf(contents[0])
	for _, c := range contents[1:] {
		w.Others = append(w.Others, proto.Ref{Digest: proto.DigestOf(c), Size: int64(len(c))})
	}
	return w
}

// at answers from one mirror.
func at(mirror string, content []byte, r proto.Request) answer {
	return answer{from: mirror, body: bytes.NewReader(content[r.Offset:]), size: int64(len(content)), offset: r.Offset, etag: `"` + mirror + `"`}
}

// brokenAt answers from one mirror, and breaks off at byte end.
func brokenAt(mirror string, content []byte, r proto.Request, end int) answer {
	a := at(mirror, content, r)
	a.body = breakOff(content[r.Offset:end], errBroken)
	return a
}

func TestOneOfSeveralContents(t *testing.T) {
	type script = func(int, proto.Request) answer
	small, small2, sized := randomBytes(20_000, 1), randomBytes(30_000, 2), randomBytes(20_000, 3)
	large, large2, twin := randomBytes(300_000, 4), randomBytes(200_000, 5), randomBytes(300_000, 6)
	unknown := func(content []byte) script {
		return func(_ int, r proto.Request) answer {
			a := at("m1", content, r)
			a.size = proto.UnknownSize
			return a
		}
	}
	bySHA512 := func(content []byte, others ...[]byte) proto.ObjectRequest {
		w := either(append([][]byte{content}, others...)...)
		w.SHA512 = sha512.Sum512(content)
		w.Ref.Digest = proto.Digest{}
		return w
	}
	byHash := either(large, large2)
	byHash.Others[0].Size = proto.UnknownSize
	for name, tt := range map[string]struct {
		object proto.ObjectRequest
		script script
		got    []byte // nil: it must fail as corrupt
		blamed []string
	}{
		"upstream has the first":            {object: either(small, small2), script: serve(small), got: small},
		"upstream has the second":           {object: either(small, small2), script: serve(small2), got: small2},
		"the second, large":                 {object: either(large, large2), script: serve(large2), got: large2},
		"the second, of the same length":    {object: either(large, twin), script: serve(twin), got: twin},
		"the third":                         {object: either(small, sized, small2), script: serve(small2), got: small2},
		"the second, its size not told":     {object: either(large, large2), script: unknown(large2), got: large2},
		"the second, its size not listed":   {object: byHash, script: serve(large2), got: large2},
		"the second beside a SHA-512":       {object: bySHA512(small, small2), script: serve(small2), got: small2},
		"the first by its SHA-512":          {object: bySHA512(small, small2), script: serve(small), got: small},
		"none, of a listed length":          {object: either(small, small2), script: func(_ int, r proto.Request) answer { return at("m1", sized, r) }, blamed: []string{"m1"}},
		"none, of another length":           {object: either(large, large2), script: func(_ int, r proto.Request) answer { return at("m1", small, r) }, blamed: []string{"m1"}},
		"none, its size not told, too long": {object: either(small, small2), script: unknown(large), blamed: []string{"m1"}},
		"a mirror with the other one, before anybody has had a byte": {
			object: either(small, small2),
			script: func(i int, r proto.Request) answer {
				if i == 0 {
					return brokenAt("m1", small, r, 10_000)
				}
				a := at("m2", small2, r)
				return a
			},
			got: small2,
		},
		"a mirror with the other one, when clients have had bytes": {
			object: either(large, large2),
			script: func(i int, r proto.Request) answer {
				switch i {
				case 0:
					return brokenAt("m1", large, r, 100_000)
				case 1:
					return at("m2", large2, r)
				}
				return at("m1", large, r)
			},
			got: large,
		},
		"the length does not tell, and the beginning is one mirror's": {
			object: either(large, twin),
			script: func(i int, r proto.Request) answer {
				switch {
				case i == 0:
					return brokenAt("m1", twin, r, 100_000)
				case r.Mirror == "m1" && r.IfRange == `"m1"`:
					return at("m1", twin, r)
				}
				return at("m2", large, r)
			},
			got: twin,
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, tt.script)
			w.up.mirrors = []string{"m1", "m2"}
			if tt.got == nil {
				w.up.mirrors = []string{"m1"}
			}
			blob, err := w.Open(context.Background(), tt.object)
			var got []byte
			if err == nil {
				got, err = io.ReadAll(blob.Reader())
				blob.Close()
			}
			w.settled(t)
			if blames := w.up.blames(); tt.got != nil && len(blames) > 0 || !slices.Equal(slices.Compact(blames), tt.blamed) {
				t.Errorf("blamed: %q, want %q", blames, tt.blamed)
			}
			w.checkStore(t)
			if tt.got == nil {
				if !errors.Is(err, proto.ErrCorrupt) {
					t.Errorf("%d bytes, %v", len(got), err)
				}
				return
			}
			if err != nil || !bytes.Equal(got, tt.got) {
				t.Fatalf("%d bytes, %v, after %d requests", len(got), err, w.up.count())
			}
			digest := proto.DigestOf(tt.got)
			if d := blob.Ref.Digest; d != digest && !d.IsZero() || blob.Ref.Size != int64(len(got)) && blob.Ref.Size != proto.UnknownSize {
				t.Errorf("the blob said %v, it was %s", blob.Ref, digest.Short())
			}
			if len(got) <= 64<<10 && blob.Ref.Digest != digest {
				t.Errorf("proven bytes were given as %v", blob.Ref)
			}
			if !w.store.has(digest) {
				t.Error("not stored under its digest")
			}
		})
	}
}

// What the store holds of several right contents is served, the preferred one first, and upstream
// is asked only where it holds none.
func TestStoredOfSeveralContents(t *testing.T) {
	a, b, c := randomBytes(1000, 1), randomBytes(1100, 2), randomBytes(1200, 3)
	for name, tt := range map[string]struct {
		held   [][]byte
		object proto.ObjectRequest
		got    []byte
	}{
		"the first":    {[][]byte{a, c}, either(a, b), a},
		"the second":   {[][]byte{b, c}, either(a, b), b},
		"both":         {[][]byte{a, b}, either(b, a), b},
		"neither":      {[][]byte{c}, either(a, b), a}, // which upstream has
		"the empty":    {nil, either(nil, a), a},       // is here always, and upstream has another one
		"an empty one": {nil, either(b, nil, a), a},
	} {
		w := newWorld(t, serve(a))
		for _, content := range tt.held {
			w.put(t, content)
		}
		if got := w.mustRead(t, tt.object); !bytes.Equal(got, tt.got) {
			t.Errorf("%s: got %d bytes, want %d", name, len(got), len(tt.got))
		}
		if asked := w.up.count() > 0; asked != (name == "neither" || name == "the empty" || name == "an empty one") {
			t.Errorf("%s: upstream was asked %d times", name, w.up.count())
		}
	}
}

// put stores a content.
func (w *world) put(t *testing.T, content []byte) {
	t.Helper()
	to, err := w.store.Create(int64(len(content)))
	if err == nil {
		_, err = to.Write(content)
	}
	if err == nil {
		_, err = to.Commit(time.Time{})
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Readers that take other sets of contents never get what they do not take, and those that take the
// same set share a flight, in whichever order they prefer its members.
func TestReadersOfOtherContents(t *testing.T) {
	a, b := randomBytes(300_000, 1), randomBytes(200_000, 2)
	gates := make(chan *gated, 8)
	w := newWorld(t, func(_ int, r proto.Request) answer {
		g := newGated(b[r.Offset:])
		gates <- g
		return answer{body: g, size: int64(len(b)), offset: r.Offset, from: "m1"}
	})
	read := func(object proto.ObjectRequest) chan []byte {
		done := make(chan []byte, 1)
		go func() {
			got, err := w.read(object)
			if err != nil {
				got = nil
			}
			done <- got
		}()
		return done
	}
	both := read(either(a, b))
	first := <-gates
	first.allow(100_000)
	same := read(either(b, a))
	second := read(wantOf(b))
	(<-gates).allow(len(b))
	neither := read(wantOf(a)) // upstream's length says at once that it is not this one
	if got := <-neither; got != nil {
		t.Errorf("who takes only the first got %d bytes", len(got))
	}
	if got := <-second; !bytes.Equal(got, b) {
		t.Errorf("who takes only the second got %d bytes", len(got))
	}
	first.allow(len(b))
	if x, y := <-both, <-same; !bytes.Equal(x, b) || !bytes.Equal(y, b) {
		t.Errorf("who takes both got %d and %d bytes", len(x), len(y))
	}
	if n := w.up.count(); n != 3 {
		t.Errorf("%d requests upstream, want one for each set", n)
	}
}

// Before upstream has said what it has, nobody is told a digest; HEAD says what upstream has.
func TestHeadOfSeveralContents(t *testing.T) {
	a, b := randomBytes(300_000, 1), randomBytes(200_000, 2)
	w := newWorld(t, serve(b))
	blob, err := w.Head(context.Background(), either(a, b))
	if err != nil || blob.Ref != (proto.Ref{Digest: proto.DigestOf(b), Size: int64(len(b))}) {
		t.Errorf("%+v, %v", blob, err)
	}
}
