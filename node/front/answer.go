package front

import (
	"cmp"
	"encoding/hex"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// answer is a whole answer to a client, decided before a byte of it is written: status,
// fields, and the part [from, from+length) of the object, or its parts, or text if that is
// not "".
type answer struct {
	verdict
	size        int64  // of the whole object, for Content-Range
	contentType string // of the object; "" for none
	boundary    string // between several parts
	digest      proto.Digest
	modified    time.Time
	ranged      bool // says Accept-Ranges
	cache       []string
	age         int64 // seconds for the Age field, -1 for none
	stale       bool
	retryAfter  int
	allow       string
	closing     bool
	text        string
	phrase      string // of the status line; "" for net/http's
	note        note
}

// note is what X-Aptmesh says of an answer.
type note struct {
	result     string
	tier       proto.Tier
	generation time.Time
	age        int64  // seconds since the generation's date
	channel    string // that was asked; "" where the snapshot was
	snapshot   string
	location   bool // the answer is about a location, so that listed means something
	listed     bool
	reason     string // a word
	why        string // a sentence
}

// The results that X-Aptmesh, the access log and the metrics know.
const (
	resultHit    = "hit"   // from memory or disk, or not modified
	resultMiss   = "miss"  // fetched, or being fetched
	resultStale  = "stale" // a copy that could not be checked
	resultError  = "error"
	resultPage   = "page"   // the node's own page
	resultTunnel = "tunnel" // a CONNECT, or what is passed on as such
)

// Cache-Control for caches between hosts and us. The content of a name that is a checksum never
// changes. The content of a package's name should not change either, but third parties do change
// it; a day bounds the harm. Everything else is asked for each time, which costs a 304.
// An archive with lists of client networks is private: a shared cache would give its files to
// clients that the lists exclude.
var (
	cachePublic = caching{
		forever: []string{"public, max-age=31536000, immutable"},
		day:     []string{"public, max-age=86400"},
		check:   []string{"public, max-age=0, must-revalidate"},
	}
	cachePrivate = caching{
		forever: []string{"private, max-age=31536000, immutable"},
		day:     []string{"private, max-age=86400"},
		check:   []string{"private, max-age=0, must-revalidate"},
	}
	cacheNever = []string{"no-store"}
)

type caching struct{ forever, day, check []string }

// subject is all that the answer for an object depends on, besides the conditions.
type subject struct {
	loc      proto.Location
	snapshot string          // the ID of a snapshot or channel; "" for none
	info     *proto.PathInfo // what the name of loc says
	entry    *proto.Resolution
	ref      proto.Ref
	modified time.Time // as Blob.Modified
	tier     proto.Tier
	// proven says that the bytes are what they ought to be, all of them, now. Only
	// then is there a validator: a client that broke off must never be able to add
	// good bytes to a prefix that was not proven (its If-Range would match).
	proven bool
	// whole says that the bytes come from their first to their last only, or must.
	whole bool
	// doubted is Blob.Doubted.
	doubted bool
	// claimed is Blob.Claimed.
	claimed time.Time
	// private says that the archive is not for everyone.
	private bool
	now     time.Time
}

// object returns what the conditions are compared with.
func (s *subject) object() object {
	o := object{size: s.ref.Size, ranged: !s.whole && s.ref.Size >= 0, doubted: s.doubted && s.info.DropsAt416}
	if s.proven {
		o.digest, o.modified = s.ref.Digest, s.lastModified()
	} else {
		o.promised, o.claimed = s.ref.Digest, s.claimed
	}
	return o
}

// whyNoRange says why a client cannot have the part that it asked for.
func (s *subject) whyNoRange() string {
	if s.doubted {
		return "a mirror sent wrong bytes of this file a while ago; delete what you have of it, and ask for all of it"
	}
	return "the range asked for lies outside of this file of " + strconv.FormatInt(s.ref.Size, 10) + " bytes"
}

// lastModified prefers what the catalog says, for it is the same on every node.
// The epoch stands for "none" on a file system.
func (s *subject) lastModified() time.Time {
	m := s.modified
	if !s.entry.Modified.IsZero() {
		m = s.entry.Modified
	}
	if !m.IsZero() && m.Unix() == 0 {
		return time.Time{}
	}
	return m
}

// answerObject decides the answer for an object that there is. It writes to a, for
// an answer is too large to be passed around on the stack of every connection.
func answerObject(a *answer, c *conditions, s *subject) {
	o := s.object()
	keep := &cachePublic
	if s.private {
		keep = &cachePrivate
	}
	*a = answer{
		verdict:     decide(c, o),
		size:        o.size,
		contentType: s.info.ContentType,
		digest:      o.digest,
		modified:    o.modified,
		ranged:      o.ranged,
		cache:       keep.check,
		age:         -1,
		stale:       s.entry.Stale != "",
		note:        s.note(),
	}
	switch {
	case s.info.Immutable:
		a.cache = keep.forever
	case s.entry.Listed && !s.entry.Mutable:
		a.cache = keep.day
	case a.note.age >= 0:
		a.age = a.note.age
	}
	if len(a.parts) > 0 {
		a.divide()
	}
	switch a.status {
	case http.StatusPreconditionFailed:
		a.fail(reasonCondition, s.loc.String()+": If-Match or If-Unmodified-Since names another version of this file than the one held here")
	case http.StatusRequestedRangeNotSatisfiable:
		// With the validators: a client that holds all of the file learns from them which
		// one it is. apt takes the date of a file that it knows no hashes of from this
		// Last-Modified (methods/basehttp.cc, DealWithHeaders).
		digest, modified := a.digest, a.modified
		a.fail(reasonRange, s.loc.String()+": "+s.whyNoRange())
		a.digest, a.modified = digest, modified
	}
}

// fail makes the answer an error about an object that there is, keeping the status.
func (a *answer) fail(reason, text string) {
	a.digest, a.modified = proto.Digest{}, time.Time{}
	a.cache, a.age, a.stale, a.ranged = cacheNever, -1, false, false
	a.note.result, a.note.reason = resultError, reason
	a.setText(text)
	a.phrase = phrase(text)
}

// setText makes the body one line of plain text. Server and X-Aptmesh identify the node.
func (a *answer) setText(text string) {
	a.contentType = typeText
	a.text = clean(text) + "\n"
	a.from, a.length = 0, int64(len(a.text))
}

func (s *subject) note() note {
	n := note{result: resultHit, snapshot: s.snapshot, tier: s.tier, generation: s.entry.Generation, age: -1, location: true, listed: s.entry.Listed}
	if s.entry.Snapshot != "" {
		n.channel, n.snapshot = s.snapshot, s.entry.Snapshot
	}
	switch {
	case s.entry.Stale != "":
		n.result, n.why = resultStale, s.entry.Stale
	case s.tier != proto.TierMemory && s.tier != proto.TierDisk:
		n.result = resultMiss
	}
	if !n.generation.IsZero() {
		n.age = max(0, int64(s.now.Sub(n.generation)/time.Second))
	}
	return n
}

// answerUnchanged decides from the entry alone, without opening anything, whether the
// client's copy is current. Most requests of "apt update" end here.
//
// A tag or date that matches the entry proves that the client has the bytes that signed
// metadata lists now. So the answer does not depend on whether this node stores them, or
// on whether upstream still has them. "*" proves nothing: only opening the file shows
// whether it exists.
func answerUnchanged(a *answer, c *conditions, s *subject) bool {
	if strings.IndexByte(c.ifNoneMatch, '*') >= 0 {
		return false
	}
	if c.ifMatch != "" || c.ifUnmodifiedSince != "" || c.ifNoneMatch == "" && c.ifModifiedSince == "" {
		return false
	}
	s.proven, s.tier = true, proto.TierMemory
	if !c.unchanged(s.object()) {
		return false
	}
	answerObject(a, c, s)
	return true
}

// answerRefusal decides the answer where there is no object.
func answerRefusal(r *refusal) answer {
	a := answer{
		verdict:    verdict{status: r.status},
		cache:      cacheNever,
		age:        -1,
		retryAfter: r.retryAfter,
		allow:      r.allow,
		closing:    r.closing,
		note:       note{result: resultError, age: -1, reason: r.reason},
	}
	a.setText(r.text)
	a.phrase = phrase(cmp.Or(r.phrase, r.text))
	return a
}

const typeText = "text/plain; charset=utf-8"

// The field values that never change. They are shared between answers: nothing may
// write to them.
var (
	valueServer  = []string{"aptmesh"}
	valueNosniff = []string{"nosniff"}
	valueBytes   = []string{"bytes"}
	valueClose   = []string{"close"}
	valueStale   = []string{`110 aptmesh "Response is Stale"`}
	valueTypes   sharedValues
)

// sharedValues are values of a field, made once each. Formats have a few dozen content types at most. Safe for
// concurrent use.
type sharedValues struct {
	made atomic.Pointer[map[string][]string]
}

// maxShared bounds the values that are kept.
const maxShared = 64

// of is the value as a field has it. It allocates nothing where the value has been asked for before.
func (s *sharedValues) of(value string) []string {
	made := s.made.Load()
	if made != nil {
		if shared, ok := (*made)[value]; ok {
			return shared
		}
		if len(*made) >= maxShared {
			return []string{value}
		}
	}
	more := map[string][]string{value: {value}}
	if made != nil {
		maps.Copy(more, *made)
	}
	s.made.CompareAndSwap(made, &more) // or the next request makes it
	return more[value]
}

// fields is how many fields of one answer have a value of their own.
const fields = 8

// fill sets the fields of the answer. All values that are made for this one answer
// are parts of one string and of one slice, and the keys are canonical already: the
// hit path pays for two allocations here, not for twenty.
func (a *answer) fill(h http.Header, node string) {
	var space [512]byte
	var ends [fields]int
	var keys [fields]string
	buf, n := space[:0], 0
	end := func(key string) {
		keys[n], ends[n] = key, len(buf)
		n++
	}
	if a.status != http.StatusNotModified && a.length >= 0 {
		buf = strconv.AppendInt(buf, a.length, 10)
		end("Content-Length")
	}
	if a.boundary != "" {
		buf = append(append(buf, typeParts...), a.boundary...)
		end("Content-Type")
	}
	if !a.digest.IsZero() {
		buf = append(buf, '"')
		buf = appendHex(buf, a.digest)
		buf = append(buf, '"')
		end("Etag")
	}
	if !a.modified.IsZero() {
		buf = appendDate(buf, a.modified)
		end("Last-Modified")
	}
	switch {
	case a.status == http.StatusPartialContent && a.boundary == "":
		buf = appendRange(buf, a.part, a.size)
		end("Content-Range")
	case a.status == http.StatusRequestedRangeNotSatisfiable:
		buf = append(buf, "bytes */"...)
		buf = strconv.AppendInt(buf, a.size, 10)
		end("Content-Range")
	}
	if a.age >= 0 {
		buf = strconv.AppendInt(buf, a.age, 10)
		end("Age")
	}
	if a.retryAfter > 0 {
		buf = strconv.AppendInt(buf, int64(a.retryAfter), 10)
		end("Retry-After")
	}
	buf = a.note.append(buf, node)
	end("X-Aptmesh")

	all, start := string(buf), 0
	values := make([]string, n)
	for i := range n {
		values[i] = all[start:ends[i]]
		h[keys[i]] = values[i : i+1 : i+1]
		start = ends[i]
	}
	a.fillShared(h)
}

// fillShared sets the fields whose values are shared between answers.
func (a *answer) fillShared(h http.Header) {
	h["Server"] = valueServer
	h["Cache-Control"] = a.cache
	if a.status != http.StatusNotModified && a.contentType != "" && a.boundary == "" {
		// Browsers second-guess only text. A ninth field on
		// every package would make the header map grow, here and in net/http.
		if strings.HasPrefix(a.contentType, "text/") {
			h["X-Content-Type-Options"] = valueNosniff
		}
		h["Content-Type"] = valueTypes.of(a.contentType)
	}
	// Never "none": apt would not ask this connection for a range again.
	if a.ranged && a.status != http.StatusNotModified {
		h["Accept-Ranges"] = valueBytes
	}
	if a.stale {
		h["Warning"] = valueStale
	}
	if a.allow != "" {
		h["Allow"] = []string{a.allow}
	}
	if a.closing {
		h["Connection"] = valueClose
	}
}

// append writes "hit; tier=disk; generation=2026-11-20T10:00:00Z; age=12; node=a; listed=yes".
func (n *note) append(b []byte, node string) []byte {
	b = append(b, n.result...)
	if n.tier != "" {
		b = append(b, "; tier="...)
		b = append(b, n.tier...)
	}
	if !n.generation.IsZero() {
		b = append(b, "; generation="...)
		b = n.generation.UTC().AppendFormat(b, time.RFC3339)
		b = append(b, "; age="...)
		b = strconv.AppendInt(b, n.age, 10)
	}
	if node != "" {
		b = append(b, "; node="...)
		b = append(b, node...)
	}
	if n.channel != "" {
		b = append(b, "; channel="...)
		b = append(b, n.channel...)
	}
	if n.snapshot != "" {
		b = append(b, "; snapshot="...)
		b = append(b, n.snapshot...)
	}
	if n.location {
		if n.listed {
			b = append(b, "; listed=yes"...)
		} else {
			b = append(b, "; listed=no"...)
		}
	}
	if n.reason != "" {
		b = append(b, "; reason="...)
		b = append(b, n.reason...)
	}
	if n.why != "" {
		b = append(b, `; note="`...)
		b = append(b, strings.ReplaceAll(clean(n.why), `"`, "'")...)
		b = append(b, '"')
	}
	return b
}

func appendHex(b []byte, d proto.Digest) []byte { return hex.AppendEncode(b, d[:]) }

// appendDate writes t as http.TimeFormat does, in a quarter of the time.
func appendDate(b []byte, t time.Time) []byte {
	t = t.UTC()
	year, month, day := t.Date()
	hour, minute, second := t.Clock()
	if year < 1000 || year > 9999 {
		return t.AppendFormat(b, http.TimeFormat)
	}
	b = append(b, t.Weekday().String()[:3]...)
	b = append(b, ',', ' ')
	b = append(appendTwo(b, day), ' ')
	b = append(b, month.String()[:3]...)
	b = append(b, ' ')
	b = appendTwo(appendTwo(b, year/100), year%100)
	b = append(appendTwo(append(b, ' '), hour), ':')
	b = append(appendTwo(b, minute), ':')
	b = appendTwo(b, second)
	return append(b, " GMT"...)
}

func appendTwo(b []byte, n int) []byte { return append(b, byte('0'+n/10), byte('0'+n%10)) }
