package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// Commands about snapshots and channels ask what they are told to, and print what comes back.
func TestActsOnSnapshots(t *testing.T) {
	asked, answer := "", ""
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		r.Form.Del("by")
		asked = r.Method + " " + r.URL.Path + " " + r.Form.Encode()
		io.WriteString(w, answer)
	}))
	defer server.Close()
	for _, tt := range []struct {
		args, asked, answer, says string
		code                      int
	}{
		{"snapshot diff w48 live --suite noble* --archive ubuntu --used", "GET /v1/snapshots/diff after=live&archive=ubuntu&before=w48&suite=noble%2A&used=1",
			`{"before":"w48","after":"live","suites":[]}`, "there is no suite to compare", 0},
		{"snapshot diff w48", "", "", "", exitUsage},
		{"snapshot show w48", "GET /v1/snapshots/show name=w48",
			`{"name":"w48","bytes":2048,"own":1024,"warnings":["careful"],"suites":[{"suite":"ubuntu/dists/noble","accepted_until":"2026-12-24T00:00:00Z","signer":"Ann"}]}`,
			"2.0 KiB of signed roots and indexes, 1.0 KiB of them its own\nnote: careful", 0},
		{"snapshot list --removed", "GET /v1/snapshots/removed ", `[{"kind":"snapshot","name":"w47","target":"0123456789abcdef","at":"2026-01-01T00:00:00Z"},{"kind":"channel","name":"old","target":"w40","orphaned":true}]`,
			"record 0123456789ab", 0},
		{"snapshot list --removed", "GET /v1/snapshots/removed ", `[]`, "nothing that was removed can be restored", 0},
		{"snapshot restore w47 --as w47-again", "POST /v1/snapshots/restore as=w47-again&name=w47", `{"name":"w47-again","suites":[]}`, "w47-again: 0 suites", 0},
		{"snapshot restore w47", "POST /v1/snapshots/restore as=&name=w47", `{"name":"w47","suites":[],"missing":[{"location":"ubuntu/x","error":"gone"}]}`, "missing: ubuntu/x: gone", exitIncomplete},
		{"channel hold stable", "POST /v1/channels/hold hold=1&name=stable", `{"message":"held"}`, "stable: held", 0},
		{"channel release stable", "POST /v1/channels/hold name=stable", `{"message":"released"}`, "stable: released", 0},
		{"channel list", "GET /v1/channels ", `[{"name":"stable","target":"w48","held":true,"node":"n1"}]`, "w48 (held)", 0},
	} {
		asked, answer = "", tt.answer
		a, out, errs := testApp(t)
		code := run(t, a, append(strings.Fields(tt.args), "--admin", strings.TrimPrefix(server.URL, "http://"))...)
		if code != tt.code || asked != tt.asked || !strings.Contains(out.String(), tt.says) {
			t.Errorf("%s: exit code %d, asked %q, said %s%s", tt.args, code, asked, out, errs)
		}
	}
}
