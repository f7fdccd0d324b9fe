package holds

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/aptmesh/aptmesh/node/holds/want"
	"github.com/aptmesh/aptmesh/proto"
)

// Request is what is to be held.
type Request struct {
	// Taken is when Suites were current, in whole seconds.
	Taken time.Time
	// Suites are in the order in which they were named.
	Suites []proto.Captured
	Filter want.Filter
	// Captives holds of the indexes of a suite only those that the capture names, in all their compressions.
	Captives bool
	// Unchecked says why upstream could not tell whether there is something newer; "" if it did, or was not asked.
	Unchecked string
	// Copies is how many nodes hold each package; 0: each node.
	Copies int
}

// chosen identifies what a request chooses of its suites.
func (r *Request) chosen() string {
	f := &r.Filter
	text, err := json.Marshal([]any{f.Components, f.Architectures, f.Only, f.Exclude, f.Seed != nil, f.Closure, f.Wishes, f.Installer, r.Captives})
	if err != nil {
		panic(err) // there is nothing in it that cannot be written
	}
	return proto.DigestOf(text).String()
}

// object is one file of a plan.
type object struct {
	proto.ObjectRequest
	// form is the index without compression, where the object is an index: of its forms, upstream need not carry all.
	form  string
	index bool
}

// key places the object on the ring, as peers do for its request.
func (o *object) key() []byte {
	if o.Ref.Digest.IsZero() {
		return o.SHA512[:]
	}
	return o.Ref.Digest[:]
}

// plan is all files that a request wants.
type plan struct {
	request Request
	indexes []object
	files   []object
	chosen  *want.Result
}

// draw reads the roots of a request and the indexes that list what is wanted, which are fetched where the store does
// not have them. It fails where one of them cannot be had: what it lists would be missing without a word.
func (k *Keeper) draw(ctx context.Context, r Request) (*plan, error) {
	select {
	case k.reading <- struct{}{}:
		defer func() { <-k.reading }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	p := &plan{request: r}
	selection := r.Filter.NewSelection()
	seen := make(map[string]bool) // keys of indexes: two suites may have an equal one
	for _, s := range r.Suites {
		format := k.cfg.Formats(s.Suite.Archive)
		if format == nil {
			return nil, fmt.Errorf("the archive %s is not configured", s.Suite.Archive)
		}
		m, err := k.cfg.Catalog.Contents(ctx, r.Taken, s)
		if err != nil {
			return nil, fmt.Errorf("read the root of %s: %w", s.Suite, err)
		}
		add := func(o object) {
			if key := string(o.key()); !seen[key] {
				seen[key] = true
				p.indexes = append(p.indexes, o)
			}
		}
		for _, root := range rootsOf(s) {
			add(root)
		}
		members := k.members(&r, format, s, m)
		for _, member := range members {
			add(object{ObjectRequest: k.objectOf(s, member), form: s.Suite.At(member.Plain).String(), index: true})
		}
		for _, forms := range r.Filter.Lists(format, m, members) {
			if err := k.readAny(ctx, s, forms, func(member *proto.Member, stored io.Reader) error {
				return selection.Add(s.Suite, format, member, stored)
			}); err != nil {
				return nil, err
			}
		}
	}
	p.chosen = selection.Done()
	for i := range p.chosen.Files {
		p.files = append(p.files, object{ObjectRequest: p.chosen.Files[i].Object()})
	}
	p.chosen.Files = nil
	nameOthers(p.files)
	return p, nil
}

// nameOthers tells files that several indexes list under one name with different content of each other: upstream has
// one of them there, and is not to be blamed for it.
func nameOthers(files []object) {
	byName := make([]int, 0, len(files))
	for i := range files {
		if !files[i].Ref.Digest.IsZero() {
			byName = append(byName, i)
		}
	}
	name := func(i int) proto.Location { return files[i].Where.First }
	slices.SortFunc(byName, func(a, b int) int {
		return cmp.Or(cmp.Compare(name(a).Path, name(b).Path), cmp.Compare(name(a).Archive, name(b).Archive))
	})
	for from := 0; from < len(byName); {
		to := from + 1
		for to < len(byName) && name(byName[to]) == name(byName[from]) {
			to++
		}
		for _, i := range byName[from:to] {
			for _, other := range byName[from:to] {
				if other != i {
					files[i].Others = append(files[i].Others, files[other].Ref)
				}
			}
		}
		from = to
	}
}

// rootsOf are the files of a suite's root.
func rootsOf(s proto.Captured) []object {
	root := func(name string, ref proto.Ref) object {
		return object{ObjectRequest: proto.ObjectRequest{Ref: ref, Where: proto.At(s.Suite.At(name)), Class: proto.ClassPrefetch, PeersOnly: true}, index: true}
	}
	all := []object{root(s.RootName, s.Root)}
	for _, c := range s.Companions {
		if c.Known() {
			all = append(all, root(c.Name, c.Ref))
		}
	}
	return all
}

// members are the indexes of a suite that are wanted.
func (k *Keeper) members(r *Request, format want.Format, s proto.Captured, m *proto.Manifest) []*proto.Member {
	members := r.Filter.Indexes(format, m)
	if !r.Captives {
		return members
	}
	captive := make(map[string]bool)
	for i := range m.Members {
		if slices.ContainsFunc(s.Indexes, func(c proto.Captive) bool { return c.Path == m.Members[i].Path }) {
			captive[m.Members[i].Plain] = true
		}
	}
	return slices.DeleteFunc(members, func(member *proto.Member) bool { return !captive[member.Plain] && member.Slot != "" })
}

func (k *Keeper) objectOf(s proto.Captured, m *proto.Member) proto.ObjectRequest {
	o := k.cfg.Catalog.ObjectOf(s.Generation, m)
	o.Class = proto.ClassPrefetch
	return o
}

// readAny reads an index in whichever of its forms can be had, the stored ones first.
func (k *Keeper) readAny(ctx context.Context, s proto.Captured, forms []*proto.Member, read func(*proto.Member, io.Reader) error) error {
	forms = slices.Clone(forms)
	slices.SortStableFunc(forms, func(a, b *proto.Member) int {
		rank := func(m *proto.Member) int64 {
			if k.cfg.Stored(k.objectOf(s, m)) {
				return 0
			}
			return max(m.Ref.Size, 1)
		}
		return cmp.Compare(rank(a), rank(b))
	})
	var failed error
	for _, m := range forms {
		err := k.readOne(ctx, k.objectOf(s, m), func(stored io.Reader) error { return read(m, stored) })
		if err == nil {
			return nil
		}
		failed = fmt.Errorf("read the index %s: %w", s.Suite.At(m.Path), err)
		if !errors.Is(err, proto.ErrNotFound) {
			break // another form says the same: it is not worth another attempt now
		}
	}
	return failed
}

// readOne opens an object once it is proven: a decompressor is no place for bytes of unknown origin.
func (k *Keeper) readOne(ctx context.Context, o proto.ObjectRequest, read func(io.Reader) error) error {
	for range 3 {
		b, err := k.cfg.Open(ctx, o)
		if err != nil {
			return err
		}
		if b.Stream == nil {
			defer b.Close()
			return read(b.Reader())
		}
		_, err = io.Copy(io.Discard, b.Reader())
		b.Close()
		if err != nil {
			return err
		}
		if !k.kept(ctx, o) {
			break
		}
	}
	return fmt.Errorf("%w: the store does not keep %s", proto.ErrNoSpace, o.Where.First)
}

// keptWithin is how long after its last byte a file has its name in the store: an fsync of it, and of a directory.
const keptWithin = 5 * time.Second

// kept waits until what was read to its end is stored. false: the store does not keep it.
func (k *Keeper) kept(ctx context.Context, o proto.ObjectRequest) bool {
	for began, pause := time.Now(), time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		switch {
		case k.has(&object{ObjectRequest: o}):
			return true
		case time.Since(began) > keptWithin || ctx.Err() != nil:
			return false
		}
		time.Sleep(pause)
	}
}

