package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/e2e/lab"
)

// apt is a host: the real apt with a root of its own, which neither reads nor
// writes anything of this machine's.
type apt struct {
	t    *testing.T
	host *lab.Apt
	root string // the directory that is its root
	said string // the last error that was logged
}

// newApt makes a host. In sources, KEYRING stands for a file that holds keyring;
// settings are further lines of its apt.conf.
func newApt(t *testing.T, keyring []byte, sources string, settings ...string) *apt {
	t.Helper()
	programs := needClient(t, "apt-get")
	host := must(lab.NewApt(keyring, sources, settings...))(t)
	host.Programs = programs
	t.Cleanup(func() {
		if err := host.Remove(); err != nil {
			t.Error(err)
		}
	})
	return &apt{t: t, host: host, root: host.Dir}
}

func (c *apt) write(name, text string) { writeFile(c.t, filepath.Join(c.root, name), []byte(text)) }

// proxy is the setting that sends all http archives through the node.
func proxy(n *node) string { return fmt.Sprintf("Acquire::http::Proxy %q;", n.URL) }

var complaint = regexp.MustCompile(`(?m)^\s*(W|E|Err):`)

// run runs a command that must succeed without a word of complaint.
func (c *apt) run(name string, args ...string) string {
	c.t.Helper()
	out, err := c.try(name, args...)
	if err != nil || complaint.MatchString(out) {
		c.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return out
}

// try runs a command and returns all that it wrote.
func (c *apt) try(name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(c.t.Context(), 3*time.Minute)
	defer cancel()
	out, err := c.host.Command(ctx, name, args...).CombinedOutput()
	return string(out), err
}

// file reads a file that a command left in the working directory; nil if there
// is none.
func (c *apt) file(name string) []byte {
	c.t.Helper()
	b, err := os.ReadFile(filepath.Join(c.root, "work", name))
	if err != nil && !os.IsNotExist(err) {
		c.t.Fatal(err)
	}
	return b
}

// same demands that a downloaded file is the archive's, byte for byte.
func (c *apt) same(name string, want []byte) {
	c.t.Helper()
	if got := c.file(name); len(want) == 0 || !bytes.Equal(got, want) {
		c.t.Errorf("%s has %d bytes that are not the archive's %d", name, len(got), len(want))
	}
}
