package catalog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
	"github.com/aptmesh/aptmesh/node/catalog/suite"
	"github.com/aptmesh/aptmesh/proto"
)

// fakeMirror is one mirror of the archive: a copy of it as it was at the last sync.
type fakeMirror struct {
	name   string
	files  map[string]testarchive.File
	laid   map[string][]byte // in place of its files
	fault  func(ctx context.Context, path string) error
	asked  map[string]int
	bodies map[string]int
}

// The mirrors of the tests, in the order of preference.
const (
	mirrorA = "http://a.mirror.example.org/ubuntu"
	mirrorB = "http://b.mirror.example.org/pub/mirrors/ubuntu"
	mirrorC = "http://c.mirror.example.org"
)

// Mirrors is part of Upstream.
func (u *fakeUpstream) Mirrors(string) []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.mirrors) == 0 {
		return []string{"http://archive.example.org"}
	}
	var names []string
	for _, m := range u.mirrors {
		names = append(names, m.name)
	}
	return names
}

// Blame is part of Upstream.
func (u *fakeUpstream) Blame(_ proto.Location, from []string, _ error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.blamed = append(u.blamed, from...)
}

// named returns the mirror of this name, or nil. mu is held.
func (u *fakeUpstream) named(name string) *fakeMirror {
	for _, m := range u.mirrors {
		if m.name == name {
			return m
		}
	}
	return nil
}

// fromMirror is what the mirror that the request names has, or else the first that has
// it.
func (u *fakeUpstream) fromMirror(ctx context.Context, r proto.Request) (testarchive.File, error) {
	u.mu.Lock()
	mirrors := slices.Clone(u.mirrors)
	u.mu.Unlock()
	err := error(&proto.Unavailable{Reason: "there is no such mirror: " + r.Mirror})
	for _, m := range mirrors {
		if r.Mirror != "" && r.Mirror != m.name {
			continue
		}
		var f testarchive.File
		patient, cancel := ctx, context.CancelFunc(func() {})
		if r.Mirror == "" { // one that stalls is left, as the real upstream does
			patient, cancel = context.WithTimeout(ctx, 2*time.Second)
		}
		f, err = u.fromOne(patient, m, r.Loc.Path)
		cancel()
		if err == nil {
			return f, nil
		}
	}
	return testarchive.File{}, err
}

func (u *fakeUpstream) fromOne(ctx context.Context, m *fakeMirror, path string) (testarchive.File, error) {
	u.mu.Lock()
	m.asked[path]++
	fault := m.fault
	f, ok := m.files[path]
	laid, over := m.laid[path]
	u.mu.Unlock()
	if fault != nil {
		if err := fault(ctx, path); err != nil {
			return testarchive.File{}, err
		}
	}
	if over {
		return testarchive.File{Data: laid, Modified: f.Modified}, nil
	}
	if !ok {
		return testarchive.File{}, fmt.Errorf("GET %s/%s: %w", m.name, path, proto.ErrNotFound)
	}
	return f, nil
}

// mirrored puts mirrors of the archive, as it is now, in the world's place of upstream.
func (w *world) mirrored(names ...string) *world {
	for _, name := range names {
		w.up.mirrors = append(w.up.mirrors, &fakeMirror{name: name, asked: make(map[string]int), bodies: make(map[string]int), laid: make(map[string][]byte)})
	}
	w.sync(names...)
	return w
}

// sync makes mirrors what the archive is now.
func (w *world) sync(names ...string) {
	files := make(map[string]testarchive.File)
	for path := range w.a.Files() {
		files[path], _ = w.a.Lookup(path)
	}
	w.up.mu.Lock()
	defer w.up.mu.Unlock()
	for _, name := range names {
		m := w.up.named(name)
		m.files, m.fault = files, nil
		clear(m.laid)
	}
}

// fails makes a mirror answer every request with err; nil heals it.
func (w *world) fails(name string, err error) {
	w.up.mu.Lock()
	defer w.up.mu.Unlock()
	w.up.named(name).fault = func(context.Context, string) error { return err }
}

// gives lays bytes over the mirror's file.
func (w *world) gives(name, path string, data []byte) {
	w.up.mu.Lock()
	defer w.up.mu.Unlock()
	w.up.named(name).laid[path] = data
}

// asked is how often a mirror was asked for InRelease or Release, bodies how often it
// gave one.
func (w *world) asked(name string) int {
	w.up.mu.Lock()
	defer w.up.mu.Unlock()
	return w.up.named(name).asked[nobleIn] + w.up.named(name).asked[nobleRelease]
}

func (w *world) bodies(name string) int {
	w.up.mu.Lock()
	defer w.up.mu.Unlock()
	return w.up.named(name).bodies[nobleIn] + w.up.named(name).bodies[nobleRelease]
}

// recount starts the counting anew.
func (w *world) recount() {
	w.up.mu.Lock()
	defer w.up.mu.Unlock()
	for _, m := range w.up.mirrors {
		clear(m.asked)
		clear(m.bodies)
	}
	w.up.blamed = nil
}

func (w *world) blamed() []string {
	w.up.mu.Lock()
	defer w.up.mu.Unlock()
	return slices.Clone(w.up.blamed)
}

// primary is the mirror that the suite noble is asked from first.
func (w *world) primary() string {
	s, _ := w.known(noble())
	for _, m := range s.public.Load().mirrors {
		if m.Primary {
			return m.Mirror
		}
	}
	return ""
}

// mirrorState is the status of noble on one mirror.
func (w *world) mirrorState(name string) MirrorStats {
	w.Helper()
	for _, m := range w.Stats()[0].Mirrors {
		if m.Mirror == name {
			return m
		}
	}
	return MirrorStats{}
}

// mirroredWorld is a world of two mirrors that are up to date, whose clients have used
// the index; each of the mirrors has been looked at.
func mirroredWorld(t *testing.T, names ...string) *world {
	t.Helper()
	w := nobleWorld(t)
	w.publish()
	w.mirrored(names...)
	w.open()
	w.must(nobleIn)
	w.use(noblePkgs, nobleTrans)
	time.Sleep(time.Duration(len(names)) * 6 * time.Minute)
	w.recount()
	return w
}

// serves demands that clients are given these bytes as InRelease.
func (w *world) serves(root []byte) {
	w.Helper()
	if e := w.must(nobleIn); e.Object.Ref != refOfBytes(root) {
		w.Errorf("the Release of %v is served, not the one that should be", e.Generation)
	}
}

// looks has upstream looked at now, and returns what came of it.
func (w *world) looks() error {
	w.Helper()
	time.Sleep(suite.CheckPause)
	_, err := w.refresh()
	synctest.Wait()
	return err
}

// unavailable reports whether an error is one that may pass.
func unavailable(err error) bool {
	var busy *proto.Unavailable
	return errors.As(err, &busy) && !errors.Is(err, proto.ErrNotFound)
}
