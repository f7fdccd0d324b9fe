package lab

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Dnf is a host with a root of its own, whose only repository is "r".
type Dnf struct {
	Dir      string
	programs *Root
	program  string
	fixed    []string // arguments of every run
}

// NewDnf makes a host in dir, whose repository has that URL, or is described by lines of a .repo file, such as
// "metalink=URL". programs has dnf, which is called program there; settings are further values of --setopt.
func NewDnf(programs *Root, program, dir, url string, settings ...string) (*Dnf, error) {
	at := func(name string) string { return filepath.Join(dir, name) }
	source := []string{"--repofrompath=r," + url, "--setopt=reposdir=/dev/null"}
	if key, _, _ := strings.Cut(url, "="); !strings.Contains(key, ":") {
		source = []string{"--setopt=reposdir=" + at("repos")}
		if err := errors.Join(makeDirs(dir, "repos"), os.WriteFile(at("repos/r.repo"), []byte("[r]\nname=r\n"+url+"\n"), 0o644)); err != nil {
			return nil, err
		}
	}
	h := &Dnf{Dir: dir, programs: programs, program: program, fixed: append(source, "--quiet", "--assumeyes", "--repo=r", "--releasever=1",
		"--installroot="+at("root"), "--setopt=cachedir="+at("cache"), "--setopt=logdir="+at("log"), "--setopt=varsdir=/dev/null",
		"--setopt=r.gpgcheck=0", "--setopt=skip_if_unavailable=0", "--setopt=install_weak_deps=0")}
	for _, s := range settings {
		h.fixed = append(h.fixed, "--setopt="+s)
	}
	return h, makeDirs(dir, "root", "cache", "log", "gpg")
}

// Command is a run of dnf.
func (h *Dnf) Command(ctx context.Context, args ...string) *exec.Cmd {
	return h.programs.Command(ctx, h.program, append(slices.Clone(h.fixed), args...)...)
}

// Pacman is a host with a root of its own.
type Pacman struct {
	Dir      string
	Programs *Root
}

// NewPacman makes a host in dir with one repository, in that directory of its servers, in order. A server may be a
// line of its own: "CacheServer = URL".
func NewPacman(programs *Root, dir, repo, below string, servers ...string) (*Pacman, error) {
	text := "[options]\nArchitecture = x86_64\nSigLevel = Never\nParallelDownloads = 4\n[" + repo + "]\n"
	for _, s := range servers {
		if !strings.Contains(s, "Server = ") {
			s = "Server = " + s
		}
		text += s + "/" + below + "\n"
	}
	h := &Pacman{Dir: dir, Programs: programs}
	return h, errors.Join(makeDirs(dir, "root", "db", "cache", "hooks", "gpg"), os.WriteFile(h.Config(), []byte(text), 0o644))
}

// Config is its pacman.conf.
func (h *Pacman) Config() string { return filepath.Join(h.Dir, "pacman.conf") }

// Command is a run of pacman.
func (h *Pacman) Command(ctx context.Context, args ...string) *exec.Cmd {
	at := func(name string) string { return filepath.Join(h.Dir, name) }
	all := append([]string{"--config", h.Config(), "-r", at("root"), "-b", at("db"), "--cachedir", at("cache"),
		"--logfile", at("log"), "--hookdir", at("hooks"), "--gpgdir", at("gpg"), "--noconfirm", "--noprogressbar"}, args...)
	if os.Getuid() != 0 { // it wants to be root, and writes nowhere else
		return h.Programs.Command(ctx, "fakeroot", append([]string{"pacman"}, all...)...)
	}
	return h.Programs.Command(ctx, "pacman", all...)
}

func makeDirs(dir string, names ...string) error {
	for _, name := range names {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
			return err
		}
	}
	return nil
}
