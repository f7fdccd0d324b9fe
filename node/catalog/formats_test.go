package catalog

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
	"github.com/aptmesh/aptmesh/node/format/deb"
	"github.com/aptmesh/aptmesh/node/format/pacman"
	"github.com/aptmesh/aptmesh/node/format/pacman/testrepo"
	"github.com/aptmesh/aptmesh/node/format/pgp"
	"github.com/aptmesh/aptmesh/node/format/rpm"
	"github.com/aptmesh/aptmesh/node/format/rpm/rpmarchive"
	"github.com/aptmesh/aptmesh/proto"
)

// kind is a format with a repository of it. What the catalog promises it promises for each: the tests
// that say nothing of a format run over all kinds.
type kind struct {
	name  string
	suite proto.Suite
	// root and signature are the paths of the root and of what signs it.
	root, signature string
	format          func(keyring *pgp.Keyring) Format // nil: nobody needs to sign
	// render makes the files of the n-th publication, with the packages "hello" and p<n>.
	render func(n int, at time.Time, key *testarchive.Key) map[string][]byte
	// pkg is the path of one of its packages.
	pkg func(name string) string
	// isIndex reports whether a path is that of the index which lists the packages; nil where the root
	// does that itself.
	isIndex func(path string) bool
}

// kinds are one of each format. Debian's has its signature apart, as the others do: an InRelease
// cannot be torn.
var kinds = []kind{
	{
		name: "deb", suite: noble(), root: nobleRelease, signature: nobleGPG,
		format: func(k *pgp.Keyring) Format { return deb.New(deb.Config{Keyring: k, Unsigned: k == nil}) },
		render: func(n int, at time.Time, key *testarchive.Key) map[string][]byte {
			a := testarchive.New(7)
			s := testarchive.Suite{Name: "noble", NoInRelease: true, Unsigned: key == nil, Compressions: []string{".xz"}, OmitPlain: true}
			if key != nil {
				s.Keys = []*testarchive.Key{key}
			}
			a.AddSuite(s)
			for _, name := range []string{"hello", fmt.Sprintf("p%d", n)} {
				a.AddPackage("noble", testarchive.Package{Name: name, Version: "1"})
			}
			a.Publish(at)
			return a.Files()
		},
		pkg:     func(name string) string { return fmt.Sprintf("pool/main/%c/%s/%s_1_amd64.deb", name[0], name, name) },
		isIndex: func(path string) bool { return path == noblePkgs },
	},
	{
		name: "rpm", suite: rpmSuite, root: rpmRoot, signature: rpmSignature,
		format: func(k *pgp.Keyring) Format { return rpm.New(rpm.Config{Keyring: k, Unsigned: k == nil}) },
		render: func(n int, at time.Time, key *testarchive.Key) map[string][]byte {
			r := rpmarchive.Repo{Date: at, Key: key, NoKeyFile: true, Packages: []rpmarchive.Package{{Name: "hello"}, {Name: fmt.Sprintf("p%d", n)}}}
			return r.Render("os/")
		},
		pkg:     func(name string) string { return fmt.Sprintf("os/Packages/%c/%s-1-1.x86_64.rpm", name[0], name) },
		isIndex: func(path string) bool { return strings.HasSuffix(path, "-primary.xml.gz") },
	},
	{
		name: "pacman", suite: proto.Suite{Archive: "a", Dir: "core/os/x86_64", Name: "core.db"}, root: pacmanRoot, signature: pacmanRoot + ".sig",
		format: func(k *pgp.Keyring) Format { return pacman.New(pacman.Config{Keyring: k, Unsigned: k == nil}) },
		render: func(n int, at time.Time, key *testarchive.Key) map[string][]byte {
			files := make(map[string][]byte)
			testrepo.Repo{Dir: "core/os/x86_64", Name: "core", Built: at, Key: key,
				Packages: []testrepo.Package{{Name: "hello", Version: "1-1"}, {Name: fmt.Sprintf("p%d", n), Version: "1-1"}}}.Render(files)
			return files
		},
		pkg: func(name string) string { return "core/os/x86_64/" + name + "-1-1-x86_64.pkg.tar.zst" },
	},
}

