package lab

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// Build builds this tree's aptmesh in dir, as `make build` does, or with the race
// detector where APTMESH_RACE=1 says so. It returns the name of the binary.
func Build(ctx context.Context, dir string) (binary string, err error) {
	binary = filepath.Join(dir, "aptmesh")
	args, cgo := []string{"build", "-trimpath"}, "CGO_ENABLED=0"
	if os.Getenv("APTMESH_RACE") == "1" {
		args, cgo = []string{"build", "-race"}, "CGO_ENABLED=1"
	}
	build := exec.CommandContext(ctx, "go", append(args, "-o", binary, "github.com/aptmesh/aptmesh/cmd/aptmesh")...)
	build.Env = append(os.Environ(), cgo)
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return binary, nil
}

// Main is the TestMain of a package that tests the binary: APTMESH_BINARY, or one that is
// built first, unless need says that no test runs it. Tests mostly wait, for a pause of
// apt, so as many run at a time as parallel says, unless -parallel says otherwise.
func Main(tests interface{ Run() int }, parallel string, binary *string, need func() bool) {
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given {
		_ = flag.Set("test.parallel", parallel) // it is a number
	}
	code, err := buildAndRun(tests, binary, need)
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		code = 1
	}
	os.Exit(code)
}

func buildAndRun(tests interface{ Run() int }, binary *string, need func() bool) (code int, err error) {
	if *binary = os.Getenv("APTMESH_BINARY"); *binary != "" || !need() {
		return tests.Run(), nil
	}
	dir, err := os.MkdirTemp("", "aptmesh-e2e-")
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if *binary, err = Build(context.Background(), dir); err != nil {
		return 1, err
	}
	return tests.Run(), nil
}
