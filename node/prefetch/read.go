package prefetch

import (
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/cespare/xxhash/v2"

	"github.com/aptmesh/aptmesh/proto"
)

// Bounds of what is kept of a generation's indices while it is planned. The largest
// publication is a release's: some 70,000 packages, of 300 bytes each as kept here.
const (
	maxNewBytes = 64 << 20  // of new stanzas
	maxNames    = 1_000_000 // packages listed
)

// listing is what a job keeps of a generation: the new packages, and which names
// there are at all.
type listing struct {
	byPath map[string]*pkg
	byName map[string][]*pkg
	// provided are the new packages by the further names that they have for those that need them.
	provided map[string][]provided
	bytes    int
	// names holds a hash of each name listed, new or not. One past maxNames is taken
	// for absent: then a later alternative of a dependency may be fetched for nothing.
	names map[uint64]struct{}
	// arches are the architectures of hosts here: clients use their indices.
	arches map[string]bool
}

// pkg is a package file that is new in the generation.
type pkg struct {
	path                string // below the archive's root
	group               string // see proto.Package
	name, version, arch string
	universal           bool
	needs               string // for Format.Needs
	ref                 proto.Ref
	sha512              proto.SHA512
}

// provided is a package under another name, with the version that this has; "" for none.
type provided struct {
	*pkg
	version string
}

// read reads the indices of a job's generation. An index that cannot be read to its
// end counts as far as it was. Once the job has ended, what comes is of no use.
func (p *Prefetcher) read(j *job) *listing {
	l := &listing{
		byPath: make(map[string]*pkg), byName: make(map[string][]*pkg), provided: make(map[string][]provided),
		names: make(map[uint64]struct{}), arches: make(map[string]bool),
	}
	for _, index := range j.next.Indexes {
		if err := p.readIndex(j, index, l); err != nil && j.ctx.Err() == nil {
			p.log.Warn("an index could not be read to see what to fetch ahead; clients that ask get it in the usual way",
				"suite", j.next.Suite, "index", index.Member.Path, "error", err)
		}
		if arch := j.format.HostArch(index.Member); arch != "" {
			l.arches[arch] = true
		}
	}
	if len(l.arches) == 0 {
		l.guessArches()
	}
	return l
}

// guessArches is for a flat repository, whose index has packages of all architectures.
func (l *listing) guessArches() {
	for _, n := range l.byPath {
		if !n.universal {
			l.arches[n.arch] = true
		}
	}
	if len(l.arches) == 0 {
		l.arches[""] = true // hosts of whatever kind
	}
}

func (p *Prefetcher) readIndex(j *job, index proto.PackageIndex, l *listing) error {
	b, err := p.openProven(j.ctx, index.Object)
	if err != nil {
		return err
	}
	defer b.Close()
	return j.format.Packages(j.next.Suite, index.Member, b.Reader(), func(s *proto.Package) error {
		if err := j.ctx.Err(); err != nil {
			return err
		}
		if len(l.names) < maxNames {
			l.names[xxhash.Sum64(s.Name)] = struct{}{}
		}
		if path := string(s.Path); j.isNew(path) {
			return l.add(path, s, j.format)
		}
		return nil
	})
}

// openProven opens an object that the store has; one that it does not have, once it
// was read to its end: a decompressor is no place for bytes of unknown origin.
func (p *Prefetcher) openProven(ctx context.Context, object proto.ObjectRequest) (*proto.Blob, error) {
	for range 2 {
		b, err := p.cfg.Open(ctx, object)
		if err != nil || b.Stream == nil {
			return b, err
		}
		_, err = io.Copy(io.Discard, b.Reader())
		b.Close()
		if err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("%w: it does not keep %s", proto.ErrNoSpace, object.Ref)
}

// add keeps what is needed of a new package. One that nothing can prove is no use:
// what came would not be what clients are served later.
func (l *listing) add(path string, s *proto.Package, format Format) error {
	object := proto.ObjectRequest{Ref: proto.Ref{Digest: s.SHA256, Size: s.Size}, SHA512: s.SHA512}
	if _, known := l.byPath[path]; known || !object.Provable() || s.Size < 0 {
		return nil
	}
	n := &pkg{path: path, group: s.Group, name: string(s.Name), version: string(s.Version), arch: string(s.Arch), universal: s.Universal,
		needs: string(s.Needs), ref: object.Ref, sha512: s.SHA512}
	further := format.Needs(string(s.Provides))
	l.bytes += 256 + len(n.path) + len(n.name) + len(n.version) + len(n.needs) + len(s.Provides) + 64*len(further)
	if l.bytes > maxNewBytes {
		return fmt.Errorf("more than %d MiB of it are new", maxNewBytes>>20)
	}
	l.byPath[path] = n
	l.byName[n.name] = append(l.byName[n.name], n)
	for _, name := range slices.Concat(further...) {
		l.provided[name.Name] = append(l.provided[name.Name], provided{n, name.Version})
	}
	return nil
}
