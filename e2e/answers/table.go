package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// result is a trial and what came of it.
type result struct {
	trial
	outcome
}

// variant is what the rows of a table have in common.
type variant struct {
	place   place
	retries int
}

// row is one line of a table: statuses that all versions treat alike.
type row struct {
	names []string
	cells []string
}

// rows makes the lines of one variant's table: a line for each status and Retry-After,
// with a cell for each version, and then one line for all that have the same cells.
func rows(results []result, v variant, apts []apt) []row {
	var lines []row
	for _, said := range answersIn(results) {
		line := row{names: []string{said.name()}}
		for _, a := range apts {
			line.cells = append(line.cells, cell(results, v, a, said))
		}
		if !slices.ContainsFunc(line.cells, func(c string) bool { return c != "" }) {
			continue
		}
		same := slices.IndexFunc(lines, func(l row) bool { return slices.Equal(l.cells, line.cells) })
		if same >= 0 {
			lines[same].names = append(lines[same].names, line.names...)
		} else {
			lines = append(lines, line)
		}
	}
	return lines
}

// cell is what one version does, by a mapped URL and by the proxy setting.
func cell(results []result, v variant, a apt, said answer) string {
	var ways []string
	for _, proxied := range []bool{false, true} {
		i := slices.IndexFunc(results, func(r result) bool {
			return r.apt == a && r.place == v.place && r.retries == v.retries && r.proxied == proxied && r.said == said
		})
		if i >= 0 {
			ways = append(ways, results[i].outcome.String())
		}
	}
	switch {
	case len(ways) == 0:
		return ""
	case len(ways) == 1 || ways[0] == ways[1]:
		return ways[0]
	}
	return ways[0] + "; by proxy " + ways[1]
}

// name is how the table calls an answer.
func (a answer) name() string {
	name := fmt.Sprint(a.status)
	if a.retryAfter > 0 {
		name += fmt.Sprintf(" +%d s", a.retryAfter)
	}
	if a.phrase != "" {
		name += fmt.Sprintf(" (phrase of %d bytes)", len(a.phrase))
	}
	return name
}

// answersIn are the answers of all trials, each once, in their order.
func answersIn(results []result) []answer {
	var all []answer
	for _, r := range results {
		if !slices.Contains(all, r.said) {
			all = append(all, r.said)
		}
	}
	return all
}

// write writes the page.
func write(w io.Writer, results []result, apts []apt, missing []string) error {
	var b strings.Builder
	b.WriteString(head)
	for _, m := range missing {
		fmt.Fprintf(&b, "- %s\n", m)
	}
	for _, p := range places {
		for _, retries := range []int{3, 0} {
			lines := rows(results, variant{p, retries}, apts)
			if len(lines) == 0 {
				continue
			}
			fmt.Fprintf(&b, "\n## %s, `Acquire::Retries \"%d\"`\n\n| status |", p, retries)
			for _, a := range apts {
				fmt.Fprintf(&b, " %s (%s) |", a.version, a.from)
			}
			b.WriteString("\n|---|" + strings.Repeat("---|", len(apts)) + "\n")
			for _, l := range lines {
				fmt.Fprintf(&b, "| %s | %s |\n", strings.Join(l.names, ", "), strings.Join(l.cells, " | "))
			}
		}
	}
	writeScreens(&b, results, apts)
	_, err := io.WriteString(w, b.String())
	return err
}

// writeScreens shows what stands on the screen of a host, for one final status and one
// that apt repeats, with a short and a long phrase.
func writeScreens(b *strings.Builder, results []result, apts []apt) {
	b.WriteString("\n## On the screen\n\nThe last line that names the status, for an InRelease by a mapped URL. Addresses are left out.\n\n")
	for _, a := range apts {
		for _, r := range results {
			if r.apt == a && r.place == placeRoot && r.retries == 3 && !r.proxied && (r.said.phrase != "" || r.said.status == 403) && r.said.retryAfter == 0 {
				fmt.Fprintf(b, "- %s, %s: `%s`\n", a.version, r.said.name(), r.outcome.screen)
			}
		}
	}
	b.WriteString(ranges)
}

// ranges is what was found out without trials: it stands at the end.
const ranges = `
## A part of a file

What a node answers to ` + "`Range`" + `, and what the client does with it. Read from sources: apt 2.9 (methods/basehttp.cc, methods/http.cc), curl, libalpm (dload.c),
librepo (downloader.c), zchunk (multipart.c); tried with aria2 1.36, curl 7.88, wget 1.21 and zckdl 1.2.3 of Debian 12.

| the file | the request | the answer | what the client does |
|---|---|---|---|
| stored | a part | 206, with validators | goes on |
| just arriving, listed | ` + "`Range`" + ` alone (curl -C, wget -c, aria2, apt-fast, pacman, dnf) | 206 without validators, from the first byte of the part that is here; the last byte of the file when the file is proven | goes on. A 200 would be error 33 for curl, which pacman and dnf are built on, and aria2 -c gives the file up |
| just arriving, listed | with ` + "`If-Range: <date>`" + ` (apt) | 200, the whole | apt drops its part and takes the whole. No client was given a date of bytes that were not proven, so the date is not ours |
| just arriving, listed | with ` + "`If-Range: \"<our ETag>\"`" + ` | 206 | the part that the client has was proven |
| just arriving, bytes of it were wrong within the last hour | any | 200, the whole; for pacman 416 | starts anew: what it has may be wrong. curl -C fails, as it should; pacman deletes what it has |
| just arriving, not listed, length known | ` + "`Range`" + ` alone, or ` + "`If-Range`" + ` with upstream's own date | 206 | goes on, as it would at upstream. With another date: 200 |
| just arriving, length not known | any | 200, chunked | starts anew |
| any | a part behind the end | 416 with the length | wget and apt take the file for complete |
| stored, or just arriving as above | several parts (zchunk, so dnf) | 206, multipart/byteranges: each part as it was asked for, in that order. More than 1,024, or parts that are longer together than the file: 200, the whole | takes each part by where it begins. A 200 makes librepo ask for half as many, down to one |

Parallel parts of one file share one fetch: a connection whose part has not arrived waits for it.
`

const head = `# What apt does with an error

` + "`make answers`" + ` (e2e/answers) writes this page. It runs real apt against a server that answers one request
of a trial with an error and a line of text, and all other requests correctly. "exit 100" is an error that
a script notices. "exit 0" means that ` + "`apt-get update`" + ` warns and continues. "hangs" means that apt made no
request and used no processor time for longer than all of its own pauses, and had to be killed. Whether apt
hangs depends on the rest of its queue. So trials of a status that apt repeats run three times, and one that
hangs counts. "+2 s" is a Retry-After. The number of requests is given if it is not one (an index has four
names). If the proxy setting and a mapped URL give different results, both are named.

apt of Ubuntu 22.04 (2.4) and 24.04 (2.8) is not tried, because Debian has no packages of these versions.
Their sources have the same list of transient statuses (` + "`TransientCodes`" + ` in methods/basehttp.cc). Like 2.6,
they lack the correction of LP #2003851, which is in 3.0.3 and 3.1.3.

`
