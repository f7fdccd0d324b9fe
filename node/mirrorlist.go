package node

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
	"github.com/aptmesh/aptmesh/node/config"
)

const (
	// maxListed is how many mirrors of one list are used: the first by priority. A
	// list of all the world's mirrors would have the node try hundreds before it
	// could say that none of them has a file.
	maxListed = 32
	// listEvery is how often a list is looked at again.
	listEvery = time.Hour
	// A list that cannot be had is tried again after a pause that doubles from one of
	// these to the other: soon where the archive waits for it, with patience where an
	// older list does.
	listWaitedMin, listWaitedMax = 2 * time.Second, 30 * time.Second
	listHeldMin, listHeldMax     = time.Minute, listEvery
)

// listKey names a list of mirrors: its place, as parseMirrorList spells it, and how
// its server is spoken to.
type listKey struct {
	at  string
	tls config.MirrorTLS
}

var errNotLooked = errors.New("it is no longer looked for")

// listState keeps the last good lists over restarts.
type listState interface {
	WriteFile(name string, data []byte) error
	ReadFile(name string) ([]byte, error) // fs.ErrNotExist where there is none
}

// mirrorLists keeps the lists of mirrors that archives name, and looks at them again
// and again: a list that cannot be had, or that makes no sense, leaves the last good
// one in force. Safe for concurrent use; it holds no lock while it reads or calls.
type mirrorLists struct {
	// read returns the text of a list.
	read func(context.Context, listKey) ([]byte, error)
	// changed is called when a list says something else than before.
	changed func()
	state   listState
	log     *slog.Logger

	watching sync.WaitGroup
	mu       sync.Mutex
	running  context.Context // nil before start; guarded by mu
	stop     context.CancelFunc
	lists    map[listKey]*mirrorList // guarded by mu
}

// mirrorList is one list.
type mirrorList struct {
	mirrors []aptconf.ListedMirror // nil where it is not known; guarded by mirrorLists.mu
	trouble error                  // of the last look; guarded by mirrorLists.mu
	stop    context.CancelFunc     // nil where nobody watches it; guarded by mirrorLists.mu
	looked  chan struct{}          // closed after the first look
	again   chan struct{}          // holds one call to look at once
}

func newMirrorLists(state listState, log *slog.Logger) *mirrorLists {
	return &mirrorLists{state: state, log: log, lists: make(map[listKey]*mirrorList)}
}

// use says which lists are needed from now on. Those that are new are read from the
// disk; what the network brings is for the background. Not for concurrent use with
// itself.
func (l *mirrorLists) use(keys []listKey) {
	l.mu.Lock()
	for key, list := range l.lists {
		if !slices.Contains(keys, key) {
			if list.stop != nil {
				list.stop()
			}
			delete(l.lists, key)
		}
	}
	fresh := slices.DeleteFunc(slices.Clone(keys), func(key listKey) bool { return l.lists[key] != nil })
	l.mu.Unlock()

	for _, key := range fresh {
		list := &mirrorList{mirrors: l.onDisk(key), looked: make(chan struct{}), again: make(chan struct{}, 1)}
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
func (l *mirrorLists) onDisk(key listKey) []aptconf.ListedMirror {
	if strings.HasPrefix(key.at, "mirror+file:") {
		if mirrors, err := l.load(context.Background(), key); err == nil {
			l.keep(key, mirrors)
			return mirrors
		}
	}
	return l.kept(key)
}

// start has the lists looked at until close.
func (l *mirrorLists) start() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.running, l.stop = context.WithCancel(context.Background())
	for key, list := range l.lists {
		l.watch(key, list)
	}
}

// close ends what start began, and waits for it.
func (l *mirrorLists) close() {
	l.mu.Lock()
	if l.stop != nil {
		l.stop()
	}
	l.mu.Unlock()
	l.watching.Wait()
}

// refresh has every list looked at now.
func (l *mirrorLists) refresh() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, list := range l.lists {
		select {
		case list.again <- struct{}{}:
		default: // it is called already
		}
	}
}

