package proto

import "iter"

// Contents yields what the object may turn out to be: Ref and then Others. It yields nothing that
// has no digest, so it is empty where nobody vouches for the object.
func (w *ObjectRequest) Contents() iter.Seq[Ref] {
	return func(yield func(Ref) bool) {
		if !w.Ref.IsZero() && !yield(w.Ref) {
			return
		}
		for _, other := range w.Others {
			if !yield(other) {
				return
			}
		}
	}
}

// Size is the length in bytes that every right content has; UnknownSize where signed metadata does
// not give it, and where the right contents differ in length.
func (w *ObjectRequest) Size() int64 {
	if !w.Provable() {
		return UnknownSize
	}
	for _, other := range w.Others {
		if other.Size != w.Ref.Size {
			return UnknownSize
		}
	}
	return w.Ref.Size
}

// MaxSize is the length in bytes of the longest right content; UnknownSize where that of one of
// them is not known.
func (w *ObjectRequest) MaxSize() int64 {
	if !w.Provable() || w.Ref.Size == UnknownSize {
		return UnknownSize
	}
	longest := w.Ref.Size
	for _, other := range w.Others {
		if other.Size == UnknownSize {
			return UnknownSize
		}
		longest = max(longest, other.Size)
	}
	return longest
}

// Accepts reports whether a right content may be that many bytes long.
func (w *ObjectRequest) Accepts(size int64) bool {
	if !w.Provable() || size == UnknownSize || w.Ref.Size == UnknownSize || w.Ref.Size == size {
		return true
	}
	for _, other := range w.Others {
		if other.Size == UnknownSize || other.Size == size {
			return true
		}
	}
	return false
}

// Only returns the one right content that may be that many bytes long, with that size; the zero Ref
// where several may, where none may, and where it has no digest.
func (w *ObjectRequest) Only(size int64) Ref {
	var only Ref
	if w.Ref.IsZero() && w.Provable() && (w.Ref.Size == UnknownSize || w.Ref.Size == size) {
		return Ref{} // by its SHA-512
	}
	for ref := range w.Contents() {
		switch {
		case size != UnknownSize && ref.Size != UnknownSize && ref.Size != size:
		case !only.IsZero():
			return Ref{}
		default:
			only = ref
			if size != UnknownSize {
				only.Size = size
			}
		}
	}
	return only
}

// Listed reports whether signed metadata lists the object. A name that is made of a sum proves
// bytes, but not that there are any; what other nodes say proves neither.
func (w *ObjectRequest) Listed() bool {
	return w.Provable() && !w.Hearsay && (w.Ref.Size != UnknownSize || len(w.Others) > 0)
}
