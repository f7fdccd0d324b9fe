package catalog

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
	"github.com/aptmesh/aptmesh/node/format/deb"
	"github.com/aptmesh/aptmesh/proto"
)

// An index of which the bytes are right and make no sense to us: the generation switches, hosts get the index as it
// is, and only what it lists is not verified. Status, metric and log say so.
func TestUnreadableIndex(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFleet(t, 1, testarchive.Suite{Name: "noble", ByHash: true, Compressions: []string{".xz"}, OmitPlain: true})
		f.publish()
		f.start()
		w := f.nodes[0]
		w.must(nobleIn)
		w.use(noblePkgs)
		w.must(hello1)

		f.a.ChangeSuite("noble", func(s *testarchive.Suite) {
			s.Pack = func(string, []byte) []byte { return []byte("a format of next year") }
		})
		time.Sleep(2 * time.Second)
		f.upgrade("2")
		w.switches()
		f.settled(time.Second)
		w.listedAs(noblePkgs, w.file(noblePkgs))
		unlisted := func(when string) {
			t.Helper()
			if e, err := w.get(hello2); err != nil || e.Listed {
				t.Errorf("%s: what it lists: %+v, %v", when, e, err)
			}
			if st := w.Stats()[0]; st.Unreadable["main/binary-amd64/Packages.xz"] == "" || len(st.Unreadable) != 1 {
				t.Errorf("%s: status says that these cannot be read: %v", when, st.Unreadable)
			}
		}
		unlisted("at the switch")
		if n := w.metric("aptmesh_catalog_unreadable_indexes_total"); n != 1 {
			t.Errorf("counted %v times", n)
		}
		for range 5 { // hosts go on asking
			time.Sleep(time.Minute)
			w.use(noblePkgs)
			w.get(hello2)
		}
		said := 0
		for _, line := range w.warnings() {
			if strings.Contains(line, "cannot be read") && strings.Contains(line, "main/binary-amd64/Packages.xz") {
				said++
			}
		}
		if n := w.metric("aptmesh_catalog_unreadable_indexes_total"); n != 1 || said != 1 {
			t.Errorf("read %v times, and the log says so %d times: %q", n, said, w.warnings())
		}

		w.kill()
		w.resume()
		f.settled(time.Second)
		unlisted("after a restart")

		// The next generation is as it should be.
		f.a.ChangeSuite("noble", func(s *testarchive.Suite) { s.Pack = nil })
		time.Sleep(2 * time.Second)
		f.upgrade("3")
		w.switches()
		f.settled(time.Second)
		w.must("pool/main/h/hello/hello_3_amd64.deb")
		if st := w.Stats()[0]; len(st.Unreadable) != 0 {
			t.Errorf("status still says that these cannot be read: %v", st.Unreadable)
		}
	})
}

// blindFormat cannot read indexes.
type blindFormat struct{ Format }

func (blindFormat) Parse(_ proto.Suite, _ *proto.Member, r io.Reader, _ func(proto.File) error) error {
	io.Copy(io.Discard, r)
	return errors.New("a format of next year")
}

// A version of aptmesh that can read what the one before could not does so at its start: it waits for no publication.
func TestUnreadableIsReadAfterAnUpgrade(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := nobleWorld(t)
		w.cfg.Archives[0].Format = blindFormat{deb.New(deb.Config{Keyring: keyring(t, w.a.Keyring())})}
		w.publish()
		w.open()
		w.must(nobleIn)
		w.use(noblePkgs)
		if e, _ := w.get(hello1); e.Listed {
			t.Fatalf("%+v", e)
		}
		w.Close()
		w.cfg.Archives[0].Format = nil
		w = w.crash()
		w.up.failing("", &proto.Unavailable{Reason: "down"})
		w.rest()
		w.must(hello1)
		if st := w.Stats()[0]; len(st.Unreadable) != 0 {
			t.Errorf("status says that these cannot be read: %v", st.Unreadable)
		}
	})
}

// One compression of an index says nothing about another: neither that it cannot be read, nor what it lists.
func TestCompressionsAreApart(t *testing.T) {
	pack := func(text string) []byte {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		io.WriteString(z, text)
		z.Close()
		return b.Bytes()
	}
	const noblePkgsGz = "dists/noble/main/binary-amd64/Packages.gz"
	for name, gz := range map[string][]byte{
		"unreadable": []byte("\x1f\x8b\x08 and then something of next year"),
		"stale":      pack("Package: old\nVersion: 1\nArchitecture: amd64\nFilename: pool/old.deb\nSize: 3\nSHA256: " + testarchive.Sum(testarchive.SHA256, []byte("old")) + "\n\n"),
		"empty":      pack(""),
	} {
		for _, omitPlain := range []bool{false, true} {
			for _, order := range [][]string{{noblePkgsGz, noblePkgs}, {noblePkgs, noblePkgsGz}, {noblePkgsGz}} {
				inNamedBubble(t, fmt.Sprintf("%s, plain omitted %v, %d asked for", name, omitPlain, len(order)), func(t *testing.T) {
					w := newWorld(t, testarchive.Suite{Name: "noble", ByHash: true, OmitPlain: omitPlain, Pack: func(ext string, _ []byte) []byte {
						if ext == ".gz" {
							return gz
						}
						return nil
					}})
					w.a.AddPackage("noble", testarchive.Package{Name: "hello", Version: "1"})
					w.publish()
					w.open()
					w.must(nobleIn)
					for _, path := range order {
						w.use(path)
						w.listedAs(path, w.file(path))
					}
					if len(order) > 1 || name == "unreadable" { // else a host has been told by its index that there is none
						w.must(hello1)
					}
					if name == "stale" {
						if e, err := w.get("pool/old.deb"); err != nil || !e.Listed {
							t.Errorf("%v, plain form omitted: %v: what the stale form lists: %+v, %v", order, omitPlain, e, err)
						}
					}
					for path := range w.Stats()[0].Unreadable {
						if !strings.HasSuffix(path, ".gz") {
							t.Errorf("%v: %s cannot be read", order, path)
						}
					}
					if _, err := w.Discover(context.Background(), w.loc(noblePkgs), false); err != nil {
						t.Error(err)
					}
				})
			}
		}
	}
}
