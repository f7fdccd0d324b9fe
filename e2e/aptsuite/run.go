package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/aptmesh/aptmesh/e2e/lab"
)

// maxHangs is how many hanging apts a test may have before it is ended as a whole.
const maxHangs = 5

// runTest runs one test in one mode.
func runTest(ctx context.Context, o options, tree aptTree, test string, m mode) (r result, err error) {
	r = result{Test: test, Mode: m.String(), Log: filepath.Join(o.cache, "logs", m.String(), test+".log")}
	if err := os.MkdirAll(filepath.Dir(r.Log), 0o755); err != nil {
		return r, err
	}
	// A short name: sockets of gpg-agent are made in it. World-writable, or the tests ignore it.
	dir, err := os.MkdirTemp("", "aptsuite")
	if err != nil {
		return r, err
	}
	defer os.RemoveAll(dir)
	tmp := filepath.Join(dir, "tmp")
	if err := errors.Join(os.Chmod(dir, 0o755), os.Mkdir(tmp, 0o777), os.Chmod(tmp, 0o777|os.ModeSticky)); err != nil {
		return r, err
	}
	p := &process{id: rand.Text(), log: r.Log, silence: o.silence}
	env := []string{"TMPDIR=" + tmp, "MSGCOLOR=NO", envID + "=" + p.id}
	if m.between != "direct" {
		var w *world
		var self string
		if w, err = newWorld(ctx, m, o.binary, dir, tree.tests(m), envID+"="+p.id); err != nil {
			return r, err
		}
		defer func() {
			err = errors.Join(err, w.close(), keepNodeLogs(dir, strings.TrimSuffix(r.Log, ".log")+".nodes"))
		}()
		if self, err = os.Executable(); err != nil {
			return r, err
		}
		env = append(env, envProgram+"="+self, envSocket+"="+w.socket.Addr().String())
	}
	ctx, cancel := context.WithTimeout(ctx, o.limit)
	defer cancel()
	began := time.Now()
	if err := p.run(ctx, filepath.Join(tree.tests(m), test), env); err != nil {
		return r, err
	}
	r.Seconds = time.Since(began).Seconds()
	text, err := os.ReadFile(r.Log)
	if err != nil {
		return r, err
	}
	r.count(text, p.code)
	r.Hangs, r.Ended = p.hangs, p.ended
	if r.Ended == "interrupted" {
		return r, context.Canceled
	}
	return r, nil
}

// keepNodeLogs puts the logs of all nodes of a test into one file.
func keepNodeLogs(dir, to string) error {
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	for i := 1; ; i++ {
		text, err := os.ReadFile(filepath.Join(dir, fmt.Sprintf("node%d", i), "log"))
		if err != nil {
			return out.Close() // that was the last
		}
		fmt.Fprintf(out, "#### node %d\n%s", i, text)
	}
}

// A process is a test and all that it starts.
type process struct {
	id      string // in the environment of all of them
	log     string
	silence time.Duration // with all processes asleep for longer, apt hangs

	code  int
	hangs int    // apts that were killed because they did not end
	ended string // why the test was ended from outside; "" if it was not
}

func (p *process) run(ctx context.Context, file string, env []string) error {
	log, err := os.Create(p.log)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(file)
	cmd.Env = lab.Environ(env...)
	cmd.Dir = filepath.Dir(file)
	cmd.Stdout, cmd.Stderr = log, log
	lab.DieWithUs(cmd)
	if err := cmd.Start(); err != nil {
		return err
	}
	done := make(chan struct{})
	go func() {
		_ = cmd.Wait() // its code is what counts
		close(done)
	}()
	p.watch(ctx, cmd, done)
	p.code = cmd.ProcessState.ExitCode()
	for _, pid := range p.pids() {
		_ = syscall.Kill(pid, syscall.SIGKILL) // what the test left behind
	}
	return nil
}

// watch waits for the end of a test and helps it to one where apt hangs: nothing is printed, and all
// processes sleep. On a busy machine a test may print nothing for minutes, but then its processes
// come and go, or wait for a processor.
func (p *process) watch(ctx context.Context, cmd *exec.Cmd, done chan struct{}) {
	const every = 2 * time.Second
	var size int64
	var last activity
	var asleep time.Duration
	for {
		select {
		case <-done:
			return
		case <-ctx.Done():
			p.ended = "time limit"
			if errors.Is(ctx.Err(), context.Canceled) {
				p.ended = "interrupted"
			}
			p.stop(cmd, done)
			return
		case <-time.After(every):
		}
		if info, err := os.Stat(p.log); err == nil && info.Size() != size {
			size, asleep = info.Size(), 0
			continue
		}
		now := p.activity()
		switch {
		case now.pids != last.pids:
			asleep = 0
		case !now.awake && now.ticks-last.ticks <= 1:
			asleep += every
		}
		last = now
		if asleep < p.silence {
			continue
		}
		p.hangs++
		asleep = 0
		if p.hangs > maxHangs || !p.killApt() {
			p.ended = "hangs"
			p.stop(cmd, done)
			return
		}
	}
}

// activity is what the processes of a test do.
type activity struct {
	pids  string // which there are
	ticks int    // of processor time so far, with that of children that have ended
	awake bool   // a thread runs, or waits for a processor or a disk
}

func (p *process) activity() (a activity) {
	for _, pid := range p.pids() {
		a.pids += fmt.Sprintln(pid)
		threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
		for _, file := range threads {
			stat, _ := os.ReadFile(file) // empty for a thread that has just ended
			// The state follows the name, which is in brackets and may have any in it. See proc(5).
			fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
			if len(fields) < 15 {
				a.awake = true
				continue
			}
			a.awake = a.awake || fields[0] == "R" || fields[0] == "D"
			for _, ticks := range fields[11:15] {
				n, _ := strconv.Atoi(ticks)
				a.ticks += n
			}
		}
	}
	return a
}

// stop ends the test as Ctrl-C would, so that it cleans up, and then by force.
func (p *process) stop(cmd *exec.Cmd, done chan struct{}) {
	p.killApt()
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) // fails if it has ended, which is what is wanted
	select {
	case <-done:
	case <-time.After(5 * time.Second):
		for _, pid := range p.pids() {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		<-done
	}
}

// killApt kills the apt programs of a test, so that the test goes on with its next check. It is
// false if there are none.
func (p *process) killApt() (any bool) {
	for _, pid := range p.pids() {
		name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
		switch strings.TrimSpace(string(name)) {
		case "apt", "apt-get", "apt-helper", "apt-cache":
			any = syscall.Kill(pid, syscall.SIGKILL) == nil || any
		}
	}
	return any
}

// pids returns all processes of the test, also those that left its process group.
func (p *process) pids() (pids []int) {
	files, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, file := range files {
		env, err := os.ReadFile(file)
		if err != nil || !bytes.Contains(env, []byte(envID+"="+p.id)) {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file))); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}
