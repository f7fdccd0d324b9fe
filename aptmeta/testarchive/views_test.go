package testarchive_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
)

func has(a *testarchive.Archive, path string) bool {
	_, ok := a.Lookup(path)
	return ok
}

func data(t *testing.T, a *testarchive.Archive, path string) []byte {
	t.Helper()
	f, ok := a.Lookup(path)
	if !ok {
		t.Fatalf("%s is not on the server", path)
	}
	return f.Data
}

// two returns an archive of two generations, the second one only prepared, and
// the by-hash path of amd64's Packages.gz in each.
func two(t *testing.T) (a *testarchive.Archive, old, young string) {
	t.Helper()
	byHash := func(a *testarchive.Archive) string {
		return "dists/noble/main/binary-amd64/by-hash/SHA256/" + testarchive.Sum(testarchive.SHA256, data(t, a, "dists/noble/main/binary-amd64/Packages.gz"))
	}
	a = noble(1)
	a.Publish(day)
	old = byHash(a)
	a.AddPackage("noble", testarchive.Package{Name: "new", Version: "1"})
	a.Prepare(day.Add(time.Hour))
	a.Show("noble", testarchive.At(1))
	young = byHash(a)
	a.Show("noble", testarchive.At(0))
	return a, old, young
}

func TestViewsMixGenerations(t *testing.T) {
	a, old, young := two(t)
	if old == young {
		t.Fatal("both generations have one index")
	}
	if !has(a, old) || has(a, young) {
		t.Error("a prepared generation must not show")
	}
	dateOf := func(path string) string {
		_, after, _ := strings.Cut(string(data(t, a, path)), "\nDate: ")
		return strings.SplitN(after, "\n", 2)[0]
	}
	before := dateOf("dists/noble/InRelease")

	v := testarchive.At(0)
	v.Indices = 1 // canonical names change before InRelease does
	a.Show("noble", v)
	if dateOf("dists/noble/InRelease") != before || !bytes.Contains(testGunzip(t, data(t, a, "dists/noble/main/binary-amd64/Packages.gz")), []byte("Package: new\n")) || has(a, young) {
		t.Error("want the old InRelease, new indices and no new by-hash name")
	}
	v = testarchive.At(1)
	v.Release, v.Signature = 0, -1
	a.Show("noble", v)
	if dateOf("dists/noble/InRelease") == dateOf("dists/noble/Release") || has(a, "dists/noble/Release.gpg") {
		t.Error("want another InRelease than Release, and no Release.gpg")
	}
	if !has(a, old) || !has(a, young) {
		t.Error("both generations must be there by hash")
	}
	if a.Latest("noble") != 1 {
		t.Errorf("latest is %d", a.Latest("noble"))
	}
}

func TestRetainDropsOldByHash(t *testing.T) {
	a, old, young := two(t)
	a.ChangeSuite("noble", func(s *testarchive.Suite) { s.Retain = 1 })
	a.Show("noble", testarchive.At(1))
	if has(a, old) || !has(a, young) {
		t.Error("want only the current generation by hash")
	}
}

func TestForkHasTheSameDate(t *testing.T) {
	a := noble(1)
	a.Publish(day)
	first := data(t, a, "dists/noble/InRelease")
	a.AddPackage("noble", testarchive.Package{Name: "evil", Version: "1"})
	a.Publish(day)
	second := data(t, a, "dists/noble/InRelease")
	date := []byte("\nDate: Sun, 01 Mar 2026 12:00:00 UTC\n")
	if bytes.Equal(first, second) || !bytes.Contains(first, date) || !bytes.Contains(second, date) {
		t.Error("want two roots of one date")
	}
}

func TestWhatAReleaseListsAndTheServerCarries(t *testing.T) {
	a := testarchive.New(1)
	s := wholeSuite("noble")
	s.Hashes = []string{testarchive.SHA512}
	s.ListedComponents = []string{"multiverse"}
	a.AddSuite(s)
	fill(a, "noble")
	a.AddPackage("noble", testarchive.Package{Name: "disk", Version: "1", Udeb: true})
	a.Publish(day)
	release := string(data(t, a, "dists/noble/Release"))
	if strings.Contains(release, "SHA256:") || !strings.Contains(release, "SHA512:") {
		t.Error("want SHA512 alone")
	}
	for path, carried := range map[string]bool{
		"main/binary-amd64/Packages":                           false,
		"main/binary-amd64/Packages.gz":                        true,
		"main/binary-amd64/Packages.xz":                        true,
		"main/binary-amd64/Release":                            true,
		"main/binary-riscv64/Packages.gz":                      false,
		"multiverse/binary-amd64/Packages.gz":                  false,
		"main/source/Sources.xz":                               true,
		"main/i18n/Translation-en.xz":                          true,
		"main/Contents-amd64.gz":                               true,
		"main/dep11/Components-amd64.yml.gz":                   true,
		"main/dep11/icons-64x64.tar.gz":                        true,
		"main/cnf/Commands-amd64.xz":                           true,
		"main/installer-amd64/20230607/images/SHA256SUMS":      true,
		"main/debian-installer/binary-amd64/Packages.gz":       true,
		"universe/debian-installer/binary-riscv64/Packages.gz": false,
	} {
		if !strings.Contains(release, " "+path+"\n") {
			t.Errorf("the Release does not list %s", path)
		}
		if has(a, "dists/noble/"+path) != carried {
			t.Errorf("%s on the server: %v, want %v", path, !carried, carried)
		}
	}
	for _, path := range []string{"dists/noble/main/installer-amd64/current/images/netboot/mini.iso", "pool/main/d/disk/disk_1_amd64.udeb", "pool/main/h/hello/hello_2.10.orig.tar.xz"} {
		if !has(a, path) {
			t.Errorf("%s is not on the server", path)
		}
	}
	if has(a, "pool/main/f/filler000/filler000_1_amd64.deb") {
		t.Error("a package that is Missing is there")
	}
}

