package catalog

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta"
	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
	"github.com/aptmesh/aptmesh/proto"
)

// expiring is a world whose suite is valid for three days, and checked every ten minutes;
// upstream has just died.
func expiringWorld(t *testing.T, suite testarchive.Suite, change func(*Config)) *world {
	t.Helper()
	suite.ByHash = true
	if suite.ValidFor == 0 {
		suite.ValidFor = 72 * time.Hour
	}
	w := newWorld(t, suite)
	w.a.AddPackage(suite.Name, testarchive.Package{Name: "hello", Version: "1"})
	w.publish()
	w.cfg.Archives[0].CheckEvery = 10 * time.Minute
	w.cfg.Archives[0].Suites = []proto.Suite{{Dir: "dists/" + suite.Name}}
	if change != nil {
		change(&w.cfg)
	}
	w.open()
	w.use("dists/"+suite.Name+"/InRelease", "dists/"+suite.Name+"/main/binary-amd64/Packages.xz")
	w.up.failing("", &proto.Unavailable{Reason: "no route to host"})
	return w
}

// Past Valid-Until and with upstream dead, a Release is served for the time that is
// configured, less for one that carries security updates, and clients are told so.
func TestServedPastValidUntil(t *testing.T) {
	week := 7 * 24 * time.Hour
	for name, c := range map[string]struct {
		suite  testarchive.Suite
		change func(*Config)
		period time.Duration
		key    string
	}{
		"default":              {testarchive.Suite{Name: "noble-updates"}, nil, week, "(stale.serve_expired)"},
		"configured":           {testarchive.Suite{Name: "noble"}, func(c *Config) { c.ServeExpired = 30 * time.Hour }, 30 * time.Hour, "(stale.serve_expired)"},
		"not at all":           {testarchive.Suite{Name: "noble"}, func(c *Config) { c.ServeExpired = 0 }, 0, "(stale.serve_expired)"},
		"security by its name": {testarchive.Suite{Name: "noble-security"}, nil, 24 * time.Hour, "(stale.serve_expired_security)"},
		"security, as of old":  {testarchive.Suite{Name: "buster/updates"}, nil, 24 * time.Hour, "(stale.serve_expired_security)"},
		"security by its label": {testarchive.Suite{Name: "bookworm", Label: "Debian-Security"}, func(c *Config) { c.ServeExpiredSecurity = 5 * time.Hour },
			5 * time.Hour, "(stale.serve_expired_security)"},
		"of the archive": {testarchive.Suite{Name: "noble-security"}, func(c *Config) { c.Archives[0].ServeExpired = new(50 * time.Hour) },
			50 * time.Hour, "(archives.a.serve_expired, in place of stale.serve_expired)"},
		"none in the archive": {testarchive.Suite{Name: "noble"}, func(c *Config) { c.Archives[0].ServeExpired = new(time.Duration) },
			0, "(archives.a.serve_expired, in place of stale.serve_expired)"},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				w := expiringWorld(t, c.suite, c.change)
				dir := "dists/" + c.suite.Name
				root, packages := dir+"/InRelease", dir+"/main/binary-amd64/Packages.xz"
				validUntil := w.Stats()[0].ValidUntil
				until := validUntil.Add(c.period)
				if st := w.Stats()[0]; !st.ServedUntil.Equal(until) || st.Security != strings.Contains(c.key, "security") && !strings.Contains(name, "archive") {
					t.Errorf("served until %v, want %v; security %v", st.ServedUntil, until, st.Security)
				}
				time.Sleep(time.Until(validUntil))
				if e := w.must(root); !strings.Contains(e.Stale, "could not be checked") {
					t.Errorf("stale: %q", e.Stale)
				}
				if c.period > 0 {
					time.Sleep(time.Until(until))
					e := w.must(root)
					for _, said := range []string{"cannot be reached since 2026-03-01T12:0", validUntil.Format(time.RFC3339), "served until " + until.Format(time.RFC3339)} {
						if !strings.Contains(e.Stale, said) {
							t.Errorf("stale: %q, want %q in it", e.Stale, said)
						}
					}
				}
				time.Sleep(time.Second)
				for range 2 {
					if e, ok := w.Resolve(w.loc(root)); ok {
						t.Errorf("it is still served: %+v", e)
					}
					var final *proto.Rejected
					_, err := w.get(root)
					if !errors.As(err, &final) || final.Kind != proto.RejectExpired || errors.Is(err, proto.ErrNotFound) || !strings.Contains(final.Reason, c.key) || !strings.Contains(err.Error(), "no route to host") {
						t.Errorf("%v", err)
					}
					if st := w.Stats()[0]; !st.Withheld || !st.Expired || st.Date.IsZero() {
						t.Errorf("%+v", st)
					}
					// What names its content goes on being served.
					w.listedAs(packages, w.file(packages))
					w.listedAs(aptmeta.ByHashPath(packages, aptmeta.SHA256, testarchive.Sum(testarchive.SHA256, w.file(packages))), w.file(packages))
					w.listedAs(hello1, w.file(hello1))
					w = w.crash()
					w.rest()
				}
				// An onlooker is told what is held all the same.
				if e, ok := w.Explain(w.loc(root)); !ok || !strings.Contains(e.Stale, "Valid-Until passed") {
					t.Errorf("%+v, %v", e, ok)
				}
				// Upstream is back, with the same: that is how the archive is.
				w.up.setFault(nil)
				time.Sleep(time.Hour)
				if e := w.must(root); !strings.Contains(e.Stale, "upstream has nothing newer") {
					t.Errorf("stale: %q", e.Stale)
				}
				// And with a new one.
				w.publish()
				time.Sleep(time.Hour)
				if e := w.must(root); e.Stale != "" {
					t.Errorf("stale: %q", e.Stale)
				}
			})
		})
	}
}

