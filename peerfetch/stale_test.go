package peerfetch

import (
	"bytes"
	"context"
	"crypto/sha512"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/proto"
	"github.com/aptmesh/aptmesh/proto/bubble"
)

// memNotes are Notes in memory.
type memNotes struct {
	mu    sync.Mutex
	files map[string][]byte
	wrote int
}

func (n *memNotes) WriteFile(name string, data []byte) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.files[name] = bytes.Clone(data)
	n.wrote++
	return nil
}

func (n *memNotes) ReadFile(name string) ([]byte, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if b, ok := n.files[name]; ok {
		return b, nil
	}
	return nil, fs.ErrNotExist
}

func (n *memNotes) RemoveFile(name string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.files, name)
	return nil
}

func (n *memNotes) ListFiles(prefix string) (names []string, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for name := range n.files {
		if strings.HasPrefix(name, prefix) {
			names = append(names, name)
		}
	}
	return names, nil
}

var fileDate = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// conditional serves a file with validators, and 304 to whoever has it.
func conditional(content []byte) func(int, proto.Request) answer {
	return func(_ int, r proto.Request) answer {
		a := answer{body: bytes.NewReader(content), size: int64(len(content)), modified: fileDate, etag: `"v1"`, from: "m"}
		a.same = r.IfNoneMatch == a.etag || r.IfModifiedSince.Equal(fileDate)
		return a
	}
}

var errSilent = &proto.Unavailable{Reason: "connection refused"}

func silentUpstream(int, proto.Request) answer { return answer{err: errSilent} }

// TestSHA512SurvivesARestart: so does what an object is that only a SHA-512 names.
func TestSHA512SurvivesARestart(t *testing.T) {
	content := randomBytes(100_000, 1)
	for _, size := range []int64{100_000, proto.UnknownSize} {
		notes := &memNotes{files: make(map[string][]byte)}
		object := proto.ObjectRequest{Ref: proto.Ref{Size: size}, SHA512: sha512.Sum512(content), Where: proto.At(proto.Location{Archive: "a", Path: "p"})}
		w := newWorld(t, serve(content), func(cfg *Config) { cfg.Notes = notes })
		w.mustRead(t, object)
		w.settled(t)
		w.Close()
		store := w.store
		w = newWorld(t, silentUpstream, func(cfg *Config) { cfg.Notes, cfg.Store = notes, store })
		if got := w.mustRead(t, object); !bytes.Equal(got, content) {
			t.Error("other bytes")
		}
	}
}

// TestUnlistedSurvivesARestart: the next process knows which blob it is and asks upstream with the validators
// of the last one; within the bound it serves the file while upstream is silent, and says so.
func TestUnlistedSurvivesARestart(t *testing.T) {
	content := randomBytes(100_000, 1)
	object := unlistedWant("gpg")
	bubble.Test(t, func(t *testing.T) {
		notes := &memNotes{files: make(map[string][]byte)}
		config := func(cfg *Config) {
			cfg.Notes = notes
			cfg.ServeStale = func(string) time.Duration { return 24 * time.Hour }
		}
		w := newWorld(t, conditional(content), config)
		w.mustRead(t, object)
		w.settled(t)
		w.Close()

		restart := func(script func(int, proto.Request) answer) {
			store := w.store
			w = newWorld(t, script, config, func(cfg *Config) { cfg.Store = store })
			w.store = store
		}
		time.Sleep(time.Hour)
		restart(conditional(content))
		if got := w.mustRead(t, object); !bytes.Equal(got, content) {
			t.Error("other bytes")
		}
		if w.up.count() != 1 || w.up.request(0).IfNoneMatch != `"v1"` || !w.up.request(0).IfModifiedSince.Equal(fileDate) {
			t.Errorf("%d requests, the first %+v", w.up.count(), w.up.request(0))
		}
		w.settled(t)
		w.Close()

		restart(silentUpstream)
		for i, c := range []struct {
			after time.Duration
			stale bool
		}{{time.Minute, true}, {time.Second, true}, {22 * time.Hour, true}, {3 * time.Hour, false}} {
			time.Sleep(c.after)
			before := w.up.count()
			blob, err := w.Open(context.Background(), object)
			if !c.stale {
				if !errors.Is(err, errSilent) {
					t.Errorf("%d: %v", i, err)
				}
				continue
			}
			if err != nil || !strings.Contains(blob.Stale, "connection refused") && i != 1 || blob.Verified {
				t.Fatalf("%d: %v, %+v", i, err, blob)
			}
			blob.Close()
			if i == 1 && w.up.count() != before {
				t.Error("a request right after another one waits for upstream as well")
			}
			head, err := w.Head(context.Background(), object)
			if err != nil || head.Stale == "" || head.Ref.Size != int64(len(content)) {
				t.Errorf("HEAD: %v, %+v", err, head)
			}
		}
		w.settled(t)
		w.Close()
	})
}

