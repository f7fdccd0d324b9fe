package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"github.com/aptmesh/aptmesh/aptmeta/testarchive"
	"github.com/aptmesh/aptmesh/node/archives/archiveconf"
	"github.com/aptmesh/aptmesh/node/config/keys"
	"github.com/aptmesh/aptmesh/node/keyrings"
)

// testKey is a public key, armoured.
func testKey() string { return string(testarchive.ArmoredKeyring(testarchive.DefaultKey())) }

// fakeRoot makes a directory with the given files, by absolute path.
func fakeRoot(t testing.TB, files map[string]string) string {
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

func TestAutoConfig(t *testing.T) {
	inline := "Types: deb\nURIs: https://example.org/inline\nSuites: stable\nComponents: main\nSigned-By:\n"
	for line := range strings.Lines(testKey()) {
		if strings.TrimSpace(line) == "" {
			line = ".\n"
		}
		inline += " " + line
	}
	tests := []struct {
		name  string
		files map[string]string
		want  []string // "name upstream keyrings…" of each archive
		notes []string // a part of each
		err   string   // a part of it
	}{
		{
			name: "lines that cannot be served beside one that can",
			files: map[string]string{
				"/etc/apt/sources.list": "deb [signed-by=/k.asc] http://example.org/x/../y stable main\ndeb [signed-by=/k.asc] http://ftp.debian.org/debian/dists/bookworm ./\n" +
					"deb [signed-by=/k.asc] http://example.org/tools stable main\ndeb [signed-by=/k.asc] http://example.org/z ../stable main\n",
				"/k.asc": testKey(),
			},
			want:  []string{"ftp.debian.org-debian-dists-bookworm http://ftp.debian.org/debian/dists/bookworm /k.asc", "tools http://example.org/tools /k.asc"},
			notes: []string{`passed over: http://example.org/x/../y: ".." has no place`, `passed over: "../stable" is not a suite`},
		},
		{
			name: "Debian",
			files: map[string]string{
				"/etc/apt/sources.list.d/debian.sources":            "Types: deb\nURIs: http://debian.example.org/debian\nSuites: bookworm\nComponents: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n",
				"/usr/share/keyrings/debian-archive-keyring.gpg":    testKey(),
				"/etc/apt/trusted.gpg.d/debian-archive-stretch.gpg": testKey(),
			},
			want: []string{"debian http://debian.example.org/debian /usr/share/keyrings/debian-archive-keyring.gpg"},
		},
		{
			name: "Ubuntu 24.04",
			files: map[string]string{
				"/etc/apt/sources.list.d/ubuntu.sources": "Types: deb\nURIs: http://de.archive.ubuntu.com/ubuntu/\nSuites: noble noble-updates\nComponents: main universe\nSigned-By: /usr/share/keyrings/ubuntu-archive-keyring.gpg\n\n" +
					"Types: deb\nURIs: http://security.ubuntu.com/ubuntu/\nSuites: noble-security\nComponents: main\nSigned-By: /usr/share/keyrings/ubuntu-archive-keyring.gpg\n",
				"/usr/share/keyrings/ubuntu-archive-keyring.gpg": testKey(),
			},
			want: []string{
				"ubuntu http://de.archive.ubuntu.com/ubuntu /usr/share/keyrings/ubuntu-archive-keyring.gpg",
				"ubuntu-security http://security.ubuntu.com/ubuntu /usr/share/keyrings/ubuntu-archive-keyring.gpg",
			},
		},
		{
			name: "Ubuntu 22.04; of apt's keyrings only those that can be read count",
			files: map[string]string{
				"/etc/apt/sources.list":                 "deb http://archive.ubuntu.com/ubuntu jammy main\n",
				"/etc/apt/trusted.gpg":                  "\x00\x00\x00\x20\x01\x01\x00\x02KBXf rest of a keybox",
				"/etc/apt/trusted.gpg.d/ubuntu.asc":     testKey(),
				"/etc/apt/trusted.gpg.d/nonsense.gpg":   "nonsense",
				"/etc/apt/trusted.gpg.d/not-a-key.asc~": testKey(),
			},
			want: []string{"ubuntu http://archive.ubuntu.com/ubuntu /etc/apt/trusted.gpg.d/"},
		},
		{
			name:  "nothing: Ubuntu's",
			files: map[string]string{"/usr/share/keyrings/ubuntu-archive-keyring.gpg": testKey()},
			want: []string{
				"ubuntu http://archive.ubuntu.com/ubuntu /usr/share/keyrings/ubuntu-archive-keyring.gpg",
				"ubuntu-security http://security.ubuntu.com/ubuntu /usr/share/keyrings/ubuntu-archive-keyring.gpg",
				"ubuntu-ports http://ports.ubuntu.com/ubuntu-ports /usr/share/keyrings/ubuntu-archive-keyring.gpg",
			},
			notes: []string{"serving Ubuntu's"},
		},
		{
			name:  "only what cannot be served: Ubuntu's",
			files: map[string]string{"/etc/apt/sources.list": "deb cdrom:[x]/ a b\n", "/usr/share/keyrings/ubuntu-archive-keyring.gpg": testKey()},
			want: []string{
				"ubuntu http://archive.ubuntu.com/ubuntu /usr/share/keyrings/ubuntu-archive-keyring.gpg",
				"ubuntu-security http://security.ubuntu.com/ubuntu /usr/share/keyrings/ubuntu-archive-keyring.gpg",
				"ubuntu-ports http://ports.ubuntu.com/ubuntu-ports /usr/share/keyrings/ubuntu-archive-keyring.gpg",
			},
			notes: []string{"cdrom", "serving Ubuntu's"},
		},
		{name: "nothing, and no keyring", err: "ubuntu-archive-keyring.gpg does not exist (install the package ubuntu-keyring"},
		{
			name: "third parties, a key in place, a trusted one, a private one, a missing keyring",
			files: map[string]string{
				"/etc/apt/sources.list.d/docker.list": "deb [signed-by=/etc/apt/keyrings/docker.asc] https://download.docker.com/linux/ubuntu noble stable\n" +
					"deb https://ppa.launchpadcontent.net/someone/ppa/ubuntu noble main\n" +
					"deb [trusted=yes] http://example.org/local ./\n" +
					"deb [signed-by=/etc/apt/keyrings/docker.asc] https://bearer:token@esm.example.org/infra noble main\n" +
					"deb [signed-by=/etc/apt/keyrings/gone.asc] https://example.org/gone noble main\n" +
					"deb [signed-by=/etc/apt/keyrings/docker.asc] http://example.org/mixed stable main\n" +
					"deb [trusted=yes] http://example.org/mixed testing main\n" +
					"deb [signed-by=/etc/apt/keyrings/gone.asc,/etc/apt/keyrings/docker.asc] https://example.org/half noble main\n",
				"/etc/apt/sources.list.d/inline.sources": inline,
				"/etc/apt/keyrings/docker.asc":           testKey(),
			},
			want: []string{
				"download.docker.com-linux-ubuntu https://download.docker.com/linux/ubuntu /etc/apt/keyrings/docker.asc",
				"local http://example.org/local unsigned",
				"mixed http://example.org/mixed /etc/apt/keyrings/docker.asc unsigned=testing",
				"half https://example.org/half /etc/apt/keyrings/docker.asc",
				"inline https://example.org/inline BLOCK",
			},
			notes: []string{
				"someone/ppa/ubuntu: passed over: no keyring signs it", "example.org/local: accepted without a signature", "mixed: testing accepted without a signature", "passed over: it needs credentials",
				"gone: passed over: ", "half: keyring left out",
			},
		},
		{
			name: "lists of mirrors",
			files: map[string]string{
				"/etc/apt/sources.list": "deb mirror+file:/etc/apt/apt-mirrors.txt noble main\n" +
					"deb [signed-by=/k.asc] mirror://lists.example.org/tools.txt stable main\n" +
					"deb [signed-by=/k.asc] mirror+file:/etc/apt/gone.txt stable main\n",
				"/etc/apt/apt-mirrors.txt":          "http://azure.archive.ubuntu.com/ubuntu/\tpriority:1\n",
				"/etc/apt/trusted.gpg.d/ubuntu.asc": testKey(), "/k.asc": testKey(),
			},
			want: []string{
				"ubuntu mirror+file:/etc/apt/apt-mirrors.txt /etc/apt/trusted.gpg.d/",
				"tools mirror+http://lists.example.org/tools.txt /k.asc",
			},
			notes: []string{"gone.txt: is a list of mirrors that cannot be read"},
		},
		{
			name:  "nothing of use",
			files: map[string]string{"/etc/apt/sources.list": "deb http://archive.ubuntu.com/ubuntu noble main\n"},
			err:   "none of the archives that this machine's apt uses can be served",
		},
		{
			name:  "only loops",
			files: map[string]string{"/etc/apt/sources.list": "deb http://localhost:3142/ubuntu noble main\ndeb http://127.0.0.1:3142/debian bookworm main\n"},
			err:   "leads to this very node",
		},
		{
			name:  "a directory that is none",
			files: map[string]string{"/etc/apt/sources.list.d": "x"},
			err:   "listing apt's sources",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			root := fakeRoot(t, tt.files)
			cfg, notes, err := Auto(root)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) || strings.Contains(err.Error(), "\n") {
					t.Errorf("error %v, want one line with %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, a := range cfg.Archives {
				words := []string{a.Name, strings.Replace(a.Upstream, root, "", 1)}
				for _, k := range a.SignedBy {
					if keyrings.IsInline(k) {
						k = "BLOCK"
					}
					words = append(words, strings.TrimPrefix(k, root))
				}
				if a.Unsigned {
					words = append(words, "unsigned")
				}
				for _, s := range a.UnsignedSuites {
					words = append(words, "unsigned="+s)
				}
				got = append(got, strings.Join(words, " "))
				if ring, err := a.Keyring(); err != nil || (ring == nil) != a.Unsigned {
					t.Errorf("keyring of %s: %v, %v", a.Name, ring, err)
				}
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("archives:\n  %s\nwant:\n  %s", strings.Join(got, "\n  "), strings.Join(tt.want, "\n  "))
			}
			for _, want := range tt.notes {
				if !slices.ContainsFunc(notes, func(n string) bool { return strings.Contains(n, want) }) {
					t.Errorf("no note says %q", want)
				}
			}
			if len(notes) != len(tt.notes) {
				t.Errorf("%d notes, want %d:\n%s", len(notes), len(tt.notes), strings.Join(notes, "\n"))
			}
			if s := strings.Join(notes, "\n"); strings.Contains(s, "token") {
				t.Errorf("a note shows a password: %s", s)
			}
			if len(cfg.UpstreamClient.AuthConf) != 0 {
				t.Error("credentials of the machine would be used unasked")
			}
		})
	}
}

