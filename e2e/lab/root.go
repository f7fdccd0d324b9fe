package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// Root is a directory with programs of a Debian release, which run there by chroot. Packages are unpacked and
// not configured, so it is no system to live in.
type Root struct {
	Dir string
}

// Unpack makes a root of packages of a Debian release and of what they depend on, from the mirror that this
// machine's apt is configured with. A root that an earlier call made of the same packages is used again.
// The error is half a sentence that says why there is none.
func Unpack(ctx context.Context, dir, release string, packages ...string) (*Root, error) {
	r := &Root{Dir: dir}
	made, contents := filepath.Join(dir, ".made-of"), release+" "+strings.Join(packages, " ")
	if text, err := os.ReadFile(made); err == nil && string(text) == contents {
		return r, nil
	}
	if os.Geteuid() != 0 {
		return nil, errors.New("chroot needs root")
	}
	mirror, err := debianMirror(ctx)
	if err != nil {
		return nil, err
	}
	if err := os.RemoveAll(dir); err != nil {
		return nil, err
	}
	if out, err := r.unpack(ctx, mirror, release, packages); err != nil {
		return nil, fmt.Errorf("%w: %s", err, lastLine(out))
	}
	return r, os.WriteFile(made, []byte(contents), 0o644)
}

// debianMirror is the URL of Debian's archive in this machine's own configuration.
func debianMirror(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "apt-get", "indextargets", "--format", "$(ORIGIN)/$(LABEL) $(REPO_URI)", "Created-By: Packages").Output()
	if err != nil {
		return "", fmt.Errorf("ask this machine's apt for its mirror: %w", err)
	}
	for line := range strings.Lines(string(out)) {
		if url, ok := strings.CutPrefix(strings.TrimSpace(line), "Debian/Debian "); ok {
			return url, nil
		}
	}
	return "", errors.New("this machine's apt has no mirror of Debian configured, or was never updated from it")
}

// unpack has this machine's apt work out and download what the packages need, as if nothing were installed.
func (r *Root) unpack(ctx context.Context, mirror, release string, packages []string) (string, error) {
	acquire, err := exec.CommandContext(ctx, "apt-config", "dump", "Acquire").Output() // its proxy, above all
	if err != nil {
		return "", err
	}
	key := "/usr/share/keyrings/debian-archive-keyring.gpg"
	host, err := NewApt(nil, fmt.Sprintf("deb [signed-by=%s] %s %s main", key, mirror, release), string(acquire),
		`Acquire::Languages "none"; Acquire::Check-Valid-Until "false"; APT::Install-Recommends "false";`)
	if err != nil {
		return "", err
	}
	defer host.Remove()
	for _, args := range [][]string{{"-qq", "update"}, append([]string{"-qq", "-y", "install", "--download-only"}, packages...)} {
		if out, err := host.Command(ctx, "apt-get", args...).CombinedOutput(); err != nil {
			return string(out), err
		}
	}
	for _, d := range []string{"bin", "sbin", "lib", "lib64"} { // or older packages make directories of them
		if err := os.MkdirAll(filepath.Join(r.Dir, "usr", d), 0o755); err != nil {
			return "", err
		}
		if err := os.Symlink("usr/"+d, filepath.Join(r.Dir, d)); err != nil {
			return "", err
		}
	}
	debs, err := filepath.Glob(filepath.Join(host.Dir, "cache/archives/*.deb"))
	if err != nil {
		return "", err
	}
	for _, deb := range debs {
		if out, err := exec.CommandContext(ctx, "dpkg-deb", "-x", deb, r.Dir).CombinedOutput(); err != nil {
			return string(out), err
		}
	}
	for name, minor := range map[string]int{"null": 3, "urandom": 9} {
		path := filepath.Join(r.Dir, "dev", name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), mknod(path, 1, minor)); err != nil {
			return "", err
		}
	}
	return "", errors.Join(os.MkdirAll(filepath.Join(r.Dir, "tmp"), 0o777),
		os.WriteFile(filepath.Join(r.Dir, "etc/passwd"), []byte("root:x:0:0:root:/root:/bin/sh\n"), 0o644),
		os.WriteFile(filepath.Join(r.Dir, "etc/group"), []byte("root:x:0:\n"), 0o644))
}

func mknod(path string, major, minor int) error {
	if err := syscall.Mknod(path, syscall.S_IFCHR|0o666, major<<8|minor); err != nil {
		return err
	}
	return os.Chmod(path, 0o666)
}

func lastLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return lines[len(lines)-1]
}

// Has reports whether there is a program of that name. Nil stands for this machine.
func (r *Root) Has(name string) bool {
	if r == nil {
		_, err := exec.LookPath(name)
		return err == nil
	}
	_, err := os.Stat(filepath.Join(r.Dir, "usr/bin", name))
	return err == nil
}

// Command is a program of the root, ready to run; of this machine, if the root is nil. It sees this machine's
// directory for temporary files under the same name, /dev and /proc, and nothing else of this machine. What is
// mounted for it goes away with it.
func (r *Root) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	if r == nil {
		cmd := exec.CommandContext(ctx, name, args...)
		cmd.Env = Environ("LC_ALL=C.UTF-8")
		DieWithUs(cmd)
		return cmd
	}
	const enter = `set -e; root=$1; tmp=$2; shift 2
mkdir -p "$root$tmp" "$root/proc"
mount --rbind /proc "$root/proc"; mount --rbind /dev "$root/dev"; mount --rbind "$tmp" "$root$tmp"
exec chroot "$root" /bin/sh -c 'cd "$1" 2>/dev/null || cd /; shift; exec "$@"' sh "$PWD" "$@"`
	cmd := exec.CommandContext(ctx, "unshare", append([]string{"--mount", "--propagation", "private",
		"/bin/sh", "-c", enter, "sh", r.Dir, filepath.Clean(os.TempDir()), name}, args...)...)
	cmd.Env = append(Environ("LC_ALL=C.UTF-8", "HOME=/root"), "PATH=/usr/sbin:/usr/bin:/sbin:/bin")
	DieWithUs(cmd)
	return cmd
}