const pacmanRoot = "core/os/x86_64/core.db"

// publication is one state of a repository, as its publisher means it.
type publication struct {
	kind
	n     int
	at    time.Time
	files map[string][]byte
}

// published makes a publication as of now.
func (k kind) published(n int, key *testarchive.Key) publication {
	at := time.Now().UTC().Truncate(time.Second)
	return publication{k, n, at, k.render(n, at, key)}
}

// index is the path of the index; "" where that is the root.
func (p publication) index() string {
	for path := range p.files {
		if p.isIndex != nil && p.isIndex(path) {
			return path
		}
	}
	return ""
}

// own is the path of the package that no other publication has.
func (p publication) own() string { return p.pkg(fmt.Sprintf("p%d", p.n)) }

// step is the place of a file in the order in which a publisher writes: packages, what lists them, the
// root, what signs it.
func (k kind) step(path string) int {
	switch {
	case path == k.signature:
		return 3
	case path == k.root:
		return 2
	case strings.Contains(path, "repodata/"), strings.HasPrefix(path, "dists/"):
		return 1
	}
	return 0
}

// changes are what a publisher does to get from one publication to the next, in its order. The last
// thing is to delete what is not of the new one.
func (p publication) changes(next publication) (steps []func(w *world)) {
	paths := slices.SortedFunc(maps.Keys(next.files), func(x, y string) int {
		return (p.step(x)-p.step(y))*2 + strings.Compare(x, y)
	})
	for _, path := range paths {
		if data := next.files[path]; string(data) != string(p.files[path]) {
			steps = append(steps, func(w *world) { w.a.Put(path, data, next.at) })
		}
	}
	return append(steps, func(w *world) { w.lay(next) })
}

// lay makes upstream exactly what a publication is. A file that it has already keeps its date.
func (w *world) lay(p publication) {
	for path := range w.a.Files() {
		if _, ok := p.files[path]; !ok {
			w.a.Delete(path)
		}
	}
	for path, data := range p.files {
		if f, ok := w.a.Lookup(path); !ok || string(f.Data) != string(data) {
			w.a.Put(path, data, p.at)
		}
	}
}

// overKinds runs a test over all kinds.
func overKinds(t *testing.T, f func(t *testing.T, k kind)) {
	for _, k := range kinds {
		inNamedBubble(t, k.name, func(t *testing.T) { f(t, k) })
	}
}

// overIndexed runs a test over the kinds whose index is a file of its own. Where it is the root, there is nothing to
// stage: it comes with the root.
func overIndexed(t *testing.T, f func(t *testing.T, k kind)) {
	overKinds(t, func(t *testing.T, k kind) {
		if k.isIndex != nil {
			f(t, k)
		}
	})
}

// worldOf is a world with a repository that a key vouches for, or nobody.
func worldOf(t *testing.T, k kind, trusted *testarchive.Key) *world {
	t.Helper()
	w := newWorld(t)
	w.serve(k, trusted)
	return w
}

// serve makes the archive of a node one of this kind.
func (w *world) serve(k kind, trusted *testarchive.Key) {
	w.Helper()
	a := &w.cfg.Archives[0]
	if trusted == nil {
		a.Format = k.format(nil)
		return
	}
	ring, err := pgp.ReadKeyring("test", trusted.Public())
	if err != nil {
		w.Fatal(err)
	}
	a.Format = k.format(ring)
}

// now is the generation that a suite serves; nil for none.
func (w *world) now(id proto.Suite) *proto.Generation {
	d, ok := w.known(id)
	if !ok || d.heldNow() == nil {
		return nil
	}
	return &d.heldNow().Generation
}

