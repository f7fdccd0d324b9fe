package aptmeta

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// realApt is apt on this machine with a root of its own. Each repository is a directory that
// apt reads through its copy: method, all in one run.
type realApt struct {
	tb    testing.TB
	root  string
	names []string
}

func newRealApt(tb testing.TB, keyring []byte) *realApt {
	tb.Helper()
	if testing.Short() {
		tb.Skip("apt-get is run a hundred times: not in short mode")
	}
	if _, err := exec.LookPath("apt-get"); err != nil {
		tb.Skip("apt-get is not installed: nothing to compare with")
	}
	a := &realApt{tb: tb, root: tb.TempDir()}
	for _, dir := range []string{"etc/apt/apt.conf.d", "etc/apt/preferences.d", "etc/apt/trusted.gpg.d", "state/lists/partial", "cache/archives/partial", "log"} {
		a.mkdir(dir)
	}
	a.write("keyring.gpg", keyring)
	a.write("status", nil)
	// apt up to 2.8 runs gpgv through a long shell script. apt 3 runs it as this one does.
	a.write("verify", []byte("#!/bin/sh\nexec gpgv --ignore-time-conflict --keyring \"$4\" \"$6\" \"$7\" \"$8\" \"$9\"\n"))
	if err := os.Chmod(filepath.Join(a.root, "verify"), 0o755); err != nil {
		tb.Fatal(err)
	}
	a.write("apt.conf", fmt.Appendf(nil, `
Dir "%[1]s";
Dir::Etc "%[1]s/etc/apt";
Dir::State "%[1]s/state";
Dir::State::status "%[1]s/status";
Dir::Cache "%[1]s/cache";
Dir::Log "%[1]s/log";
Dir::Bin::apt-key "%[1]s/verify";
APT::Architecture "amd64";
APT::Architectures { "amd64"; };
APT::Sandbox::User "root";
Debug::NoLocking "1";
Acquire::Languages "none";
Acquire::Retries "0";
`, a.root))
	return a
}

func (a *realApt) mkdir(name string) {
	a.tb.Helper()
	if err := os.MkdirAll(filepath.Join(a.root, name), 0o755); err != nil {
		a.tb.Fatal(err)
	}
}

func (a *realApt) write(name string, data []byte) {
	a.tb.Helper()
	a.mkdir(filepath.Dir(name))
	if err := os.WriteFile(filepath.Join(a.root, name), data, 0o644); err != nil {
		a.tb.Fatal(err)
	}
}

// add lays down a repository. The paths are relative to its suite, dists/noble.
func (a *realApt) add(files map[string][]byte) {
	a.tb.Helper()
	name := fmt.Sprintf("case%03d", len(a.names))
	a.names = append(a.names, name)
	for path, data := range files {
		a.write(filepath.Join(name, "dists/noble", path), data)
	}
}

// update runs apt-get update over all repositories and returns which of them were accepted, by
// the order of add, and what apt said.
func (a *realApt) update(options string) (accepted []bool, said string) {
	a.tb.Helper()
	var sources strings.Builder
	for _, name := range a.names {
		fmt.Fprintf(&sources, "deb [signed-by=%[1]s/keyring.gpg %[2]s] copy:%[1]s/%[3]s noble main\n", a.root, options, name)
	}
	a.write("etc/apt/sources.list", []byte(sources.String()))
	said, _ = a.run("apt-get", "update") // it fails if one repository is refused
	accepted = make([]bool, len(a.names))
	for i, name := range a.names {
		for _, root := range []string{"InRelease", "Release"} {
			list := strings.ReplaceAll(filepath.Join(a.root, name, "dists/noble", root), "/", "_")
			if _, err := os.Stat(filepath.Join(a.root, "state/lists", list)); err == nil {
				accepted[i] = true
			}
		}
	}
	return accepted, said
}

// run runs a command of apt's and returns what it says.
func (a *realApt) run(name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.Dir = a.root
	cmd.Env = append(slices.DeleteFunc(os.Environ(), func(e string) bool {
		return strings.Contains(strings.ToLower(e), "_proxy=")
	}), "APT_CONFIG="+filepath.Join(a.root, "apt.conf"), "LC_ALL=C.UTF-8")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// about returns the lines in which apt mentions the repository with this number.
func (a *realApt) about(said string, n int) string {
	var lines []string
	for line := range strings.Lines(said) {
		if strings.Contains(line, a.names[n]) {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return strings.Join(lines, "\n")
}
