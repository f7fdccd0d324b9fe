package testarchive_test

import (
	"errors"
	"net"
	"testing"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
)

func TestRefuseAndAccept(t *testing.T) {
	a := testarchive.New(1)
	a.Put("f.deb", []byte("0123456789"), day)
	s, err := testarchive.NewServerAt(a, "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	s.Refuse()
	// Refused, or reset where the kernel had the connection in its queue.
	var dial *net.OpError
	if g := get(s, "/f.deb"); !errors.As(g.err, &dial) {
		t.Errorf("status %d, %v; want no connection", g.status, g.err)
	}
	if err := s.Accept(); err != nil {
		t.Fatal(err)
	}
	if g := get(s, "/f.deb"); g.status != 200 || string(g.body) != "0123456789" {
		t.Errorf("status %d, %q, %v after the port opened again", g.status, g.body, g.err)
	}
}

func TestInHead(t *testing.T) {
	s, body := upstream(t)
	f := s.Inject("*", 1, testarchive.InHead(testarchive.BrokenOff))
	if g := get(s, "/f.deb"); g.status != 0 || g.err == nil {
		t.Errorf("closed: status %d, %v", g.status, g.err)
	}
	s.Inject("*", 1, testarchive.InHead(testarchive.BrokenByReset))
	if g := get(s, "/f.deb"); g.status != 0 || g.err == nil {
		t.Errorf("reset: status %d, %v", g.status, g.err)
	}
	silent := s.Inject("*", 1, testarchive.InHead(testarchive.BrokenBySilence))
	done := make(chan got)
	go func() { done <- get(s, "/f.deb") }()
	silent.Release()
	if g := <-done; g.status != 0 || g.err == nil {
		t.Errorf("silent: status %d, %v", g.status, g.err)
	}
	if g := get(s, "/f.deb"); f.Hits() != 1 || string(g.body) != string(body) {
		t.Errorf("%d hits, then %d bytes, %v", f.Hits(), len(g.body), g.err)
	}
}

func TestAs(t *testing.T) {
	s, _ := upstream(t)
	old := testarchive.New(2)
	old.Put("f.deb", []byte("as it was"), day.AddDate(0, 0, -1))
	file, _ := old.Lookup("f.deb")
	s.Inject("f.deb", 1, testarchive.As(file))
	g := get(s, "/f.deb")
	if string(g.body) != "as it was" || g.header.Get("Last-Modified") != file.Modified.Format("Mon, 02 Jan 2006 15:04:05 GMT") {
		t.Errorf("%q of %s", g.body, g.header.Get("Last-Modified"))
	}
}
