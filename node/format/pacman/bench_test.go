package pacman_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/aptmesh/aptmesh/node/format/pacman"
	"github.com/aptmesh/aptmesh/node/format/pacman/testrepo"
	"github.com/aptmesh/aptmesh/proto"
)

// BenchmarkAdopt is what a database of the size of Arch's extra costs: to open it as a root, and to read
// it as the index that it is as well.
func BenchmarkAdopt(b *testing.B) {
	for _, compression := range []string{"gz", "zst"} {
		repo := testrepo.Repo{Dir: "extra/os/x86_64", Name: "extra", Compression: compression, Built: day1}
		for i := range 15000 {
			p := testrepo.Package{Name: fmt.Sprintf("package-%05d", i), Version: fmt.Sprintf("%d.%d-1", i%97, i%13), Compression: "gz", Size: 64}
			for j := range 12 {
				p.Depends = append(p.Depends, fmt.Sprintf("libsomething%d.so=%d-64", (i*7+j*13)%5000, j))
			}
			repo.Packages = append(repo.Packages, p)
		}
		files := make(map[string][]byte)
		repo.Render(files)
		data := files["extra/os/x86_64/extra.db"]
		f, suite := pacman.New(pacman.Config{Unsigned: true}), proto.Suite{Dir: "extra/os/x86_64", Name: "extra.db"}
		var m *proto.Manifest
		b.Run("open/"+compression, func(b *testing.B) {
			for b.Loop() {
				var err error
				if m, err = f.Open(suite, map[string][]byte{"extra.db": data}, day1); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(len(data)), "stored-bytes")
		})
		b.Run("parse/"+compression, func(b *testing.B) {
			for b.Loop() {
				n := 0
				if err := f.Parse(suite, &m.Members[0], bytes.NewReader(data), func(proto.File) error { n++; return nil }); err != nil || n != 15000 {
					b.Fatal(n, err)
				}
			}
		})
	}
}
