package pacman_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
	"github.com/aptmesh/aptmesh/node/format/pacman"
	"github.com/aptmesh/aptmesh/node/format/pacman/testrepo"
	"github.com/aptmesh/aptmesh/proto"
)

func gz(b []byte) []byte { return testarchive.Compress(".gz", b) }

// FuzzDatabase: whatever the bytes are, what is listed lies beside the database, and Open takes what
// Parse can read to its end.
func FuzzDatabase(f *testing.F) {
	for _, compression := range []string{"none", "gz", "zst", "xz"} {
		files := make(map[string][]byte)
		testrepo.Repo{Dir: "os", Name: "x", Packages: few, Built: day1, Compression: compression, PackageKey: key, IncludeSigs: true, Depends: compression == "none"}.Render(files)
		f.Add(files["os/x.db"])
	}
	format := pacman.New(pacman.Config{Unsigned: true})
	suite := proto.Suite{Dir: "os", Name: "x.db"}
	f.Fuzz(func(t *testing.T, db []byte) {
		err := format.Parse(suite, nil, bytes.NewReader(db), func(file proto.File) error {
			rest, ok := strings.CutPrefix(string(file.Path), "os/")
			if !ok || rest == "" || rest[0] == '.' || strings.ContainsAny(rest, "/\\\n\x00") {
				t.Errorf("it lists %q", file.Path)
			}
			return nil
		})
		if len(db) == 0 {
			return // a tar without an entry to Parse, and no database to Open
		}
		if _, opened := format.Open(suite, map[string][]byte{"x.db": db}, now); (opened == nil) != (err == nil) {
			t.Errorf("Open says %v, and Parse %v", opened, err)
		}
	})
}
