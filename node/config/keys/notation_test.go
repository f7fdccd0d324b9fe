package keys

import (
	"testing"
	"time"
)

func TestSizes(t *testing.T) {
	for text, want := range map[string]int64{
		"0": 0, "1": 1, "1024": 1024, "5MiB": 5 << 20, "5 MiB": 5 << 20, "50GiB": 50 << 30, "200GB": 200e9,
		"1.5KiB": 1536, "2TiB": 2 << 40, "64mb": 64e6, "7B": 7,
	} {
		got, err := parseSize(text)
		if err != nil || got != want {
			t.Errorf("parseSize(%q) = %d, %v; want %d", text, got, err, want)
		}
		again, err := parseSize(formatSize(got))
		if err != nil || again != got {
			t.Errorf("%q as %d, which is %d, %v", text, got, again, err)
		}
	}
	for _, text := range []string{"", "lots", "-1", "5 parsecs", "99999999TiB", "1e9", "GiB", "5MiB/s"} {
		if got, err := parseSize(text); err == nil {
			t.Errorf("parseSize(%q) = %d", text, got)
		}
	}
}

func TestSizeLimits(t *testing.T) {
	for _, tt := range []struct {
		text  string
		total int64
		want  int64
	}{
		{"80%", 1000, 800},
		{"80 %", 1001, 800},
		{"100%", 1 << 62, 1 << 62},
		{"1%", 99, 0},
		{"50GiB", 1000, 50 << 30},
	} {
		limit, err := parseLimit(tt.text)
		if err != nil || limit.Of(tt.total) != tt.want {
			t.Errorf("%q of %d is %d, %v; want %d", tt.text, tt.total, limit.Of(tt.total), err, tt.want)
		}
		if again, err := parseLimit(formatLimit(limit)); err != nil || again != limit {
			t.Errorf("%q is written %q", tt.text, formatLimit(limit))
		}
	}
	for _, text := range []string{"0", "0%", "101%", "-5%", "%", "1.5%", "all"} {
		if got, err := parseLimit(text); err == nil {
			t.Errorf("parseLimit(%q) = %v", text, got)
		}
	}
}

func TestDurations(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"0": 0, "0s": 0, "60s": (time.Minute), "24h": (24 * time.Hour), "7d": (7 * 24 * time.Hour), "1h30m": (90 * time.Minute), "250ms": (250 * time.Millisecond),
	} {
		got, err := ParseDuration(text)
		if err != nil || got != want {
			t.Errorf("ParseDuration(%q) = %v, %v; want %v", text, got, err, want)
		}
		if again, err := ParseDuration(formatDuration(got)); err != nil || again != got {
			t.Errorf("%q is written %q", text, formatDuration(got))
		}
	}
	for _, text := range []string{"", "60", "-1s", "1w", "d", "-1d", "1.5d", "99999d", "5 s"} {
		if got, err := ParseDuration(text); err == nil {
			t.Errorf("ParseDuration(%q) = %v", text, got)
		}
	}
}

func TestNetworks(t *testing.T) {
	for text, want := range map[string]string{
		"10.0.0.0/8": "10.0.0.0/8", "10.1.2.3/8": "10.0.0.0/8", "192.0.2.7": "192.0.2.7/32", "2001:db8::1": "2001:db8::1/128",
		"::ffff:192.0.2.7": "192.0.2.7/32", "::ffff:10.1.0.0/112": "10.1.0.0/16", "::/0": "::/0", "0.0.0.0/0": "0.0.0.0/0",
	} {
		got, err := parseNetwork(text)
		if err != nil || got.String() != want {
			t.Errorf("%s is %v, want %s: %v", text, got, want, err)
		}
		if again, err := parseNetwork(formatNetwork(got)); err != nil || again != got {
			t.Errorf("%s is written %q", text, formatNetwork(got))
		}
	}
	for _, text := range []string{"", "10.0.0.0/33", "10.0.0", "everybody", "fe80::1%eth0", "fe80::%eth0/64", "10.0.0.0/-1"} {
		if p, err := parseNetwork(text); err == nil {
			t.Errorf("%q is %v", text, p)
		}
	}
}
