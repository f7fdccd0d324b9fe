package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/aptmesh/aptmesh/node/admin"
)

// terminal opens a terminal of the kernel's: what is written to tty can be read from screen.
func terminal(t *testing.T) (tty, screen *os.File) {
	t.Helper()
	screen, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { screen.Close() })
	if err := unix.IoctlSetPointerInt(int(screen.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(int(screen.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tty.Close() })
	return tty, screen
}

// `status` is coloured on a terminal, and nowhere else.
func TestColours(t *testing.T) {
	s := &admin.Status{Ready: true, Degraded: "the disk is full", Stopping: "leaves"}
	addr := adminStub(t, map[string]any{"GET /v1/status": s})
	for _, tt := range []struct {
		name, noColour, term string
		terminal             bool
		want                 []string
	}{
		{"a terminal", "", "xterm", true, []string{"\x1b[32mready\x1b[", "\x1b[31;1mfailing\x1b[", "\x1b[33mattention\x1b["}},
		{"NO_COLOR", "1", "xterm", true, nil},
		{"a dumb terminal", "", "dumb", true, nil},
		{"no terminal", "", "xterm", false, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("NO_COLOR", tt.noColour)
			t.Setenv("TERM", tt.term)
			a, out, _ := testApp(t)
			printed := out.String
			if tt.terminal {
				tty, screen := terminal(t)
				a.out = tty
				printed = func() string {
					_ = screen.SetReadDeadline(time.Now().Add(10 * time.Second))
					tty.Close() // then the screen ends with an error
					text, _ := io.ReadAll(screen)
					return string(text)
				}
			}
			if code := run(t, a, "status", "--admin", addr); code != exitFailing {
				t.Errorf("exit %d", code)
			}
			got := printed()
			if !strings.Contains(got, "traffic") || strings.Contains(got, "\x1b") != (tt.want != nil) {
				t.Errorf("printed %q", got)
			}
			for _, want := range tt.want {
				if !strings.Contains(got, want) {
					t.Errorf("lacks %q: %q", want, got)
				}
			}
		})
	}
}
