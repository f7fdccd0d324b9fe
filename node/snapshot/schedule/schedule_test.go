package schedule

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/node/snapshot/snapshotconf"
)

// at is a moment of the first week of June 2026, whose Monday is the first.
func at(day, hour, minute int) time.Time {
	return time.Date(2026, 6, day, hour, minute, 0, 0, time.UTC)
}

var weekly = snapshotconf.Settings{
	Auto:    []snapshotconf.Auto{{Name: "w{isoyear}-{isoweek}", At: "Mon 04:00 UTC", Keep: 2, Into: "canary"}},
	Promote: []snapshotconf.Promote{{From: "canary", To: "stable", After: 72 * time.Hour}},
}

func own(name string, taken time.Time) Snapshot {
	return Snapshot{name, taken, "w{isoyear}-{isoweek}"}
}

func channel(name, to string, since time.Time) Channel {
	return Channel{Name: name, At: to, Since: since, Past: []Move{{to, since}}}
}

func text(acts []Act) (all []string) {
	for _, a := range acts {
		switch a.Kind {
		case Take:
			all = append(all, fmt.Sprintf("take %s as of %s", a.Name, a.At.Format("02 15:04")))
		case MoveTo:
			all = append(all, fmt.Sprintf("move %s to %s", a.Name, a.To))
		default:
			all = append(all, string(a.Kind)+" "+a.Name)
		}
	}
	return all
}

