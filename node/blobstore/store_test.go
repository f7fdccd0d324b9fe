package blobstore

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/aptmesh/aptmesh/proto"
)

var someDay = time.Unix(1_700_000_000, 0).UTC()

// open opens a store that the test's end closes. Unset limits are roomy, and an
// Observer draws the picture that wantWhole looks at.
func open(t testing.TB, cfg Config) *Store {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = fastDir(t)
	}
	if cfg.MaxBytes == 0 {
		cfg.MaxBytes = 1 << 30
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if t, ok := t.(*testing.T); ok && cfg.Observer == nil {
		cfg.Observer = newPicture(t)
	}
	s, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// fastDir is a directory in memory where the machine offers one: what a test says
// about fsync it says through the seam, and real ones take their time.
func fastDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "blobstore-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// waitScanned returns when all blobs are in the index.
func waitScanned(s *Store) {
	for {
		progress := s.scan.progress()
		if s.scan.done() {
			return
		}
		<-progress
	}
}

func mustPut(t testing.TB, s *Store, b []byte) proto.Digest {
	t.Helper()
	ref, err := s.Put(b, someDay)
	if err != nil {
		t.Fatal(err)
	}
	return ref.Digest
}

// body reads a blob that must be there.
func body(t testing.TB, s *Store, d proto.Digest) (*proto.Blob, []byte) {
	t.Helper()
	b, err := s.Get(d)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	text, err := io.ReadAll(b.Reader())
	if err != nil {
		t.Fatal(err)
	}
	return b, text
}

func wantMiss(t testing.TB, s *Store, d proto.Digest) {
	t.Helper()
	if b, err := s.Get(d); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("Get(%s) = %v, %v; want a miss", d.Short(), b, err)
	}
}

// wantWhole checks what must hold of any store at rest: the counts agree with
// the disk, nothing is reserved, nothing lies in tmp, every blob hashes right, and
// the observer was told all of it.
func wantWhole(t testing.TB, s *Store) {
	t.Helper()
	waitScanned(s)
	report, err := Verify(t.Context(), s.dirs.root, nil)
	if err != nil {
		t.Fatal(err)
	}
	st := s.Stats()
	if len(report.Damaged)+len(report.Foreign) > 0 {
		t.Errorf("damaged %v, foreign %v", report.Damaged, report.Foreign)
	}
	if st.Used != report.Bytes || st.Blobs != report.Blobs {
		t.Errorf("the store counts %d bytes in %d blobs, the disk holds %d in %d", st.Used, st.Blobs, report.Bytes, report.Blobs)
	}
	if p := s.space.pending.Load(); st.Reserved != 0 || p != 0 {
		t.Errorf("%d bytes are still reserved, %d pending", st.Reserved, p)
	}
	if left, err := os.ReadDir(s.dirs.tmp); err != nil || len(left) > 0 {
		t.Errorf("left in tmp: %v %v", left, err)
	}
	if p, ok := s.cfg.Observer.(*picture); ok {
		p.compare(s)
	}
}

// randomBytes are different for each seed.
func randomBytes(seed uint64, n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16), byte(seed >> 24)})
	_, _ = r.Read(b)
	return b
}

func TestRoundTrip(t *testing.T) {
	for _, memory := range []int64{0, 16 << 20} {
		for _, size := range []int{0, 1, 4096, DefaultMemoryMaxBlob, DefaultMemoryMaxBlob + 1} {
			for _, reported := range []bool{true, false} {
				t.Run(fmt.Sprintf("memory=%d/size=%d/told=%v", memory, size, reported), func(t *testing.T) {
					modified := someDay
					if reported {
						modified = time.Time{}
					}
					roundTrip(t, memory, randomBytes(uint64(size), size), modified, reported)
				})
			}
		}
	}
}

func roundTrip(t *testing.T, memory int64, content []byte, modified time.Time, reported bool) {
	cfg := Config{Dir: fastDir(t), MemoryBytes: memory}
	s := open(t, cfg)
	want := proto.Ref{Digest: proto.DigestOf(content), Size: int64(len(content))}
	wantMiss(t, s, want.Digest)
	if _, ok := s.Stat(want.Digest); ok {
		t.Fatal("Stat of what was never stored")
	}

	size := want.Size
	if !reported {
		size = proto.UnknownSize
	}
	w, err := s.Create(size)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(w, bytes.NewReader(content)); err != nil {
		t.Fatal(err)
	}
	wantMiss(t, s, want.Digest)
	if got, err := w.Commit(modified); err != nil || got != want {
		t.Fatalf("Commit = %v, %v; want %v", got, err, want)
	}
	for range 4 { // on disk, the read that promotes, and memory
		wantBlob(t, s, want, content, modified)
	}
	wantWhole(t, s)

	// The same from a store that knows nothing yet.
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(want.Digest); !errors.Is(err, fs.ErrClosed) {
		t.Fatalf("Get after Close: %v", err)
	}
	s = open(t, cfg)
	wantBlob(t, s, want, content, modified)
	wantWhole(t, s)
}

