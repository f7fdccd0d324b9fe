package catalog

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
	"github.com/aptmesh/aptmesh/node/format/pgp"
	"github.com/aptmesh/aptmesh/node/format/rpm"
	"github.com/aptmesh/aptmesh/node/format/rpm/rpmarchive"
	"github.com/aptmesh/aptmesh/proto"
)

const (
	rpmRoot      = "os/repodata/repomd.xml"
	rpmSignature = rpmRoot + ".asc"
	rpmHello     = "os/Packages/h/hello-1-1.x86_64.rpm"
)

// rpmWorld has an RPM repository that nobody needs to sign.
func rpmWorld(t *testing.T) (*world, *rpmarchive.Repo) {
	t.Helper()
	w := newWorld(t)
	w.cfg.Archives[0].Format, w.cfg.Archives[0].Unsigned = rpm.New(rpm.Config{Unsigned: true}), true
	repo := &rpmarchive.Repo{Date: time.Now().Add(-time.Hour), Packages: []rpmarchive.Package{{Name: "hello"}}}
	w.show(repo)
	return w, repo
}

// show replaces what upstream has by a repository, as a publisher does that deletes the one before.
func (w *world) show(repo *rpmarchive.Repo) {
	for path := range w.a.Files() {
		w.a.Delete(path)
	}
	for path, data := range repo.Render("os/") {
		w.a.Put(path, data, repo.Date)
	}
}

// What an index lists at another server is counted, and keeps nothing else from being listed.
func TestListedOutside(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w, repo := rpmWorld(t)
		for _, name := range []string{"one", "two"} {
			repo.Packages = append(repo.Packages, rpmarchive.Package{Name: name, Base: "https://github.example.com/releases"})
		}
		w.show(repo)
		w.open()
		if e, err := w.discover(rpmHello); err != nil || !e.Listed {
			t.Errorf("%+v, %v", e, err)
		}
		if n := testutil.ToFloat64(w.metrics.outside.WithLabelValues("a")); n != 2 {
			t.Errorf("%v files are counted", n)
		}
	})
}

func (w *world) discover(path string) (proto.Resolution, error) {
	return w.Discover(context.Background(), proto.Location{Archive: "a", Path: path}, false)
}

// What a client may do without is not asked for with every check, and a refusal of it refuses no root.
func TestOptionalFilesOfARoot(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w, repo := rpmWorld(t)
		w.up.setFault(func(_ context.Context, path string) error {
			if strings.HasPrefix(path, rpmRoot+".") { // as S3 says that there is no such object
				return &proto.Refused{Status: 403, Reason: "Forbidden"}
			}
			return nil
		})
		w.open()
		if e, err := w.discover(rpmRoot); err != nil || !e.Listed {
			t.Fatalf("%+v, %v", e, err)
		}
		if _, err := w.discover(rpmSignature); !errors.Is(err, proto.ErrNotFound) {
			t.Errorf("the signature that upstream does not have: %v", err)
		}
		w.up.setFault(nil)
		time.Sleep(2 * time.Minute) // it was asked for, so that the next check asks upstream
		asked := w.up.requests(rpmSignature)
		if asked < 2 {
			t.Errorf("upstream was asked %d times for a signature that clients want", asked)
		}
		if n := w.up.requests(rpmRoot + ".key"); n != 1 {
			t.Errorf("upstream was asked %d times for a key that nobody wants", n)
		}
		repo.Key = testarchive.DefaultKey()
		w.show(repo)
		time.Sleep(2 * time.Minute)
		if e, err := w.discover(rpmSignature); err != nil || !e.Listed {
			t.Errorf("the signature that has come later: %+v, %v", e, err)
		}
	})
}

