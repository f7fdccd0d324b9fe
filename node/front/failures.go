package front

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/aptmesh/aptmesh/proto"
	"github.com/aptmesh/aptmesh/proto/expiring"
)

// Failure is an error that a client got.
type Failure struct {
	Status int    `json:"status"` // 0 where there is none: the transfer broke off
	Reason string `json:"reason"` // see Reasons
	Text   string `json:"text"`   // the sentence
	// Time is when a client last got it, Client the address of that client; zero for a failure that
	// a request would get.
	Time   time.Time `json:"time,omitzero"`
	Client string    `json:"client,omitempty"`
	// Count is how often in a row, with less than failureAge between two.
	Count int64 `json:"count,omitempty"`
}

// What is remembered of failures. A client can make any number of them, so both are bounds.
const (
	maxFailures = 1024
	failureAge  = time.Hour
)

// failures are the latest errors by URL. A later success does not delete an error; the error has its time.
type failures = expiring.Map[string, Failure]

// remember notes how an exchange failed.
func (x *exchange) remember() {
	switch x.note.reason {
	case "":
		x.noteSolved()
		return
	case reasonRoot, reasonClient:
		return
	}
	now := time.Now()
	failed := Failure{Status: x.status, Reason: x.note.reason, Text: x.said, Time: now, Client: x.clientAddr()}
	if x.aborted {
		failed.Status = 0
	}
	if failed.Text == "" && x.failure != nil {
		failed.Text = clean(x.failure.Error())
	}
	x.f.failures.Update(x.asked(), now, func(old Failure, known bool) (Failure, time.Time) {
		failed.Count = 1
		if known && old.Reason == failed.Reason {
			failed.Count += old.Count
		}
		return failed, now.Add(failureAge)
	})
	x.noteRefused(now)
	x.noteErrors(failed, now)
}

// ArchiveErrors are the answers of one archive that were errors of one reason, with less than
// archiveErrorAge between two. They are forgotten at once when the latest of them is answered well.
type ArchiveErrors struct {
	Reason string    `json:"reason"` // see Reasons
	Count  int64     `json:"count"`
	First  time.Time `json:"first"`
	Last   time.Time `json:"last"`
	URL    string    `json:"url"`  // what the last one was asked for, as the client wrote it
	Text   string    `json:"text"` // the sentence
}

const (
	maxArchiveErrors = 256
	archiveErrorAge  = 5 * time.Minute
)

type archiveReason struct{ archive, reason string }

// noteErrors counts an error that the client did not bring about: it asked for what it may have.
func (x *exchange) noteErrors(failed Failure, now time.Time) {
	if x.loc.Archive == "" || !isFault(failed.Reason) {
		return
	}
	x.f.archiveErrors.Update(archiveReason{x.loc.Archive, failed.Reason}, now, func(e ArchiveErrors, known bool) (ArchiveErrors, time.Time) {
		if !known {
			e = ArchiveErrors{Reason: failed.Reason, First: now}
		}
		e.Count++
		e.Last, e.URL, e.Text = now, shown(x.r.RequestURI), failed.Text
		return e, now.Add(archiveErrorAge)
	})
	x.f.lastFault.Store(now.UnixNano())
}

// noteSolved ends the note of errors of an archive when what the latest of them was about is answered
// well. Where no error is young enough to have a note, that costs a request nothing.
func (x *exchange) noteSolved() {
	now := time.Now()
	if x.loc.Archive == "" || x.aborted || now.Sub(time.Unix(0, x.f.lastFault.Load())) > archiveErrorAge {
		return
	}
	failed, ok := x.f.failures.Get(x.asked(), now)
	if !ok {
		return
	}
	key := archiveReason{x.loc.Archive, failed.Reason}
	if e, ok := x.f.archiveErrors.Get(key, now); ok && e.URL == shown(x.r.RequestURI) {
		x.f.archiveErrors.Delete(key)
	}
}

// isFault reports whether a reason is one of upstream or of this node, not of what the client asked
// for. Rejections of a Release are among them.
func isFault(reason string) bool {
	switch reason {
	case reasonCorrupt, reasonRefused, reasonInternal, reasonUnavailable, reasonDisk, reasonStream, reasonUnread:
		return true
	case string(proto.RejectUntrusted), string(proto.RejectMalformed), string(proto.RejectFuture),
		string(proto.RejectForeign), string(proto.RejectExpired), string(proto.RejectLoop):
		return true
	}
	return false
}

// ArchiveErrors lists the errors that clients got in the last minutes, by archive, by reason.
func (f *Front) ArchiveErrors() map[string][]ArchiveErrors {
	all := make(map[string][]ArchiveErrors)
	f.archiveErrors.Each(time.Now(), func(key archiveReason, e ArchiveErrors) { all[key.archive] = append(all[key.archive], e) })
	for _, list := range all {
		slices.SortFunc(list, func(a, b ArchiveErrors) int { return strings.Compare(a.Reason, b.Reason) })
	}
	return all
}

func (x *exchange) clientAddr() string {
	if peer := x.peer(); peer.IsValid() {
		return peer.String()
	}
	return ""
}

// asked is what an exchange asked for, in the form in which failures are filed.
func (x *exchange) asked() string {
	switch {
	case x.snapshot != "" && x.loc.Archive != "":
		return snapshotKey(x.snapshot, x.loc)
	case x.loc != (proto.Location{}):
		return x.loc.String()
	}
	if x.r.Method == http.MethodConnect {
		return connectKey(x.r.RequestURI)
	}
	// A client that is kept out is so before anybody looks at its URL.
	if loc, err := x.rules.routes.locate(x.r.RequestURI, nil); err == nil || errors.As(err, new(*notMade)) {
		return loc.String()
	}
	return x.rules.routes.targetKey(x.r.RequestURI)
}

