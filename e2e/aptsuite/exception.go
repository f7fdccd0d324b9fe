package main

import (
	_ "embed"
	"fmt"
	"io"
	"path"
	"strconv"
	"strings"
)

// An exception is leave for a test to fail checks with a node between.
type exception struct {
	test   string // without "test-"
	modes  string // a pattern of path.Match, as "proxy*"
	failed int    // so many checks at most
	early  bool   // and it may end early
	class  string // "i": an artefact of the test; "ii": aptmesh means it
	why    string
}

//go:embed exceptions.txt
var exceptionsFile string

// exceptions returns the exceptions, in the order of the file. The first that fits counts.
func exceptions() ([]exception, error) { return parseExceptions(exceptionsFile) }

func parseExceptions(text string) (all []exception, err error) {
	for i, line := range strings.Split(text, "\n") {
		if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		fields := strings.Split(line, "|")
		if len(fields) != 5 {
			return nil, fmt.Errorf("exceptions.txt:%d: %d fields, not five: test | modes | failed checks | class | why", i+1, len(fields))
		}
		for j := range fields {
			fields[j] = strings.TrimSpace(fields[j])
		}
		e := exception{test: fields[0], modes: fields[1], class: fields[3], why: fields[4]}
		count, early, _ := strings.Cut(fields[2], " ")
		if e.failed, err = strconv.Atoi(count); err != nil {
			return nil, fmt.Errorf("exceptions.txt:%d: failed checks: %w", i+1, err)
		}
		if early != "" && early != "early" {
			return nil, fmt.Errorf("exceptions.txt:%d: %q: only \"early\" may follow the number", i+1, early)
		}
		e.early = early == "early"
		if _, err := path.Match(e.modes, ""); err != nil {
			return nil, fmt.Errorf("exceptions.txt:%d: modes: %w", i+1, err)
		}
		if e.class != "i" && e.class != "ii" || e.why == "" {
			return nil, fmt.Errorf("exceptions.txt:%d: an exception has a class, i or ii, and a reason; a fault of class iii is mended, not listed", i+1)
		}
		all = append(all, e)
	}
	return all, nil
}

// find returns the exception of a test in a mode. Without a node there is none.
func find(all []exception, test, mode string) (exception, bool) {
	if mode == "direct" {
		return exception{}, false
	}
	for _, e := range all {
		if fits, _ := path.Match(e.modes, mode); fits && "test-"+e.test == test {
			return e, true
		}
	}
	return exception{}, false
}

// fault says what a result has that no exception allows; "" for nothing.
func (r result) fault(all []exception) string {
	e, _ := find(all, r.Test, r.Mode)
	switch {
	case r.Hangs > 0 || r.Ended != "":
		return "FAULT: apt hangs, or the test does not end"
	case r.Early && !e.early:
		return "FAULT: the test ends early"
	case r.Failed > e.failed:
		return fmt.Sprintf("FAULT: %d checks may fail", e.failed)
	}
	return ""
}

// judge prints all faults and all exceptions that are too generous, and returns the number of faults.
func judge(w io.Writer, results []result, all []exception) (bad int) {
	for _, r := range results {
		if fault := r.fault(all); fault != "" {
			bad++
			fmt.Fprintf(w, "%s, %s: %s: %s; see %s\n", r.Test, r.Mode, r, fault, r.Log)
		} else if e, _ := find(all, r.Test, r.Mode); r.Failed < e.failed {
			fmt.Fprintf(w, "%s, %s: %s; exceptions.txt may go down from %d\n", r.Test, r.Mode, r, e.failed)
		}
	}
	return bad
}
