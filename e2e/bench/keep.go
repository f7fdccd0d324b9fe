package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
	"github.com/aptmesh/aptmesh/e2e/bench/origin"
	"github.com/aptmesh/aptmesh/e2e/bench/proc"
)

// Tools that keep a whole suite on a disk of one's own, side by side with `aptmesh mirror`.

const (
	keptPackages = 1000
	keptChanged  = keptPackages / 50 // 2 %, in the publication after
	keptKills    = 12                // how often a run is killed
	keepPatience = 5 * time.Minute
)

// keeper is one way to keep a suite.
type keeper struct {
	name string
	// find returns the program, or an error that says how to get it.
	find func(options) (string, error)
	// make prepares a place.
	make func(b *bench, pl place) (kept, error)
}

// kept is a suite that is kept in a place.
type kept interface {
	// run brings it up to date, and returns the CPU time that it took. A nil error means that all is there.
	run() (time.Duration, error)
	// kill starts a run and ends all of it as a loss of power would, after a time.
	kill(after time.Duration) error
	// tree is what hosts would get just now, without upstream.
	tree() (tree, error)
	// dir is what lies on the disk.
	dir() string
	close() error
}

// apt-mirror is not among them: it loses files of an archive at a port of its own.
var keepers = []keeper{
	{"debmirror", debian("debmirror", "debmirror"), keepWith(debmirrorSteps)},
	{"aptly", debian("aptly", "aptly"), keepWith(aptlySteps)},
	{"go-apt-mirror", func(options) (string, error) { return lookSystem("go-apt-mirror", "go-apt-mirror") }, keepWith(goAptMirrorSteps)},
	{"aptmesh", findAptmesh, keepWithAptmesh},
}

func keeperList() string {
	var all []string
	for _, k := range keepers {
		all = append(all, k.name)
	}
	return strings.Join(all, ",")
}

// keepSuites measures a first run, one that finds nothing new, and one after 2 % of the packages have
// changed; then it kills runs at random, and looks at what hosts would get.
func keepSuites(b *bench) error {
	b.report.heading(2, "T. Keeping a whole suite: aptmesh mirror beside tools that mirror")
	first, next, last := keptArchives()
	b.report.printf(`A suite of %d packages, %s. "2 %%" is after %d of them have a new version. Bytes are all that upstream sent, to those of the new packages alone.
"broken" is how often, of %d runs that were killed with SIGKILL at a random moment and begun again, a host that updates and installs everything from what is
there would fail, without upstream. The tools keep their trees on the disk for a web server; aptmesh serves what it holds. aptly's tree is published after each run, signed with no key.
aptmesh and debmirror keep every compression of an index, aptly one.
`, keptPackages, bytesText(float64(newBytes(&archive{}, first))), keptChanged, keptKills)
	var rows [][]string
	base := make(map[string]float64)
	for _, k := range keepers {
		if len(b.peers) > 0 && !wants(b.peers, k.name) {
			continue
		}
		program, err := k.find(b.options)
		if err != nil {
			b.report.note("**%s is left out**: %v", k.name, err)
			continue
		}
		progress("   %s", k.name)
		row, err := b.keep(k, program, []*archive{first, next, last}, base)
		if err != nil {
			b.report.note("%s: %v", k.name, err)
			continue
		}
		rows = append(rows, row)
	}
	b.report.table([]string{"tool", "first run s", "CPU s", "bytes / new", "unchanged s", "CPU s", "requests", "2 % s", "CPU s", "bytes / new", "requests", "killed: broken", "on disk"}, rows)
	return nil
}

