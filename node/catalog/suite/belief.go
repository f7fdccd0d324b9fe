package suite

import (
	"fmt"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// Belief is the machine's state at one moment, from which hosts are answered. It is immutable, and
// safe for concurrent use.
//
// While upstream cannot be reached, the current generation is served and marked stale. After its
// Valid-Until that ends after a bounded time; otherwise an attacker could replay an old root, with
// security holes that are fixed by now, for ever. If upstream answers and has nothing newer than an
// expired root, the archive is really so (old releases are). Then the root is served, and the client
// decides.
type Belief struct {
	// Current is nil before the first generation, and still while the driver commits that.
	Current *Root
	Fresh   Freshness
	// Failure is what came of the last check; nil when it was good.
	Failure error
	// FailingSince is when the first of the checks ended that have failed in a row; zero while Failure is nil.
	FailingSince time.Time
	// Removed says since when upstream does not have the suite any more; Never while it has.
	Removed Mono

	id      proto.Suite
	conf    Config
	checked time.Time // Fresh.Good as a date, for people
}

// MayServe reports whether the root may be given out without asking upstream first.
func (b *Belief) MayServe(now Mono) bool {
	return b.conf.Offline || b.Settled() || b.Fresh.fresh(now, b.conf.Interval, b.conf.CheckWait)
}

// Settled reports whether upstream is not asked about the suite any more, because it never changes.
func (b *Belief) Settled() bool { return b.conf.settled(b.Current) }

// Checked is when upstream last had nothing newer, as a date for people; zero for never.
func (b *Belief) Checked() time.Time { return b.checked }

// ServedUntil is until when an expired root is served with upstream silent; zero for ever. key is
// the configuration key that says so.
func (b *Belief) ServedUntil() (until time.Time, key string) {
	if b.Current == nil {
		return time.Time{}, ""
	}
	period, key := b.conf.ServeExpired.periodFor(b.Current)
	valid := b.Current.Manifest.ValidUntil
	if valid.IsZero() || b.conf.Offline || b.conf.Immutable {
		return time.Time{}, key
	}
	from := valid
	// Where upstream went on with an expired root, the time counts from its last word.
	if b.checked.After(from) {
		from = b.checked.Truncate(time.Second)
	}
	return from.Add(max(period, 0)), key
}

// Withheld is why the root is not given out any more; nil while it is.
func (b *Belief) Withheld(now Mono, wall time.Time) error {
	if b.Current == nil || !b.Current.expired(wall) {
		return nil
	}
	until, key := b.ServedUntil()
	if until.IsZero() || !wall.After(until) || !b.Fresh.unchecked(now, b.conf.Interval) {
		return nil
	}
	reason := fmt.Sprintf("the root of %s is not served any more: %s, its Valid-Until passed on %s, and it was served until %s (%s)",
		b.id, b.silent(), stamp(b.Current.Manifest.ValidUntil), stamp(until), key)
	if b.Failure != nil {
		reason += ": " + b.Failure.Error()
	}
	return &proto.Rejected{Kind: proto.RejectExpired, Reason: reason}
}

// Stale says in one sentence why the root may be older than upstream's; "" if it is not.
func (b *Belief) Stale(now Mono, wall time.Time) string {
	if b.Current == nil || b.Settled() && b.Removed == Never {
		return "" // whatever is served is just being read
	}
	past := func() string { return "Valid-Until passed on " + stamp(b.Current.Manifest.ValidUntil) }
	expired := b.Current.expired(wall) && !b.conf.Immutable
	if b.conf.Offline {
		said := "offline: true, upstream is not asked"
		if !b.checked.IsZero() {
			said += "; it was last checked on " + stamp(b.checked)
		}
		if expired {
			said += "; " + past()
		}
		return said
	}
	switch unchecked := b.Fresh.unchecked(now, b.conf.Interval); {
	case unchecked && expired:
		until, _ := b.ServedUntil()
		is := "is"
		if wall.After(until) {
			is = "was"
		}
		return fmt.Sprintf("%s; %s; it %s served until %s", b.silent(), past(), is, stamp(until))
	case b.Removed != Never:
		return "upstream says that it has no such suite any more"
	case expired:
		return past() + ", and upstream has nothing newer"
	case unchecked && b.Fresh.Good == Never:
		return "upstream could not be checked yet"
	case unchecked:
		return "upstream could not be checked for " + now.Sub(b.Fresh.Good).Round(time.Second).String()
	}
	return ""
}

// Alarm says that the root expires soon, or has expired, without a newer one; "" while that is far
// off. If a root is valid for less than twice the warning time, the warning begins at half of its
// validity.
func (b *Belief) Alarm(now Mono, wall time.Time) string {
	if b.Current == nil || b.Current.Manifest.ValidUntil.IsZero() || b.conf.Immutable {
		return ""
	}
	valid := b.Current.Manifest.ValidUntil
	before := min(b.conf.WarnBefore, valid.Sub(b.Current.Gen.Date)/2)
	left := valid.Sub(wall)
	if left > before {
		return ""
	}
	why := "upstream has nothing newer"
	switch {
	case b.conf.Offline:
		why = "offline: true"
	case b.Fresh.unchecked(now, b.conf.Interval):
		why = b.silent()
	}
	if left < 0 {
		return fmt.Sprintf("Valid-Until passed on %s: %s", stamp(valid), why)
	}
	return fmt.Sprintf("Valid-Until passes on %s, in %s: %s", stamp(valid), left.Round(time.Second), why)
}

// Why is the error for a host if there is nothing to serve; it is never nil.
func (b *Belief) Why() error {
	switch {
	case b.conf.Offline:
		return errOffline(b.id)
	case b.Failure == nil:
		return &proto.Unavailable{Reason: fmt.Sprintf("%s has not been read from upstream yet", b.id)}
	}
	return b.Failure
}

// silent says since when upstream has not answered.
func (b *Belief) silent() string {
	if b.checked.IsZero() {
		return "upstream could not be checked yet"
	}
	return "upstream cannot be reached since " + stamp(b.checked)
}

func errOffline(id proto.Suite) error {
	return &proto.Unavailable{Reason: fmt.Sprintf("the archive %q is offline here (offline: true): only what is stored is served, and upstream is not asked for the root of %s", id.Archive, id)}
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
