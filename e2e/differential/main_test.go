package differential

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/aptmesh/aptmesh/e2e/lab"
	_ "github.com/aptmesh/aptmesh/node" // so that a cached result of the test counts for nothing once the product has changed
)

var (
	full    = flag.Bool("full", false, "every row in every mode")
	rows    = flag.String("rows", "", "only the rows whose names match")
	control = flag.Bool("control", false, "a plain forwarder in the place of aptmesh")
)

// binary is the aptmesh that is tested.
var binary string

// parallel is how many rows run at a time unless -parallel says otherwise. apt uses a
// processor most of the time, so a few more than there are processors will do.
const parallel = "5"

func TestMain(m *testing.M) {
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given {
		_ = flag.Set("test.parallel", parallel) // it is a number
	}
	code, err := buildAndRun(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e/differential:", err)
		code = 1
	}
	os.Exit(code)
}

func buildAndRun(m *testing.M) (code int, err error) {
	dir, err := os.MkdirTemp("", "aptmesh-differential-")
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if binary = os.Getenv("APTMESH_BINARY"); binary != "" || *control || !lab.HaveApt() {
		return m.Run(), nil
	}
	binary = filepath.Join(dir, "aptmesh")
	build := exec.Command("go", "build", "-trimpath", "-o", binary, "../../cmd/aptmesh") // as `make build`
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return 1, fmt.Errorf("go build: %w\n%s", err, out)
	}
	return m.Run(), nil
}
