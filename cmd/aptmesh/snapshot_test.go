package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/node/admin"
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
		{whole + `,"warnings":["apt refuses it soon"]}`, nil, 0, "note: apt refuses it soon\n"},
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

// A diff says of each suite what differs, or why nothing is said.
func TestPrintDiff(t *testing.T) {
	now := time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC)
	day := func(d int) time.Time { return time.Date(2026, 11, d, 0, 0, 0, 0, time.UTC) }
	thirty, none := 30, 0
	d := &admin.Diff{Before: "w48", After: "live", Bytes: 3 << 20, Gone: 1 << 20, Suites: []admin.SuiteDiff{
		{Suite: "ubuntu/dists/noble", Before: day(1), After: day(1)},
		{Suite: "ubuntu/dists/noble-backports", Before: day(1)},
		{Suite: "ubuntu/dists/noble-proposed", After: day(2)},
		{Suite: "ubuntu/dists/noble-updates", Before: day(1), After: day(2), Skipped: []string{"universe/binary-amd64/Packages cannot be compared: gone"}, Packages: []admin.PackageDiff{
			{Change: "upgraded", Name: "openssl", Arch: "amd64", Before: &admin.PackageVersion{Version: "3.0-1"}, After: &admin.PackageVersion{Version: "3.0-2", Source: "openssl", Component: "main", Size: 2 << 20}, Security: true, Used: now.Add(-time.Hour)},
			{Change: "added", Name: "new", Arch: "all", After: &admin.PackageVersion{Version: "1", Source: "n", Component: "main", Size: 1 << 20, Phased: &thirty}},
			{Change: "upgraded", Name: "bad", Arch: "all", Before: &admin.PackageVersion{Version: "1"}, After: &admin.PackageVersion{Version: "2", Source: "bad", Phased: &none, Size: -1}},
		}},
	}}
	var b strings.Builder
	if err := printDiff(&b, d, now); err != nil {
		t.Fatal(err)
	}
	want := `ubuntu/dists/noble: the same, of 2026-11-01T00:00:00Z

ubuntu/dists/noble-backports: only in w48

ubuntu/dists/noble-proposed: only in live

ubuntu/dists/noble-updates: 2026-11-01T00:00:00Z -> 2026-11-02T00:00:00Z: 1 added, 2 upgraded
  universe/binary-amd64/Packages cannot be compared: gone
CHANGE    PACKAGE  ARCH   BEFORE  AFTER          SIZE     COMPONENT  SOURCE   SECURITY  USED
upgraded  openssl  amd64  3.0-1   3.0-2          2.0 MiB  main       openssl  yes       1h0m ago
added     new      all    -       1 (30%)        1.0 MiB  main       n
upgraded  bad      all    1       2 (withdrawn)  -                   bad

new files 3.0 MiB, files that are gone 1.0 MiB
`
	if b.String() != want {
		t.Errorf("%s", b.String())
	}
}

// How long a snapshot is kept is given in days, as elsewhere.
func TestSnapshotExpires(t *testing.T) {
	said := ""
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		said = r.FormValue("expires")
		io.WriteString(w, `{"name":"w48","suites":[]}`)
	}))
	defer server.Close()
	for _, tt := range []struct {
		text, want string
		code       int
	}{{"120d", "2880h0m0s", 0}, {"36h", "36h0m0s", 0}, {"soon", "", exitUsage}, {"0s", "", exitUsage}, {"-5h", "", exitUsage}} {
		said = ""
		a, out, errs := testApp(t)
		if code := run(t, a, "snapshot", "create", "w48", "--admin", strings.TrimPrefix(server.URL, "http://"), "--expires="+tt.text); code != tt.code || said != tt.want {
			t.Errorf("%s: exit code %d, %q; %s%s", tt.text, code, said, out, errs)
		}
	}
}
