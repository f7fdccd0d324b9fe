package testarchive_test

import (
	"fmt"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
)

func Example() {
	a := testarchive.New(1)
	a.AddSuite(testarchive.Suite{Name: "noble", ByHash: true})
	deb := a.AddPackage("noble", testarchive.Package{Name: "hello", Version: "2.10-1", Size: 1000})
	a.Publish(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))

	s := testarchive.NewServer(a)
	defer s.Close()
	s.Inject("pool/*", 1, testarchive.Truncate(500))
	for range 2 {
		g := get(s, "/"+deb)
		fmt.Println(g.status, g.err)
	}
	fmt.Println(deb, s.Requests(deb), "requests")

	// An archive in the middle of publishing: the names have changed, InRelease has not.
	a.AddPackage("noble", testarchive.Package{Name: "more", Version: "1"})
	a.Prepare(time.Date(2026, 3, 1, 13, 0, 0, 0, time.UTC))
	half := testarchive.At(0)
	half.Indices = 1
	a.Show("noble", half)
	// Output:
	// 200 unexpected EOF
	// 200 <nil>
	// pool/main/h/hello/hello_2.10-1_amd64.deb 2 requests
}
