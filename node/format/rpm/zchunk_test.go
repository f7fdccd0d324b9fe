package rpm

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aptmesh/aptmesh/node/format/plain"
	"github.com/aptmesh/aptmesh/node/format/rpm/rpmarchive"
)

func unpack(data []byte, limit int64) ([]byte, error) {
	r, err := newZchunk(bytes.NewReader(data), limit)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

func TestZchunk(t *testing.T) {
	text := []byte("<head>\n" + strings.Repeat("<package>of the same words as the others</package>\n", 40))
	packed := rpmarchive.Zchunk(text, []byte("<package>"))
	if len(packed) > len(text) {
		t.Fatalf("%d bytes of %d", len(packed), len(text))
	}
	if got, err := unpack(packed, int64(len(text))); err != nil || !bytes.Equal(got, text) {
		t.Errorf("%d bytes of %d, %v", len(got), len(text), err)
	}
	if _, err := unpack(packed, int64(len(text)-1)); !errors.Is(err, plain.ErrTooLarge) {
		t.Errorf("over the limit: %v", err)
	}
	for i := range len(packed) - 1 {
		if got, err := unpack(packed[:i], 1<<20); err == nil {
			t.Fatalf("cut at %d of %d: %d bytes and no error", i, len(packed), len(got))
		}
	}
	for name, data := range map[string]string{
		"a header alone":      "\x00ZHR1\x81\x85",
		"another sum":         "\x00ZCK1\x84\x81",
		"a header too large":  "\x00ZCK1\x81\x7f\x7f\x7f\x7f\x81",
		"a page":              "<html></html>",
		"a number of no end":  "\x00ZCK1\x81" + strings.Repeat("\x01", 12),
		"more chunks than it": "\x00ZCK1\x80\xa0" + strings.Repeat("s", 20) + strings.Repeat("d", 20) + "\x80\x82\x85\x80\x7f\x7f\x81" + strings.Repeat("x", 5),
	} {
		if _, err := unpack([]byte(data), 1<<20); err == nil {
			t.Errorf("%s is read", name)
		}
	}
}

// TestZchunkReference reads what the reference tool wrote, with and without a dictionary.
func TestZchunkReference(t *testing.T) {
	if _, err := exec.LookPath("zck"); err != nil {
		t.Skip("zchunk is not installed: nothing to compare with")
	}
	dir := t.TempDir()
	text := []byte("<head>\n" + strings.Repeat("<package>of the same words as the others, and a few more</package>\n", 3000))
	plain, dict := filepath.Join(dir, "x.xml"), filepath.Join(dir, "dict")
	for name, data := range map[string][]byte{plain: text, dict: text[:2000]} {
		if err := os.WriteFile(name, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, args := range map[string][]string{
		"chunks":           {"-s", "<package>"},
		"automatic chunks": nil,
		"a dictionary":     {"-s", "<package>", "-D", dict},
		"plain sums":       {"-s", "<package>", "--uncompressed"},
		"SHA-512":          {"--chunk-hash-type", "sha512"},
	} {
		packed := filepath.Join(dir, "x.zck")
		if out, err := exec.Command("zck", append(args, "-o", packed, plain)...).CombinedOutput(); err != nil {
			t.Errorf("zck %q: %v: %s", args, err, out)
			continue
		}
		data, err := os.ReadFile(packed)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := unpack(data, 1<<30); err != nil || !bytes.Equal(got, text) {
			t.Errorf("%s: %d bytes of %d, %v", name, len(got), len(text), err)
		}
	}
	// The reference tool reads what the tests write.
	ours := filepath.Join(dir, "ours.zck")
	if err := os.WriteFile(ours, rpmarchive.Zchunk(text, []byte("<package>")), 0o644); err != nil {
		t.Fatal(err)
	}
	if got, err := exec.Command("unzck", "-c", ours).Output(); err != nil || !bytes.Equal(got, text) {
		t.Errorf("unzck reads %d bytes of %d of ours: %v", len(got), len(text), err)
	}
}
