package main

import (
	"bytes"
	"fmt"
	"log/slog"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
	"github.com/aptmesh/aptmesh/e2e/lab"
)

// slice is what the gate plays of the matrix: faults of each sort, none of which has
// to be waited out; objects about which all mirrors lied are left alone for half a
// minute, so they are not among them. How long anything takes is not looked at.
var slice = []string{
	"503, in the head / package / 1 of 1 bad / new",
	"503, in the head / first root / 1 of 2 bad / new",
	"503, in the head / next root / 3 of 3 bad / new",
	"404, in the head / index / 1 of 2 bad / new",
	"404, in the head / package / 2 of 3 bad / resuming",
	"404, in the head / package / 3 of 3 bad / new",
	"200 with a page of HTML, in the head / package / 1 of 3 bad / new",
	"200 with a page of HTML, in the head / index / 2 of 3 bad / new",
	"connection refused, before the head / package / 1 of 2 bad / resuming",
	"connection refused, before the head / next root / 1 of 1 bad / new",
	"longer than it should be, in the head / index / 1 of 2 bad / new",
	"wrong byte, equal length, mid-body / package / 1 of 2 bad / new",
	"wrong byte, equal length, mid-body / index / 2 of 3 bad / new",
	"wrong byte, equal length, last byte / package / 1 of 3 bad / resuming",
	"wrong byte, equal length, first byte / next root / 3 of 3 bad / new",
	"truncated, mid-body / package / 1 of 2 bad / resuming",
	"truncated, last byte / index / 1 of 3 bad / new",
	"connection reset, mid-body / package / 2 of 3 bad / new",
	"connection reset, last byte / package / 1 of 2 bad / new",
	"connection reset, in the head / first root / 2 of 3 bad / new",
	"behind: still the generation before, throughout / next root / 1 of 2 bad / new",
	"behind: still the generation before, throughout / package / 2 of 3 bad / new",
	"index ahead of pool, throughout / package / 1 of 2 bad / new",
	"root ahead of its indices, throughout / next root / 1 of 1 bad / new",
}

// named is a cell of the slice as a format names it; "" where the format has no such cell, or where a node holds the
// client back for all of its tries.
func (f format) named(cell string) string {
	if f.asks > 1 && strings.HasPrefix(cell, "503, in the head / package / 1 of 1 bad") {
		return ""
	}
	if !f.has(index) && (strings.Contains(cell, "/ index /") || strings.Contains(cell, aheadOfIndices)) {
		return ""
	}
	return strings.NewReplacer("first root", f.objects[firstRoot].name, "next root", f.objects[nextRoot].name,
		"root"+aheadOfIndices, path.Base(f.root)+aheadOfIndices).Replace(cell)
}

// TestSlice plays some cells of the matrix at one node and at three.
func TestSlice(t *testing.T) {
	for _, form := range formats {
		t.Run(form.name, func(t *testing.T) { playSlice(t, form) })
	}
}

func playSlice(t *testing.T, form format) {
	for nodes, names := range map[int][]string{1: slice, 3: slice[6:14]} {
		t.Run(fmt.Sprintf("%d nodes", nodes), func(t *testing.T) {
			t.Parallel()
			var chosen []*cell
			for _, name := range names {
				if name = form.named(name); name == "" {
					continue
				}
				found := choose(cells(form, nodes), "")
				i := slices.IndexFunc(found, func(c *cell) bool { return strings.HasPrefix(c.String(), name) })
				if i < 0 {
					t.Fatalf("there is no cell %q", name)
				}
				chosen = append(chosen, found[i])
			}
			o := defaults()
			o.timeout = 15 * time.Second // a good mirror on a busy machine must not count as silent
			o.log = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
			if err := run(t.Context(), o, nodes, chosen); err != nil {
				t.Fatal(err)
			}
			struck := false
			for _, c := range chosen {
				t.Logf("%s: %s (%s, healed %s)", c, c.outcome, class(c.took), class(c.healing))
				for _, b := range c.broken {
					t.Errorf("%s: %s", c, b)
				}
				// On a busy machine a node may take another one for dead, and ask upstream
				// itself: what it costs is for the whole matrix, on a machine of its own.
				struck = struck || c.struck
				for _, costly := range c.costly {
					t.Logf("%s: %s", c, costly)
				}
			}
			if !struck {
				t.Error("no bad mirror was ever asked: the test shows nothing")
			}
		})
	}
}

