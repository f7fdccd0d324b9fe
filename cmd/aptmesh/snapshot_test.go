package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// A snapshot that lacks files is shown, and the exit code says that it is not whole, also with --json.
func TestSnapshotThatIsNotWhole(t *testing.T) {
	answer := ""
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, answer) }))
	defer server.Close()
	const whole = `{"name":"w48","bytes":2048,"suites":[{"suite":"ubuntu/dists/noble","indexes":2}]`
	for _, tt := range []struct {
		answer string
		args   []string
		code   int
		says   string
	}{
		{whole + "}", nil, 0, "w48: 1 suite, 2.0 KiB kept\n"},
		{whole + `,"unreached":["n2"]}`, nil, 0, "not reached: n2 (they hear of it when they answer)"},
		{whole + `,"missing":[{"location":"ubuntu/x","error":"gone"}]}`, nil, exitIncomplete, "missing: ubuntu/x: gone\n"},
		{whole + `,"missing":[{"location":"ubuntu/x","error":"gone"}]}`, []string{"--json"}, exitIncomplete, `"error": "gone"`},
		{strings.Replace(whole, `"indexes":2`, `"indexes":0`, 1) + "}", nil, exitIncomplete, "no index: ubuntu/dists/noble ("},
		{`nonsense`, nil, exitFailed, ""},
	} {
		answer = tt.answer
		a, out, errs := testApp(t)
		args := append([]string{"snapshot", "create", "w48", "--admin", strings.TrimPrefix(server.URL, "http://")}, tt.args...)
		if code := run(t, a, args...); code != tt.code || !strings.Contains(out.String(), tt.says) {
			t.Errorf("%s: exit code %d, said %s%s", tt.answer, code, out, errs)
		}
	}
}