// Hosts of every country mirror reach Ubuntu's archive.
func TestAutoConfigKnowsCountryMirrors(t *testing.T) {
	root := fakeRoot(t, map[string]string{"/usr/share/keyrings/ubuntu-archive-keyring.gpg": testKey()})
	cfg, _, err := Auto(root)
	if err != nil {
		t.Fatal(err)
	}
	a, _ := cfg.Archive("ubuntu")
	if !slices.Equal(a.Aliases, []string{"http://*.archive.ubuntu.com/ubuntu"}) {
		t.Errorf("aliases: %v", a.Aliases)
	}
}

func TestDataDir(t *testing.T) {
	root := fakeRoot(t, map[string]string{"/var/cache/x": ""})
	if got := dataDir(root); got != filepath.Join(root, Default().Data) {
		t.Errorf("data in %s though %s may be made", got, Default().Data)
	}
	t.Setenv("XDG_CACHE_HOME", "/home/someone/.cache")
	if got := dataDir(filepath.Join(root, "nowhere")); got != "/home/someone/.cache/aptmesh" {
		t.Errorf("data in %s without a system directory", got)
	}
}

func TestWeakKeysAreWarnedOf(t *testing.T) {
	old := &packet.Config{Algorithm: packet.PubKeyAlgoRSA, RSABits: 1024, MinRSABits: 1024}
	key, err := openpgp.NewEntity("an old PPA", "", "", old)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "ppa.gpg")
	f, err := os.Create(file)
	if err == nil {
		err = errors.Join(key.Serialize(f), f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	cfg := Default()
	a := archiveconf.New("ppa")
	a.Upstream, a.SignedBy = "http://example.org/ppa", []string{file}
	cfg.Archives = archiveconf.Archives{a}
	c := newChecker(cfg)
	c.check()
	want := fmt.Sprintf("archives.ppa.signed_by[0]: holds weak keys, whose signatures apt 2.7.13 and later refuses, and this node with `weak_keys: false`: an RSA key of 1024 bits (%X)", key.PrimaryKey.Fingerprint)
	if !slices.ContainsFunc(c.Warnings, func(f keys.Finding) bool { return strings.HasPrefix(f.Message, want) }) {
		t.Errorf("%v, want %s", c.Warnings, want)
	}
}
