package operator

import (
	"cmp"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/aptmesh/aptmesh/node/admin"
	"github.com/aptmesh/aptmesh/node/archives"
	"github.com/aptmesh/aptmesh/node/catalog"
	"github.com/aptmesh/aptmesh/node/front"
	"github.com/aptmesh/aptmesh/proto"
)

// Why explains what the node would answer to a request for a URL, without doing
// anything about it.
func (o *Operator) Why(target string) *admin.Why {
	w := &admin.Why{Size: proto.UnknownSize}
	if target = o.meant(w, target); target == "" {
		return w
	}
	w.URL = target
	if bare, _, has := strings.Cut(target, "?"); has {
		w.URL = bare + "?***" // mostly a token, and of no account here
	}
	o.explainHost(w, target)
	e := o.cfg.Front.Explain(target)
	w.Would, w.Latest = (*admin.Failure)(e.Would), (*admin.Failure)(e.Latest)
	loc := e.Location
	if loc == (proto.Location{}) {
		explainFailures(w)
		if e.List != "" && w.Would == nil {
			say(w, "It is a list of mirrors that the archive %s is configured with. The node answers a proxy request for it itself.", e.List)
		}
		if e.Relayed {
			say(w, "It is of no archive, and connect_allow lets hosts reach it: a proxy request is passed on, and nothing of the answer is checked or stored here.")
		}
		o.explainTunnel(w, target)
		return w
	}
	info := o.cfg.Archives.FormatOf(loc.Archive).PathInfo(loc.Path)
	w.Location, w.Archive, w.Kind = loc.String(), loc.Archive, info.Kind
	if !o.cfg.Archives.Has(loc.Archive) {
		say(w, "The archive %s is one of a class. It is not there yet: the first request makes it.", loc.Archive)
		w.Unread = []string{loc.Archive}
		w.Would = (*admin.Failure)(o.wouldFail(w, loc, false))
		explainFailures(w)
		return w
	}
	suite, _ := o.cfg.Catalog.SuiteOf(loc)
	w.Suite = suite.Path()
	w.UpstreamURLs = o.upstreamURLs(proto.At(loc))
	if e.ListOf != "" {
		say(w, "Where the archive has %s, a request is answered with a list that this node writes itself. It names no other mirror, and is of the generation that a host would get then.", e.ListOf)
	}
	if e.Moment != "" {
		say(w, "This node does not hold all of the archive as it was at %s. It is asked of the service of `history`, as the archive %s.", e.Moment, loc.Archive)
	}
	if e.Snapshot != "" {
		o.whyInSnapshot(w, e.Snapshot, loc)
		return w
	}
	entry, known := o.cfg.Catalog.Explain(loc)
	want := entry.Object
	if known {
		w.Listed, w.Generation = entry.Listed, entry.Generation
		w.Digest, w.Size = want.Ref.Digest, want.Ref.Size
		w.UpstreamURLs = o.upstreamURLs(want.Where)
		tier, inFlight := o.cfg.Fetcher.Stored(want)
		w.Stored, w.InFlight = string(tier), inFlight
	} else {
		want = proto.ObjectRequest{Where: proto.At(loc), Ref: proto.Ref{Size: proto.UnknownSize}, Class: proto.ClassPackage}
	}
	nodes := o.explainPlan(w, loc.Archive, want, known)
	if !known && !info.Root {
		for _, id := range o.cfg.Catalog.Unread(loc) {
			w.Unread = append(w.Unread, cmp.Or(strings.TrimPrefix(id.Path(), "dists/"), loc.Archive))
		}
		slices.Sort(w.Unread)
		nodes = nodes || len(w.Unread) > 0 && o.cfg.Cluster != nil // which nodes are asked depends on what an index lists
	}
	w.Would = (*admin.Failure)(o.wouldFail(w, loc, nodes))
	explainFailures(w)
	switch {
	case known:
		explain(w, entry)
	case w.Would != nil:
	case info.Root:
		say(w, "This node does not hold it. A request would have the suite's Release read from upstream and checked; it is never passed on unchecked.")
	default:
		o.explainUnknown(w, loc)
	}
	if err := o.failureOf(suite); err != nil && w.Would == nil {
		say(w, "The latest check of its suite brought nothing new: %s", sentence(err.Error()))
	}
	o.explainMirrors(w, loc.Archive)
	if keys := o.cfg.Front.KeptOut(loc.Archive); keys != "" {
		say(w, "Not every host may have it: see %s in the configuration.", keys)
	}
	if degraded := o.cfg.Store.Stats().Degraded; degraded != "" {
		say(w, "The disk of this node: %s.", degraded)
	}
	if said := o.cfg.Prefetch.Why(loc); said != "" {
		say(w, "%s", said)
	}
	o.explainTunnel(w, target)
	if w.Latest != nil && harmless(w) {
		explainLatest(w)
	}
	if !known && !info.Root && !o.holdsRelease(loc.Archive) {
		w.Unread = []string{loc.Archive}
	}
	return w
}

