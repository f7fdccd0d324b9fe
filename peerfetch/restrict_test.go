package peerfetch

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"testing"

	"github.com/aptmesh/aptmesh/proto"
)

// wantIn is content as one archive lists it.
func wantIn(archive string, content []byte) proto.ObjectRequest {
	w := wantOf(content)
	w.Where = proto.At(proto.Location{Archive: archive, Path: "pool/x.deb"})
	return w
}

// restrictedWorld has the restricted archives esm and pro; all others are open. has are the archives
// whose upstream gives content.
func restrictedWorld(t *testing.T, content []byte, has ...string) *world {
	return newWorld(t, func(_ int, r proto.Request) answer {
		if !slices.Contains(has, r.Loc.Archive) {
			return answer{err: proto.ErrNotFound}
		}
		return answer{body: bytes.NewReader(content[r.Offset:]), size: int64(len(content)), offset: r.Offset}
	}, func(c *Config) {
		c.Restricted = func(archive string) bool { return archive == "esm" || archive == "pro" }
	})
}

// What a restricted archive brought is given through another archive only when that archive's own
// upstream has given it.
func TestRestrictedObjects(t *testing.T) {
	content := randomBytes(100_000, 1)
	type step struct {
		archive  string
		given    bool
		requests int // upstream was asked that often in all
	}
	for name, tt := range map[string]struct {
		has   []string
		steps []step
	}{
		"another one that lists it":          {[]string{"esm"}, []step{{"esm", true, 1}, {"vendor", false, 2}, {"esm", true, 2}}},
		"another restricted one":             {[]string{"esm"}, []step{{"esm", true, 1}, {"pro", false, 2}}},
		"one that has it, too":               {[]string{"esm", "vendor"}, []step{{"esm", true, 1}, {"vendor", true, 2}, {"vendor", true, 2}, {"other", true, 2}}},
		"a restricted one that has it, too":  {[]string{"esm", "pro"}, []step{{"esm", true, 1}, {"pro", true, 2}, {"pro", true, 2}, {"esm", true, 2}, {"vendor", false, 3}}},
		"first from one that is open to all": {[]string{"esm", "vendor"}, []step{{"vendor", true, 1}, {"esm", true, 1}, {"other", true, 1}}},
	} {
		t.Run(name, func(t *testing.T) {
			w := restrictedWorld(t, content, tt.has...)
			for i, s := range tt.steps {
				for _, way := range []string{"client", "peer"} { // both are asked; what the first one brought is there
					var got []byte
					var err error
					object := wantIn(s.archive, content)
					if way == "client" {
						got, err = w.read(object)
					} else if !s.given {
						_, err = w.ServePeer(context.Background(), "b", proto.PeerRequest{Object: object})
						var elsewhere *proto.NotStored
						if !errors.As(err, &elsewhere) {
							t.Errorf("step %d: a node that asks for %s hears %v", i, s.archive, err)
						}
						continue
					} else if blob, perr := w.ServePeer(context.Background(), "b", proto.PeerRequest{Object: object}); perr != nil {
						err = perr
					} else {
						got, err = io.ReadAll(blob.Reader())
						blob.Close()
					}
					if given := err == nil && bytes.Equal(got, content); given != s.given {
						t.Errorf("step %d: a %s of %s was given it: %v (%v)", i, way, s.archive, given, err)
					}
					w.settled(t)
				}
				if n := w.up.count(); n != s.requests {
					t.Errorf("step %d: upstream was asked %d times, want %d", i, n, s.requests)
				}
			}
		})
	}
}

// Nobody joins the flight of a restricted archive but its own clients.
func TestRestrictedFlights(t *testing.T) {
	content := randomBytes(300_000, 1)
	gate := newGated(content)
	w := newWorld(t, func(_ int, r proto.Request) answer {
		if r.Loc.Archive != "esm" {
			return answer{err: proto.ErrNotFound}
		}
		return answer{body: gate, size: int64(len(content))}
	}, func(c *Config) { c.Restricted = func(archive string) bool { return archive == "esm" } })
	gate.allow(200_000)
	blob, err := w.Open(context.Background(), wantIn("esm", content))
	if err != nil {
		t.Fatal(err)
	}
	defer blob.Close()
	if _, err := w.read(wantIn("vendor", content)); !errors.Is(err, proto.ErrNotFound) {
		t.Errorf("vendor's client: %v", err)
	}
	if _, err := w.ServePeer(context.Background(), "b", proto.PeerRequest{Object: wantIn("vendor", content), Fill: true}); !errors.Is(err, proto.ErrNotFound) {
		t.Errorf("another node's, for vendor: %v", err)
	}
	gate.allow(len(content))
	if got, err := io.ReadAll(blob.Reader()); err != nil || !bytes.Equal(got, content) {
		t.Errorf("esm's client: %d bytes, %v", len(got), err)
	}
	// The second of several right contents is no way in either.
	w.settled(t)
	either := wantIn("vendor", randomBytes(1000, 2))
	either.Others = []proto.Ref{wantIn("vendor", content).Ref}
	if _, err := w.read(either); !errors.Is(err, proto.ErrNotFound) {
		t.Errorf("as another content: %v", err)
	}
}
