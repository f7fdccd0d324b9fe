package main

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/aptmesh/aptmesh/e2e/lab"
)

// document is docs/faults.md.
func document(all []*cell, timeout time.Duration) string {
	var b strings.Builder
	b.WriteString(preface)
	for _, form := range formats {
		of := slices.DeleteFunc(slices.Clone(all), func(c *cell) bool { return c.format.name != form.name })
		if len(of) > 0 {
			formatPart(&b, form, of, timeout)
		}
	}
	return b.String()
}

// formatPart has a table for each kind of file, and one of what all of it cost.
func formatPart(b *strings.Builder, form format, all []*cell, timeout time.Duration) {
	fmt.Fprintf(b, "# Archives of the format %s, and a client like %s\n\n", form.name, form.client)
	for o := range objects {
		of := slices.DeleteFunc(slices.Clone(all), func(c *cell) bool { return c.object != o })
		if len(of) > 0 {
			objectTable(b, form.objects[o], of)
		}
	}
	costs(b, form, all, timeout)
}

const preface = `# What hosts see when mirrors fail

` + "`make matrix`" + ` (e2e/matrix) writes this page. It makes the mirrors of an archive fail in every way, on a
single node and on a cluster of three, while a client asks as the package manager of the format does:
apt with its three retries; dnf, which tries one address four times, at once; pacman, which tries a server
once, and whose user runs it four times. The exit status of the program says whether a promise was broken.
This page shows its last run. The bad mirrors have the better priority and are asked first, so that every
fault has an effect; the good mirror, if there is one, comes after them.

| word | what the host saw |
|---|---|
| **unnoticed** | the right bytes at the first try |
| **after a retry** | the right bytes within the retries of apt or dnf, without an action of the user; with pacman, when it was run again |
| **old generation stays** | the suite as it was before, complete and consistent; the new generation comes when it can be fetched |
| **503 with a reason** | apt asks again, and then shows the sentence of the answer |
| **403 with a reason** | every mirror gave wrong content; apt ends at once, and shows the sentence of the answer |
| **broken off** | the transfer ended before its last byte, which is held back until the hash is known; the client asks again |
| **404** | every mirror said so, and no node stores the file; final for apt |

If a new and a resuming client (Range, which apt sends with If-Range), or one node and three, saw
different results, both are named. In every cell, no client got a complete wrong body. After the mirrors
had recovered, every node gave the object. The stored files were right, and immutable files were not
fetched again.

`

var columns = []struct {
	title        string
	mirrors, bad int
}{
	{"1 mirror, bad", 1, 1},
	{"2, one bad", 2, 1},
	{"3, one bad", 3, 1},
	{"3, two bad", 3, 2},
	{"3, all bad", 3, 3},
}

// objectTable has a line per fault and a column per number of mirrors.
func objectTable(b *strings.Builder, o about, of []*cell) {
	fmt.Fprintf(b, "## %s\n\n%s\n\n| fault | moment |", strings.ToUpper(o.name[:1])+o.name[1:], o.shows)
	for _, col := range columns {
		fmt.Fprintf(b, " %s |", col.title)
	}
	b.WriteString("\n|---|---|" + strings.Repeat("---|", len(columns)) + "\n")
	var rows []string
	for _, c := range of {
		if row := "| " + c.name + " | " + c.moment + " |"; !slices.Contains(rows, row) {
			rows = append(rows, row)
		}
	}
	for _, row := range rows {
		b.WriteString(row)
		for _, col := range columns {
			var here []*cell
			for _, c := range of {
				if "| "+c.name+" | "+c.moment+" |" == row && c.mirrorCount == col.mirrors && c.bad == col.bad {
					here = append(here, c)
				}
			}
			b.WriteString(" " + seen(here) + " |")
		}
		b.WriteString("\n")
	}
	b.WriteString("\n")
}

