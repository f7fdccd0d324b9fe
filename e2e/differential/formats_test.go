package differential

import (
	"crypto/sha256"
	"fmt"
	"io"
	"maps"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
	"github.com/aptmesh/aptmesh/e2e/lab"
	"github.com/aptmesh/aptmesh/node/format/pacman/testrepo"
	"github.com/aptmesh/aptmesh/node/format/rpm/rpmarchive"
)

// The golden archives of rpm and pacman, asked for directly and through nodes: what a client may ask for by HTTP gets
// the same answer, and what dnf, zypper and pacman make of it is the same, before and after a publication.

// golden is one of those archives, on a server of its own.
type golden struct {
	name, format string
	render       func(at time.Time, later bool) map[string][]byte
	signed       bool
	// repos are the directories of repositories, of pacman with the name of the database; roots what they are known by.
	repos, roots []string

	archive *testarchive.Archive
	server  *testarchive.Server
}

// file is its name in the configuration.
func (g *golden) file() string { return row{name: g.format + " " + g.name}.file() }

// goldens are all of them, on servers that have nothing yet.
func goldens(t *testing.T) (all []*golden) {
	t.Helper()
	rpms := rpmarchive.Golden()
	for _, name := range slices.Sorted(maps.Keys(rpms)) {
		g := &golden{name: name, format: "rpm", repos: slices.Sorted(maps.Keys(rpms[name]))}
		for _, dir := range g.repos {
			g.signed = g.signed || rpms[name][dir].Key != nil
			g.roots = append(g.roots, path.Join(dir, "repodata/repomd.xml"))
		}
		g.render = func(at time.Time, later bool) map[string][]byte {
			files := make(map[string][]byte)
			for dir, r := range rpms[name] {
				r.Date = at
				if later {
					r.Packages = append(slices.Clone(r.Packages), rpmarchive.Package{Name: "later"})
				}
				for p, data := range r.Render(path.Join(dir, "x")[:len(path.Join(dir, "x"))-1]) {
					files[strings.TrimPrefix(path.Clean("/"+p), "/")] = data
				}
			}
			return files
		}
		all = append(all, g)
	}
	for _, a := range testrepo.Golden() {
		g := &golden{name: a.Name, format: "pacman", signed: a.Repos[0].Key != nil}
		for _, r := range a.Repos {
			g.repos = append(g.repos, path.Join(r.Dir, r.Name))
			g.roots = append(g.roots, path.Join(r.Dir, r.Name+".db"))
		}
		g.render = func(at time.Time, later bool) map[string][]byte {
			files := make(map[string][]byte)
			for _, r := range a.Repos {
				r.Built = at
				if later {
					r.Packages = append(slices.Clone(r.Packages), testrepo.Package{Name: "later", Version: "1-1"})
				}
				r.Render(files)
			}
			return files
		}
		all = append(all, g)
	}
	for _, g := range all {
		g.archive = testarchive.New(7)
		g.server = testarchive.NewServer(g.archive)
		t.Cleanup(g.server.Close)
	}
	return all
}

// publish makes the server have a generation and nothing else: packages first, then what lists them.
func (g *golden) publish(gen int) {
	files := g.render(date(gen), gen > 1)
	for _, root := range []bool{false, true} {
		for name, data := range files {
			if g.isRoot(strings.TrimSuffix(strings.TrimSuffix(name, ".sig"), ".asc")) == root {
				if f, ok := g.archive.Lookup(name); ok && string(f.Data) == string(data) {
					continue // it keeps its date
				}
				g.archive.Put(name, data, date(gen))
			}
		}
	}
	for name := range g.archive.Files() {
		if _, ok := files[name]; !ok {
			g.archive.Delete(name)
		}
	}
}

// config is its section of a node's configuration.
func (g *golden) config(keyring string) string {
	trust := "unsigned: true"
	if g.signed {
		trust = fmt.Sprintf("signed_by: [%q]", keyring)
	}
	return fmt.Sprintf("  %s:\n    format: %s\n    upstream: %q\n    check_every: 1s\n    %s\n", g.file(), g.format, g.server.URL, trust)
}

