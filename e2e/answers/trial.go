package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
)

// place is where the server fails.
type place string

// The places.
const (
	placeRoot    place = "InRelease of one suite of two"
	placeIndex   place = "an index"
	placePackage place = "a package"
	placeNowhere place = "nowhere" // the control
)

var places = []place{placeRoot, placeIndex, placePackage}

// fails says what fails there: the failing suite is called bad, the other one good.
func (p place) fails(path string) bool {
	switch p {
	case placeRoot:
		return path == "dists/bad/InRelease"
	case placeIndex:
		return strings.HasPrefix(path, "dists/bad/main/binary-amd64/")
	case placePackage:
		return strings.HasSuffix(path, "/hello_1_amd64.deb")
	}
	return false
}

// trial is one run.
type trial struct {
	apt     apt
	place   place
	said    answer
	proxied bool
	retries int
}

// outcome is what was seen of it.
type outcome struct {
	hung     bool
	exit     int
	requests int    // for what fails
	fellBack bool   // asked for Release when InRelease failed
	screen   string // the last line that names the status
}

// String is the outcome in a cell of the table.
func (o outcome) String() string {
	if o.hung {
		return "**hangs**" // after how many requests is chance
	}
	end := fmt.Sprintf("exit %d", o.exit)
	if o.requests != 1 {
		end += fmt.Sprintf(", %d requests", o.requests)
	}
	if o.fellBack {
		end += ", asks for Release"
	}
	return end
}

// newArchive has two suites; the package is in the good one.
func newArchive() *testarchive.Archive {
	a := testarchive.New(1)
	for _, suite := range []string{"good", "bad"} {
		a.AddSuite(testarchive.Suite{Name: suite, ByHash: true, Compressions: []string{".gz"}})
		a.AddPackage(suite, testarchive.Package{Name: "other-" + suite, Version: "1", Size: 100})
	}
	a.AddPackage("good", testarchive.Package{Name: "hello", Version: "1", Size: 1000})
	a.Publish(time.Now().Add(-time.Minute))
	return a
}

// tries is how often a trial is repeated whose status apt repeats: whether that hangs
// depends on what else is in its queue at the moment.
const tries = 3

// run makes the trial; where chance has a part in it, until it hangs. The error is one of
// the laboratory.
func (t trial) run(ctx context.Context, archive *testarchive.Archive, patience time.Duration) (o outcome, err error) {
	for range tries {
		o, err = t.once(ctx, archive, patience)
		if err != nil || o.hung || t.place != placeRoot || t.retries == 0 || !slices.Contains(transient, t.said.status) {
			break
		}
	}
	return o, err
}

// once makes the trial. A run that neither asks for anything nor computes for as long as
// patience, nor ends, hangs.
func (t trial) once(ctx context.Context, archive *testarchive.Archive, patience time.Duration) (outcome, error) {
	s, err := newServer(archive, t.said, t.place.fails)
	if err != nil {
		return outcome{}, err
	}
	defer s.close()
	base, settings := s.url(), []string{fmt.Sprintf("Acquire::Retries \"%d\";", t.retries)}
	if t.proxied {
		base, settings = "http://archive.example.org", append(settings, fmt.Sprintf("Acquire::http::Proxy %q;", s.url()))
	}
	sources := fmt.Sprintf("deb [signed-by=KEYRING] %[1]s bad main\ndeb [signed-by=KEYRING] %[1]s good main", base)
	h, err := t.apt.newHost(archive.Keyring(), sources, settings...)
	if err != nil {
		return outcome{}, err
	}
	defer h.remove()
	if t.place == placePackage {
		if out, err := h.command(ctx, "update").CombinedOutput(); err != nil {
			return outcome{}, fmt.Errorf("update before the package is asked for: %w\n%s", err, out)
		}
		return t.observe(ctx, s, h, patience, "-y", "install", "--download-only", "hello", "other-good")
	}
	return t.observe(ctx, s, h, patience, "update")
}

func (t trial) observe(ctx context.Context, s *server, h *host, patience time.Duration, args ...string) (outcome, error) {
	bounded, cancel := context.WithCancel(ctx)
	defer cancel()
	began := time.Now()
	cmd := h.command(bounded, args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		return outcome{}, err
	}
	go func() {
		worked, since := 0, began
		for poll := time.NewTicker(patience / 20); bounded.Err() == nil; <-poll.C {
			if now := cpuTicks(cmd.Process.Pid); now-worked > idleTicks {
				worked, since = now, time.Now()
			}
			if s.quiet(since) > patience {
				cancel()
			}
		}
	}()
	err := cmd.Wait()
	o := outcome{hung: bounded.Err() != nil, requests: s.count(t.place.fails), screen: t.lineIn(out.String())}
	o.fellBack = s.count(func(path string) bool { return path == "dists/bad/Release" }) > 0
	var exit *exec.ExitError
	switch {
	case o.hung:
		return o, ctx.Err()
	case errors.As(err, &exit):
		o.exit = exit.ExitCode()
	case err != nil:
		return o, err
	}
	return o, nil
}

// idleTicks of a hundredth of a second is more than apt computes while it only waits.
const idleTicks = 10

// cpuTicks is what the processes of a group have computed, of those that still run.
func cpuTicks(group int) (ticks int) {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		b, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		_, rest, _ := strings.Cut(string(b), ") ") // state ppid pgrp ... utime stime
		f := strings.Fields(rest)
		if len(f) < 13 || f[2] != strconv.Itoa(group) {
			continue
		}
		user, _ := strconv.Atoi(f[11])
		system, _ := strconv.Atoi(f[12])
		ticks += user + system
	}
	return ticks
}

var address = regexp.MustCompile(`http://[^ ]*|127\.0\.0\.1(:| )\d+`)

// lineIn is the last line that shows the status, without addresses.
func (t trial) lineIn(out string) string {
	status, said := fmt.Sprint(t.said.status), ""
	for line := range strings.Lines(out) {
		if plain := address.ReplaceAllString(strings.TrimSpace(line), "…"); strings.Contains(plain, status+" ") {
			said = plain
		}
	}
	return said
}