// seen names the outcomes of the cells in one field of the table. A cell whose bad mirrors were not asked, because the
// node had looked at a good one by then, says nothing where others say something.
func seen(here []*cell) string {
	if slices.ContainsFunc(here, (*cell).shows) {
		here = slices.DeleteFunc(slices.Clone(here), func(c *cell) bool { return !c.shows() })
	}
	who := make(map[outcome][]string)
	var order []outcome
	for _, c := range here {
		o := c.outcome
		if len(c.broken)+len(c.costly) > 0 {
			o = "**PROMISE BROKEN**"
		} else if !c.struck {
			o = "did not strike"
		}
		client := "new"
		if c.resuming {
			client = "resuming"
		}
		if who[o] == nil {
			order = append(order, o)
		}
		who[o] = append(who[o], fmt.Sprintf("%s at %d", client, c.nodes))
	}
	if len(order) == 1 {
		return string(order[0])
	}
	var parts []string
	for _, o := range order {
		parts = append(parts, fmt.Sprintf("%s (%s)", o, strings.Join(who[o], ", ")))
	}
	return strings.Join(parts, "; ")
}

// shows reports whether the cell says anything.
func (c *cell) shows() bool { return c.struck || len(c.broken)+len(c.costly) > 0 }

// costs says what the faults cost upstream and how long clients waited. timeout is how long nodes wait for a mirror that
// says nothing.
func costs(b *strings.Builder, form format, all []*cell, timeout time.Duration) {
	pauses := map[lab.Manner]string{lab.AsApt: "with apt's waits of 1, 2 and 4 seconds", lab.AsDnf: "which tries again at once", lab.AsPacman: "which is run again at once"}
	held := ""
	if form.asks > 1 {
		held = fmt.Sprintf("; a node that holds a client back until trouble has passed does that %d times in its place", form.asks)
	}
	fmt.Fprintf(b, `## What it cost

Requests and bytes are those for the object alone, to all mirrors together, while they were bad. The bounds that every cell is held to:
with a good mirror left, each bad one sends the object once at most and the good one once, with three requests each;
with none left, each sends it twice at most for each try of the client, with six requests (the nodes try by themselves, too)%s. %s is one object in %d files.
Time is that of the client, %s, until it had the object, with nodes that give a silent mirror %s.

| mirrors | nodes | cells | unnoticed | requests: median, most | bytes / size: median, most | had it within | had it again after healing |
|---|---|---|---|---|---|---|---|
`, held, path.Base(form.root), len(form.roots), pauses[form.client], timeout)
	for _, col := range columns {
		for _, nodes := range []int{1, 3} {
			var here []*cell
			for _, c := range all {
				if c.mirrorCount == col.mirrors && c.bad == col.bad && c.nodes == nodes {
					here = append(here, c)
				}
			}
			if len(here) > 0 {
				costRow(b, col.title, nodes, here)
			}
		}
	}
	fmt.Fprintf(b, "\n%d cells in all.\n", len(all))
}

func costRow(b *strings.Builder, title string, nodes int, here []*cell) {
	var requests []int
	var shares []float64
	had, healed := make(map[string]int), make(map[string]int)
	first := 0
	for _, c := range here {
		requests = append(requests, c.requests)
		shares = append(shares, float64(c.transferred)/float64(max(1, len(c.want.Data))))
		if c.outcome == unnoticed {
			first++
		}
		if c.outcome == unnoticed || c.outcome == afterRetry || c.outcome == oldStays {
			had[class(c.took)]++
		}
		healed[class(c.healing)]++
	}
	slices.Sort(requests)
	slices.Sort(shares)
	n := len(here)
	fmt.Fprintf(b, "| %s | %d | %d | %d | %d, %d | %.2f, %.2f | %s | %s |\n", title, nodes, n, first,
		requests[n/2], requests[n-1], shares[n/2], shares[n-1], classes(had), classes(healed))
}

// classes lists how many were how fast.
func classes(counts map[string]int) string {
	var parts []string
	for _, d := range []time.Duration{0, time.Second, 3 * time.Second, 10 * time.Second, time.Minute} {
		if n := counts[class(d)]; n > 0 {
			parts = append(parts, fmt.Sprintf("%s: %d", class(d), n))
		}
	}
	if parts == nil {
		return "-"
	}
	return strings.Join(parts, ", ")
}
