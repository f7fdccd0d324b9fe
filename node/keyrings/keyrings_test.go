package keyrings

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
)

func testKey() string { return string(testarchive.ArmoredKeyring(testarchive.DefaultKey())) }

func TestSets(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"a.asc": testKey(), "b.gpg": "nonsense", "c.asc~": testKey(), ".d.asc": testKey(), "e f.asc": testKey(), "g.txt": testKey(), "h.gpg": "",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "i.gpg"), 0o755); err != nil {
		t.Fatal(err)
	}
	for entry, want := range map[string]struct {
		keys    int
		leftOut []string
		fails   string
	}{
		dir:                 {1, []string{"b.gpg"}, ""},
		dir + "/":           {1, []string{"b.gpg"}, ""},
		dir + "/*.asc":      {2, nil, ""}, // who writes a pattern means what it matches
		dir + "/*.none":     {0, nil, ""},
		dir + "/[":          {0, nil, "no pattern"},
		dir + "/**/*.asc":   {0, nil, "** does not go down"},
		dir + "/a.asc":      {1, nil, ""},
		dir + "/gone/":      {0, nil, "no such file"},
		dir + "/b.gpg":      {0, nil, "b.gpg"},
		testKey():           {1, nil, ""},
		dir + "/i.gpg":      {0, nil, ""},
		dir + "/[ab].[ag]*": {1, []string{"b.gpg"}, ""},
	} {
		ring, leftOut, err := ReadEntry(entry)
		name := strings.ReplaceAll(entry, dir, "DIR")
		if want.fails != "" {
			if err == nil || !strings.Contains(err.Error(), want.fails) {
				t.Errorf("%s: %v, want %q", name, err, want.fails)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := len(ring.Fingerprints()); got != want.keys || len(leftOut) != len(want.leftOut) || len(leftOut) > 0 && !strings.Contains(leftOut[0], want.leftOut[0]) {
			t.Errorf("%s: %d keys, left out %q; want %d and %q", name, got, leftOut, want.keys, want.leftOut)
		}
		trouble, err := Troubles(entry)
		if err != nil || (len(trouble) > 0) != (want.keys == 0 || len(want.leftOut) > 0) {
			t.Errorf("%s: trouble %q, %v", name, trouble, err)
		}
	}
}

// The stamp follows every change that makes another keyring of a set, and nothing else.
func TestStamp(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "a.asc")
	stamp := func() string { return Stamp([]string{dir, file, filepath.Join(dir, "*.asc")}) }
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	stamps := []string{stamp()}
	write(testKey())
	stamps = append(stamps, stamp())
	write(testKey() + "\n")
	stamps = append(stamps, stamp())
	if again := stamp(); again != stamps[2] {
		t.Error("nothing has changed, and the stamp has")
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if stamp() != stamps[0] || len(slices.Compact(slices.Clone(stamps))) != 3 {
		t.Errorf("stamps: %q", stamps)
	}
}

// A pattern may match hundreds of files that are no keyrings; the warning stays short.
func TestTroublesAreBounded(t *testing.T) {
	dir := t.TempDir()
	for i := range 50 {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%02d.txt", i)), []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	troubles, err := Troubles(filepath.Join(dir, "*"))
	trouble := strings.Join(troubles, "; ")
	if err != nil || !strings.Contains(trouble, "02.txt") || strings.Contains(trouble, "03.txt") || !strings.HasSuffix(trouble, "; and 47 more") {
		t.Errorf("%q, %v", trouble, err)
	}
}

// One entry that cannot be read makes all unreadable: the archive would refuse what hosts accept.
func TestReadNeedsEveryEntry(t *testing.T) {
	if ring, err := Read([]string{testKey(), "/does/not/exist"}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v, %v", ring, err)
	}
	if ring, err := Read(nil); ring != nil || err != nil {
		t.Errorf("no entry: %v, %v", ring, err)
	}
	if ring, err := Read([]string{testKey(), t.TempDir()}); err != nil || len(ring.Fingerprints()) != 1 {
		t.Errorf("a key, and a directory without one: %v, %v", ring, err)
	}
}