func wantBlob(t *testing.T, s *Store, want proto.Ref, content []byte, modified time.Time) {
	t.Helper()
	b, got := body(t, s, want.Digest)
	if !bytes.Equal(got, content) || b.Ref != want || b.Modified != modified || b.Verified {
		t.Fatalf("got %d bytes, %+v; want %v modified %v", len(got), b, want, modified)
	}
	if carriers := b2i(b.Bytes != nil) + b2i(b.File != nil) + b2i(b.Stream != nil); carriers != 1 {
		t.Fatalf("the body is carried %d times", carriers)
	}
	if ref, ok := s.Stat(want.Digest); !ok || ref != want {
		t.Fatalf("Stat = %v, %v", ref, ok)
	}
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

func TestTiers(t *testing.T) {
	s := open(t, Config{MemoryBytes: 1 << 20, MemoryMaxBlob: 1000})
	small, large := mustPut(t, s, randomBytes(1, 1000)), mustPut(t, s, randomBytes(2, 1001))
	s.memory.cache.Wait()
	for _, c := range []struct {
		digest proto.Digest
		want   proto.Tier
	}{{small, proto.TierMemory}, {large, proto.TierDisk}, {large, proto.TierDisk}, {large, proto.TierDisk}} {
		if b, _ := body(t, s, c.digest); b.Tier != c.want {
			t.Errorf("tier %s, want %s", b.Tier, c.want)
		}
	}
	// What memory dropped comes back with the second read from disk.
	s.memory.drop(small)
	s.memory.cache.Wait()
	for i, want := range []proto.Tier{proto.TierDisk, proto.TierDisk, proto.TierMemory} {
		if b, _ := body(t, s, small); b.Tier != want {
			t.Errorf("read %d after the drop: tier %s, want %s", i, b.Tier, want)
		}
		s.memory.cache.Wait()
	}
	st := s.Stats()
	if st.MemoryHits != 2 || st.DiskHits != 5 || st.Misses != 0 {
		t.Errorf("hits: %+v", st)
	}
}

// TestMemoryTakesTheLatest: of two copies set in a row the second stays.
func TestMemoryTakesTheLatest(t *testing.T) {
	m, err := newMemory(1<<20, 1000)
	if err != nil {
		t.Fatal(err)
	}
	defer m.close()
	for i := range 500 {
		d := proto.DigestOf(fmt.Append(nil, i))
		m.set(&resident{digest: d, modified: someDay})
		m.set(&resident{digest: d, modified: someDay.Add(time.Hour)})
		m.cache.Wait()
		if r := m.get(d); r != nil && r.modified == someDay {
			t.Fatalf("blob %d: the first copy won", i)
		}
	}
}

// TestMemoryCloses: using memory while and after it closes does nothing worse
// than miss.
func TestMemoryCloses(t *testing.T) {
	m, err := newMemory(1<<20, 1000)
	if err != nil {
		t.Fatal(err)
	}
	started := make(chan struct{})
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 2000 {
				d := proto.DigestOf(fmt.Append(nil, g, i%50))
				m.set(&resident{digest: d})
				m.get(d)
				m.drop(d)
				if g == 0 && i == 100 {
					close(started)
				}
			}
		})
	}
	<-started
	m.close()
	m.close()
	wg.Wait()
}