// TestJudge holds the words of the table to what a client can get.
func TestJudge(t *testing.T) {
	want, old := []byte("the object"), []byte("the one before")
	try := func(status int, text string, err error) lab.Try { return lab.Try{Status: status, Text: text, Err: err} }
	for _, test := range []struct {
		name   string
		cell   cell
		got    lab.Download
		want   outcome
		broken bool
	}{
		{"first try", cell{bad: 1, mirrorCount: 2, object: pkg}, lab.Download{Tries: []lab.Try{try(200, "", nil)}, Body: want}, unnoticed, false},
		{"second try", cell{bad: 1, mirrorCount: 2, object: pkg}, lab.Download{Tries: []lab.Try{try(503, "why", nil), try(200, "", nil)}, Body: want}, afterRetry, false},
		{"wrong", cell{bad: 1, mirrorCount: 1, object: pkg}, lab.Download{Tries: []lab.Try{try(200, "", nil)}, Wrong: true}, failed, true},
		{"503 with nobody left", cell{bad: 1, mirrorCount: 1, object: pkg}, lab.Download{Tries: []lab.Try{try(503, "why", nil)}}, refused, false},
		{"503 without a word", cell{bad: 1, mirrorCount: 1, object: pkg}, lab.Download{Tries: []lab.Try{try(503, "", nil)}}, failed, true},
		{"503 with a good mirror", cell{bad: 1, mirrorCount: 2, object: pkg}, lab.Download{Tries: []lab.Try{try(503, "why", nil)}}, refused, true},
		{"old with nobody left", cell{bad: 1, mirrorCount: 1, object: nextRoot}, lab.Download{Tries: []lab.Try{try(200, "", nil)}, Body: old}, oldStays, false},
		{"503 although held", cell{bad: 1, mirrorCount: 1, object: nextRoot}, lab.Download{Tries: []lab.Try{try(503, "why", nil)}}, refused, true},
		{"403 where all mirrors lie", cell{bad: 1, mirrorCount: 1, object: pkg, fault: fault{name: "wrong byte, equal length"}}, lab.Download{Tries: []lab.Try{try(403, "why", nil)}}, final, false},
		{"403 where one is left", cell{bad: 1, mirrorCount: 2, object: pkg, fault: fault{name: "wrong byte, equal length"}}, lab.Download{Tries: []lab.Try{try(403, "why", nil)}}, final, true},
		{"403 for what may pass", cell{bad: 1, mirrorCount: 1, object: pkg, fault: fault{name: "stall"}}, lab.Download{Tries: []lab.Try{try(403, "why", nil)}}, final, true},
		{"404 that nobody said", cell{bad: 1, mirrorCount: 1, object: pkg}, lab.Download{Tries: []lab.Try{try(404, "why", nil)}}, notFound, true},
		{"404 that all said", cell{bad: 1, mirrorCount: 1, object: pkg, fault: fault{name: "404"}}, lab.Download{Tries: []lab.Try{try(404, "why", nil)}}, notFound, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.cell.want, test.cell.before = testarchive.File{Data: want}, testarchive.File{Data: old}
			test.cell.judge(test.got)
			if test.cell.outcome != test.want || (len(test.cell.broken) > 0) != test.broken {
				t.Errorf("%s %q; want %s, broken: %v", test.cell.outcome, test.cell.broken, test.want, test.broken)
			}
		})
	}
}

// TestDocument has a broken promise stand out.
func TestDocument(t *testing.T) {
	c := &cell{fault: faults(formats[0])[0], format: formats[0], object: pkg, mirrorCount: 1, bad: 1, nodes: 1, outcome: refused, struck: true}
	if text := document([]*cell{c}, time.Second); !strings.Contains(text, "| connection refused | before the head | 503 with a reason |") {
		t.Errorf("no line for the cell:\n%s", text)
	}
	c.fail("it went wrong")
	if text := document([]*cell{c}, time.Second); !bytes.Contains([]byte(text), []byte("PROMISE BROKEN")) {
		t.Error("a broken promise is not to be seen")
	}
}
