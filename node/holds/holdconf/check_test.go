package holdconf

import (
	"testing"
	"time"
)

func TestWindows(t *testing.T) {
	for _, tt := range []struct {
		window, now string
		wait, open  time.Duration
	}{
		{"", "12:00", 0, 24 * time.Hour},
		{"01:00-05:00", "00:30", 30 * time.Minute, 4 * time.Hour},
		{"01:00-05:00", "01:00", 0, 4 * time.Hour},
		{"01:00-05:00", "04:59", 0, time.Minute},
		{"01:00-05:00", "05:00", 20 * time.Hour, 4 * time.Hour},
		{"22:00-02:00", "23:00", 0, 3 * time.Hour},
		{"22:00-02:00", "01:00", 0, time.Hour},
		{"22:00-02:00", "02:00", 20 * time.Hour, 4 * time.Hour},
	} {
		w, err := ParseWindow(tt.window)
		if err != nil {
			t.Fatal(err)
		}
		now, _ := time.Parse("15:04", tt.now)
		if wait, open := w.Next(now); wait != tt.wait || open != tt.open {
			t.Errorf("%s at %s: %s, %s", tt.window, tt.now, wait, open)
		}
	}
	for _, text := range []string{"1", "01:00", "01:00-25:00", "-", "a-b", "01:00-02:00-03:00"} {
		if WindowProblem(text) == "" {
			t.Errorf("%q is a window", text)
		}
	}
}
