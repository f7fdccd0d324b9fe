package e2e

import (
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
)

// dressAsOpenSUSE makes of a repository what openSUSE's product builder makes: beside repodata/ the names of medium
// and products, sums of what installers boot, keys, and in repomd.xml the kinds of metadata that only SUSE has.
func (w *rpmWorld) dressAsOpenSUSE(build string, other *testarchive.Key) {
	w.t.Helper()
	put := func(name, text string) string {
		return writeFile(w.t, filepath.Join(w.dir, name), []byte(text))
	}
	put("media.1/media", "openSUSE - openSUSE-Leap-x86_64-"+build+"-Media\n"+build+"\n1\n")
	put("media.1/products", "/ openSUSE-Leap 15.6-1\n")
	boot := "a kernel of " + build
	put("boot/x86_64/loader/linux", boot)
	sums := fmt.Sprintf("%s  boot/x86_64/loader/linux\n", testarchive.Sum(testarchive.SHA256, []byte(boot)))
	put("CHECKSUMS", sums)
	put("CHECKSUMS.asc", string(testarchive.DetachSign([]byte(sums), time.Now(), w.key)))
	put(keyHint(w.key), string(w.key.Armored()))
	put(keyHint(other), string(other.Armored()))
	put("GPLv2.txt", "a license")

	work := w.t.TempDir()
	for _, m := range []struct{ kind, file, text string }{
		{"suseinfo", "suseinfo.xml", `<suseinfo xmlns="http://novell.com/package/metadata/suse/suseinfo"><expire>31536000</expire></suseinfo>`},
		{"susedata", "susedata.xml", `<susedata xmlns="http://linux.duke.edu/metadata/susedata" packages="0"/>`},
		{"susedata.de", "susedata.de.xml", `<susedata xmlns="http://linux.duke.edu/metadata/susedata" xml:lang="de" packages="0"/>`},
		{"patterns", "patterns.xml", `<patterns xmlns="http://novell.com/package/metadata/suse/pattern" xmlns:rpm="http://linux.duke.edu/metadata/rpm" count="1"><pattern><name>greeting</name><arch>noarch</arch>` +
			`<version epoch="0" ver="` + build + `" rel="1"/><summary>all that greets</summary><description/><uservisible/><category>Base</category></pattern></patterns>`},
		{"updateinfo", "updateinfo.xml", `<updates/>`},
		{"license", "license.tar", strings.Repeat("\x00", 1024)},
	} {
		w.run("modifyrepo_c", "--mdtype="+m.kind, "--compress", "--compress-type=gz", writeFile(w.t, filepath.Join(work, m.file), []byte(m.text)), filepath.Join(w.dir, "repodata"))
	}
}

// progress is what zypper shows of its progress, as often as it has time to.
var progress = regexp.MustCompile(`[.\[\]]+|[0-9.]+ [KM]i?B/s|\n\s*\n`)

// words is what zypper says, without its progress and with each of these URLs called the same.
func words(said string, urls ...string) string {
	for _, url := range urls {
		said = strings.ReplaceAll(said, url, "URL")
	}
	return strings.Join(strings.Fields(progress.ReplaceAllString(said, " ")), " ")
}

// keyHint is what a key's file is called in openSUSE's tree, and the name in repomd.xml by which zypper asks for it.
func keyHint(k *testarchive.Key) string {
	id := strings.ToLower(k.KeyID())
	return "gpg-pubkey-" + id[len(id)-8:] + "-5f68629b.asc"
}

