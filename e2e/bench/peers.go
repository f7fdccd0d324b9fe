package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/aptmesh/aptmesh/e2e/lab"
)

// peer is one kind of server that can be measured.
type peer struct {
	name string
	// reference marks a server that is no cache: it reads the archive's files from
	// the disk, and takes part only where nothing has to be fetched.
	reference bool
	// maxConnections is how many it can hold at all; 0 = no limit of its own.
	maxConnections int
	// volatile marks a cache that a restart empties.
	volatile bool
	// find returns the program, or an error that says how to get it.
	find func(options) (string, error)
	// command writes a configuration into the place's directory and returns what
	// starts the server with it.
	command func(place) (*exec.Cmd, error)
}

// place is where a server is to run and what it works on.
type place struct {
	program  string
	dir      string // its own: configuration, cache, logs
	addr     string // host and port to listen on
	upstream string // host and port of the archive
	files    string // directory with the archive's files
	keyring  string // file with the archive's public keys
	format   string // of the archive
}

// allPeers stands in the order of the tables.
var allPeers = []peer{
	{name: "nginx", find: debian("nginx", "nginx"), command: nginxCommand},
	{name: "varnish", find: debian("varnish", "varnishd"), command: varnishCommand, volatile: true},
	// It waits in select(2) and takes no more than 1024 descriptors.
	{name: "acng", find: debian("apt-cacher-ng", "apt-cacher-ng"), command: acngCommand, maxConnections: 900},
	{name: "go-static", find: func(options) (string, error) { return os.Executable() }, command: goStaticCommand, reference: true},
	{name: "aptmesh", find: findAptmesh, command: aptmeshCommand},
}

func peerList() string {
	var all []string
	for _, p := range allPeers {
		all = append(all, p.name)
	}
	return strings.Join(all, ",")
}

// debian finds a program that comes in one of Debian's packages.
func debian(pkg, name string) func(options) (string, error) {
	return func(o options) (string, error) {
		program, err := lookSystem(pkg, name)
		if err == nil || !o.install {
			return program, err
		}
		if err := install(pkg); err != nil {
			return "", err
		}
		return lookSystem(pkg, name)
	}
}

// lookSystem looks for a program, also where a user's PATH may not lead.
func lookSystem(pkg, name string) (string, error) {
	if program, err := exec.LookPath(name); err == nil {
		return program, nil
	}
	if program, err := exec.LookPath(filepath.Join("/usr/sbin", name)); err == nil {
		return program, nil
	}
	return "", fmt.Errorf("%s is not installed: apt-get install %s, or run this with --install", name, pkg)
}

// install installs a Debian package and stops the service that comes with it.
func install(name string) error {
	progress("installing %s", name)
	cmd := exec.Command("apt-get", "install", "-y", "--no-install-recommends", name)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("apt-get install %s: %w", name, err)
	}
	// Where the machine lets packages start services, this one would compete.
	if out, err := exec.Command("service", name, "stop").CombinedOutput(); err != nil {
		progress("service %s stop: %v: %s", name, err, strings.TrimSpace(string(out)))
	}
	return nil
}

// findAptmesh returns the binary given, or builds it from this very tree.
func findAptmesh(o options) (string, error) {
	if o.aptmesh != "" {
		return filepath.Abs(o.aptmesh)
	}
	program := filepath.Join(o.temp, "aptmesh.built")
	if out, err := exec.Command("go", "build", "-o", program, "github.com/aptmesh/aptmesh/cmd/aptmesh").CombinedOutput(); err != nil {
		return "", fmt.Errorf("building aptmesh: %w: %s", err, firstLine(out))
	}
	return program, nil
}

func firstLine(b []byte) string {
	line, _, _ := strings.Cut(strings.TrimSpace(string(b)), "\n")
	return line
}

// writeConfig writes a configuration file, its lines as they stand.
func writeConfig(name, text string) error { return os.WriteFile(name, []byte(text), 0o644) }

// replaceInFile replaces what must be there exactly once.
func replaceInFile(name, old, new string) error {
	text, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	if n := strings.Count(string(text), old); n != 1 {
		return fmt.Errorf("%s has %q %d times", name, old, n)
	}
	return writeConfig(name, strings.Replace(string(text), old, new, 1))
}

// acngCommand leaves apt-cacher-ng at its defaults but for places and ports.
func acngCommand(p place) (*exec.Cmd, error) {
	host, port, _ := strings.Cut(p.addr, ":")
	err := writeConfig(filepath.Join(p.dir, "acng.conf"), fmt.Sprintf(`
CacheDir: %[1]s/cache
LogDir: %[1]s/log
SocketPath: %[1]s/socket
PidFile: %[1]s/pid
BindAddress: %[2]s
Port: %[3]s
Remap-%[4]s: /%[4]s ; http://%[5]s/%[4]s
AllowUserPorts: 0
ForeGround: 1
VerboseLog: 0
ExThreshold: 4
`, p.dir, host, port, mount, p.upstream))
	for _, sub := range []string{"cache", "log"} {
		if err == nil {
			err = os.MkdirAll(filepath.Join(p.dir, sub), 0o755)
		}
	}
	return exec.Command(p.program, "-c", p.dir), err
}

// goStaticCommand runs this program once more, as a static file server.
func goStaticCommand(p place) (*exec.Cmd, error) {
	return exec.Command(p.program, goStaticArg, p.files, p.addr), nil
}

// node is aptmesh in this place.
func (p place) node() *lab.Node { return &lab.Node{Addr: p.addr, Dir: p.dir} }

func aptmeshCommand(p place) (*exec.Cmd, error) {
	n := p.node()
	n.Settings = fmt.Sprintf(`cache: {max_size: 20GiB, memory: 256MiB, scrub: 0}
log: {level: warn, format: text, access: false}
%s`, p.section(""))
	return n.Command(p.program), n.WriteConfig()
}

// chosen returns the peers that were asked for.
func chosen(o options) []peer {
	return slices.DeleteFunc(slices.Clone(allPeers), func(p peer) bool { return !wants(o.peers, p.name) })
}
