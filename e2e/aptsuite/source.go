package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/aptmesh/aptmesh/e2e/lab"
)

// An aptTree is apt's source, built, in the cache directory.
type aptTree struct {
	dir     string
	version string
}

// tests is the directory that a mode's tests run from.
func (t aptTree) tests(m mode) string {
	if m.between == "direct" {
		return filepath.Join(t.dir, "test", "integration")
	}
	return filepath.Join(t.dir, "test", "integration-aptmesh")
}

// webTests returns the tests that start the web server, sorted; only those named, if there are any.
func (t aptTree) webTests(only []string) ([]string, error) {
	files, err := filepath.Glob(filepath.Join(t.tests(mode{between: "direct"}), "test-*"))
	if err != nil {
		return nil, err
	}
	var found []string
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		if bytes.Contains(text, []byte("changetowebserver")) || bytes.Contains(text, []byte("changetohttpswebserver")) {
			found = append(found, filepath.Base(file))
		}
	}
	if len(only) == 0 {
		return found, nil
	}
	for i, name := range only {
		if !strings.HasPrefix(name, "test-") {
			only[i] = "test-" + name
		}
		if !slices.Contains(found, only[i]) {
			return nil, fmt.Errorf("apt %s has no test %q that uses a web server", t.version, only[i])
		}
	}
	return only, nil
}

// installedApt is the version of this machine's apt.
func installedApt() (string, error) {
	out, err := exec.Command("dpkg-query", "--show", "--showformat=${source:Version}", "apt").Output()
	if err != nil {
		return "", fmt.Errorf("asking dpkg for the version of apt: %w", err)
	}
	return string(out), nil
}

// findApt returns the tree that an earlier run has prepared.
func findApt(cache string) (aptTree, error) {
	version, err := installedApt()
	if err != nil {
		return aptTree{}, err
	}
	t := aptTree{filepath.Join(cache, "apt-"+version), version}
	if _, err := os.Stat(filepath.Join(t.dir, "test")); err != nil {
		return t, fmt.Errorf("no source of apt %s yet: %w", version, err)
	}
	return t, nil
}

// prepareApt gets, builds and edits apt, each where it is not done yet.
func prepareApt(ctx context.Context, cache string) (aptTree, error) {
	t, err := findApt(cache)
	if errors.Is(err, fs.ErrNotExist) {
		err = fetchApt(ctx, cache, t.version)
	}
	if err != nil {
		return t, err
	}
	if err := buildApt(ctx, t); err != nil {
		return t, err
	}
	return t, editTests(t)
}

// step runs a command of the preparation, at low priority, and shows its output only if it fails.
func step(ctx context.Context, dir string, args ...string) error {
	fmt.Println("aptsuite:", strings.Join(args, " "))
	cmd := exec.CommandContext(ctx, "nice", append([]string{"-n", "15"}, args...)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "DEBIAN_FRONTEND=noninteractive")
	lab.DieWithUs(cmd)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(args, " "), err, out[max(0, len(out)-4000):])
	}
	return nil
}

// fetchApt unpacks the source of this machine's apt. The machine's own sources may lack deb-src, so
// apt gets a copy of them that has it, and a directory of its own for lists and downloads.
func fetchApt(ctx context.Context, cache, version string) error {
	etc := filepath.Join(cache, "sources", "sources.list.d")
	for _, dir := range []string{etc, filepath.Join(cache, "sources", "lists", "partial"), filepath.Join(cache, "sources", "archives", "partial")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	files, _ := filepath.Glob("/etc/apt/sources.list.d/*")
	for _, file := range append(files, "/etc/apt/sources.list") {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // not every machine has each of them
		}
		if err := os.WriteFile(filepath.Join(etc, filepath.Base(file)), []byte(sourceLines(string(text))), 0o644); err != nil {
			return err
		}
	}
	apt := []string{"apt-get",
		"-o", "Dir::Etc::SourceList=" + filepath.Join(etc, "sources.list"), "-o", "Dir::Etc::SourceParts=" + etc,
		"-o", "Dir::State::Lists=" + filepath.Join(cache, "sources", "lists"), "-o", "Dir::Cache=" + filepath.Join(cache, "sources"),
		"-o", "APT::Sandbox::User=root"}
	// One of the machine's archives may have no sources; only that of apt counts.
	update := step(ctx, cache, append(apt, "update")...)
	if err := step(ctx, cache, append(apt, "source", "apt="+version)...); err != nil {
		return errors.Join(update, err)
	}
	return nil
}

var (
	oneLine = regexp.MustCompile(`(?m)^deb\s`)
	deb822  = regexp.MustCompile(`(?m)^Types:.*$`)
)

// sourceLines makes deb-src entries of the deb entries of a sources.list, in either style.
func sourceLines(text string) string {
	return deb822.ReplaceAllString(oneLine.ReplaceAllString(text, "deb-src "), "Types: deb-src")
}

// needed is what building apt without its documentation, and running its tests, takes on Debian and
// Ubuntu: the Build-Depends of its source less those of documents and unit tests, and what the tests
// call.
var needed = []string{
	"cmake", "make", "g++", "pkg-config", "dpkg-dev", "triehash",
	"libdb-dev", "libbz2-dev", "liblzma-dev", "liblz4-dev", "libzstd-dev", "zlib1g-dev",
	"libgnutls28-dev", "libgcrypt20-dev", "libseccomp-dev", "libsystemd-dev", "libudev-dev", "libxxhash-dev",
	"fakeroot", "gnupg", "lsof", "stunnel4", "wget", "file", "xz-utils", "zstd", "lz4",
}

// buildApt builds what the tests call.
func buildApt(ctx context.Context, t aptTree) error {
	build := filepath.Join(t.dir, "build")
	done := filepath.Join(build, "aptsuite.done")
	if _, err := os.Stat(done); err == nil {
		return nil
	}
	if missing := missingPackages(); len(missing) > 0 {
		if os.Getuid() != 0 {
			return fmt.Errorf("apt's tests need packages that only root can install: apt-get install %s", strings.Join(missing, " "))
		}
		install := append([]string{"apt-get", "install", "--yes", "--no-install-recommends"}, missing...)
		if err := step(ctx, t.dir, install...); err != nil {
			return err
		}
	}
	if err := step(ctx, t.dir, "cmake", "-S", ".", "-B", build, "-DWITH_DOC=OFF", "-DWITH_TESTS=OFF", "-DUSE_NLS=OFF", "-DCMAKE_CXX_FLAGS=-O1"); err != nil {
		return err
	}
	if err := step(ctx, t.dir, "make", "-C", build); err != nil {
		return err
	}
	return os.WriteFile(done, nil, 0o644)
}

// missingPackages returns those of needed that are not installed.
func missingPackages() (missing []string) {
	for _, name := range needed {
		out, err := exec.Command("dpkg-query", "--show", "--showformat=${db:Status-Status}", name).Output()
		if err != nil || string(out) != "installed" {
			missing = append(missing, name)
		}
	}
	return missing
}
