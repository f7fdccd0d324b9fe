package peers

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/aptmesh/aptmesh/proto"
	"github.com/aptmesh/aptmesh/proto/peerpb"
)

// Bounds of the alerts that one node sends to another.
const (
	maxMirrors     = 64  // in one message
	maxMirror      = 512 // bytes of a mirror's URL
	maxAlertReason = 300 // bytes
	// maxAlertFor is for how long a mirror is left alone on another node's word.
	maxAlertFor = 10 * time.Minute
)

// SendAlerts sends what this node has found out about mirrors to all nodes that answer pings. A
// node that does not answer now receives the result of Control.Alerts as soon as it does.
func (m *Mesh) SendAlerts(ctx context.Context, alerts ...proto.MirrorAlert) error {
	messages, errs := alertRequests(alerts)
	return errors.Join(append(errs, m.sendEverywhere(ctx, messages)...)...)
}

// sendAlertsTo sends the present alerts to a node that has begun to answer: it has missed the
// earlier messages.
func (m *Mesh) sendAlertsTo(p *peer) {
	if m.cfg.Control == nil {
		return
	}
	messages, _ := alertRequests(m.cfg.Control.Alerts())
	if err := m.sendAll(p.ctx, p, messages); err != nil && p.ctx.Err() == nil {
		m.log.Debug("alerts about mirrors could not be sent to a node that has just answered", "node", p.name, "error", err)
	}
}

// alertRequests divides alerts among messages.
func alertRequests(alerts []proto.MirrorAlert) (messages []*peerpb.AnnounceRequest, errs []error) {
	out, err := alertsOut(alerts, time.Now())
	if err != nil {
		errs = append(errs, err)
	}
	for some := range slices.Chunk(out, maxMirrors) {
		messages = append(messages, &peerpb.AnnounceRequest{Alerts: some})
	}
	return messages, errs
}

// alertsOut writes down what can be. The error is that of the first that cannot.
func alertsOut(alerts []proto.MirrorAlert, now time.Time) ([]*peerpb.MirrorAlert, error) {
	var all []*peerpb.MirrorAlert
	var wrong error
	for _, t := range alerts {
		out, err := alertOut(t, now)
		if err == nil {
			all = append(all, out)
		} else if wrong == nil {
			wrong = err
		}
	}
	return all, wrong
}

// alertKinds are the kinds as they travel.
var alertKinds = map[proto.AlertKind]peerpb.MirrorAlert_Kind{
	proto.AlertWait:        peerpb.MirrorAlert_WAIT,
	proto.AlertUnreachable: peerpb.MirrorAlert_UNREACHABLE,
	proto.AlertErrors:      peerpb.MirrorAlert_ERRORS,
	proto.AlertContent:     peerpb.MirrorAlert_CONTENT,
}

// alertKindIn is the kind that in stands for; "" for one that this version does
// not know.
func alertKindIn(in peerpb.MirrorAlert_Kind) proto.AlertKind {
	for kind, out := range alertKinds {
		if out == in {
			return kind
		}
	}
	return ""
}

// alertOut encodes an alert. Its remaining duration is sent instead of its end, because
// the clocks of two nodes differ.
func alertOut(t proto.MirrorAlert, now time.Time) (*peerpb.MirrorAlert, error) {
	if err := checkMirror(t.Mirror); err != nil {
		return nil, err
	}
	out := &peerpb.MirrorAlert{Mirror: t.Mirror, Kind: alertKinds[t.Kind], Reason: cut(t.Reason, maxAlertReason)}
	if left := t.Until.Sub(now); !t.Until.IsZero() && left > 0 {
		// At least one: 0 would say that it is over.
		out.ForMs = max(1, left.Milliseconds())
		if out.Kind == peerpb.MirrorAlert_UNKNOWN {
			return nil, fmt.Errorf("mirror %s: %q is no kind of trouble", t.Mirror, t.Kind)
		}
	}
	return out, nil
}

// alertsIn reads many alerts. The error is that of the first that makes no
// sense; the others are good. Kinds that a newer version has are left out: what to
// make of them is not known here.
func alertsIn(in []*peerpb.MirrorAlert, now time.Time) ([]proto.MirrorAlert, error) {
	if len(in) > maxMirrors {
		return nil, fmt.Errorf("trouble with %d mirrors, want at most %d", len(in), maxMirrors)
	}
	var alerts []proto.MirrorAlert
	var wrong error
	for _, one := range in {
		t, err := alertIn(one, now)
		switch {
		case err != nil && wrong == nil:
			wrong = err
		case err == nil && (t.Kind != "" || t.Until.IsZero()):
			alerts = append(alerts, t)
		}
	}
	return alerts, wrong
}

// alertIn decodes an alert of another node, and bounds its duration. The caller fills in
// Node, because it knows the sender.
func alertIn(in *peerpb.MirrorAlert, now time.Time) (proto.MirrorAlert, error) {
	if err := checkMirror(in.GetMirror()); err != nil {
		return proto.MirrorAlert{}, err
	}
	t := proto.MirrorAlert{
		Mirror: in.GetMirror(), Kind: alertKindIn(in.GetKind()), Reason: cut(in.GetReason(), maxAlertReason),
	}
	switch left := in.GetForMs(); {
	case left < 0:
		return proto.MirrorAlert{}, fmt.Errorf("mirror %s: trouble for %d ms", t.Mirror, left)
	case left > 0:
		t.Until = now.Add(time.Duration(min(left, maxAlertFor.Milliseconds())) * time.Millisecond)
	}
	return t, nil
}

// checkMirror reports what is wrong with the name of a mirror.
func checkMirror(mirror string) error {
	if mirror == "" || len(mirror) > maxMirror {
		return fmt.Errorf("the URL of a mirror has %d bytes, want 1 to %d", len(mirror), maxMirror)
	}
	if !utf8.ValidString(mirror) || strings.ContainsFunc(mirror, unicode.IsControl) {
		return errors.New("the URL of a mirror is no text")
	}
	u, err := url.Parse(mirror)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil {
		return fmt.Errorf("%.100q is not the URL of a mirror", mirror)
	}
	return nil
}