func TestDue(t *testing.T) {
	w22, w23 := own("w2026-22", at(1, 4, 0).AddDate(0, 0, -7)), own("w2026-23", at(1, 4, 0))
	for _, tt := range []struct {
		name  string
		state State
		want  []string
	}{
		{"the first one, late", State{Now: at(3, 12, 30)}, []string{"take w2026-23 as of 03 12:00"}},
		{"on time", State{Now: at(1, 4, 0)}, []string{"take w2026-23 as of 01 04:00"}},
		{"a minute late", State{Now: at(1, 4, 59)}, []string{"take w2026-23 as of 01 04:00"}},
		{"before its time, last week's is due", State{Now: at(1, 3, 59)}, []string{"take w2026-22 as of 01 03:00"}},
		{"taken", State{Now: at(1, 4, 1), Snapshots: []Snapshot{w23}}, []string{"move canary to w2026-23"}},
		{"an operator has the name", State{Now: at(1, 4, 1), Snapshots: []Snapshot{{Name: "w2026-23"}}}, nil},
		{"an operator has removed it", State{Now: at(1, 4, 1), Removed: []string{"w2026-23"}}, nil},
		{"the clock was set back", State{Now: at(1, 3, 0), Snapshots: []Snapshot{w23}, Channels: []Channel{channel("canary", "w2026-23", at(1, 4, 0))}}, nil},
		{"moved", State{Now: at(1, 4, 2), Snapshots: []Snapshot{w23}, Channels: []Channel{channel("canary", "w2026-23", at(1, 4, 1))}}, nil},
		{"a channel is held", State{Now: at(1, 4, 2), Snapshots: []Snapshot{w23}, Channels: []Channel{{Name: "canary", At: "w2026-22", Since: at(1, 4, 1), Held: true}}}, nil},
		{"the node fails", State{Now: at(1, 4, 2), Snapshots: []Snapshot{w23}, Failing: true}, nil},
		{"the node fails, and a snapshot is due", State{Now: at(1, 4, 2), Failing: true}, []string{"take w2026-23 as of 01 04:00"}},
		{"an operator moved it back", State{Now: at(2, 0, 0), Snapshots: []Snapshot{w22, w23}, Channels: []Channel{
			{Name: "canary", At: "w2026-22", Since: at(1, 9, 0), Past: []Move{{"w2026-22", at(1, 9, 0)}, {"w2026-23", at(1, 4, 1)}}},
		}}, nil},
		{"not yet promoted", State{Now: at(4, 4, 0), Snapshots: []Snapshot{w23}, Channels: []Channel{channel("canary", "w2026-23", at(1, 4, 1))}}, nil},
		{"promoted", State{Now: at(4, 4, 1), Snapshots: []Snapshot{w23}, Channels: []Channel{channel("canary", "w2026-23", at(1, 4, 1))}}, []string{"move stable to w2026-23"}},
		{"stable is held", State{Now: at(4, 4, 1), Snapshots: []Snapshot{w23}, Channels: []Channel{
			channel("canary", "w2026-23", at(1, 4, 1)), {Name: "stable", At: "w2026-22", Held: true},
		}}, nil},
		{"stable was moved back", State{Now: at(5, 0, 0), Snapshots: []Snapshot{w22, w23}, Channels: []Channel{
			channel("canary", "w2026-23", at(1, 4, 1)), {Name: "stable", At: "w2026-22", Since: at(4, 9, 0), Past: []Move{{"w2026-22", at(4, 9, 0)}, {"w2026-23", at(4, 4, 1)}}},
		}}, nil},
		{"it was there a month ago", State{Now: at(5, 0, 0), Snapshots: []Snapshot{w22, w23}, Channels: []Channel{
			channel("canary", "w2026-23", at(1, 4, 1)), {Name: "stable", At: "w2026-22", Past: []Move{{"w2026-23", at(1, 3, 0)}}},
		}}, []string{"move stable to w2026-23"}},
		{"canary is live", State{Now: at(5, 0, 0), Snapshots: []Snapshot{w23}, Channels: []Channel{{Name: "canary", Past: []Move{{"w2026-23", at(1, 4, 1)}}}}}, nil},
		{"older ones go", State{Now: at(2, 0, 0), Snapshots: []Snapshot{own("w2026-20", at(1, 4, 0).AddDate(0, 0, -21)), w22, w23, own("w2026-21", at(1, 4, 0).AddDate(0, 0, -14))},
			Channels: []Channel{channel("canary", "w2026-23", at(1, 4, 1))}}, []string{"remove w2026-21", "remove w2026-20"}},
		{"but not those that are used, or an operator's", State{Now: at(2, 0, 0), Snapshots: []Snapshot{{Name: "old"}, own("w2026-20", at(1, 4, 0).AddDate(0, 0, -21)), w22, w23},
			Channels: []Channel{channel("canary", "w2026-23", at(1, 4, 1)), {Name: "edge", At: "w2026-20"}}}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := text(Due(weekly, tt.state)); !slices.Equal(got, tt.want) {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

// A year of it: each week has its snapshot, canary follows, and stable follows three days later.
func TestYear(t *testing.T) {
	s := State{Now: at(1, 0, 0)}
	move := func(name, to string) {
		i := slices.IndexFunc(s.Channels, func(c Channel) bool { return c.Name == name })
		if i < 0 {
			s.Channels, i = append(s.Channels, Channel{Name: name}), len(s.Channels)
		}
		c := &s.Channels[i]
		c.At, c.Since, c.Past = to, s.Now, append(c.Past, Move{to, s.Now})
	}
	taken := 0
	for ; s.Now.Before(at(1, 0, 0).AddDate(1, 0, 0)); s.Now = s.Now.Add(10 * time.Minute) {
		for {
			acts := Due(weekly, s)
			if len(acts) == 0 {
				break
			}
			switch a := acts[0]; a.Kind {
			case Take:
				taken++
				s.Snapshots = append(s.Snapshots, own(a.Name, a.At))
			case MoveTo:
				move(a.Name, a.To)
			case Remove:
				s.Snapshots = slices.DeleteFunc(s.Snapshots, func(x Snapshot) bool { return x.Name == a.Name })
			}
		}
		if len(s.Snapshots) > 3 {
			t.Fatalf("at %v there are %v", s.Now, s.Snapshots)
		}
		if canary, ok := s.channel("canary"); ok {
			stable, _ := s.channel("stable")
			if since := s.Now.Sub(canary.Since); since >= 72*time.Hour != (stable.At == canary.At) {
				t.Fatalf("at %v canary is at %s since %v, and stable at %s", s.Now, canary.At, canary.Since, stable.At)
			}
		}
	}
	if taken != 54 { // that of the week before the first, and 53 Mondays
		t.Errorf("%d snapshots were taken", taken)
	}
}
