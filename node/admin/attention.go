package admin

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Note is something of a node that is not as it should be.
type Note struct {
	Level Level  `json:"level"`
	Text  string `json:"text"` // one sentence
}

// Level says how bad something is.
type Level string

// The levels, as the exit codes of `aptmesh status` have them.
const (
	LevelGood      Level = "good"
	LevelAttention Level = "attention" // hosts are served; an operator should check
	LevelFailing   Level = "failing"   // hosts get errors or old content, or soon will
)

// Worst is the level of the worst note.
func Worst(notes []Note) Level {
	worst := LevelGood
	for _, n := range notes {
		if n.Level == LevelFailing {
			return LevelFailing
		}
		worst = LevelAttention
	}
	return worst
}

// judge collects notes.
type judge struct {
	now        time.Time
	notes      []Note
	errorNotes int // how many errors of archives there were
}

func (j *judge) attention(format string, args ...any) {
	j.notes = append(j.notes, Note{LevelAttention, fmt.Sprintf(format, args...)})
}

func (j *judge) failing(format string, args ...any) {
	j.notes = append(j.notes, Note{LevelFailing, fmt.Sprintf(format, args...)})
}

// Judge says what is not as it should be: what is failing first, then the node, its
// archives, and its cluster.
func (s *Status) Judge(now time.Time) []Note {
	j := &judge{now: now}
	switch {
	case s.Stopping != "":
		j.failing("stopping: it %s", s.Stopping)
	case !s.Ready:
		j.failing("not ready: it is starting, or draining")
	}
	if s.ReloadFailed != "" {
		j.attention("the latest reload failed, so the configuration from before it is in force: %s", s.ReloadFailed)
	}
	if len(s.NeedsRestart) > 0 {
		j.attention("changes of %s wait for a restart", strings.Join(s.NeedsRestart, ", "))
	}
	for _, degraded := range slices.Compact([]string{s.Degraded, s.Store.Degraded}) {
		if degraded != "" {
			j.attention("degraded: %s", degraded)
		}
	}
	for _, a := range s.Archives {
		j.archive(a)
	}
	if more := j.errorNotes - maxErrorNotes; more > 0 {
		j.failing("hosts got errors of further archives: %d kinds; `aptmesh status --json` lists them all", more)
	}
	for _, h := range s.Holds {
		j.attention("%s is %s: %s", h.Hold, h.Phase, h.Failure)
	}
	for _, trouble := range s.Snapshots.Troubles {
		j.attention("%s", trouble)
	}
	if s.Cluster != nil {
		j.cluster(s.Cluster)
	}
	slices.SortStableFunc(j.notes, func(a, b Note) int { return strings.Compare(string(b.Level), string(a.Level)) })
	return j.notes
}

func (j *judge) archive(a ArchiveStatus) {
	if a.usable() == 0 && len(a.Mirrors) > 0 && !a.Offline {
		j.failing("%s: none of its mirrors can be asked now; only stored files are served", a.Name)
	}
	if why := a.neverWorked(); why != "" {
		// What a host names in vain is made by that host alone: no fault of the node, and perhaps a typing error.
		say := j.failing
		if a.Class != "" {
			say = j.attention
		}
		say("%s has never worked: %s", a.Name, why)
	}
	for _, suite := range a.Suites {
		j.suite(a, suite)
	}
	for _, e := range a.Errors {
		j.errors(a, e)
	}
}

// maxErrorNotes bounds the notes of errors: a class can bring many archives.
const maxErrorNotes = 8

// errors says which errors hosts get of an archive. Where nobody is asked for it on purpose, what is
// not stored is an error by intent.
func (j *judge) errors(a ArchiveStatus, e ArchiveErrors) {
	if j.errorNotes++; j.errorNotes > maxErrorNotes {
		return
	}
	say := j.failing
	if a.Offline || a.Class != "" && a.neverWorked() != "" {
		say = j.attention
	}
	answers := "1 answer"
	if e.Count > 1 {
		answers = fmt.Sprintf("%d answers", e.Count)
	}
	say("hosts got %s of %s with the error %s in the last %s; the latest, %s ago: %s: %s",
		answers, a.Name, e.Reason, Age(j.now.Sub(e.First)), Age(j.now.Sub(e.Last)), e.URL, strings.TrimRight(e.Text, ". \n"))
}

// oldRelease is how long after its Valid-Until a suite counts as an old release: upstream keeps it
// as it is, and hosts that use it do not check the date.
const oldRelease = 30 * 24 * time.Hour

