package e2e

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
)

// TestSnapshotService: hosts name dates of a snapshot service in their sources, or let apt do so (--snapshot), and use the
// node as their proxy or in the URL. The node is configured with the service, and not with any date. Upstream is asked for
// the root of each date once, whatever its Valid-Until.
func TestSnapshotService(t *testing.T) {
	t.Parallel()
	const first, second = "20240301T000000Z", "20240402T000000Z"
	at := func(text string) *testarchive.Archive {
		a := testarchive.New(5)
		a.AddSuite(testarchive.Suite{Name: "noble", Origin: "Ubuntu", Architectures: []string{"amd64"}, ByHash: true, ValidFor: 7 * 24 * time.Hour})
		date := must(time.Parse("20060102T150405Z", text))(t)
		a.AddPackage("noble", testarchive.Package{Name: "hello", Version: date.Format("2006.01"), Size: 20_000})
		a.Publish(date)
		return a
	}
	live := at(time.Now().UTC().Add(-time.Hour).Format("20060102T150405Z"))
	server := testarchive.NewServer(testarchive.New(3))
	t.Cleanup(server.Close)
	server.Mount("/ubuntu", live)
	server.Mount("/dates/"+first, at(first))
	server.Mount("/dates/"+second, at(second))
	key := fmt.Sprintf("%q", writeFile(t, filepath.Join(t.TempDir(), "key.gpg"), live.Keyring()))
	n := newNode(t, "archives:\n"+
		"  ubuntu:\n    upstream: "+server.URL+"/ubuntu\n    aliases: [\"http://archive.ubuntu.com/ubuntu\"]\n    signed_by: ["+key+"]\n"+
		"  ubuntu-at:\n    upstream: "+server.URL+"/dates/*\n    aliases: [\"http://snapshot.ubuntu.com/ubuntu/*\"]\n"+
		"    immutable: true\n    check_every: 1s\n    signed_by: ["+key+"]\n")
	n.start()

	has := func(host *apt, version string) {
		t.Helper()
		host.run("apt-get", "update")
		host.run("apt-get", "download", "hello")
		host.file("hello_" + version + "_amd64.deb")
	}
	root := func(date string) string { return "dates/" + date + "/dists/noble/InRelease" }
	const options = "deb [signed-by=KEYRING check-valid-until=no] "
	has(newApt(t, live.Keyring(), options+"http://snapshot.ubuntu.com/ubuntu/"+first+" noble main", proxy(n)), "2024.03")
	has(newApt(t, live.Keyring(), options+"http://snapshot.ubuntu.com/ubuntu/"+second+"/ noble main", proxy(n)), "2024.04")
	time.Sleep(3 * time.Second) // three checks, if there were any
	has(newApt(t, live.Keyring(), options+n.URL+"/ubuntu-at/"+first+" noble main"), "2024.03")
	host := newApt(t, live.Keyring(), options+"http://archive.ubuntu.com/ubuntu noble main", proxy(n),
		`Acquire::Snapshots::URI::Override::Origin::Ubuntu "http://snapshot.ubuntu.com/ubuntu/@SNAPSHOTID@/";`)
	host.run("apt-get", "update")
	if strings.Contains(host.run("apt-get", "--version"), "apt 2.6") {
		t.Log("this apt has no --snapshot")
	} else {
		host.run("apt-get", "--snapshot", first, "update")
		host.run("apt-get", "--snapshot", first, "download", "hello")
		host.file("hello_2024.03_amd64.deb")
	}
	for _, date := range []string{first, second} {
		if got := server.Requests(root(date)); got != 1 {
			t.Errorf("upstream was asked %d times for the root of %s", got, date)
		}
	}
	status := n.do("status")
	if !strings.Contains(status, "ubuntu-at/"+first+"/dists/noble") || !strings.Contains(status, "frozen") {
		t.Errorf("status:\n%s", status)
	}
	if why := n.do("why", "http://snapshot.ubuntu.com/ubuntu/"+first+"/dists/noble/InRelease"); !strings.Contains(why, "Upstream never changes it") {
		t.Errorf("why:\n%s", why)
	}
	n.checkStored()
}
