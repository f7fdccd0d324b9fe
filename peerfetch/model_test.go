package peerfetch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/proto"
	"github.com/aptmesh/aptmesh/proto/bubble"
)

// manner is how an archive behaves at one location, for the whole of a run.
type manner struct {
	name string
	// right: a reader that knows the object by this location gets it.
	right bool
	lies  bool // it gives wrong bytes, which its own readers may have had
	// kind is what a reader may hear that knows it by this location alone.
	kind   func(error) bool
	answer func(content []byte, r proto.Request) answer
}

func kindIs(target error) func(error) bool {
	return func(err error) bool { return errors.Is(err, target) }
}

func isUnavailable(err error) bool { return errors.As(err, new(*proto.Unavailable)) }

var manners = []manner{
	{"right", true, false, nil, func(content []byte, r proto.Request) answer { return serve(content)(0, r) }},
	{"right, after 300 ms", true, false, nil, func(content []byte, r proto.Request) answer {
		a := serve(content)(0, r)
		a.body = &lazy{a.body, 300 * time.Millisecond, len(content)}
		return a
	}},
	{"right, 64 KiB a second", true, false, nil, func(content []byte, r proto.Request) answer {
		a := serve(content)(0, r)
		a.body = &lazy{a.body, 250 * time.Millisecond, 16 << 10}
		return a
	}},
	{"404", false, false, kindIs(proto.ErrNotFound), func([]byte, proto.Request) answer { return answer{err: proto.ErrNotFound} }},
	{"404, after two seconds", false, false, kindIs(proto.ErrNotFound), func([]byte, proto.Request) answer {
		return answer{err: proto.ErrNotFound, after: 2 * time.Second}
	}},
	{"403", false, false, func(err error) bool { return errors.As(err, new(*proto.Refused)) }, func([]byte, proto.Request) answer {
		return answer{err: &proto.Refused{Status: 403}}
	}},
	{"503", false, false, isUnavailable, func([]byte, proto.Request) answer { return answer{err: errAnswered} }},
	{"wrong bytes", false, true, kindIs(proto.ErrCorrupt), func(content []byte, r proto.Request) answer {
		return answer{body: bytes.NewReader(make([]byte, int64(len(content))-r.Offset)), size: int64(len(content)), offset: r.Offset}
	}},
	{"another length", false, true, func(err error) bool { return errors.Is(err, proto.ErrCorrupt) || isUnavailable(err) }, func(content []byte, r proto.Request) answer {
		return answer{body: bytes.NewReader(content), size: int64(len(content)) + 1}
	}},
	{"breaks at a third", false, false, isUnavailable, func(content []byte, r proto.Request) answer {
		third := int64(len(content) / 3)
		return answer{body: breakOff(content[min(r.Offset, third):third], errBroken), size: int64(len(content)), offset: min(r.Offset, third)}
	}},
	{"a byte a second", false, false, isUnavailable, func(content []byte, r proto.Request) answer {
		a := serve(content)(0, r)
		// In the end a stall watch would cut it off.
		a.body = io.MultiReader(io.LimitReader(&lazy{a.body, time.Second, 1}, 30), &failing{errBroken})
		return a
	}},
	{"silent", false, false, isUnavailable, func([]byte, proto.Request) answer { return answer{err: errBroken, after: 10 * time.Second} }},
}

// second is another name of the object in the same archive.
func second(loc proto.Location) proto.Location {
	loc.Path = "by-hash/x"
	return loc
}

// lazy yields at most n bytes in each time every.
type lazy struct {
	r     io.Reader
	every time.Duration
	n     int
}

func (l *lazy) Read(p []byte) (int, error) {
	time.Sleep(l.every)
	return l.r.Read(p[:min(len(p), l.n)])
}

// TestEvidenceStaysWhereItWasGiven lets any number of readers know one object by different names in
// different archives, of which each behaves in a manner of its own. Every reader ends with the right
// bytes, or for a reason that one of its own names gave; one that has a right name gets the object in
// time, whatever the others' names are; and no name is asked more often than its own budget allows.
func TestEvidenceStaysWhereItWasGiven(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for run := range uint64(150) {
		if !t.Run(fmt.Sprint(run), func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) { modelRun(t, rand.New(rand.NewPCG(seed, run))) })
		}) {
			return
		}
	}
}

