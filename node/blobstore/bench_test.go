package blobstore

import (
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/proto"
)

func BenchmarkGet(b *testing.B) {
	for _, c := range []struct {
		name   string
		memory int64
		size   int
	}{{"memory/2KB", 1 << 26, 2 << 10}, {"memory/200KB", 1 << 26, 200 << 10}, {"disk/2KB", 0, 2 << 10}, {"disk/200KB", 0, 200 << 10}} {
		b.Run(c.name, func(b *testing.B) {
			s := open(b, Config{MemoryBytes: c.memory})
			digests := make([]proto.Digest, 64)
			for i := range digests {
				digests[i] = mustPut(b, s, randomBytes(uint64(i), c.size))
			}
			if c.memory > 0 {
				s.memory.cache.Wait()
			}
			waitScanned(s)
			b.ReportAllocs()
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for i := 0; pb.Next(); i++ {
					blob, err := s.Get(digests[i%len(digests)])
					if err != nil {
						b.Error(err)
						return
					}
					blob.Close()
				}
			})
		})
	}
}

func BenchmarkMiss(b *testing.B) {
	s := open(b, Config{MemoryBytes: 1 << 20})
	d := proto.DigestOf([]byte("not there"))
	b.ReportAllocs()
	for b.Loop() {
		_, _ = s.Get(d)
	}
}

// BenchmarkPut commits blobs of 20 KB on the real disk, from a number of writers.
func BenchmarkPut(b *testing.B) {
	for _, writers := range []int{1, 8, 64} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			s := open(b, Config{Dir: b.TempDir(), MaxBytes: 1 << 40})
			waitScanned(s)
			work := make(chan []byte)
			done := make(chan error)
			for range writers {
				go func() {
					var err error
					for content := range work {
						if _, perr := s.Put(content, someDay); perr != nil {
							err = perr
						}
					}
					done <- err
				}()
			}
			b.ResetTimer()
			for i := range b.N {
				work <- randomBytes(uint64(i), 20<<10)
			}
			close(work)
			for range writers {
				if err := <-done; err != nil {
					b.Error(err)
				}
			}
		})
	}
}

// BenchmarkChooseVictims is the look at every blob that an eviction takes: alone,
// and with a part of the blobs elsewhere. The last uses lie within the span, so
// that a short one lets the bonus decide about all blobs.
func BenchmarkChooseVictims(b *testing.B) {
	const day = 24 * time.Hour
	for _, c := range []struct {
		name       string
		span       time.Duration
		replicated int // percent; alone if negative
	}{
		{"alone", 60 * day, -1},
		{"60 days/all elsewhere", 60 * day, 100},
		{"60 days/half elsewhere", 60 * day, 50},
		{"60 days/none elsewhere", 60 * day, 0},
		{"5 days/all elsewhere", 5 * day, 100},
		{"5 days/half elsewhere", 5 * day, 50},
		{"5 days/none elsewhere", 5 * day, 0},
	} {
		b.Run(c.name, func(b *testing.B) {
			asked := 0
			cfg := Config{}
			if c.replicated >= 0 {
				cfg.Replicated = func(d proto.Digest) bool {
					asked++
					return int(d[6])*100 < c.replicated*256
				}
			}
			s := open(b, cfg)
			waitScanned(s)
			s.fill(1_000_000, c.span)
			b.ResetTimer()
			for b.Loop() {
				s.oldest(1, 1_000_000*50_000/evictBatch)
			}
			b.ReportMetric(float64(asked)/float64(b.N), "asked/op")
		})
	}
}

// fill makes the index believe in blobs of 50 KB, last used within span.
func (s *Store) fill(blobs int, span time.Duration) {
	for i := range blobs {
		d := proto.DigestOf(fmt.Append(nil, i))
		used := someDay.Add(-time.Duration(binary.LittleEndian.Uint64(d[8:]) % uint64(span)))
		s.index.shard(d).put(d, newEntry(50_000, used.UnixNano()))
	}
}

// BenchmarkLastCopy goes over a million blobs of which a part is elsewhere.
func BenchmarkLastCopy(b *testing.B) {
	for _, lastCopies := range []int{1, 10, 100} { // percent
		b.Run(fmt.Sprintf("lone=%d%%", lastCopies), func(b *testing.B) {
			s := open(b, Config{})
			waitScanned(s)
			s.fill(1_000_000, 60*24*time.Hour)
			for b.Loop() {
				for range s.LastCopies(func(d proto.Digest) bool { return int(d[6])*100 >= lastCopies*256 }) {
				}
			}
		})
	}
}
