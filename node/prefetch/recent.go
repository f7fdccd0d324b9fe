package prefetch

// recent is a map of bounded size that forgets what was put in first. Not safe for
// concurrent use.
type recent[K comparable, V any] struct {
	max   int
	items map[K]V
	order []K // a ring once it is full
	next  int
}

func newRecent[K comparable, V any](max int) *recent[K, V] {
	return &recent[K, V]{max: max, items: make(map[K]V)}
}

// put sets a value. A key that is there keeps its age; one that was deleted and put
// in again may be forgotten early.
func (r *recent[K, V]) put(k K, v V) {
	if _, ok := r.items[k]; !ok {
		if len(r.order) < r.max {
			r.order = append(r.order, k)
		} else {
			delete(r.items, r.order[r.next])
			r.order[r.next] = k
			r.next = (r.next + 1) % r.max
		}
	}
	r.items[k] = v
}
