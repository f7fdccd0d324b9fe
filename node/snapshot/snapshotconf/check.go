package snapshotconf

import (
	"fmt"
	"slices"
	"time"

	"github.com/aptmesh/aptmesh/node/config/keys"
	"github.com/aptmesh/aptmesh/node/snapshot/names"
)

// WhenProblem says why a text is no time of a schedule; "" if it is one.
func WhenProblem(text string) string {
	if _, err := ParseWhen(text); err != nil {
		return err.Error()
	}
	return ""
}

// Check checks the section, except for what the tags of the keys say. archives are the names of archives and classes that
// there are; nil for those of the machine, which are not known.
func Check(c *keys.Checker, s Settings, archives []string) {
	seen := make(map[string]string) // name -> key
	for i, a := range s.Auto {
		key := fmt.Sprintf("snapshots.auto[%d]", i)
		if other, twice := seen[a.Name]; twice {
			c.Problem(key+".name", "%q is the name of %s already", a.Name, other)
		}
		seen[a.Name] = key
		checkAuto(c, key, a)
		for _, archive := range a.Archives {
			if archives != nil && !slices.Contains(archives, archive) {
				c.Problem(key+".archives", "there is no archive %q, and no class of that name, in `archives`", archive)
			}
		}
	}
	to := make(map[string]string) // channel -> key
	for i, p := range s.Promote {
		key := fmt.Sprintf("snapshots.promote[%d]", i)
		channel(c, key+".from", p.From)
		channel(c, key+".to", p.To)
		if p.From == p.To && p.From != "" {
			c.Problem(key, "a channel cannot follow itself")
		}
		if other, twice := to[p.To]; twice {
			c.Problem(key+".to", "%s is moved by %s already", p.To, other)
		}
		to[p.To] = key
	}
	for i, a := range s.Auto {
		if other, twice := to[a.Into]; twice && a.Into != "" {
			c.Problem(fmt.Sprintf("snapshots.auto[%d].into", i), "%s is moved by %s already", a.Into, other)
		}
	}
}

func checkAuto(c *keys.Checker, key string, a Auto) {
	if a.Into != "" {
		channel(c, key+".into", a.Into)
	}
	when, err := ParseWhen(a.At)
	switch {
	case a.At == "":
		c.Problem(key+".at", `is missing: write "04:00 UTC", "Mon 04:00 UTC" or "1 04:00 UTC"`)
		return
	case err != nil:
		return // its tag says so
	}
	// Any moment will do, except that it must be the same each time.
	first := when.Last(time.Date(2026, 1, 31, 0, 0, 0, 0, time.UTC))
	named := make(map[string]time.Time)
	for at := first; at.Before(first.AddDate(5, 0, 0)); at = when.Next(at) {
		name := a.NameAt(at)
		if err := names.CheckName(name); err != nil {
			c.Problem(key+".name", "%v", err)
			return
		}
		if other, twice := named[name]; twice {
			c.Problem(key+".name", "the snapshots of %s and of %s would both be called %s: add {isoyear}, {isoweek}, {year}, {month} or {day}",
				other.Format(time.DateTime), at.Format(time.DateTime), name)
			return
		}
		named[name] = at
	}
}

func channel(c *keys.Checker, key, name string) {
	if name == "" {
		c.Problem(key, "needs the name of a channel")
	} else if err := names.CheckName(name); err != nil {
		c.Problem(key, "%v", err)
	}
}