const connectMethod = http.MethodConnect + " "

func connectKey(hostPort string) string {
	return connectMethod + quote(strings.ToLower(hostPort))
}

// targetKey files what no location is known of: the same key for all ways to write one URL.
func (t *routes) targetKey(target string) string {
	target, _, _ = strings.Cut(target, "?")
	_, host, path, ok := splitURL(target)
	if !ok || t.isOwn(host, nil) {
		if ok {
			target = path
		}
		return quote(target)
	}
	return quote("//" + bareHost(host) + path)
}

// Explanation is what is known of a URL without asking anybody.
type Explanation struct {
	Location proto.Location // zero where it means no file of an archive
	Moment   string         // the moment of which it is asked, where a service of history has it
	Snapshot string         // the ID of a snapshot or channel that it is asked of; "" for none
	List     string         // the archive, where the URL is that of a list of mirrors
	ListOf   string         // the root file, where the node writes a list of mirrors for hosts at the location
	Relayed  bool           // connect_allow lets it pass, and it is of no archive
	// Would is the failure that a request meets by the rules alone; Latest the last one that a client
	// met. nil: none.
	Would, Latest *Failure
}

// Explain explains a URL as a client writes it, or "CONNECT host:port". It ignores the lists of
// networks, because the operator asks and not a client.
func (f *Front) Explain(target string) (e Explanation) {
	rules := f.rules.Load()
	if f.cfg.Snapshots != nil {
		id, rest, err := rules.routes.inSnapshot(target, nil)
		var r *refusal
		switch {
		case errors.As(err, &r):
			e.Would = r.failure()
			return e
		case id != "":
			e.Snapshot, target = id, rest
			if at := f.fromHistory(rules, id, rest, time.Now()); at != "" {
				e.Snapshot, e.Moment, target = "", id, at
			}
		}
	}
	key := rules.routes.targetKey(target)
	if hostPort, connect := strings.CutPrefix(target, connectMethod); connect {
		key = connectKey(hostPort)
		if _, r := rules.routes.tunnel(hostPort); r != nil {
			e.Would = r.failure()
		}
	} else if l, ok := rules.listOf(target); ok {
		e.List = l.Archive
		if l.Text == "" && l.Path == "" {
			e.Would = l.unknown().failure()
		}
	} else if loc, err := rules.routes.locate(target, nil); err != nil && !errors.As(err, new(*notMade)) {
		r := (*refusal)(nil)
		if !errors.As(err, &r) {
			r = refuse(proto.Location{}, about{}, err)
		}
		if e.Relayed = rules.routes.relayed(target, r); !e.Relayed {
			e.Would = r.failure()
		}
	} else {
		e.Location, key = loc, loc.String()
		if lists := rules.hostLists[loc.Archive]; lists != nil {
			e.ListOf = lists.Of(loc.Path)
		}
		if e.Snapshot != "" {
			key = snapshotKey(e.Snapshot, loc)
			if !f.cfg.Snapshots.Known(e.Snapshot, loc.Archive) {
				e.Would = rules.unknownID(e.Snapshot, loc.Archive, time.Now()).failure()
			}
		}
	}
	if latest, ok := f.failures.Get(key, time.Now()); ok {
		e.Latest = &latest
	}
	return e
}

// OwnHost is the host in a URL that means this node, because its port is one that the node listens at; "" for any
// other URL. here reports whether the host is this node's own for sure: its name, or an address that it listens at.
func (f *Front) OwnHost(target string) (host string, here bool) {
	t := f.rules.Load().routes
	_, host, path, ok := splitURL(target)
	if !ok || !t.isOwn(host, nil) {
		return "", false
	}
	if loc, err := t.named(target, nil); err == nil || errors.As(err, new(*notMade)) {
		if other, err := t.named(path, nil); (err != nil && !errors.As(err, new(*notMade))) || other != loc {
			return "", false // it is the host of an archive
		}
	}
	return host, t.isHere(host)
}

// Tunnel is what apt sends to its proxy for an https URL, "CONNECT host:port"; "" for any other URL.
func Tunnel(url string) string {
	scheme, host, _, ok := splitURL(url)
	if !ok || !strings.EqualFold(scheme, "https") {
		return ""
	}
	return connectMethod + withPort(host, "443")
}

// Answer is the answer to a client for an error of the catalog or the fetcher.
func (f *Front) Answer(loc proto.Location, err error) *Failure {
	var asked about
	if format := f.rules.Load().formats[loc.Archive]; format != nil { // an archive of a class may not be there yet
		info := format.PathInfo(loc.Path)
		asked.info = &info
	}
	return refuse(loc, asked, err).failure()
}

// KeptOut says which clients may not have an archive, as the keys of the configuration that
// say so; "" where everybody may.
func (f *Front) KeptOut(archive string) string {
	rules := f.rules.Load()
	var keys []string
	for _, g := range []*guard{rules.everyone, rules.guard(archive)} {
		if g == nil {
			continue
		}
		if len(g.allow) > 0 {
			keys = append(keys, g.key+".allow")
		}
		if len(g.deny) > 0 {
			keys = append(keys, g.key+".deny")
		}
	}
	return strings.Join(keys, ", ")
}

func (r *refusal) failure() *Failure {
	return &Failure{Status: r.status, Reason: r.reason, Text: clean(r.text)}
}
