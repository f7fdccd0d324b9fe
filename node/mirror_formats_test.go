package node_test

import (
	"bytes"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
	"github.com/aptmesh/aptmesh/node/admin"
	"github.com/aptmesh/aptmesh/node/archives/archiveconf"
	"github.com/aptmesh/aptmesh/node/config"
	"github.com/aptmesh/aptmesh/node/format/pacman/testrepo"
	"github.com/aptmesh/aptmesh/node/format/rpm/rpmarchive"
	"github.com/aptmesh/aptmesh/node/holds/holdconf"
)

// A mirror of any format holds everything that its hosts may ask for, and nobody asks upstream for any of it again.
func TestMirrorOfEachFormat(t *testing.T) {
	first := epoch.Add(-48 * time.Hour)
	for format, e := range editions(first, first.Add(time.Hour)) {
		t.Run(format, func(t *testing.T) {
			t.Parallel()
			mirrorEdition(t, e.first, first, map[string]string{"apt": "noble", "rpm": "os", "pacman": "core/os/x86_64/core.db"}[format], e.trust)
		})
	}
}

// Repositories that list SHA-512 alone, and packages with signatures of their own.
func TestMirrorOfOddRepositories(t *testing.T) {
	unsigned := func(format string) func(*archiveconf.Archive) {
		return func(a *archiveconf.Archive) { a.Format, a.Unsigned = format, true }
	}
	t.Run("rpm with sha512", func(t *testing.T) {
		t.Parallel()
		files := rpmarchive.Repo{Date: epoch, Sum: "sha512", Packages: []rpmarchive.Package{{Name: "one"}, {Name: "two"}}}.Render("os/")
		mirrorEdition(t, files, epoch, "os", unsigned("rpm"))
	})
	t.Run("pacman with signatures", func(t *testing.T) {
		t.Parallel()
		files := make(map[string][]byte)
		testrepo.Repo{Dir: "core/os/x86_64", Name: "core", Built: epoch, PackageKey: testarchive.DefaultKey(), IncludeSigs: true, Packages: []testrepo.Package{
			{Name: "one", Version: "1-1", Size: 2000}, {Name: "two", Version: "1-1", Size: 2000},
		}}.Render(files)
		mirrorEdition(t, files, epoch, "core/os/x86_64/core.db", unsigned("pacman"))
	})
}

// mirrorEdition mirrors a repository, cuts upstream off, and wants every file from the node, after a restart, too.
func mirrorEdition(t *testing.T, files map[string][]byte, date time.Time, suite string, trust func(*archiveconf.Archive)) {
	upstream := newTreeServer(t)
	upstream.show(files, date)
	w := newWorld(t, newArchive(), unhurried, func(cfg *config.Config) {
		a := archiveconf.New("ubuntu")
		a.Upstream = upstream.URL
		trust(&a)
		cfg.Archives = []archiveconf.Archive{a}
	}, mirrorOf(func(m *holdconf.Mirror) { m.Suites, m.Follow = []string{suite}, false }))
	f, err := w.node.PlanMirror(t.Context(), "all")
	if err != nil {
		t.Fatal(err)
	}
	m := w.run("all")
	if m.Phase != "done" || m.Missing.Files != 0 || m.LostCount != 0 {
		t.Fatalf("%+v", m)
	}
	if m.Held.Bytes != f.Share.Bytes || m.Held.Files != f.Share.Files || f.Packages.Files == 0 {
		t.Errorf("planned %+v, held %+v", f, m.Held)
	}
	for name, n := range upstream.requests() {
		// Roots are asked for again by checks; an index may be asked for by its hash and then by its name.
		if strings.Contains(name, "Packages/") && n > 1 {
			t.Errorf("%s was fetched %d times", name, n)
		}
	}
	upstream.show(nil, date)
	for range 2 {
		for _, name := range slices.Sorted(maps.Keys(files)) {
			if strings.HasSuffix(name, "noble/Release") || strings.HasSuffix(name, "noble/Release.gpg") {
				continue // the same statement as InRelease, which hosts ask for
			}
			if r := w.get(name); r.status != 200 || !bytes.Equal(r.body, files[name]) {
				t.Errorf("%s: %d, %d bytes of %d", name, r.status, len(r.body), len(files[name]))
			}
		}
		w.stop()
		w.start()
	}
	w.checkStore()
}

