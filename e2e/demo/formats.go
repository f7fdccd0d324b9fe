package main

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
	"github.com/aptmesh/aptmesh/e2e/lab"
	"github.com/aptmesh/aptmesh/node/format/pacman/testrepo"
	"github.com/aptmesh/aptmesh/node/format/rpm/rpmarchive"
)

// product is a package of the demo's archive.
type product struct {
	name    string
	version int
	size    int64
}

// format is a repository format: how its archive is made, and how a host with the real package manager uses it.
type format struct {
	name, program string
	// update and fetch are how its commands are called in the story.
	update, fetch string
	root          string   // of the suite
	reads         []string // paths that the package manager reads first
	// publish makes a generation of these packages, signed, and tells where they lie.
	publish func(a *testarchive.Archive, date time.Time, all []product) (paths map[string]string)
	host    func(d *demo, n *lab.Node, dir string) (host, error)
}

// host is a machine with the real package manager.
type host interface {
	// update learns what there is; fetch downloads packages.
	update(ctx context.Context) *exec.Cmd
	fetch(ctx context.Context, packages ...string) *exec.Cmd
	remove() error
}

var formats = []format{
	{
		name: "apt", program: "apt-get", update: "apt-get update", fetch: "apt-get -y --download-only install",
		root: "dists/noble/InRelease", reads: []string{"dists/noble/InRelease", "dists/noble/main/binary-amd64/Packages.xz"},
		publish: publishApt,
		host: func(d *demo, n *lab.Node, _ string) (host, error) {
			h, err := lab.NewApt(d.archive.Keyring(), fmt.Sprintf("deb [signed-by=KEYRING] %s/demo noble main", n.URL()))
			return aptHost{h}, err
		},
	},
	{
		name: "rpm", program: "dnf", update: "dnf makecache", fetch: "dnf --downloadonly install",
		root: "repodata/repomd.xml", reads: []string{"repodata/repomd.xml"},
		publish: publishRPM,
		host: func(d *demo, n *lab.Node, dir string) (host, error) {
			h, err := lab.NewDnf(nil, "dnf", dir, n.URL()+"/demo", "r.repo_gpgcheck=1", "r.gpgkey=file://"+d.keyFile())
			return dnfHost{h}, err
		},
	},
	{
		name: "pacman", program: "pacman", update: "pacman -Sy", fetch: "pacman -Sw",
		root: pacmanDir + "/core.db", reads: []string{pacmanDir + "/core.db"},
		publish: publishPacman,
		host: func(_ *demo, n *lab.Node, dir string) (host, error) {
			h, err := lab.NewPacman(nil, dir, "core", pacmanDir, n.URL()+"/demo")
			return pacmanHost{h}, err
		},
	},
}

// present reports whether this machine has the package manager.
func (f format) present() bool { return (*lab.Root)(nil).Has(f.program) }

func formatNamed(name string) (format, error) {
	i := slices.IndexFunc(formats, func(f format) bool { return f.name == name })
	if i < 0 {
		return format{}, fmt.Errorf("--format %s: there are apt, rpm and pacman", name)
	}
	return formats[i], nil
}

func publishApt(a *testarchive.Archive, date time.Time, all []product) map[string]string {
	if len(a.Files()) == 0 {
		a.AddSuite(testarchive.Suite{Name: "noble", ByHash: true, Translations: true})
	}
	paths := make(map[string]string)
	for _, p := range all {
		paths[p.name] = a.AddPackage("noble", testarchive.Package{Name: p.name, Version: fmt.Sprint(p.version), Size: p.size})
	}
	a.Publish(date)
	return paths
}

func publishRPM(a *testarchive.Archive, date time.Time, all []product) map[string]string {
	r := rpmarchive.Repo{Date: date, Key: testarchive.DefaultKey(), Edit: withoutRequires}
	paths := make(map[string]string)
	for _, p := range all {
		version := fmt.Sprint(p.version)
		paths[p.name] = fmt.Sprintf("Packages/%c/%s-%s-1.x86_64.rpm", p.name[0], p.name, version)
		r.Packages = append(r.Packages, rpmarchive.Package{Name: p.name, Version: version, Size: int(p.size)})
	}
	put(a, r.Render(""), date)
	return paths
}

// withoutRequires lets dnf install a package on a host that has nothing.
func withoutRequires(kind, text string) string {
	if kind != "primary" {
		return text
	}
	var b strings.Builder
	for line := range strings.Lines(text) {
		if !strings.Contains(line, `name="libc.so.6()(64bit)"`) {
			b.WriteString(line)
		}
	}
	return b.String()
}

const pacmanDir = "core/os/x86_64"

func publishPacman(a *testarchive.Archive, date time.Time, all []product) map[string]string {
	r := testrepo.Repo{Dir: pacmanDir, Name: "core", Built: date, Key: testarchive.DefaultKey()}
	paths := make(map[string]string)
	for _, p := range all {
		pkg := testrepo.Package{Name: p.name, Version: fmt.Sprintf("%d-1", p.version), Size: int(p.size)}
		paths[p.name] = pacmanDir + "/" + pkg.File()
		r.Packages = append(r.Packages, pkg)
	}
	files := make(map[string][]byte)
	r.Render(files)
	put(a, files, date)
	return paths
}

// put shows files, of which packages that are there already stay as they are. The root comes last.
func put(a *testarchive.Archive, files map[string][]byte, date time.Time) {
	last := func(name string) int {
		if strings.HasSuffix(name, "repomd.xml") || strings.HasSuffix(name, ".db") {
			return 1
		}
		return 0
	}
	names := slices.SortedFunc(maps.Keys(files), func(x, y string) int { return last(x) - last(y) })
	for _, name := range names {
		if f, there := a.Lookup(name); !there || !bytes.Equal(f.Data, files[name]) {
			a.Put(name, files[name], date)
		}
	}
}

// keyFile is a file with the key that signs the archive.
func (d *demo) keyFile() string { return filepath.Join(d.dir, "archive.asc") }

// writeKeys writes what nodes and hosts check signatures with.
func (d *demo) writeKeys() error {
	return os.WriteFile(d.keyFile(), testarchive.ArmoredKeyring(testarchive.DefaultKey()), 0o644)
}

type aptHost struct{ *lab.Apt }

func (h aptHost) update(ctx context.Context) *exec.Cmd { return h.Command(ctx, "apt-get", "update") }

func (h aptHost) fetch(ctx context.Context, packages ...string) *exec.Cmd {
	return h.Command(ctx, "apt-get", append([]string{"-y", "--download-only", "install"}, packages...)...)
}

func (h aptHost) remove() error { return h.Remove() }

type dnfHost struct{ *lab.Dnf }

func (h dnfHost) update(ctx context.Context) *exec.Cmd {
	return h.Command(ctx, "makecache", "--refresh")
}

func (h dnfHost) fetch(ctx context.Context, packages ...string) *exec.Cmd {
	return h.Command(ctx, append([]string{"install", "--downloadonly"}, packages...)...)
}

func (h dnfHost) remove() error { return os.RemoveAll(h.Dir) }

type pacmanHost struct{ *lab.Pacman }

func (h pacmanHost) update(ctx context.Context) *exec.Cmd { return h.Command(ctx, "-Sy") }

func (h pacmanHost) fetch(ctx context.Context, packages ...string) *exec.Cmd {
	return h.Command(ctx, append([]string{"-Sw"}, packages...)...)
}

func (h pacmanHost) remove() error { return os.RemoveAll(h.Dir) }