// TestStaleIsNotForEverything: a bound of none, an answer of upstream and wrong bytes are no outage.
func TestStaleIsNotForEverything(t *testing.T) {
	content := randomBytes(1000, 1)
	for name, c := range map[string]struct {
		err   error
		bound time.Duration
		stale bool
	}{
		"silent":      {errSilent, time.Hour, true},
		"busy":        {&proto.Unavailable{Reason: "503", Answered: true, RetryAfter: time.Second}, time.Hour, true},
		"no bound":    {errSilent, -1, false},
		"zero":        {errSilent, 0, false},
		"not found":   {proto.ErrNotFound, time.Hour, false},
		"refused":     {&proto.Refused{Status: 403}, time.Hour, false},
		"our verdict": {&proto.Rejected{Kind: proto.RejectLoop, Err: errSilent}, time.Hour, false},
	} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				w := newWorld(t, conditional(content), func(cfg *Config) {
					cfg.ServeStale = func(string) time.Duration { return c.bound }
				})
				w.mustRead(t, unlistedWant("x"))
				w.settled(t)
				time.Sleep(time.Minute)
				w.up.heal(func(int, proto.Request) answer { return answer{err: c.err} })
				if _, err := w.read(unlistedWant("x")); (err == nil) != c.stale {
					t.Errorf("%v", err)
				}
				if _, err := w.read(unlistedWant("y")); err == nil {
					t.Error("a file that was never here")
				}
				if _, err := w.read(wantOf(content)); err != nil {
					t.Errorf("what is listed: %v", err)
				}
				w.settled(t)
				w.Close()
			})
		})
	}
}

// TestNotesAreBounded: a check writes at most once an hour, and what nobody can read is removed.
func TestNotesAreBounded(t *testing.T) {
	content := randomBytes(1000, 1)
	bubble.Test(t, func(t *testing.T) {
		notes := &memNotes{files: map[string][]byte{"unlisted/x": []byte("{"), "unlisted/y": []byte(`{"archive":"a","path":"y"}`), "lists/z": nil}}
		w := newWorld(t, conditional(content), func(cfg *Config) { cfg.Notes = notes })
		if len(notes.files) != 1 {
			t.Errorf("left: %v", notes.files)
		}
		for range 100 {
			w.mustRead(t, unlistedWant("x"))
			w.settled(t)
			time.Sleep(time.Minute)
		}
		if notes.wrote != 2 {
			t.Errorf("%d writes in 100 minutes", notes.wrote)
		}
		for i := range 3 {
			w.mustRead(t, unlistedWant(fmt.Sprint(i)))
		}
		w.settled(t)
		w.Close()
		time.Sleep(notesFor + time.Minute)
		again := newWorld(t, conditional(content), func(cfg *Config) { cfg.Notes = notes })
		if len(notes.files) != 1 {
			t.Errorf("after %v: %d files", notesFor, len(notes.files))
		}
		again.Close()
	})
}

