package blobstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/aptmesh/aptmesh/proto"
)

// TestDamageIsAMiss: what shows to be damaged is a miss, removed, counted, logged
// once, and mended by the next commit.
func TestDamageIsAMiss(t *testing.T) {
	content := randomBytes(1, 5000)
	digest := proto.DigestOf(content)
	truncate := func(n int64) func(*testing.T, string) {
		return func(t *testing.T, name string) {
			if err := os.Truncate(name, n); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, c := range []struct {
		name   string
		damage func(t *testing.T, blob string)
		// scanned: the store had seen the blob whole.
		scanned bool
		reads   int // until it shows
	}{
		{"shorter", truncate(4999), true, 1},
		{"longer", truncate(5001), true, 1},
		{"empty", truncate(0), true, 1},
		{"empty at the start", truncate(0), false, 1},
		{"shorter at the start", truncate(4999), false, 2},
		{"flipped", flip, true, 2},
		{"flipped at the start", flip, false, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			var log bytes.Buffer
			cfg := Config{Dir: fastDir(t), MemoryBytes: 1 << 20, Logger: slog.New(slog.NewTextHandler(&log, nil))}
			s := open(t, cfg)
			mustPut(t, s, content)
			if c.scanned {
				s.memory.drop(digest)
				s.memory.cache.Wait() // the copy that was on its way in came and went
				c.damage(t, s.dirs.blob(digest))
			} else {
				s.Close()
				c.damage(t, s.dirs.blob(digest))
				s = open(t, cfg)
			}
			waitScanned(s)
			for range c.reads - 1 {
				body(t, s, digest)
			}
			for range 3 {
				wantMiss(t, s, digest)
			}
			if _, ok := s.Stat(digest); ok {
				t.Error("Stat still sees it")
			}
			if st := s.Stats(); st.Damaged != 1 || st.Used != 0 {
				t.Errorf("%+v", st)
			}
			if n := strings.Count(log.String(), digest.String()); n != 2 { // blob=, file=
				t.Errorf("the log names it %d times:\n%s", n, log.String())
			}
			mustPut(t, s, content)
			if _, got := body(t, s, digest); !bytes.Equal(got, content) {
				t.Error("not mended")
			}
			wantWhole(t, s)
		})
	}
}

// TestCommitMendsDamage: a blob that the scan met truncated is replaced by a
// commit, and its account with it.
func TestCommitMendsDamage(t *testing.T) {
	cfg := Config{Dir: fastDir(t)}
	s := open(t, cfg)
	content := randomBytes(1, 5000)
	d := mustPut(t, s, content)
	s.Close()
	if err := os.Truncate(s.dirs.blob(d), 10); err != nil {
		t.Fatal(err)
	}
	s = open(t, cfg)
	waitScanned(s)
	mustPut(t, s, content)
	if _, got := body(t, s, d); !bytes.Equal(got, content) {
		t.Fatal("not mended")
	}
	wantWhole(t, s)
}

// TestFreshBlobOutlivesOldDamage: who saw damage through an old handle must not
// remove the good file that a commit has put there since.
func TestFreshBlobOutlivesOldDamage(t *testing.T) {
	s := open(t, Config{})
	d := mustPut(t, s, []byte("x"))
	old, _, err := s.openBlob(s.dirs.blob(d))
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	mustPut(t, s, []byte("x"))
	s.damaged(d, old, "test")
	body(t, s, d)
	if n := s.Stats().Damaged; n != 0 {
		t.Errorf("%d damaged", n)
	}
	wantWhole(t, s)
}

func TestVerifyAndRepair(t *testing.T) {
	s := open(t, Config{})
	var digests []proto.Digest
	var total int64
	for i := range 20 {
		digests = append(digests, mustPut(t, s, randomBytes(uint64(i), 1000*i)))
		total += int64(1000 * i)
	}
	flip(t, s.dirs.blob(digests[3]))
	if err := os.Truncate(s.dirs.blob(digests[5]), 0); err != nil {
		t.Fatal(err)
	}
	total -= 5000
	foreign := s.dirs.shard(0) + "/README"
	if err := os.WriteFile(foreign, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	used := usedTimes(t, s, digests)

	var done, of int64
	progress := func(d, t int64) { done, of = d, t }
	for round, repair := range []bool{false, true} {
		check := Verify
		if repair {
			check = Repair
		}
		report, err := check(t.Context(), s.dirs.root, progress) // beside a running store
		if err != nil {
			t.Fatal(err)
		}
		if report.Blobs != 20 || report.Bytes != total || done != total || of != total {
			t.Errorf("round %d: %d blobs, %d bytes, progress %d of %d; want 20, %d", round, report.Blobs, report.Bytes, done, of, total)
		}
		if fmt.Sprint(report.Foreign) != "[blobs/00/README]" || len(report.Damaged) != 2 {
			t.Errorf("round %d: %+v", round, report)
		}
		for _, d := range report.Damaged {
			if d.Digest != digests[3] && d.Digest != digests[5] || d.Removed != repair || d.Reason == "" {
				t.Errorf("round %d: %+v", round, d)
			}
		}
		if round == 0 && fmt.Sprint(usedTimes(t, s, digests)) != fmt.Sprint(used) {
			t.Error("Verify disturbed the last uses")
		}
	}
	wantMiss(t, s, digests[3])
	wantMiss(t, s, digests[5])
	if err := os.Remove(foreign); err != nil {
		t.Fatal(err)
	}
	wantWhole(t, s)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Verify(ctx, s.dirs.root, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("Verify with a dead context: %v", err)
	}
	if _, err := Verify(t.Context(), t.TempDir(), nil); err == nil {
		t.Error("Verify of a directory that is no store")
	}
}

// TestUnreadable: a blob that could not be read is a miss, and one that was stored since is not.
func TestUnreadable(t *testing.T) {
	var log bytes.Buffer
	s := open(t, Config{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	waitScanned(s)
	content := randomBytes(1, 100_000)
	d := mustPut(t, s, content)
	b, err := s.Get(d)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	s.Unreadable(d, b.File, unix.EIO)
	wantMiss(t, s, d)
	if st := s.Stats(); st.Damaged != 1 || st.Used != 0 || !strings.Contains(log.String(), "kernel log") {
		t.Errorf("%+v\n%s", st, log.String())
	}
	mustPut(t, s, content)
	s.Unreadable(d, b.File, unix.EIO)
	if _, got := body(t, s, d); !bytes.Equal(got, content) {
		t.Error("a good blob is gone")
	}
	wantWhole(t, s)
}
