package mirrorlist

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aptmesh/aptmesh/node/aptconf"
	"github.com/aptmesh/aptmesh/node/otherlists"
	"github.com/aptmesh/aptmesh/node/upstream"
)

const (
	// maxListed is how many mirrors of one list are used: the first by priority. A
	// list of all the world's mirrors would have the node try hundreds before it
	// could say that none of them has a file.
	maxListed = 32
	// listEvery is how often a list is looked at again.
	listEvery = time.Hour
	// A list that cannot be fetched is tried again after a pause that doubles between these
	// bounds: soon if the archive waits for it, later if there is an older list.
	listWaitedMin, listWaitedMax = 2 * time.Second, 30 * time.Second
	listHeldMin, listHeldMax     = time.Minute, listEvery
)

// Key names a list of mirrors: its place, as aptconf.ListURL spells it, and how
// its server is spoken to.
type Key struct {
	At  string
	TLS upstream.TLSFiles
}

var errNotLooked = errors.New("it is no longer looked for")

// State keeps the last good lists over restarts.
type State interface {
	WriteFile(name string, data []byte) error
	ReadFile(name string) ([]byte, error) // fs.ErrNotExist where there is none
}

// Config is what Lists need.
type Config struct {
	// Read returns the text of a list.
	Read   func(context.Context, Key) ([]byte, error)
	State  State
	Logger *slog.Logger
}

// Lists keeps the lists of mirrors that archives name, and reads them again and again.
// Safe for concurrent use; it holds no lock while it reads or calls.
type Lists struct {
	cfg Config
	log *slog.Logger

	watching sync.WaitGroup
	mu       sync.Mutex
	running  context.Context // nil before Start; guarded by mu
	changed  func()          // as Start was given it; set before anything watches
	stop     context.CancelFunc
	lists    map[Key]*watched // guarded by mu
}

// watched is one list.
type watched struct {
	mirrors []aptconf.ListedMirror // nil where it is not known; guarded by Lists.mu
	trouble error                  // of the last look; guarded by Lists.mu
	stop    context.CancelFunc     // nil where nobody watches it; guarded by Lists.mu
	looked  chan struct{}          // closed after the first look
	again   chan struct{}          // holds one call to look at once
}

// New returns Lists that know none. The network is used from Start on.
func New(cfg Config) *Lists {
	return &Lists{cfg: cfg, log: cfg.Logger, lists: make(map[Key]*watched)}
}

// Use says which lists are needed from now on. Those that are new are read from the
// disk; what the network brings is for the background. Not for concurrent use with
// itself.
func (l *Lists) Use(keys []Key) {
	l.mu.Lock()
	for key, list := range l.lists {
		if !slices.Contains(keys, key) {
			if list.stop != nil {
				list.stop()
			}
			delete(l.lists, key)
		}
	}
	fresh := slices.DeleteFunc(slices.Clone(keys), func(key Key) bool { return l.lists[key] != nil })
	l.mu.Unlock()

	for _, key := range fresh {
		list := &watched{mirrors: l.onDisk(key), looked: make(chan struct{}), again: make(chan struct{}, 1)}
		l.mu.Lock()
		l.lists[key] = list
		if l.running != nil {
			l.watch(key, list)
		}
		l.mu.Unlock()
	}
}

// onDisk returns a list as far as it can be known without a network; nil where it
// cannot.
func (l *Lists) onDisk(key Key) []aptconf.ListedMirror {
	if strings.HasPrefix(key.At, "mirror+file:") {
		if mirrors, err := l.load(context.Background(), key); err == nil {
			l.keep(key, mirrors)
			return mirrors
		}
	}
	return l.kept(key)
}

// Start has the lists looked at until Close. changed is called when a list says something else than
// before. It may use Lists.
func (l *Lists) Start(changed func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.changed = changed
	l.running, l.stop = context.WithCancel(context.Background())
	for key, list := range l.lists {
		l.watch(key, list)
	}
}

// Close ends what Start began, and waits for it.
func (l *Lists) Close() {
	l.mu.Lock()
	if l.stop != nil {
		l.stop()
	}
	l.mu.Unlock()
	l.watching.Wait()
}

// Refresh has every list looked at now.
func (l *Lists) Refresh() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, list := range l.lists {
		select {
		case list.again <- struct{}{}:
		default: // it is called already
		}
	}
}

// Mirrors returns what a list names, those asked first before the others; nil while
// that is not known.
func (l *Lists) Mirrors(key Key) []aptconf.ListedMirror {
	l.mu.Lock()
	defer l.mu.Unlock()
	if list := l.lists[key]; list != nil {
		return list.mirrors
	}
	return nil
}