// holdsRelease reports whether this node has a generation of any suite of an archive.
func (o *Operator) holdsRelease(archive string) bool {
	return slices.ContainsFunc(o.cfg.Catalog.Stats(), func(st catalog.SuiteStats) bool {
		return st.Suite.Archive == archive && !st.Date.IsZero()
	})
}

// meant is the URL that an operator asks for. apt's own line about a file leads to it, too. It is "" for a line that
// does not.
func (o *Operator) meant(w *admin.Why, target string) string {
	urls, err := archives.DescribedURLs(target)
	switch {
	case err != nil:
		w.URL = target
		say(w, "%s", sentence(err.Error()))
		return ""
	case len(urls) == 0:
		return target
	}
	// Which compression of an index the host asked for shows in what hosts have asked for, and so in what is stored.
	i := max(0, slices.IndexFunc(urls, func(at string) bool {
		e := o.cfg.Front.Explain(at)
		entry, known := o.cfg.Catalog.Explain(e.Location)
		if !known {
			return false
		}
		tier, inFlight := o.cfg.Fetcher.Stored(entry.Object)
		return e.Latest != nil || tier != "" || inFlight
	}))
	say(w, "apt's line is about %s.", urls[i])
	return urls[i]
}

// explainHost says whose answer this is, if the URL is that of another node.
func (o *Operator) explainHost(w *admin.Why, target string) {
	host, here := o.cfg.Front.OwnHost(target)
	if host == "" || here {
		return
	}
	name := (&url.URL{Host: host}).Hostname()
	const answer = "What follows is the answer of this node, %s"
	if o.cfg.Cluster != nil {
		for _, p := range o.cfg.Cluster.Mesh().Peers() {
			if addr, _, _ := net.SplitHostPort(p.Addr); p.Name == name || addr == name || strings.HasPrefix(name, p.Name+".") {
				say(w, "The URL is one of the node %s. "+answer+": ask %s for its own.", p.Name, o.cfg.Name, p.Name)
				return
			}
		}
	}
	if net.ParseIP(name) != nil {
		say(w, "The URL names %s, where this node does not listen. "+answer+"; the one at that address may answer otherwise.", host, o.cfg.Name)
	}
}

func say(w *admin.Why, format string, args ...any) {
	w.Sentences = append(w.Sentences, fmt.Sprintf(format, args...))
}

// failedLately is for how long the failure of the latest request to a mirror says how the next one ends. Suites that
// hosts use are checked more often.
const failedLately = 5 * time.Minute

// wouldFail is the error that a request for a location meets as things stand, as far as the node knows that
// without asking anybody; nil if it knows of none. nodes says that other nodes would be asked.
func (o *Operator) wouldFail(w *admin.Why, loc proto.Location, nodes bool) *front.Failure {
	if err := o.cfg.Catalog.Objection(loc); err != nil {
		return o.cfg.Front.Answer(loc, err)
	}
	return o.unreachable(w, loc, nodes)
}

