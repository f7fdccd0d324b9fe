package e2e

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/e2e/lab"
)

// binary is the aptmesh that is tested.
var binary string

// parallel is how many tests run at a time: they wait for apt's pauses, not for a
// processor.
const parallel = "10"

func TestMain(m *testing.M) { lab.Main(m, parallel, &binary, func() bool { return true }) }

// eventually polls until done says so, and fails the test after the limit. what
// completes the sentence "it did not happen that ...".
func eventually(t *testing.T, limit time.Duration, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); !done(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it did not happen within %s that %s", limit, what)
		}
	}
}

// must is for what cannot fail unless the machine is out of order.
func must[T any](v T, err error) func(t *testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func writeFile(t *testing.T, name string, data []byte) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return name
}
