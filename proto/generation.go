package proto

import (
	"bytes"
	"time"
)

// Generation is one published state of a suite. It is a value; the files it
// stands for are found through its Root.
type Generation struct {
	Suite Suite `json:"suite"`
	// Date is the signed Date of the Release, or upstream's Last-Modified for
	// the rare Release that has none. Seconds, UTC.
	Date time.Time `json:"date"`
	// Root is the InRelease blob, or the Release blob where the archive has no
	// InRelease.
	Root Ref `json:"root"`
	// Signature is the Release.gpg blob that goes with a Release root; zero
	// when the root is an InRelease.
	Signature Ref `json:"signature,omitzero"`
	// Modified is upstream's Last-Modified of the root. It travels with the
	// generation so that every node gives the same validator.
	Modified time.Time `json:"modified,omitzero"`
}

// Order says how a generation that somebody offers relates to the one held.
type Order int

// The four answers of Generation.Compare.
const (
	Past   Order = iota // older than what we hold: ignore
	Same                // what we hold
	Future              // newer: adopt
	Fork                // same date, other content: somebody signed twice
)

func (o Order) String() string {
	return [...]string{"past", "same", "future", "fork"}[o]
}

// Compare tells how offered relates to g, the generation held. The zero
// Generation is older than any other.
func (g Generation) Compare(offered Generation) Order {
	switch {
	case g.Root == offered.Root:
		return Same
	case g.Root.IsZero() || offered.Date.After(g.Date):
		return Future
	case offered.Date.Before(g.Date):
		return Past
	default:
		return Fork
	}
}

// ForkWinner settles a fork the same way on every node, with nothing but the two
// roots to go by: it reports whether offered takes the place of g.
func (g Generation) ForkWinner(offered Generation) bool {
	return bytes.Compare(offered.Root.Digest[:], g.Root.Digest[:]) > 0
}