// An old release that has expired long ago, and is kept upstream so, is served over an
// outage like any other.
func TestExpiredLongAgo(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := expiringWorld(t, testarchive.Suite{Name: "noble"}, nil)
		w.up.setFault(nil)
		time.Sleep(100 * 24 * time.Hour)
		if e := w.must(nobleIn); !strings.Contains(e.Stale, "upstream has nothing newer") {
			t.Errorf("stale: %q", e.Stale)
		}
		w.up.failing("", &proto.Unavailable{Reason: "no route to host"})
		time.Sleep(6 * 24 * time.Hour)
		if e := w.must(nobleIn); !strings.Contains(e.Stale, "it is served until") {
			t.Errorf("stale: %q", e.Stale)
		}
		time.Sleep(2 * 24 * time.Hour)
		var final *proto.Rejected
		if e, err := w.get(nobleIn); !errors.As(err, &final) || final.Kind != proto.RejectExpired {
			t.Errorf("%+v, %v", e, err)
		}
	})
}

// A Release without Valid-Until never expires.
func TestWithoutValidUntil(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := nobleWorld(t)
		w.cfg.Archives[0].CheckEvery = time.Hour
		w.publish()
		w.open()
		w.must(nobleIn)
		w.up.failing("", &proto.Unavailable{Reason: "no route"})
		time.Sleep(60 * 24 * time.Hour)
		if e := w.must(nobleIn); !strings.Contains(e.Stale, "could not be checked") {
			t.Errorf("stale: %q", e.Stale)
		}
		if st := w.Stats()[0]; st.Alarm != "" || st.Expired || st.Withheld || !st.ServedUntil.IsZero() || w.metric("aptmesh_suite_expiry_alarm") != 0 {
			t.Errorf("%+v", st)
		}
	})
}

// Before Valid-Until passes unrenewed there is an alarm: once in the log for each
// generation, in the status and in a metric while it lasts.
func TestAlarmBeforeValidUntil(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFleet(t, 1, testarchive.Suite{Name: "noble", ByHash: true, ValidFor: 72 * time.Hour})
		n := f.nodes[0]
		n.cfg.Archives[0].Suites = []proto.Suite{{Dir: "dists/noble"}}
		n.cfg.Archives[0].CheckEvery = 10 * time.Minute
		f.publish()
		n.start()
		n.must(nobleIn)
		warned := func() (k int) {
			for _, line := range n.warnings() {
				if strings.Contains(line, "not renewed in time") {
					k++
				}
			}
			return k
		}
		for i := range 2 {
			time.Sleep(46*time.Hour + 30*time.Minute)
			if st := n.Stats()[0]; st.Alarm != "" || warned() != i || n.metric("aptmesh_suite_expiry_alarm") != 0 {
				t.Errorf("too early: %q, %d warnings", st.Alarm, warned())
			}
			if i == 1 {
				n.up.failAll(&proto.Unavailable{Reason: "no route"})
			}
			time.Sleep(2 * time.Hour)
			why := []string{"upstream has nothing newer", "upstream cannot be reached since"}[i]
			if st := n.Stats()[0]; !strings.Contains(st.Alarm, "passes on") || !strings.Contains(st.Alarm, why) || n.metric("aptmesh_suite_expiry_alarm") != 1 {
				t.Errorf("alarm: %q", st.Alarm)
			}
			time.Sleep(40 * time.Hour)
			if st := n.Stats()[0]; !strings.Contains(st.Alarm, "passed on") || warned() != i+1 {
				t.Errorf("alarm: %q, %d warnings", st.Alarm, warned())
			}
			n.up.failAll(nil)
			f.publish()
			time.Sleep(time.Hour)
			if st := n.Stats()[0]; st.Alarm != "" || st.Stale != "" || n.metric("aptmesh_suite_expiry_alarm") != 0 {
				t.Errorf("alarm: %q, stale %q", st.Alarm, st.Stale)
			}
		}
	})
	// One that is always renewed late in the day before gives none all the time.
	inBubble(t, func(t *testing.T) {
		w := newWorld(t, testarchive.Suite{Name: "noble", ValidFor: 20 * time.Hour})
		w.publish()
		w.open()
		w.must(nobleIn)
		time.Sleep(9 * time.Hour)
		if st := w.Stats()[0]; st.Alarm != "" {
			t.Errorf("alarm: %q", st.Alarm)
		}
		time.Sleep(2 * time.Hour)
		if st := w.Stats()[0]; st.Alarm == "" {
			t.Error("no alarm")
		}
	})
}

