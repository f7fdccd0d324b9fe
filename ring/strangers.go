package ring

import (
	"net"
	"strings"
	"time"
)

// Stranger is a machine that speaks gossip and cannot take part.
type Stranger struct {
	Address string // IP; the port changes with each contact
	Reason  string // a sentence without an end
	At      time.Time
}

const (
	maxStrangers = 64
	// strangerFor is how long a contact is remembered. A node that is kept out tries
	// again every RejoinEvery.
	strangerFor = 2 * time.Minute
)

// noticeStranger takes a line of memberlist's log. The library says nowhere else that it
// refused a packet or a stream.
func (l *memberlistLog) noticeStranger(line string) (host, reason string, ok bool) {
	reason = rejectedReason(line)
	_, from, said := strings.Cut(line, "from=")
	if reason == "" || !said {
		return "", "", false
	}
	host, _, err := net.SplitHostPort(strings.TrimSpace(from))
	if err != nil {
		return "", "", false
	}
	now := time.Now()
	l.strangers.Set(host, Stranger{host, reason, now}, now, now.Add(strangerFor))
	return host, reason, true
}

// admit forgets the stranger at an address: a node there is a member now.
func (l *memberlistLog) admit(address string) {
	if host, _, err := net.SplitHostPort(address); err == nil {
		l.strangers.Delete(host)
	}
}

// recentStrangers returns the machines that were kept out lately, by address.
func (l *memberlistLog) recentStrangers() []Stranger {
	return sorted(l.strangers, func(a, b Stranger) int { return strings.Compare(a.Address, b.Address) })
}

// rejectedReason says what memberlist's words about a packet or stream mean, "" for
// nothing of this kind. The words are those of memberlist 0.7; a test holds them.
func rejectedReason(text string) string {
	has := func(part string) bool { return strings.Contains(text, part) }
	switch {
	case has("no installed keys could decrypt"):
		return "it has another gossip key (cluster.gossip_key)"
	case has("encryption is configured but remote state is not encrypted"):
		return "it speaks without a gossip key (cluster.gossip_key, cluster.insecure)"
	case has("remote state is encrypted and encryption is not configured"):
		return "it has a gossip key and this node has none (cluster.gossip_key, cluster.insecure)"
	case has("unacceptable label"):
		return "it belongs to a cluster of another name (cluster.name)"
	}
	return ""
}

// whyNoContact says why a node could not be joined.
func whyNoContact(err error) string {
	text := err.Error()
	reason := rejectedReason(text)
	has := func(part string) bool { return strings.Contains(text, part) }
	switch {
	case reason != "":
	case has("connection refused"):
		reason = "nothing listens there"
	case has("timeout"), has("deadline exceeded"):
		reason = "no answer; is its port open for TCP?"
	case has("EOF"), has("reset by peer"), has("closed pipe"):
		reason = "it ends the conversation at once; is it of another cluster.name, or kept from this machine by its cluster.allow?"
	case has("no route to host"), has("network is unreachable"):
		reason = "there is no route to it"
	default:
		reason = "it cannot be joined (its log and this one's say more)"
	}
	return reason
}
