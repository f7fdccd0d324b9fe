package config

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"

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

// Duration is a time.Duration that may be written in days, which operators think in: "7d".
type Duration time.Duration

// ParseDuration reads what time.ParseDuration does, and whole days.
func ParseDuration(s string) (Duration, error) {
	if days, ok := strings.CutSuffix(s, "d"); ok {
		if n, err := strconv.ParseUint(days, 10, 16); err == nil {
			return Duration(time.Duration(n) * 24 * time.Hour), nil
		}
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		return 0, fmt.Errorf("%q is not a duration: write a number with its unit, such as 500ms, 60s, 5m, 24h or 7d", s)
	}
	if d < 0 {
		return 0, fmt.Errorf("%q is negative", s)
	}
	return Duration(d), nil
}

// String is that of time.Duration in days where it is more than two, and without trailing zero
// units: 14d, 24h.
func (d Duration) String() string {
	const day = Duration(24 * time.Hour)
	if d > 2*day && d%day == 0 {
		return strconv.FormatInt(int64(d/day), 10) + "d"
	}
	s := time.Duration(d).String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// Count is a whole number. It is a type of its own because the decoder would read 1.5 as 1.
type Count int

func parseCount(s string) (Count, error) {
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0, fmt.Errorf("expected a whole number, not `%s`", s)
	}
	return Count(n), nil
}

// List is a list of texts. A single text stands for a list with one entry.
type List []string

// Archives are the archives of a configuration, in the order of the file.
type Archives []Archive

// Secret is a password or token, and Credentials are what proves to a mirror who this node is;
// they print as Redacted.
type (
	Secret      = upstream.Secret
	Credentials = upstream.Credentials
)

// Redacted stands in the place of a secret in everything aptmesh prints.
const Redacted = upstream.Redacted

// IsZero reports whether there is nothing special about the connection.
func (t MirrorTLS) IsZero() bool { return t == MirrorTLS{} }

// The rest of this file is how the types are read from YAML and written to it.

func (s *Size) UnmarshalYAML(n ast.Node) error      { return scalar(n, s, ParseSize) }
func (l *SizeLimit) UnmarshalYAML(n ast.Node) error { return scalar(n, l, ParseSizeLimit) }
func (d *Duration) UnmarshalYAML(n ast.Node) error  { return scalar(n, d, ParseDuration) }
func (c *Count) UnmarshalYAML(n ast.Node) error     { return scalar(n, c, parseCount) }

func (s Size) MarshalYAML() (any, error) {
	if s == 0 {
		return 0, nil
	}
	return s.String(), nil
}
func (l SizeLimit) MarshalYAML() (any, error) { return l.String(), nil }
func (d Duration) MarshalYAML() (any, error)  { return d.String(), nil }

// scalar decodes a value that has its own notation, quoted or not.
func scalar[T any](n ast.Node, into *T, parse func(string) (T, error)) error {
	text, ok := scalarText(n)
	if !ok {
		return wrong(n, "expected a single value, not %s", describe(n))
	}
	v, err := parse(text)
	if err != nil {
		return wrong(n, "%v", err)
	}
	*into = v
	return nil
}

func (l *List) UnmarshalYAML(n ast.Node) error {
	*l = List{}
	if text, ok := scalarText(n); ok {
		*l = List{text}
		return nil
	}
	seq, ok := n.(*ast.SequenceNode)
	if !ok {
		return wrong(n, "expected a list, not %s: write it in brackets, [a, b]", describe(n))
	}
	for _, item := range seq.Values {
		text, ok := scalarText(item)
		switch {
		case item.Type() == ast.NullType:
			return wrong(item, "has an empty item")
		case !ok:
			return wrong(item, "expected text, not %s", describe(item))
		}
		*l = append(*l, text)
	}
	return nil
}

// UnmarshalYAML reads a mapping from names to archives. Each begins with the defaults.
func (a *Archives) UnmarshalYAML(n ast.Node) error {
	m, ok := n.(ast.MapNode)
	if !ok {
		return wrong(n, "expected keys with values, not %s", describe(n))
	}
	*a = Archives{}
	for iter := m.MapRange(); iter.Next(); {
		archive := NewArchive(iter.Key().GetToken().Value)
		if err := yaml.NodeToValue(iter.Value(), &archive, yaml.Strict()); err != nil {
			return err
		}
		*a = append(*a, archive)
	}
	return nil
}

// MarshalYAML keeps the order.
func (a Archives) MarshalYAML() (any, error) {
	var all yaml.MapSlice
	for _, archive := range a {
		all = append(all, yaml.MapItem{Key: archive.Name, Value: archive})
	}
	return all, nil
}

// UnmarshalYAML reads a mirror: its URL alone, or a mapping.
func (m *Mirror) UnmarshalYAML(n ast.Node) error {
	*m = NewMirror()
	if text, ok := scalarText(n); ok {
		m.URL = text
		return nil
	}
	if _, ok := n.(ast.MapNode); !ok {
		return wrong(n, "expected a URL, or keys with values, not %s", describe(n))
	}
	type plain Mirror // without this method
	return yaml.NodeToValue(n, (*plain)(m), yaml.Strict())
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
