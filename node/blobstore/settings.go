package blobstore

import (
	_ "embed"
	"fmt"
	"os"
	"path/filepath"

	"github.com/dustin/go-humanize"
	"golang.org/x/sys/unix"
)

//go:embed settings.go
var SettingsSource string // node/config prints the comments of the keys

// Settings is the section `cache` of the configuration: what bounds the store.
type Settings struct {
	// Cap on disk: a size, or a share of the file system that holds `data`.
	MaxSize Limit `yaml:"max_size" default:"80%"`
	// Cap in memory, for small hot objects.
	Memory int64 `yaml:"memory" default:"256MiB"`
	// Bytes per second that are read again to find damaged objects; 0 is off.
	Scrub int64 `yaml:"scrub" default:"5MiB"`
}

// Limit is a number of bytes, or a share of the file system: one of the two is set.
type Limit struct {
	Bytes   int64
	Percent int
}

// Of is the limit in bytes on a file system of total bytes.
func (l Limit) Of(total int64) int64 {
	if l.Percent == 0 {
		return l.Bytes
	}
	// Divided first: a file system may be large enough to overflow the product.
	return total/100*int64(l.Percent) + total%100*int64(l.Percent)/100
}

// Excess says that MaxSize is more than the file system that holds a directory, which may not exist yet,
// and "" if it is not, or if nobody can tell.
func (s Settings) Excess(dir string) string {
	var fs unix.Statfs_t
	for unix.Statfs(dir, &fs) != nil {
		if dir == filepath.Dir(dir) {
			return ""
		}
		dir = filepath.Dir(dir)
	}
	total := int64(fs.Blocks) * int64(fs.Bsize)
	if s.MaxSize.Bytes <= total {
		return ""
	}
	return fmt.Sprintf("%s is more than the whole file system of %s has (%s), so that the disk is full before it is reached; give less, or a share of it such as 80%%",
		humanize.IBytes(uint64(s.MaxSize.Bytes)), dir, humanize.IBytes(uint64(total)))
}

// maxReserve bounds what is left free on the file system for others; on a small one it is a fiftieth.
const maxReserve = 1 << 30

// overflowBytes is how much memory stands in for a disk that has no room: enough for the indexes of a
// few suites, so that hosts of a node whose disk is full do not each cost a fetch of them.
const overflowBytes = 64 << 20

// Config is what the settings come to in a directory, which is made, on its file system.
func (s Settings) Config(dir string) (Config, error) {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return Config{}, err
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return Config{}, fmt.Errorf("ask the size of the file system of %s: %w", dir, err)
	}
	total := int64(fs.Blocks) * int64(fs.Bsize)
	return Config{
		Dir: dir, MaxBytes: s.MaxSize.Of(total), MemoryBytes: s.Memory, ScrubBytesPerSecond: s.Scrub,
		OverflowBytes: overflowBytes, ReserveFree: min(maxReserve, total/50),
	}, nil
}