// A publisher that gives out its key anew, with a later end, changes nothing else.
func TestKeyFileAlone(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		key := testarchive.DefaultKey()
		ring, err := pgp.ReadKeyring("test", key.Public())
		if err != nil {
			t.Fatal(err)
		}
		w, repo := rpmWorld(t)
		w.cfg.Archives[0].Format, w.cfg.Archives[0].Unsigned = rpm.New(rpm.Config{Keyring: ring}), false
		repo.Key = key
		w.show(repo)
		w.open()
		w.must(rpmRoot + ".key")
		w.a.Put(rpmRoot+".key", []byte("the same key, for longer"), time.Now())
		time.Sleep(2 * time.Minute)
		if err := w.mustDriver(t).public.Load().belief.Failure; err != nil {
			t.Fatal(err)
		}
		w.listedAs(rpmRoot+".key", []byte("the same key, for longer"))
		w.listedAs(rpmSignature, w.file(rpmSignature))
	})
}

// A package is looked for in the repository around it first. The indexes of the other ones are not read,
// as long as it stands there.
func TestSearchesTheNearestRepository(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newWorld(t)
		w.cfg.Archives[0].Format, w.cfg.Archives[0].Unsigned = rpm.New(rpm.Config{Unsigned: true}), true
		repo := rpmarchive.Repo{Date: time.Now().Add(-time.Hour), Packages: []rpmarchive.Package{{Name: "hello"}}}
		for i := range 12 {
			dir := fmt.Sprintf("releases/%d/os", i)
			w.cfg.Archives[0].Suites = append(w.cfg.Archives[0].Suites, proto.Suite{Dir: dir})
			repo.Packages = append(repo.Packages, rpmarchive.Package{Name: fmt.Sprintf("p%d", i)})
			for path, data := range repo.Render(dir + "/") {
				w.a.Put(path, data, repo.Date)
			}
		}
		w.open()
		time.Sleep(time.Minute)
		w.must("releases/7/os/Packages/h/hello-1-1.x86_64.rpm")
		if n := w.parsed(); n != 1 {
			t.Errorf("%d indexes were read for one package", n)
		}
		w.must("releases/8/os/Packages/h/hello-1-1.x86_64.rpm")
		if n := w.parsed(); n != 2 {
			t.Errorf("%d indexes were read for two packages", n)
		}
	})
}

// Over a publication the members that clients use switch with the root, though their names are
// others; those of the publication before stay readable by the names that it lists.
func TestRPMPublication(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w, repo := rpmWorld(t)
		w.open()
		primary := func() string {
			t.Helper()
			g := w.mustDriver(t).heldNow()
			members := g.BySlot("primary")
			if len(members) != 1 {
				t.Fatalf("%d members", len(members))
			}
			return "os/" + members[0].Path
		}
		if _, err := w.discover(rpmRoot); err != nil {
			t.Fatal(err)
		}
		before := primary()
		for _, path := range []string{before, rpmHello} {
			if e, err := w.discover(path); err != nil || !e.Listed {
				t.Fatalf("%s: %+v, %v", path, e, err)
			}
		}
		repo.Date = time.Now().Add(-time.Minute)
		repo.Packages = append(repo.Packages, rpmarchive.Package{Name: "later"})
		w.show(repo)
		time.Sleep(3 * time.Minute)
		after := primary()
		if after == before {
			t.Fatal("the new publication is not adopted")
		}
		if n := w.up.requests(after); n != 1 {
			t.Errorf("upstream was asked %d times for the primary.xml that clients use", n)
		}
		for _, path := range []string{before, after, rpmHello, "os/Packages/l/later-1-1.x86_64.rpm"} {
			e, ok := w.Resolve(proto.Location{Archive: "a", Path: path})
			if !ok || !e.Listed || strings.Contains(path, "repodata") && e.Mutable {
				t.Errorf("%s: %+v, %v", path, e, ok)
			}
		}
	})
}

func (w *world) mustDriver(t *testing.T) *driver {
	t.Helper()
	d, ok := w.known(proto.Suite{Archive: "a", Dir: "os"})
	if !ok {
		t.Fatal("the repository is not known")
	}
	return d
}
