package holdconf

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/aptmesh/aptmesh/node/config/keys"
)

// section is the key of the mirrors.
const section = "mirrors"

// MarshalYAML is of the mirrors in the order of the file.
func (m Mirrors) MarshalYAML() (any, error) {
	var all yaml.MapSlice
	for _, mirror := range m {
		all = append(all, yaml.MapItem{Key: mirror.Name, Value: mirror})
	}
	return all, nil
}

// IsZero reports whether there is no mirror.
func (m Mirrors) IsZero() bool { return len(m) == 0 }

// Of returns the mirror of that name.
func (m Mirrors) Of(name string) (Mirror, bool) {
	i := slices.IndexFunc(m, func(m Mirror) bool { return m.Name == name })
	if i < 0 {
		return Mirror{}, false
	}
	return m[i], true
}

// validName matches what can stand in a file name and in a command without quotes.
var validName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// Check checks mirrors, except for what the tags of the keys say. archives are the names of those that there are, nil
// for those of the machine, which are not known; classes those of classes of archives among them.
func Check(c *keys.Checker, mirrors Mirrors, archives, classes []string) {
	for _, m := range mirrors {
		key := keys.Entry(section, m.Name)
		if !validName.MatchString(m.Name) {
			c.Problem(key, "%q cannot be the name of a mirror: use up to 64 letters, digits and - . _", m.Name)
		}
		switch {
		case m.Archive == "":
			c.Problem(key+".archive", "needs the name of an archive")
		case slices.ContainsFunc(classes, func(class string) bool { return m.Archive == class || strings.HasPrefix(m.Archive, class+"/") }):
			c.Problem(key+".archive", "%q is a class of archives, or one of a class: give the archive that is meant an entry of its own in `archives`", m.Archive)
		case archives != nil && !slices.Contains(archives, m.Archive):
			c.Problem(key+".archive", "there is no archive %q in `archives`", m.Archive)
		}
		if len(m.Suites) == 0 {
			c.Problem(key+".suites", "needs a suite, such as noble")
		}
		if only := m.Only; only.IsEmpty() && (only.Closure || only.Recommends) {
			c.Problem(key+".only", "closure and recommends add to packages that patterns choose: without a pattern all packages are held anyway")
		}
		if m.Only.Recommends && !m.Only.Closure {
			c.Problem(key+".only.recommends", "needs closure: true")
		}
	}
}

// IsEmpty reports whether there is no pattern.
func (m Match) IsEmpty() bool {
	return len(m.Package)+len(m.Source)+len(m.Section)+len(m.Priority) == 0
}

// PatternProblem says why a text is no pattern of names; "" if it is one.
func PatternProblem(pattern string) string {
	if _, err := path.Match(pattern, ""); err != nil || pattern == "" {
		return fmt.Sprintf("%q is no pattern: write a name, with * and ? and [a-z] as in the shell", pattern)
	}
	return ""
}

// WindowProblem says why a text is no window; "" if it is one.
func WindowProblem(text string) string {
	if _, err := ParseWindow(text); err != nil {
		return err.Error()
	}
	return ""
}

// Window is a time of the day, in UTC, from From up to To after midnight. It goes over midnight where From is the later
// one, and is always where both are equal.
type Window struct{ From, To time.Duration }

// ParseWindow reads a window as 01:00-05:00; "" is always.
func ParseWindow(text string) (w Window, err error) {
	if text == "" {
		return w, nil
	}
	from, to, ok := strings.Cut(text, "-")
	if ok {
		if w.From, ok = clock(from); ok {
			w.To, ok = clock(to)
		}
	}
	if !ok {
		return Window{}, fmt.Errorf("%q is no time of the day: write 01:00-05:00", text)
	}
	return w, nil
}

func clock(text string) (time.Duration, bool) {
	t, err := time.Parse("15:04", strings.TrimSpace(text))
	return time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute, err == nil
}

// Next is how long it takes from a moment until the window is open, 0 while it is, and then how long it stays so.
func (w Window) Next(now time.Time) (wait, open time.Duration) {
	const day = 24 * time.Hour
	if w.From == w.To {
		return 0, day
	}
	now = now.UTC()
	since := now.Sub(time.Date(now.Year(), now.Month(), now.Day(), 0, 0, 0, 0, time.UTC))
	length := (w.To - w.From + day) % day
	if in := (since - w.From + day) % day; in < length {
		return 0, length - in
	}
	return (w.From - since + day) % day, length
}
