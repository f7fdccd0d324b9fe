package e2e

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// binary is the aptmesh that is tested.
var binary string

// parallel is how many tests run at a time unless -parallel says otherwise: they
// wait for apt's pauses, not for a processor.
const parallel = "10"

func TestMain(m *testing.M) {
	flag.Parse()
	said := false
	flag.Visit(func(f *flag.Flag) { said = said || f.Name == "test.parallel" })
	if !said {
		_ = flag.Set("test.parallel", parallel) // it is a number
	}
	code, err := buildAndRun(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		code = 1
	}
	os.Exit(code)
}

func buildAndRun(m *testing.M) (code int, err error) {
	dir, err := os.MkdirTemp("", "aptmesh-e2e-")
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if binary = os.Getenv("APTMESH_BINARY"); binary != "" {
		return m.Run(), nil
	}
	binary = filepath.Join(dir, "aptmesh")
	build := exec.Command("go", "build", "-trimpath", "-o", binary, "../cmd/aptmesh") // as `make build`
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if os.Getenv("APTMESH_RACE") == "1" {
		build = exec.Command("go", "build", "-race", "-o", binary, "../cmd/aptmesh")
	}
	if out, err := build.CombinedOutput(); err != nil {
		return 1, fmt.Errorf("go build: %w\n%s", err, out)
	}
	return m.Run(), nil
}

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