// notYet demands that a path is not answered, for a reason that may pass: never with "not found".
func (w *world) notYet(path string) {
	w.Helper()
	e, err := w.get(path)
	var busy *proto.Unavailable
	if !errors.As(err, &busy) || errors.Is(err, proto.ErrNotFound) {
		w.Errorf("%s: %+v, %v; want an error that may pass", path, e.Object.Ref, err)
	}
}

// missing demands that upstream is known not to have a path.
func (w *world) missing(path string) {
	w.Helper()
	if e, err := w.get(path); !errors.Is(err, proto.ErrNotFound) {
		w.Errorf("%s: %+v, %v; want not found", path, e.Object.Ref, err)
	}
}

// used makes clients use all that there is of a publication.
func (w *world) used(p publication) {
	w.Helper()
	w.listedAs(p.root, p.files[p.root])
	if p.index() != "" {
		w.use(p.index())
	}
	w.must(p.own())
	if _, err := w.get(p.signature); err != nil && !errors.Is(err, proto.ErrNotFound) {
		w.Fatal(err)
	}
	w.rest()
}

// whole demands that what hosts get is one of these publications, whole, and returns which.
func (w *world) whole(all ...publication) publication {
	w.Helper()
	root := w.must(all[0].root)
	for _, p := range all {
		if root.Object.Ref != refOfBytes(p.files[p.root]) {
			continue
		}
		if sig, err := w.get(p.signature); err == nil && sig.Object.Ref != refOfBytes(p.files[p.signature]) {
			w.Errorf("the root is of publication %d, its signature is not: %v", p.n, sig.Object.Ref)
		} else if errors.Is(err, proto.ErrNotFound) && p.files[p.signature] != nil {
			w.Errorf("the signature of publication %d is called missing: %v", p.n, err)
		}
		if path := p.index(); path != "" {
			w.listedAs(path, p.files[path])
			if _, err := w.keeper.Get(proto.DigestOf(p.files[path])); errors.Is(err, fs.ErrNotExist) {
				w.Errorf("the index of publication %d is not stored", p.n)
			}
		}
		w.listedAs(p.own(), p.files[p.own()])
		return p
	}
	w.Fatalf("the root %v is of no publication", root.Object.Ref)
	return publication{}
}

// Over a publication the index that clients use switches with the root, whatever it is called, and is
// fetched once. What the publication before lists stays readable by the names that it has there.
func TestIndexesSwitchWithTheRoot(t *testing.T) {
	overKinds(t, func(t *testing.T, k kind) {
		key := testarchive.DefaultKey()
		w, first := worldOf(t, k, key), k.published(1, key)
		w.lay(first)
		w.open()
		w.used(first)
		time.Sleep(time.Hour)
		second := k.published(2, key)
		w.lay(second)
		w.up.reset()
		time.Sleep(3 * time.Minute)
		w.whole(second)
		index := second.index()
		if index == "" {
			index = k.root
		}
		if n := w.up.bodies(index); n != 1 {
			t.Errorf("upstream gave the index %d times", n)
		}
		before := []string{first.own()}
		if path := first.index(); path != "" && second.files[path] == nil { // its name is in the root alone
			before = append(before, path)
		}
		for _, path := range before {
			if e, ok := w.Resolve(w.loc(path)); !ok || e.Object.Ref != refOfBytes(first.files[path]) {
				t.Errorf("%s of the publication before: %+v, %v", path, e, ok)
			}
		}
	})
}

