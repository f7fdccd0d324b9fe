package proto

import (
	"bytes"
	"slices"
	"time"
)

// Generation is one published state of a suite. It is a value; the files it stands for are found
// through its Root. What it says is identified by Statement: the same text with another signature,
// or other white space, is the same Generation in another *revision*.
type Generation struct {
	Suite Suite `json:"suite"`
	// Statement is Manifest.Statement of the root.
	Statement Digest `json:"statement"`
	// Date is the signed date of the root. For the rare root without one that can be read it is
	// upstream's Last-Modified, or when it was first seen. Seconds, UTC.
	Date time.Time `json:"date"`
	// Signed is when the newest good signature of the root was made; zero where there is none.
	Signed time.Time `json:"signed,omitzero"`
	// RootName is the name of the root file below the suite's directory, and Root its content.
	RootName string `json:"root_name"`
	Root     Ref    `json:"root"`
	// Modified is upstream's Last-Modified of the root. It travels with the generation so that
	// every node gives the same validator.
	Modified time.Time `json:"modified,omitzero"`
	// Companions are the other root files that belong to it, by name: a signature that proves the
	// root, and other forms of the same statement.
	Companions []Companion `json:"companions,omitempty"`
	// Base is the URL of the directory in which the root was read because of upstream's redirect.
	// The members are below it, too. "" if there was no redirect.
	Base string `json:"base,omitempty"`
	// Back says that the publisher has gone back to it.
	Back Back `json:"back,omitzero"`
}

// Back is why a root counts as newer than others with later dates: the publisher has taken those
// back. Zero where that is not so.
type Back struct {
	// From is the latest of those dates.
	From time.Time `json:"from"`
	// At is when nodes found that out. It orders what the publisher went back to several times, and
	// says nothing about roots that are dated after From.
	At time.Time `json:"at"`
}

// IsZero reports whether nothing was taken back.
func (b Back) IsZero() bool { return b.At.IsZero() }

// Equal reports whether both say the same.
func (b Back) Equal(other Back) bool { return b.From.Equal(other.From) && b.At.Equal(other.At) }

// Age is the date that the generation is ordered by: its own, or that of a newer root which was
// taken back.
func (g Generation) Age() time.Time {
	if g.Back.From.After(g.Date) {
		return g.Back.From
	}
	return g.Date
}

// compareAge orders two generations: positive where offered is the newer one.
func (g Generation) compareAge(offered Generation) int {
	if order := offered.Age().Compare(g.Age()); order != 0 {
		return order
	}
	return offered.Back.At.Compare(g.Back.At)
}

// Precedes reports whether g is ordered before the other.
func (g Generation) Precedes(other Generation) bool { return g.compareAge(other) > 0 }

// Companion returns the companion of this name; false where there is none.
func (g Generation) Companion(name string) (Companion, bool) {
	i := slices.IndexFunc(g.Companions, func(c Companion) bool { return c.Name == name })
	if i < 0 {
		return Companion{}, false
	}
	return g.Companions[i], true
}

// Proving returns the companions without which the root cannot be verified.
func (g Generation) Proving() []Companion {
	var proof []Companion
	for _, c := range g.Companions {
		if c.Proof {
			proof = append(proof, c)
		}
	}
	return proof
}

// Order says how an offered generation relates to the current one.
type Order int

// The answers of Generation.Compare.
const (
	Past    Order = iota // older than the current root
	Same                 // the current generation, byte for byte
	Revised              // the current generation with another signature or white space
	Future               // newer
	Fork                 // same date, other statement: the publisher signed twice
)

func (o Order) String() string {
	return [...]string{"past", "same", "revised", "future", "fork"}[o]
}

// Compare returns how offered relates to g, the current generation. The zero Generation is older
// than any other.
func (g Generation) Compare(offered Generation) Order {
	switch {
	case g.Root.IsZero():
		return Future
	case g.Statement == offered.Statement:
		if g.Root == offered.Root && g.sameProof(offered) && !offered.BackLater(g) {
			return Same
		}
		return Revised
	}
	switch order := g.compareAge(offered); {
	case order > 0:
		return Future
	case order < 0:
		return Past
	}
	return Fork
}

// BackLater reports whether g tells of a going back that other, the same statement, does not know of.
func (g Generation) BackLater(other Generation) bool {
	return !g.Back.IsZero() && other.Precedes(g)
}

// sameProof reports whether what proves the two has no name in different bytes, and offered brings
// nothing that g lacks: a signature may be published later than what it signs. Where g does not know
// what upstream has, anything that is known is more, also that upstream has nothing. Other forms of
// the statement count for nothing here: they are no part of the root, and come and go beside it.
func (g Generation) sameProof(offered Generation) bool {
	for _, o := range offered.Companions {
		if c, ok := g.Companion(o.Name); o.Proof && o.Known() && (!ok || c.Ref != o.Ref) {
			return false
		}
	}
	for _, c := range g.Companions {
		if _, ok := offered.Companion(c.Name); !c.Known() && !ok {
			return false
		}
	}
	return true
}

// Unknown counts the companions of which nobody knows the content yet.
func (g Generation) Unknown() (n int) {
	for _, c := range g.Companions {
		if !c.Known() {
			n++
		}
	}
	return n
}

// Settles reports whether g knows the content of a companion of which other, the same statement, does
// not.
func (g Generation) Settles(other Generation) bool {
	return slices.ContainsFunc(other.Companions, func(o Companion) bool {
		c, ok := g.Companion(o.Name)
		return ok && c.Known() && !o.Known()
	})
}

// ForkWinner settles a fork the same way on every node, with nothing but the two statements to go
// by: it reports whether offered takes the place of g.
func (g Generation) ForkWinner(offered Generation) bool {
	return bytes.Compare(offered.Statement[:], g.Statement[:]) > 0
}

// NewerRevision orders two revisions of one generation the same way on every node: it reports
// whether offered was signed later than g; where both were signed at one time, the digests decide.
func (g Generation) NewerRevision(offered Generation) bool {
	if !offered.Signed.Equal(g.Signed) {
		return offered.Signed.After(g.Signed)
	}
	if order := bytes.Compare(offered.Root.Digest[:], g.Root.Digest[:]); order != 0 {
		return order > 0
	}
	for _, c := range g.Companions {
		if o, ok := offered.Companion(c.Name); ok && c.Proof && c.Known() && o.Known() && o.Ref != c.Ref {
			return bytes.Compare(o.Ref.Digest[:], c.Ref.Digest[:]) > 0
		}
	}
	if known, offers := g.Unknown(), offered.Unknown(); known != offers {
		return offers < known
	}
	return len(offered.Proving()) > len(g.Proving())
}