// question is a request that a client may make.
type question struct {
	method, path string // the path as it is sent
	header       string // "Name: value", or ""
	// root is that of a root: clients go by its date, and pacman by nothing else. What else has the same bytes in
	// several archives has one date on a node.
	root bool
}

// questions are what clients ask of an archive: for all that it has, by the spellings that they use; for what they look
// for whether it is there or not; for a part; and whether something has changed.
func (g *golden) questions() (all []question) {
	files := g.archive.Files()
	names := slices.Sorted(maps.Keys(files))
	absent := []string{"nothing", "media.1/media", "media.1/products", "content", "lastsync", ".treeinfo", "treeinfo", "license.tar.gz", "repodata/repomd.xml", "repodata/repomd.xml.asc"}
	for _, root := range g.roots {
		absent = append(absent, root+".asc", root+".key", root+".sig", root+".tar.gz", path.Join(path.Dir(root), "nothing-1-1-x86_64.pkg.tar.zst"), path.Join(path.Dir(root), "nothing.rpm"))
	}
	for _, name := range append(names, absent...) {
		escaped, root := (&url.URL{Path: "/" + name}).EscapedPath(), g.isRoot(name)
		add := func(method, path, header string) { all = append(all, question{method, path, header, root}) }
		add(http.MethodGet, escaped, "")
		add(http.MethodHead, escaped, "")
		for plain, encoded := range map[string]string{"+": "%2B", "^": "%5E", "~": "%7E", ":": "%3A"} {
			if strings.Contains(escaped, plain) {
				add(http.MethodGet, strings.ReplaceAll(escaped, plain, encoded), "")
			}
		}
		f, ok := g.archive.Lookup(name)
		if !ok || len(f.Data) < 40 {
			continue
		}
		for _, ranges := range []string{"0-9", "10-", "-5", "0-0,20-29", fmt.Sprintf("%d-", len(f.Data))} {
			add(http.MethodGet, escaped, "Range: bytes="+ranges)
		}
		if root {
			add(http.MethodGet, escaped, "If-Modified-Since: "+f.Modified.UTC().Format(http.TimeFormat))
		}
	}
	return all
}

// ask is an answer in one line: what a client can tell from it.
func (q question) ask(t *testing.T, base string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), q.method, base+q.path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if name, value, ok := strings.Cut(q.header, ": "); ok {
		req.Header.Set(name, value)
	}
	resp, err := direct.Do(req)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	said := fmt.Sprint(resp.StatusCode)
	if resp.StatusCode >= 300 {
		return said
	}
	kind, params, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	said += ", " + resp.Header.Get("Content-Range")
	if q.root {
		said += ", " + resp.Header.Get("Last-Modified")
	}
	if kind != "multipart/byteranges" {
		body, err := io.ReadAll(resp.Body)
		return fmt.Sprintf("%s, %d, %d bytes %.8x, %v", said, resp.ContentLength, len(body), sha256.Sum256(body), err)
	}
	for parts := multipart.NewReader(resp.Body, params["boundary"]); ; {
		part, err := parts.NextRawPart()
		if err != nil {
			return fmt.Sprintf("%s, %v", said, err)
		}
		body, err := io.ReadAll(part)
		said += fmt.Sprintf(", %s %x %v", part.Header.Get("Content-Range"), body, err)
	}
}

// client is a package manager that reads a whole archive: report is what came of it, in lines.
type client struct {
	format string
	needs  string
	report func(t *testing.T, g *golden, base string) []string
}

var clients = []client{
	{"rpm", "dnf", dnfReport},
	{"rpm", "zypper", zypperReport},
	{"pacman", "pacman", pacmanReport},
}

