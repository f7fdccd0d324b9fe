package mirrorlist

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aptmesh/aptmesh/proto/bubble"
)

// listWorld is a keeper of lists over servers and a disk that a test plays. Its
// methods are safe for concurrent use.
type listWorld struct {
	lists *Lists
	log   strings.Builder // read when all is quiet

	mu      sync.Mutex
	texts   map[string]string // by list; one that is not there cannot be had
	looks   []time.Duration   // when a list was read, since the start
	began   time.Time
	changes int
	files   map[string][]byte
}

func newListWorld() *listWorld {
	w := &listWorld{texts: make(map[string]string), files: make(map[string][]byte), began: time.Now()}
	w.lists = w.newLists()
	return w
}

// newLists is a keeper on the same disk, as after a restart.
func (w *listWorld) newLists() *Lists {
	return New(Config{State: w, Logger: slog.New(slog.NewTextHandler(&w.log, nil)), Read: w.read})
}

func (w *listWorld) changed() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.changes++
}

func (w *listWorld) read(_ context.Context, key Key) ([]byte, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.looks = append(w.looks, time.Since(w.began))
	if text, ok := w.texts[key.At]; ok {
		return []byte(text), nil
	}
	return nil, errors.New("the server is away")
}

func (w *listWorld) set(at, text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.texts[at] = text
}

func (w *listWorld) lose(at string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.texts, at)
}

// seen returns the number of changes, and of looks, so far.
func (w *listWorld) seen() (changes, looks int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.changes, len(w.looks)
}

func (w *listWorld) WriteFile(name string, data []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.files[name] = append([]byte(nil), data...)
	return nil
}

func (w *listWorld) ReadFile(name string) ([]byte, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if data, ok := w.files[name]; ok {
		return data, nil
	}
	return nil, fs.ErrNotExist
}

// names writes the mirrors of a list in one line.
func names(l *Lists, key Key) string {
	var all []string
	for _, m := range l.Mirrors(key) {
		all = append(all, m.URL.Host)
	}
	return strings.Join(all, " ")
}

var webList = Key{At: "mirror+http://lists.example.org/mirrors.txt"}

// A list that cannot be had at first is asked for every few seconds until it comes;
// from then on once in an hour, and what is lost or nonsense changes nothing.
func TestMirrorListLife(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newListWorld()
		w.lists.Use([]Key{webList})
		w.lists.Start(w.changed)
		defer w.lists.Close()
		if err := w.lists.Await(t.Context(), webList); err == nil || !strings.Contains(err.Error(), "away") {
			t.Fatalf("the wait for a list that cannot be had ends with %v", err)
		}
		time.Sleep(2 * time.Minute)
		if _, looks := w.seen(); looks < 5 || looks > 12 {
			t.Errorf("%d looks in two minutes for a list that an archive waits for", looks)
		}
		for i := 1; i < len(w.looks); i++ {
			if gap := w.looks[i] - w.looks[i-1]; gap < time.Second || gap > 34*time.Second {
				t.Errorf("%s between two looks", gap)
			}
		}

		w.set(webList.At, "http://a.example.org/u\nhttp://b.example.org/u\n")
		time.Sleep(40 * time.Second)
		if err := w.lists.Await(t.Context(), webList); err != nil {
			t.Errorf("the wait ends with %v", err)
		}
		if got := names(w.lists, webList); got != "a.example.org b.example.org" {
			t.Fatalf("the list names %q", got)
		}
		changes, looks := w.seen()
		if changes != 1 {
			t.Errorf("%d changes", changes)
		}

		// The same in another order is no news; an hour is.
		w.set(webList.At, "http://b.example.org/u\nhttp://a.example.org/u\n")
		time.Sleep(50 * time.Minute)
		if _, now := w.seen(); now != looks {
			t.Errorf("%d looks more within an hour", now-looks)
		}
		time.Sleep(20 * time.Minute)
		if changed, now := w.seen(); now != looks+1 || changed != 1 {
			t.Errorf("after an hour: %d looks more, %d changes", now-looks, changed)
		}

		for _, bad := range []string{"<html>It works!</html>", "", "ftp://a.example.org/u"} {
			w.set(webList.At, bad)
			w.lists.Refresh()
			synctest.Wait()
			if got := names(w.lists, webList); got != "a.example.org b.example.org" {
				t.Errorf("after %q the list names %q", bad, got)
			}
		}
		w.lose(webList.At)
		w.lists.Refresh()
		synctest.Wait()
		_, looks = w.seen()
		time.Sleep(3 * time.Hour)
		if changed, now := w.seen(); changed != 1 || now-looks < 3 || now-looks > 7 {
			t.Errorf("in three hours without its server: %d changes, %d looks", changed, now-looks)
		}
		if warnings := strings.Count(w.log.String(), "the server is away"); warnings != 2 {
			t.Errorf("%d warnings, want one for each time it was lost:\n%s", warnings, w.log.String())
		}

		w.set(webList.At, "http://c.example.org/u\n")
		w.lists.Refresh()
		synctest.Wait()
		if changed, _ := w.seen(); changed != 2 || names(w.lists, webList) != "c.example.org" {
			t.Errorf("%d changes, the list names %q", changed, names(w.lists, webList))
		}
	})
}

