package statedir

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/aptmesh/aptmesh/node/durable"
	"github.com/aptmesh/aptmesh/proto"
)

const (
	// maxName is the longest name of one file that file systems accept, in bytes.
	maxName = 255
	// tempPrefix begins the names of files that do not have their final name yet.
	tempPrefix = ".new-"
)

// Config says where a directory lies and which format it has.
type Config struct {
	// Dir is created where it is missing, with its parents.
	Dir string
	// Format is the format that this program reads and writes; 1 or more.
	Format int
	// Program names this program and its version. An older program that refuses the
	// directory shows it.
	Program string
	// FS is the file system; nil means the real one.
	FS durable.FS
}

// Dir is an open directory. Its methods are safe for concurrent use.
type Dir struct {
	dir  string
	fs   durable.FS
	lock *os.File

	mu     sync.RWMutex // read-held by writers; Close waits for them
	closed bool         // guarded by mu

	temps atomic.Uint64 // names of temporary files given out

	degradedMu sync.Mutex
	degraded   string // why the last write failed; guarded by degradedMu
}

// Open takes the directory for this process. The order of the steps is: refuse another
// format, before anything is changed; lock; refuse again, because another process may
// have been quicker; and write the format of a new directory down.
func Open(cfg Config) (*Dir, error) {
	if err := Check(cfg.Dir, cfg.Format); err != nil {
		return nil, err
	}
	d := &Dir{dir: cfg.Dir, fs: cfg.FS}
	if d.fs == nil {
		d.fs = durable.OS{}
	}
	if err := d.open(cfg); err != nil {
		if d.lock != nil {
			d.lock.Close()
		}
		return nil, fmt.Errorf("state directory %s: %w", cfg.Dir, err)
	}
	return d, nil
}

func (d *Dir) open(cfg Config) (err error) {
	if err := os.MkdirAll(d.dir, durable.DirMode); err != nil {
		return err
	}
	if d.lock, err = durable.Lock(d.dir); err != nil {
		return err
	}
	if err := d.removeTemps(); err != nil {
		return err
	}
	fresh, err := isNew(d.dir, cfg.Format)
	if err != nil || !fresh {
		return err
	}
	// The directory itself may be new.
	if err := d.fs.SyncDir("open.syncdir", filepath.Dir(d.dir)); err != nil {
		return err
	}
	text := formatText(cfg.Format, cfg.Program)
	return durable.Replace(d.fs, "format", d.tempName(), filepath.Join(d.dir, formatName), text)
}

