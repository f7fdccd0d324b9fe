package upstream

import "container/list"

// waitQueue holds the requests of one class that wait for a slot, in the order in which they are
// served: each client in turn, and each client's own as they came. No operation depends on how many
// wait. The zero value is empty. It is not safe for concurrent use.
type waitQueue struct {
	order   list.List // of *line; the first one is served next
	clients map[string]*clientQueue
	n       int
}

// clientQueue is what waits for one client.
type clientQueue struct {
	client  string
	element *list.Element
	waiters list.List // of *waiter
}

// push adds a waiter. A request whose client is not known is a client of its own.
func (q *waitQueue) push(w *waiter) {
	client := w.slot.client
	l := q.clients[client]
	if l == nil {
		l = &clientQueue{client: client}
		l.element = q.order.PushBack(l)
		if client != "" {
			if q.clients == nil {
				q.clients = make(map[string]*clientQueue)
			}
			q.clients[client] = l
		}
	}
	w.queue, w.at = l, l.waiters.PushBack(w)
	q.n++
}

// first returns the waiter to serve next; nil if nobody waits.
func (q *waitQueue) first() *waiter {
	if front := q.order.Front(); front != nil {
		return front.Value.(*clientQueue).waiters.Front().Value.(*waiter)
	}
	return nil
}

// serve takes the first waiter out; then it is the turn of the next client.
func (q *waitQueue) serve() *waiter {
	w := q.first()
	q.order.MoveToBack(w.queue.element)
	q.remove(w)
	return w
}

// remove takes a waiter out, and reports whether it was in.
func (q *waitQueue) remove(w *waiter) bool {
	if w.at == nil {
		return false
	}
	l := w.queue
	l.waiters.Remove(w.at)
	w.queue, w.at = nil, nil
	q.n--
	if l.waiters.Len() == 0 {
		q.order.Remove(l.element)
		delete(q.clients, l.client)
	}
	return true
}

// longest returns the last waiter of the client that has most, if that is more than a client has
// that comes with one more; else nil.
func (q *waitQueue) longest(client string) *waiter {
	most := 1
	if l := q.clients[client]; l != nil {
		most = l.waiters.Len() + 1
	}
	var found *clientQueue
	for _, l := range q.clients {
		if n := l.waiters.Len(); n > most {
			found, most = l, n
		}
	}
	if found == nil {
		return nil
	}
	return found.waiters.Back().Value.(*waiter)
}
