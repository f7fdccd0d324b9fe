package suite

import (
	"testing"
	"time"
)

func TestFresh(t *testing.T) {
	const interval, wait = time.Minute, 5 * time.Second
	now := Mono(0).Add(3 * time.Hour)
	for _, c := range []struct {
		name                string
		tried, ended, heard Mono
		fresh               bool
	}{
		{"never asked", Never, Never, Never, false},
		{"a check has just ended", now, now, Never, true},
		{"the last check ended two intervals ago", now.Add(-2 * interval), now.Add(-2 * interval), Never, true},
		{"the suite has slept", now.Add(-time.Hour), now.Add(-time.Hour), Never, false},
		{"it has slept, and upstream has answered at this moment", now, now.Add(-time.Hour), Never, false},
		{"it has slept, and what upstream answered takes long to stage", now.Add(-wait), now.Add(-time.Hour), Never, true},
		{"it takes for ever", now.Add(-time.Hour), now.Add(-2 * time.Hour), Never, false},
		{"another node has asked a moment ago", Never, Never, now.Add(-time.Second), true},
	} {
		f := never()
		f.Tried, f.Ended, f.Announced = c.tried, c.ended, c.heard
		if got := f.fresh(now, interval, wait); got != c.fresh {
			t.Errorf("%s: fresh %v", c.name, got)
		}
	}
}