func (j *judge) suite(a ArchiveStatus, s SuiteStatus) {
	name := a.Name + "/" + s.Dir
	has := !s.Generation.IsZero()
	switch {
	case s.Withheld:
		j.failing("%s is withheld from hosts (stale.serve_expired): %s", name, cmp.Or(s.Alarm, "its Release has expired"))
	case s.Expired && s.Watched && !a.Offline && j.now.Sub(s.ValidUntil) < oldRelease:
		j.failing("%s has expired, so apt refuses it: %s", name, cmp.Or(s.Alarm, s.Error))
	case s.Alarm != "":
		j.attention("%s: %s", name, s.Alarm)
	}
	switch {
	case s.State == SuiteFailing && has && !s.Withheld:
		j.failing("%s is not renewed, hosts get the generation of %s: %s", name, s.Generation.UTC().Format("2006-01-02 15:04 UTC"), s.Error)
	case s.State == SuiteFailing && s.NoSuch && a.neverWorked() == "":
		j.attention("hosts ask for %s, and upstream has no such suite; if it is not to come, look for it in their sources, and run `aptmesh drop %s`", name, name)
	case s.State == SuiteFailing && !has && !s.Unverified && a.neverWorked() == "":
		j.failing("%s has never been there: %s", name, s.Error)
	case s.State == SuiteStale && s.Watched && has && !a.Offline && !s.Expired:
		j.attention("%s may be out of date: %s", name, cmp.Or(s.Error, "it was not checked for longer than it should be"))
	}
	switch {
	case s.Unverified:
		j.failing("%s: %s", name, s.Notice)
	case s.Notice != "":
		j.attention("%s: %s", name, s.Notice)
	}
	for _, path := range slices.Sorted(maps.Keys(s.Unreadable)) {
		j.attention("%s: %s is served, and what it lists is not verified: %s", name, path, s.Unreadable[path])
	}
}

func prefixed(prefix, text string) string {
	if text == "" {
		return ""
	}
	return prefix + text
}

// usable counts the mirrors that are not left alone.
func (a ArchiveStatus) usable() int {
	n := 0
	for _, m := range a.Mirrors {
		if m.State != MirrorOpen && !m.History {
			n++
		}
	}
	return n
}

// neverWorked says what is wrong with an archive none of whose suites ever had a
// generation; "" if one had, or if none was asked for.
func (a ArchiveStatus) neverWorked() string {
	why := ""
	for _, s := range a.Suites {
		if !s.Generation.IsZero() || s.Unverified {
			return ""
		}
		if s.State == SuiteFailing {
			why = cmp.Or(why, s.Error)
		}
	}
	return why
}

// certificateSoon is when the end of a certificate calls for attention.
const certificateSoon = 30 * 24 * time.Hour

// cluster says what is not as it should be between the nodes: the one asked first,
// then the members, then what differs.
func (j *judge) cluster(c *ClusterStatus) {
	const renew = "issue a new one with `aptmesh cluster renew`"
	switch until := c.CertificateExpires; {
	case until.IsZero():
	case until.Before(j.now):
		j.failing("the certificate of %s has expired, so no other node talks to this one; %s", c.Self, renew)
	case until.Sub(j.now) < certificateSoon:
		j.attention("the certificate of %s expires in %s; %s", c.Self, Age(until.Sub(j.now)), renew)
	}
	if len(c.Alone) > 0 {
		say := j.failing
		if slices.ContainsFunc(c.Members, func(m MemberStatus) bool { return m.State == MemberMissing }) {
			say = j.attention // it was not alone before, and goes on with what it has
		}
		say("this node is alone, although it has other nodes to look for: %s", strings.Join(c.Alone, "; "))
	}
	for _, claim := range c.Claims {
		j.claim(claim)
	}
	for _, s := range c.Strangers {
		j.attention("the machine at %s is kept out: %s; it last tried to join %s ago", s.Address, s.Reason, Age(j.now.Sub(s.At)))
	}
	for _, m := range c.Members {
		j.member(m)
		if m.Name != c.Self { // its own notes are there in full
			j.verdict(m)
		}
	}
	for _, d := range CompareConfigurations(c.Members) {
		j.attention("%s", d)
	}
	for _, s := range CompareSuites(c.Members) {
		if s.Differs != "" {
			j.attention("%s differs: %s", s.Name, s.Differs)
		}
	}
}

// claim says which of two nodes with one name takes part in the cluster. The sentence is the same on all nodes. Hosts are
// served by both.
func (j *judge) claim(c Claim) {
	const todo = "give one of them another `name` and restart it"
	since := Age(j.now.Sub(c.At))
	if c.Undecided {
		first, second := min(c.Known, c.Other), max(c.Known, c.Other)
		j.failing("two nodes call themselves %s, at %s and at %s: they do not work together, and each fetches alone; %s (last noticed %s ago)", c.Name, first, second, todo, since)
		return
	}
	j.failing("two nodes call themselves %s: the one at %s is in the cluster, the one at %s is kept out and fetches alone; %s (last noticed %s ago)", c.Name, c.Known, c.Other, todo, since)
}

func (j *judge) member(m MemberStatus) {
	switch {
	case m.State == MemberMissing:
		j.attention("%s is missing since %s; if it does not come back, run `aptmesh cluster remove %s`", m.Name, m.MissingSince.UTC().Format("2006-01-02 15:04 UTC"), m.Name)
		return
	case m.Health != HealthOK:
		j.attention("%s is %s%s", m.Name, m.Health, prefixed(": ", m.Why))
	case !m.Reported:
		j.attention("%s told nothing of itself just now", m.Name)
	}
	if m.GossipSilent {
		j.attention("no gossip of %s arrives; is UDP between the nodes blocked? News of it comes by calls alone", m.Name)
	}
	if !m.RingAgrees {
		j.attention("%s places objects by another ring: it sees other members, or runs another version", m.Name)
	}
}