// Await waits for the first look at a list and returns why it is not known then.
func (l *Lists) Await(ctx context.Context, key Key) error {
	l.mu.Lock()
	list := l.lists[key]
	l.mu.Unlock()
	if list == nil {
		return errNotLooked
	}
	select {
	case <-list.looked:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if list.mirrors == nil && list.trouble == nil {
		return errNotLooked
	}
	if list.mirrors == nil {
		return list.trouble
	}
	return nil
}

// watch looks at a list in the background. The caller holds mu.
func (l *Lists) watch(key Key, list *watched) {
	ctx, cancel := context.WithCancel(l.running)
	list.stop = cancel
	l.watching.Go(func() {
		defer cancel()
		defer list.saw()
		for failures := 0; ; {
			err := l.look(ctx, key, list)
			if ctx.Err() != nil {
				return
			}
			failures++
			if err == nil {
				failures = 0
			}
			pause := time.NewTimer(l.pause(list, failures))
			select {
			case <-ctx.Done():
			case <-list.again:
			case <-pause.C:
			}
			pause.Stop()
		}
	})
}

// pause is the time until the next fetch, after the given number of failures in a row. It
// varies by a tenth, because the nodes of a cluster start together and should not ask
// together.
func (l *Lists) pause(list *watched, failures int) time.Duration {
	l.mu.Lock()
	known := list.mirrors != nil
	l.mu.Unlock()
	least, most := listWaitedMin, listWaitedMax
	switch {
	case failures == 0:
		least, most = listEvery, listEvery
	case known:
		least, most = listHeldMin, listHeldMax
	}
	d := min(least<<min(max(failures-1, 0), 16), most)
	return d - d/10 + rand.N(d/5)
}

// look reads a list and takes it up if it makes sense.
func (l *Lists) look(ctx context.Context, key Key, list *watched) error {
	mirrors, err := l.load(ctx, key)
	if ctx.Err() != nil {
		return ctx.Err() // dropped meanwhile: what was found says nothing
	}
	l.mu.Lock()
	before, known := list.trouble, list.mirrors != nil
	list.trouble = err
	differs := err == nil && !sameMirrors(list.mirrors, mirrors)
	if differs {
		list.mirrors = mirrors
	}
	l.mu.Unlock()
	if err != nil && (before == nil || before.Error() != err.Error()) {
		now := "the last good one stays in force"
		if !known {
			now = "there is no earlier one"
		}
		l.log.Warn("a list of mirrors cannot be fetched; "+now, "list", key.At, "error", err)
	}
	if differs {
		l.keep(key, mirrors)
		l.changed()
	}
	list.saw() // after changed: the waiting callers find the mirrors in use
	return err
}

// saw ends the wait for the first look. Only the goroutine that looks calls it.
func (m *watched) saw() {
	select {
	case <-m.looked:
	default:
		close(m.looked)
	}
}

// load reads a list and says in the log what it leaves out of it.
func (l *Lists) load(ctx context.Context, key Key) ([]aptconf.ListedMirror, error) {
	text, err := l.cfg.Read(ctx, key)
	if err != nil {
		return nil, err
	}
	list, err := aptconf.ParseListURL(key.At)
	if err != nil {
		return nil, err
	}
	all, notices, err := otherlists.Parse(key.At, text, list.Below)
	if err != nil {
		return nil, err
	}
	used := all[:min(len(all), maxListed)]
	if sameMirrors(l.Mirrors(key), used) {
		return used, nil
	}
	for _, n := range notices {
		l.log.Info("a line of a list of mirrors is left out", "where", n.Where, "line", n.What, "reason", n.Reason)
	}
	l.log.Info("a list of mirrors is taken up", "list", key.At, "mirrors", len(used), "named", len(all))
	if len(used) < len(all) {
		l.log.Warn("only the first mirrors of a long list are used, by their priority", "list", key.At, "used", len(used), "named", len(all))
	}
	return used, nil
}

// sameMirrors reports whether two lists say the same; the order of equals says
// nothing, and some servers turn it with every answer.
func sameMirrors(a, b []aptconf.ListedMirror) bool {
	if len(a) != len(b) {
		return false
	}
	sorted := func(list []aptconf.ListedMirror) []aptconf.ListedMirror {
		return slices.SortedFunc(slices.Values(list), func(x, y aptconf.ListedMirror) int {
			return cmp.Or(cmp.Compare(x.Priority, y.Priority), cmp.Compare(x.URL.String(), y.URL.String()))
		})
	}
	return slices.EqualFunc(sorted(a), sorted(b), func(x, y aptconf.ListedMirror) bool {
		return x.Priority == y.Priority && x.URL.String() == y.URL.String()
	})
}

// StateName is the file of the state that a list is kept in.
func (k Key) StateName() string {
	return fmt.Sprintf("mirrors/%x", sha256.Sum256([]byte(k.At)))
}

// keep stores a list in its own format, so that the next start knows it at once.
func (l *Lists) keep(key Key, mirrors []aptconf.ListedMirror) {
	text := "# " + key.At + "\n" + listText(mirrors)
	if err := l.cfg.State.WriteFile(key.StateName(), []byte(text)); err != nil {
		l.log.Warn("a list of mirrors cannot be kept for the next start", "list", key.At, "error", err)
	}
}

// Text is a list in apt's format; "" while it is not known.
func (l *Lists) Text(key Key) string { return listText(l.Mirrors(key)) }

// listText writes a list in apt's format.
func listText(mirrors []aptconf.ListedMirror) string {
	var text strings.Builder
	for _, m := range mirrors {
		fmt.Fprintf(&text, "%s\tpriority:%d\n", m.URL, m.Priority)
	}
	return text.String()
}

// kept returns the list as it was last fetched; nil if there is none.
func (l *Lists) kept(key Key) []aptconf.ListedMirror {
	text, err := l.cfg.State.ReadFile(key.StateName())
	if err == nil {
		var mirrors []aptconf.ListedMirror
		if mirrors, _, err = aptconf.ParseMirrorList(key.At, text); err == nil {
			return mirrors[:min(len(mirrors), maxListed)]
		}
	}
	if !errors.Is(err, fs.ErrNotExist) {
		l.log.Warn("the kept list of mirrors is no use; it is read anew", "list", key.At, "error", err)
	}
	return nil
}
