package diff

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/aptmesh/aptmesh/proto"
)

// Kind says how a package differs.
type Kind string

// The kinds.
const (
	Added      Kind = "added"
	Removed    Kind = "removed"
	Upgraded   Kind = "upgraded"
	Downgraded Kind = "downgraded"
	Replaced   Kind = "replaced" // other content under the same version
)

// Change is a package that is not the same on both sides. Of several versions on one side, the newest one counts: it is
// what hosts install.
type Change struct {
	Kind          Kind
	Name, Arch    string
	Before, After *Version // nil where the package is not there
	// Security says that a suite of security updates has the same version, on the side after the change.
	Security bool
	// Used is when a host last took a version of the package from this node; zero for never, as far as is known.
	Used time.Time
}

// Version is a version of a package.
type Version struct {
	Version, Source, Component string
	// Size is that of its file in bytes, proto.UnknownSize where the index does not say it.
	Size int64
	// Phased says that only Phase percent of the hosts may install it: see proto.Package.
	Phased bool
	Phase  int

	full uint64 // of its content
}

// listed is a package as an index lists it. The slices are those of the index.
type listed struct {
	*proto.Package
	component string
}

// packages calls emit for each package of one side, the same ones whenever it is called, in any order.
type packages func(emit func(listed) error) error

// maxChanged bounds the packages that differ within one suite: each takes some 300 bytes.
const maxChanged = 200_000

// key identifies a package whatever its version, full one with its content.
func key(p *proto.Package) uint64 { return hash(0, p.Name, p.Arch) }

func full(p *proto.Package) uint64 {
	var size [8]byte
	binary.LittleEndian.PutUint64(size[:], uint64(p.Size))
	return hash(key(p), p.Version, p.SHA256[:], p.SHA512[:], size[:])
}

func hash(seed uint64, parts ...[]byte) uint64 {
	var d xxhash.Digest
	d.ResetWithSeed(seed)
	for _, p := range parts {
		var length [4]byte
		binary.LittleEndian.PutUint32(length[:], uint32(len(p)))
		_, _ = d.Write(length[:])
		_, _ = d.Write(p)
	}
	return d.Sum64()
}

// identity is a package with its content, as the first reading keeps it.
type identity struct{ full, key uint64 }

func identities(read packages) (all []identity, err error) {
	err = read(func(p listed) error {
		all = append(all, identity{full(p.Package), key(p.Package)})
		return nil
	})
	slices.SortFunc(all, func(a, b identity) int { return cmp.Compare(a.full, b.full) })
	return slices.Compact(all), err
}

// changedKeys are the packages of which one side has a content that the other one lacks.
func changedKeys(before, after []identity) map[uint64]bool {
	changed := make(map[uint64]bool)
	for len(before) > 0 || len(after) > 0 {
		switch {
		case len(after) == 0 || len(before) > 0 && before[0].full < after[0].full:
			changed[before[0].key] = true
			before = before[1:]
		case len(before) == 0 || after[0].full < before[0].full:
			changed[after[0].key] = true
			after = after[1:]
		default:
			before, after = before[1:], after[1:]
		}
	}
	return changed
}

// compare returns what differs, by name and architecture. used says when a host took the package of a path; nil for nobody
// knows.
func compare(newer func(a, b string) bool, before, after packages, used func(path []byte) time.Time) ([]Change, error) {
	was, err := identities(before)
	if err != nil {
		return nil, err
	}
	is, err := identities(after)
	if err != nil {
		return nil, err
	}
	changed := changedKeys(was, is)
	if len(changed) > maxChanged {
		return nil, fmt.Errorf("%d packages of it differ: more than %d are not listed", len(changed), maxChanged)
	}
	all := make(map[uint64]*Change, len(changed))
	for _, side := range []struct {
		read packages
		of   func(*Change) **Version
	}{{before, func(c *Change) **Version { return &c.Before }}, {after, func(c *Change) **Version { return &c.After }}} {
		err := side.read(func(p listed) error {
			k := key(p.Package)
			if !changed[k] {
				return nil
			}
			c := all[k]
			if c == nil {
				c = &Change{Name: string(p.Name), Arch: string(p.Arch)}
				all[k] = c
			}
			if used != nil {
				if at := used(p.Path); at.After(c.Used) {
					c.Used = at
				}
			}
			if v := side.of(c); *v == nil || newer(string(p.Version), (*v).Version) {
				*v = versionOf(p)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return changesOf(all, newer), nil
}

func versionOf(p listed) *Version {
	source := p.Source
	if len(source) == 0 {
		source = p.Name
	}
	return &Version{
		Version: string(p.Version), Source: string(source), Component: p.component, Size: p.Size, Phased: p.Phased, Phase: p.Phase, full: full(p.Package),
	}
}

// changesOf names the changes and puts them in order. What differs in older versions only changes nothing for hosts.
func changesOf(all map[uint64]*Change, newer func(a, b string) bool) []Change {
	list := make([]Change, 0, len(all))
	for _, c := range all {
		switch {
		case c.Before == nil:
			c.Kind = Added
		case c.After == nil:
			c.Kind = Removed
		case c.Before.full == c.After.full:
			continue
		case newer(c.After.Version, c.Before.Version):
			c.Kind = Upgraded
		case newer(c.Before.Version, c.After.Version):
			c.Kind = Downgraded
		default:
			c.Kind = Replaced
		}
		list = append(list, *c)
	}
	slices.SortFunc(list, func(a, b Change) int { return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Arch, b.Arch)) })
	return list
}
