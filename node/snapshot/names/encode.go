package names

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/aptmesh/aptmesh/proto"
)

// line is an entry as it is written down and sent.
type line struct {
	Kind Kind   `json:"kind"`
	Name string `json:"name"`
	Entry
}

// MarshalJSON implements json.Marshaler. Two maps that know the same give the same bytes.
func (m *Map) MarshalJSON() ([]byte, error) {
	lines := make([]line, 0, len(m.entries))
	for _, k := range slices.SortedFunc(maps.Keys(m.entries), compareKeys) {
		lines = append(lines, line{k.Kind, k.Name, *m.entries[k]})
	}
	return json.Marshal(lines)
}

// Sum is what two maps that know the same have in common, and no others.
func (m *Map) Sum() (proto.Digest, error) {
	data, err := m.MarshalJSON()
	return proto.DigestOf(data), err
}

// MaxBytes is the length of the longest map that is read.
const MaxBytes = 8 << 20

// The bounds of one entry, whoever wrote it.
const (
	maxActs = 64
	maxSeen = 1024
	maxText = 256
)

// UnmarshalJSON implements json.Unmarshaler. What another node could not have written is refused, and then the
// map stays as it is.
func (m *Map) UnmarshalJSON(data []byte) error {
	if len(data) > MaxBytes {
		return fmt.Errorf("names of snapshots: %d bytes: more than there can be", len(data))
	}
	var lines []line
	if err := json.Unmarshal(data, &lines); err != nil {
		return fmt.Errorf("names of snapshots: %w", err)
	}
	if len(lines) > MaxNames {
		return fmt.Errorf("names of snapshots: %d of them: no more than %d are kept", len(lines), MaxNames)
	}
	entries := make(map[Key]*Entry, len(lines))
	for _, l := range lines {
		if err := l.check(); err != nil {
			return fmt.Errorf("names of snapshots: %s %q: %w", l.Kind, l.Name, err)
		}
		k := Key{l.Kind, l.Name}
		if _, twice := entries[k]; twice {
			return fmt.Errorf("names of snapshots: %s %q stands there twice", l.Kind, l.Name)
		}
		slices.SortFunc(l.Acts, newerFirst)
		l.Acts = slices.Compact(l.Acts)
		l.Past = newest(l.Past)
		if len(l.Past) == 0 {
			l.Past = nil
		}
		if len(l.Acts) == 0 {
			l.Acts = nil
		}
		entries[k] = &l.Entry
	}
	m.entries = entries
	return nil
}

func (l *line) check() error {
	if l.Kind != Snapshot && l.Kind != Channel {
		return errors.New("no such kind")
	}
	if err := CheckName(l.Name); err != nil {
		return err
	}
	if len(l.Acts) > maxActs || len(l.Past) > maxActs || len(l.Seen) > maxSeen || len(l.Seen) == 0 {
		return errors.New("too much, or nothing, is said of it")
	}
	for node, v := range l.Seen {
		if v == 0 || v > maxVersion || node == "" || len(node) > maxText {
			return errors.New("a node's version makes no sense")
		}
	}
	for _, a := range l.Acts {
		if !l.covers(a) || a.Gone != 0 {
			return errors.New("it has an act that it does not know of, or that was taken away")
		}
	}
	for _, a := range slices.Concat(l.Acts, l.Past) {
		text := a.Node + a.By + a.Target + a.Live
		if a.Version == 0 || a.Version > maxVersion || a.Gone > maxVersion || a.Target == "" || len(text) > 4*maxText || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			return errors.New("an act makes no sense")
		}
	}
	return nil
}

// maxVersion is the year 10000: what is later could not be shown, and would leave no room for what comes next.
const maxVersion = 253402300800000
