package snapshot

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/aptmesh/aptmesh/node/snapshot/names"
	"github.com/aptmesh/aptmesh/proto"
)

// keptDir is where the packages that a snapshot keeps are written down: digests, in ascending order.
const keptDir = "snapshots/kept/"

// Decode reads a record, whoever wrote it.
func Decode(text []byte) (*Record, error) { return decode(text) }

// Text returns the name of the snapshot that a name leads to, its record, and the text of that. It fails with ErrUnknown.
func (k *Keeper) Text(id string) (name string, r *Record, text []byte, err error) {
	t := k.table.Load()
	at, ok := follow(t.names, id)
	switch {
	case ok && at.digest == names.Live:
		return "", nil, nil, fmt.Errorf("%s is the archives as they are now; take a snapshot of them first (aptmesh snapshot create)", id)
	case !ok:
		return "", nil, nil, fmt.Errorf("%.70q: %w", id, ErrUnknown)
	case t.records[at.digest] == nil:
		return "", nil, nil, fmt.Errorf("the record of %s is lost on this node: nothing of it can be read", id)
	}
	text, err = k.cfg.State.ReadFile(recordDir + at.digest)
	return at.snapshot, t.records[at.digest], text, err
}

// Import gives a name to a snapshot that another cluster has taken, and keeps packages of it from being evicted on this node. All that its
// record names is stored. Where the name stands for that record already, only the packages are added. It fails with
// ErrExists, or where a disk fails.
func (k *Keeper) Import(ctx context.Context, name, by string, text []byte, packages []proto.Digest) (*Snapshot, error) {
	k.MeetAll(ctx)
	r, err := decode(text)
	if err != nil {
		return nil, err
	}
	digest := proto.DigestOf(text).String()
	k.pin(digest, r)
	act, err := k.importAs(name, digest, by, text, r, packages)
	if err != nil {
		k.letGo(digest)
		return nil, fmt.Errorf("import the snapshot %s: %w", name, err)
	}
	k.cfg.Logger.Info("an operator has imported a snapshot", "snapshot", name, "by", by, "record", digest[:12], "packages", len(packages))
	s := snapshotOf(names.Named{Key: names.Key{Kind: names.Snapshot, Name: name}, Act: act}, r)
	s.Unreached = k.MeetAll(ctx)
	return &s, nil
}

func (k *Keeper) importAs(name, digest, by string, text []byte, r *Record, packages []proto.Digest) (names.Act, error) {
	if act, ok := k.table.Load().names.Get(names.Key{Kind: names.Snapshot, Name: name}); ok && act.Target == digest {
		return act, k.keep(digest, packages)
	}
	if err := k.free(name); err != nil {
		return names.Act{}, err
	}
	if err := k.keep(digest, packages); err != nil {
		return names.Act{}, err
	}
	return k.name(name, digest, by, text, r)
}

// keep adds packages to those that a snapshot keeps.
func (k *Keeper) keep(digest string, packages []proto.Digest) error {
	all := append(k.readKept(digest), packages...)
	slices.SortFunc(all, func(a, b proto.Digest) int { return cmp.Compare(string(a[:]), string(b[:])) })
	all = slices.Compact(all)
	text := make([]byte, 0, len(all)*len(proto.Digest{}))
	for _, d := range all {
		text = append(text, d[:]...)
	}
	k.cfg.Store.Pin(keptOwner(digest), all)
	return k.cfg.State.WriteFile(keptDir+digest, text)
}

func keptOwner(digest string) string { return "packages of snapshot " + digest }

// readKept reads which packages a snapshot keeps; none where that cannot be read.
func (k *Keeper) readKept(digest string) (all []proto.Digest) {
	text, err := k.cfg.State.ReadFile(keptDir + digest)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			k.cfg.Logger.Error("which packages a snapshot keeps cannot be read: they may be evicted until it is imported again", "record", digest[:12], "error", err)
		}
		return nil
	}
	for d := range slices.Chunk(text, len(proto.Digest{})) {
		if len(d) == len(proto.Digest{}) {
			all = append(all, proto.Digest(d))
		}
	}
	return all
}

// removeKept removes what was written for imports that were not carried to their end. None is under way.
func (k *Keeper) removeKept(t *table) {
	files, err := k.cfg.State.ListFiles(keptDir)
	if err != nil {
		return
	}
	for _, file := range files {
		if !t.needed[strings.TrimPrefix(file, keptDir)] {
			if err := k.cfg.State.RemoveFile(file); err != nil {
				k.cfg.Logger.Warn("what an import has left cannot be removed", "file", file, "error", err)
			}
		}
	}
}
