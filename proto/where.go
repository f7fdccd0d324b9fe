package proto

import "iter"

// Where names one object upstream: one name or several, in the order in which they are asked. It is
// a value, so that an answer of the catalog costs no memory: First is the name of the request, and
// Others may be shared by all requests for the object. The zero Where names nothing.
type Where struct {
	// First is asked before all others: the name that a client asked for, if a client did.
	First Location
	// Others are further names of the same object, best first. First may be among them; it counts
	// once. They must not be changed.
	Others []Location
}

// At is the Where of an object with the given names, the best one first.
func At(first Location, others ...Location) Where { return Where{first, others} }

// WhereOf is the Where with all the names of locs in their order, without a copy of them. It is
// zero for none.
func WhereOf(locs []Location) Where {
	switch len(locs) {
	case 0:
		return Where{}
	case 1:
		return Where{First: locs[0]}
	}
	return Where{locs[0], locs[1:]}
}

// IsZero reports whether nothing is named.
func (w Where) IsZero() bool { return w.First == Location{} && len(w.Others) == 0 }

// Len is the number of different names.
func (w Where) Len() int {
	n := 0
	for range w.All() {
		n++
	}
	return n
}

// Nth returns the name that is asked after n others. It panics unless n is below Len.
func (w Where) Nth(n int) Location {
	for loc := range w.All() {
		if n == 0 {
			return loc
		}
		n--
	}
	panic("proto: Where.Nth beyond the last name")
}

// All yields the names in their order.
func (w Where) All() iter.Seq[Location] {
	return func(yield func(Location) bool) {
		if w.IsZero() || !yield(w.First) {
			return
		}
		for _, loc := range w.Others {
			if loc != w.First && !yield(loc) {
				return
			}
		}
	}
}
