package catalog

import (
	"fmt"
	"strings"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// What a node does while nobody can tell whether there is a newer Release: it goes on
// serving the one it holds, and says so. Past Valid-Until it does for a bounded time
// only, for that is what keeps an old Release, with holes that have been mended since,
// from being played back for ever. A Release without Valid-Until never expires.
//
// Where upstream does answer, and has nothing newer than an expired Release, that is
// how the archive is: old releases are kept so. It is passed on, and apt decides.

func (s *suite) offline() bool { return s.conf.Load().Offline }

// errOffline is what can be said of a suite of which an offline node holds nothing.
func (s *suite) errOffline() error {
	return &proto.Unavailable{Reason: fmt.Sprintf("the archive %q is offline here (offline: true): only what is held is served, and upstream is not asked for the Release of %s", s.id.Archive, s.id)}
}

// unchecked reports whether nobody has heard from upstream for longer than a look that
// failed would explain.
func (s *suite) unchecked(now time.Time) bool {
	return now.Sub(time.Unix(0, s.lastGood.Load())) > 3*s.interval()+10*time.Second
}

// servedUntil is until when a generation is served with upstream dead, and the key of
// the configuration that says so: for a time after its Valid-Until, or after upstream
// was last known to have nothing newer, where it went on with an expired one. The zero
// time is for ever.
func (s *suite) servedUntil(g *generation) (until time.Time, key string) {
	conf, period := s.conf.Load(), s.c.cfg.ServeExpired
	if key = "outage.serve_expired"; s.security(g) {
		key, period = "outage.serve_expired_security", s.c.cfg.ServeExpiredSecurity
	}
	if conf.ServeExpired != nil {
		key, period = "archives."+conf.Name+".serve_expired, in place of outage.serve_expired", *conf.ServeExpired
	}
	if g.validUntil.IsZero() || conf.Offline {
		return time.Time{}, key
	}
	from := g.validUntil
	if good := time.Unix(0, s.lastGood.Load()).UTC().Truncate(time.Second); good.After(from) {
		from = good
	}
	return from.Add(max(period, 0)), key
}

// security reports whether a suite carries security updates: hosts that go on with an
// old one of these without knowing are in danger.
func (s *suite) security(g *generation) bool {
	n := g.release.names
	for _, name := range []string{s.id.Dir, n.label, n.suite, n.codename} {
		if strings.Contains(strings.ToLower(name), "security") {
			return true
		}
	}
	return strings.HasSuffix(s.id.Dir, "/updates")
}

// withheld is why a generation is not given out any more; nil while it is.
func (s *suite) withheld(g *generation, now time.Time) error {
	if !g.expired(now) { // spares most requests the rest
		return nil
	}
	until, key := s.servedUntil(g)
	if until.IsZero() || !now.After(until) || !s.unchecked(now) {
		return nil
	}
	s.mu.Lock()
	failure := s.failure
	s.mu.Unlock()
	return &proto.Unavailable{
		Reason: fmt.Sprintf("the Release of %s is not served any more: %s, its Valid-Until passed on %s, and it was served until %s (%s)",
			s.id, s.unreached(), g.validUntil.Format(time.RFC3339), until.Format(time.RFC3339), key),
		Err: failure,
	}
}

// unreached says since when upstream has not been heard of.
func (s *suite) unreached() string {
	good := s.lastGood.Load()
	if good == 0 {
		return "upstream could not be checked yet"
	}
	return "upstream cannot be reached since " + time.Unix(0, good).UTC().Format(time.RFC3339)
}

// stale tells why the generation may be older than upstream's, or "".
func (s *suite) stale(g *generation, now time.Time) string {
	past := func() string { return "Valid-Until passed on " + g.validUntil.Format(time.RFC3339) }
	if s.offline() {
		said := "offline: true, upstream is not asked"
		if good := s.lastGood.Load(); good != 0 {
			said += "; it was last checked on " + time.Unix(0, good).UTC().Format(time.RFC3339)
		}
		if g.expired(now) {
			said += "; " + past()
		}
		return said
	}
	switch unchecked := s.unchecked(now); {
	case unchecked && g.expired(now):
		until, _ := s.servedUntil(g)
		is := "is"
		if now.After(until) {
			is = "was"
		}
		return fmt.Sprintf("%s; %s; it %s served until %s", s.unreached(), past(), is, until.Format(time.RFC3339))
	case g.expired(now):
		return past() + ", and upstream has nothing newer"
	case unchecked:
		return "upstream could not be checked for " + now.Sub(time.Unix(0, s.lastGood.Load())).Round(time.Second).String()
	}
	return ""
}

// alarm tells that a generation is about to expire, or has, and nobody has renewed it;
// "" while that is far off. Where a Release is valid for less than twice the warning,
// half of its time has to do.
func (s *suite) alarm(g *generation, now time.Time) string {
	if g.validUntil.IsZero() {
		return ""
	}
	before := min(s.c.cfg.WarnBefore, g.validUntil.Sub(g.Date)/2)
	left := g.validUntil.Sub(now)
	if left > before {
		return ""
	}
	why := "upstream has nothing newer"
	switch {
	case s.offline():
		why = "offline: true"
	case s.unchecked(now):
		why = s.unreached()
	}
	if left < 0 {
		return fmt.Sprintf("Valid-Until passed on %s: %s", g.validUntil.Format(time.RFC3339), why)
	}
	return fmt.Sprintf("Valid-Until passes on %s, in %s: %s", g.validUntil.Format(time.RFC3339), left.Round(time.Second), why)
}

// warn logs the alarm, once for each generation.
func (s *suite) warn() {
	g := s.held()
	if g == nil {
		return
	}
	said := s.alarm(g, s.c.cfg.Now())
	s.mu.Lock()
	again := s.alarmed == g.Root
	if said != "" {
		s.alarmed = g.Root
	}
	s.mu.Unlock()
	if said != "" && !again {
		s.log.Warn("the Release served is not renewed in time; apt refuses it after its Valid-Until", "date", g.Date.Format(time.RFC3339), "alarm", said)
	}
}
