package config

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/aptmesh/aptmesh/node/upstream"
)

// Size is a number of bytes, written "256MiB", "200GB" or as a plain number.
// Fields that are rates hold bytes per second.
type Size int64

// ParseSize reads a size. Binary units are KiB, MiB, GiB, TiB; KB, MB, GB, TB are
// powers of 1000.
func ParseSize(s string) (Size, error) {
	n, err := humanize.ParseBytes(s)
	if err != nil || n > math.MaxInt64 {
		return 0, fmt.Errorf("%q is not a size: write a number of bytes, or one with a unit, such as 256MiB or 200GB", s)
	}
	return Size(n), nil
}

// String returns the size without loss: in the largest unit that divides it, so
// that ParseSize gives back the same number.
func (s Size) String() string {
	units := []struct {
		name  string
		bytes Size
	}{
		{"TiB", 1 << 40}, {"TB", 1e12}, {"GiB", 1 << 30}, {"GB", 1e9},
		{"MiB", 1 << 20}, {"MB", 1e6}, {"KiB", 1 << 10}, {"KB", 1e3},
	}
	for _, u := range units {
		if s != 0 && s%u.bytes == 0 {
			return strconv.FormatInt(int64(s/u.bytes), 10) + u.name
		}
	}
	return strconv.FormatInt(int64(s), 10)
}

// SizeLimit is a size, or a share of the file system it applies to: "50GiB" or
// "80%". Exactly one of its fields is set.
type SizeLimit struct {
	Bytes   Size
	Percent int
}

// ParseSizeLimit reads a size or a percentage between 1% and 100%.
func ParseSizeLimit(s string) (SizeLimit, error) {
	if number, ok := strings.CutSuffix(s, "%"); ok {
		percent, err := strconv.Atoi(strings.TrimSpace(number))
		if err != nil || percent < 1 || percent > 100 {
			return SizeLimit{}, fmt.Errorf("%q is not a share of the file system: write a whole percentage from 1%% to 100%%", s)
		}
		return SizeLimit{Percent: percent}, nil
	}
	size, err := ParseSize(s)
	if err != nil {
		return SizeLimit{}, fmt.Errorf("%q is not a size: write one such as 50GiB, or a share of the file system such as 80%%", s)
	}
	if size == 0 {
		return SizeLimit{}, errors.New("the size must be greater than 0")
	}
	return SizeLimit{Bytes: size}, nil
}

// Of returns the limit in bytes on a file system of total bytes.
func (l SizeLimit) Of(total int64) int64 {
	if l.Percent == 0 {
		return int64(l.Bytes)
	}
	// Divided first: a file system may be large enough to overflow the product.
	return total/100*int64(l.Percent) + total%100*int64(l.Percent)/100
}

func (l SizeLimit) String() string {
	if l.Percent != 0 {
		return strconv.Itoa(l.Percent) + "%"
	}
	return l.Bytes.String()
}

// Secret is a password or token, and Credentials are what proves to a mirror who this
// node is; they print as Redacted.
type (
	Secret      = upstream.Secret
	Credentials = upstream.Credentials
)

// Redacted stands in the place of a secret in everything aptmesh prints.
const Redacted = upstream.Redacted

// parseDuration reads what time.ParseDuration does, and whole days ("7d"), which
// operators think in.
func parseDuration(s string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(s, "d"); ok {
		if n, err := strconv.ParseUint(days, 10, 16); err == nil {
			return time.Duration(n) * 24 * time.Hour, nil
		}
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		return 0, fmt.Errorf("%q is not a duration: write a number with its unit, such as 500ms, 60s, 5m, 24h or 7d", s)
	}
	if d < 0 {
		return 0, fmt.Errorf("%q is negative", s)
	}
	return d, nil
}

// formatDuration is time.Duration.String without its trailing zero units: 24h
// rather than 24h0m0s.
func formatDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
