package node

import (
	"fmt"
	"strings"
	"time"

	"github.com/aptmesh/aptmesh/node/admin"
	"github.com/aptmesh/aptmesh/node/catalog"
	"github.com/aptmesh/aptmesh/node/upstream"
	"github.com/aptmesh/aptmesh/proto"
)

// mirrorStatus is what is known of the mirrors, by archive.
func mirrorStatus(stats []upstream.MirrorStats) map[string][]admin.MirrorStatus {
	all := make(map[string][]admin.MirrorStatus)
	for _, m := range stats {
		all[m.Archive] = append(all[m.Archive], admin.MirrorStatus(m))
	}
	return all
}

// behind lists the mirrors whose Release is older than another's.
func behind(mirrors []catalog.MirrorStatus) []admin.MirrorBehind {
	var late []admin.MirrorBehind
	for _, m := range mirrors {
		if m.Behind > 0 {
			late = append(late, admin.MirrorBehind{URL: m.Mirror, Generation: m.Date, BehindSeconds: m.Behind.Seconds()})
		}
	}
	return late
}

func (n *Node) prefetchStatus() admin.PrefetchStatus {
	p := n.prefetch.Status()
	s := admin.PrefetchStatus{
		Enabled: p.Enabled, Packages: p.Known, Bytes: p.Bytes, Used: p.Used, UsedBytes: p.UsedBytes,
		Objects: make(map[string]int64, len(p.Objects)),
	}
	for outcome, n := range p.Objects {
		s.Objects[string(outcome)] = n
	}
	return s
}

// upstreamURLs are where locations lie upstream, at each mirror, in the order in which
// a request would ask now.
func (n *Node) upstreamURLs(where proto.Where) []string {
	var urls []string
	for loc := range where.All() {
		for _, mirror := range n.upstream.Mirrors(loc.Archive) {
			urls = append(urls, strings.TrimSuffix(mirror, "/")+"/"+proto.EscapePath(loc.Path))
		}
	}
	return urls
}

// maxNamed is how many URLs a sentence names: an archive may have dozens of mirrors.
const maxNamed = 3

func orElse(urls []string) string {
	if len(urls) == 0 {
		return "upstream, once a mirror is known"
	}
	more := ""
	if rest := len(urls) - maxNamed; rest > 0 {
		more = fmt.Sprintf(", or %d more", rest)
		urls = urls[:maxNamed]
	}
	return strings.Join(urls, ", or else ") + more
}

// explainMirrors says which mirrors of an archive are left alone, and why.
func (n *Node) explainMirrors(w *admin.Why, archive string) {
	if n.table.Offline(archive) {
		say(w, "Nobody is asked for what is not held, for the configuration says `offline: true`.")
	}
	for _, m := range mirrorStatus(n.upstream.Stats().Mirrors)[archive] {
		if m.State == admin.MirrorOpen {
			say(w, "The mirror %s is left alone until %s%s: %s.", m.URL, m.Until.UTC().Format(time.TimeOnly+" UTC"), foundBy(m), m.Reason)
		}
	}
}

func foundBy(m admin.MirrorStatus) string {
	if m.FoundBy == "" {
		return ""
	}
	return " on the word of node " + m.FoundBy
}

// explainPlan adds where it would be had from, and what the other nodes have to do
// with that.
func (n *Node) explainPlan(w *admin.Why, want proto.ObjectRequest) {
	if n.cluster != nil {
		route := n.cluster.Mesh().Route(want)
		w.Owners, w.Holders = route.Owners, route.Holders
	}
	if w.Stored == "" {
		w.Plan = n.fetcher.Plan(want)
	}
}