func TestWriterEnds(t *testing.T) {
	s := open(t, Config{})
	content := []byte("some content")
	digest := proto.DigestOf(content)

	w, _ := s.Create(int64(len(content)))
	_, _ = w.Write(content)
	early, err := w.Reader()
	if err != nil {
		t.Fatal(err)
	}
	defer early.Close()
	w.Abort()
	w.Abort()
	if _, err := w.Commit(someDay); err == nil {
		t.Fatal("Commit after Abort succeeded")
	}
	if got, _ := io.ReadAll(early); !bytes.Equal(got, content) {
		t.Fatalf("a reader from before the Abort got %q", got)
	}
	if _, err := w.Reader(); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("Reader after Abort: %v", err)
	}
	if _, err := w.Write(content); !errors.Is(err, fs.ErrClosed) {
		t.Fatalf("Write after Abort: %v", err)
	}
	wantMiss(t, s, digest)
	wantWhole(t, s)

	w, _ = s.Create(proto.UnknownSize)
	for i, b := range content {
		if n, err := w.Write([]byte{b}); n != 1 || err != nil {
			t.Fatal(n, err)
		}
		if got, want := w.Sum(), (proto.Ref{Digest: proto.DigestOf(content[:i+1]), Size: int64(i + 1)}); got != want {
			t.Fatalf("Sum = %v, want %v", got, want)
		}
	}
	for range 2 {
		if ref, err := w.Commit(someDay); err != nil || ref.Digest != digest {
			t.Fatal(ref, err)
		}
	}
	w.Abort() // comes too late
	late, err := w.Reader()
	if err != nil {
		t.Fatal(err)
	}
	defer late.Close()
	if got, _ := io.ReadAll(late); !bytes.Equal(got, content) {
		t.Fatalf("a reader from after the Commit got %q", got)
	}
	wantWhole(t, s)
}

func TestReaderFollowsTheWriter(t *testing.T) {
	s := open(t, Config{})
	w, _ := s.Create(proto.UnknownSize)
	r, err := w.Reader()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var got []byte
	for i := range 10 {
		part := randomBytes(uint64(i), 1000)
		_, _ = w.Write(part)
		b := make([]byte, 1000)
		if _, err := io.ReadFull(r, b); err != nil || !bytes.Equal(b, part) {
			t.Fatalf("part %d: %v", i, err)
		}
		got = append(got, b...)
	}
	ref, err := w.Commit(time.Time{})
	if err != nil || ref.Digest != proto.DigestOf(got) {
		t.Fatal(ref, err)
	}
	if err := s.Remove(ref.Digest); err != nil {
		t.Fatal(err)
	}
	again := make([]byte, len(got))
	if _, err := r.ReadAt(again, 0); err != nil || !bytes.Equal(again, got) {
		t.Fatalf("the reader lost the bytes with the blob: %v", err)
	}
}

func TestRemove(t *testing.T) {
	s := open(t, Config{MemoryBytes: 1 << 20})
	d := mustPut(t, s, []byte("x"))
	s.Pin("test", []proto.Digest{d})
	s.memory.cache.Wait()
	for range 2 {
		if err := s.Remove(d); err != nil {
			t.Fatal(err)
		}
		wantMiss(t, s, d)
	}
	wantWhole(t, s)
}

// TestRecommit: a blob stored again keeps one account and takes the later date.
func TestRecommit(t *testing.T) {
	s := open(t, Config{MemoryBytes: 1 << 20})
	d := mustPut(t, s, []byte("x"))
	for i := range 50 {
		modified := time.Time{}
		if i%2 == 0 {
			modified = someDay.Add(time.Duration(i) * time.Hour)
		}
		if _, err := s.Put([]byte("x"), modified); err != nil {
			t.Fatal(err)
		}
		if i%3 == 0 { // at times memory has worked it off, at times not
			s.memory.cache.Wait()
		}
		if b, _ := body(t, s, d); b.Modified != modified {
			t.Fatalf("modified %v, want %v", b.Modified, modified)
		}
	}
	wantWhole(t, s)
}

func TestVanishedFileIsAMiss(t *testing.T) {
	s := open(t, Config{})
	waitScanned(s)
	d := mustPut(t, s, []byte("x"))
	if err := os.Remove(s.dirs.blob(d)); err != nil {
		t.Fatal(err)
	}
	wantMiss(t, s, d)
	wantWhole(t, s)
}

func TestVanishedDirectoryIsMadeAgain(t *testing.T) {
	s := open(t, Config{})
	d := proto.DigestOf([]byte("x"))
	if err := os.Remove(s.dirs.shard(d[0])); err != nil {
		t.Fatal(err)
	}
	mustPut(t, s, []byte("x"))
	body(t, s, d)
	wantWhole(t, s)
}

func TestSecondProcessIsTurnedAway(t *testing.T) {
	dir := fastDir(t)
	open(t, Config{Dir: dir})
	_, err := Open(Config{Dir: dir, MaxBytes: 1})
	if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("in use by process %d:", os.Getpid())) {
		t.Fatalf("second Open: %v", err)
	}
}

