package main

import (
	"fmt"
	"math"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
	"github.com/aptmesh/aptmesh/e2e/bench/load"
	"github.com/aptmesh/aptmesh/e2e/bench/origin"
)

// mount is the first segment of every path, at the origin and at every server.
const mount = "bench"

const suiteDir = "dists/stable"

// archive is what the origin holds, sorted by what it is for. Names are paths
// with the mount in front.
type archive struct {
	files   map[string]origin.File
	keyring []byte
	format  string
	suite   string // as a configuration names it

	inRelease, index string   // the root, whatever its name, and the index as the root names it
	aPackage         string   // any
	small            []string // 51 packages of 5 to 20 KB: what apt asks for most
	middle           []string // 40 of 200 KB
	big              string   // warm
	herd, slow       string   // cold: each asked for by one scenario
	mixed            []string // cold: 300 of all sizes
	bad              string   // spoiled at the origin
}

// newArchive makes packages of random bytes and signs for them.
func newArchive(o options) *archive {
	b := newBuilder(o.format, 1, testarchive.Suite{
		Name: "stable", ByHash: true,
		// As many indices as a real Release lists, so that the InRelease is as long
		// as a real one, some 150 KB. Like a partial mirror, this archive carries
		// those of one architecture.
		ListedComponents:    names("component", 11),
		ListedArchitectures: names("arch", 11),
	})
	add := func(name string, size int) string {
		return b.add(name, int64(size))
	}
	a := &archive{format: o.format}
	for i := range 51 {
		a.small = append(a.small, add(fmt.Sprintf("small%02d", i), i*16_000/50))
	}
	for i := range 40 {
		a.middle = append(a.middle, add(fmt.Sprintf("middle%02d", i), 195_000))
	}
	// Log-uniform from 8 KB to 2 MB: many small, the bytes in the few large ones.
	for i := range 300 {
		a.mixed = append(a.mixed, add(fmt.Sprintf("mixed%03d", i), int(8000*math.Pow(250, float64(i)/299))))
	}
	a.big, a.herd, a.slow = add("big", 60_000_000), add("herd", o.herdSize), add("slow", o.slowSize)
	a.bad = add("bad", 100_000)
	b.publish(a, time.Now().Add(-time.Hour).UTC().Truncate(time.Second))
	return a
}

// packageSet is some packages of an archive that differ by their number.
type packageSet struct {
	name  string
	count int
	size  func(i int) int64 // bytes of the i-th, roughly
}

// sized is the size of all packages of a set.
func sized(n int64) func(int) int64 { return func(int) int64 { return n } }

// newArchiveOf makes an archive of sets of packages, and returns the paths of each.
func newArchiveOf(seed uint64, sets ...packageSet) (*archive, map[string][]string) {
	return options{format: "apt"}.newArchiveOf(seed, sets...)
}

// newArchiveOf is the same in the format that was asked for.
func (o options) newArchiveOf(seed uint64, sets ...packageSet) (*archive, map[string][]string) {
	b := newBuilder(o.format, seed, testarchive.Suite{Name: "stable", ByHash: true})
	paths := map[string][]string{}
	for _, set := range sets {
		for i := range set.count {
			paths[set.name] = append(paths[set.name], b.add(fmt.Sprintf("%s%04d", set.name, i), set.size(i)))
		}
	}
	a := &archive{format: o.format}
	b.publish(a, time.Now().Add(-time.Hour).UTC().Truncate(time.Second))
	return a, paths
}

// publish makes what src has now the files of the archive.
func (a *archive) publish(src *testarchive.Archive, date time.Time) {
	src.Publish(date.UTC().Truncate(time.Second))
	a.files = map[string]origin.File{}
	for name := range src.Files() {
		f, _ := src.Lookup(name)
		full := path.Join(mount, name)
		a.files[full] = origin.File{Body: f.Data, Modified: f.Modified}
		if path.Ext(full) == ".deb" {
			a.aPackage = full
		}
	}
	a.keyring, a.format, a.suite = src.Keyring(), "apt", "stable"
	a.inRelease = path.Join(mount, suiteDir, "InRelease")
	canonical := path.Join(mount, suiteDir, "main/binary-amd64/Packages.xz")
	a.index = path.Join(path.Dir(canonical), "by-hash/SHA256", testarchive.Sum(testarchive.SHA256, a.files[canonical].Body))
}

func names(stem string, n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf("%s%02d", stem, i)
	}
	return all
}

// write lays the files out below dir, for the servers that read a disk.
func (a *archive) write(dir string) error {
	for name, f := range a.files {
		full := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(full, f.Body, 0o644); err != nil {
			return err
		}
		if err := os.Chtimes(full, f.Modified, f.Modified); err != nil {
			return err
		}
	}
	return nil
}

// targets makes requests for the files of those names.
func (a *archive) targets(names ...string) []load.Target {
	all := make([]load.Target, len(names))
	for i, name := range names {
		all[i] = load.Target{Path: "/" + name, Body: a.files[name].Body}
	}
	return all
}

// unchanged makes a request that asks whether a file has changed since the
// origin's own date, and wants to hear that it has not.
func (a *archive) unchanged(name string) load.Target {
	since := a.files[name].Modified.Format(http.TimeFormat)
	return load.Target{Path: "/" + name, Status: http.StatusNotModified, Header: []string{"If-Modified-Since: " + since}}
}

// bytes is the size of those files together.
func (a *archive) bytes(names ...string) int64 {
	var sum int64
	for _, name := range names {
		sum += int64(len(a.files[name].Body))
	}
	return sum
}

// describe tells the sizes of some files: "51 packages of 5.1 to 20.0 KB, mean 12.0 KB".
func (a *archive) describe(names []string) string {
	low, high := math.Inf(1), 0.0
	for _, name := range names {
		size := float64(len(a.files[name].Body))
		low, high = min(low, size), max(high, size)
	}
	switch {
	case len(names) == 1:
		return "one package of " + bytesText(high)
	case bytesText(low) == bytesText(high):
		return fmt.Sprintf("%d packages of %s", len(names), bytesText(high))
	}
	mean := float64(a.bytes(names...)) / float64(len(names))
	return fmt.Sprintf("%d packages of %s to %s, mean %s", len(names), bytesText(low), bytesText(high), bytesText(mean))
}
