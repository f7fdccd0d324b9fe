package main

import (
	"context"
	"testing"
	"time"
)

// TestCalm runs the machinery of the soak with five hosts and no trouble, so that it
// works when it is wanted. What it demands does not depend on time.
func TestCalm(t *testing.T) {
	if testing.Short() {
		t.Skip("starts three nodes")
	}
	o := options{span: 4 * time.Second, warmUp: time.Second, settle: 0, seed: 1, hosts: 5, think: 200 * time.Millisecond, calm: true, problem: t.Logf}
	if err := run(context.Background(), o); err != nil {
		t.Error(err)
	}
}

func TestGrown(t *testing.T) {
	before := sample{goroutines: 80, files: 25, rss: 40e6}
	if more := grown(before, sample{goroutines: 90, files: 30, rss: 60e6}); more != "" {
		t.Errorf("noise counts as growth: %s", more)
	}
	for _, after := range []sample{{goroutines: 300}, {files: 90}, {rss: 200e6}} {
		if grown(before, after) == "" {
			t.Errorf("%v is no growth", after)
		}
	}
}

// TestHostNotices has a host look at what it must complain of.
func TestHostNotices(t *testing.T) {
	a, err := newArchive(1, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer a.close()
	newest := a.outdated(0).Data
	entry, ok := indexOf(newest)
	if !ok {
		t.Fatal("no index in the InRelease")
	}
	index, _ := a.Lookup(entry.path)
	if o := order(entry, nil, ""); !o.Good(index.Data) || o.Good(newest) {
		t.Error("an index is not told from something else")
	}
	packages, err := packagesOf(index.Data)
	if err != nil || len(packages) != packageKind {
		t.Fatalf("%d packages, %v", len(packages), err)
	}
	deb, _ := a.Lookup(packages[0].path)
	if !order(packages[0], nil, "").Good(deb.Data) {
		t.Error("a package is not known by its digest")
	}
	// However often it publishes, what it lists is there.
	for range 300 {
		a.next()
	}
	entry, _ = indexOf(a.outdated(0).Data)
	index, _ = a.Lookup(entry.path)
	packages, err = packagesOf(index.Data)
	for _, p := range packages {
		if _, ok := a.Lookup(p.path); !ok || err != nil {
			t.Errorf("%s is listed and not there, %v", p.path, err)
		}
	}
	if _, ok := a.dateOf(append(newest, '\n')); ok {
		t.Error("any InRelease is taken for one that was published")
	}
}
