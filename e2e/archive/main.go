// Command archive serves a signed archive with one suite, "noble", from a container
// or wherever the end-to-end tests need one in a process of its own:
//
//	GET  /...          the archive
//	GET  /-/keyring    the keys that sign it
//	GET  /-/requests   what it was asked for, as JSON: []testarchive.Request
//	POST /-/publish    bring out the next generation, in which the package "new" is newer
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"net/http"
	"sync"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
)

func main() {
	listen := flag.String("listen", ":8080", "address to serve at")
	packages := flag.Int("packages", 20, "how many packages there are, besides the one called \"new\"")
	size := flag.Int64("size", 100_000, "bytes in each of them")
	flag.Parse()
	p := newPublisher(*packages, *size)
	server := &http.Server{Addr: *listen, Handler: p.handler(), ReadHeaderTimeout: time.Minute}
	log.Fatal(server.ListenAndServe())
}

// publisher brings out one generation after another.
type publisher struct {
	archive *testarchive.Archive
	server  *testarchive.Server // it counts; what it listens at is not used

	mu      sync.Mutex
	date    time.Time // of the last generation
	version int       // of the package "new"
}

func newPublisher(packages int, size int64) *publisher {
	p := &publisher{archive: testarchive.New(7), date: time.Now().Add(-time.Hour)}
	p.archive.AddSuite(testarchive.Suite{Name: "noble", ByHash: true})
	for i := range packages {
		p.archive.AddPackage("noble", testarchive.Package{Name: fmt.Sprintf("pkg%02d", i), Version: "1", Size: size})
	}
	p.publish()
	p.server = testarchive.NewServer(p.archive)
	return p
}

func (p *publisher) publish() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.version++
	p.date = p.date.Add(time.Minute)
	p.archive.AddPackage("noble", testarchive.Package{Name: "new", Version: fmt.Sprint(p.version), Size: 10_000})
	p.archive.Publish(p.date)
}

func (p *publisher) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", p.server)
	mux.HandleFunc("GET /-/keyring", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(p.archive.Keyring()) // who asks sees that it breaks off
	})
	mux.HandleFunc("GET /-/requests", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(p.server.Log()) // likewise
	})
	mux.HandleFunc("POST /-/publish", func(http.ResponseWriter, *http.Request) { p.publish() })
	return mux
}
