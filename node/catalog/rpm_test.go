package catalog

import (
	"context"
	"errors"
	"fmt"
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
	w.cfg.Archives[0].Format = rpm.New(rpm.Config{Unsigned: true})
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

// A key file that nobody wants is not asked for with every check.
func TestKeyFileThatNobodyWants(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w, _ := rpmWorld(t)
		w.open()
		w.must(rpmRoot)
		time.Sleep(time.Hour)
		if n := w.up.requests(rpmRoot + ".key"); n != 1 {
			t.Errorf("upstream was asked %d times", n)
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
		w.cfg.Archives[0].Format = rpm.New(rpm.Config{Keyring: ring})
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
		w.cfg.Archives[0].Format = rpm.New(rpm.Config{Unsigned: true})
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

func (w *world) mustDriver(t *testing.T) *driver {
	t.Helper()
	d, ok := w.known(proto.Suite{Archive: "a", Dir: "os"})
	if !ok {
		t.Fatal("the repository is not known")
	}
	return d
}

// What an installer boots is checked by the sums in .treeinfo, whether or not the repository beside it is known
// and signed, and whether the installer asks for the .treeinfo or for a kernel first.
func TestInstallationTree(t *testing.T) {
	const kernel = "os/images/pxeboot/vmlinuz"
	for name, before := range map[string][]string{"the tree first": {"os/.treeinfo"}, "the repository first": {rpmRoot}, "nothing before": nil} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				w, repo := rpmWorld(t)
				w.cfg.Archives[0].Format = rpm.New(rpm.Config{Keyring: keyring(t, testarchive.DefaultKey().Public())})
				repo.Key = testarchive.DefaultKey()
				w.show(repo)
				tree := rpmarchive.Tree{Date: repo.Date, Family: "Fedora"}
				for path, data := range tree.Render("os/") {
					w.a.Put(path, data, repo.Date)
				}
				w.open()
				for _, path := range before {
					if e, err := w.discover(path); err != nil || !e.Listed {
						t.Fatalf("%s: %+v, %v", path, e, err)
					}
				}
				f, _ := w.a.Lookup(kernel)
				if e, err := w.discover(kernel); err != nil || !e.Listed || e.Object.Ref.Digest != proto.DigestOf(f.Data) {
					t.Errorf("%+v, %v", e, err)
				}
			})
		})
	}
}

// That there is no .treeinfo is no failure of the archive.
func TestNoInstallationTree(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w, _ := rpmWorld(t)
		w.open()
		if _, err := w.discover("os/.treeinfo"); !errors.Is(err, proto.ErrNotFound) {
			t.Error(err)
		}
		time.Sleep(2 * time.Minute) // until the suite is forgotten
		for _, st := range w.Stats() {
			if st.Err != nil && !st.Failing.IsZero() {
				t.Errorf("%s is failing: %v", st.Suite, st.Err)
			}
		}
	})
}