// A signature that nobody needs and nobody wants is not asked for with every check. A refusal of it, which
// is how object stores say that they have no such thing, refuses no root.
func TestOptionalFilesOfARoot(t *testing.T) {
	overKinds(t, func(t *testing.T, k kind) {
		w, first := worldOf(t, k, nil), k.published(1, nil)
		w.lay(first)
		w.up.failing(k.signature, &proto.Refused{Status: 403, Reason: "Forbidden"})
		w.open()
		w.listedAs(k.root, first.files[k.root])
		time.Sleep(time.Hour)
		if n := w.up.requests(k.signature); n != 1 {
			t.Errorf("upstream was asked %d times for a signature that nobody wants", n)
		}
		w.missing(k.signature)
		w.up.setFault(nil)
		time.Sleep(2 * time.Minute) // it was asked for, so that the next check asks upstream
		if n := w.up.requests(k.signature); n < 2 {
			t.Errorf("upstream was asked %d times for a signature that clients want", n)
		}
		second := k.published(2, testarchive.DefaultKey())
		second.files = maps.Clone(first.files)
		second.files[k.signature] = k.render(1, first.at, testarchive.DefaultKey())[k.signature]
		w.lay(second)
		time.Sleep(2 * time.Minute)
		w.listedAs(k.signature, second.files[k.signature])
	})
}

// A publisher replaces one file after the other. Whenever a node looks, hosts get one publication whole:
// the new one once it is there.
func TestPublicationAtEachStep(t *testing.T) {
	for trust, trusted := range map[string]*testarchive.Key{"signed": testarchive.DefaultKey(), "unsigned": nil} {
		t.Run(trust, func(t *testing.T) {
			overKinds(t, func(t *testing.T, k kind) {
				signer := testarchive.DefaultKey() // also where the node does not know the key
				first := k.published(1, signer)
				time.Sleep(time.Hour)
				second := k.published(2, signer)
				for i := range first.changes(second) {
					w := worldOf(t, k, trusted)
					w.lay(first)
					w.open()
					w.used(first)
					for _, change := range first.changes(second)[:i] {
						change(w)
					}
					time.Sleep(90 * time.Second)
					before := w.whole(first, second)
					if i == 0 && before.n != 1 {
						t.Errorf("publication %d before anything has changed", before.n)
					}
					for _, change := range first.changes(second)[i:] {
						change(w)
					}
					time.Sleep(150 * time.Second)
					if p := w.whole(first, second); p.n != 2 {
						t.Errorf("after %d files the node has looked, and serves publication %d in the end", i, p.n)
					}
					w.listedAs(first.own(), first.files[first.own()]) // for hosts in the middle of an update
					w.Catalog.Close()
				}
			})
		})
	}
}

// A node that meets a repository in the middle of a publication serves one publication as well, as soon
// as there is one.
func TestFirstContactAtEachStep(t *testing.T) {
	for trust, trusted := range map[string]*testarchive.Key{"signed": testarchive.DefaultKey(), "unsigned": nil} {
		t.Run(trust, func(t *testing.T) {
			overKinds(t, func(t *testing.T, k kind) {
				first := k.published(1, testarchive.DefaultKey())
				time.Sleep(time.Hour)
				second := k.published(2, testarchive.DefaultKey())
				steps := first.changes(second)
				for i := range steps {
					w := worldOf(t, k, trusted)
					w.lay(first)
					for _, change := range steps[:i] {
						change(w)
					}
					w.open()
					if root, err := w.get(k.root); err == nil && trusted == nil {
						for _, p := range []publication{first, second} {
							if sig, err := w.get(k.signature); root.Object.Ref == refOfBytes(p.files[k.root]) && err == nil && sig.Object.Ref != refOfBytes(p.files[k.signature]) {
								t.Errorf("after %d files: publication %d, with another signature", i, p.n)
							}
						}
					} else if err != nil && (trusted == nil || errors.Is(err, proto.ErrNotFound)) {
						t.Errorf("after %d files: %v", i, err)
					}
					for _, change := range steps[i:] {
						change(w)
					}
					time.Sleep(150 * time.Second)
					w.must(k.root)
					w.must(second.own())
					w.rest()
					if p := w.whole(first, second); p.n != 2 {
						t.Errorf("after %d files: publication %d in the end", i, p.n)
					}
					w.Catalog.Close()
				}
			})
		})
	}
}