// A snapshot holds packages as its level says: those that hosts use with what they need, or all.
func TestSnapshotHolds(t *testing.T) {
	a := newArchive()
	a.AddPackage("noble", testarchive.Package{Name: "app", Version: "1", Size: 3000, Depends: "small, missing"})
	a.Publish(epoch.Add(time.Minute))
	w := newWorld(t, a)
	w.update()
	const appDeb = "pool/main/a/app/app_1_amd64.deb"
	w.mustGet(appDeb)
	dry, err := w.node.CreateSnapshot(t.Context(), admin.SnapshotPlan{Name: "used", Hold: "used", DryRun: true})
	if err != nil || dry.Forecast == nil || dry.Forecast.Packages.Files != 2 || dry.Forecast.UnresolvedCount != 1 || dry.Record != "" {
		t.Fatalf("%+v, %v", dry, err)
	}
	if list, _ := w.node.Snapshots(""); len(list) != 0 {
		t.Fatalf("a dry run takes %+v", list)
	}
	take := func(name, level string) admin.Snapshot {
		t.Helper()
		if _, err := w.node.CreateSnapshot(t.Context(), admin.SnapshotPlan{Name: name, Hold: level}); err != nil {
			t.Fatal(err)
		}
		w.eventually("its packages are held", func() bool { return w.snapshot(name).Packages.Phase == "done" })
		return w.snapshot(name)
	}
	used := take("used", "used")
	if used.Hold != "used" || used.Packages.Missing.Files != 0 || w.up.Requests(smallDeb) != 1 || w.up.Requests(largeDeb) != 0 {
		t.Errorf("%+v", used.Packages)
	}
	all := take("all", "all")
	for _, path := range w.up.Paths() {
		if strings.Contains(path, "i18n") {
			t.Errorf("%s was fetched, which no host uses", path)
		}
	}
	if w.up.Requests(largeDeb) != 1 || all.Packages.Listed.Files <= used.Packages.Listed.Files || all.Packages.Listed.Bytes < big {
		t.Errorf("%+v", all.Packages)
	}
	a.RemovePackage("noble", "large")
	a.Delete(largeDeb)
	a.Publish(epoch.Add(2 * time.Minute))
	if _, err := w.node.Refresh(t.Context(), "ubuntu/noble", false); err != nil {
		t.Fatal(err)
	}
	w.stop()
	w.start()
	w.eventually("the snapshots are held after a restart", func() bool {
		return w.snapshot("all").Packages.Missing.Files == 0 && w.snapshot("used").Packages.Missing.Files == 0
	})
	if status, body := ask(t, w.node.Addrs()[0], "/snapshot/ubuntu/all/"+largeDeb); status != 200 || len(body) < big {
		t.Errorf("%d, %d bytes", status, len(body))
	}
	// One that does not fit is not taken at all.
	w.cfg.Snapshots.MaxPinned.Percent, w.cfg.Snapshots.MaxPinned.Bytes = 0, 1000
	w.stop()
	w.start()
	r, err := w.node.CreateSnapshot(t.Context(), admin.SnapshotPlan{Name: "big", Hold: "all"})
	if err != nil || r.Forecast == nil || r.Forecast.Fits {
		t.Errorf("%+v, %v", r, err)
	}
	if _, err := w.node.Snapshots("big"); err == nil {
		t.Error("it was taken though it does not fit")
	}
	if _, err := w.node.CreateSnapshot(t.Context(), admin.SnapshotPlan{Name: "odd", Hold: "some"}); err == nil {
		t.Error("an unknown level is taken")
	}
}

// snapshot is how a snapshot of the node is now.
func (w *world) snapshot(name string) admin.Snapshot {
	w.t.Helper()
	list, err := w.node.Snapshots(name)
	if err != nil {
		w.t.Fatal(err)
	}
	return list[0]
}