// An offline archive asks upstream for nothing, serves what is held whatever its age,
// and says so.
func TestOfflineArchive(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := expiringWorld(t, testarchive.Suite{Name: "noble"}, nil)
		w.up.setFault(nil)
		w.a.AddSuite(testarchive.Suite{Name: "other"})
		w.publish()
		time.Sleep(20 * time.Minute)
		current, pkgs := w.file(nobleIn), w.file(noblePkgs)
		offline := slices.Clone(w.cfg.Archives)
		offline[0].Offline = true
		w.Reconfigure(offline)
		w.upgrade() // which nobody must see
		w.up.reset()
		var busy *proto.Unavailable
		before := w.metric("aptmesh_catalog_checks_total")
		for range 30 {
			time.Sleep(24 * time.Hour)
			looks := w.metric("aptmesh_catalog_checks_total")
			for _, fresh := range []bool{false, true} {
				e, err := w.Discover(t.Context(), w.loc(nobleIn), fresh)
				if err != nil || e.Object.Ref != refOfBytes(current) || !strings.Contains(e.Stale, "offline: true") {
					t.Fatalf("%+v, %v", e, err)
				}
			}
			if e, ok := w.Resolve(w.loc(nobleIn)); !ok || !strings.Contains(e.Stale, "offline: true") {
				t.Errorf("%+v, %v", e, ok)
			}
			if n := w.metric("aptmesh_catalog_checks_total") - looks; n != 0 {
				t.Errorf("%v looks for what is held", n)
			}
			w.listedAs(noblePkgs, pkgs)
			w.listedAs(hello1, w.file(hello1))
			for _, path := range []string{"dists/other/InRelease", nobleRelease, nobleGPG} {
				if _, err := w.get(path); !errors.As(err, &busy) || errors.Is(err, proto.ErrNotFound) || !strings.Contains(busy.Reason, "offline: true") {
					t.Errorf("%s: %v", path, err)
				}
			}
			if _, err := w.refresh(); !errors.As(err, &busy) || !strings.Contains(busy.Reason, "offline: true") {
				t.Errorf("refresh: %v", err)
			}
		}
		if e := w.must(nobleIn); !strings.Contains(e.Stale, "Valid-Until passed") {
			t.Errorf("stale: %q", e.Stale)
		}
		st := w.Stats()[0]
		if looks := w.metric("aptmesh_catalog_checks_total"); looks != before+60 { // the refreshes, and those for what is not held
			t.Errorf("%v looks while offline", looks-before)
		}
		if !st.Offline || st.Err != nil || st.Withheld || !st.ServedUntil.IsZero() || !strings.Contains(st.Alarm, "offline: true") {
			t.Errorf("%+v", st)
		}
		for _, path := range []string{nobleIn, nobleRelease, nobleGPG, "dists/other/InRelease", "dists/other/Release"} {
			if n := w.up.requests(path); n != 0 {
				t.Errorf("upstream was asked for %s %d times", path, n)
			}
		}
		w = w.crashWith(offline)
		w.listedAs(nobleIn, current)
		w.publish()
		w.Reconfigure(w.onlineAgain())
		time.Sleep(30 * time.Minute)
		w.listedAs(nobleIn, w.file(nobleIn))
		if st := w.Stats()[0]; st.Offline || st.Stale != "" || st.Err != nil {
			t.Errorf("%+v", st)
		}
	})
}

// crashWith goes on with other archives.
func (w *world) crashWith(archives []Archive) *world {
	w.cfg.Archives = archives
	return w.crash()
}

func (w *world) onlineAgain() []Archive {
	archives := slices.Clone(w.cfg.Archives)
	archives[0].Offline = false
	return archives
}

// An offline node goes on taking what other nodes hold.
func TestOfflineNodeOfACluster(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFleet(t, 3)
		f.publish()
		f.nodes[2].cfg.Archives[0].Offline = true
		f.start()
		for _, n := range f.nodes { // the offline one for the first time
			n.must(nobleIn)
			n.use(noblePkgs)
		}
		f.upgrade("2")
		f.settled(3 * time.Minute)
		f.agree(noblePkgs, hello2)
		// It leads: nobody looks in its place at once, and nobody suffers.
		f.set(func() { f.order = []string{"n3", "n1", "n2"} })
		f.upgrade("3")
		f.settled(10 * time.Minute)
		f.agree(noblePkgs)
		if n := f.nodes[2].up.requests(nobleIn); n != 0 {
			t.Errorf("it asked upstream %d times", n)
		}
	})
}