// Trouble with a signature that nobody needs holds no root back. Whether it is there is not known then,
// which a host is told with an error that passes, also after a restart; and it is known as soon as
// upstream says so.
func TestTroubleBesideAnUnsignedRoot(t *testing.T) {
	down := &proto.Unavailable{Reason: "down", Answered: true}
	for trouble, begin := range map[string]func(w *world, k kind){
		"503":     func(w *world, k kind) { w.up.failing(k.signature, down) },
		"silence": func(w *world, k kind) { w.up.stalling(k.signature) },
	} {
		for signed, key := range map[string]*testarchive.Key{"signed upstream": testarchive.DefaultKey(), "not signed": nil} {
			t.Run(trouble+", "+signed, func(t *testing.T) {
				overKinds(t, func(t *testing.T, k kind) {
					known := func(w *world, p publication) {
						t.Helper()
						if key == nil {
							w.missing(k.signature)
						} else {
							w.listedAs(k.signature, p.files[k.signature])
						}
					}
					w, first := worldOf(t, k, nil), k.published(1, key)
					w.lay(first)
					begin(w, k)
					w.open()
					began := time.Now()
					w.listedAs(k.root, first.files[k.root])
					if took := time.Since(began); took > 6*time.Second {
						t.Errorf("the root came after %v", took)
					}
					w.must(first.own())
					w.notYet(k.signature)
					if notice := w.mustDriverOf(k).public.Load().notice; !strings.Contains(notice, "503") {
						t.Errorf("status says %q", notice)
					}
					if err := w.Objection(w.loc(k.signature)); !unavailable(err) || !strings.Contains(err.Error(), k.signature) {
						t.Errorf("an operator who asks why is told %v", err)
					}
					w.up.failing("", down)
					w = w.crash()
					w.notYet(k.signature)
					w.listedAs(k.root, first.files[k.root])

					w.up.setFault(nil)
					time.Sleep(11 * time.Second) // a host comes back
					known(w, first)
					asked := w.up.requests(k.signature)
					known(w, first)
					if n := w.up.requests(k.signature); n != asked {
						t.Error("upstream is asked for a signature that is known")
					}

					// A publication with the same trouble goes on all the same.
					begin(w, k)
					second := k.published(2, key)
					w.lay(second)
					time.Sleep(2 * time.Minute)
					w.listedAs(k.root, second.files[k.root])
					w.notYet(k.signature)
					w.up.setFault(nil)
					time.Sleep(2 * time.Minute) // nobody asks
					known(w, second)

					// What is known stays so when there is trouble again.
					begin(w, k)
					time.Sleep(5 * time.Minute)
					known(w, second)
					if err := w.mustDriverOf(k).public.Load().belief.Failure; err != nil {
						t.Errorf("checks fail: %v", err)
					}
				})
			})
		}
	}
}

// A signature of a key of the archive holds the root back, as it vouches for it.
func TestTroubleBesideASignedRoot(t *testing.T) {
	overKinds(t, func(t *testing.T, k kind) {
		key := testarchive.DefaultKey()
		w, first := worldOf(t, k, key), k.published(1, key)
		w.lay(first)
		w.open()
		w.used(first)
		time.Sleep(time.Hour)
		second := k.published(2, key)
		w.lay(second)
		w.up.failing(k.signature, &proto.Unavailable{Reason: "down", Answered: true})
		time.Sleep(5 * time.Minute)
		w.listedAs(k.root, first.files[k.root])
		w.listedAs(k.signature, first.files[k.signature])
		w.up.setFault(nil)
		time.Sleep(2 * time.Minute)
		w.listedAs(k.root, second.files[k.root])
	})
}

// Where another mirror has the signature, it is asked at once.
func TestSignatureOfAnotherMirror(t *testing.T) {
	overKinds(t, func(t *testing.T, k kind) {
		w, p := worldOf(t, k, nil), k.published(1, testarchive.DefaultKey())
		w.lay(p)
		w.mirrored("one", "two")
		w.up.named("one").fault = func(_ context.Context, path string) error {
			if path == k.signature {
				return &proto.Unavailable{Reason: "down", Answered: true}
			}
			return nil
		}
		w.open()
		w.listedAs(k.root, p.files[k.root])
		w.rest()
		w.listedAs(k.signature, p.files[k.signature])
	})
}

