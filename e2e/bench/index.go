package main

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
	"github.com/aptmesh/aptmesh/e2e/bench/load"
	"github.com/aptmesh/aptmesh/e2e/bench/origin"
)

// realIndex gives a fresh aptmesh the largest package index this machine's own
// apt has, under our own signature, and looks at what knowing it costs.
func realIndex(b *bench) error {
	node := b.server("aptmesh")
	if node == nil {
		return nil
	}
	b.report.heading(2, "M. Knowing a real index (aptmesh only)")
	text, err := largestIndex()
	if err != nil {
		b.report.note("M is left out: %v", err)
		return nil
	}
	progress("   compressing %s of Packages", bytesText(float64(len(text))))
	old := newIndexArchive(text, b.indexFormat(), time.Now().Add(-2*time.Hour))
	next := old.republished(time.Now().Add(-time.Hour))

	pl := node.place
	pl.dir = filepath.Join(b.temp, "aptmesh-index")
	s, err := newServer(node.peer, pl, old.files, node.cores)
	if err != nil {
		return err
	}
	defer s.close()
	got, err := b.measureIndex(s, old, next)
	if err != nil {
		return err
	}
	perPackage := func(bytes int64) string { return number(float64(bytes) / float64(old.packages)) }
	b.report.printf("%s packages, %s of text, %s as %s.\n\n", thousands(int64(old.packages)), bytesText(float64(len(text))),
		bytesText(float64(len(old.packed))), old.format)
	b.report.table([]string{"measure", "value"}, [][]string{
		{"live heap per listed package, one generation", perPackage(got.heapOne-got.heapNone) + " bytes"},
		{"live heap per listed package, two generations", perPackage(got.heapTwo-got.heapNone) + " bytes"},
		{"PSS without the index, with one generation, with two", fmt.Sprintf("%s, %s, %s MB", number(float64(got.pssNone)/1e6), number(float64(got.pssOne)/1e6), number(float64(got.pssTwo)/1e6))},
		{"first request for the index, until its last byte", fmt.Sprintf("%.2f s", got.first.Seconds())},
		{"refresh: a new generation fetched, checked, read and served", fmt.Sprintf("%.2f s, %.2f CPU-s", got.adopt.Seconds(), got.adoptCPU.Seconds())},
		{"restart with two generations, until the first right answer", fmt.Sprintf("%.3f s", got.restart.Seconds())},
	})
	b.report.goal(goal{what: "M: live heap per listed package", got: float64(got.heapOne-got.heapNone) / float64(old.packages), limit: 100, unit: "bytes"})
	b.report.goal(goal{what: "M: restart with the real index", got: got.restart.Seconds(), limit: 0.5, unit: "s"})
	return nil
}

// indexFormat is what real clients take; making it takes half a minute.
func (b *bench) indexFormat() string {
	if _, err := exec.LookPath("xz"); err != nil || b.quick {
		return ".gz"
	}
	return ".xz"
}

// largestIndex asks this machine's apt for the packages indices it has, and for
// the text of the largest.
func largestIndex() ([]byte, error) {
	out, err := exec.Command("apt-get", "indextargets", "--format", "$(FILENAME)", "Created-By: Packages").Output()
	if err != nil {
		return nil, fmt.Errorf("apt-get indextargets: %w", err)
	}
	var name string
	var most int64
	for _, f := range strings.Fields(string(out)) {
		if info, err := os.Stat(f); err == nil && info.Size() > most {
			name, most = f, info.Size()
		}
	}
	if name == "" {
		return nil, fmt.Errorf("this machine's apt has no package index; apt-get update fetches it")
	}
	// apt keeps its lists in formats of its own choice; this is its own reader.
	text, err := exec.Command("/usr/lib/apt/apt-helper", "cat-file", name).Output()
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", filepath.Base(name), err)
	}
	return text, nil
}

// indexArchive is an archive of one index, with one package that is really there.
type indexArchive struct {
	format           string
	text, packed     []byte
	packages         int
	inRelease, index string
	deb              string
	files            map[string]origin.File
}

func newIndexArchive(text []byte, format string, date time.Time) *indexArchive {
	ours := testarchive.New(2)
	ours.AddSuite(testarchive.Suite{Name: "stable"})
	deb := ours.AddPackage("stable", testarchive.Package{Name: "really-there", Version: "1.0", Size: 10_000})
	ours.Publish(date)
	stanza, _ := ours.Lookup(suiteDir + "/main/binary-amd64/Packages.gz")
	file, _ := ours.Lookup(deb)
	a := &indexArchive{format: format, deb: path.Join(mount, deb)}
	a.files = map[string]origin.File{a.deb: {Body: file.Data, Modified: file.Modified}}
	a.text = append(gunzip(stanza.Data), text...)
	a.packed = compress(format, a.text)
	a.publish(date)
	return a
}

// republished is the next generation: one package more.
func (a *indexArchive) republished(date time.Time) *indexArchive {
	more := []byte("Package: aaa-new\nVersion: 1\nArchitecture: all\nFilename: pool/main/a/aaa-new/aaa-new_1_all.deb\nSize: 1000\nSHA256: " +
		strings.Repeat("5a", 32) + "\nDescription: new\n\n")
	next := *a
	next.files = maps.Clone(a.files)
	next.text = append(more, a.text...)
	// Both formats allow one compressed stream after another.
	next.packed = append(compress(a.format, more), a.packed...)
	next.publish(date)
	return &next
}