func TestPutDeleteRestore(t *testing.T) {
	a := noble(1)
	a.Publish(day)
	const path = "dists/noble/InRelease"
	real := data(t, a, path)
	a.Put(path, []byte("rubbish"), day)
	if string(data(t, a, path)) != "rubbish" || string(a.Files()[path]) != "rubbish" {
		t.Error("Put has no effect")
	}
	a.Delete(path)
	if _, ok := a.Files()[path]; ok || has(a, path) {
		t.Error("Delete has no effect")
	}
	a.Restore(path)
	if !bytes.Equal(data(t, a, path), real) {
		t.Error("Restore does not restore")
	}
}

// Someone rebuilds a package in place: the file changes, and so does its date.
func TestRebuildInPlace(t *testing.T) {
	a := noble(1)
	a.Publish(day)
	path := a.AddPackage("noble", testarchive.Package{Name: "hello", Version: "1:2.10-1+b1~x", Size: 5000, Salt: "again"})
	before, _ := a.Lookup(path)
	a.Publish(day.Add(time.Hour))
	after, _ := a.Lookup(path)
	if bytes.Equal(before.Data, after.Data) || len(before.Data) != len(after.Data) || after.Modified.Equal(before.Modified) {
		t.Error("want other bytes of the same length, with a new date")
	}
}

func TestPublishWhileServing(t *testing.T) {
	a := noble(1)
	a.Publish(day)
	s := testarchive.NewServer(a)
	defer s.Close()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 20 {
				if g := get(s, "/dists/noble/InRelease"); g.status != 200 || g.err != nil {
					t.Errorf("status %d, %v", g.status, g.err)
				}
			}
		})
	}
	for i := range 10 {
		a.AddPackage("noble", testarchive.Package{Name: fmt.Sprintf("p%d", i), Version: "1"})
		a.Publish(day.Add(time.Duration(i) * time.Minute))
		s.Inject("nothing", 1, testarchive.Status(500, 0)).Remove()
	}
	wg.Wait()
}

// What apt must refuse, it refuses for the reason meant.
func TestRealAptRefuses(t *testing.T) {
	now := time.Now().Add(-time.Hour)
	for _, test := range []struct {
		name  string
		suite testarchive.Suite
		date  time.Time
		says  string
	}{
		{"expired key", testarchive.Suite{Keys: []*testarchive.Key{testarchive.NewKey("old", testarchive.KeyOptions{Expires: day.AddDate(-1, 0, 0)})}}, now, "EXPKEYSIG"},
		{"revoked key", testarchive.Suite{Keys: []*testarchive.Key{testarchive.NewKey("lost", testarchive.KeyOptions{Revoked: true})}}, now, "REVKEYSIG"},
		{"forged", testarchive.Suite{Forged: true}, now, "BADSIG"},
		{"forged without InRelease", testarchive.Suite{Forged: true, NoInRelease: true}, now, "BADSIG"},
		{"unsigned", testarchive.Suite{Unsigned: true}, now, "is not signed"},
		{"expired", testarchive.Suite{ValidFor: time.Minute}, now, "is expired"},
		{"from the future", testarchive.Suite{}, now.Add(48 * time.Hour), "is not valid yet"},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := testarchive.New(1)
			test.suite.Name = "x"
			a.AddSuite(test.suite)
			a.Publish(test.date)
			s := testarchive.NewServer(a)
			defer s.Close()
			c := newApt(t, a, "deb [signed-by=KEYRING] "+s.URL+" x main")
			if out, _ := c.try("apt-get", "update"); !strings.Contains(out, test.says) {
				t.Errorf("apt does not say %q:\n%s", test.says, out)
			}
		})
	}
}

func TestKeyring(t *testing.T) {
	a := testarchive.New(1)
	one, two := testarchive.NewKey("one", testarchive.KeyOptions{}), testarchive.NewKey("two", testarchive.KeyOptions{SigningSubkey: true})
	a.AddSuite(testarchive.Suite{Name: "x", Keys: []*testarchive.Key{one, two}})
	a.AddSuite(testarchive.Suite{Name: "y", Keys: []*testarchive.Key{one}})
	if !bytes.Equal(a.Keyring(), slices.Concat(one.Public(), two.Public())) {
		t.Error("want both keys once")
	}
	if !strings.HasSuffix(one.Fingerprint(), one.KeyID()) || strings.HasSuffix(two.Fingerprint(), two.KeyID()) {
		t.Error("one signs with its primary key, two with a subkey")
	}
}