// unreachable is wouldFail for an object that no source is known for at this moment.
func (o *Operator) unreachable(w *admin.Why, loc proto.Location, nodes bool) *front.Failure {
	if w.Stored != "" || w.InFlight || len(w.Holders) > 0 {
		return nil
	}
	if o.cfg.Archives.Offline(loc.Archive) {
		if nodes {
			return nil
		}
		return o.cfg.Front.Answer(loc, &proto.Unavailable{Reason: "it is not stored, and the archive is offline here (offline: true)"})
	}
	said := ""
	for _, m := range mirrorStatus(o.cfg.Upstream.Stats().Mirrors)[loc.Archive] {
		switch {
		case m.History: // it is asked only for what the others have dropped
		case m.State == admin.MirrorOpen:
			said = "none of its mirrors can be asked now: " + m.Reason
		case time.Since(m.LastFail) < failedLately:
			said = fmt.Sprintf("the latest request to its mirrors failed, %s ago: %s", time.Since(m.LastFail).Round(time.Second), m.LastError)
		default:
			return nil
		}
	}
	if said == "" {
		return nil
	}
	return o.cfg.Front.Answer(loc, &proto.Unavailable{Reason: said})
}

// explainFailures says what went or would go wrong, what that means, and what to do.
func explainFailures(w *admin.Why) {
	if f := w.Would; f != nil {
		say(w, "As things stand, a request is answered with %s: %s", statusAndReason(f), sentence(f.Text))
		advise(w, f)
	}
	if w.Latest != nil && !harmless(w) {
		explainLatest(w)
	}
}

// harmless reports whether the latest error of a URL is one that hosts get in the normal course of things, and a request
// would get the file: what became of the file goes before it.
func harmless(w *admin.Why) bool {
	r, _ := front.ReasonOf(w.Latest.Reason)
	return w.Would == nil && (r.Status == http.StatusRequestedRangeNotSatisfiable || r.Status == http.StatusPreconditionFailed)
}

// explainLatest says which error a host got last.
func explainLatest(w *admin.Why) {
	f := w.Latest
	to, times := "", ""
	if f.Client != "" {
		to = " to " + f.Client
	}
	if f.Count > 1 {
		times = fmt.Sprintf("; it was answered so %d times in a row", f.Count)
	}
	at := f.Time.UTC().Format(time.DateTime + " UTC")
	if w.Would != nil && w.Would.Reason == f.Reason {
		say(w, "The latest such answer went out at %s%s%s.", at, to, times)
		return
	}
	say(w, "The latest error for it went out at %s%s%s: %s: %s", at, to, times, statusAndReason(f), sentence(f.Text))
	advise(w, f)
}

func statusAndReason(f *admin.Failure) string {
	if f.Status == 0 {
		return "a transfer that broke off (" + f.Reason + ")"
	}
	return fmt.Sprintf("%d (%s)", f.Status, f.Reason)
}

func advise(w *admin.Why, f *admin.Failure) {
	if r, ok := front.ReasonOf(f.Reason); ok {
		say(w, "%s means: %s What to do: %s", r.Word, sentence(r.Means), sentence(r.Next))
	}
}

// sentence ends a text with one full stop.
func sentence(text string) string {
	return strings.TrimRight(text, ". \n") + "."
}

// explainTunnel says what becomes of an https URL when a host uses this node as its proxy for https as well.
func (o *Operator) explainTunnel(w *admin.Why, target string) {
	tunnel := front.Tunnel(target)
	if tunnel == "" {
		return
	}
	e := o.cfg.Front.Explain(tunnel)
	if e.Would != nil && w.Archive != "" {
		say(w, "A host that has it as https does not ask this node for it, or gets %s for %s. To have it cached, write %s/%s in the host's sources in place of the archive's https URL.",
			statusAndReason((*admin.Failure)(e.Would)), tunnel, o.nodeURL(), w.Archive)
		return
	}
	if e.Would == nil {
		say(w, "A host that uses this node as its proxy for https opens a tunnel (%s), which is allowed: nothing of it is checked or stored here.", tunnel)
		return
	}
	say(w, "A host that uses this node as its proxy for https asks for %s instead and gets %s: %s", tunnel, statusAndReason((*admin.Failure)(e.Would)), sentence(e.Would.Text))
	if e.Latest != nil && w.Latest == nil {
		w.Latest = (*admin.Failure)(e.Latest)
		say(w, "The latest such request came at %s from %s.", e.Latest.Time.UTC().Format(time.DateTime+" UTC"), e.Latest.Client)
	}
}

