package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// A result is what a test said in one mode.
type result struct {
	Test, Mode     string
	Passed, Failed int    // checks
	Early          bool   // the test ended at a step that it cannot do without
	Hangs          int    // apts that had to be killed
	Ended          string // why the test was ended from outside; "" if it was not
	Seconds        float64
	Log            string
}

var (
	passed = regexp.MustCompile(`(?m)PASS$`)
	// The tests' framework writes the verdict behind the check's name or behind apt's output, which
	// may lack the end of its last line.
	failed = regexp.MustCompile(`(?m)FAIL(: [^\n]*)?$`)
	early  = []byte("E: Looks like the testcases ended prematurely")
)

// count reads the log of a test that ended with a code, which is the number of failed checks where
// there are no more than 255.
func (r *result) count(log []byte, code int) {
	r.Passed, r.Failed = len(passed.FindAll(log, -1)), len(failed.FindAll(log, -1))
	r.Early = bytes.Contains(log, early)
	if code > 0 && r.Failed == 0 {
		r.Failed, r.Early = 1, true
	}
}

// ok reports whether all checks passed.
func (r result) ok() bool { return r.Failed == 0 && !r.Early && r.Hangs == 0 && r.Ended == "" }

func (r result) String() string {
	var notes []string
	if r.Early {
		notes = append(notes, "ended early")
	}
	if r.Hangs > 0 {
		notes = append(notes, fmt.Sprintf("%d hangs", r.Hangs))
	}
	if r.Ended != "" {
		notes = append(notes, "ended: "+r.Ended)
	}
	s := fmt.Sprintf("%d of %d failed", r.Failed, r.Passed+r.Failed)
	if len(notes) > 0 {
		s += " (" + strings.Join(notes, ", ") + ")"
	}
	return s
}

// verdict is a line about a result.
func (r result) verdict(allowed []exception) string {
	s := fmt.Sprintf("%-40s %5.0f s", r, r.Seconds)
	if fault := r.fault(allowed); fault != "" {
		s += "  " + fault
	}
	return s
}

// printFailed prints the checks that failed, each from its name to its verdict.
func printFailed(w io.Writer, r result) {
	text, err := os.ReadFile(r.Log)
	if err != nil {
		return
	}
	from := 0
	lines := strings.SplitAfter(string(text), "\n")
	for i, line := range lines {
		line = strings.TrimRight(line, "\n")
		switch {
		case passed.MatchString(line):
			from = i + 1
		case failed.MatchString(line):
			fmt.Fprintf(w, "%s\n", strings.Join(lines[from:i+1], ""))
			from = i + 1
		}
	}
}

// resultFile is where a result is stored.
func resultFile(cache, test, mode string) string {
	return filepath.Join(cache, "results", mode, test+".json")
}

func store(cache string, r result) error {
	file := resultFile(cache, r.Test, r.Mode)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return os.WriteFile(file, text, 0o644)
}

// load returns what is stored of tests and modes; what has not run yet is left out.
func load(cache string, tests []string, modes []mode) (results []result, err error) {
	for _, test := range tests {
		for _, m := range modes {
			text, err := os.ReadFile(resultFile(cache, test, m.String()))
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return nil, err
			}
			var r result
			if err := json.Unmarshal(text, &r); err != nil {
				return nil, err
			}
			results = append(results, r)
		}
	}
	return results, nil
}
