package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/aptmesh/aptmesh/e2e/lab"
)

// apt is one version of apt that can be run.
type apt struct {
	version string
	from    string // where it is from: "this machine", "trixie"
	root    string // the directory to chroot into; "" for none
}

// releases are those of Debian whose apt is tried, oldest first. One that is this
// machine's own is not fetched.
var releases = []string{"bullseye", "bookworm", "trixie", "sid"}

// parts are what apt needs to update with a signature and to download. gpgv of older
// versions is run by a shell script, and dpkg has the table of architectures.
var parts = []string{"apt", "gpgv", "dash", "coreutils", "sed", "grep", "mawk", "findutils", "base-files", "dpkg"}

// localApt is this machine's.
func localApt(ctx context.Context) (apt, error) {
	out, err := exec.CommandContext(ctx, "apt-get", "--version").Output()
	if err != nil {
		return apt{}, fmt.Errorf("this machine has no apt to try: %w", err)
	}
	return apt{version: versionIn(string(out)), from: "this machine"}, nil
}

// versionIn reads the first line of "apt-get --version": "apt 2.6.1 (amd64)".
func versionIn(out string) string {
	if f := strings.Fields(out); len(f) > 1 && f[0] == "apt" {
		return f[1]
	}
	return "unknown"
}

// fetchApt unpacks the apt of a Debian release below dir, from the mirror that this
// machine's apt is configured with. The error is a sentence for the page.
func fetchApt(ctx context.Context, dir, release string) (apt, error) {
	a := apt{from: release, root: filepath.Join(dir, release, "root")}
	if _, err := lab.Unpack(ctx, a.root, release, parts...); err != nil {
		return a, fmt.Errorf("the apt of %s is not tried: %w", release, err)
	}
	out, err := exec.CommandContext(ctx, "chroot", a.root, "/usr/bin/apt-get", "--version").Output()
	if err != nil {
		return a, fmt.Errorf("the apt of %s is not tried: it does not start: %w", release, err)
	}
	a.version = versionIn(string(out))
	return a, nil
}

// host is one apt with lists and a cache of its own.
type host struct {
	apt  apt
	dir  string // as this process sees it
	seen string // as apt sees it
}

// newHost makes a host with these sources, where KEYRING stands for a file that holds
// keyring, and further settings.
func (a apt) newHost(keyring []byte, sources string, settings ...string) (*host, error) {
	parent := os.TempDir()
	if a.root != "" {
		parent = filepath.Join(a.root, "tmp")
	}
	dir, err := os.MkdirTemp(parent, "aptmesh-answers-")
	if err != nil {
		return nil, err
	}
	h := &host{a, dir, strings.TrimPrefix(dir, a.root)}
	for _, d := range []string{"etc/apt.conf.d", "etc/preferences.d", "etc/trusted.gpg.d", "state/lists/partial", "cache/archives/partial", "log", "tmp"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return nil, err
		}
	}
	conf := fmt.Sprintf(`Dir "%[1]s"; Dir::Etc "%[1]s/etc"; Dir::State "%[1]s/state"; Dir::State::status "%[1]s/status";
Dir::Cache "%[1]s/cache"; Dir::Log "%[1]s/log"; APT::Architecture "amd64"; APT::Architectures { "amd64"; };
APT::Sandbox::User "root"; Debug::NoLocking "1"; Acquire::Languages "none";
%[2]s
`, h.seen, strings.Join(settings, "\n"))
	for name, text := range map[string]string{
		"keyring.gpg": string(keyring), "status": "", "apt.conf": conf,
		"etc/sources.list": strings.ReplaceAll(sources, "KEYRING", h.seen+"/keyring.gpg") + "\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return nil, err
		}
	}
	return h, nil
}

func (h *host) remove() error { return os.RemoveAll(h.dir) }

// command is one of apt-get. Ending ctx ends it and its methods. Without /proc, old
// versions close every file that there could be before they start a method, so there are
// few.
func (h *host) command(ctx context.Context, args ...string) *exec.Cmd {
	run := append([]string{"apt-get"}, args...)
	if h.apt.root != "" {
		run = append([]string{"chroot", h.apt.root, "/usr/bin/apt-get"}, args...)
	}
	cmd := exec.CommandContext(ctx, "/bin/sh", append([]string{"-c", `ulimit -n 256; exec "$@"`, "sh"}, run...)...)
	cmd.Dir = h.dir
	cmd.Env = append(lab.Environ("APT_CONFIG="+h.seen+"/apt.conf", "LC_ALL=C", "TMPDIR="+h.seen+"/tmp"), "PATH=/usr/sbin:/usr/bin:/sbin:/bin")
	lab.DieWithUs(cmd)
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	return cmd
}
