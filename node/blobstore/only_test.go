package blobstore

import (
	"errors"
	"os"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/aptmesh/aptmesh/proto"
)

// putOnly stores b for one name; "" is for all.
func putOnly(s *Store, b []byte, name string) (proto.Ref, error) {
	w, err := s.Create(int64(len(b)))
	if err != nil {
		return proto.Ref{}, err
	}
	defer w.Abort()
	if _, err := w.Write(b); err != nil {
		return proto.Ref{}, err
	}
	if name != "" {
		w.Only(name)
	}
	return w.Commit(someDay)
}

// Who may have a blob follows from who brought it, in whichever order, and survives a restart.
func TestOnly(t *testing.T) {
	for name, tt := range map[string]struct {
		brought []string // "" is open to all, "-" a removal
		want    []string
	}{
		"open to all":                   {[]string{""}, nil},
		"one":                           {[]string{"a"}, []string{"a"}},
		"one, twice":                    {[]string{"a", "a"}, []string{"a"}},
		"two":                           {[]string{"a", "b/c"}, []string{"a", "b/c"}},
		"one, then open":                {[]string{"a", "b", ""}, nil},
		"open, then one":                {[]string{"", "a"}, nil},
		"one, then open, then another":  {[]string{"a", "", "b"}, nil},
		"removed":                       {[]string{"a", "-"}, nil},
		"removed, and brought by one":   {[]string{"", "-", "b"}, []string{"b"}},
		"removed, and brought by other": {[]string{"a", "-", "b"}, []string{"b"}},
	} {
		dir := t.TempDir()
		s := open(t, Config{Dir: dir})
		content := []byte(name)
		d := proto.DigestOf(content)
		for _, by := range tt.brought {
			var err error
			if by == "-" {
				err = s.Remove(d)
			} else {
				_, err = putOnly(s, content, by)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if got := s.Only(d); !slices.Equal(got, tt.want) {
			t.Errorf("%s: only %q, want %q", name, got, tt.want)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, Config{Dir: dir})
		if got := s.Only(d); !slices.Equal(got, tt.want) {
			t.Errorf("%s: after a restart only %q, want %q", name, got, tt.want)
		}
		waitScanned(s)
		if left, _ := os.ReadDir(s.dirs.only); len(left) != min(1, len(tt.want)) {
			t.Errorf("%s: %d marks are left", name, len(left))
		}
	}
}

// Whatever call fails, a blob that needs a mark has one. After "crash" nothing more reaches the
// disk, as when the power goes.
func TestOnlyIsNeverLost(t *testing.T) {
	secret := []byte("secret")
	d := proto.DigestOf(secret)
	steps := []string{"only.create", "only.write", "only.sync", "only.rename", "only.syncdir", "blob.rename", "blob.syncdir"}
	for _, step := range steps {
		disk := &faultFS{}
		dir := t.TempDir()
		s := open(t, Config{Dir: dir, fs: disk})
		disk.Break(step, unix.EIO)
		if _, err := putOnly(s, secret, "a"); !errors.Is(err, proto.ErrNoSpace) {
			t.Errorf("%s: %v", step, err)
		}
		wantMiss(t, s, d)
		disk.Heal()
		s.Close()
		s = open(t, Config{Dir: dir, fs: disk})
		waitScanned(s)
		if left, _ := os.ReadDir(s.dirs.only); len(left) != 0 {
			t.Errorf("%s: a mark is left without its blob", step)
		}
		if _, err := putOnly(s, secret, "b"); err != nil || !slices.Equal(s.Only(d), []string{"b"}) {
			t.Errorf("%s: afterwards: %v, only %q", step, err, s.Only(d))
		}
	}
	for _, step := range []string{"blob.remove", "only.gone", "only.remove"} {
		disk := &faultFS{}
		s := open(t, Config{fs: disk})
		if _, err := putOnly(s, secret, "a"); err != nil {
			t.Fatal(err)
		}
		disk.Break(step, unix.EIO)
		_ = s.Remove(d)
		if got := s.Only(d); !slices.Equal(got, []string{"a"}) {
			t.Errorf("%s: the blob may have come back, with the mark %q", step, got)
		}
		disk.Break(step, unix.EIO)
		if _, err := putOnly(s, secret, ""); err != nil {
			t.Errorf("%s: %v", step, err)
		}
	}
	// The order of a removal: first the blob is durably gone.
	disk := &faultFS{}
	s := open(t, Config{fs: disk})
	if _, err := putOnly(s, secret, "a"); err != nil {
		t.Fatal(err)
	}
	steps = disk.Steps()
	if i := slices.Index(steps, "only.syncdir"); i < 0 || i > slices.Index(steps, "blob.rename") {
		t.Errorf("the mark was not there before the blob: %q", steps)
	}
	if err := s.Remove(d); err != nil {
		t.Fatal(err)
	}
	if steps, want := disk.Steps(), []string{"blob.remove", "only.gone", "only.remove"}; !slices.Equal(steps, want) {
		t.Errorf("removed by %q, want %q", steps, want)
	}
}

// A mark that cannot be read keeps everybody out.
func TestUnreadableMark(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Config{Dir: dir})
	ref, err := putOnly(s, []byte("secret"), "a")
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	if err := os.WriteFile(s.dirs.mark(ref.Digest), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s = open(t, Config{Dir: dir})
	if got := s.Only(ref.Digest); got == nil || slices.Contains(got, "a") {
		t.Errorf("only %q", got)
	}
	if _, err := putOnly(s, []byte("secret"), "b"); err != nil || !slices.Equal(s.Only(ref.Digest), []string{"b"}) {
		t.Errorf("mended: %v, only %q", err, s.Only(ref.Digest))
	}
}
