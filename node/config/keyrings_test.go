package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

func TestKeyringSets(t *testing.T) {
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
		ring, leftOut, err := readKeyring(entry)
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
		trouble, err := keyringTroubles(entry)
		if err != nil || (len(trouble) > 0) != (want.keys == 0 || len(want.leftOut) > 0) {
			t.Errorf("%s: trouble %q, %v", name, trouble, err)
		}
	}
}

// The stamp follows every change that makes another keyring of a set, and nothing else.
func TestKeyringsStamp(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "a.asc")
	cfg := &Config{Archives: []Archive{{SignedBy: []string{dir, file}}, {SignedBy: []string{filepath.Join(dir, "*.asc")}}}}
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	stamps := []string{cfg.KeyringsStamp()}
	write(testKey())
	stamps = append(stamps, cfg.KeyringsStamp())
	write(testKey() + "\n")
	stamps = append(stamps, cfg.KeyringsStamp())
	if again := cfg.KeyringsStamp(); again != stamps[2] {
		t.Error("nothing has changed, and the stamp has")
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if cfg.KeyringsStamp() != stamps[0] || len(slices.Compact(slices.Clone(stamps))) != 3 {
		t.Errorf("stamps: %q", stamps)
	}
}

// A pattern may match hundreds of files that are no keyrings; the warning stays short.
func TestKeyringErrorsAreBounded(t *testing.T) {
	dir := t.TempDir()
	for i := range 50 {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%02d.txt", i)), []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	troubles, err := keyringTroubles(filepath.Join(dir, "*"))
	trouble := strings.Join(troubles, "; ")
	if err != nil || !strings.Contains(trouble, "02.txt") || strings.Contains(trouble, "03.txt") || !strings.HasSuffix(trouble, "; and 47 more") {
		t.Errorf("%q, %v", trouble, err)
	}
}

func TestWeakKeysAreWarnedOf(t *testing.T) {
	old := &packet.Config{Algorithm: packet.PubKeyAlgoRSA, RSABits: 1024, MinRSABits: 1024}
	key, err := openpgp.NewEntity("an old PPA", "", "", old)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "ppa.gpg")
	f, err := os.Create(file)
	if err == nil {
		err = errors.Join(key.Serialize(f), f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	cfg := Default()
	a := NewArchive("ppa")
	a.Upstream, a.SignedBy = "http://example.org/ppa", []string{file}
	cfg.Archives = Archives{a}
	c := newChecker(cfg)
	c.check()
	want := fmt.Sprintf("archives.ppa.signed_by[0]: holds weak keys, whose signatures apt 2.7.13 and later refuses, and this node with `weak_keys: false`: an RSA key of 1024 bits (%X)", key.PrimaryKey.Fingerprint)
	if !slices.ContainsFunc(c.warnings, func(f finding) bool { return strings.HasPrefix(f.message, want) }) {
		t.Errorf("%v, want %s", c.warnings, want)
	}
}
