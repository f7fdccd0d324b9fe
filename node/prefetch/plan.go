package prefetch

import (
	"cmp"
	"maps"
	"slices"

	"github.com/cespare/xxhash/v2"

	"github.com/aptmesh/aptmesh/proto"
)

// maxPlanned bounds the objects of one plan.
const maxPlanned = 20_000

// plan decides what to fetch, and in which order: what clients use, most used first,
// each followed by what it depends on.
//
// Only dependencies that are new themselves are planned, transitively. So the kernel behind
// linux-image-generic is found, whose name no client has asked for before. A dependency that
// is not new is left out: hosts that need it have asked for it already. Following all
// dependencies would fetch half the archive for what one host may lack.
func (p *Prefetcher) plan(j *job, l *listing) []*item {
	d := &drawing{p: p, j: j, l: l, items: make(map[*pkg]*item), seen: make(map[visit]bool), left: j.maxBytes}
	d.heat = p.heatOf(j, l)
	for _, n := range hottestFirst(d.heat) {
		d.follow(n)
	}
	return d.order
}

// heatOf returns the new packages of which clients use an earlier version, and how much.
func (p *Prefetcher) heatOf(j *job, l *listing) map[*pkg]float32 {
	now, within := slotOf(p.cfg.Now()), uint32(j.usedWithin/slotLength)
	heat := make(map[*pkg]float32)
	for _, n := range l.byPath {
		id, ok := j.format.Identity(n.path)
		if !ok {
			continue
		}
		if h := p.usage.heat(keyOf(j.next.Suite.Archive, id), now, within); h > 0 {
			heat[n] = h
		}
	}
	return heat
}

func hottestFirst(heat map[*pkg]float32) []*pkg {
	return slices.SortedFunc(maps.Keys(heat), func(a, b *pkg) int {
		return cmp.Or(cmp.Compare(heat[b], heat[a]), cmp.Compare(a.path, b.path))
	})
}

// drawing is a plan in the making.
type drawing struct {
	p     *Prefetcher
	j     *job
	l     *listing
	heat  map[*pkg]float32 // of what clients use
	items map[*pkg]*item
	seen  map[visit]bool
	order []*item
	left  int64 // of the budget
}

// visit is a package as it is installed on hosts of one architecture: what a package
// for all architectures depends on is different on each.
type visit struct {
	pkg  *pkg
	arch string
}

// follow plans a package that clients use, and breadth first what is new of what it
// depends on.
func (d *drawing) follow(root *pkg) {
	d.take(root, nil)
	var queue []visit
	for _, arch := range d.l.hostsOf(root) {
		queue = append(queue, visit{root, arch})
	}
	for ; len(queue) > 0; queue = queue[1:] {
		v := queue[0]
		if d.seen[v] {
			continue
		}
		d.seen[v] = true
		for _, alternatives := range d.j.format.Needs(v.pkg.needs) {
			if dep, arch := d.choose(alternatives, v.pkg.group, v.arch); dep != nil {
				d.take(dep, d.items[v.pkg])
				queue = append(queue, visit{dep, arch})
			}
		}
	}
}

// take plans one package, as far as the budget goes. One that does not fit makes no
// room for itself: smaller ones after it may fit.
func (d *drawing) take(n *pkg, by *item) {
	if d.items[n] != nil || len(d.order) == maxPlanned {
		return
	}
	if d.heat[n] > 0 {
		by = nil // the better reason
	}
	loc := proto.Location{Archive: d.j.next.Suite.Archive, Path: n.path}
	it := &item{
		loc: loc, name: n.name, label: n.name + " (" + n.arch + ")", by: by,
		object:     proto.ObjectRequest{Ref: n.ref, SHA512: n.sha512, Where: proto.At(loc), Class: proto.ClassPrefetch},
		usedWithin: d.j.usedWithin, maxBytes: d.j.maxBytes, outcome: Waiting, at: d.p.cfg.Now(),
	}
	switch {
	case d.p.cfg.Stored(it.object):
		it.outcome = Stored
	case n.ref.Size > d.left:
		it.outcome = Over
	default:
		d.left -= n.ref.Size
	}
	d.items[n] = it
	d.order = append(d.order, it)
}

// hostsOf are the architectures of hosts that install a package.
func (l *listing) hostsOf(n *pkg) []string {
	if n.universal {
		return slices.Sorted(maps.Keys(l.arches))
	}
	return []string{n.arch}
}

// choose picks what the client would install for a dependency of a package on a host of an
// architecture, if that is new: the first alternative that there is, in the newest
// version that will do, or what provides it where the index tells.
func (d *drawing) choose(alternatives []proto.Need, group, arch string) (*pkg, string) {
	for _, alternative := range alternatives {
		on := arch
		if alternative.Arch != "" {
			on = alternative.Arch
		}
		if n := d.newest(alternative, group, on); n != nil {
			return n, on
		}
		if _, listed := d.l.names[xxhash.Sum64String(alternative.Name)]; listed {
			return nil, ""
		}
	}
	return nil, ""
}

// newest is the newest new version of a package that will do for a dependency.
func (d *drawing) newest(need proto.Need, group, arch string) *pkg {
	var best *pkg
	for _, n := range d.l.byName[need.Name] {
		if n.group != group || n.arch != arch && !n.universal || !d.j.format.Meets(need, n.version) {
			continue
		}
		if best == nil || d.j.format.Newer(n.version, best.version) {
			best = n
		}
	}
	for _, p := range d.l.provided[need.Name] {
		if best == nil && p.group == group && (p.arch == arch || p.universal) && d.j.format.Meets(need, p.version) {
			best = p.pkg
		}
	}
	return best
}
