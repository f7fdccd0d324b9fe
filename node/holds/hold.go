package holds

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/aptmesh/aptmesh/node/holds/rows"
	"github.com/aptmesh/aptmesh/proto"
)

// Where holds and their sets lie among the state files. A set is called by the SHA-256 of its file, and is written
// before what refers to it.
const (
	holdDir = "holds/of/"
	setDir  = "holds/sets/"
)

// hold is what is held for one owner. A worker replaces it as a whole.
type hold struct {
	// Generations are the newest first. Only the first may be incomplete.
	Generations []*generation `json:"generations"`
}

// generation is what is held of suites as they were at one moment. It is never changed once others can see it.
type generation struct {
	// Taken is when it was current, in whole seconds.
	Taken  time.Time        `json:"taken"`
	Suites []proto.Captured `json:"suites"`
	// Chosen identifies what was chosen of it: a change in the configuration makes it another one.
	Chosen string `json:"chosen"`
	Copies int    `json:"copies,omitempty"`
	// IndexSet and FileSet are the names of the sets. The first has what this node holds whatever its share is:
	// indexes, and files of its share for which no SHA-256 is listed, as far as they were fetched.
	IndexSet string `json:"index_set"`
	FileSet  string `json:"file_set"`
	// Unknown counts files of which the digest is known once they are fetched, with their bytes.
	Unknown      int   `json:"unknown,omitempty"`
	UnknownBytes int64 `json:"unknown_bytes,omitempty"`
	// Whole says that all of this node's share was stored.
	Whole bool `json:"whole,omitempty"`
	// Absent counts files that upstream does not carry in this form, though it lists them, where another form is held.
	Absent int `json:"absent,omitempty"`
	// Unresolved, Unprovable and Unsized are as in want.Result.
	Unresolved int `json:"unresolved,omitempty"`
	Unprovable int `json:"unprovable,omitempty"`
	Unsized    int `json:"unsized,omitempty"`

	indexes, files *rows.Set
}

// same reports whether two generations hold the same of the same publications.
func (g *generation) same(other *generation) bool {
	return g.Chosen == other.Chosen && g.Copies == other.Copies && sameSuites(g.Suites, other.Suites)
}

func sameSuites(a, b []proto.Captured) bool {
	return slices.EqualFunc(a, b, func(a, b proto.Captured) bool { return a.Suite == b.Suite && a.Root == b.Root })
}

func (k *Keeper) readHold(owner string) (hold, error) {
	var h hold
	text, err := k.cfg.State.ReadFile(holdDir + owner)
	if err != nil {
		return h, err
	}
	if err := json.Unmarshal(text, &h); err != nil {
		return hold{}, err
	}
	for _, g := range h.Generations {
		if g.indexes, err = k.readSet(g.IndexSet); err != nil {
			return hold{}, err
		}
		if g.files, err = k.readSet(g.FileSet); err != nil {
			return hold{}, err
		}
	}
	return h, nil
}

func (k *Keeper) readSet(name string) (*rows.Set, error) {
	f, err := k.cfg.State.OpenFile(name)
	if err != nil {
		return nil, err
	}
	return rows.Map(f)
}

// setsOf writes the sets of a generation and takes them over. The caller holds changing until the generation is put.
func (k *Keeper) setsOf(g *generation, indexes, files []proto.Ref) error {
	for _, s := range []struct {
		refs []proto.Ref
		name *string
		set  **rows.Set
	}{{indexes, &g.IndexSet, &g.indexes}, {files, &g.FileSet, &g.files}} {
		name, text, set, err := setOf(s.refs)
		if err != nil {
			return err
		}
		*s.name, *s.set = name, set
		// The same set may be there, of another hold or from before.
		if there, err := k.readSet(name); err == nil {
			*s.set = there
			continue
		} else if !errors.Is(err, fs.ErrNotExist) {
			k.log.Warn("a set of what is held is damaged, and written again", "file", name, "error", err)
		}
		if err := k.cfg.State.WriteFile(name, text); err != nil {
			return fmt.Errorf("write down what is to be held: %w", err)
		}
		if mapped, err := k.readSet(name); err == nil {
			*s.set = mapped // in place of the copy on the heap
		}
	}
	return nil
}

// put makes generations what a worker's hold has: on disk first. The caller holds changing.
func (k *Keeper) put(w *worker, generations ...*generation) error {
	h := hold{generations}
	text, err := json.Marshal(h)
	if err != nil {
		return err
	}
	// While both sets may be the ones of a restart, the store holds both.
	k.mu.Lock()
	old := w.hold
	w.hold = hold{slices.Concat(generations, old.Generations)}
	err = k.settle()
	k.mu.Unlock()
	if err == nil {
		err = k.cfg.State.WriteFile(holdDir+w.owner, text)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if w.hold = h; err != nil {
		w.hold = old
	}
	if failed := k.settle(); err == nil {
		err = failed
	}
	if err != nil {
		return fmt.Errorf("write down what is held: %w", err)
	}
	k.removeSets()
	return nil
}

// removeSets removes sets that no hold refers to. The caller holds changing and mu, or is alone.
func (k *Keeper) removeSets() {
	files, err := k.cfg.State.ListFiles(setDir)
	if err != nil {
		return // another time
	}
	referred := make(map[string]bool)
	for g := range k.generations() {
		referred[g.IndexSet], referred[g.FileSet] = true, true
	}
	for _, file := range files {
		if !referred[file] {
			if err := k.cfg.State.RemoveFile(file); err != nil {
				k.log.Warn("a set that is not held any more cannot be removed", "file", file, "error", err)
			}
		}
	}
}

// letGo ends the hold of a worker that has ended: what only it held may be evicted. Another worker may have taken its
// place.
func (k *Keeper) letGo(w *worker) error {
	k.changing.Lock()
	defer k.changing.Unlock()
	k.mu.Lock()
	defer k.mu.Unlock()
	if now := k.workers[w.owner]; now == nil || now == w {
		if err := k.cfg.State.RemoveFile(holdDir + w.owner); err != nil {
			return err
		}
		delete(k.workers, w.owner)
	}
	err := k.settle()
	k.removeSets()
	return err
}
