package operator

import (
	"strings"
	"testing"

	"github.com/aptmesh/aptmesh/node/admin"
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
