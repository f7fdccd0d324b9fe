package cluster

import (
	"slices"
	"sync"
)

// outbox is what this node has to send to the others: the latest value of each key. It sends
// in rounds, one at a time. put never waits for the sending.
type outbox[K comparable, V any] struct {
	mu      sync.Mutex
	pending map[K]V // guarded by mu
	order   []K     // of pending, the longest waiting first; guarded by mu
	running bool    // guarded by mu
	wake    chan struct{}
	done    chan struct{}
	ended   chan struct{}
}

func (o *outbox[K, V]) init() {
	o.pending = make(map[K]V)
	o.wake, o.done, o.ended = make(chan struct{}, 1), make(chan struct{}), make(chan struct{})
}

// put replaces the value that waits under k by v; blend, if it is not nil, combines the two.
func (o *outbox[K, V]) put(k K, v V, blend func(before, v V) V) {
	o.mu.Lock()
	before, waiting := o.pending[k]
	if !waiting {
		o.order = append(o.order, k)
	} else if blend != nil {
		v = blend(before, v)
	}
	o.pending[k] = v
	o.mu.Unlock()
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

func (o *outbox[K, V]) take() []V {
	o.mu.Lock()
	defer o.mu.Unlock()
	all := make([]V, len(o.order))
	for i, k := range o.order {
		all[i] = o.pending[k]
	}
	clear(o.pending)
	o.order = slices.Delete(o.order, 0, len(o.order))
	return all
}

// start sends what is put until stop. It is called once.
func (o *outbox[K, V]) start(tell func([]V)) {
	o.mu.Lock()
	o.running = true
	o.mu.Unlock()
	go func() {
		defer close(o.ended)
		for {
			select {
			case <-o.wake:
				tell(o.take())
			case <-o.done:
				return
			}
		}
	}()
}

// stop waits for the round that is being sent. What is put after that is not sent.
func (o *outbox[K, V]) stop() {
	o.mu.Lock()
	running := o.running
	o.running = false
	o.mu.Unlock()
	if running {
		close(o.done)
		<-o.ended
	}
}