// mirrors returns what a list names, those asked first before the others; nil while
// that is not known.
func (l *mirrorLists) mirrors(key listKey) []aptconf.ListedMirror {
	l.mu.Lock()
	defer l.mu.Unlock()
	if list := l.lists[key]; list != nil {
		return list.mirrors
	}
	return nil
}

// await waits for the first look at a list and returns why it is not known then.
func (l *mirrorLists) await(ctx context.Context, key listKey) error {
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
func (l *mirrorLists) watch(key listKey, list *mirrorList) {
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

// pause is the time until the next look, after so many failures in a row. It varies
// by a tenth: the nodes of a cluster start together and should not ask together.
func (l *mirrorLists) pause(list *mirrorList, failures int) time.Duration {
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
func (l *mirrorLists) look(ctx context.Context, key listKey, list *mirrorList) error {
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
		held := "the last good one stays in force"
		if !known {
			held = "nothing is known of it"
		}
		l.log.Warn("a list of mirrors cannot be had; "+held, "list", key.at, "error", err)
	}
	if differs {
		l.keep(key, mirrors)
		l.changed()
	}
	list.saw() // after changed: whoever waited finds the mirrors in use
	return err
}

// saw ends the wait for the first look. Only the goroutine that looks calls it.
func (m *mirrorList) saw() {
	select {
	case <-m.looked:
	default:
		close(m.looked)
	}
}

// load reads a list and says in the log what it leaves out of it.
func (l *mirrorLists) load(ctx context.Context, key listKey) ([]aptconf.ListedMirror, error) {
	text, err := l.read(ctx, key)
	if err != nil {
		return nil, err
	}
	all, notices, err := aptconf.ParseMirrorList(key.at, text)
	if err != nil {
		return nil, err
	}
	used := all[:min(len(all), maxListed)]
	if sameMirrors(l.mirrors(key), used) {
		return used, nil
	}
	for _, n := range notices {
		l.log.Info("a line of a list of mirrors is left out", "where", n.Where, "line", n.What, "reason", n.Reason)
	}
	l.log.Info("a list of mirrors is taken up", "list", key.at, "mirrors", len(used), "named", len(all))
	if len(used) < len(all) {
		l.log.Warn("only the first mirrors of a long list are used, by their priority", "list", key.at, "used", len(used), "named", len(all))
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

// stateName is the file a list is kept in.
func (k listKey) stateName() string {
	return fmt.Sprintf("mirrors/%x", sha256.Sum256([]byte(k.at)))
}

// keep stores a list in its own format, so that the next start knows it at once.
func (l *mirrorLists) keep(key listKey, mirrors []aptconf.ListedMirror) {
	text := "# " + key.at + "\n" + listText(mirrors)
	if err := l.state.WriteFile(key.stateName(), []byte(text)); err != nil {
		l.log.Warn("a list of mirrors cannot be kept for the next start", "list", key.at, "error", err)
	}
}

// listText writes a list in apt's format.
func listText(mirrors []aptconf.ListedMirror) string {
	var text strings.Builder
	for _, m := range mirrors {
		fmt.Fprintf(&text, "%s\tpriority:%d\n", m.URL, m.Priority)
	}
	return text.String()
}

// kept returns the list as it was when it could last be had; nil where it is not
// known.
func (l *mirrorLists) kept(key listKey) []aptconf.ListedMirror {
	text, err := l.state.ReadFile(key.stateName())
	if err == nil {
		var mirrors []aptconf.ListedMirror
		if mirrors, _, err = aptconf.ParseMirrorList(key.at, text); err == nil {
			return mirrors[:min(len(mirrors), maxListed)]
		}
	}
	if !errors.Is(err, fs.ErrNotExist) {
		l.log.Warn("the kept list of mirrors is no use; it is read anew", "list", key.at, "error", err)
	}
	return nil
}
