package main

import (
	"fmt"
	"strings"
)

const introduction = `# apt's own integration tests through aptmesh

Written by ` + "`make aptsuite`" + `: the tests of apt %s that use a web server, from its source package, with a
node between apt and the web server. ` + "`e2e/aptsuite`" + ` says how.

| mode | what is between |
|---|---|
| direct | nothing |
| proxy | a node, as apt's http proxy; the archive has ` + "`signed_by`" + ` with all keys of the tests |
| mapped | a node, in the URLs of apt's sources |
| proxy-unsigned, mapped-unsigned | the same, with ` + "`unsigned: true`" + ` for the archive |

A number is the number of failed checks. "+" means that the test ended before its last check, "–" that it
has not run in that mode yet. ` + "`e2e/aptsuite/exceptions.txt`" + ` allows each failure by name; any other failure
ends the command with an error. Class i is an artefact: the test checks how its web server is reached, or
something that a cache hides on purpose. Class ii is deliberate: apt ends with another sentence, or does not
get bad bytes at all.

`

// document is the page about all results.
func document(version string, tests []string, modes []mode, results []result, all []exception) string {
	byName := make(map[string]result)
	for _, r := range results {
		byName[r.Test+" "+r.Mode] = r
	}
	var b strings.Builder
	fmt.Fprintf(&b, introduction, version)
	b.WriteString("| test | checks |")
	for _, m := range modes {
		fmt.Fprintf(&b, " %s |", m)
	}
	b.WriteString(" class | why |\n|---|---|" + strings.Repeat("---|", len(modes)) + "---|---|\n")
	clean, ran := make([]int, len(modes)), make([]int, len(modes))
	for _, test := range tests {
		checks := "?"
		if r, ok := byName[test+" direct"]; ok {
			checks = fmt.Sprint(r.Passed + r.Failed)
		}
		fmt.Fprintf(&b, "| %s | %s |", strings.TrimPrefix(test, "test-"), checks)
		var classes, reasons []string
		for i, m := range modes {
			r, ok := byName[test+" "+m.String()]
			fmt.Fprintf(&b, " %s |", cell(r, ok))
			if ok {
				ran[i]++
			}
			if ok && r.ok() {
				clean[i]++
			}
			if e, found := find(all, test, m.String()); found && ok && !r.ok() {
				classes, reasons = add(classes, e.class), add(reasons, e.why)
			}
		}
		fmt.Fprintf(&b, " %s | %s |\n", strings.Join(classes, ", "), strings.Join(reasons, "; "))
	}
	fmt.Fprintf(&b, "| **all checks pass** | %d tests |", len(tests))
	for i, n := range clean {
		fmt.Fprintf(&b, " %d of %d |", n, ran[i])
	}
	b.WriteString(" | |\n")
	return b.String()
}

// cell is a result in the table.
func cell(r result, ran bool) string {
	switch {
	case !ran:
		return "–"
	case r.ok():
		return "ok"
	case r.Hangs > 0 || r.Ended != "":
		return "**hangs**"
	case r.Early:
		return fmt.Sprintf("%d+", r.Failed)
	}
	return fmt.Sprint(r.Failed)
}

// add appends what is not in a list yet.
func add(list []string, s string) []string {
	for _, have := range list {
		if have == s {
			return list
		}
	}
	return append(list, s)
}
