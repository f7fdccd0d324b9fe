package operator

import (
	"strings"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/node/admin"
	"github.com/aptmesh/aptmesh/proto"
)

// How often in a row a host got an error is said where it was more than once.
func TestWhyCounts(t *testing.T) {
	for count, want := range map[int64]bool{1: false, 4: true} {
		w := &admin.Why{Latest: &admin.Failure{Status: 503, Reason: "unavailable", Text: "no answer", Client: "10.0.0.7", Count: count}}
		explainFailures(w)
		if said := strings.Join(w.Sentences, " "); strings.Contains(said, "to 10.0.0.7; it was answered so 4 times in a row: 503") != want || strings.Contains(said, "in a row") != want {
			t.Errorf("%d: %s", count, said)
		}
	}
}

// A sentence about a generation names its suite, also in an archive that is one suite.
func TestWhyNamesTheSuite(t *testing.T) {
	for suite, want := range map[string]string{
		"dists/noble": "the generation of tools/dists/noble that is dated 2026-11-20T12:00:00Z.",
		"":            "the generation of tools that is dated 2026-11-20T12:00:00Z.",
	} {
		w := &admin.Why{Archive: "tools", Suite: suite}
		explain(w, proto.Resolution{Listed: true, Generation: time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)})
		if said := strings.Join(w.Sentences, " "); !strings.Contains(said, want) {
			t.Errorf("%q: %s", suite, said)
		}
	}
}
