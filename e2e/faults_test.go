package e2e

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
)

// faults are the ways in which an upstream misbehaves. All of them begin before
// the first host asks and end after a while.
var faults = []struct {
	name    string
	effects func() []testarchive.Effect
	wrong   bool // the content is wrong, so it is asked for three times a minute at most
	// harmless faults must not keep a host from what it wants.
	harmless bool
}{
	{name: "wrong bytes of equal length", effects: effects(testarchive.WrongBytes(40)), wrong: true},
	{name: "a wrong last byte", effects: effects(testarchive.WrongBytes(-1)), wrong: true},
	{name: "too long", effects: effects(testarchive.WrongLength(10)), wrong: true},
	{name: "too short", effects: effects(testarchive.WrongLength(-10)), wrong: true},
	{name: "truncated", effects: effects(testarchive.Truncate(1000))},
	{name: "reset in the body", effects: effects(testarchive.Reset(1000))},
	{name: "reset before the header", effects: effects(testarchive.Reset(-1))},
	{name: "stalled in the body", effects: effects(testarchive.Stall(1000))},
	{name: "HTML with 200", effects: effects(testarchive.HTML200()), wrong: true},
	{name: "404", effects: effects(testarchive.Status(404, 0))},
	{name: "429", effects: effects(testarchive.Status(429, 1))},
	{name: "500", effects: effects(testarchive.Status(500, 0))},
	{name: "503 without a body", effects: effects(testarchive.EmptyStatus(503))},
	{name: "slow drip", effects: effects(testarchive.Drip(40_000)), harmless: true},
	{name: "no length, no ranges, no validators", effects: effects(testarchive.NoContentLength(), testarchive.NoRange(), testarchive.NoETag(), testarchive.NoLastModified()), harmless: true},
}

func effects(e ...testarchive.Effect) func() []testarchive.Effect {
	return func() []testarchive.Effect { return e }
}

// Whatever upstream does, a host gets right bytes or an error; nothing wrong is
// kept; and when upstream has healed, so have we.
func TestFaults(t *testing.T) {
	t.Parallel()
	for _, place := range []struct{ name, pattern string }{
		{"package", "pool/*/hello_*.deb"},
		{"index", "dists/noble/main/binary-amd64/*"},
		{"root", "dists/noble/InRelease"},
	} {
		for _, fault := range faults {
			t.Run(place.name+"/"+fault.name, func(t *testing.T) {
				t.Parallel()
				suite := testarchive.Suite{Name: "noble", ByHash: true}
				w := newWorld(t, suite, options{config: "upstream_client: {stall_timeout: 1s, header_timeout: 2s}"}, hello()...)
				c := w.host("mapped", "URL noble main", `Acquire::Retries "2";`)
				if place.name == "package" {
					c.run("apt-get", "update")
				}
				f := w.server.Inject(place.pattern, 0, fault.effects()...)
				failed := c.tryHello(w)
				if f.Hits() == 0 {
					t.Error("the fault hit nothing")
				}
				if failed && fault.harmless {
					t.Error("the host failed although it need not have")
				}
				w.node.checkStored()

				for _, p := range w.server.Paths() {
					if n := w.server.Requests(p); fault.wrong && n > 3 && place.name != "root" {
						t.Errorf("upstream was asked %d times for %s, which is wrong there", n, p)
					}
				}
				w.server.ClearFaults()
				healed := time.Now()
				c.eventuallyHello(w)
				if !failed {
					t.Logf("the host did not notice; upstream was asked %d times", f.Hits())
				} else {
					t.Logf("upstream was asked %d times; hosts are well %.1fs after it is", f.Hits(), time.Since(healed).Seconds())
				}
				w.node.checkStored()
			})
		}
	}
}

// tryHello downloads hello and reports whether it failed. What arrives is right in
// any case.
func (c *apt) tryHello(w *world) (failed bool) {
	c.t.Helper()
	var said strings.Builder
	for _, args := range [][]string{{"--error-on=any", "update"}, {"download", "hello"}} {
		out, err := c.try("apt-get", args...)
		if m := final.FindString(refused.ReplaceAllString(out, "")); m != "" {
			c.t.Errorf("a whole body was wrong: %s", m)
		}
		said.WriteString(out)
		if err != nil {
			failed = true
		}
	}
	const name = "hello_1%3a2.10-1+b1~x_amd64.deb"
	_, want := w.find("/hello_", "_amd64.deb")
	switch got := c.file(name); {
	case !failed:
		c.same(name, want)
	case got != nil:
		c.same(name, want)
	}
	if m := finalError.FindString(said.String()); failed && c.said != m {
		c.said = m
		c.t.Logf("apt said: %s", m)
	}
	return failed
}

// final are the words of apt for a complete answer that is wrong: it does not try
// again then.
var final = regexp.MustCompile(`.*(Hash Sum mismatch|unexpected size|Mirror sync in progress|Clearsigned file isn't valid|is not signed|NOSPLIT).*`)

// refused is how apt ends when we refuse to pass a bad InRelease on: with the reason, and with a second line
// that follows from the first.
var refused = regexp.MustCompile(`E: Failed to fetch \S*/InRelease  403 .*\nE: The repository .* is not signed\.\n`)

var finalError = regexp.MustCompile(`(?m)^E: .*$`)

// eventuallyHello demands that hello can be had soon. The node may let up to a
// minute pass before it asks again for what was wrong three times.
func (c *apt) eventuallyHello(w *world) {
	c.t.Helper()
	for deadline := time.Now().Add(90 * time.Second); c.tryHello(w); {
		if time.Now().After(deadline) {
			c.t.Fatal("the host is not well long after upstream is")
		}
	}
}
