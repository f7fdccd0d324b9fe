package config

import (
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

// The type of a key says how its value is written, so that the rooms need no types of this one: an
// int64 is a size or a rate in bytes, an int a plain number, a time.Duration may be in days.

// parseText reads a value in the notation of its type.
func parseText(text string, into any) (err error) {
	switch at := into.(type) {
	case *string:
		*at = text
	case *upstream.Secret:
		*at = upstream.NewSecret(text)
	case *upstream.Proxy:
		*at, err = upstream.ParseProxy(text)
	case *bool:
		if *at = text == "true"; !*at && text != "false" {
			return fmt.Errorf("expected true or false, not `%s`", text)
		}
	case *int:
		// Not as the YAML library reads numbers, which takes 1.5 for 1.
		if *at, err = strconv.Atoi(text); err != nil {
			return fmt.Errorf("expected a whole number, not `%s`", text)
		}
	case *int64:
		*at, err = parseSize(text)
	case *blobstore.Limit:
		*at, err = parseLimit(text)
	case *time.Duration:
		*at, err = parseDuration(text)
	case *netip.Prefix:
		*at, err = parseNetwork(text)
	default:
		panic(fmt.Sprintf("no notation for a %T", into)) // every test would see it
	}
	return err
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

// parseDuration reads what time.ParseDuration does, and whole days, which operators think in: "7d".
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

// Archives are the archives of a configuration, in the order of the file.
type Archives []Archive

// Secret is a password or token, and Credentials authenticate this node to a mirror; they print
// as Redacted.
type (
	Secret      = upstream.Secret
	Credentials = upstream.Credentials
)

// Redacted stands in the place of a secret in everything aptmesh prints.
const Redacted = upstream.Redacted

// MarshalYAML is of the archives in the order of the file.
func (a Archives) MarshalYAML() (any, error) {
	var all yaml.MapSlice
	for _, archive := range a {
		all = append(all, yaml.MapItem{Key: archive.Name, Value: archive})
	}
	return all, nil
}

// MarshalYAML writes the URL alone where that says it all.
func (m Mirror) MarshalYAML() (any, error) {
	if m.isSimple() {
		return m.URL, nil
	}
	type plain Mirror
	return plain(m), nil
}

// NewArchive returns the archive of that name with every default set.
func NewArchive(name string) Archive {
	a := Archive{Name: name}
	setDefaults(reflect.ValueOf(&a).Elem())
	return a
}

// NewMirror returns an upstream with every default set and no URL.
func NewMirror() Mirror {
	var m Mirror
	setDefaults(reflect.ValueOf(&m).Elem())
	return m
}

// Default returns the configuration of an empty file: every default, and no archives.
func Default() *Config {
	var c Config
	setDefaults(reflect.ValueOf(&c).Elem())
	return &c
}

// Formats are the formats that an archive may have.
func Formats() []string {
	sf, _ := reflect.TypeFor[Archive]().FieldByName("Format")
	return strings.Split(sf.Tag.Get("check"), "|")
}
