package prefetch

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/cespare/xxhash/v2"

	"github.com/aptmesh/aptmesh/aptmeta"
	"github.com/aptmesh/aptmesh/proto"
)

// Bounds of what is kept of a generation's indices while it is planned. The largest
// publication is a release's: some 70,000 packages, of 300 bytes each as kept here.
const (
	maxIndex    = 4 << 30   // bytes of one index, decompressed
	maxNewBytes = 64 << 20  // of new stanzas
	maxNames    = 1_000_000 // packages listed
)

// listing is what a job keeps of a generation: the new packages, and which names
// there are at all.
type listing struct {
	byPath map[string]*pkg
	byName map[string][]*pkg
	bytes  int
	// names holds a hash of each name listed, new or not. One past maxNames is taken
	// for absent: then a later alternative of a dependency may be fetched for nothing.
	names map[uint64]struct{}
	// arches are the architectures of hosts here: clients use their indices.
	arches map[string]bool
}

// pkg is a package file that is new in the generation.
type pkg struct {
	path                      string // below the archive's root
	base                      string // that its index was read with
	name, version, arch, deps string
	ref                       proto.Ref
	sha512                    proto.SHA512
}

// read reads the indices of a job's generation. An index that cannot be read to its
// end counts as far as it was. Once the job has ended, what comes is of no use.
func (p *Prefetcher) read(j *job) *listing {
	l := &listing{
		byPath: make(map[string]*pkg), byName: make(map[string][]*pkg),
		names: make(map[uint64]struct{}), arches: make(map[string]bool),
	}
	for _, index := range j.flip.Indices {
		if err := p.readIndex(j, index, l); err != nil && j.ctx.Err() == nil {
			p.log.Warn("an index could not be read to see what to fetch ahead; clients that ask get it in the usual way",
				"suite", j.flip.Suite, "index", index.Path, "error", err)
		}
		if arch := archOfIndex(index.Path); arch != "" {
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
		if n.arch != "all" {
			l.arches[n.arch] = true
		}
	}
	if len(l.arches) == 0 {
		l.arches["all"] = true
	}
}

func (p *Prefetcher) readIndex(j *job, index Index, l *listing) error {
	b, err := p.openProven(j.ctx, index.Want)
	if err != nil {
		return err
	}
	defer b.Close()
	plain, err := aptmeta.Decompress(index.Path, b.Reader(), maxIndex)
	if err != nil {
		return err
	}
	defer plain.Close()
	return aptmeta.ParseStanzas(index.Path, plain, func(s *aptmeta.Stanza) error {
		if err := j.ctx.Err(); err != nil {
			return err
		}
		path := index.Base + string(s.Path)
		if len(l.names) < maxNames {
			l.names[xxhash.Sum64(s.Package)] = struct{}{}
		}
		if j.isNew(path) {
			return l.add(path, index.Base, s)
		}
		return nil
	})
}

// openProven opens an object that the store has; one that it does not have, once it
// was read to its end: a decompressor is no place for bytes of unknown origin.
func (p *Prefetcher) openProven(ctx context.Context, want proto.Want) (*proto.Blob, error) {
	for range 2 {
		b, err := p.cfg.Open(ctx, want)
		if err != nil || b.Stream == nil {
			return b, err
		}
		_, err = io.Copy(io.Discard, b.Reader())
		b.Close()
		if err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("%w: it does not keep %s", proto.ErrNoSpace, want.Ref)
}

// add keeps what is needed of a new package. One that nothing can prove is no use:
// what came would not be what clients are served later.
func (l *listing) add(path, base string, s *aptmeta.Stanza) error {
	want := proto.Want{Ref: proto.Ref{Digest: s.SHA256, Size: s.Size}, SHA512: s.SHA512}
	if _, known := l.byPath[path]; known || !want.Provable() || s.Size < 0 {
		return nil
	}
	n := &pkg{path: path, base: base, name: string(s.Package), version: string(s.Version), arch: string(s.Architecture),
		ref: want.Ref, sha512: s.SHA512}
	// What must be there before it is unpacked comes first.
	n.deps = strings.Trim(string(s.PreDepends)+","+string(s.Depends), ",")
	l.bytes += 256 + len(n.path) + len(n.name) + len(n.version) + len(n.deps)
	if l.bytes > maxNewBytes {
		return fmt.Errorf("more than %d MiB of it are new", maxNewBytes>>20)
	}
	l.byPath[path] = n
	l.byName[n.name] = append(l.byName[n.name], n)
	return nil
}

// archOfIndex reads the architecture off dists/<suite>/<component>/binary-<arch>/.
func archOfIndex(path string) string {
	dir, _ := cutLast(path)
	_, last := cutLast(dir)
	arch, ok := strings.CutPrefix(last, "binary-")
	if !ok || arch == "all" {
		return ""
	}
	return arch
}

func cutLast(path string) (dir, name string) {
	i := strings.LastIndexByte(path, '/')
	return path[:max(i, 0)], path[i+1:]
}
