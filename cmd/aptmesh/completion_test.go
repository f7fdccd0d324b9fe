package main

import (
	"strings"
	"testing"

	"github.com/aptmesh/aptmesh/node/admin"
)

// A shell completes the names that the running node knows, and no files.
func TestCompletion(t *testing.T) {
	addr := adminStub(t, map[string]any{"GET /v1/status": admin.Status{
		Archives: []admin.ArchiveStatus{
			{Name: "ubuntu", Suites: []admin.SuiteStatus{{Dir: "dists/noble"}, {Dir: "dists/noble-updates"}}},
			{Name: "tools", Suites: []admin.SuiteStatus{{Dir: ""}}},
		},
		Cluster: &admin.ClusterStatus{Members: []admin.MemberStatus{{Name: "fra1", State: admin.MemberActive}, {Name: "nyc1", State: admin.MemberMissing}}},
	}})
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"refresh", "--admin", addr, ""}, "ubuntu/noble ubuntu/noble-updates tools/"},
		{[]string{"refresh", "--admin", addr, "ubuntu/noble", "ub"}, "ubuntu/noble-updates"},
		{[]string{"drop", "--admin", addr, "to"}, "tools/"},
		{[]string{"cluster", "remove", "--admin", addr, ""}, "nyc1"},
		{[]string{"refresh", "--admin", "127.0.0.1:1", ""}, ""}, // no node runs
	} {
		a, out, errs := testApp(t)
		if code := run(t, a, append([]string{"__complete"}, tt.args...)...); code != 0 {
			t.Fatalf("%v: exit %d: %s", tt.args, code, errs)
		}
		const noFiles = ":4"
		got := strings.Fields(out.String())
		if want := append(strings.Fields(tt.want), noFiles); strings.Join(got, " ") != strings.Join(want, " ") {
			t.Errorf("%v: %q, want %q", tt.args, got, want)
		}
	}
}
