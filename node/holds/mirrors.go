package holds

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/aptmesh/aptmesh/node/holds/holdconf"
	"github.com/aptmesh/aptmesh/node/holds/want"
	"github.com/aptmesh/aptmesh/proto"
)

// Mirror is a mirror as configured, with its suites as the format of its archive names them.
type Mirror struct {
	holdconf.Mirror
	IDs []proto.Suite
}

// mirrorPrefix begins the owners of mirrors; what follows is the name.
const mirrorPrefix = "mirror "

func (m *Mirror) filter() want.Filter {
	match := func(m holdconf.Match) want.Match { return want.Match(m) }
	return want.Filter{
		Components: m.Components, Architectures: m.Architectures, Only: match(m.Only.Match), Exclude: match(m.Exclude),
		Closure: m.Only.Closure, Wishes: m.Only.Recommends, Installer: m.Installer,
	}
}

// SetMirrors puts the mirrors of a configuration in force. What a mirror held that is not among them may be evicted.
func (k *Keeper) SetMirrors(mirrors []Mirror) {
	k.mu.Lock()
	named := make(map[string]bool)
	for _, m := range mirrors {
		owner := mirrorPrefix + m.Name
		named[owner] = true
		w := k.workers[owner]
		if w == nil {
			w = newWorker(k, owner, hold{})
			k.workers[owner] = w
		}
		window, _ := holdconf.ParseWindow(m.Window) // it was checked
		w.set(settings{
			source: func(ctx context.Context, check bool) (Request, error) { return k.mirrored(ctx, &m, check) },
			keep:   m.Generations, follow: m.Follow, window: window.Next, rate: m.Rate, every: m.CheckEvery, suites: m.IDs,
		})
	}
	var gone []*worker
	for owner, w := range k.workers {
		if strings.HasPrefix(owner, mirrorPrefix) && !named[owner] {
			gone = append(gone, w)
		}
	}
	k.mu.Unlock()
	for _, w := range gone {
		k.drop(w)
	}
}

// drop ends a hold.
func (k *Keeper) drop(w *worker) {
	w.stop()
	if err := k.letGo(w); err != nil {
		k.log.Error("what is held no more stays until the node starts again", "hold", w.owner, "error", err)
		return
	}
	k.log.Info("a hold has ended: what only it held may be evicted", "hold", w.owner)
}

// mirrored is what a mirror is to hold now.
func (k *Keeper) mirrored(ctx context.Context, m *Mirror, check bool) (Request, error) {
	r := Request{Taken: k.cfg.Now().UTC().Truncate(time.Second), Filter: m.filter(), Copies: m.Copies}
	for _, id := range m.IDs {
		found := false
		// A suite that nobody has asked for yet is read by the check.
		for _, ask := range []bool{check, true} {
			if ask {
				if _, err := k.cfg.Catalog.Check(ctx, id); err != nil && !check {
					return r, fmt.Errorf("%s: %w", id, err)
				} else if err != nil {
					r.Unchecked = fmt.Sprintf("%s: %v", id, err)
					k.log.Warn("whether a suite of a mirror has a newer generation cannot be told; the one that is known is held", "suite", id.String(), "error", err)
				}
			}
			for _, s := range k.cfg.Catalog.Capture(m.Archive) {
				if s.Suite == id {
					s.Indexes, found = nil, true // those that hosts use say nothing here
					r.Suites = append(r.Suites, s)
				}
			}
			if found {
				break
			}
		}
		if !found {
			return r, fmt.Errorf("%s: upstream has no root of it that can be trusted, or it could not be asked (aptmesh status says more)", id)
		}
	}
	return r, nil
}

// Switched has mirrors follow a suite that has a new generation.
func (k *Keeper) Switched(id proto.Suite) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, w := range k.workers {
		w.mu.Lock()
		wanted := slices.Contains(w.settings.suites, id)
		w.mu.Unlock()
		if wanted {
			w.wake(wakeSwitch)
		}
	}
}

func (k *Keeper) mirror(name string) (*worker, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if w := k.workers[mirrorPrefix+name]; w != nil {
		return w, nil
	}
	return nil, fmt.Errorf("mirror %q: %w", name, ErrUnknown)
}

// Run has a mirror ask upstream and fetch what is missing now, whatever its window is. It does not wait.
func (k *Keeper) Run(name string) error { return k.wakeMirror(name, wakeRun) }

// Verify has a mirror read and hash all that it holds, and fetch what is damaged or missing. It does not wait.
func (k *Keeper) Verify(name string) error { return k.wakeMirror(name, wakeVerify) }

// settled fails while this node does not know what its share is.
func (k *Keeper) settled() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.shared {
		return errors.New("this node does not know yet who is in the cluster: try again in a moment")
	}
	return nil
}

func (k *Keeper) wakeMirror(name string, why reason) error {
	w, err := k.mirror(name)
	if err != nil {
		return err
	}
	if err := k.settled(); err != nil {
		return err
	}
	w.mu.Lock()
	w.reasons |= why
	if w.phase != Fetching && w.phase != Verifying {
		w.phase, w.failure = Planning, nil // so that who looks now does not take the last run for this one
	}
	w.mu.Unlock()
	w.wake(why)
	return nil
}

// Plan says what a mirror will take, from the indexes that upstream has now. Nothing is held by it, and no package is
// fetched.
func (k *Keeper) Plan(ctx context.Context, name string) (*Forecast, error) {
	w, err := k.mirror(name)
	if err != nil {
		return nil, err
	}
	if err := k.settled(); err != nil {
		return nil, err
	}
	w.mu.Lock()
	from := w.settings.source
	w.mu.Unlock()
	r, err := from(ctx, true)
	if err != nil {
		return nil, err
	}
	return k.Forecast(ctx, w.owner, r)
}

// Mirrors are the mirrors by name.
func (k *Keeper) Mirrors() []Status { return k.statuses(mirrorPrefix) }

// statuses are those of holds whose owner begins with a prefix.
func (k *Keeper) statuses(prefix string) (all []Status) {
	k.mu.Lock()
	var workers []*worker
	for _, owner := range slices.Sorted(maps.Keys(k.workers)) {
		if strings.HasPrefix(owner, prefix) {
			workers = append(workers, k.workers[owner])
		}
	}
	k.mu.Unlock()
	for _, w := range workers {
		all = append(all, k.status(w, strings.TrimPrefix(w.owner, prefix)))
	}
	slices.SortFunc(all, func(a, b Status) int { return cmp.Compare(a.Name, b.Name) })
	return all
}
