package catalog

import "sync"

// mailbox hands work to the goroutine of a driver. Posting never blocks: what is posted is bounded
// by what hosts, nodes and jobs have under way. Safe for concurrent use.
type mailbox struct {
	mu     sync.Mutex
	work   []func()
	closed bool
	ready  chan struct{}
}

func newMailbox() *mailbox { return &mailbox{ready: make(chan struct{}, 1)} }

// post leaves work; false when the driver has ended.
func (b *mailbox) post(f func()) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return false
	}
	b.work = append(b.work, f)
	select {
	case b.ready <- struct{}{}:
	default:
	}
	return true
}

// take empties the mailbox.
func (b *mailbox) take() []func() {
	b.mu.Lock()
	defer b.mu.Unlock()
	work := b.work
	b.work = nil
	return work
}

// close ends the mailbox and returns what nobody will do any more.
func (b *mailbox) close() []func() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	work := b.work
	b.work = nil
	return work
}
