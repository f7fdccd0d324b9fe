package snapshotconf

import (
	"testing"
	"time"
)

func TestWhen(t *testing.T) {
	now := time.Date(2026, 6, 3, 12, 0, 0, 0, time.UTC) // a Wednesday
	for text, want := range map[string][2]string{
		"04:00 UTC":        {"2026-06-03 04:00", "2026-06-04 04:00"},
		"12:00":            {"2026-06-03 12:00", "2026-06-04 12:00"},
		"12:01 UTC":        {"2026-06-02 12:01", "2026-06-03 12:01"},
		"Mon 04:00 UTC":    {"2026-06-01 04:00", "2026-06-08 04:00"},
		"wednesday 12:00":  {"2026-06-03 12:00", "2026-06-10 12:00"},
		"Thu 00:00 UTC":    {"2026-05-28 00:00", "2026-06-04 00:00"},
		"1 04:00 UTC":      {"2026-06-01 04:00", "2026-07-01 04:00"},
		"28 04:00 UTC":     {"2026-05-28 04:00", "2026-06-28 04:00"},
		"  Sun  23:59 UTC": {"2026-05-31 23:59", "2026-06-07 23:59"},
	} {
		w, err := ParseWhen(text)
		if err != nil {
			t.Error(err)
			continue
		}
		const form = "2006-01-02 15:04"
		for _, zone := range []*time.Location{time.UTC, time.FixedZone("", 9*3600)} {
			if last, next := w.Last(now.In(zone)), w.Next(now.In(zone)); last.Format(form) != want[0] || next.Format(form) != want[1] {
				t.Errorf("%q: %v and %v, want %v", text, last, next, want)
			}
		}
	}
	for _, text := range []string{"", "UTC", "4", "Mon", "Mon 4pm", "25:00", "0 04:00", "29 04:00", "Mon Tue 04:00", "04:00 CET"} {
		if _, err := ParseWhen(text); err == nil {
			t.Errorf("%q is a time", text)
		}
	}
	a := Auto{Name: "w{isoyear}-{isoweek}.{year}{month}{day}-{hour}{minute}"}
	if got := a.NameAt(time.Date(2027, 1, 1, 4, 5, 0, 0, time.UTC)); got != "w2026-53.20270101-0405" {
		t.Error(got)
	}
}