// nodeURL is where hosts reach this node, as far as it knows that itself.
func (o *Operator) nodeURL() string {
	if at, err := o.cfg.Archives.Config().HostURL(o.cfg.Node.Addrs()); err == nil {
		return strings.TrimSuffix(at, "/")
	}
	return "http://NODE:3142"
}

// explain puts the facts into sentences.
func explain(w *admin.Why, e proto.Resolution) {
	switch {
	case w.Would != nil && w.Stored != "":
		say(w, "It is stored here, and not served.")
	case w.Stored != "":
		say(w, "It is stored here: a request is answered from %s.", w.Stored)
	case w.InFlight:
		say(w, "It is being fetched at this moment: a request joins that fetch.")
	case w.Would == nil:
		say(w, "It is not stored: a request fetches it from %s.", orElse(w.UpstreamURLs))
	}
	switch {
	case !e.Listed:
		say(w, "No signed metadata lists it: it is passed on, but not vouched for.")
	case !e.Generation.IsZero():
		say(w, "It belongs to the generation of %s that is dated %s.", suiteName(w), e.Generation.UTC().Format(time.RFC3339))
	default:
		say(w, "A signed index lists it, so its bytes are checked before the last one is given out.")
	}
	if !w.Digest.IsZero() {
		say(w, "Its SHA-256 must be %s.", w.Digest)
	}
	if e.Stale != "" {
		say(w, "It may be out of date: %s.", e.Stale)
	}
}

// suiteName is the suite of the file for people; a repository without suites is the whole archive.
func suiteName(w *admin.Why) string {
	if w.Suite == "" {
		return w.Archive
	}
	return w.Archive + "/" + w.Suite
}

// explainUnknown says what becomes of a file that nothing this node has read lists.
func (o *Operator) explainUnknown(w *admin.Why, loc proto.Location) {
	const otherwise = "What no signed metadata lists is passed on from upstream as it is, and the client decides."
	switch {
	case len(w.Unread) > 0:
		say(w, "This node cannot tell yet whether the archive lists it. A request would read the indexes of %s first. %s", strings.Join(w.Unread, ", "), otherwise)
	case o.holdsRelease(loc.Archive):
		say(w, "No signed metadata that this node holds lists it. %s", otherwise)
	default:
		say(w, "This node holds no Release of the archive yet. A request would look for one first, for 20 seconds at most. %s", otherwise)
	}
}

// failureOf is why the latest check of a suite failed; nil if it did not.
func (o *Operator) failureOf(id proto.Suite) error {
	for _, st := range o.cfg.Catalog.Stats() {
		if st.Suite == id {
			return st.Err
		}
	}
	return nil
}

// upstreamURLs are where locations lie upstream, at each mirror, in the order in which
// a request would ask now.
func (o *Operator) upstreamURLs(where proto.Where) []string {
	var urls []string
	for loc := range where.All() {
		for _, mirror := range o.cfg.Upstream.Mirrors(loc.Archive) {
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
func (o *Operator) explainMirrors(w *admin.Why, archive string) {
	if o.cfg.Archives.Offline(archive) {
		others := ""
		if o.cfg.Cluster != nil {
			others = " Other nodes of the cluster fetch for it, unless they are offline, too."
		}
		say(w, "This node asks no upstream, because the configuration says `offline: true`.%s", others)
	}
	if o.cfg.Archives.Immutable(archive) {
		say(w, "Upstream never changes it, so what was read once is not asked for again, and its Valid-Until does not count.")
	}
	for _, m := range mirrorStatus(o.cfg.Upstream.Stats().Mirrors)[archive] {
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

// explainPlan adds where it would be fetched, and the part of the other nodes in that. nodes reports whether one of them
// would be asked. known says that want is an object, and more than a name.
func (o *Operator) explainPlan(w *admin.Why, archive string, want proto.ObjectRequest, known bool) (nodes bool) {
	if o.cfg.Cluster != nil && known {
		route := o.cfg.Cluster.Mesh().Route(want)
		w.Owners, w.Holders = route.Owners, route.Holders
	}
	switch {
	case w.Stored != "":
	case o.cfg.Archives.Offline(archive):
		w.Plan, nodes = o.cfg.Fetcher.PlanOffline(want)
	default:
		w.Plan = o.cfg.Fetcher.Plan(want)
	}
	return nodes
}