func modelRun(t *testing.T, rng *rand.Rand) {
	content := randomBytes([]int{500, 40_000, 300_000, 600_000}[rng.IntN(4)], 90)
	var locs []proto.Location
	at := make(map[proto.Location]manner)
	for i := range 2 + rng.IntN(3) {
		loc := proto.Location{Archive: string(rune('A' + i)), Path: "x.deb"}
		locs = append(locs, loc)
		at[loc] = manners[rng.IntN(len(manners))]
		at[second(loc)] = manners[rng.IntN(len(manners))]
	}
	var mu sync.Mutex
	asked := make(map[proto.Location][]time.Time)
	w := newWorld(t, func(_ int, r proto.Request) answer {
		mu.Lock()
		asked[r.Loc] = append(asked[r.Loc], time.Now())
		mu.Unlock()
		return at[r.Loc].answer(content, r)
	}, func(c *Config) { c.Linger = 10 * time.Millisecond })

	story := ""
	for _, loc := range locs {
		story += fmt.Sprintf("%s: %s, by its second name: %s; ", loc.Archive, at[loc].name, at[second(loc)].name)
	}
	var readers sync.WaitGroup
	for range 1 + rng.IntN(8) {
		object := proto.ObjectRequest{Ref: proto.Ref{Digest: proto.DigestOf(content), Size: int64(len(content))}, Class: proto.Class(rng.IntN(3))}
		mine := locs[rng.IntN(len(locs)):][:1]
		if rng.IntN(4) == 0 && len(locs) > 1 {
			mine = []proto.Location{mine[0], second(mine[0])}
		}
		object.Where = proto.WhereOf(mine)
		wrongSize := false
		switch rng.IntN(6) {
		case 0:
			object.Ref.Size = proto.UnknownSize
		case 1:
			object.Ref.Size += 7 // a listing that is wrong: its readers fail, and nobody else
			wrongSize = true
		}
		begin := time.Duration(rng.IntN(4000)) * time.Millisecond
		leaves := time.Hour
		if rng.IntN(5) == 0 {
			leaves = time.Duration(rng.IntN(1500)) * time.Millisecond
		}
		story += fmt.Sprintf("reader of %v size %d at %s; ", mine, object.Ref.Size, begin)
		readers.Go(func() {
			time.Sleep(begin)
			began := time.Now()
			ctx, cancel := context.WithTimeout(context.Background(), leaves)
			defer cancel()
			var got []byte
			var err error
			for range 4 { // as apt does
				if got, err = readAll(ctx, w, object); err == nil || errors.Is(err, proto.ErrNotFound) {
					break
				}
				time.Sleep(time.Second)
			}
			took := time.Since(began)
			if ctx.Err() != nil {
				return
			}
			right, lies := false, false
			reason := false
			for _, loc := range mine {
				m := at[loc]
				right = right || m.right
				lies = lies || m.lies
				// What one name gave may be cut off and go on with what the other name of that archive has.
				for _, m := range []manner{m, at[second(loc)], at[proto.Location{Archive: loc.Archive, Path: "x.deb"}]} {
					reason = reason || m.kind != nil && m.kind(err)
				}
			}
			switch {
			case err == nil && !bytes.Equal(got, content):
				t.Errorf("a wrong body")
			case err == nil && wrongSize && w.store.has(object.Ref.Digest):
				// The store had it, in its true length.
			case wrongSize:
				if err == nil {
					t.Errorf("a body of another length than listed")
				}
			case right && !lies && err != nil:
				t.Errorf("a reader of %v, which has it, failed after %s: %v", mine, took, err)
			case right && len(mine) == 1 && took > 20*time.Second, right && took > time.Minute:
				t.Errorf("a reader of %v waited %s", mine, took)
			case err != nil && !reason:
				t.Errorf("a reader of %v was told: %v", mine, err)
			case err != nil && took > time.Hour:
				t.Errorf("a reader of %v was told only after %s: %v", mine, took, err)
			}
		})
	}
	readers.Wait()
	w.Close()
	w.checkStore(t)
	for loc, times := range asked {
		within := 0
		for i := range times {
			for j := i; j < len(times) && times[j].Sub(times[i]) < 5*time.Second; j++ {
				within = max(within, j-i+1)
			}
		}
		// Three tries of each of two lengths and of none; a break is resumed maxBarren times in each.
		if within > 3*3*(maxBarren+1) {
			t.Errorf("%v was asked %d times in five seconds", loc, within)
		}
	}
	if t.Failed() {
		t.Log(story)
	}
}

func readAll(ctx context.Context, w *world, object proto.ObjectRequest) ([]byte, error) {
	blob, err := w.Open(ctx, object)
	if err != nil {
		return nil, err
	}
	defer blob.Close()
	return io.ReadAll(blob.Reader())
}
