package peerfetch

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/aptmesh/aptmesh/proto"
)

// archiveOf is an archive at several mirrors, in place of the client that asks them:
// like that one it passes over mirrors that say no before the body, asks those that
// failed for an object after the others, and gives each its own validators.
type archiveOf struct {
	contents map[string][]byte
	names    []string
	blind    bool // it does not hold mirrors to Request.Size

	mu      sync.Mutex
	strikes int
	does    map[string]mirrorFault // by mirror; nil: what it should
	level   map[byteSource]int     // struck 1: suspected, 2: broke off, 3: lied
	since   map[byteSource]int     // the number of the last strike
	asked   map[string]int         // by mirror
}

// mirrorFault changes what a mirror should have answered.
type mirrorFault func(a answer, r proto.Request) answer

// newArchiveOf joins n mirrors, m1 first, to an upstream.
func newArchiveOf(n int, contents map[string][]byte) *archiveOf {
	a := &archiveOf{
		contents: contents, does: make(map[string]mirrorFault), level: make(map[byteSource]int), since: make(map[byteSource]int), asked: make(map[string]int),
	}
	for i := range n {
		a.names = append(a.names, fmt.Sprintf("m%d", i+1))
	}
	return a
}

// serveBy has the upstream of a test ask these mirrors.
func (a *archiveOf) serveBy(u *upstream) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.script, u.mirrors = a.answer, a.names
	u.hears = func(loc proto.Location, blamed []string) {
		for _, name := range blamed {
			level := 1
			if len(blamed) == 1 {
				level = 3
			}
			a.strike(byteSource{mirror: name, loc: loc}, level)
		}
	}
}

func (a *archiveOf) strike(o byteSource, level int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.level[o] = max(a.level[o], level)
	a.strikes++
	a.since[o] = a.strikes
}

// fault has mirrors fail from now on; nil heals them.
func (a *archiveOf) fault(f mirrorFault, mirrors ...string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, name := range mirrors {
		a.does[name] = f
	}
}

func (a *archiveOf) requests() (total int, most int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, n := range a.asked {
		total, most = total+n, max(most, n)
	}
	return total, most
}

func (a *archiveOf) inOrder(r proto.Request) []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	if r.Mirror != "" {
		return []string{r.Mirror}
	}
	order := slices.Clone(a.names)
	slices.SortStableFunc(order, func(x, y string) int {
		ox, oy := byteSource{mirror: x, loc: r.Loc}, byteSource{mirror: y, loc: r.Loc}
		return cmp.Or(a.level[ox]-a.level[oy], a.since[ox]-a.since[oy])
	})
	return order
}

// answer asks the mirrors in turn until one has bytes to give.
func (a *archiveOf) answer(_ int, r proto.Request) answer {
	var worst error
	for _, name := range a.inOrder(r) {
		said := a.ask(name, r)
		if said.err == nil {
			return said
		}
		if worst == nil || errors.Is(worst, proto.ErrNotFound) || errors.As(said.err, new(*proto.Unavailable)) {
			worst = said.err
		}
	}
	return answer{err: worst}
}

func (a *archiveOf) ask(name string, r proto.Request) answer {
	a.mu.Lock()
	a.asked[name]++
	fails := a.does[name]
	a.mu.Unlock()
	said := a.honest(name, r)
	if fails != nil {
		said = fails(said, r)
	}
	o := byteSource{mirror: name, loc: r.Loc}
	switch {
	case said.err != nil:
		return said
	case r.Size > 0 && said.size != proto.UnknownSize && said.size != r.Size && !a.blind:
		a.strike(o, 3)
		return answer{err: fmt.Errorf("%w: %d bytes", proto.ErrCorrupt, said.size)}
	case said.body != nil:
		said.body = &watched{said.body, said.size - said.offset, func() { a.strike(o, 2) }}
	}
	said.from = name
	return said
}

func (a *archiveOf) honest(name string, r proto.Request) answer {
	content, ok := a.contents[r.Loc.Path]
	if !ok {
		return answer{err: proto.ErrNotFound}
	}
	etag := `"` + name + `"`
	if r.IfNoneMatch == etag {
		return answer{same: true}
	}
	offset := r.Offset
	if r.IfRange != "" && r.IfRange != etag {
		offset = 0
	}
	return answer{
		body: &trickle{bytes.NewReader(content[offset:])}, size: int64(len(content)), offset: offset, etag: etag,
	}
}

// watched tells when a body breaks off. One that ends before its announced length
// does, as with net/http.
type watched struct {
	io.Reader
	left  int64 // negative where no length was announced
	broke func()
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.Reader.Read(p)
	w.left -= int64(n)
	if err == io.EOF && w.left > 0 {
		err = errBroken
	}
	if err != nil && err != io.EOF {
		w.broke()
	}
	return n, err
}

// onMirrorBody is a fault of the body alone.
func onMirrorBody(change func(io.Reader, proto.Request) io.Reader) mirrorFault {
	return func(a answer, r proto.Request) answer {
		if a.body != nil {
			a.body = change(a.body, proto.Request{Offset: a.offset})
		}
		return a
	}
}

func says(err error) mirrorFault {
	return func(answer, proto.Request) answer { return answer{err: err} }
}

func breaksAt(at int64) mirrorFault {
	return onMirrorBody(func(body io.Reader, r proto.Request) io.Reader {
		return io.MultiReader(io.LimitReader(body, max(at-r.Offset, 0)), &failing{errBroken})
	})
}

func corruptAt(at int64) mirrorFault {
	return onMirrorBody(func(body io.Reader, r proto.Request) io.Reader { return &flipped{body, r.Offset, at} })
}

// both is one fault within another.
func both(inner, outer mirrorFault) mirrorFault {
	return func(a answer, r proto.Request) answer { return outer(inner(a, r), r) }
}

// checkBlames holds what was reported of mirrors against who is bad: an honest one is
// never accused, at most suspected.
func checkBlames(t *testing.T, u *upstream, bad []string) {
	t.Helper()
	for _, blamed := range u.blames() {
		if !strings.Contains(blamed, " ") && !slices.Contains(bad, blamed) {
			t.Errorf("%s was accused and is honest", blamed)
		}
	}
}
