package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/aptmesh/aptmesh/node/admin"
)

// mirrorRows shows the mirrors of archives that have several, and any mirror that fails.
func mirrorRows(archives []admin.ArchiveStatus, now time.Time) [][]string {
	var rows [][]string
	for _, a := range archives {
		for _, m := range a.Mirrors {
			if len(a.Mirrors) < 2 && m.State == admin.MirrorClosed {
				continue
			}
			rows = append(rows, []string{
				a.Name, m.URL, fmt.Sprint(m.Priority), mirrorState(m, now), rate(m.BytesPerSecond), wait(m.HeaderSeconds), mirrorNote(a, m),
			})
		}
	}
	return rows
}

func mirrorState(m admin.MirrorStatus, now time.Time) string {
	switch m.State {
	case admin.MirrorClosed:
		return "ok"
	case admin.MirrorHalfOpen:
		return "on trial"
	}
	return "left alone for " + admin.Age(m.Until.Sub(now))
}

// mirrorNote says why a mirror is not asked, or which penalties it has.
func mirrorNote(a admin.ArchiveStatus, m admin.MirrorStatus) string {
	var notes []string
	if m.History {
		notes = append(notes, "snapshot service")
	}
	if m.Reason != "" {
		note := m.Reason
		if m.FoundBy != "" {
			note += " (found by " + m.FoundBy + ")"
		}
		notes = append(notes, note)
	}
	for _, suite := range a.Suites {
		for _, late := range suite.Behind {
			if late.URL == m.URL {
				notes = append(notes, fmt.Sprintf("%s is %s behind", suite.Dir, admin.Age(time.Duration(late.BehindSeconds*float64(time.Second)))))
			}
		}
	}
	if m.Penalties > 0 {
		notes = append(notes, "penalties for "+counted(m.Penalties, "object"))
	}
	var left []string
	for _, why := range slices.Sorted(maps.Keys(m.Failovers)) {
		if m.Failovers[why] > 0 {
			left = append(left, fmt.Sprintf("%s %s", humanize.Comma(m.Failovers[why]), strings.ReplaceAll(why, "_", " ")))
		}
	}
	if len(left) > 0 {
		notes = append(notes, "left: "+strings.Join(left, ", "))
	}
	return strings.Join(notes, "; ")
}

func rate(bytesPerSecond float64) string {
	if bytesPerSecond <= 0 {
		return "-"
	}
	return size(int64(bytesPerSecond)) + "/s"
}

func wait(seconds float64) string {
	if seconds <= 0 {
		return "-"
	}
	return fmt.Sprintf("%.0f ms", max(1, seconds*1000))
}

// prefetchLine sums up what was fetched before anybody asked.
func prefetchLine(p admin.PrefetchStatus) string {
	line := counted(p.Packages, "package") + " in use"
	if n := p.Objects["fetched"]; n > 0 {
		line += fmt.Sprintf("; %s (%s) fetched ahead, %s of them asked for since", counted(n, "new version"), size(p.Bytes), humanize.Comma(p.Used))
	}
	if n := p.Objects["over_limit"]; n > 0 {
		line += fmt.Sprintf("; %s left out by prefetch.max_bytes", humanize.Comma(n))
	}
	return line
}
