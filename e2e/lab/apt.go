package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Apt is a host: the real apt with a root of its own, which neither reads nor writes
// anything of this machine's. It needs no privileges.
type Apt struct {
	// Dir is the root; Remove deletes it.
	Dir string
	// Programs has the apt that runs; nil: it is this machine's.
	Programs *Root
}

// HaveApt reports whether this machine has an apt to run.
func HaveApt() bool {
	_, err := exec.LookPath("apt-get")
	return err == nil
}

// NewApt makes a host. In sources, KEYRING stands for a file that holds keyring;
// settings are further lines of its apt.conf.
func NewApt(keyring []byte, sources string, settings ...string) (*Apt, error) {
	// apt sees commas and other syntax in some names, so this one is plain.
	dir, err := os.MkdirTemp("", "aptmesh-apt-")
	if err != nil {
		return nil, err
	}
	a := &Apt{Dir: dir}
	if err := a.furnish(keyring, sources, settings); err != nil {
		return nil, errors.Join(err, a.Remove())
	}
	return a, nil
}

func (a *Apt) furnish(keyring []byte, sources string, settings []string) error {
	for _, dir := range []string{"etc/apt/apt.conf.d", "etc/apt/preferences.d", "etc/apt/trusted.gpg.d", "state/lists/partial", "cache/archives/partial", "log", "work"} {
		if err := os.MkdirAll(filepath.Join(a.Dir, dir), 0o755); err != nil {
			return err
		}
	}
	return errors.Join(
		a.Write("keyring.gpg", string(keyring)),
		a.Write("status", ""),
		a.Write("etc/apt/sources.list", strings.ReplaceAll(sources, "KEYRING", filepath.Join(a.Dir, "keyring.gpg"))+"\n"),
		a.Write("apt.conf", fmt.Sprintf(`
Dir "%[1]s";
Dir::Etc "%[1]s/etc/apt";
Dir::State "%[1]s/state";
Dir::State::status "%[1]s/status";
Dir::Cache "%[1]s/cache";
Dir::Log "%[1]s/log";
APT::Architecture "amd64";
APT::Architectures { "amd64"; };
APT::Sandbox::User "root";
Debug::NoLocking "1";
Acquire::Languages "en";
%[2]s
`, a.Dir, strings.Join(settings, "\n"))),
	)
}

// Write writes a file, named relative to the root.
func (a *Apt) Write(name, text string) error {
	name = filepath.Join(a.Dir, name)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	return os.WriteFile(name, []byte(text), 0o644)
}

// Work is the directory in which commands run and leave what they download.
func (a *Apt) Work() string { return filepath.Join(a.Dir, "work") }

// Command is a command of apt's on this host, ready to run.
func (a *Apt) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	programs := a.Programs
	if !programs.Has(name) {
		programs = nil // what reads downloads, as dpkg-source does
	}
	cmd := programs.Command(ctx, name, args...)
	cmd.Dir = a.Work()
	cmd.Env = append(cmd.Env, "APT_CONFIG="+filepath.Join(a.Dir, "apt.conf"))
	return cmd
}

// Remove deletes the host and all it has downloaded.
func (a *Apt) Remove() error { return os.RemoveAll(a.Dir) }
