package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/aptmesh/aptmesh/e2e/bench/proc"
)

// report writes Markdown, each part as soon as it is known.
type report struct {
	w     io.Writer
	goals []goal
}

// goal is a figure of aptmesh's that the project has set itself a limit for.
type goal struct {
	what      string
	got, peer float64 // peer is nginx's figure in the same run; 0 = none
	limit     float64 // got should not exceed it
	unit      string
}

// figure writes v with the goal's unit; here zero is a figure.
func (g goal) figure(v float64) string {
	if v == 0 {
		return strings.TrimSpace("0 " + g.unit)
	}
	return strings.TrimSpace(number(v) + " " + g.unit)
}

func newReport(w io.Writer) *report { return &report{w: w} }

func (r *report) printf(format string, args ...any) { fmt.Fprintf(r.w, format, args...) }

func (r *report) heading(level int, format string, args ...any) {
	r.printf("\n%s %s\n\n", strings.Repeat("#", level), fmt.Sprintf(format, args...))
}

func (r *report) note(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	progress("%s", text)
	r.printf("\n> %s\n", text)
}

// table writes a Markdown table.
func (r *report) table(head []string, rows [][]string) {
	r.printf("| %s |\n|%s\n", strings.Join(head, " | "), strings.Repeat("---|", len(head)))
	for _, row := range rows {
		r.printf("| %s |\n", strings.Join(row, " | "))
	}
}

func (r *report) opening(o options, a *archive, server, rest []int) {
	mode := "full"
	if o.quick {
		mode = "quick: one repetition, so take small differences for nothing"
	}
	r.heading(1, "aptmesh beside the caches of today")
	r.printf("%s; %s.\n", time.Now().UTC().Format("2006-01-02 15:04 UTC"), proc.Describe())
	r.printf("Server on core %v, clients and origin on %v, loopback. Mode: %s. Warm figures are medians of %d.\n", server, rest, mode, o.repeats)
	r.printf("CPU per request and per GB are the firm figures. Rates and \"all done\" of fast servers are limited by the clients' core.\n")
	r.printf("\"x\" columns are ratios to nginx in this same run. Every answer was compared byte for byte.\n")
}

// goal remembers a figure for the summary.
func (r *report) goal(g goal) { r.goals = append(r.goals, g) }

// summary sets the figures beside the project's own limits.
func (r *report) summary(took time.Duration, strangers []float64) {
	if len(r.goals) > 0 {
		r.heading(2, "aptmesh against what it aims at")
		var rows [][]string
		for _, g := range r.goals {
			verdict := "**missed**"
			if g.got <= g.limit {
				verdict = "met"
			}
			nginx, ratio := "-", "-"
			if g.peer > 0 {
				nginx, ratio = number(g.peer), number(g.got/g.peer)
			}
			rows = append(rows, []string{g.what, g.figure(g.got), nginx, ratio, "<= " + g.figure(g.limit), verdict})
		}
		r.table([]string{"measure", "aptmesh", "nginx", "x nginx", "aim", ""}, rows)
	}
	worst := 0.0
	busy := 0
	for _, s := range strangers {
		worst = max(worst, s)
		if s > 0.1 {
			busy++
		}
	}
	r.printf("\nTook %v. Other programs kept up to %.2f cores busy; more than a tenth of a core in %d of %d measurements.\n",
		took.Round(time.Second), worst, busy, len(strangers))
	if busy*5 > len(strangers) {
		r.printf("**The machine was not idle: do not trust small differences.**\n")
	}
}

// number writes a figure with about three digits that matter, and "-" for zero,
// which in these tables stands for "nothing to tell".
func number(v float64) string {
	switch {
	case v >= 1e4:
		return thousands(int64(v + 0.5))
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	case v >= 1:
		return fmt.Sprintf("%.2f", v)
	case v == 0:
		return "-"
	}
	return fmt.Sprintf("%.3f", v)
}

func thousands(v int64) string {
	if v < 1000 {
		return fmt.Sprint(v)
	}
	return fmt.Sprintf("%s,%03d", thousands(v/1000), v%1000)
}

func bytesText(v float64) string {
	switch {
	case v >= 1e6:
		return fmt.Sprintf("%.4g MB", v/1e6)
	case v >= 1e3:
		return fmt.Sprintf("%.3g KB", v/1e3)
	}
	return fmt.Sprintf("%.0f bytes", v)
}

func milliseconds(d time.Duration) string { return number(d.Seconds() * 1e3) }

// failures lists what went wrong: "0", or "status 503: 12; no answer within 10s: 3".
func failures(all map[string]int) string {
	if len(all) == 0 {
		return "0"
	}
	var parts []string
	for _, reason := range slices.Sorted(maps.Keys(all)) {
		parts = append(parts, fmt.Sprintf("%s: %d", reason, all[reason]))
	}
	return strings.Join(parts, "; ")
}

// ratio writes v relative to base; "-" without one.
func ratio(v, base float64) string {
	if base == 0 {
		return "-"
	}
	return number(v / base)
}
