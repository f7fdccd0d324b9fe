package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// What the mirror commands say, and the exit codes: of a run when it has ended on all nodes, whatever it went through.
func TestMirrorCommands(t *testing.T) {
	var mu sync.Mutex
	var answers []string // in turn; the last one again and again
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		text := answers[0]
		if len(answers) > 1 {
			answers = answers[1:]
		}
		if r.Method == http.MethodGet {
			text = "[" + text + "]"
		}
		io.WriteString(w, text)
	}))
	defer server.Close()
	mirror := func(phase, more string) string {
		return `{"name":"m","node":"n1","generations":[{"taken":"2026-12-01T00:00:00Z","whole":true,"suites":[{"suite":"ubuntu/dists/noble"}],"files":3,"bytes":2048}],"phase":"` + phase + `"` + more + `}`
	}
	const fits = `{"fits":true,"packages":{"files":1000,"bytes":1048576},"indexes":{"files":2,"bytes":1024},"share":{"files":700,"bytes":524288},"nodes":{"n1":{"files":700,"bytes":524288},"n2":{"files":302,"bytes":525312}}`
	running := mirror("fetching", `,"total":{"files":3,"bytes":2048},"to_fetch":2048,"fetched":1024,"rate":512,"remaining_seconds":2`)
	for _, tt := range []struct {
		answers []string
		args    string
		code    int
		says    []string
	}{
		{[]string{fits + "}"}, "plan m", 0, []string{"m: 1,002 files, 1.0 MiB (1049600 bytes)", "Node      n2: 302 files"}},
		{[]string{fits + `,"unresolved_count":1,"unresolved":[{"package":"a","version":"1","need":"b (>= 2)"}]}`}, "plan m", 0, []string{"1 need of packages that nothing in the suites meets:\n  a 1 (any): b (>= 2)"}},
		{[]string{`{"fits":false,"refused":"m does not fit: it needs 9 GiB more"}`}, "plan m", exitRefused, []string{"Refused   m does not fit"}},
		{[]string{`{"fits":false,"refused":"m does not fit"}`}, "plan m --json", exitRefused, []string{`"fits": false`}},
		{[]string{mirror("planning", ""), running, mirror("done", "")}, "run m", 0, []string{"fetching: 50% of 2.0 KiB, 512 B/s, 2s left", "Mirror    m on node n1: done", "ubuntu/dists/noble of"}},
		{[]string{running}, "run m --detach", 0, []string{"m: the node n1 works on it"}},
		{[]string{mirror("refused", `,"failure":"it does not fit"`)}, "run m", exitRefused, []string{"Because   it does not fit"}},
		{[]string{mirror("failed", `,"failure":"upstream is down"`)}, "run m", exitFailed, []string{"upstream is down"}},
		{[]string{mirror("incomplete", `,"lost_count":1,"lost":[{"location":"ubuntu/x","error":"gone"}]`)}, "run m", exitIncomplete, []string{"1 file could not be had:\n  ubuntu/x: gone"}},
		{[]string{mirror("done", `,"others":[{"node":"n2","phase":"fetching"}]`), mirror("done", `,"others":[{"node":"n2","phase":"done"}]`)}, "run m", 0, []string{"OTHER NODE", "n2"}},
		{[]string{mirror("done", `,"others":[{"node":"n2","failure":"it does not answer"}]`)}, "run m", exitIncomplete, []string{"unknown", "it does not answer"}},
		{[]string{mirror("done", `,"unchecked":"ubuntu/dists/noble: it is down"`)}, "run m", exitIncomplete, []string{"could not be asked, so there may be something newer: ubuntu/dists/noble: it is down"}},
		{[]string{fits + `,"unchecked":"it is down"}`}, "plan m", 0, []string{"could not be asked, so there may be something newer: it is down"}},
		{[]string{mirror("done", `,"check_of":2048,"checked":{"files":3,"bytes":2048},"damaged":1`)}, "verify m", 0, []string{"Verified  3 files, 2.0 KiB of 2.0 KiB, 1 damaged"}},
		{[]string{mirror("done", "")}, "status m", 0, []string{"Missing   0 files"}},
		{[]string{mirror("waiting", `,"missing":{"files":2,"bytes":100}`)}, "status m", exitIncomplete, []string{"Missing   2 files"}},
		{[]string{mirror("done", "")}, "status", 0, []string{"MIRROR  PHASE"}},
		{[]string{"nonsense"}, "run m", exitFailed, nil},
	} {
		mu.Lock()
		answers = tt.answers
		mu.Unlock()
		a, out, errs := testApp(t)
		code := run(t, a, append([]string{"mirror", "--admin", strings.TrimPrefix(server.URL, "http://")}, strings.Fields(tt.args)...)...)
		said := out.String() + errs.String()
		if code != tt.code {
			t.Errorf("%s: exit code %d, want %d: %s", tt.args, code, tt.code, said)
		}
		for _, text := range tt.says {
			if !strings.Contains(said, text) {
				t.Errorf("%s: %q is not in\n%s", tt.args, text, said)
			}
		}
	}
	a, _, errs := testApp(t)
	if code := run(t, a, "mirror", "run"); code != exitUsage || !strings.Contains(errs.String(), "the name of the mirror is missing") {
		t.Errorf("%d: %s", code, errs)
	}
}