// TestUnlistedComesFromAnotherNodeInAnOutage: a node that never had the file gives what an owner of it has,
// says how old it is, and its age goes on to be counted from when upstream was last heard of.
func TestUnlistedComesFromAnotherNodeInAnOutage(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		content := randomBytes(100_000, 2)
		object := unlistedWant("gpg")
		c := newCluster(t, []string{"a", "b", "c"}, conditional(content), func(cfg *Config) {
			cfg.ServeStale = func(string) time.Duration { return 24 * time.Hour }
		})
		read := func(name string) *proto.Blob {
			t.Helper()
			blob, err := c.nodes[name].Open(context.Background(), object)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if got, err := io.ReadAll(blob.Reader()); err != nil || !bytes.Equal(got, content) {
				t.Errorf("%s: %d bytes, %v", name, len(got), err)
			}
			blob.Close()
			return blob
		}
		said := time.Now()
		if blob := read("a"); blob.Stale != "" {
			t.Error(blob.Stale)
		}
		c.up.heal(silentUpstream)
		for range 3 {
			time.Sleep(time.Hour)
			for _, name := range []string{"c", "a", "c"} {
				blob := read(name)
				if blob.Stale == "" || !blob.Checked.Equal(said) || blob.Verified {
					t.Errorf("%s after %s: %q, checked %s", name, time.Since(said), blob.Stale, blob.Checked)
				}
			}
		}
		time.Sleep(22 * time.Hour)
		for _, name := range []string{"c", "a"} {
			if _, err := c.nodes[name].Open(context.Background(), object); !errors.As(err, new(*proto.Unavailable)) {
				t.Errorf("%s after the bound: %v", name, err)
			}
		}
		c.up.heal(conditional(content))
		time.Sleep(time.Minute)
		if blob := read("c"); blob.Stale != "" {
			t.Errorf("upstream is back: %s", blob.Stale)
		}
		c.check(t)
		c.close()
	})
}

// Notes have a bound while a node runs, whatever names clients ask for, and the newest are kept.
func TestNotesHaveABound(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		notes := &memNotes{files: make(map[string][]byte)}
		w := newWorld(t, silentUpstream, func(cfg *Config) { cfg.Notes = notes })
		ref := proto.Ref{Digest: proto.DigestOf([]byte("x")), Size: 1}
		var last key
		for i := range maxLearned + 3*pruneEvery {
			last = key{loc: proto.Location{Archive: "a", Path: fmt.Sprint(i)}}
			w.learn(last, learned{ref: ref, checked: time.Now()})
		}
		if n := len(notes.files); n > maxLearned+pruneEvery || n < maxLearned {
			t.Errorf("%d notes", n)
		}
		if _, ok := notes.files[noteName(last)]; !ok {
			t.Error("the last one was removed")
		}
		w.Close()
	})
}

// A file that no index lists is asked for once where upstream never changes, and again and again elsewhere, also after
// the archive has published something.
func TestUnlistedFileOfAnImmutableArchive(t *testing.T) {
	for immutable, want := range map[bool]int{true: 1, false: 6} {
		bubble.Test(t, func(t *testing.T) {
			w := newWorld(t, func(i int, r proto.Request) answer {
				return answer{body: strings.NewReader("same"), size: 4, etag: "e"}
			}, func(cfg *Config) {
				cfg.Immutable = func(archive string) bool { return immutable && archive == "a" }
			})
			for range 5 {
				w.mustRead(t, unlistedWant("u"))
				time.Sleep(24 * time.Hour)
			}
			w.ArchiveChanged("a")
			w.mustRead(t, unlistedWant("u"))
			if n := w.up.count(); n != want {
				t.Errorf("immutable %v: %d requests, want %d", immutable, n, want)
			}
			w.Close()
		})
	}
}