// All nodes give the same error for a signature that is not known, and the signature as soon as one
// node knows it.
func TestTroubleBesideARootInACluster(t *testing.T) {
	overKinds(t, func(t *testing.T, k kind) {
		f := newFleet(t, 3)
		for _, n := range f.nodes {
			n.serve(k, nil)
			n.cfg.LeaderVouches = true
		}
		p := k.published(1, testarchive.DefaultKey())
		f.nodes[0].lay(p)
		f.up.failing(k.signature, &proto.Unavailable{Reason: "down", Answered: true})
		f.start()
		for _, n := range f.nodes {
			n.listedAs(k.root, p.files[k.root])
			n.notYet(k.signature)
		}
		f.settled(3 * time.Minute)
		for _, n := range f.nodes {
			n.notYet(k.signature)
		}
		if got := f.up.bodies(k.root); got != 1 {
			t.Errorf("upstream gave the root %d times", got)
		}
		f.up.setFault(nil)
		f.settled(3 * time.Minute)
		for _, n := range f.nodes {
			n.listedAs(k.signature, p.files[k.signature])
		}
		if got := f.up.bodies(k.signature); got != 1 {
			t.Errorf("upstream gave the signature %d times", got)
		}
	})
}

// Where upstream never has a signature that fits, hosts get what it has, after a while.
func TestSignatureThatNeverFits(t *testing.T) {
	overKinds(t, func(t *testing.T, k kind) {
		key := testarchive.DefaultKey()
		first := k.published(1, key)
		time.Sleep(time.Hour)
		second := k.published(2, key)
		torn := second
		torn.files = maps.Clone(second.files)
		torn.files[k.signature] = first.files[k.signature]

		w := worldOf(t, k, nil)
		w.lay(first)
		w.open()
		w.used(first)
		w.lay(torn)
		time.Sleep(100 * time.Second)
		w.whole(first)
		time.Sleep(2 * time.Minute)
		w.listedAs(k.root, torn.files[k.root])
		w.listedAs(k.signature, torn.files[k.signature])
		if notice := w.mustDriverOf(k).public.Load().notice; !strings.Contains(notice, "another publication") {
			t.Errorf("status says %q", notice)
		}
		w.lay(second) // the one that fits is taken at once
		time.Sleep(70 * time.Second)
		w.whole(second)

		// A mirror that tears the pair apart afterwards takes nothing away.
		w.a.Put(k.signature, first.files[k.signature], time.Now())
		time.Sleep(10 * time.Minute)
		w.whole(second)

		w = worldOf(t, k, nil) // at first contact
		w.lay(torn)
		w.open()
		w.listedAs(k.root, torn.files[k.root])
		w.notYet(k.signature)
		time.Sleep(5 * time.Minute)
		w.listedAs(k.signature, torn.files[k.signature])
	})
}

// A mirror whose pair belongs together is preferred to one where it does not.
func TestPairOfAnotherMirror(t *testing.T) {
	overKinds(t, func(t *testing.T, k kind) {
		key := testarchive.DefaultKey()
		first := k.published(1, key)
		time.Sleep(time.Hour)
		second := k.published(2, key)
		w := worldOf(t, k, nil)
		w.lay(first)
		w.mirrored("one", "two")
		w.open()
		w.used(first)
		w.lay(second)
		w.sync("one", "two")
		w.gives("one", k.signature, first.files[k.signature])
		time.Sleep(70 * time.Second)
		w.whole(second)
	})
}

func (w *world) mustDriverOf(k kind) *driver {
	w.Helper()
	d, ok := w.known(k.suite)
	if !ok {
		w.Fatalf("%s is not known", k.suite)
	}
	return d
}