// TestZypperOpenSUSE: zypper adds, reads and refreshes a repository that is laid out as openSUSE's, and asks through a
// node for all that it asks a mirror for. What it gets is what the mirror has, and what the mirror does not have it is
// told so. (Provide and probeRepoType in libzypp's zypp/ng/repo/workflows say what there is to ask for.)
func TestZypperOpenSUSE(t *testing.T) {
	t.Parallel()
	client := needClient(t, "zypper")
	needTools(t, "modifyrepo_c")
	w := newRPMRepository(t, true)
	for _, path := range w.shown {
		w.archive.Delete(path)
	}
	w.shown, w.dir, w.packages = nil, t.TempDir(), "."
	other := testarchive.NewKey("Backports", testarchive.KeyOptions{})
	build := "Build1.1"
	w.dress = func() {
		w.dressAsOpenSUSE(build, other)
		root := filepath.Join(w.dir, "repodata/repomd.xml")
		text := string(must(os.ReadFile(root))(t))
		hint := fmt.Sprintf("<tags>\n<content>pool</content>\n<content>%s?fpr=%s</content>\n<repo>obsproduct://build.opensuse.org/openSUSE:Leap:15.6/openSUSE/15.6/x86_64</repo>\n</tags>\n", keyHint(other), other.Fingerprint())
		writeFile(t, root, []byte(strings.Replace(text, "</revision>\n", "</revision>\n"+hint, 1)))
	}
	w.build("1.0", "hello")
	w.publish()
	w.node = newNode(t, w.config())
	w.node.start()

	// host is one without any key, which finds them in the repository.
	host := func() func(args ...string) string {
		dir := t.TempDir()
		return func(args ...string) string {
			return mustRun(t, client.Command(t.Context(), "zypper", append([]string{"--root", dir, "--non-interactive", "--gpg-auto-import-keys"}, args...)...))
		}
	}
	all := func(zypper func(args ...string) string, url string) (said string) {
		zypper("addrepo", "--check", url, "r")
		zypper("refresh", "r")
		said = zypper("search", "--type", "pattern") + zypper("search", "--details", "hello")
		zypper("install", "--download-only", "--allow-unsigned-rpm", "hello")
		return said
	}
	again := func(zypper func(args ...string) string) string {
		zypper("refresh", "r")
		return zypper("search", "--type", "pattern", "--details") + zypper("search", "--details", "hello")
	}
	direct, through := host(), host()
	want := all(direct, w.server.URL+"/repo")
	asked := make(map[string]bool)
	for _, r := range w.server.Log() {
		if r.Header.Get("Via") == "" {
			asked[r.Method+" "+strings.TrimPrefix(r.Path, "repo/")] = true
		}
	}
	name := func(said string) string {
		return strings.NewReplacer(w.server.URL+"/repo", "URL", w.node.URL+"/r", "URL").Replace(said)
	}
	if got := all(through, w.node.URL+"/r"); name(got) != name(want) {
		t.Errorf("zypper says through the node:\n%s\ndirectly:\n%s", got, want)
	}

	answered := make(map[string]bool)
	for _, a := range w.node.accessLog() {
		path := strings.TrimPrefix(a.URL, "/r/")
		answered[a.Method+" "+path] = true
		_, there := w.archive.Lookup("repo/" + path)
		if good := a.Status == http.StatusOK || a.Status == http.StatusPartialContent; good != there || !there && a.Status != http.StatusNotFound {
			t.Errorf("%s %s: status %d; upstream has it: %v", a.Method, path, a.Status, there)
		}
	}
	if d, n := slices.Sorted(maps.Keys(asked)), slices.Sorted(maps.Keys(answered)); !slices.Equal(d, n) {
		t.Errorf("zypper asks the node for\n%q\nand the mirror for\n%q", n, d)
	}
	t.Logf("zypper asks for %q", slices.Sorted(maps.Keys(asked)))
	for _, path := range []string{"media.1/media", "repodata/repomd.xml.asc", "repodata/repomd.xml.key"} {
		if !asked["GET "+path] {
			t.Errorf("zypper did not ask for %s: the repository is not what this test is about", path)
		}
	}

	build = "Build1.2"
	w.build("1.1", "hello")
	w.publish()
	if adopted, said := w.refresh(); !adopted {
		t.Fatalf("the publication is not adopted: %s", said)
	}
	if got, want := again(through), again(direct); name(got) != name(want) || !strings.Contains(got, "Build1.2") || !strings.Contains(got, "1.1-1") {
		t.Errorf("after a publication zypper says through the node:\n%s\ndirectly:\n%s", got, want)
	}

	// What installers and people ask for, which nothing but CHECKSUMS lists.
	for _, path := range []string{"CHECKSUMS", "CHECKSUMS.asc", "boot/x86_64/loader/linux", "media.1/products", "GPLv2.txt", keyHint(w.key), keyHint(other), "media.1/media"} {
		status, body := w.get(path)
		if f, _ := w.archive.Lookup("repo/" + path); status != http.StatusOK || string(body) != string(f.Data) {
			t.Errorf("%s: status %d, %q; upstream has %q", path, status, body, f.Data)
		}
	}
	for _, path := range []string{"content", "content.asc", "media.2/media", "directory.yast", "repodata/repomd.xml.sig"} {
		if status, _ := w.get(path); status != http.StatusNotFound {
			t.Errorf("%s, which upstream does not have: status %d", path, status)
		}
	}
}