// verdict is what another member says of itself.
func (j *judge) verdict(m MemberStatus) {
	switch {
	case !m.Reported || m.Level == LevelGood:
	case m.Level == LevelFailing:
		j.failing("%s is failing%s", m.Name, prefixed(": ", m.Note))
	case m.Level == LevelAttention:
		j.attention("%s needs attention%s", m.Name, prefixed(": ", m.Note))
	}
}

// CompareConfigurations says in which keys members differ that must be the same on
// all nodes, a sentence for each. A member that did not report has no say.
func CompareConfigurations(members []MemberStatus) []string {
	keys := make(map[string]bool)
	var all []MemberStatus
	for _, m := range members {
		if !m.Reported || m.Configuration == nil {
			continue
		}
		all = append(all, m)
		for key := range m.Configuration {
			keys[key] = true
		}
	}
	var differences []string
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		byValue := make(map[string][]string)
		for _, m := range all {
			// If a node lacks a whole section, only the section is reported.
			if parent, _, nested := cutLast(key); nested && keys[parent] && m.Configuration[parent] == "" {
				continue
			}
			value := m.Configuration[key]
			byValue[value] = append(byValue[value], m.Name)
		}
		if len(byValue) < 2 {
			continue
		}
		var groups []string
		for value, names := range byValue {
			group := strings.Join(names, ", ")
			if value == "" {
				group += " (not there)"
			}
			groups = append(groups, group)
		}
		slices.Sort(groups)
		differences = append(differences, fmt.Sprintf("%s is not the same on all nodes: %s", key, strings.Join(groups, " / ")))
	}
	return differences
}

// cutLast splits a key at its last dot.
func cutLast(key string) (parent, leaf string, found bool) {
	i := strings.LastIndexByte(key, '.')
	if i < 0 {
		return "", key, false
	}
	return key[:i], key[i+1:], true
}

// SuiteComparison is one suite as all members have it.
type SuiteComparison struct {
	Name string // ARCHIVE/DIR
	// Differs says which nodes differ; "" if all agree.
	Differs string
}

// CompareSuites holds the members' generations of every suite against each other. A
// member that does not know a suite has nothing to say of it: no host asked for it
// there.
func CompareSuites(members []MemberStatus) []SuiteComparison {
	suites := make(map[string]map[string]*served) // by suite and root
	for _, m := range members {
		for _, s := range m.Suites {
			if suites[s.Suite] == nil {
				suites[s.Suite] = make(map[string]*served)
			}
			root := ""
			if !s.Root.IsZero() {
				root = s.Root.String()
			}
			if suites[s.Suite][root] == nil {
				suites[s.Suite][root] = &served{root: root, date: s.Generation}
			}
			h := suites[s.Suite][root]
			h.by = append(h.by, m.Name)
		}
	}
	var compared []SuiteComparison
	for suite, byRoot := range suites {
		generations := slices.SortedFunc(maps.Values(byRoot), func(a, b *served) int {
			return cmp.Or(b.date.Compare(a.date), cmp.Compare(a.by[0], b.by[0]))
		})
		compared = append(compared, SuiteComparison{suite, difference(generations)})
	}
	slices.SortFunc(compared, func(a, b SuiteComparison) int { return cmp.Compare(a.Name, b.Name) })
	return compared
}

// served is a generation of a suite, and the members that serve it.
type served struct {
	root string // "" for none
	date time.Time
	by   []string // names, one at least
}

// difference says which nodes are behind, for generations with the newest first; "" if
// there is only one generation.
func difference(generations []*served) string {
	if len(generations) < 2 {
		return ""
	}
	newest := generations[0].date
	fork := generations[1].date.Equal(newest) // then the dates are the same
	var parts []string
	for _, g := range generations {
		is, has := "is", "has"
		if len(g.by) > 1 {
			is, has = "are", "have"
		}
		who := strings.Join(g.by, ", ")
		switch {
		case g.root == "":
			parts = append(parts, fmt.Sprintf("%s %s none", who, has))
		case g.date.Before(newest):
			parts = append(parts, fmt.Sprintf("%s %s behind with %s", who, is, second(g.date)))
		case fork:
			parts = append(parts, fmt.Sprintf("%s %s %s (%.12s)", who, has, second(g.date), g.root))
		default:
			parts = append(parts, fmt.Sprintf("%s %s %s", who, has, second(g.date)))
		}
	}
	return strings.Join(parts, "; ")
}

// second writes a generation's date in full: two of one minute must not look alike.
func second(t time.Time) string { return t.UTC().Format(time.DateTime) + " UTC" }

// Age writes a duration in its two largest units.
func Age(d time.Duration) string {
	d = max(d, 0)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm%ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 24*time.Hour:
		return fmt.Sprintf("%dh%dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd%dh", int(d.Hours())/24, int(d.Hours())%24)
}
