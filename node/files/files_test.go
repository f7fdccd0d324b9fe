package files

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestReadBounded(t *testing.T) {
	name := filepath.Join(t.TempDir(), "file")
	if _, err := ReadBounded(name, 1); err == nil || Trouble(name, err, " (make it)") != name+" does not exist (make it)" {
		t.Errorf("a file that is not there: %v", err)
	}
	if err := os.WriteFile(name, make([]byte, 1<<20+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if data, err := ReadBounded(name, 1<<20+1); err != nil || len(data) != 1<<20+1 {
		t.Errorf("as long as it may be: %d bytes, %v", len(data), err)
	}
	if _, err := ReadBounded(name, 1<<20); err == nil || !strings.HasSuffix(err.Error(), "is longer than 1 MiB") {
		t.Errorf("longer than it may be: %v", err)
	}
	if got := Trouble(name, fs.ErrPermission, " (install it)"); got != name+" may not be read by this user" {
		t.Error(got)
	}
}
