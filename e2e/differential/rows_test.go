package differential

import (
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/e2e/lab"
)

// table is all rows.
func table() []row {
	return slices.Concat(dates(), releases(), roots(), indexes(), layouts(), paths(), servers(), trust())
}

// mode is a way in which a host reaches the archive.
type mode struct {
	name string
	// asks says by which URL and with which settings a host reaches the site at a node.
	asks func(s *site, node string) (base string, settings []string)
	// nodes take turns behind one address, as with anycast: each generation is asked for at another one.
	nodes []*node
}

func mapped(s *site, node string) (string, []string) { return node + "/" + s.file(), nil }

func proxied(s *site, node string) (string, []string) {
	return s.url, []string{fmt.Sprintf("Acquire::http::Proxy %q;", node)}
}

// TestRows runs every row of the table directly and through nodes.
func TestRows(t *testing.T) {
	if !lab.HaveApt() {
		t.Skip("apt-get is not installed: nothing to compare with")
	}
	only, err := regexp.Compile(*rows)
	if err != nil {
		t.Fatal(err)
	}
	var all, some []*site
	used := map[string]bool{}
	for _, r := range table() {
		r = r.withDefaults()
		if used[r.file()] {
			t.Fatalf("two rows are called %q", r.file())
		}
		used[r.file()] = true
		if !only.MatchString(r.name) || !*full && *rows == "" && !slices.Contains(brief, r.name) {
			continue
		}
		if r.tool != "" {
			if _, err := exec.LookPath(r.tool); err != nil {
				t.Logf("row %q is left out: %s is not installed", r.name, r.tool)
				continue
			}
		}
		s := newSite(t, r)
		all = append(all, s)
		if *full || r.everywhere {
			some = append(some, s)
		}
	}
	checkNames(t, used)
	if len(all) == 0 {
		t.Fatalf("no row matches -rows %q", *rows)
	}
	first := mode{"mapped", mapped, startNodes(t, 1, all)}
	var more []mode
	if len(some) > 0 {
		more = []mode{
			{"proxy", proxied, startNodes(t, 1, some)},
			{"cluster", mapped, startNodes(t, 3, some)},
		}
	}
	var results results
	t.Cleanup(func() { t.Logf("\n%s", results.String()) })
	for _, s := range all {
		modes := []mode{first}
		if slices.Contains(some, s) {
			modes = append(modes, more...)
		}
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			for name, outcome := range s.run(t, modes) {
				results.add(s, name, outcome)
				outcome.judge(t, s, name)
			}
		})
	}
}

// outcome is what a row showed in one mode.
type outcome struct {
	differences []string
	said        string // what apt said, for people
}

// run compares the two generations of a site directly and in all modes. The short form asks
// directly for the second generation only, and by a host that knows nothing of the first.
func (s *site) run(t *testing.T, modes []mode) map[string]outcome {
	t.Helper()
	outcomes := map[string]outcome{}
	hosts := map[string]*lab.Apt{} // by the URL of the node, or of the archive
	host := func(name, base string, settings ...string) *lab.Apt {
		if hosts[name] == nil || !*full || s.stuck {
			hosts[name] = s.newHost(t, base, settings...)
		}
		return hosts[name]
	}
	addresses := make([]*address, len(modes))
	for i := range modes {
		addresses[i] = newAddress(t)
	}
	var direct observation
	for gen := 1; gen <= 2; gen++ {
		s.publish(gen)
		compared := gen == 2 || *full
		if compared {
			control := host(s.url, s.url)
			s.trust(t, control, gen)
			direct = s.observe(t, control, s.url, true)
			s.checkControl(t, gen, direct)
		}
		for i, m := range modes {
			n := m.nodes[gen%len(m.nodes)]
			addresses[i].leadTo(n)
			if gen == 2 {
				s.await(n.url + "/" + s.file())
			}
			base, settings := m.asks(s, addresses[i].url)
			h := host(addresses[i].url, base, settings...)
			s.trust(t, h, gen)
			ours := s.observe(t, h, base, compared)
			o := outcomes[m.name]
			o.add(s, gen, direct, ours, compared)
			outcomes[m.name] = o
		}
	}
	return outcomes
}

