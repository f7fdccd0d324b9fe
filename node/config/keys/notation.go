package keys

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/goccy/go-yaml"

	"github.com/aptmesh/aptmesh/node/blobstore"
	"github.com/aptmesh/aptmesh/node/upstream"
)

// notation is how values of a type are written. The type of a key says how its value is written, so that
// the rooms need no types of this one: an int64 is a size or a rate in bytes, an int a plain number, a
// time.Duration may be in days.
type notation struct {
	what  string // the value is, in the reference
	parse func(text string, into any) error
	write yaml.EncodeOption // nil where the YAML library writes it well
}

// notations are those of all types of keys.
var notations = map[reflect.Type]notation{
	reflect.TypeFor[string](): of("text", func(text string) (string, error) { return text, nil }, nil),
	reflect.TypeFor[bool](): of("true, false", func(text string) (bool, error) {
		if text != "true" && text != "false" {
			return false, fmt.Errorf("expected true or false, not `%s`", text)
		}
		return text == "true", nil
	}, nil),
	reflect.TypeFor[int](): of("number", func(text string) (int, error) {
		// Not as the YAML library reads numbers, which takes 1.5 for 1.
		n, err := strconv.Atoi(text)
		if err != nil {
			return 0, fmt.Errorf("expected a whole number, not `%s`", text)
		}
		return n, nil
	}, nil),
	reflect.TypeFor[int64]():           of("size", parseSize, formatSize),
	reflect.TypeFor[time.Duration]():   of("duration", ParseDuration, formatDuration),
	reflect.TypeFor[blobstore.Limit](): of("size, or share", parseLimit, formatLimit),
	reflect.TypeFor[upstream.Secret](): of("text", func(text string) (upstream.Secret, error) { return upstream.NewSecret(text), nil }, nil),
	reflect.TypeFor[upstream.Proxy]():  of("text", upstream.ParseProxy, func(p upstream.Proxy) string { return cmp.Or(p.Setting(), `""`) }),
	reflect.TypeFor[netip.Prefix](): of("network", parseNetwork, func(p netip.Prefix) string {
		if p.Addr().Is6() {
			return strconv.Quote(formatNetwork(p))
		}
		return formatNetwork(p)
	}),
}

func of[T any](what string, parse func(string) (T, error), format func(T) string) notation {
	n := notation{what: what, parse: func(text string, into any) error {
		v, err := parse(text)
		*into.(*T) = v
		return err
	}}
	if format != nil {
		n.write = yaml.CustomMarshaler(func(v T) ([]byte, error) { return []byte(format(v)), nil })
	}
	return n
}

// What is what the value of a key is called in the reference.
func (f Field) What() string {
	t := f.Value.Type()
	switch t.Kind() {
	case reflect.Slice:
		return "list"
	case reflect.Pointer:
		t = t.Elem()
	}
	return notations[t].what
}

// parseText reads a value in the notation of its type.
func parseText(text string, into any) error {
	n, ok := notations[reflect.TypeOf(into).Elem()]
	if !ok {
		panic(fmt.Sprintf("no notation for a %T", into)) // every test would see it
	}
	return n.parse(text, into)
}

// parseSize reads a size. Binary units are KiB, MiB, GiB, TiB; KB, MB, GB, TB are
// powers of 1000.
func parseSize(s string) (int64, error) {
	n, err := humanize.ParseBytes(s)
	if err != nil || n > math.MaxInt64 {
		return 0, fmt.Errorf("%q is not a size: write a number of bytes, or one with a unit, such as 256MiB or 200GB", s)
	}
	return int64(n), nil
}

// formatSize writes a size without loss: in the largest unit that divides it, so
// that parseSize gives back the same number.
func formatSize(s int64) string {
	units := []struct {
		name  string
		bytes int64
	}{
		{"TiB", 1 << 40}, {"TB", 1e12}, {"GiB", 1 << 30}, {"GB", 1e9},
		{"MiB", 1 << 20}, {"MB", 1e6}, {"KiB", 1 << 10}, {"KB", 1e3},
	}
	for _, u := range units {
		if s != 0 && s%u.bytes == 0 {
			return strconv.FormatInt(s/u.bytes, 10) + u.name
		}
	}
	return strconv.FormatInt(s, 10)
}

// parseLimit reads a size or a percentage between 1% and 100%.
func parseLimit(s string) (blobstore.Limit, error) {
	if number, ok := strings.CutSuffix(s, "%"); ok {
		percent, err := strconv.Atoi(strings.TrimSpace(number))
		if err != nil || percent < 1 || percent > 100 {
			return blobstore.Limit{}, fmt.Errorf("%q is not a share of the file system: write a whole percentage from 1%% to 100%%", s)
		}
		return blobstore.Limit{Percent: percent}, nil
	}
	size, err := parseSize(s)
	if err != nil {
		return blobstore.Limit{}, fmt.Errorf("%q is not a size: write one such as 50GiB, or a share of the file system such as 80%%", s)
	}
	if size == 0 {
		return blobstore.Limit{}, errors.New("the size must be greater than 0")
	}
	return blobstore.Limit{Bytes: size}, nil
}

func formatLimit(l blobstore.Limit) string {
	if l.Percent != 0 {
		return strconv.Itoa(l.Percent) + "%"
	}
	return formatSize(l.Bytes)
}

// ParseDuration reads what time.ParseDuration does, and whole days, which operators think in: "7d".
func ParseDuration(s string) (time.Duration, error) {
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

// parseNetwork reads a prefix or a single address. IPv4 within IPv6 is IPv4, as in the
// addresses that are compared with it.
func parseNetwork(text string) (netip.Prefix, error) {
	if ip, err := netip.ParseAddr(text); err == nil && ip.Zone() == "" {
		ip = ip.Unmap()
		return netip.PrefixFrom(ip, ip.BitLen()), nil
	}
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%q is not a network: write it as 10.0.0.0/8, or as an address", text)
	}
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p.Masked(), nil
}

// formatNetwork writes a network of one address as that.
func formatNetwork(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

// formatDuration writes a duration in days where it is more than two, and without trailing zero
// units: 14d, 24h.
func formatDuration(d time.Duration) string {
	const day = 24 * time.Hour
	if d > 2*day && d%day == 0 {
		return strconv.FormatInt(int64(d/day), 10) + "d"
	}
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