// keep measures one tool.
func (b *bench) keep(k keeper, program string, archives []*archive, base map[string]float64) (row []string, err error) {
	g, pl, err := b.newGroup("keep-"+k.name, archives[0])
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, g.close(), os.RemoveAll(pl.dir)) }()
	pl.program = program
	if pl.addr, err = freeAddr(); err != nil {
		return nil, err
	}
	suite, err := k.make(b, pl)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, suite.close()) }()
	row = []string{k.name}
	// step makes one run, which must leave a tree that is whole.
	step := func(what string, fresh int64) error {
		g.origin.Reset()
		began := time.Now()
		cpu, err := suite.run()
		took := time.Since(began)
		if err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		t, err := suite.tree()
		if err != nil {
			return err
		}
		if why := t.broken(); why != "" {
			return fmt.Errorf("%s: what is there then is not whole: %s", what, why)
		}
		c := g.origin.Counts()
		row = append(row, number(took.Seconds()), number(cpu.Seconds()))
		if fresh > 0 {
			row = append(row, fmt.Sprintf("%.2f", float64(c.Bytes)/float64(fresh)))
		}
		if what != "first run" {
			row = append(row, fmt.Sprint(c.Total()))
		}
		for _, m := range []struct {
			measure, of string
			got         float64
		}{{"seconds", "the fastest", took.Seconds()}, {"bytes of upstream", "the fewest", float64(c.Bytes)}} {
			best, known := base[what+m.measure]
			switch {
			case k.name == "aptmesh" && best > 0:
				b.report.goal(goal{what: fmt.Sprintf("T: %s, %s to %s of the tools", what, m.measure, m.of), got: m.got / best, limit: 1.05})
			case k.name != "aptmesh" && (!known || m.got < best):
				base[what+m.measure] = m.got
			}
		}
		return nil
	}
	if err := step("first run", newBytes(&archive{}, archives[0])); err != nil {
		return nil, err
	}
	if err := step("unchanged run", 0); err != nil {
		return nil, err
	}
	g.origin.SetFiles(archives[1].files)
	if err := step("run after 2 %", newBytes(archives[0], archives[1])); err != nil {
		return nil, err
	}
	broken, why, err := b.killRuns(suite, g.origin, archives[2])
	if err != nil {
		return nil, err
	}
	if why != "" {
		progress("   %s: broken: %s", k.name, why)
	}
	if k.name == "aptmesh" {
		b.report.goal(goal{what: "T: runs that were killed and left a broken tree", got: float64(broken), limit: 0})
	}
	size, err := onDisk(suite.dir())
	return append(row, fmt.Sprintf("%d of %d", broken, keptKills), bytesText(float64(size))), err
}

// killRuns kills runs that bring what the archive published last, and counts how often hosts would
// fail with what is there. In the end a run is let be, and must do.
func (b *bench) killRuns(suite kept, o *origin.Origin, last *archive) (broken int, why string, err error) {
	o.SetFiles(last.files)
	// As slow as a real line, so that there are moments to be killed in.
	o.SetShape(origin.Shape{BytesPerSecond: 20e6})
	defer o.SetShape(origin.Shape{})
	moments := rand.New(rand.NewPCG(1, 2))
	for i := range keptKills {
		if b.ctx.Err() != nil {
			return 0, "", b.ctx.Err()
		}
		if err := suite.kill(time.Duration(moments.IntN(1500)+50) * time.Millisecond); err != nil {
			return 0, "", err
		}
		t, err := suite.tree()
		if err != nil {
			return 0, "", err
		}
		if found := t.broken(); found != "" {
			broken++
			why = fmt.Sprintf("after kill %d: %s", i+1, found)
		}
	}
	if _, err := suite.run(); err != nil {
		return 0, "", fmt.Errorf("the run after the last that was killed: %w", err)
	}
	t, err := suite.tree()
	if err != nil {
		return 0, "", err
	}
	if found := t.broken(); found != "" {
		return 0, "", fmt.Errorf("the run after the last that was killed leaves what is not whole: %s", found)
	}
	return broken, why, nil
}

// keptArchives are an archive, the same after 2 % of its packages have changed, and after a third of
// them have.
func keptArchives() (first, next, last *archive) {
	src := testarchive.New(31)
	src.AddSuite(testarchive.Suite{Name: "stable", ByHash: true})
	date := time.Now().Add(-24 * time.Hour)
	add := func(n int, version string) {
		for i := range n {
			name := fmt.Sprintf("kept%04d", i)
			if version != "1" {
				src.RemovePackage("stable", name)
			}
			src.AddPackage("stable", testarchive.Package{Name: name, Version: version, Size: int64(8_000 + i*200)})
		}
	}
	publish := func(minutes int) *archive {
		a := &archive{}
		a.publish(src, date.Add(time.Duration(minutes)*time.Minute))
		return a
	}
	add(keptPackages, "1")
	first = publish(0)
	add(keptChanged, "2")
	next = publish(1)
	add(keptPackages/3, "3")
	return first, next, publish(2)
}

// newBytes are those of the packages that were not there before.
func newBytes(before, after *archive) (n int64) {
	for name, f := range after.files {
		if _, known := before.files[name]; !known && path.Ext(name) == ".deb" {
			n += int64(len(f.Body))
		}
	}
	return n
}

// onDisk is how much a directory takes, a file with several names once.
func onDisk(dir string) (n int64, err error) {
	seen := make(map[uint64]bool)
	err = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok && !seen[st.Ino] {
			seen[st.Ino] = true
			n += st.Blocks * 512
		}
		return nil
	})
	return n, err
}

// keptByTool is a suite that a program keeps as a tree.
type keptByTool struct {
	pl    place
	root  string // of the tree
	steps []func() *exec.Cmd
	log   string
	cores []int
}

