package cluster

import (
	"testing"

	"github.com/aptmesh/aptmesh/ring"
)

// Two nodes with one name each take themselves for the member. The other members decide, and all say the same.
func TestDecideClaim(t *testing.T) {
	const first, second = "10.0.0.2:7946", "10.0.0.9:7946"
	says := func(addresses ...string) (reports []Report) {
		for _, at := range addresses {
			reports = append(reports, Report{Addresses: map[string]string{"b": at, "c": "10.0.0.3:7946"}})
		}
		return reports
	}
	for name, tt := range map[string]struct {
		self, known, other string
		others             []Report
		member             string // "" where nobody can tell
	}{
		"a third node":                       {"c", first, second, says(first), first},
		"a third node that is alone in this": {"c", first, second, nil, first},
		"the member":                         {"b", first, second, says(first, first), first},
		"the one that is kept out":           {"b", second, first, says(first, first), first},
		"nobody else":                        {"b", second, first, nil, ""},
		"a node that knows neither":          {"b", second, first, says(""), ""},
		"two against one":                    {"b", second, first, says(first, second, first), first},
		"one against one":                    {"b", second, first, says(first, second), ""},
	} {
		got := decideClaim(ring.Claim{Name: "b", Known: tt.known, Other: tt.other}, tt.self, tt.others)
		switch {
		case got.Undecided != (tt.member == ""):
			t.Errorf("%s: %+v, want the member to be %q", name, got, tt.member)
		case tt.member != "" && (got.Known != tt.member || got.Other == got.Known):
			t.Errorf("%s: %+v, want the member to be %q", name, got, tt.member)
		}
	}
}
