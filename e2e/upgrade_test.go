package e2e

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
)

// skewed are the words of apt for files of different generations.
var skewed = regexp.MustCompile(`Hash Sum mismatch|unexpected size|Mirror sync in progress|Failed to fetch|(?m)^\s*(W|E|Err):`)

// While an archive publishes ten generations, each in the awkward order in which
// real publishers do it, hosts upgrade in a loop and never see two generations
// mixed.
func TestUpgradeWhileTheArchivePublishes(t *testing.T) {
	t.Parallel()
	const generations, packages = 10, 12
	suite := everything("noble")
	suite.Retain = 2 // by-hash names go away upstream while hosts may still want them
	list := func(version int) (all []testarchive.Package) {
		for i := range packages {
			all = append(all, testarchive.Package{Name: fmt.Sprintf("pkg%02d", i), Version: fmt.Sprint(version), Size: 20_000})
		}
		return append(all, testarchive.Package{Name: "tool", Version: "3", Size: 300, Source: true})
	}
	w := newWorld(t, suite, options{archiveConfig: "check_every: 1s"}, list(1)...)

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var hosts sync.WaitGroup
	rounds := make([]atomic.Int64, 4)
	newest := make([]string, 4)
	for i := range rounds {
		mode, settings := "mapped", []string(nil)
		switch i {
		case 1, 2:
			mode = "proxy"
		case 3:
			settings = []string{`Acquire::http::No-Cache "true";`}
		}
		c := w.host(mode, "URL noble main", settings...)
		c.write("status", installed(list(1)))
		hosts.Go(func() {
			for ctx.Err() == nil {
				newest[i] = c.upgrade()
				rounds[i].Add(1)
			}
			newest[i] = c.upgrade()
		})
	}

	for i := range rounds {
		eventually(t, time.Minute, "each host had been here once", func() bool { return rounds[i].Load() > 0 })
	}
	date := w.began
	for g := 1; g < generations; g++ {
		for _, p := range list(g + 1) {
			w.archive.AddPackage("noble", p)
		}
		date = date.Add(time.Minute)
		w.archive.Prepare(date, "noble")
		for _, half := range halfPublished(g) {
			w.archive.Show("noble", half)
			// The node looks right now, at the worst moment; and hosts see
			// what it made of that for a while.
			out, errs, code := w.node.run("refresh", "debian/noble", "--config", w.node.ConfigFile())
			if strings.Contains(out, "adopted") {
				t.Errorf("generation %d was adopted half published: %s", g, out)
			} else if code != 0 && !strings.Contains(errs, "not adopted yet") {
				t.Errorf("refresh in the middle of publishing: %s", errs)
			}
			hold(ctx, 300*time.Millisecond)
		}
		w.archive.Show("noble", testarchive.At(g))
		eventually(t, 30*time.Second, fmt.Sprintf("generation %d was adopted", g), func() bool {
			s, ok := w.node.suite("dists/noble")
			return ok && s.Generation.Equal(date)
		})
	}
	cancel()
	hosts.Wait()

	for i, v := range newest {
		t.Logf("host %d went round %d times in %d generations", i, rounds[i].Load(), generations)
		if v != fmt.Sprint(generations) {
			t.Errorf("host %d upgrades to version %q at the end, want %d", i, v, generations)
		}
		if rounds[i].Load() < 3 {
			t.Errorf("host %d went round too few times", i)
		}
	}
	for _, p := range w.server.Paths() {
		if n := w.server.Requests(p); n > 1 && (strings.HasSuffix(p, ".deb") || strings.Contains(p, "/by-hash/")) {
			// By-hash names that are not there yet are asked for again.
			if w.succeeded(p) > 1 {
				t.Errorf("upstream sent %s %d times", p, n)
			}
		}
	}
	w.node.checkStored()
}

