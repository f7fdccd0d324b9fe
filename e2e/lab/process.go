package lab

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Environ is the environment of this process without any proxy of this machine.
func Environ(extra ...string) []string {
	return append(slices.DeleteFunc(os.Environ(), func(e string) bool {
		return strings.Contains(strings.ToLower(e), "_proxy=")
	}), extra...)
}

// Process is a program that was started. It does not outlive this process. Safe for concurrent use.
type Process struct {
	cmd   *exec.Cmd
	ended chan struct{}
}

// Start starts a command and waits for nothing.
func Start(cmd *exec.Cmd) (*Process, error) {
	DieWithUs(cmd)
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &Process{cmd, make(chan struct{})}
	go func() {
		_ = cmd.Wait() // how it ended is in ProcessState
		close(p.ended)
	}()
	return p, nil
}

// Ended is closed when the process has ended.
func (p *Process) Ended() <-chan struct{} { return p.ended }

// Alive reports whether the process still runs.
func (p *Process) Alive() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// Signal sends a signal. The error says that the process has ended.
func (p *Process) Signal(s os.Signal) error { return p.cmd.Process.Signal(s) }

// Kill ends the process at once, if it still runs.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill() // fails if it has ended, which is what is wanted
	<-p.ended
}

// Stop asks the process to end, and kills it if it has not ended after patience.
func (p *Process) Stop(patience time.Duration) {
	_ = p.Signal(syscall.SIGTERM) // fails if it has ended
	select {
	case <-p.ended:
	case <-time.After(patience):
		p.Kill()
	}
}

// State is how the process ended. It waits for that.
func (p *Process) State() *os.ProcessState {
	<-p.ended
	return p.cmd.ProcessState
}
