package suite

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// announcer is the newest generation that one node has announced: only one, because a node serves
// one at a time. A lying node slows down only itself.
type announcer struct {
	ann     proto.Announcement
	checked Mono
	faults  int  // what it announced in vain, in a row
	until   Mono // until then it is not listened to
}

// attempt is what came of adopting a statement that is trusted.
type attempt struct {
	passed bool // it is not to be taken, as things stand
	tries  int  // in vain: it could not be staged
	until  Mono // when it may be tried again
}

// attempts are kept until the next generation switch, by root.
type attempts map[proto.Digest]*attempt

func (a *attempts) of(root proto.Digest) *attempt {
	t, ok := (*a)[root]
	if !ok {
		if *a == nil || len(*a) >= maxAttempts {
			*a = make(attempts)
		}
		t = &attempt{}
		(*a)[root] = t
	}
	return t
}

func (a *attempts) clear() { *a = nil }

// Bounds of what other nodes may make this one remember.
const (
	MaxAnnouncers = 256
	maxAttempts   = 64
	maxHolders    = 8
)

func (e Received) apply(m *Machine) {
	from := e.From
	if e.Hearsay {
		from += byHearsay
	}
	m.receive(from, e.Ann, e.Checked)
}

// byHearsay is a suffix of the node's name for announcements that did not come from the node itself.
// Their errors count against that key and not against the node; otherwise others could discredit its
// own announcements. No node has a name with this suffix.
const byHearsay = " by hearsay"

// nodesOf are the nodes that should have what the announcers announced.
func nodesOf(announcers []string) []string {
	nodes := make([]string, len(announcers))
	for i, from := range announcers {
		nodes[i] = strings.TrimSuffix(from, byHearsay)
	}
	return slices.Compact(nodes) // sorted, and the suffix keeps the two of one node together
}

// receive accepts an announcement of another node. It is a hint: a newer generation is opened by its
// digest and verified like any other.
func (m *Machine) receive(from string, ann proto.Announcement, checked Mono) {
	checked = min(checked, m.at.Mono)
	m.checkBack(&ann.Generation)
	result := m.weigh(&ann, checked)
	m.emit(Count{What: CountAnnouncement, Result: result})
	switch result {
	case "same":
		m.confirm(checked)
	case "newer", "revised":
		m.remember(from, ann, checked)
	}
}

// remember keeps what a node announces of a newer generation.
func (m *Machine) remember(from string, ann proto.Announcement, checked Mono) {
	t, ok := m.announcers[from]
	if !ok {
		if len(m.announcers) >= MaxAnnouncers {
			maps.DeleteFunc(m.announcers, func(_ string, t *announcer) bool { return t.until <= m.at.Mono })
		}
		if len(m.announcers) >= MaxAnnouncers {
			return
		}
		t = &announcer{until: Never}
		m.announcers[from] = t
	}
	// Messages overtake each other: the newest counts, except where it was announced in vain.
	if t.faults > 0 || !ann.Generation.Precedes(t.ann.Generation) {
		t.ann, t.checked = ann, checked
		t.ann.Slots = nil
	}
}

// confirm notes that another node found nothing newer at upstream than the current root. If it only
// repeats this node's own last check, that is nothing new.
func (m *Machine) confirm(checked Mono) {
	if checked == Never {
		return
	}
	m.goodAt(checked)
	if checked > m.fresh.Own.Add(m.cfg.Interval/2) {
		m.fresh.Announced = max(m.fresh.Announced, checked)
	}
	if checked > m.fresh.Tried && !m.at.isLeader() {
		m.forgive()
	}
	if m.checkedLately() {
		m.wake()
	}
}

// forgive forgets that this node's last check failed: another node has asked since, and it is for
// that node to ask again.
func (m *Machine) forgive() {
	for _, a := range m.attempts {
		if !a.passed {
			return // there is a newer generation, which could not be staged
		}
	}
	m.fail(nil)
	m.failures = 0
}

// weigh compares an announced generation with the current one, as the announcer describes it.
// "newer" and "revised" may have to be adopted. checked is when upstream last had nothing newer than
// the announced generation.
func (m *Machine) weigh(ann *proto.Announcement, checked Mono) string {
	told := ann.Generation
	switch {
	case told.Root.IsZero():
		return "nothing"
	case m.current == nil:
		if !m.floor.IsZero() && told.Age().Before(m.floor) {
			return "older"
		}
		return "newer"
	}
	order := m.current.Gen.Compare(told)
	switch {
	case order == proto.Same:
		return "same"
	case order == proto.Revised:
		return m.weighRevision(ann, checked)
	case m.isTakenBack(told) && checked <= m.fresh.Own:
		return "taken_back"
	case order == proto.Past, order == proto.Fork && !m.followsFork(ann, checked):
		return "older"
	}
	return "newer"
}

// followsFork decides between the current root and another statement of the same date that a node
// announces.
func (m *Machine) followsFork(ann *proto.Announcement, checked Mono) bool {
	switch m.seenLater(checked) {
	case 1:
		return true
	case 0:
		return m.current.Gen.ForkWinner(ann.Generation)
	}
	return false
}

// sameMoment is how far apart two checks of upstream may be and still count as simultaneous: nodes
// exchange ages, and a message takes time.
const sameMoment = 2 * time.Second

// seenLater compares two times: when the announcer saw its root at upstream, and when upstream was
// last known to have the current root. Of two roots with the same date, the one seen later counts.
// So all nodes end with what upstream serves, and none goes back and forth. The leader decides by
// its own checks of upstream.
func (m *Machine) seenLater(checked Mono) int {
	switch {
	case m.at.isLeader() && m.at.Mono.Sub(m.fresh.Own) < 2*m.cfg.Interval:
		return -1
	case checked > m.fresh.Good.Add(sameMoment):
		return 1
	case checked < m.fresh.Good.Add(-sameMoment):
		return -1
	}
	return 0
}

// weighRevision decides between two revisions of the current root. A sighting of the other revision
// does not confirm the current one; otherwise two revisions that are seen again and again at about
// the same time would both stay.
func (m *Machine) weighRevision(ann *proto.Announcement, checked Mono) string {
	later, told := m.seenLater(checked), ann.Generation
	if told.BackLater(m.current.Gen) || told.Settles(m.current.Gen) {
		return "revised"
	}
	newer := m.current.Gen.NewerRevision(told)
	if told.RootName != m.current.Gen.RootName {
		newer = m.current.Form > 0 // the form that clients prefer counts: see takesRevision
	}
	switch {
	case later > 0 || later == 0 && newer:
		return "revised"
	case !m.vouchesFor(ann.Generation):
		return "older"
	}
	return "same"
}

// vouchesFor reports whether an announcement means that upstream has the current statement. The same
// statement in another form counts: a node may have either form, and stays with it.
func (m *Machine) vouchesFor(told proto.Generation) bool {
	switch m.current.Gen.Compare(told) {
	case proto.Same:
		return true
	case proto.Revised:
		return m.current.Gen.RootName != told.RootName
	}
	return false
}
