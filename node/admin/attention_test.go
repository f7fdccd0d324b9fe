package admin

import (
	"slices"
	"strings"
	"testing"
	"time"
)

var noon = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

func ok(name string) MemberStatus {
	return MemberStatus{Name: name, State: MemberActive, Health: HealthOK, RingAgrees: true, Reported: true}
}

// Nothing is calm that is not well.
func TestJudge(t *testing.T) {
	suite := func(change func(*SuiteStatus)) Status {
		s := SuiteStatus{Dir: "dists/noble", State: SuiteFresh, Generation: noon.Add(-time.Hour), Watched: true}
		change(&s)
		return Status{Ready: true, Archives: []ArchiveStatus{{Name: "ubuntu", Suites: []SuiteStatus{s}, Mirrors: []MirrorStatus{{State: MirrorClosed}}}}}
	}
	cluster := func(change func(*ClusterStatus)) Status {
		c := &ClusterStatus{Self: "a", Members: []MemberStatus{ok("a"), ok("b"), ok("c")}}
		change(c)
		return Status{Ready: true, Cluster: c}
	}
	for _, tt := range []struct {
		name   string
		status Status
		want   []string // "level: text"
	}{
		{"a node that is well", Status{Ready: true}, nil},
		{"a suite that is well", suite(func(*SuiteStatus) {}), nil},
		{"a cluster that is well", cluster(func(*ClusterStatus) {}), nil},
		{"a reload that failed", Status{Ready: true, ReloadFailed: "line 3: no such key", NeedsRestart: []string{"data", "listen"}}, []string{
			"attention: the latest reload failed, so the configuration from before it is in force: line 3: no such key",
			"attention: changes of data, listen wait for a restart"}},
		{"starting", Status{}, []string{"failing: not ready"}},
		{"stopping", Status{Stopping: "hands on 2 objects"}, []string{"failing: stopping: it hands on 2 objects"}},
		{"degraded, said once", Status{Ready: true, Degraded: "no room", Store: StoreStatus{Degraded: "no room"}}, []string{"attention: degraded: no room"}},
		{"a suite that is not renewed", suite(func(s *SuiteStatus) { s.State, s.Error = SuiteFailing, "upstream answers 503" }),
			[]string{"failing: ubuntu/dists/noble is not renewed, hosts get the generation of 2026-11-20 11:00 UTC: upstream answers 503"}},
		{"an archive that never worked", suite(func(s *SuiteStatus) { s.State, s.Error, s.Generation = SuiteFailing, "no such host", time.Time{} }),
			[]string{"failing: ubuntu has never worked: no such host"}},
		{"a suite that a host asked for in vain", suite(func(s *SuiteStatus) {
			s.State, s.Error, s.Generation, s.Watched = SuiteFailing, "not found", time.Time{}, false
		}), []string{"failing: ubuntu has never worked: not found"}},
		{"an archive of a class that a host asked for in vain", Status{Ready: true, Archives: []ArchiveStatus{
			{Name: "ppa/nobody/none", Class: "ppa", Suites: []SuiteStatus{{Dir: "dists/noble", State: SuiteFailing, Error: "not found", NoSuch: true}},
				Errors: []ArchiveErrors{{Reason: "untrusted", Count: 1}}},
			{Name: "ppa/a/b", Class: "ppa", Suites: []SuiteStatus{{Dir: "dists/noble", State: SuiteFresh, Generation: noon}}, Errors: []ArchiveErrors{{Reason: "corrupt", Count: 1}}},
		}}, []string{"failing: hosts got 1 answer of ppa/a/b with the error corrupt", "attention: ppa/nobody/none has never worked: not found", "attention: hosts got 1 answer of ppa/nobody/none with the error untrusted"}},
		{"a suite that there is not", Status{Ready: true, Archives: []ArchiveStatus{{Name: "ubuntu", Suites: []SuiteStatus{
			{Dir: "dists/noble", State: SuiteFresh, Generation: noon}, {Dir: "dists/nobel", State: SuiteFailing, Error: "not found", NoSuch: true},
			{Dir: "dists/jammy", State: SuiteFailing, Error: "it is down"},
		}}}}, []string{"failing: ubuntu/dists/jammy has never been there: it is down",
			"attention: hosts ask for ubuntu/dists/nobel, and upstream has no such suite; if it is not to come, look for it in their sources, and run `aptmesh drop ubuntu/dists/nobel`"}},
		{"a suite that sleeps", suite(func(s *SuiteStatus) { s.State, s.Watched = SuiteStale, false }), nil},
		{"a suite that is not checked", suite(func(s *SuiteStatus) { s.State = SuiteStale }), []string{"attention: ubuntu/dists/noble may be out of date: it was not checked"}},
		{"a suite that upstream removed", suite(func(s *SuiteStatus) {
			s.State, s.Error = SuiteStale, "upstream says that it has no such suite any more"
		}),
			[]string{"attention: ubuntu/dists/noble may be out of date: upstream says"}},
		{"expired, and upstream does not renew it", suite(func(s *SuiteStatus) {
			s.State, s.Expired, s.ValidUntil = SuiteStale, true, noon.Add(-time.Hour)
			s.Error, s.Alarm = "Valid-Until passed, and upstream has nothing newer", "Valid-Until passed: upstream has nothing newer"
		}), []string{"failing: ubuntu/dists/noble has expired, so apt refuses it: Valid-Until passed: upstream has nothing newer"}},
		{"an old release", suite(func(s *SuiteStatus) {
			s.State, s.Expired, s.ValidUntil, s.Error, s.Alarm = SuiteStale, true, noon.Add(-31*24*time.Hour), "Valid-Until passed", "Valid-Until passed"
		}), []string{"attention: ubuntu/dists/noble: Valid-Until passed"}},
		{"what was there before the restart is not trusted now", suite(func(s *SuiteStatus) {
			s.State, s.Generation, s.Unverified, s.Notice, s.Error = SuiteFailing, time.Time{}, true, "not verified: no key", "not verified: no key"
		}), []string{"failing: ubuntu/dists/noble: not verified: no key"}},
		{"withheld", suite(func(s *SuiteStatus) { s.State, s.Withheld = SuiteFailing, true }), []string{"failing: ubuntu/dists/noble is withheld"}},
		{"about to expire", suite(func(s *SuiteStatus) { s.Alarm = "it expires" }), []string{"attention: ubuntu/dists/noble: it expires"}},
		{"hosts get errors", Status{Ready: true, Archives: []ArchiveStatus{
			{Name: "docker", Errors: []ArchiveErrors{{"corrupt", 3, noon.Add(-time.Minute), noon.Add(-2 * time.Second), "/docker/a.deb", "wrong bytes."}}},
			{Name: "local", Offline: true, Errors: []ArchiveErrors{{"unavailable", 1, noon, noon, "/local/b.deb", "not held"}}},
		}}, []string{
			"failing: hosts got 3 answers of docker with the error corrupt in the last 1m0s; the latest, 2s ago: /docker/a.deb: wrong bytes",
			"attention: hosts got 1 answer of local with the error unavailable",
		}},
		{"hosts get errors of many archives", Status{Ready: true, Archives: slices.Repeat([]ArchiveStatus{
			{Name: "docker", Errors: []ArchiveErrors{{Reason: "corrupt", Count: 1}}}}, maxErrorNotes+3)},
			append(slices.Repeat([]string{"failing: hosts got 1 answer of docker"}, maxErrorNotes), "failing: hosts got errors of further archives: 3 kinds")},
		{"a dead node", cluster(func(c *ClusterStatus) {
			c.Members[2] = MemberStatus{Name: "c", State: MemberMissing, Health: HealthUnreachable, RingAgrees: true, MissingSince: noon.Add(-240 * time.Hour)}
		}), []string{"attention: c is missing since 2026-11-10 12:00 UTC; if it does not come back, run `aptmesh cluster remove c`"}},
		{"what members say of themselves", cluster(func(c *ClusterStatus) {
			c.Members[0].Level, c.Members[0].Note = LevelFailing, "said in full by others"
			c.Members[1].Level, c.Members[1].Note = LevelAttention, "degraded: no room"
			c.Members[2].Level, c.Members[2].Note = LevelFailing, "ubuntu: none of its mirrors can be asked now"
			c.Members = append(c.Members, MemberStatus{Name: "d", State: MemberActive, Health: HealthUnreachable, RingAgrees: true, Level: LevelFailing, Note: "of yesterday"})
		}), []string{"failing: c is failing: ubuntu: none of its mirrors can be asked now", "attention: b needs attention: degraded: no room", "attention: d is unreachable"}},
		{"alone by mistake", cluster(func(c *ClusterStatus) {
			c.Members, c.Alone = c.Members[:1], []string{"b: nothing listens there"}
		}), []string{"failing: this node is alone, although it has other nodes to look for: b: nothing listens there"}},
		{"alone, because the other node died", cluster(func(c *ClusterStatus) {
			c.Members, c.Alone = c.Members[:2], []string{"b: nothing listens there"}
			c.Members[1] = MemberStatus{Name: "b", State: MemberMissing, Health: HealthUnreachable, RingAgrees: true, MissingSince: noon}
		}), []string{"attention: this node is alone, although it has other nodes to look for: b: nothing listens there", "attention: b is missing since"}},
		{"alone, because the other node was removed", cluster(func(c *ClusterStatus) {
			c.Members, c.Vacated = c.Members[:1], []string{"10.0.0.2:7946"}
		}), nil},
		{"a name used twice", cluster(func(c *ClusterStatus) {
			c.Claims = []Claim{{Name: "b", Known: "10.0.0.2:7946", Other: "10.0.0.9:7946", At: noon.Add(-70 * time.Second)}}
		}),
			[]string{"failing: two nodes call themselves b: the one at 10.0.0.2:7946 is in the cluster, the one at 10.0.0.9:7946 is kept out and fetches alone; give one of them another `name` and restart it (last noticed 1m10s ago)"}},
		{"a name used twice, and nobody else", cluster(func(c *ClusterStatus) {
			c.Claims = []Claim{{Name: "b", Known: "10.0.0.9:7946", Other: "10.0.0.2:7946", At: noon.Add(-70 * time.Second), Undecided: true}}
		}),
			[]string{"failing: two nodes call themselves b, at 10.0.0.2:7946 and at 10.0.0.9:7946: they do not work together, and each fetches alone; give one of them another `name` and restart it (last noticed 1m10s ago)"}},
		{"a stranger", cluster(func(c *ClusterStatus) {
			c.Strangers = []Stranger{{Address: "10.0.0.9", Reason: "it has another gossip key", At: noon.Add(-40 * time.Second)}}
		}),
			[]string{"attention: the machine at 10.0.0.9 is kept out: it has another gossip key; it last tried to join 40s ago"}},
		{"what is failing comes first", cluster(func(c *ClusterStatus) {
			c.Members[0].GossipSilent = true
			c.CertificateExpires = noon.Add(-time.Minute)
		}), []string{"failing: the certificate of a has expired", "attention: no gossip of a"}},
	} {
		var got []string
		for _, n := range tt.status.Judge(noon) {
			got = append(got, string(n.Level)+": "+n.Text)
		}
		if !slices.EqualFunc(got, tt.want, strings.HasPrefix) {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestWorst(t *testing.T) {
	attention, failing := Note{Level: LevelAttention}, Note{Level: LevelFailing}
	for _, tt := range []struct {
		notes []Note
		want  Level
	}{{nil, LevelGood}, {[]Note{attention}, LevelAttention}, {[]Note{attention, failing, attention}, LevelFailing}} {
		if got := Worst(tt.notes); got != tt.want {
			t.Errorf("%v: %s", tt.notes, got)
		}
	}
}

func TestCompareConfigurations(t *testing.T) {
	member := func(name string, configuration map[string]string) MemberStatus {
		m := ok(name)
		m.Configuration = configuration
		return m
	}
	base := map[string]string{"archives.debian": "there", "archives.debian.signed_by": "1", "archives.debian.upstream": "2", "cap": "8"}
	with := func(key, value string) map[string]string {
		changed := make(map[string]string)
		for k, v := range base {
			changed[k] = v
		}
		changed[key] = value
		return changed
	}
	silent := member("s", nil)
	silent.Reported = false
	for _, tt := range []struct {
		members []MemberStatus
		want    []string
	}{
		{[]MemberStatus{member("a", base), member("b", base), silent}, nil},
		{[]MemberStatus{member("a", base), member("b", with("archives.debian.signed_by", "x")), member("c", base)},
			[]string{"archives.debian.signed_by is not the same on all nodes: a, c / b"}},
		// One line for an archive that a node does not have, not one for each of its keys.
		{[]MemberStatus{member("a", base), member("b", map[string]string{"cap": "8"})},
			[]string{"archives.debian is not the same on all nodes: a / b (not there)"}},
		{[]MemberStatus{member("a", base), member("b", with("cap", "2")), member("c", with("cap", "4"))},
			[]string{"cap is not the same on all nodes: a / b / c"}},
	} {
		if got := CompareConfigurations(tt.members); !slices.Equal(got, tt.want) {
			t.Errorf("%q, want %q", got, tt.want)
		}
	}
}