func TestConfigIsChecked(t *testing.T) {
	for _, cfg := range []Config{
		{MaxBytes: 1},
		{Dir: "x"},
		{Dir: "x", MaxBytes: -1},
		{Dir: "x", MaxBytes: 1, ReserveFree: -1},
		{Dir: "x", MaxBytes: 1, LastCopyBonus: -1},
		{Dir: "/dev/null/x", MaxBytes: 1},
	} {
		if s, err := Open(cfg); err == nil {
			s.Close()
			t.Errorf("Open(%+v) succeeded", cfg)
		}
	}
}

func TestAfterClose(t *testing.T) {
	s := open(t, Config{MemoryBytes: 1 << 20})
	d := mustPut(t, s, []byte("x"))
	w, _ := s.Create(1)
	_, _ = w.Write([]byte("y"))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	_, createErr := s.Create(1)
	_, commitErr := w.Commit(someDay)
	_, getErr := s.Get(d)
	for what, err := range map[string]error{
		"Create": createErr, "Commit": commitErr, "Get": getErr,
		"Remove": s.Remove(d),
	} {
		if !errors.Is(err, fs.ErrClosed) {
			t.Errorf("%s after Close: %v", what, err)
		}
	}
	s.Stats()
}

// TestStorm lets everybody do everything at once, for the race detector and for
// the accounts.
func TestStorm(t *testing.T) {
	s := open(t, Config{MaxBytes: 300_000, MemoryBytes: 100_000, MemoryMaxBlob: 10_000})
	contents := make([][]byte, 40)
	digests := make([]proto.Digest, len(contents))
	for i := range contents {
		contents[i] = randomBytes(uint64(i), 500*(i+1))
		digests[i] = proto.DigestOf(contents[i])
	}
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(g), 1))
			for range 150 {
				i := r.IntN(len(contents))
				switch r.IntN(10) {
				case 0:
					_ = s.Remove(digests[i])
				case 1:
					s.Pin("storm", digests[i:min(i+2, len(digests))])
				case 2:
					st := s.Stats()
					if st.Used+st.Reserved > st.Max {
						t.Errorf("over the limit: %+v", st)
					}
				case 3, 4, 5:
					if _, err := s.Put(contents[i], someDay); err != nil && !errors.Is(err, proto.ErrNoSpace) {
						t.Error(err)
					}
				default:
					b, err := s.Get(digests[i])
					if errors.Is(err, fs.ErrNotExist) {
						continue
					}
					if err != nil {
						t.Error(err)
						continue
					}
					if got, err := io.ReadAll(b.Reader()); err != nil || !bytes.Equal(got, contents[i]) {
						t.Errorf("blob %d: %d bytes, %v", i, len(got), err)
					}
					b.Close()
				}
			}
		})
	}
	wg.Wait()
	wantWhole(t, s)
}

func TestCollectors(t *testing.T) {
	s := open(t, Config{})
	r := prometheus.NewPedanticRegistry()
	for _, c := range s.Collectors() {
		if err := r.Register(c); err != nil {
			t.Fatal(err)
		}
	}
	mustPut(t, s, []byte("x"))
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]bool{}
	for _, f := range families {
		got[strings.TrimPrefix(f.GetName(), "aptmesh_store_")] = true
	}
	for _, name := range []string{"used_bytes", "reserved_bytes", "max_bytes", "blobs", "degraded", "hits_total", "misses_total",
		"evictions_total", "evicted_bytes_total", "damaged_total", "scrubbed_bytes_total", "commit_seconds"} {
		if !got[name] {
			t.Errorf("no metric %s", name)
		}
	}
}

// TestOldNotes: a store that kept its notes among other rooms' files goes on with
// them, once.
func TestOldNotes(t *testing.T) {
	cfg := Config{Dir: fastDir(t), MaxBytes: 1 << 30}
	s := open(t, cfg)
	mustPut(t, s, randomBytes(1, 1000))
	s.Close()
	state := cfg.Dir + "/state"
	if err := os.Mkdir(state, dirMode); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(cfg.Dir+"/"+ledgerName, state+"/.usage"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(state+"/.scrub", []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(state+"/theirs", []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	s = open(t, cfg)
	if used, _, _ := s.space.totals(); used != 1000 {
		t.Errorf("the store begins with %d bytes in use; its old ledger says 1000", used)
	}
	for name, want := range map[string]bool{state + "/.usage": false, state + "/.scrub": false, state + "/theirs": true, cfg.Dir + "/scrub": true} {
		if _, err := os.Stat(name); (err == nil) != want {
			t.Errorf("%s is there: %v", name, err == nil)
		}
	}
	wantWhole(t, s)
}
