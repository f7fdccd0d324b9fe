package differential

import (
	"crypto/sha256"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
	"github.com/aptmesh/aptmesh/e2e/lab"
)

// site is the archive of a row, on a server of its own.
type site struct {
	row
	archive *testarchive.Archive
	server  *testarchive.Server
	url     string // as sources.list has it, without a slash at its end
	keyring string // the file of the keys that a node trusts
	// original is the text of the first generation's Release, and first its InRelease.
	original, first []byte
}

// newSite starts the server, which has nothing yet.
func newSite(t *testing.T, r row) *site {
	t.Helper()
	// Each row has bytes of its own: a node that held them for another row would not ask this
	// row's archive.
	s := &site{row: r, archive: testarchive.New(uint64(crc32.ChecksumIEEE([]byte(r.name))))}
	s.server = testarchive.NewServer(s.archive)
	t.Cleanup(s.server.Close)
	if r.path != "" {
		// The server decodes the path that it is asked for.
		prefix, err := url.PathUnescape(r.path)
		if err != nil {
			t.Fatal(err)
		}
		s.server.Mount(prefix, s.archive)
	}
	s.url = s.server.URL
	if r.wrap != nil {
		front := httptest.NewServer(r.wrap(s, s.server))
		t.Cleanup(front.Close)
		s.url = front.URL
	}
	s.url += r.path
	if r.serve != nil {
		r.serve(s)
	}
	s.keyring = filepath.Join(t.TempDir(), "archive.gpg")
	if err := os.WriteFile(s.keyring, s.trusted(), 0o644); err != nil {
		t.Fatal(err)
	}
	return s
}

// trusted are the keys of all generations, and what hosts trust.
func (s *site) trusted() []byte {
	all := slices.Clone(s.trusts)
	if all != nil && s.refused {
		return testarchive.Keyring(all...)
	}
	for _, keys := range s.keys {
		for _, k := range keys {
			if !slices.Contains(all, k) {
				all = append(all, k)
			}
		}
	}
	if all == nil {
		return s.suiteKeys()
	}
	return testarchive.Keyring(all...)
}

// suiteKeys are those of the suite, or the usual one.
func (s *site) suiteKeys() []byte {
	if s.suite.Keys == nil {
		return testarchive.Keyring(testarchive.DefaultKey())
	}
	return testarchive.Keyring(s.suite.Keys...)
}

// hostKeys are those that a host trusts when it is to see a generation.
func (s *site) hostKeys(gen int) []byte {
	switch {
	case s.trusts != nil:
		return testarchive.Keyring(s.trusts...)
	case s.keys != nil:
		return testarchive.Keyring(s.keys[gen-1]...)
	}
	return s.suiteKeys()
}

// publish brings out a generation.
func (s *site) publish(gen int) {
	suite := s.suite
	if s.keys != nil {
		suite.Keys = s.keys[gen-1]
	}
	if s.odd != nil && gen >= s.from {
		s.odd(gen, &suite)
	}
	pack := suite.Pack
	suite.Pack = func(ext string, text []byte) []byte {
		if pack != nil {
			if data := pack(ext, text); data != nil {
				return data
			}
		}
		return packed(ext, text)
	}
	if gen == 1 {
		s.archive.AddSuite(suite)
	} else {
		for _, p := range s.row.packages(gen - 1) {
			s.archive.RemovePackage(suite.Name, p.Name)
		}
		s.archive.ChangeSuite(suite.Name, func(old *testarchive.Suite) { *old = suite })
	}
	for _, p := range s.row.packages(gen) {
		if p.Description == "" {
			p.Description = "a package of " + s.file()
		}
		s.archive.AddPackage(suite.Name, p)
	}
	s.archive.Publish(date(gen))
	if f, ok := s.archive.Lookup(suite.At("Release")); ok && gen == 1 {
		s.original = f.Data
	}
	if f, ok := s.archive.Lookup(suite.At("InRelease")); ok && gen == 1 {
		s.first = f.Data
	}
	if s.lay != nil {
		s.lay(s, gen)
	}
}

// packed compresses as testarchive does, and remembers: most rows have the same indexes.
func packed(ext string, text []byte) []byte {
	type form struct {
		ext string
		sum [sha256.Size]byte
	}
	once, _ := packedForms.LoadOrStore(form{ext, sha256.Sum256(text)}, sync.OnceValue(func() []byte { return testarchive.Compress(ext, text) }))
	return once.(func() []byte)()
}