// A node that meets a suite for the first time in the middle of its publication has
// nothing better to offer. Nobody gets anything wrong all the same; hosts are well
// when the archive is; and the next generation is not adopted half published.
func TestFirstSightOfAHalfPublishedArchive(t *testing.T) {
	t.Parallel()
	suite := testarchive.Suite{Name: "noble", ByHash: true}
	w := newWorld(t, suite, options{archiveConfig: "check_every: 1s"}, hello()...)
	half := func(g int) {
		w.archive.AddPackage("noble", testarchive.Package{Name: "new", Version: fmt.Sprint(g)})
		w.archive.Prepare(w.began.Add(time.Duration(g)*time.Minute), "noble")
		view := testarchive.At(g)
		view.Indices, view.ByHash = g-1, g-1
		w.archive.Show("noble", view)
	}
	half(1)
	c := w.host("mapped", "URL noble main", `Acquire::Retries "3";`)
	c.tryHello(w)
	w.archive.Show("noble", testarchive.At(1))
	c.eventuallyHello(w)

	half(2)
	out, errs, _ := w.node.run("refresh", "debian/noble", "--config", w.node.ConfigFile())
	if strings.Contains(out, "adopted") {
		t.Errorf("refresh in the middle of publishing: %s%s", out, errs)
	}
	if out, err := c.try("apt-get", "--error-on=any", "update"); err != nil || skewed.MatchString(out) {
		t.Errorf("apt-get update: %v\n%s", err, out)
	}
	w.archive.Show("noble", testarchive.At(2))
	c.eventuallyHello(w)
	for _, a := range w.node.accessLog() {
		if a.Kind == "package" && a.Status == 200 && !a.Listed {
			t.Errorf("%s was not vouched for", a.URL)
		}
	}
}

// succeeded counts the requests for a path that upstream answered with its bytes.
func (w *world) succeeded(path string) (n int) {
	for _, r := range w.server.Log() {
		if r.Path == path && r.Status == 200 && r.Done && r.Method == "GET" {
			n++
		}
	}
	return n
}

// halfPublished is how the archive looks on the way to generation g.
func halfPublished(g int) []testarchive.View {
	old, now := testarchive.At(g-1), testarchive.At(g)
	if g%2 == 0 { // indices first, as Launchpad does
		indices, byHash := old, old
		indices.Indices = g
		byHash.Indices, byHash.ByHash, byHash.Release = g, g, g
		return []testarchive.View{indices, byHash}
	}
	// InRelease first, as a mirror that is synced in the wrong order.
	root := now
	root.Indices, root.ByHash = g-1, g-1
	return []testarchive.View{root}
}

// hold lets the archive stay as it is: the passing of time is what is tested.
func hold(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// installed is a dpkg status file with these packages installed.
func installed(packages []testarchive.Package) string {
	var b strings.Builder
	for _, p := range packages {
		if p.Source {
			continue
		}
		fmt.Fprintf(&b, "Package: %s\nStatus: install ok installed\nArchitecture: amd64\nVersion: %s\nMaintainer: e2e <e2e@example.org>\nDescription: installed\n\n", p.Name, p.Version)
	}
	return b.String()
}

var upgraded = regexp.MustCompile(`Inst pkg00 \[1\] \((\S+) `)

// upgrade runs update and a dist-upgrade that only downloads. It returns the
// version that the first package is upgraded to.
func (c *apt) upgrade() string {
	for _, args := range [][]string{{"update"}, {"-y", "--download-only", "dist-upgrade"}} {
		if out, err := c.try("apt-get", args...); err != nil || skewed.MatchString(out) {
			c.t.Errorf("apt-get %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	out, err := c.try("apt-get", "--simulate", "dist-upgrade")
	if err != nil {
		c.t.Errorf("apt-get --simulate dist-upgrade: %v\n%s", err, out)
	}
	if m := upgraded.FindStringSubmatch(out); m != nil {
		return m[1]
	}
	return ""
}