// trust gives a host the keys that it needs for a generation, and no others.
func (s *site) trust(t *testing.T, host *lab.Apt, gen int) {
	t.Helper()
	file := "keyring.gpg"
	if s.trustedParts {
		file = "etc/apt/trusted.gpg.d/keyring.gpg"
	}
	if err := host.Write(file, string(s.hostKeys(gen))); err != nil {
		t.Fatal(err)
	}
}

// checkControl demands of the row itself that apt does directly what the row says.
func (s *site) checkControl(t *testing.T, gen int, direct observation) {
	t.Helper()
	fine := len(direct.packages) > 0
	for _, code := range direct.exit {
		fine = fine && code == 0
	}
	if fine == s.refused {
		t.Fatalf("the row is wrong about apt: it takes generation %d directly: %v; the row says: %v\n%s", gen, fine, !s.refused, direct.said)
	}
}

// add compares one more observation with the direct one.
func (o *outcome) add(s *site, gen int, direct, ours observation, compared bool) {
	var found []string
	switch {
	case s.refused:
		if ours.exit["apt-get update"] == 0 && len(ours.packages) > 0 {
			found = []string{"apt takes through the node what it refuses directly"}
		}
	case compared:
		found = differences(direct, ours)
	case ours.exit["apt-get update"] != 0:
		found = []string{fmt.Sprintf("apt-get update: exit code %d", ours.exit["apt-get update"])}
	case len(ours.packages) == 0:
		found = []string{"packages: none through the node"}
	}
	found = slices.DeleteFunc(found, func(d string) bool {
		return slices.ContainsFunc(s.allowed, func(e exception) bool { return strings.Contains(d, e.part) })
	})
	for _, d := range found {
		o.differences = append(o.differences, fmt.Sprintf("generation %d: %s", gen, d))
	}
	if len(found) > 0 {
		o.said += fmt.Sprintf("--- generation %d directly\n%s--- through the node\n%s", gen, direct.said, ours.said)
	}
}

// judge fails the test if the row differs and should not, or does not and should.
func (o outcome) judge(t *testing.T, s *site, mode string) {
	t.Helper()
	reason, waits := pendingReason(s.row, mode)
	switch {
	case len(o.differences) == 0 && waits && !*control && !strings.HasPrefix(reason, sometimes):
		t.Errorf("%s: it works now: take the row out of `pending` (%s)", mode, reason)
	case len(o.differences) > 0 && waits && !*control:
		t.Logf("%s: pending: %s\n%s", mode, reason, strings.Join(o.differences, "\n"))
	case len(o.differences) > 0:
		t.Errorf("%s: through the node it is not as directly:\n%s\n%s", mode, strings.Join(o.differences, "\n"), o.said)
	}
}

// results collects the outcomes of all rows.
type results struct {
	mu    sync.Mutex
	lines []string
	count map[string]int
}

func (r *results) add(s *site, mode string, o outcome) {
	word, why := "same", ""
	if len(o.differences) > 0 {
		word = "DIFFERS"
		if reason, waits := pendingReason(s.row, mode); waits {
			word, why = "pending", reason
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.count == nil {
		r.count = map[string]int{}
	}
	r.count[word]++
	r.lines = append(r.lines, fmt.Sprintf("%-72s %-8s %-8s %s", s.name, mode, word, why))
}

func (r *results) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	slices.Sort(r.lines)
	return fmt.Sprintf("%s\n%d same, %d pending, %d differ; %s", strings.Join(r.lines, "\n"),
		r.count["same"], r.count["pending"], r.count["DIFFERS"], time.Since(began).Round(time.Second))
}
