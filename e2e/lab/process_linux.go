package lab

import (
	"os/exec"
	"syscall"
)

// DieWithUs has the kernel end the child when this process dies without cleaning up,
// as after a test's timeout. The child is in a group of its own, so that Ctrl-C in a
// terminal reaches this process alone, which ends its children in its own order.
func DieWithUs(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
