package aptconf

import (
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// root makes a directory that holds the given files, by absolute path.
func root(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// show writes an archive in one line, without the root that tests differ in.
func show(a Archive, root string) string {
	words := []string{a.Name, strings.Replace(a.URL, root, "", 1), strings.Join(a.Suites, ","), strings.Join(a.Components, ",")}
	for _, k := range a.SignedBy {
		if isKeyBlock(k) {
			k = "BLOCK"
		}
		words = append(words, strings.TrimPrefix(k, root))
	}
	for flag, set := range map[string]bool{"default-keys": a.DefaultKeys} {
		if set {
			words = append(words, flag)
		}
	}
	if len(a.Trusted) > 0 {
		words = append(words, "trusted="+strings.Join(a.Trusted, ","))
	}
	if a.Private {
		words = append(words, "private")
	}
	return strings.Join(words, " ")
}

const keyBlock = `Types: deb
URIs: https://example.org/inline
Suites: stable
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 mDMEYCQjIxYJKwYBBAHaRw8BAQdAD/P5Nvvnvk66SxBBHDbhRml9ORg1WV5CvzKY
# a comment in the middle of a value
 =IE0r
 -----END PGP PUBLIC KEY BLOCK-----
`

func TestRead(t *testing.T) {
	tests := []struct {
		name    string
		files   map[string]string
		want    []string
		notices []string // a part of each
	}{
		{name: "no apt at all"},
		{
			name: "Debian 12, deb822",
			files: map[string]string{"/etc/apt/sources.list.d/debian.sources": `Types: deb
# snapshot of the image
URIs: http://debian.example.org/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://debian.example.org/debian-security
Suites: bookworm-security
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
`},
			want: []string{
				"debian http://debian.example.org/debian bookworm,bookworm-updates main /usr/share/keyrings/debian-archive-keyring.gpg",
				"debian-security http://debian.example.org/debian-security bookworm-security main /usr/share/keyrings/debian-archive-keyring.gpg",
			},
		},
		{
			name: "Ubuntu 24.04, deb822",
			files: map[string]string{
				"/etc/apt/sources.list": "# Ubuntu sources have moved to /etc/apt/sources.list.d/ubuntu.sources\n",
				"/etc/apt/sources.list.d/ubuntu.sources": `Types: deb
URIs: http://de.archive.ubuntu.com/ubuntu/
Suites: noble noble-updates noble-backports
Components: main restricted universe multiverse
Signed-By: /usr/share/keyrings/ubuntu-archive-keyring.gpg

## Ubuntu security updates.
Types: deb
URIs: http://security.ubuntu.com/ubuntu/
Suites: noble-security
Components: main restricted universe multiverse
Signed-By: /usr/share/keyrings/ubuntu-archive-keyring.gpg
`},
			want: []string{
				"ubuntu http://de.archive.ubuntu.com/ubuntu noble,noble-updates,noble-backports main,restricted,universe,multiverse /usr/share/keyrings/ubuntu-archive-keyring.gpg",
				"ubuntu-security http://security.ubuntu.com/ubuntu noble-security main,restricted,universe,multiverse /usr/share/keyrings/ubuntu-archive-keyring.gpg",
			},
		},
		{
			name: "Ubuntu 22.04, one line each, apt's own keyrings",
			files: map[string]string{
				"/etc/apt/sources.list": `# See http://help.ubuntu.com/community/UpgradeNotes
deb http://archive.ubuntu.com/ubuntu jammy main restricted
# deb-src http://archive.ubuntu.com/ubuntu jammy main restricted

deb http://archive.ubuntu.com/ubuntu jammy-updates main restricted universe
deb http://security.ubuntu.com/ubuntu jammy-security main restricted # security
deb-src http://archive.ubuntu.com/ubuntu/ jammy main
`,
				"/etc/apt/trusted.gpg": "",
				"/etc/apt/trusted.gpg.d/ubuntu-keyring-2018-archive.gpg":    "key",
				"/etc/apt/trusted.gpg.d/vendor.asc":                         "key",
				"/etc/apt/trusted.gpg.d/ubuntu-keyring-2012-archive.gpg~":   "key",
				"/etc/apt/trusted.gpg.d/ubuntu-keyring-2012-cdimage.gpg.bk": "key",
			},
			want: []string{
				"ubuntu http://archive.ubuntu.com/ubuntu jammy,jammy-updates main,restricted,universe /etc/apt/trusted.gpg.d/ default-keys",
				"ubuntu-security http://security.ubuntu.com/ubuntu jammy-security main,restricted /etc/apt/trusted.gpg.d/ default-keys",
			},
		},
		{
			name: "third parties: docker, PPAs, a host of its own, a generic directory",
			files: map[string]string{
				"/etc/apt/sources.list":                   "deb http://archive.ubuntu.com/ubuntu noble main\n",
				"/etc/apt/sources.list.d/docker.list":     "deb [arch=amd64 signed-by=/etc/apt/keyrings/docker.asc] https://download.docker.com/linux/ubuntu noble stable\n",
				"/etc/apt/sources.list.d/a-ppa.list":      "deb https://ppa.launchpadcontent.net/deadsnakes/ppa/ubuntu/ noble main\n",
				"/etc/apt/sources.list.d/b-ppa.list":      "deb https://ppa.launchpadcontent.net/graphics-drivers/ppa/ubuntu/ noble main\n",
				"/etc/apt/sources.list.d/root.list":       "deb https://packages.example.org/ stable main\n",
				"/etc/apt/sources.list.d/vendor.list":     "deb https://deb.example.com/node_20.x nodistro main\n",
				"/etc/apt/sources.list.d/vendor2.list":    "deb https://deb.example.net/node_20.x nodistro main\n",
				"/etc/apt/sources.list.d/generic.list":    "deb https://packages.example.com/apt cloud main\n",
				"/etc/apt/sources.list.d/off.list.save":   "deb https://off.example.com/x y z\n",
				"/etc/apt/sources.list.d/odd name.list":   "deb https://off.example.com/x y z\n",
				"/etc/apt/sources.list.d/subdir.list/a":   "",
				"/etc/apt/sources.list.d/local-port.list": "deb http://mirror.example.com:8081/tools ./\n",
			},
			want: []string{
				"ubuntu http://archive.ubuntu.com/ubuntu noble main default-keys",
				"ppa.launchpadcontent.net-deadsnakes-ppa-ubuntu https://ppa.launchpadcontent.net/deadsnakes/ppa/ubuntu noble main default-keys",
				"ppa.launchpadcontent.net-graphics-drivers-ppa-ubuntu https://ppa.launchpadcontent.net/graphics-drivers/ppa/ubuntu noble main default-keys",
				"download.docker.com-linux-ubuntu https://download.docker.com/linux/ubuntu noble stable /etc/apt/keyrings/docker.asc",
				"packages.example.com-apt https://packages.example.com/apt cloud main default-keys",
				"tools http://mirror.example.com:8081/tools ./  default-keys",
				"packages.example.org https://packages.example.org stable main default-keys",
				"node_20.x https://deb.example.com/node_20.x nodistro main default-keys",
				"deb.example.net-node_20.x https://deb.example.net/node_20.x nodistro main default-keys",
			},
		},
		{
			name:  "a key in place",
			files: map[string]string{"/etc/apt/sources.list.d/inline.sources": keyBlock},
			want:  []string{"inline https://example.org/inline stable main BLOCK"},
		},
		{
			name: "Signed-By with commas, blanks and fingerprints",
			files: map[string]string{"/etc/apt/sources.list.d/x.sources": strings.Join([]string{
				"Types: deb\nURIs: http://example.org/blank\nSuites: ./\nSigned-By: /a.gpg /b.gpg\n",
				"Types: deb\nURIs: http://example.org/comma\nSuites: ./\nSigned-By: /a.gpg,/b.gpg\n",
				"Types: deb\nURIs: http://example.org/both\nSuites: ./\nSigned-By: /a.gpg , /b.gpg,\n",
				"Types: deb\nURIs: http://example.org/lines\nSuites: ./\nSigned-By:\n /a.gpg,\n\t/b.gpg\n",
				"Types: deb\nURIs: http://example.org/key\nSuites: ./\nSigned-By: /a.gpg,BC528686B50D79E339D3721CEB3E94ADBE1229CF!, bc528686b50d79e339d3721ceb3e94adbe1229ce\n",
				"Types: deb\nURIs: http://example.org/short\nSuites: ./\nSigned-By: EB3E94ADBE1229CF\n",
			}, "\n")},
			want: []string{
				"blank http://example.org/blank ./  /a.gpg /b.gpg",
				"comma http://example.org/comma ./  /a.gpg /b.gpg",
				"both http://example.org/both ./  /a.gpg /b.gpg",
				"lines http://example.org/lines ./  /a.gpg /b.gpg",
				"key http://example.org/key ./  /a.gpg",
				"short http://example.org/short ./  default-keys",
			},
			notices: []string{"/key: Signed-By names single keys", "EB3E94ADBE1229CF: is neither"},
		},
		{
			name: "trusted is said of a suite",
			files: map[string]string{"/etc/apt/sources.list": `
deb [trusted=yes] http://example.org/tools testing main
deb [signed-by=/k.gpg] http://example.org/tools stable main
`},
			want: []string{"tools http://example.org/tools testing,stable main /k.gpg trusted=testing"},
		},
		{
			name: "one-line options",
			files: map[string]string{"/etc/apt/sources.list": `
deb [ arch=amd64,arm64 signed-by=/a.gpg,/b.asc lang=de ] http://example.org/one stable main
deb [trusted=yes] http://example.org/two ./
deb [arch=amd64 trusted=no]	http://example.org/three	stable	main	# tab
deb [signed-by=/gone.gpg signed-by-=/x.gpg signed-by="/blanks.gpg /separate.gpg"] http://example.org/four stable main
deb [signed-by=BC528686B50D79E339D3721CEB3E94ADBE1229CF!] http://example.org/five stable main
deb [comment=#1 signed-by=/c.gpg] http://example.org/six stable main
deb [signed-by=relative.gpg] http://example.org/seven stable main
`},
			want: []string{
				"one http://example.org/one stable main /a.gpg /b.asc",
				"two http://example.org/two ./  default-keys trusted=./",
				"three http://example.org/three stable main default-keys",
				"four http://example.org/four stable main /blanks.gpg /separate.gpg",
				"five http://example.org/five stable main default-keys",
				"six http://example.org/six stable main /c.gpg",
				"seven http://example.org/seven stable main default-keys",
			},
			notices: []string{"relative.gpg: is neither", "http://example.org/five: Signed-By names single keys"},
		},
		{
			name: "deb822: several values, switches, case, continued lines",
			files: map[string]string{"/etc/apt/sources.list.d/x.sources": `Enabled: yes
types: deb deb-src
uris: http://example.org/a
  http://example.org/b
# between
  http://example.org/c/
suites:
  one
  two
Components: main
  contrib
TRUSTED: Yes

Enabled: no
Types: deb
URIs: http://example.org/off
Suites: one
Components: main


Types: deb-src
URIs: http://example.org/a
Suites: three
Components: main
Signed-By: /k1.gpg
  /k2.gpg
`},
			want: []string{
				"a http://example.org/a one,two,three main,contrib /k1.gpg /k2.gpg trusted=one,two",
				"b http://example.org/b one,two main,contrib default-keys trusted=one,two",
				"c http://example.org/c one,two main,contrib default-keys trusted=one,two",
			},
		},
		{
			name: "what cannot be served",
			files: map[string]string{
				"/etc/apt/sources.list": `deb cdrom:[Debian GNU/Linux 12]/ bookworm main
deb file:/srv/repo ./
deb mirror+file:/etc/apt/mirrors.txt noble main
deb tor+http://example.onion/debian bookworm main
deb ftp://example.org/debian bookworm main
rpm http://example.org/rpm stable main
deb http://example.org/no-suite
deb [arch=amd64 http://example.org/unclosed stable main
deb
deb http://user:pass@example.org/private stable main
deb http://user:pass@bad.example.org/x?q stable main
deb http:///nohost stable main
`,
				"/etc/apt/sources.list.d/bad.sources": `Types: deb
URIs: http://example.org/x

Types: rpm
URIs: http://example.org/x
Suites: y

 floating
no colon here
`,
			},
			want: []string{"private http://example.org/private stable main default-keys private"},
			notices: []string{
				"sources.list:1: cdrom:", "sources.list:2: file:/srv/repo: is on this machine", "sources.list:3: mirror+file:/etc/apt/mirrors.txt: is a list of mirrors that cannot be read",
				`sources.list:4: tor+http://example.onion/debian: has the scheme "tor+http"`, `sources.list:5: ftp:`,
				"sources.list:6: rpm http://example.org/rpm stable main: begins with neither", "sources.list:7: deb http://example.org/no-suite: names no suite",
				"sources.list:8: deb [arch=amd64 http://example.org/unclosed stable main: has no ]", "sources.list:9: deb: names no URI",
				"sources.list:11: http://***@bad.example.org/x?q: has a query", "sources.list:12: http:///nohost: names no host",
				"bad.sources:1: the stanza needs both", "bad.sources:4: rpm: Types holds neither", "bad.sources:8: floating: continues no field", "bad.sources:9: no colon here: is not a field",
			},
		},
		{
			name: "one archive under several spellings",
			files: map[string]string{"/etc/apt/sources.list": `
deb http://Example.org:80//tools/./ stable main
deb https://example.org/tools testing main
deb http://HTTPS///example.org/tools sid main
deb http://de.archive.ubuntu.com/ubuntu noble main
deb http://archive.ubuntu.com/ubuntu noble-updates main
`},
			want: []string{
				"tools https://example.org/tools stable,testing,sid main default-keys",
				"ubuntu http://de.archive.ubuntu.com/ubuntu noble,noble-updates main default-keys",
			},
			notices: []string{"http://archive.ubuntu.com/ubuntu: is the same archive as http://de.archive.ubuntu.com/ubuntu"},
		},
		{
			name: "lists of mirrors",
			files: map[string]string{
				"/etc/apt/sources.list": `
deb mirror://Mirrors.Ubuntu.com/mirrors.txt noble main
deb mirror+http://mirrors.ubuntu.com:80/mirrors.txt noble-updates main
deb mirror+https://lists.example.org/tools.txt stable main
deb mirror+https://lists.example.org/mirrors.txt stable main
deb mirror+https://lists.example.org/deep/list stable main
deb [signed-by=/k.gpg] mirror+file:/etc/apt/inside.list stable main
deb mirror+file:///etc/apt/apt-mirrors.txt noble-security main
deb mirror+copy:/etc/apt/page stable main
deb mirror+file:relative stable main
deb mirror+ftp://lists.example.org/x stable main
deb mirror+http://u:hunter2@lists.example.org/x stable main
deb mirror+http://localhost:3142/mirrors.txt stable main
deb http://archive.ubuntu.com/ubuntu noble-proposed main
`,
				"/etc/apt/inside.list":     "https://a.example.org/inside\n",
				"/etc/apt/apt-mirrors.txt": "http://azure.archive.ubuntu.com/ubuntu/\tpriority:1\nhttps://archive.ubuntu.com/ubuntu/\tpriority:2\n",
				"/etc/apt/page":            "<html>",
			},
			want: []string{
				"ubuntu mirror+http://mirrors.ubuntu.com/mirrors.txt noble,noble-updates,noble-security,noble-proposed main default-keys",
				"tools mirror+https://lists.example.org/tools.txt stable main default-keys",
				"lists.example.org-mirrors mirror+https://lists.example.org/mirrors.txt stable main default-keys",
				"lists.example.org-deep-list mirror+https://lists.example.org/deep/list stable main default-keys",
				"inside mirror+file:/etc/apt/inside.list stable main /k.gpg",
			},
			notices: []string{
				"sources.list:8: mirror+file:/etc/apt/apt-mirrors.txt: is the same archive as mirror+http://mirrors.ubuntu.com/mirrors.txt",
				"sources.list:9: mirror+copy:/etc/apt/page: the list names no mirror", "sources.list:10: mirror+file:relative: is not the absolute path",
				"sources.list:11: mirror+ftp:", "sources.list:12: mirror+http://***@lists.example.org/x: mirror+http://u:xxxxx@lists",
				"sources.list:13: mirror+http://localhost:3142/mirrors.txt: leads to this node", "sources.list:14: http://archive.ubuntu.com/ubuntu: is the same archive",
			},
		},
		{
			name: "sources that name another cache",
			files: map[string]string{"/etc/apt/sources.list": `
deb http://oldcache:3142/archive.ubuntu.com/ubuntu noble main
deb http://oldcache:3142/HTTPS///download.docker.com/linux/ubuntu noble stable
deb http://oldcache.example.org:3142/deb.example.org:8080/tools stable main
deb http://localhost:3142/ppa.example.org/x stable main
deb http://oldcache:3142/acngname stable main
deb http://oldcache:9999/archive.example.org/debian stable main
`},
			want: []string{
				"ubuntu http://archive.ubuntu.com/ubuntu noble main default-keys",
				"download.docker.com-linux-ubuntu https://download.docker.com/linux/ubuntu noble stable default-keys",
				"tools http://deb.example.org:8080/tools stable main default-keys",
				"x http://ppa.example.org/x stable main default-keys",
				"acngname http://oldcache:3142/acngname stable main default-keys",
				"oldcache-9999-archive.example.org-debian http://oldcache:9999/archive.example.org/debian stable main default-keys",
			},
			notices: []string{
				"http://oldcache:3142/archive.ubuntu.com/ubuntu: asks another cache; the node asks http://archive.ubuntu.com/ubuntu itself",
				"the node asks https://download.docker.com", "the node asks http://deb.example.org:8080/tools", "the node asks http://ppa.example.org/x",
			},
		},
		{
			name: "Debian under its many names",
			files: map[string]string{"/etc/apt/sources.list": `
deb http://ftp.de.debian.org/debian bookworm main
deb http://httpredir.debian.org/debian/ bookworm-updates main
deb http://ftp.fr.debian.org/debian bookworm-backports main
deb http://security.debian.org/ bookworm-security main
deb http://security-cdn.debian.org/debian-security bullseye-security main
deb http://archive.debian.org/debian stretch main
`},
			want: []string{
				"debian http://ftp.de.debian.org/debian bookworm,bookworm-updates,bookworm-backports main default-keys",
				"debian-security http://security.debian.org bookworm-security,bullseye-security main default-keys",
				"archive.debian.org-debian http://archive.debian.org/debian stretch main default-keys",
			},
			notices: []string{"httpredir.debian.org/debian: is the same archive", "ftp.fr.debian.org/debian: is the same", "security-cdn.debian.org/debian-security: is the same"},
		},
		{
			name: "loops",
			files: map[string]string{"/etc/apt/sources.list": `
deb http://localhost:3142/ubuntu noble main
deb http://localhost:8080/other noble main
`},
			want:    []string{"other http://localhost:8080/other noble main default-keys"},
			notices: []string{"http://localhost:3142/ubuntu: leads to this node itself"},
		},
		{
			name:  "$(ARCH)",
			files: map[string]string{"/etc/apt/sources.list": "deb http://example.org/flat $(ARCH)/\ndeb http://example.org/by-arch/$(ARCH) stable main\n"},
			want: []string{
				"flat http://example.org/flat riscv64/  default-keys",
				"example.org-by-arch-riscv64 http://example.org/by-arch/riscv64 stable main default-keys",
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := root(t, tt.files)
			s, err := Read(Options{
				Root: dir, Arch: "riscv64",
				IsSelf: func(u *url.URL) bool { return u.Host == "localhost:3142" },
			})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, a := range s.Archives {
				got = append(got, show(a, dir))
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("archives:\n  %s\nwant:\n  %s", strings.Join(got, "\n  "), strings.Join(tt.want, "\n  "))
			}
			for i := range s.Notices {
				s.Notices[i].What = strings.Replace(s.Notices[i].What, dir, "", 1)
			}
			for i, want := range tt.notices {
				if i >= len(s.Notices) || !slices.ContainsFunc(s.Notices, func(n Notice) bool { return strings.Contains(n.String(), want) }) {
					t.Errorf("no notice says %q", want)
				}
			}
			if len(s.Notices) != len(tt.notices) {
				t.Errorf("%d notices, want %d: %v", len(s.Notices), len(tt.notices), s.Notices)
			}
			for _, n := range s.Notices {
				said := strings.NewReplacer("passed", "", "password", "").Replace(n.String())
				if strings.Contains(said, "pass") || strings.Contains(said, "hunter2") {
					t.Errorf("a notice shows a password: %s", n)
				}
			}
		})
	}
}

func TestInlineKeyIsRebuilt(t *testing.T) {
	dir := root(t, map[string]string{"/etc/apt/sources.list.d/inline.sources": keyBlock})
	s, err := Read(Options{Root: dir})
	if err != nil || len(s.Archives) != 1 {
		t.Fatal(s, err)
	}
	want := "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmDMEYCQjIxYJKwYBBAHaRw8BAQdAD/P5Nvvnvk66SxBBHDbhRml9ORg1WV5CvzKY\n=IE0r\n-----END PGP PUBLIC KEY BLOCK-----\n"
	if got := s.Archives[0].SignedBy; len(got) != 1 || got[0] != want {
		t.Errorf("key block:\n%q\nwant\n%q", got, want)
	}
}

// Adding an archive must not rename the others: hosts have their names in their
// sources.
func TestNamesStayWhenArchivesAreAdded(t *testing.T) {
	urls := []string{
		"http://archive.ubuntu.com/ubuntu", "http://security.ubuntu.com/ubuntu", "https://download.docker.com/linux/ubuntu",
		"https://example.com/tools", "https://example.org/tools", "https://example.net/apt", "https://example.net",
	}
	before := make(map[string]string)
	for n := 1; n <= len(urls); n++ {
		var archives []Archive
		for _, u := range urls[:n] {
			known, _ := Lookup(u)
			archives = append(archives, Archive{URL: u, known: known})
		}
		nameAll(archives)
		seen := make(map[string]bool)
		for _, a := range archives {
			if old, ok := before[a.URL]; ok && old != a.Name {
				t.Errorf("%s was called %s, and is %s with %d archives", a.URL, old, a.Name, n)
			}
			if seen[a.Name] {
				t.Errorf("two archives are called %s", a.Name)
			}
			before[a.URL], seen[a.Name] = a.Name, true
		}
	}
}

func TestLookup(t *testing.T) {
	for base, want := range map[string]string{
		"http://archive.ubuntu.com/ubuntu":                  "ubuntu",
		"https://archive.ubuntu.com/ubuntu/":                "ubuntu",
		"http://us-east-1.ec2.archive.ubuntu.com/ubuntu":    "ubuntu",
		"http://ports.ubuntu.com/ubuntu-ports":              "ubuntu-ports",
		"http://ports.ubuntu.com":                           "ubuntu-ports",
		"http://archive.ubuntu.com/other":                   "",
		"http://evil-archive.ubuntu.com.example.org/ubuntu": "",
		"http://mirror.example.org/ubuntu":                  "",
		"%":                                                 "",
	} {
		if k, ok := Lookup(base); k.Name != want || ok != (want != "") {
			t.Errorf("Lookup(%q) = %q, want %q", base, k.Name, want)
		}
	}
}

func TestHugeAndUnreadableFilesAreNoticed(t *testing.T) {
	dir := root(t, map[string]string{"/etc/apt/sources.list": strings.Repeat("#", maxFile+1)})
	if err := os.MkdirAll(filepath.Join(dir, "/etc/apt/sources.list.d"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("loop.list", filepath.Join(dir, "/etc/apt/sources.list.d/loop.list")); err != nil {
		t.Fatal(err)
	}
	s, err := Read(Options{Root: dir})
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Notices) != 2 || !strings.Contains(s.Notices[0].Reason, "longer than") || !strings.Contains(s.Notices[1].Reason, "cannot be read") {
		t.Errorf("notices: %v", s.Notices)
	}
}

func TestUnlistableDirectoryIsAnError(t *testing.T) {
	dir := root(t, map[string]string{"/etc/apt/sources.list.d": "a file, for once"})
	if _, err := Read(Options{Root: dir}); err == nil {
		t.Error("no error")
	}
}

func FuzzOneLine(f *testing.F) {
	f.Add("deb [ arch=amd64 signed-by=/a,/b ] http://example.org/x stable main # c\n")
	f.Add("deb \"http://example.org/a b\" ./\n")
	f.Add("deb [a#b] x y\ndeb [\n")
	f.Fuzz(func(t *testing.T, text string) {
		checkEntries(t, parseOneLine("f", text, func(string, string, string) {}), text)
	})
}

func FuzzDeb822(f *testing.F) {
	f.Add("Types: deb\nURIs: http://example.org/x\nSuites: a b\nSigned-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n x\n")
	f.Add("Types: deb\n#\n\n\n x\n:\n")
	f.Add(keyBlock)
	f.Fuzz(func(t *testing.T, text string) {
		checkEntries(t, parseDeb822("f", text, func(string, string, string) {}), text)
	})
}

// checkEntries holds what is true of entries whatever the file says, and puts them
// through the rest of Read.
func checkEntries(t *testing.T, entries []entry, text string) {
	r := &reader{Options: Options{Root: "/does/not/exist", Arch: "amd64"}, found: &Sources{}}
	for _, e := range entries {
		if e.uri == "" && !strings.Contains(text, `"`) || len(e.suites) == 0 || e.where == "" {
			t.Fatalf("incomplete entry %+v", e)
		}
		r.add(e)
	}
	r.addDefaultKeys()
	nameAll(r.found.Archives)
	seen := make(map[string]bool)
	for _, a := range r.found.Archives {
		u, err := url.Parse(a.URL)
		if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || strings.HasSuffix(a.URL, "/") {
			t.Fatalf("archive with the URL %q: %v", a.URL, err)
		}
		if a.Name == "" || seen[a.Name] || strings.ContainsAny(a.Name, "/ %?#") {
			t.Fatalf("archive with the name %q", a.Name)
		}
		seen[a.Name] = true
	}
}
