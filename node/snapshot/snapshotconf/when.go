package snapshotconf

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// When is a moment that comes again each day, week or month, in UTC.
type When struct {
	clock    time.Duration // since midnight
	weekday  time.Weekday
	weekly   bool
	monthday int // 0 for any
}

// ParseWhen reads "04:00 UTC", "Mon 04:00 UTC" or "1 04:00 UTC". The UTC may be left out.
func ParseWhen(text string) (w When, err error) {
	wrong := fmt.Errorf(`%q is no such time: write "04:00 UTC", "Mon 04:00 UTC", or "1 04:00 UTC" for the first day of each month`, text)
	words := strings.Fields(text)
	if n := len(words); n > 0 && words[n-1] == "UTC" {
		words = words[:n-1]
	}
	if len(words) == 0 || len(words) > 2 {
		return w, wrong
	}
	clock, err := time.Parse("15:04", words[len(words)-1])
	if err != nil {
		return w, wrong
	}
	w.clock = time.Duration(clock.Hour())*time.Hour + time.Duration(clock.Minute())*time.Minute
	if len(words) == 1 {
		return w, nil
	}
	if w.monthday, err = strconv.Atoi(words[0]); err == nil {
		if w.monthday < 1 || w.monthday > 28 {
			return w, fmt.Errorf("%q is on a day that not all months have: use 1 to 28", text)
		}
		return w, nil
	}
	for day := time.Sunday; day <= time.Saturday; day++ {
		if strings.EqualFold(words[0], day.String()[:3]) || strings.EqualFold(words[0], day.String()) {
			w.weekday, w.weekly = day, true
			return w, nil
		}
	}
	return w, wrong
}

// Last is the latest of its moments that is not after now.
func (w When) Last(now time.Time) time.Time {
	now = now.UTC()
	day := time.Date(now.Year(), now.Month(), now.Day(), 0, 0, 0, 0, time.UTC)
	for !w.on(day) || day.Add(w.clock).After(now) {
		day = day.AddDate(0, 0, -1)
	}
	return day.Add(w.clock)
}

// Next is the first of its moments after now.
func (w When) Next(now time.Time) time.Time {
	last := w.Last(now)
	for day := last.Add(-w.clock).AddDate(0, 0, 1); ; day = day.AddDate(0, 0, 1) {
		if w.on(day) {
			return day.Add(w.clock)
		}
	}
}

func (w When) on(day time.Time) bool {
	return (!w.weekly || day.Weekday() == w.weekday) && (w.monthday == 0 || day.Day() == w.monthday)
}

// NameAt is the name of the snapshot of a moment.
func (a Auto) NameAt(at time.Time) string {
	at = at.UTC()
	year, week := at.ISOWeek()
	return strings.NewReplacer(
		"{year}", at.Format("2006"), "{month}", at.Format("01"), "{day}", at.Format("02"), "{hour}", at.Format("15"), "{minute}", at.Format("04"),
		"{isoyear}", fmt.Sprintf("%04d", year), "{isoweek}", fmt.Sprintf("%02d", week),
	).Replace(a.Name)
}