// said runs a command, and gives what it says without what differs from host to host.
func said(t *testing.T, cmd *exec.Cmd, base, dir string) []string {
	t.Helper()
	out, err := cmd.CombinedOutput()
	text := fmt.Sprintf("%s\n%v", out, err)
	for _, change := range [][2]string{{regexp.QuoteMeta(base), "URL"}, {`URL/\s`, "URL\n"}, {regexp.QuoteMeta(dir), "DIR"}, {`\r`, "\n"}, {`\[[^]\n]*(\]|\n)`, "[]\n"}, {`(?m)^\.*done\]`, "done]"}, {`.*\b[kM]B/s\b.*`, ""}, {`\b[0-9.]+ (s|Ki?B|B)\b`, "#"}} {
		text = regexp.MustCompile(change[0]).ReplaceAllString(text, change[1])
	}
	lines := strings.Split(text, "\n")
	slices.Sort(lines)
	return slices.Compact(lines)
}

// files are those below a directory that match, by name and sum.
func files(t *testing.T, dir, pattern string) (lines []string) {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range found {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, fmt.Sprintf("%s %d bytes %.8x", filepath.Base(name), len(data), sha256.Sum256(data)))
	}
	return lines
}

// dnfDownloads reads a repository with dnf's library and downloads all of its packages, whatever they need.
const dnfDownloads = `
import dnf, os, sys
dir, url = sys.argv[1:]
base = dnf.Base()
base.conf.cachedir, base.conf.logdir, base.conf.installroot = dir + "/cache", dir + "/log", dir
base.conf.substitutions.update(releasever="1", arch="x86_64", basearch="x86_64")
base.conf.destdir = dir + "/got"
os.makedirs(base.conf.destdir)
os.makedirs(base.conf.logdir)
base.repos.add_new_repo("r", base.conf, baseurl=[url], gpgcheck=False, skip_if_unavailable=False).pkgdir = base.conf.destdir
base.fill_sack(load_system_repo=False)
packages = sorted(base.sack.query().available())
for p in packages:
    print(p)
    if p.baseurl or "://" in p.location:
        continue # on another server
    if "%" in p.location:
        continue # dnf escapes it once more, which this server has no file for; a node has it by either name
    try:
        base.download_packages([p])
    except Exception as e:
        print(type(e), str(e))
`

func dnfReport(t *testing.T, g *golden, base string) (all []string) {
	for _, dir := range g.repos {
		tmp, at := t.TempDir(), strings.TrimSuffix(base+"/"+dir, "/")
		cmd := (*lab.Root)(nil).Command(t.Context(), "/usr/bin/python3", "-c", dnfDownloads, tmp, at)
		got := said(t, cmd, base, tmp)
		got = append(got, files(t, tmp, "got/*.rpm")...)
		if text := strings.Join(got, "\n"); strings.Contains(text, "Traceback") || !strings.Contains(text, ".rpm ") && g.name != "several servers" || strings.Contains(text, "abort") {
			t.Errorf("dnf cannot be driven at %s:\n%s", at, text)
		}
		all = append(all, got...)
	}
	return all
}

func zypperReport(t *testing.T, g *golden, base string) (all []string) {
	for _, dir := range g.repos {
		root := t.TempDir()
		run := func(args ...string) {
			cmd := (*lab.Root)(nil).Command(t.Context(), "zypper", append([]string{"--root", root, "--non-interactive", "--gpg-auto-import-keys"}, args...)...)
			all = append(all, said(t, cmd, base, root)...)
		}
		run("addrepo", "--check", "--gpgcheck-allow-unsigned-repo", strings.TrimSuffix(base+"/"+dir, "/"), "r")
		run("refresh", "r")
		run("search", "--details", "--type", "package")
	}
	return all
}