// SUSE's old form has "content" in place of repodata/repomd.xml. zypper still reads it, so it comes through a node, which
// verifies nothing of it.
func TestZypperOldSUSE(t *testing.T) {
	t.Parallel()
	client := needClient(t, "zypper")
	w := newRPMRepository(t, true)
	name := "Packages/noarch/hello-1.0-1.noarch.rpm"
	rpm := must(os.ReadFile(filepath.Join(w.dir, name)))(t)
	for _, path := range w.shown {
		w.archive.Delete(path)
	}
	put := func(path string, data []byte) { w.archive.Put("repo/"+path, data, time.Now().Add(-time.Hour)) }
	list := fmt.Sprintf("=Ver: 2.0\n##----------------------------------------\n=Pkg: hello 1.0 1 noarch\n=Cks: SHA256 %s\n+Prv:\nhello = 1.0-1\n-Prv:\n=Grp: System\n=Lic: MIT\n=Loc: 1 hello-1.0-1.noarch.rpm\n=Siz: %d 2\n=Tim: 1700000000\n",
		testarchive.Sum(testarchive.SHA256, rpm), len(rpm))
	content := fmt.Sprintf("CONTENTSTYLE 11\nDATADIR suse\nDESCRDIR suse/setup/descr\nDISTRO cpe:/o:example:old:11,Old\nLABEL Old\nREPOID obsproduct://example/old\nVENDOR example\nMETA SHA256 %s  packages\n", testarchive.Sum(testarchive.SHA256, []byte(list)))
	put("content", []byte(content))
	put("content.asc", testarchive.DetachSign([]byte(content), time.Now(), w.key))
	put("content.key", w.key.Armored())
	put("suse/setup/descr/packages", []byte(list))
	put("suse/noarch/hello-1.0-1.noarch.rpm", rpm)
	put("media.1/media", []byte("example\n20240101\n1\n"))
	w.node = newNode(t, w.config())
	w.node.start()

	said := make(map[string]string)
	for _, url := range []string{w.server.URL + "/repo", w.node.URL + "/r"} {
		dir := t.TempDir()
		for _, args := range [][]string{{"addrepo", "--check", url, "r"}, {"refresh", "r"}, {"search", "--details", "hello"}, {"--no-gpg-checks", "install", "--download-only", "hello"}} {
			out := mustRun(t, client.Command(t.Context(), "zypper", append([]string{"--root", dir, "--non-interactive", "--gpg-auto-import-keys"}, args...)...))
			said[url] += words(out, url)
		}
		if got, err := filepath.Glob(filepath.Join(dir, "var/cache/zypp/packages/r/suse/noarch/*.rpm")); err != nil || len(got) != 1 {
			t.Errorf("%s: the host has %q, %v", url, got, err)
		}
	}
	if direct, through := said[w.server.URL+"/repo"], said[w.node.URL+"/r"]; direct != through {
		t.Errorf("zypper says through the node:\n%s\ndirectly:\n%s", through, direct)
	}
}
