package peerfetch

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// What a flight learned of a file that no SHA-256 names (learned) is noted in a small file, so that
// a restart knows which blob it is and with which validator to ask upstream whether it has changed.
// The blob itself is the store's, and may be evicted.

// Notes keeps small files under names. WriteFile is durable and atomic. Safe for concurrent use.
type Notes interface {
	WriteFile(name string, data []byte) error
	ReadFile(name string) ([]byte, error)
	RemoveFile(name string) error
	ListFiles(prefix string) ([]string, error)
}

const (
	notesPrefix = "unlisted/"
	// notedEvery is how old the noted time of the last check may be: a file that is checked twice a
	// minute shall not be written as often.
	notedEvery = time.Hour
)

// note is learned as it is written. The name of its file is the digest of its key.
type note struct {
	Archive  string       `json:"archive,omitempty"`
	Path     string       `json:"path,omitempty"`
	SHA512   []byte       `json:"sha512,omitempty"`
	Scope    string       `json:"scope,omitempty"`
	Listed   int64        `json:"listed,omitempty"` // the length of what a SHA-512 proves, as the key has it
	Apart    string       `json:"apart,omitempty"`
	Digest   proto.Digest `json:"digest"`
	Size     int64        `json:"size"`
	Modified time.Time    `json:"modified,omitzero"`
	ETag     string       `json:"etag,omitempty"`
	From     string       `json:"from,omitempty"`
	Checked  time.Time    `json:"checked"`
}

func noteName(k key) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %q %x %q %d %q", k.loc.Archive, k.loc.Path, k.sha512, k.scope, k.size, k.apart))
	return notesPrefix + hex.EncodeToString(sum[:])
}

// learn remembers what an object is, and notes it down where that is worth a write.
func (f *Fetcher) learn(k key, l learned) {
	before, known := f.learned.get(k)
	l.noted = before.noted
	same := known && before.ref == l.ref && before.etag == l.etag && before.modified.Equal(l.modified) && before.from == l.from
	if f.cfg.Notes == nil || same && l.checked.Sub(l.noted) < notedEvery || !k.set.IsZero() {
		f.learned.set(k, l)
		return
	}
	l.noted = l.checked
	f.learned.set(k, l)
	n := note{
		Archive: k.loc.Archive, Path: k.loc.Path, Scope: k.scope, Listed: k.size, Apart: k.apart, Digest: l.ref.Digest, Size: l.ref.Size,
		Modified: l.modified, ETag: l.etag, From: l.from, Checked: l.checked,
	}
	if k.sha512 != (proto.SHA512{}) {
		n.SHA512 = k.sha512[:]
	}
	text, err := json.Marshal(n)
	if err == nil {
		err = f.cfg.Notes.WriteFile(noteName(k), text)
	}
	if f.noted.Add(1)%pruneEvery == 0 {
		f.pruneNotes()
	}
	if err != nil {
		f.cfg.Logger.Warn("cannot note what a file is that no index lists; after a restart it is fetched anew", "location", k.loc.String(), "error", err)
	}
}

// pruneEvery is how many notes are written until the notes of forgotten files are removed. So there
// are never more than maxLearned + pruneEvery notes, whatever names clients ask for.
const pruneEvery = 1024

func (f *Fetcher) pruneNotes() {
	names, err := f.cfg.Notes.ListFiles(notesPrefix)
	if err != nil {
		return // the next note will say so
	}
	current := make(map[string]bool)
	f.learned.m.Each(time.Time{}, func(k key, _ learned) { current[noteName(k)] = true })
	for _, name := range names {
		if !current[name] {
			_ = f.cfg.Notes.RemoveFile(name)
		}
	}
}

// recallNotes reads what was learned before the start. What cannot be read, or is too much, is
// removed.
func (f *Fetcher) recallNotes() {
	if f.cfg.Notes == nil {
		return
	}
	names, err := f.cfg.Notes.ListFiles(notesPrefix)
	if err != nil {
		f.cfg.Logger.Warn("cannot read what files are that no index lists; they are fetched anew", "error", err)
		return
	}
	type recalled struct {
		name string
		key  key
		l    learned
	}
	var all []recalled
	for _, name := range names {
		var n note
		text, err := f.cfg.Notes.ReadFile(name)
		if err == nil {
			err = json.Unmarshal(text, &n)
		}
		k := key{loc: proto.Location{Archive: n.Archive, Path: n.Path}, scope: n.Scope, size: n.Listed, apart: n.Apart}
		if len(n.SHA512) == len(k.sha512) {
			k.sha512 = proto.SHA512(n.SHA512)
		}
		if err != nil || noteName(k) != name || n.Digest.IsZero() {
			_ = f.cfg.Notes.RemoveFile(name)
			continue
		}
		all = append(all, recalled{name, k, learned{
			ref: proto.Ref{Digest: n.Digest, Size: n.Size}, modified: n.Modified, etag: n.ETag, from: n.From, checked: n.Checked, noted: n.Checked,
		}})
	}
	slices.SortFunc(all, func(a, b recalled) int { return b.l.checked.Compare(a.l.checked) })
	for i, r := range all {
		if i >= maxLearned || time.Since(r.l.checked) > notesFor {
			_ = f.cfg.Notes.RemoveFile(r.name)
			continue
		}
		f.learned.set(r.key, r.l)
	}
}

// notesFor is for how long after the last check it is worth to know what a file was.
const notesFor = 90 * 24 * time.Hour

// stale returns an unlisted file as it was when upstream last answered, if err says that upstream
// does not answer now and the operator's bound allows it; nil otherwise.
func (f *Fetcher) stale(object *proto.ObjectRequest, err error) *proto.Blob {
	var silent *proto.Unavailable
	if object.Provable() || !errors.As(err, &silent) || errors.As(err, new(*proto.Rejected)) || f.cfg.ServeStale == nil {
		return nil
	}
	k, archive := f.keyOf(*object), object.Where.First.Archive
	l, known := f.learned.get(k)
	if !known || time.Since(l.checked) > f.cfg.ServeStale(archive) {
		return nil
	}
	blob, err := f.fromStore(l.ref, archive)
	if err != nil {
		return nil
	}
	f.metrics.stale.Inc()
	blob.Verified, blob.Checked = false, l.checked
	blob.Stale = staleSince(l.checked) + ": " + silent.Error()
	return blob
}

func staleSince(checked time.Time) string {
	return "upstream has not said since " + checked.UTC().Format(time.RFC3339) + " that it is still the same"
}

// wasStale is stale for a request right after one that found upstream silent: it does not wait for
// that again.
func (f *Fetcher) wasStale(object *proto.ObjectRequest) *proto.Blob {
	if object.Provable() || !f.silent.recently("", f.keyOf(*object), time.Now()) {
		return nil
	}
	return f.stale(object, &proto.Unavailable{Reason: "it could not be asked a moment ago"})
}

// staleAfter is stale for the request that found upstream silent.
func (f *Fetcher) staleAfter(object *proto.ObjectRequest, err error) *proto.Blob {
	blob := f.stale(object, err)
	if blob != nil {
		f.silent.note("", f.keyOf(*object), time.Now())
	}
	return blob
}