var packedForms sync.Map

// rendered is a file as the archive renders it, without what `lay` put in its place before.
func (s *site) rendered(name string) []byte {
	s.archive.Restore(name)
	f, ok := s.archive.Lookup(name)
	if !ok {
		panic(fmt.Sprintf("row %q: the archive has no %s", s.name, name))
	}
	return f.Data
}

// put lays a file on the server, as new as the generation.
func (s *site) put(name string, data []byte, gen int) { s.archive.Put(name, data, date(gen)) }

// copyTree lays all files below one directory below another one, too.
func (s *site) copyTree(from, to string) {
	for name, data := range s.archive.Files() {
		if rest, ok := strings.CutPrefix(name, from+"/"); ok {
			f, _ := s.archive.Lookup(name)
			s.archive.Put(path.Join(to, rest), data, f.Modified)
		}
	}
}

// roots are the directories of the Release files that sources.list names, relative to the
// archive's URL: apt's debReleaseIndex::MetaIndexURI.
func (s *site) roots() (dirs []string) {
	for line := range strings.Lines(s.sources) {
		_, rest, ok := strings.Cut(line, "URL")
		if !ok {
			continue
		}
		base, rest, _ := strings.Cut(rest, " ")
		suite := strings.Fields(rest)[0]
		if !strings.HasSuffix(suite, "/") {
			suite = "dists/" + suite
		}
		if dir := path.Join("/", base, suite); !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

// followed reports whether the node at that base URL gives the roots that the archive has.
func (s *site) followed(base string) bool {
	for _, dir := range s.roots() {
		names := []string{"/InRelease"}
		if status, _ := fetch(s.url + dir + "/InRelease"); status == http.StatusNotFound {
			names = []string{"/Release", "/Release.gpg"}
		}
		for _, name := range names {
			status, want := fetch(s.url + dir + name)
			if got, body := fetch(base + dir + name); status != got || status == http.StatusOK && want != body {
				return false
			}
		}
	}
	for _, name := range s.watch {
		status, want := fetch(s.url + name)
		if got, body := fetch(base + name); status != got || want != body {
			return false
		}
	}
	return true
}

// await waits until the node gives what the archive has, within the patience of the row: what
// comes of it is what apt will see. Nodes ask the archive once a second.
func (s *site) await(base string) {
	for deadline := time.Now().Add(s.patience); !s.followed(base) && time.Now().Before(deadline); {
		time.Sleep(100 * time.Millisecond)
	}
}

var direct = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 4}, Timeout: 20 * time.Second}

func fetch(url string) (status int, body string) {
	resp, err := direct.Get(url)
	if err != nil {
		return 0, ""
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, ""
	}
	return resp.StatusCode, string(b)
}

// newHost makes a host that reaches the archive at that base URL. It tries nothing twice:
// what works directly at the first attempt does so through a node.
func (s *site) newHost(t *testing.T, base string, settings ...string) *lab.Apt {
	t.Helper()
	settings = append([]string{`Acquire::Retries "0";`}, settings...)
	host, err := lab.NewApt(s.hostKeys(1), strings.ReplaceAll(s.sources, "URL", base), append(settings, s.settings...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := host.Remove(); err != nil {
			t.Error(err)
		}
	})
	if !*full && !s.trustedParts && strings.Count(s.sources, "KEYRING,") == 0 {
		hasten(t, host)
	}
	return host
}

// hasten has apt call gpgv without apt-key, as versions of apt without apt-key do: that
// shell script takes half of the time of an update. It is called with
// --quiet --readonly --keyring FILE verify ARGUMENTS-OF-GPGV.
func hasten(t *testing.T, host *lab.Apt) {
	t.Helper()
	const script = `#!/bin/sh
while [ "$1" != verify ]; do
	[ "$1" = --keyring ] && keyring=$2
	shift
done
shift
exec gpgv --homedir "${0%/*}" --keyring "$keyring" --ignore-time-conflict "$@"
`
	name := filepath.Join(host.Dir, "apt-key")
	if err := os.WriteFile(name, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	conf, err := os.ReadFile(filepath.Join(host.Dir, "apt.conf"))
	if err == nil {
		err = host.Write("apt.conf", string(conf)+fmt.Sprintf("Dir::Bin::apt-key %q;\n", name))
	}
	if err != nil {
		t.Fatal(err)
	}
}