// publish lists the index in a Release and signs that.
func (a *indexArchive) publish(date time.Time) {
	a.packages = bytes.Count(a.text, []byte("\nFilename: "))
	const member = "main/binary-amd64/Packages"
	var release strings.Builder
	fmt.Fprintf(&release, "Origin: bench\nSuite: stable\nCodename: stable\nDate: %s\nAcquire-By-Hash: yes\nArchitectures: amd64\nComponents: main\nSHA256:\n",
		date.UTC().Format(time.RFC1123))
	for name, data := range map[string][]byte{member: a.text, member + a.format: a.packed} {
		fmt.Fprintf(&release, " %s %d %s\n", testarchive.Sum(testarchive.SHA256, data), len(data), name)
	}
	put := func(name string, data []byte) string {
		full := path.Join(mount, suiteDir, name)
		a.files[full] = origin.File{Body: data, Modified: date.Truncate(time.Second)}
		return full
	}
	put(member+a.format, a.packed)
	a.index = put("main/binary-amd64/by-hash/SHA256/"+testarchive.Sum(testarchive.SHA256, a.packed), a.packed)
	a.inRelease = put("InRelease", testarchive.ClearSign([]byte(release.String()), date, testarchive.DefaultKey()))
}

func (a *indexArchive) target(name string) load.Target {
	return load.Target{Path: "/" + name, Body: a.files[name].Body}
}

type indexFigures struct {
	heapNone, heapOne, heapTwo int64
	pssNone, pssOne, pssTwo    int64
	first, adopt, restart      time.Duration
	adoptCPU                   time.Duration
}

func (b *bench) measureIndex(s *server, old, next *indexArchive) (f indexFigures, err error) {
	ask := func(t load.Target) (sample, error) {
		got, err := b.measure(s, load.Plan{Targets: []load.Target{t}, Connections: 1, Timeout: 30 * time.Second}, rounds(1, time.Minute))
		if err == nil && got.Failed() > 0 {
			err = fmt.Errorf("%s: %s", t.Path, failures(got.Failures))
		}
		return got, err
	}
	if _, err = ask(old.target(old.inRelease)); err != nil {
		return f, err
	}
	if f.heapNone, f.pssNone, err = s.memory(b.ctx); err != nil {
		return f, err
	}
	got, err := ask(old.target(old.index))
	if err != nil {
		return f, err
	}
	f.first = got.Elapsed
	// A package of the index is answered once the index is known.
	if _, err = ask(old.target(old.deb)); err != nil {
		return f, err
	}
	if f.heapOne, f.pssOne, err = s.memory(b.ctx); err != nil {
		return f, err
	}
	s.origin.SetFiles(next.files)
	used, err := s.proc.Usage()
	if err != nil {
		return f, err
	}
	begin := time.Now()
	if err = s.refresh(b.ctx, mount+"/"+suiteDir); err != nil {
		return f, err
	}
	if _, err = ask(next.target(next.inRelease)); err != nil {
		return f, fmt.Errorf("after the refresh: %w", err)
	}
	f.adopt = time.Since(begin)
	after, err := s.proc.Usage()
	if err != nil {
		return f, err
	}
	f.adoptCPU = after.CPU - used.CPU
	if f.heapTwo, f.pssTwo, err = s.restingMemory(b.ctx); err != nil {
		return f, err
	}
	if err = s.stop(); err != nil {
		return f, err
	}
	deb := next.target(next.deb)
	times, err := restarts(s, &deb, 3)
	if err != nil {
		return f, err
	}
	f.restart = times[1]
	return f, nil
}

var heapAlloc = regexp.MustCompile(`(?m)^# HeapAlloc = (\d+)$`)

// memory returns what of aptmesh's heap is in use after a garbage collection, and
// its PSS, both in bytes.
func (s *server) memory(ctx context.Context) (heap, pss int64, err error) {
	text, err := s.node.Get(ctx, "/debug/pprof/heap?debug=1&gc=1")
	if err != nil {
		return 0, 0, err
	}
	m := heapAlloc.FindSubmatch(text)
	if m == nil {
		return 0, 0, fmt.Errorf("the heap profile does not tell HeapAlloc")
	}
	if heap, err = strconv.ParseInt(string(m[1]), 10, 64); err != nil {
		return 0, 0, err
	}
	u, err := s.proc.Usage()
	return heap, u.PSS, err
}

// restingMemory is memory once it does not fall any more: after a switch the new index is read once more, for what is to be
// fetched ahead.
func (s *server) restingMemory(ctx context.Context) (heap, pss int64, err error) {
	if heap, pss, err = s.memory(ctx); err != nil {
		return 0, 0, err
	}
	for same := 0; same < 3; {
		select {
		case <-time.After(300 * time.Millisecond):
		case <-ctx.Done():
			return 0, 0, ctx.Err()
		}
		before := heap
		if heap, pss, err = s.memory(ctx); err != nil {
			return 0, 0, err
		}
		if same++; heap < before-before/50 {
			same = 0
		}
	}
	return heap, pss, nil
}

// refresh has aptmesh look for a new generation at once, and waits for the answer.
func (s *server) refresh(ctx context.Context, suite string) error {
	_, err := s.node.Ask(ctx, http.MethodPost, "/v1/refresh?suite="+url.QueryEscape(suite))
	return err
}