// keepWith is a tool that is run as steps, one after the other, and leaves its tree in a directory.
func keepWith(steps func(pl place) (root string, steps []func() *exec.Cmd, err error)) func(*bench, place) (kept, error) {
	return func(b *bench, pl place) (kept, error) {
		root, all, err := steps(pl)
		return &keptByTool{pl, root, all, filepath.Join(pl.dir, "output.log"), b.serverCores}, err
	}
}

func (k *keptByTool) start(cmd *exec.Cmd) error {
	log, err := os.OpenFile(k.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append(cmd.Environ(), "HOME="+k.pl.dir, "GNUPGHOME="+k.pl.dir, "http_proxy=", "no_proxy=*")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	return proc.StartOn(cmd, k.cores)
}

func (k *keptByTool) run() (cpu time.Duration, err error) {
	for _, step := range k.steps {
		cmd := step()
		if err := k.start(cmd); err != nil {
			return 0, err
		}
		timer := time.AfterFunc(keepPatience, func() { syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
		err := cmd.Wait()
		timer.Stop()
		cpu += cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
		if err != nil {
			return 0, fmt.Errorf("%v: %w: %s", cmd.Args, err, tail(k.log))
		}
	}
	return cpu, nil
}

func (k *keptByTool) kill(after time.Duration) error {
	ended := make(chan struct{})
	timer := time.NewTimer(after)
	defer timer.Stop()
	for _, step := range k.steps {
		cmd := step()
		if err := k.start(cmd); err != nil {
			return err
		}
		go func() { _ = cmd.Wait(); ended <- struct{}{} }()
		select {
		case <-ended: // the next step, which is killed in its turn
		case <-timer.C:
			err := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
			<-ended
			return err
		}
	}
	return nil
}

func (k *keptByTool) tree() (tree, error) { return dirTree(k.root), nil }
func (k *keptByTool) dir() string         { return k.pl.dir }
func (k *keptByTool) close() error        { return nil }

func debmirrorSteps(pl place) (string, []func() *exec.Cmd, error) {
	root := filepath.Join(pl.dir, "mirror")
	return root, []func() *exec.Cmd{func() *exec.Cmd {
		return exec.Command(pl.program, root, "--host="+pl.upstream, "--root=/"+mount, "--method=http", "--dist=stable", "--section=main", "--arch=amd64",
			"--nosource", "--keyring="+pl.keyring, "--diff=none", "--postcleanup", "--rsync-extra=none")
	}}, nil
}

func aptlySteps(pl place) (string, []func() *exec.Cmd, error) {
	conf := filepath.Join(pl.dir, "aptly.conf")
	err := writeConfig(conf, fmt.Sprintf(`{"rootDir": %q, "downloadConcurrency": 8, "architectures": ["amd64"]}`, filepath.Join(pl.dir, "aptly")))
	aptly := func(args ...string) *exec.Cmd {
		return exec.Command(pl.program, append([]string{"-config=" + conf}, args...)...)
	}
	once := "test -e " + filepath.Join(pl.dir, "created") + " || "
	sh := func(script string) *exec.Cmd { return exec.Command("sh", "-ec", script) }
	n := 0
	name := ""
	return filepath.Join(pl.dir, "aptly/public"), []func() *exec.Cmd{
		func() *exec.Cmd {
			return sh(once + fmt.Sprintf("{ %s -config=%s mirror create -ignore-signatures kept http://%s/%s stable main; touch %[5]s/created; }", pl.program, conf, pl.upstream, mount, pl.dir))
		},
		func() *exec.Cmd { return aptly("mirror", "update", "-ignore-signatures", "kept") },
		func() *exec.Cmd {
			n++
			name = fmt.Sprintf("s%d", n)
			return aptly("snapshot", "create", name, "from", "mirror", "kept")
		},
		func() *exec.Cmd {
			return sh(fmt.Sprintf("if test -e %[1]s/published; then %[2]s -config=%[3]s publish switch -skip-signing stable %[4]s; else %[2]s -config=%[3]s publish snapshot -skip-signing -distribution=stable %[4]s; touch %[1]s/published; fi",
				pl.dir, pl.program, conf, name))
		},
	}, err
}

func goAptMirrorSteps(pl place) (string, []func() *exec.Cmd, error) {
	conf := filepath.Join(pl.dir, "mirror.toml")
	err := writeConfig(conf, fmt.Sprintf("dir = %q\nmax_conns = 8\n[mirror.kept]\nurl = \"http://%s/%s\"\nsuites = [\"stable\"]\nsections = [\"main\"]\narchitectures = [\"all\", \"amd64\"]\n",
		filepath.Join(pl.dir, "mirror"), pl.upstream, mount))
	err = errors.Join(err, os.MkdirAll(filepath.Join(pl.dir, "mirror"), 0o755))
	return filepath.Join(pl.dir, "mirror/kept"), []func() *exec.Cmd{func() *exec.Cmd { return exec.Command(pl.program, "-f", conf) }}, err
}

// keptByNode is a suite that a node holds. As with aptly, a run brings the mirror up to date, takes a snapshot
// of it, and moves the channel to that; hosts use the channel.
type keptByNode struct {
	s         *server
	snapshots int
}

func keepWithAptmesh(b *bench, pl place) (kept, error) {
	pl.dir = filepath.Join(pl.dir, "node")
	if err := os.MkdirAll(pl.dir, 0o755); err != nil {
		return nil, err
	}
	s := &server{peer: peer{name: "aptmesh", command: func(p place) (*exec.Cmd, error) {
		cmd, err := aptmeshCommand(p)
		if err != nil {
			return nil, err
		}
		return cmd, replaceInFile(filepath.Join(p.dir, "aptmesh.yaml"), "\narchives:", "\nprefetch: {enabled: false}\nmirrors:\n  kept: {archive: "+mount+", suites: [stable], components: [main], architectures: [amd64], follow: false}\narchives:")
	}}, place: pl, node: pl.node()}
	s.cores = b.serverCores
	_, err := s.start(nil, 20*time.Second)
	return &keptByNode{s: s}, err
}

// steps are the commands of a run.
func (k *keptByNode) steps() (all []*exec.Cmd) {
	k.snapshots++
	name := fmt.Sprintf("s%d", k.snapshots)
	for _, words := range [][]string{
		{"mirror", "run", "kept"}, {"snapshot", "create", name, "--archive", mount, "--hold", "all"}, {"channel", "set", "stable", name},
	} {
		all = append(all, exec.Command(k.s.program, append(words, "--admin", k.s.node.Admin(), "--json")...))
	}
	return all
}

func (k *keptByNode) run() (time.Duration, error) {
	if err := k.s.ensure(); err != nil {
		return 0, err
	}
	before, err := k.s.proc.Usage()
	if err != nil {
		return 0, err
	}
	var commands time.Duration
	for _, cmd := range k.steps() {
		out, err := cmd.CombinedOutput()
		if err != nil {
			return 0, fmt.Errorf("%v: %w: %s", cmd.Args[1:], err, firstLine(out))
		}
		commands += cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	}
	after, err := k.s.proc.Usage()
	return after.CPU - before.CPU + commands, err
}

func (k *keptByNode) kill(after time.Duration) error {
	if err := k.s.ensure(); err != nil {
		return err
	}
	killed := make(chan error, 1)
	time.AfterFunc(after, func() { killed <- k.s.proc.Kill() })
	for _, cmd := range k.steps() {
		if cmd.Run() != nil { // its node is gone
			break
		}
	}
	err := <-killed
	k.s.proc = nil
	return err
}

// tree is what the node gives to hosts while it cannot reach upstream.
func (k *keptByNode) tree() (tree, error) {
	offline := func(on bool) error {
		if k.s.proc != nil {
			if err := k.s.stop(); err != nil {
				return err
			}
		}
		command := k.s.command
		defer func() { k.s.command = command }()
		if on {
			k.s.command = func(p place) (*exec.Cmd, error) {
				cmd, err := command(p)
				if err != nil {
					return nil, err
				}
				return cmd, replaceInFile(filepath.Join(p.dir, "aptmesh.yaml"), "\nprefetch:", "\noffline: true\nprefetch:")
			}
		}
		_, err := k.s.start(nil, 20*time.Second)
		return err
	}
	if err := offline(true); err != nil {
		return nil, err
	}
	all := make(map[string][]byte)
	get := func(name string) ([]byte, error) {
		resp, err := http.Get("http://" + k.s.addr + "/snapshot/" + mount + "/stable/" + name)
		if err != nil {
			return nil, err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err == nil && resp.StatusCode != http.StatusOK {
			err = fmt.Errorf("%s: %s", resp.Status, firstLine(body))
			if resp.StatusCode == http.StatusNotFound {
				err = errMissing
			}
		}
		all[name] = body
		return body, err
	}
	why := tree(get).broken()
	if err := offline(false); err != nil {
		return nil, err
	}
	// A node asks upstream of a suite once a second at most, and it has done so when it started.
	time.Sleep(time.Second)
	if why != "" {
		return func(string) ([]byte, error) { return nil, errors.New(why) }, nil
	}
	return func(name string) ([]byte, error) {
		if body, ok := all[name]; ok {
			return body, nil
		}
		return nil, errMissing
	}, nil
}

func (k *keptByNode) dir() string { return k.s.dir }

func (k *keptByNode) close() error {
	if k.s.proc == nil {
		return nil
	}
	return k.s.kill()
}
