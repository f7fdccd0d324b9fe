package suite

import "time"

// request is a caller that waits for a check.
type request struct {
	Request
	at     Mono
	joined *check // the check that it waits for; nil while it waits for one to begin
	// replied guards against a second Reply: a check can end in the moment in which it begins.
	replied bool
}

func (e Request) apply(m *Machine) {
	m.requests = append(m.requests, &request{Request: e, at: m.at.Mono})
}

func (e Abandoned) apply(m *Machine) {
	for i, r := range m.requests {
		if r.ID == e.ID {
			m.requests = append(m.requests[:i], m.requests[i+1:]...)
			return
		}
	}
}

// serves reports whether a check satisfies a request of that time.
func (k *check) serves(r *request) bool {
	return k.fresh && k.older == r.Older && k.began >= r.at && (k.unconditional || !r.Unconditional || !k.looked)
}

// serveRequests answers the requests that need not wait, and starts the check that the others wait
// for.
func (m *Machine) serveRequests() {
	waiting := m.requests[:0:0]
	for _, r := range m.requests {
		if done, err := m.serve(r); done {
			m.reply(r, err)
		}
		if !r.replied {
			waiting = append(waiting, r)
		}
	}
	m.requests = waiting
}

func (m *Machine) reply(r *request, err error) {
	r.replied = true
	m.emit(Reply{r.ID, err})
}

// serve decides about one request: it is answered, joins the check under way, or starts one.
func (m *Machine) serve(r *request) (done bool, err error) {
	if r.joined != nil {
		return false, nil
	}
	if r.Peer && !r.Fresh && m.current != nil && m.knowsEnough() {
		return true, nil
	}
	if m.cfg.settled(m.current) && (r.Peer || !r.Since) { // an operator may ask
		return true, nil
	}
	k := m.check
	if k != nil && r.Peer && k.asking {
		return true, ErrAsking
	}
	if r.Since {
		return m.serveSince(r)
	}
	switch {
	case k == nil && m.fresh.since(m.at.Mono, r.Fresh) < CheckPause:
		// Somebody has asked a moment ago; that has to do.
		if r.Peer || m.current == nil {
			return true, m.failure
		}
		return true, nil
	case k != nil && m.current != nil && m.at.Mono.Sub(k.began) > m.cfg.CheckWait:
		return true, nil // others have waited for it in vain
	case k == nil:
		k = m.newCheck(r.Fresh, false)
		if r.Peer {
			k = directCheck(false)
		}
		k.unconditional = r.Unconditional
		r.joined = k
		m.start(k)
	default:
		r.joined = k
	}
	return false, nil
}

// serveSince is for requests that want a check which begins after them.
func (m *Machine) serveSince(r *request) (done bool, err error) {
	switch {
	case m.check != nil:
		r.joined = m.check
	case m.last != nil && m.last.serves(r):
		return true, m.last.err
	case m.fresh.since(m.at.Mono, true) >= CheckPause:
		k := m.newCheck(true, r.Older)
		if r.Peer {
			k = directCheck(false)
		}
		k.unconditional = r.Unconditional
		r.joined = k
		m.start(k)
	}
	return false, nil
}

// checkEnded answers the requests that waited for a check, except those that it does not satisfy.
func (m *Machine) checkEnded(k *check) {
	waiting := m.requests[:0:0]
	for _, r := range m.requests {
		if r.joined == k {
			r.joined = nil
			if r.Since && k.serves(r) || !r.Since && (k.fresh || !r.Fresh) {
				m.reply(r, k.err)
				continue
			}
		}
		waiting = append(waiting, r)
	}
	m.requests = waiting
}

// requestsDue is when a request that waits may start a check.
func (m *Machine) requestsDue() (Mono, bool) {
	for _, r := range m.requests {
		if r.joined == nil && m.check == nil {
			return m.fresh.TriedFresh.Add(CheckPause), true
		}
	}
	return 0, false
}

// knowsEnough reports whether another node can be answered without asking upstream: the last good
// check is recent enough for this node itself, or asking is known to fail just now. If the root is
// not in the preferred form, upstream is asked, because that form may have appeared; and if a file
// beside it is not known, because upstream may give that now.
func (m *Machine) knowsEnough() bool {
	patience := m.cfg.Interval * 11 / 10
	if !m.at.isLeader() {
		patience = m.patience()
	}
	if m.current.Form > 0 || m.current.Gen.Unknown() > 0 {
		patience = min(patience, HopeForForm)
	}
	return m.at.Mono.Sub(m.fresh.Good) <= patience ||
		m.failures > 0 && m.fresh.since(m.at.Mono, false) < m.afterFailure()
}

// HopeForForm is how old a check may be for a root file to be called not found: clients take that
// for final, and the file may have been missing for a moment of a publication.
const HopeForForm = 10 * time.Second
