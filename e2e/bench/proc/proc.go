// Package proc starts the servers of a benchmark on cores of their own and reads
// from /proc what they cost.
//
// It knows nothing of HTTP and nothing of what the processes do. Linux only.
package proc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ticksPerSecond is USER_HZ, the unit of times in /proc. It is 100 on every
// Linux that Go runs on; the kernel fixes it as part of its interface.
const ticksPerSecond = 100

// Cores splits the cores this process may use: the first for the server that is
// measured, the rest for everything else. With one core both get the same.
func Cores() (server, rest []int, err error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return nil, nil, fmt.Errorf("reading the cores this process may use: %w", err)
	}
	var all []int
	for core := 0; len(all) < set.Count(); core++ {
		if set.IsSet(core) {
			all = append(all, core)
		}
	}
	if len(all) == 1 {
		return all, all, nil
	}
	return all[:1], all[1:], nil
}

func pin(tid int, cores []int) error {
	var set unix.CPUSet
	for _, core := range cores {
		set.Set(core)
	}
	return unix.SchedSetaffinity(tid, &set)
}

// PinSelf moves every thread of this process to the given cores. Threads that
// start later inherit the cores of the thread that starts them.
func PinSelf(cores []int) error {
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return err
	}
	for _, task := range tasks {
		tid, err := strconv.Atoi(task.Name())
		if err != nil {
			continue
		}
		if err := pin(tid, cores); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("moving to cores %v: %w", cores, err)
		}
	}
	return nil
}

// Process is a server that this program started, with all its children.
type Process struct {
	cmd     *exec.Cmd
	log     *os.File
	Started time.Time
	done    chan struct{} // closed once the process has been waited for
}

// Start runs cmd on the given cores, with what it prints going to logFile.
func Start(cmd *exec.Cmd, cores []int, logFile string) (*Process, error) {
	log, err := os.OpenFile(logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	cmd.Stdout, cmd.Stderr = log, log
	// A group of its own keeps the terminal's Ctrl-C away from the server, so that
	// it is this program that ends it; should this program die, it ends as well.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	p := &Process{cmd: cmd, log: log, done: make(chan struct{})}
	if err := p.startOn(cores); err != nil {
		log.Close()
		return nil, fmt.Errorf("starting %s: %w", filepath.Base(cmd.Path), err)
	}
	go func() {
		_ = cmd.Wait() // how it ended shows in its log
		close(p.done)
	}()
	return p, nil
}

func (p *Process) startOn(cores []int) error {
	p.Started = time.Now()
	return StartOn(p.cmd, cores)
}

// StartOn starts a command from a thread that is on the right cores: a child
// inherits them, and a Go server sizes itself by them before its first line runs.
func StartOn(cmd *exec.Cmd, cores []int) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var before unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		return err
	}
	if err := pin(0, cores); err != nil {
		return err
	}
	defer unix.SchedSetaffinity(0, &before)
	return cmd.Start()
}

// Pid is the id of the process that was started.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Alive reports whether the process is still running.
func (p *Process) Alive() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Stop asks the process to end, waits for it, and ends it by force where it does
// not end within the patience given.
func (p *Process) Stop(patience time.Duration) error {
	defer p.log.Close()
	return p.end(syscall.SIGTERM, patience)
}

// Kill ends the process and its children as a loss of power would.
func (p *Process) Kill() error {
	defer p.log.Close()
	return p.end(syscall.SIGKILL, 5*time.Second)
}

func (p *Process) end(sig syscall.Signal, patience time.Duration) error {
	if !p.Alive() {
		return nil
	}
	target := p.Pid()
	if sig == syscall.SIGKILL {
		target = -target // nobody is left to end the children
	}
	if err := syscall.Kill(target, sig); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
	}
	if sig != syscall.SIGKILL {
		return errors.Join(fmt.Errorf("process %d did not end within %v", p.Pid(), patience), p.end(syscall.SIGKILL, 5*time.Second))
	}
	return fmt.Errorf("process %d does not end", p.Pid())
}

// Usage is what a process and its living children have used so far.
type Usage struct {
	CPU       time.Duration // user and system time; ten milliseconds fine
	PSS       int64         // bytes: memory, shared pages divided among their users
	Processes int
}

// Usage reads what the process, its children and theirs have used.
func (p *Process) Usage() (Usage, error) {
	var u Usage
	pids, err := tree(p.Pid())
	if err != nil {
		return u, err
	}
	for _, pid := range pids {
		st, err := readStat(pid)
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) {
			continue // a child that has just ended; its parent's sums include it
		}
		if err != nil {
			return u, err
		}
		u.CPU += st.cpu
		u.PSS += readPSS(pid)
		u.Processes++
	}
	return u, nil
}

type stat struct {
	parent int
	cpu    time.Duration // its own and that of children it has waited for
}

// readStat reads /proc/PID/stat, see proc(5): the fields after the command's
// closing parenthesis are state, ppid, …, utime, stime, cutime, cstime.
func readStat(pid int) (stat, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return stat{}, err
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(fields) < 15 {
		return stat{}, fmt.Errorf("/proc/%d/stat has %d fields", pid, len(fields))
	}
	var s stat
	if s.parent, err = strconv.Atoi(fields[1]); err != nil {
		return stat{}, err
	}
	for _, f := range fields[11:15] {
		ticks, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return stat{}, err
		}
		s.cpu += time.Duration(ticks) * time.Second / ticksPerSecond
	}
	return s, nil
}

// tree lists a process and all that descend from it.
func tree(root int) ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	children := map[int][]int{}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if s, err := readStat(pid); err == nil {
			children[s.parent] = append(children[s.parent], pid)
		}
	}
	pids := []int{root}
	for i := 0; i < len(pids); i++ {
		pids = append(pids, children[pids[i]]...)
	}
	return slices.Clip(pids), nil
}

// readPSS returns 0 where the kernel does not say.
func readPSS(pid int) int64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) >= 2 && fields[0] == "Pss:" {
			kib, _ := strconv.ParseInt(fields[1], 10, 64)
			return kib << 10
		}
	}
	return 0
}