// sort divides the objects of a plan: what this node is to hold, and the refs of all by set. Of files without a SHA-256
// those of this node's share that are stored are known. The caller does not hold mu.
func (k *Keeper) sort(ctx context.Context, p *plan) (mine []object, g *generation, indexes, files []proto.Ref, err error) {
	k.mu.Lock()
	isMine := k.mine(p.request.Copies)
	k.mu.Unlock()
	g = &generation{
		Taken: p.request.Taken, Suites: p.request.Suites, Chosen: p.request.chosen(), Copies: p.request.Copies,
		Unresolved: p.chosen.UnresolvedCount, Unprovable: p.chosen.Unprovable, Unsized: p.chosen.Unsized,
	}
	for _, all := range [][]object{p.indexes, p.files} {
		for i := range all {
			o := &all[i]
			share := o.index || isMine(o.key())
			if share {
				mine = append(mine, *o)
			}
			ref := o.Ref
			switch {
			case !ref.Digest.IsZero() && o.index:
				indexes = append(indexes, ref)
			case !ref.Digest.IsZero():
				files = append(files, ref)
			case !share:
			default:
				if ref, err = k.proven(ctx, o.ObjectRequest); err != nil {
					return nil, nil, nil, nil, err
				}
				if !ref.Digest.IsZero() {
					indexes = append(indexes, ref)
				} else {
					g.Unknown++
					g.UnknownBytes += max(o.Ref.Size, 0)
				}
			}
		}
	}
	return mine, g, indexes, files, nil
}

// proven is what a file without a SHA-256 turned out to be; zero where it is not stored.
func (k *Keeper) proven(ctx context.Context, o proto.ObjectRequest) (proto.Ref, error) {
	if !k.cfg.Stored(o) {
		return proto.Ref{}, ctx.Err()
	}
	b, err := k.cfg.Open(ctx, o)
	if err != nil {
		return proto.Ref{}, err
	}
	defer b.Close()
	if b.Stream != nil {
		return proto.Ref{}, nil // it was evicted just now
	}
	return b.Ref, nil
}
