package main

import (
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/aptmesh/aptmesh/e2e/lab"
)

// outcome is what the client of a cell saw, in as few words as there are kinds.
type outcome string

const (
	unnoticed  outcome = "unnoticed"            // right at the first try
	afterRetry outcome = "after a retry"        // right within the client's own retries
	oldStays   outcome = "old generation stays" // whole and consistent, but not the newest
	refused    outcome = "503 with a reason"    // apt asks again, and tells its user why
	final      outcome = "403 with a reason"    // apt ends at once, and tells its user why
	brokenOff  outcome = "broken off"           // the transfer ended before the last byte; apt asks again
	notFound   outcome = "404"                  // final for apt
	failed     outcome = "failed"               // anything else: a promise is broken
)

// judge turns what the client got into an outcome, and holds it against what a
// host may be made to see.
func (c *cell) judge(d lab.Download) {
	c.tries, c.took = len(d.Tries), d.Took
	t := d.Last()
	switch {
	case d.Wrong:
		c.outcome = failed
		c.fail("the client got a complete wrong body")
	case d.Done() && c.object == nextRoot && is(c.before.Data)(d.Body):
		c.outcome = oldStays
	case d.Done() && c.tries == 1:
		c.outcome = unnoticed
	case d.Done():
		c.outcome = afterRetry
	case t.Err != nil:
		c.outcome = brokenOff
	case t.Status >= 500 && t.Text != "":
		c.outcome = refused
	case t.Status == 403 && t.Text != "":
		c.outcome = final
	case t.Status == 404 && t.Text != "":
		c.outcome = notFound
	default:
		c.outcome = failed
		c.fail("the client got %d %q", t.Status, t.Text)
	}
	if c.outcome == failed {
		return
	}
	if why := c.unacceptable(); why != "" {
		c.fail("%s: %s (%d tries; the last one: %d %s %v)", c.outcome, why, c.tries, t.Status, t.Text, t.Err)
	}
}

// unacceptable says why an outcome is not one that this cell may have; "" if it is.
func (c *cell) unacceptable() string {
	fine := c.outcome == unnoticed || c.outcome == afterRetry
	switch {
	case fine:
		return ""
	case c.good() > 0 && c.object != nextRoot:
		return "there is a good mirror, and the client did not get the object"
	case c.object == nextRoot:
		// With a good mirror left, the news may still wait for the next look.
		if c.outcome != oldStays {
			return "a generation is held, and the client did not get it"
		}
	case c.benign:
		return "the object can be had, if slowly"
	case c.outcome == notFound && !c.says404():
		return "nobody said 404"
	case c.outcome == final && !c.isCorrupt():
		return "trouble that may pass is made final"
	}
	return ""
}

// isCorrupt reports whether the mirrors give what cannot be right, as whole answers.
func (c *cell) isCorrupt() bool {
	switch strings.TrimPrefix(c.name, path.Base(c.format.root)) {
	case "200 with a page of HTML", "redirect to a captive portal", "longer than it should be", "shorter than it should be", "wrong byte, equal length":
		return true
	case "behind: still the generation before", aheadOfIndices:
		return c.object == index // another version, under the same name; apt itself takes that as final
	}
	return false
}

// says404 reports whether all mirrors say that there is no such file.
func (c *cell) says404() bool {
	switch strings.TrimPrefix(c.name, path.Base(c.format.root)) {
	case "404", "index ahead of pool", "behind: still the generation before", aheadOfIndices:
		return true
	}
	return false
}

// bounds are how many requests for the object the mirrors may get while they are
// bad, and how many bytes they may send. With a good mirror left: each bad one once
// and again where it broke off, the good one once. With nobody left: what every
// node tries by itself, for each try of the client, and while it holds a client back that does not come again.
func (c *cell) bounds() (requests int, bytes int64) {
	size := int64(len(c.want.Data))
	if c.object == firstRoot || c.object == nextRoot {
		size *= int64(len(c.pattern)) // they are one object in several files
	}
	names, copies := len(c.pattern), int64(c.bad+1)
	requests = names * 3 * (c.bad + 1)
	if c.good() == 0 {
		tries := max(c.tries, 1) * c.format.asks
		copies = int64(2 * c.bad * tries * c.nodes)
		requests = names * 6 * c.bad * tries * c.nodes
	}
	return requests, copies*size + 4096
}

// class is how long something took, coarsely: this machine's load must not show.
func class(d time.Duration) string {
	for _, limit := range []time.Duration{time.Second, 3 * time.Second, 10 * time.Second, 30 * time.Second} {
		if d < limit {
			return fmt.Sprintf("under %.0f s", limit.Seconds())
		}
	}
	return "longer"
}