// removeTemps removes what a process that died left behind.
func (d *Dir) removeTemps() error {
	files, err := os.ReadDir(d.dir)
	if err != nil {
		return err
	}
	for _, f := range files {
		if strings.HasPrefix(f.Name(), tempPrefix) {
			if err := d.fs.Remove("open.remove", filepath.Join(d.dir, f.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// tempName is unique in this directory, because the lock keeps other processes out.
func (d *Dir) tempName() string {
	return filepath.Join(d.dir, tempPrefix+strconv.FormatUint(d.temps.Add(1), 10))
}

// Close lets another process open the directory. A second Close does nothing.
func (d *Dir) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil
	}
	d.closed = true
	return d.lock.Close() // closing the file gives up the lock
}

// begin is called before the directory is changed, and the returned function after.
func (d *Dir) begin() (end func(), err error) {
	d.mu.RLock()
	if d.closed {
		d.mu.RUnlock()
		return nil, fmt.Errorf("state directory %s: %w", d.dir, fs.ErrClosed)
	}
	return d.mu.RUnlock, nil
}

// fileName returns the file that holds what is called name. Names are free text,
// slashes included; they are escaped into one flat directory, so that "dists/a" and
// "dists/a/b" can both exist, and none meets a file of our own.
func fileName(name string) (string, error) {
	if name == "" {
		return "", errors.New("a state file needs a name")
	}
	file := url.PathEscape(name)
	if isOurs(file) {
		file = fmt.Sprintf("%%%02X", file[0]) + file[1:]
	}
	if len(file) > maxName {
		return "", fmt.Errorf("the name of state file %.40q… is too long: %d bytes, at most %d", name, len(file), maxName)
	}
	return file, nil
}

// isOurs reports whether a file in the directory belongs to this package, or is "."
// or "..".
func isOurs(file string) bool {
	return file[0] == '.' || file == formatName || file == durable.LockName
}

// WriteFile replaces a file durably (durable.Replace says how): after a crash or a
// power cut ReadFile gives the old bytes or the new ones, and the new ones once
// WriteFile has returned nil. The name is free text of up to 255 bytes after URL
// escaping. If the disk is full or fails, the error wraps proto.ErrNoSpace and the
// old bytes stay.
func (d *Dir) WriteFile(name string, data []byte) error {
	file, err := fileName(name)
	if err != nil {
		return err
	}
	end, err := d.begin()
	if err != nil {
		return err
	}
	defer end()
	err = durable.Replace(d.fs, "state", d.tempName(), filepath.Join(d.dir, file), data)
	d.note(err)
	if err != nil {
		return fmt.Errorf("%w: write state file %s: %w", proto.ErrNoSpace, name, err)
	}
	return nil
}

// ReadFile returns the bytes of a file; fs.ErrNotExist where there is none.
func (d *Dir) ReadFile(name string) ([]byte, error) {
	file, err := fileName(name)
	if err != nil {
		return nil, err
	}
	b, err := os.ReadFile(filepath.Join(d.dir, file))
	if err != nil {
		return nil, fmt.Errorf("read state file: %w", err)
	}
	return b, nil
}

// OpenFile opens a file for reading; fs.ErrNotExist where there is none. It goes on being the file as it was when it is
// replaced or removed. The caller closes it.
func (d *Dir) OpenFile(name string) (*os.File, error) {
	file, err := fileName(name)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(filepath.Join(d.dir, file))
	if err != nil {
		return nil, fmt.Errorf("open state file: %w", err)
	}
	return f, nil
}

// RemoveFile deletes a file durably. A file that is not there is no error.
func (d *Dir) RemoveFile(name string) error {
	file, err := fileName(name)
	if err != nil {
		return err
	}
	end, err := d.begin()
	if err != nil {
		return err
	}
	defer end()
	err = d.fs.Remove("state.remove", filepath.Join(d.dir, file))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = d.fs.SyncDir("state.syncdir", d.dir)
	}
	if err != nil {
		return fmt.Errorf("remove state file %s: %w", name, err)
	}
	return nil
}

// Scratch makes a file without a name on the same file system: what is written to it is gone when it
// is closed, or when the process ends.
func (d *Dir) Scratch() (*os.File, error) {
	end, err := d.begin()
	if err != nil {
		return nil, err
	}
	defer end()
	name := d.tempName()
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	if err := os.Remove(name); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// ListFiles returns the names of the files that begin with prefix, sorted.
func (d *Dir) ListFiles(prefix string) ([]string, error) {
	files, err := stateFiles(d.dir, prefix)
	if err != nil {
		return nil, fmt.Errorf("list state files: %w", err)
	}
	names := make([]string, len(files))
	for i, f := range files {
		names[i] = f.name
	}
	sort.Strings(names)
	return names, nil
}

// stateFile is a file in a state directory, and the name that it has there.
type stateFile struct{ file, name string }

// stateFiles lists the files below dir whose names begin with prefix.
func stateFiles(dir, prefix string) ([]stateFile, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var files []stateFile
	for _, e := range entries {
		name, err := url.PathUnescape(e.Name())
		if err != nil || isOurs(e.Name()) || !e.Type().IsRegular() || !strings.HasPrefix(name, prefix) {
			continue
		}
		files = append(files, stateFile{e.Name(), name})
	}
	return files, nil
}

// note remembers whether files can be written.
func (d *Dir) note(err error) {
	d.degradedMu.Lock()
	defer d.degradedMu.Unlock()
	d.degraded = ""
	if err != nil {
		d.degraded = durable.Explain(d.dir, err)
	}
}

// Degraded says why the last write failed and what to do about it; "" if it
// succeeded.
func (d *Dir) Degraded() string {
	d.degradedMu.Lock()
	defer d.degradedMu.Unlock()
	return d.degraded
}

// Collectors are the metrics of the directory. A process registers those of one
// directory only.
func (d *Dir) Collectors() []prometheus.Collector {
	return []prometheus.Collector{prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "aptmesh_state_degraded", Help: "1 while the directory of durable state cannot be written.",
	}, func() float64 {
		if d.Degraded() != "" {
			return 1
		}
		return 0
	})}
}
