package blobstore

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

// The variables that turn the test binary into the process that is killed.
const (
	crashDir   = "APTMESH_TEST_CRASH_DIR"
	crashLimit = "APTMESH_TEST_CRASH_LIMIT"
	crashSeed  = "APTMESH_TEST_CRASH_SEED"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(crashDir); dir != "" {
		fmt.Fprintln(os.Stderr, writeUntilKilled(dir))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// writeUntilKilled commits blobs from several goroutines and says of each on
// standard output when it is safe. One of them also keeps a state file that
// names the last blob it stored, as the catalog does with generations.
func writeUntilKilled(dir string) error {
	limit, _ := strconv.ParseInt(os.Getenv(crashLimit), 10, 64)
	seed, _ := strconv.ParseUint(os.Getenv(crashSeed), 10, 64)
	s, err := Open(Config{Dir: dir, MaxBytes: limit, MemoryBytes: 1 << 20, ScrubBytesPerSecond: 1 << 30})
	if err != nil {
		return err
	}
	failed := make(chan error)
	for g := range uint64(4) {
		go func() {
			r := rand.New(rand.NewPCG(seed, g))
			var pointer *proto.Digest
			if g == 0 {
				pointer = new(proto.Digest)
			}
			for n := uint64(0); ; n++ {
				if err := writeOne(s, r, pointer, fmt.Sprintf("%d-%d-%d ", seed, g, n)); err != nil {
					failed <- err
					return
				}
			}
		}()
	}
	return <-failed
}

// writeOne stores one blob or aborts it. Where pointer is given, the state file
// comes to name the blob. Until it does, it names the one before: so both are
// pinned meanwhile, the new one from before its commit on.
func writeOne(s *Store, r *rand.Rand, pointer *proto.Digest, head string) error {
	size := r.IntN(60_000)
	reported := int64(len(head) + size)
	if size%2 == 0 {
		reported = proto.UnknownSize
	}
	w, err := s.Create(reported)
	if err != nil {
		return err
	}
	defer w.Abort()
	content := append([]byte(head), make([]byte, size)...)
	for len(content) > 0 {
		part := content[:min(10_000, len(content))]
		if _, err := w.Write(part); err != nil {
			return err
		}
		content = content[len(part):]
	}
	if r.IntN(8) == 0 {
		return nil // Abort
	}
	if pointer != nil {
		s.Pin("pointer", []proto.Digest{*pointer, w.Sum().Digest})
	}
	ref, err := w.Commit(someDay)
	if err != nil {
		return err
	}
	if w.memory { // another program fills the disk: that is no test
		return fmt.Errorf("the disk took nothing: %s", s.Stats().Degraded)
	}
	fmt.Println("committed", ref.Digest)
	if pointer == nil {
		return nil
	}
	*pointer = ref.Digest
	if err := s.writeNote("pointer", "pointer", []byte(head+ref.Digest.String())); err != nil {
		return err
	}
	fmt.Println("pointer", head+ref.Digest.String())
	return nil
}

// TestKill kills a writing process at random moments, again and again. Each time
// the next one finds: no wrong blob, every blob that was reported committed, a
// state file that is whole and not behind, nothing in tmp, and no more bytes than
// the ledger said.
func TestKill(t *testing.T) {
	for _, c := range []struct {
		name   string
		limit  int64
		evicts bool
	}{{"roomy", 1 << 40, false}, {"evicting", 1 << 20, true}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := fastDir(t)
			var commits int
			for round := range 10 {
				committed, pointer := runAndKill(t, dir, c.limit, round)
				commits += len(committed)
				wantLedgerAbove(t, dir)
				s := open(t, Config{Dir: dir, MaxBytes: c.limit})
				wantPointer(t, s, pointer)
				if !c.evicts {
					for _, d := range committed {
						if _, ok := s.Stat(d); !ok {
							_, err := os.Stat(s.dirs.blob(d))
							t.Fatalf("round %d: %s was committed and is gone (%v; %+v)", round, d, err, s.Stats())
						}
					}
				}
				wantWhole(t, s)
				if st := s.Stats(); st.Used > c.limit {
					t.Errorf("round %d: over the limit: %+v", round, st)
				}
				// A process that another test starts at this moment has all open files of this one until its
				// program runs, the lock of the store among them.
				syscall.ForkLock.RLock()
				err := s.Close()
				syscall.ForkLock.RUnlock()
				if err != nil {
					t.Fatal(err)
				}
			}
			t.Logf("%d blobs committed in 10 runs", commits)
		})
	}
}

// runAndKill starts a writer and kills it some time after its first commit.
func runAndKill(t *testing.T, dir string, limit int64, round int) (committed []proto.Digest, pointer string) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), crashDir+"="+dir, fmt.Sprintf("%s=%d", crashLimit, limit), fmt.Sprintf("%s=%d", crashSeed, round))
	var complaint strings.Builder
	cmd.Stderr = &complaint
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var kill sync.Once
	var timer *time.Timer
	lines := bufio.NewReader(out)
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			if err != io.EOF {
				t.Error(err)
			}
			break
		}
		what, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		if what == "pointer" {
			pointer = rest
		} else {
			d, err := proto.ParseDigest(rest)
			if err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			committed = append(committed, d)
		}
		kill.Do(func() {
			timer = time.AfterFunc(time.Duration(rand.IntN(40_000))*time.Microsecond, func() { _ = cmd.Process.Kill() })
		})
	}
	_ = cmd.Wait() // "signal: killed"
	if timer != nil {
		timer.Stop()
	}
	if complaint.Len() > 0 || len(committed) == 0 {
		t.Fatalf("round %d: the writer ended by itself after %d commits: %s", round, len(committed), complaint.String())
	}
	return committed, pointer
}

// wantPointer checks the state file: what was reported, or one newer, and it names
// a blob that is there.
func wantPointer(t *testing.T, s *Store, reported string) {
	t.Helper()
	if reported == "" {
		return // killed before the first
	}
	text, err := s.readNote("pointer")
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(text))
	if len(fields) != 2 {
		t.Fatalf("torn state file: %q", text)
	}
	var seed, g, have, want int
	if _, err := fmt.Sscanf(string(text), "%d-%d-%d", &seed, &g, &have); err != nil {
		t.Fatalf("torn state file: %q", text)
	}
	_, _ = fmt.Sscanf(reported, "%d-%d-%d", &seed, &g, &want)
	if have < want {
		t.Errorf("the state file is of %d, %d was reported", have, want)
	}
	d, err := proto.ParseDigest(fields[1])
	if err != nil {
		t.Fatal(err)
	}
	if _, content := body(t, s, d); proto.DigestOf(content) != d {
		t.Error("the state file names a blob that is not right")
	}
}

// wantLedgerAbove checks, before anybody opens the store, that its ledger does
// not say less than what is there.
func wantLedgerAbove(t *testing.T, dir string) {
	t.Helper()
	report, err := Verify(t.Context(), dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(dirsOf(dir).root + "/" + ledgerName)
	if err != nil {
		t.Fatal(err)
	}
	if bound, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err != nil || bound < report.Bytes {
		t.Errorf("the ledger says %q, the disk holds %d bytes", text, report.Bytes)
	}
}