func pacmanReport(t *testing.T, g *golden, base string) (all []string) {
	for _, repo := range g.repos {
		h, err := lab.NewPacman(nil, t.TempDir(), path.Base(repo), strings.TrimPrefix(path.Dir(repo), "."), base)
		if err != nil {
			t.Fatal(err)
		}
		run := func(args ...string) []string {
			return said(t, h.Command(t.Context(), args...), base, h.Dir)
		}
		all = append(all, run("-Sy")...)
		list, _ := h.Command(t.Context(), "-Slq").Output() // what it says comes next
		all = append(all, run("-Sl")...)
		all = append(all, run(append([]string{"-Swdd"}, strings.Fields(string(list))...)...)...)
		all = append(append(all, files(t, h.Dir, "db/sync/*")...), files(t, h.Dir, "cache/*")...)
	}
	return all
}

// database is the name of a pacman database: each is a root of its own.
var database = regexp.MustCompile(`\.(db|files)(\.tar\.[a-z]+)?$`)

// isRoot reports whether a file is a root.
func (g *golden) isRoot(name string) bool {
	return slices.Contains(g.roots, name) || g.format == "pacman" && database.MatchString(name)
}

// follow waits until a node gives the roots that the archive has.
func (g *golden) follow(t *testing.T, base string) {
	t.Helper()
	for root := range g.archive.Files() {
		if !g.isRoot(root) {
			continue
		}
		f, _ := g.archive.Lookup(root)
		for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(100 * time.Millisecond) {
			if _, body := fetch(base + "/" + root); body == string(f.Data) {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s does not follow the publication", base+"/"+root)
			}
		}
	}
}

// TestGoldenArchives compares every golden archive of rpm and pacman, over two publications.
func TestGoldenArchives(t *testing.T) {
	only, err := regexp.Compile(*rows)
	if err != nil {
		t.Fatal(err)
	}
	keyring := filepath.Join(t.TempDir(), "key.asc")
	if err := os.WriteFile(keyring, testarchive.DefaultKey().Armored(), 0o644); err != nil {
		t.Fatal(err)
	}
	var all []*golden
	urls, config := make(map[string]string), "archives:\n"
	for _, g := range goldens(t) {
		if only.MatchString(g.format + " " + g.name) {
			g.publish(1)
			all = append(all, g)
			urls[g.file()] = g.server.URL
			config += g.config(keyring)
		}
	}
	if len(all) == 0 {
		t.Skipf("no golden archive matches -rows %q", *rows)
	}
	modes := map[string][]*node{"one node": nodesFor(t, 1, urls, config)}
	if *full {
		modes["cluster"] = nodesFor(t, 3, urls, config)
	}
	for _, g := range all {
		t.Run(g.format+" "+g.name, func(t *testing.T) {
			t.Parallel()
			for gen := 1; gen <= 2; gen++ {
				g.publish(gen)
				var asked []question
				answers := make(map[question]string)
				for _, q := range g.questions() {
					asked = append(asked, q)
					answers[q] = q.ask(t, g.server.URL)
				}
				reports := make(map[string][]string)
				for _, c := range clients {
					if c.format == g.format && (*lab.Root)(nil).Has(c.needs) {
						reports[c.needs] = c.report(t, g, g.server.URL)
						t.Logf("generation %d, %s: %q", gen, c.needs, reports[c.needs])
					}
				}
				for mode, nodes := range modes {
					for i, n := range nodes {
						base := n.url + "/" + g.file()
						g.follow(t, base)
						for _, q := range asked {
							if got := q.ask(t, base); got != answers[q] {
								t.Errorf("generation %d, %s: %+v:\n%s\ndirectly\n%s", gen, mode, q, got, answers[q])
							}
						}
						if i != gen%len(nodes) {
							continue // one of them will do
						}
						for _, c := range clients {
							want, ok := reports[c.needs]
							if !ok || c.format != g.format {
								continue
							}
							if d := listed(c.needs, want, c.report(t, g, base)); len(d) > 0 {
								t.Errorf("generation %d, %s:\n%s", gen, mode, strings.Join(d, "\n"))
							}
						}
					}
				}
			}
		})
	}
}