// What was known is known again after a restart, before anybody is asked.
func TestMirrorListIsKept(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newListWorld()
		w.set(webList.At, "http://z.example.org/u priority:7\nhttp://a.example.org/u priority:9\nhttp://last.example.org/u\n")
		w.lists.Use([]Key{webList})
		w.lists.Start(w.changed)
		synctest.Wait()
		before := w.lists.Mirrors(webList)
		w.lists.Close()

		w.lose(webList.At)
		_, looks := w.seen()
		again := w.newLists()
		again.Use([]Key{webList})
		if after := again.Mirrors(webList); len(before) != 3 || !sameMirrors(before, after) || after[0].URL.Host != "z.example.org" {
			t.Errorf("before %v, after %v", before, after)
		}
		if _, now := w.seen(); now != looks {
			t.Error("the server was asked before the start")
		}
		again.Start(w.changed)
		if err := again.Await(t.Context(), webList); err != nil {
			t.Errorf("a list that is kept is waited for: %v", err)
		}
		again.Close()

		for name := range w.files {
			w.files[name] = []byte("\x00 damaged")
		}
		damaged := w.newLists()
		damaged.Use([]Key{webList})
		if got := damaged.Mirrors(webList); got != nil || !strings.Contains(w.log.String(), "is no use") {
			t.Errorf("a damaged file is read as %v", got)
		}
	})
}

// A list on this machine is known from the start, and while its file is away.
func TestMirrorListFileIsReadAtOnce(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newListWorld()
		file := Key{At: "mirror+file:/etc/apt/mirrors.txt"}
		w.set(file.At, "http://a.example.org/u\n")
		w.lists.Use([]Key{file})
		if got := names(w.lists, file); got != "a.example.org" {
			t.Errorf("before the start the list names %q", got)
		}
		w.lose(file.At)
		again := w.newLists()
		again.Use([]Key{file})
		if got := names(again, file); got != "a.example.org" {
			t.Errorf("without its file the list names %q", got)
		}
	})
}

func TestMirrorListsComeAndGo(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newListWorld()
		other := Key{At: "mirror+http://lists.example.org/other"}
		w.set(other.At, "http://o.example.org\n")
		w.lists.Use([]Key{webList})
		w.lists.Start(w.changed)
		synctest.Wait()
		w.lists.Use([]Key{other})
		synctest.Wait()
		if got := names(w.lists, other); got != "o.example.org" {
			t.Errorf("a list that came names %q", got)
		}
		if err := w.lists.Await(t.Context(), webList); !errors.Is(err, errNotLooked) {
			t.Errorf("the wait for a list that is gone: %v", err)
		}
		_, looks := w.seen()
		time.Sleep(10 * time.Minute)
		if _, now := w.seen(); now != looks {
			t.Error("a list that is gone is looked at")
		}
		w.lists.Close()
	})
}

// A wait ends with the list that is waited for, and with its own context.
func TestAwaitOfADroppedList(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newListWorld()
		w.lists.cfg.Read = func(ctx context.Context, _ Key) ([]byte, error) {
			<-ctx.Done() // a server that says nothing
			return nil, ctx.Err()
		}
		w.lists.Use([]Key{webList})
		w.lists.Start(w.changed)
		gone := make(chan error, 2)
		go func() { gone <- w.lists.Await(context.Background(), webList) }()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := w.lists.Await(ctx, webList); !errors.Is(err, context.Canceled) {
			t.Errorf("a client that went away gets %v", err)
		}
		synctest.Wait()
		w.lists.Use(nil)
		if err := <-gone; !errors.Is(err, errNotLooked) {
			t.Errorf("who waited for a list that was dropped gets %v", err)
		}
		w.lists.Close()
	})
}

func TestLongMirrorListIsCut(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newListWorld()
		var text strings.Builder
		for i := range 100 {
			fmt.Fprintf(&text, "http://m%03d.example.org/u\tpriority:%d\n", i, 100-i)
		}
		w.set(webList.At, text.String())
		w.lists.Use([]Key{webList})
		w.lists.Start(w.changed)
		synctest.Wait()
		got := w.lists.Mirrors(webList)
		if len(got) != maxListed || got[0].URL.Host != "m099.example.org" || got[maxListed-1].URL.Host != "m068.example.org" {
			t.Errorf("%d mirrors are used: %v", len(got), got)
		}
		if !strings.Contains(w.log.String(), "used=32 named=100") {
			t.Errorf("the log does not say so:\n%s", w.log.String())
		}
		w.lists.Close()
	})
}
