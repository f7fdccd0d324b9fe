package config

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/aptmesh/aptmesh/node/archives/archiveconf"
	"github.com/aptmesh/aptmesh/node/config/keys"
	"github.com/aptmesh/aptmesh/node/files"
	"github.com/aptmesh/aptmesh/node/upstream"
)

var update = flag.Bool("update", false, "write what the tests get as what they want")

// golden compares got with a file, which -update writes. In the file $PWD stands for the directory of the test.
func golden(t *testing.T, file, got string) {
	t.Helper()
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	got = strings.ReplaceAll(got, here+"/", "$PWD/")
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s:\n%s\nwant:\n%s", file, got, want)
	}
}

func pairs(t *testing.T, pattern string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", pattern))
	if err != nil || len(files) == 0 {
		t.Fatalf("no test data at %s: %v", pattern, err)
	}
	return files
}

// Every bad configuration is refused with all its problems, each with its place.
func TestBadConfigurations(t *testing.T) {
	for _, file := range pairs(t, "bad/*.yaml") {
		t.Run(filepath.Base(file), func(t *testing.T) {
			cfg, _, err := Load(file)
			var problems *keys.Error
			if !errors.As(err, &problems) {
				t.Fatalf("Load gives %v and %v, want a *keys.Error", cfg, err)
			}
			if cfg != nil {
				t.Error("a configuration comes with the error")
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("a message shows a secret:\n%v", err)
			}
			for _, p := range problems.Problems {
				if p.Line == 0 && p.Col == 0 && !strings.Contains(file, "two-documents") {
					t.Errorf("no place: %v", p)
				}
			}
			golden(t, strings.TrimSuffix(file, ".yaml")+".want", err.Error()+"\n")
		})
	}
}

// Every good configuration loads as its pair shows it, warnings first, and what
// Show writes loads as the same again, but for the secrets.
func TestGoodConfigurations(t *testing.T) {
	for _, file := range pairs(t, "good/*.yaml") {
		t.Run(filepath.Base(file), func(t *testing.T) {
			if err := os.Chmod(file, 0o644); err != nil { // one warning tells who may read it
				t.Fatal(err)
			}
			cfg, warnings, err := Load(file)
			if err != nil {
				t.Fatal(err)
			}
			var got strings.Builder
			for _, w := range warnings {
				got.WriteString("# " + w.String() + "\n")
			}
			shown, err := cfg.Show()
			if err != nil {
				t.Fatal(err)
			}
			got.Write(shown)
			if strings.Contains(got.String(), "hunter2") {
				t.Error("Show writes a secret")
			}
			golden(t, strings.TrimSuffix(file, ".yaml")+".want", got.String())

			againCfg, again := decode("shown", shown)
			if len(again.Problems) > 0 {
				t.Fatalf("what Show wrote does not load: %v", again.Problems)
			}
			redactSecrets(cfg)
			if diff := differences(cfg, againCfg); len(diff) > 0 {
				t.Errorf("what Show wrote loads differently: %v", diff)
			}
		})
	}
}

// redactSecrets does to a configuration what Show does to a file.
func redactSecrets(cfg *Config) {
	redact := func(c *upstream.Credentials) {
		for _, secret := range []*upstream.Secret{&c.Password, &c.Bearer} {
			if !secret.IsZero() {
				*secret = upstream.NewSecret(upstream.Redacted)
			}
		}
	}
	for i := range cfg.Archives {
		redact(&cfg.Archives[i].Credentials)
		for j := range cfg.Archives[i].Upstreams {
			redact(&cfg.Archives[i].Upstreams[j].Credentials)
		}
	}
	cfg.UpstreamClient.Proxy, _ = upstream.ParseProxy(cfg.UpstreamClient.Proxy.Setting()) // Show writes nothing else
}

// differences lists the keys in which two configurations differ.
func differences(a, b *Config) []string {
	apply, restart, _ := Change(a, b)
	return append(apply, restart...)
}

func TestMissingFile(t *testing.T) {
	_, _, err := Load("testdata/none.yaml")
	if !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "none.yaml") {
		t.Errorf("Load: %v", err)
	}
}

// A file that says nothing of archives has those of the machine.
func TestArchivesOfTheMachine(t *testing.T) {
	root := fakeRoot(t, map[string]string{
		"/etc/apt/sources.list": "deb [signed-by=/k.asc] http://example.org/tools stable main\ndeb file:/srv x y\n",
		"/k.asc":                testKey(),
	})
	file := filepath.Join(t.TempDir(), "aptmesh.yaml")
	if err := os.WriteFile(file, []byte("log: {level: warn}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	cfg, warnings, err := Loader{root: root}.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	if len(cfg.Archives) != 1 || cfg.Archives[0].Name != "tools" || cfg.Log.Level != "warn" {
		t.Errorf("archives: %+v", cfg.Archives)
	}
	if len(warnings) != 2 || !strings.Contains(warnings[0].String(), "serves those of this machine's own apt: tools") || !strings.Contains(warnings[1].String(), "file:/srv") {
		t.Errorf("warnings: %v", warnings)
	}
	if cfg.Data != filepath.Join(root, Default().Data) && !strings.HasSuffix(cfg.Data, "/aptmesh") {
		t.Errorf("data: %s", cfg.Data)
	}
}

// lenientChecker takes the files of a configuration as given.
func lenientChecker(cfg *Config) *checker {
	c := newChecker(cfg)
	c.NoFiles = true
	return c
}

// Every key says what it means, in a first paragraph that is short enough for `config show`.
func TestEveryKeyIsDocumented(t *testing.T) {
	seen := 0
	keys.Walk(sample(), func(f keys.Field) bool {
		if f.IsEntry() {
			return true
		}
		seen++
		if summary, _ := docs().Of(f); !strings.HasSuffix(summary, ".") || len(summary) > 100 || !strings.HasSuffix(docs().Text(f), ".") {
			t.Errorf("%s is documented with %q", f.Row, docs().Text(f))
		}
		return true
	})
	if seen < 90 {
		t.Errorf("there are only %d keys", seen)
	}
}

// The sample in deploy/ and the reference in docs/ are what the code makes; -update writes them.
func TestGeneratedFiles(t *testing.T) {
	text, err := sampleFile()
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "../../deploy/aptmesh.yaml", string(text))
	golden(t, "../../docs/configuration.md", string(reference()))
}

// The sample says nothing as it stands, so that it loads anywhere; without its comment signs it is
// a configuration, too, and says what the code thinks it says.
func TestSample(t *testing.T) {
	text, err := sampleFile()
	if err != nil {
		t.Fatal(err)
	}
	said, d := decode("sample", text)
	if len(d.Problems) > 0 || len(differences(said, Default())) > 0 {
		t.Errorf("the sample says %v, with problems %v", differences(said, Default()), d.Problems)
	}
	file := filepath.Join(t.TempDir(), "aptmesh.yaml")
	if err := os.WriteFile(file, regexp.MustCompile(`(?m)^#( {2,}|[^ \n])`).ReplaceAll(text, []byte("$1")), 0o640); err != nil {
		t.Fatal(err)
	}
	cfg, warnings, err := Loader{root: t.TempDir(), NoFiles: true}.Load(file)
	if err != nil || len(warnings) > 0 {
		t.Fatal(warnings, err)
	}
	if diff := differences(cfg, sample()); len(diff) > 0 {
		t.Errorf("the sample differs from what it was made of: %v", diff)
	}
}

func TestValidateNamesEveryProblem(t *testing.T) {
	cfg := Default()
	cfg.Listen = []string{"nonsense"}
	a := archiveconf.New("x")
	a.Upstream = "http://example.org/x"
	cfg.Archives = archiveconf.Archives{a}
	err := cfg.Validate()
	if err == nil || !strings.Contains(err.Error(), `listen[0]: "nonsense"`) || !strings.Contains(err.Error(), "archives.x.signed_by: is missing") {
		t.Errorf("Validate: %v", err)
	}
}

// FuzzConfig looks for crashes, problems without a place, and configurations that
// Show does not write back.
func FuzzConfig(f *testing.F) {
	for _, pattern := range []string{"testdata/*/*.yaml", "../../deploy/aptmesh.yaml"} {
		files, _ := filepath.Glob(pattern)
		for _, file := range files {
			if text, err := os.ReadFile(file); err == nil {
				f.Add(text)
			}
		}
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		cfg, d := decode("f", text)
		if d.Broken {
			return
		}
		c := lenientChecker(cfg)
		c.check()
		for _, p := range c.Problems {
			d.ProblemAt(p.Key, p.Message)
		}
		if len(d.Problems) > 0 {
			return
		}
		shown, err := cfg.Show()
		if err != nil {
			t.Fatal(err)
		}
		againCfg, again := decode("shown", shown)
		if len(again.Problems) > 0 {
			t.Fatalf("what Show wrote does not load: %v\n%s", again.Problems, shown)
		}
		redactSecrets(cfg)
		if diff := differences(cfg, againCfg); len(diff) > 0 {
			t.Fatalf("what Show wrote loads differently: %v\n%s", diff, shown)
		}
	})
}

// TestStateDirectory is where the state lies, by what a configuration file says, with
// and without --data.
func TestStateDirectory(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("XDG_CACHE_HOME", "/xdg/cache")
	writableRoot := fakeRoot(t, map[string]string{"/var/cache/x": "", "/var/lib/x": ""})
	system := filepath.Join(writableRoot, DefaultStateDir)
	for _, c := range []struct {
		name, text, root, xdg, home string
		state, withData             string // withData: and then SetData("/flag")
	}{
		{name: "neither key", text: "", root: writableRoot, state: system, withData: "/flag/state"},
		{name: "only data", text: "data: /d\n", root: writableRoot, state: "/d/state", withData: "/flag/state"},
		{name: "only state", text: "state: /s\n", root: writableRoot, state: "/s", withData: "/s"},
		{name: "both", text: "data: /d\nstate: /s\n", root: writableRoot, state: "/s", withData: "/s"},
		{name: "empty state", text: "data: /d\nstate: \"\"\n", root: writableRoot, state: "/d/state", withData: "/flag/state"},
		{name: "XDG", root: "/nowhere", xdg: "/xdg/state", state: "/xdg/state/aptmesh", withData: "/flag/state"},
		{name: "a relative XDG", root: "/nowhere", xdg: "state", state: home + "/.local/state/aptmesh", withData: "/flag/state"},
		{name: "no XDG", root: "/nowhere", state: home + "/.local/state/aptmesh", withData: "/flag/state"},
		{name: "no home", root: "/nowhere", home: "/nowhere", state: "/xdg/cache/aptmesh/state", withData: "/flag/state"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv("XDG_STATE_HOME", c.xdg)
			if c.home != "" {
				t.Setenv("HOME", c.home)
			}
			cfg, d := decode("/etc/aptmesh/aptmesh.yaml", []byte(c.text))
			cfg.placeDirs(d, c.root)
			if cfg.State != c.state || cfg.StateDir() != c.state {
				t.Errorf("state in %s, want %s", cfg.State, c.state)
			}
			cfg.SetData("/flag")
			if cfg.StateDir() != c.withData {
				t.Errorf("with --data: state in %s, want %s", cfg.StateDir(), c.withData)
			}
		})
	}
	if got := Default(); got.StateDir() != Default().Data+"/state" {
		t.Errorf("a program that embeds a node has its state in %s by default; want it inside the data", got.StateDir())
	}
}

// Whatever directory a node is started in, others can use the paths that it tells them.
func TestPathsAreAbsolute(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	text := "data: d\nadmin: unix:run/socket\nadmin_token_file: token\n" +
		"archives:\n  a: {upstream: mirror+file:m.list, signed_by: [keys/*.gpg]}\n  b: {upstreams: [{url: 'https://e.example.org/b', tls: {ca: ca.pem}}], signed_by: [k.gpg]}\n"
	if err := os.MkdirAll("etc/fra1", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("etc/fra1/aptmesh.yaml", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"etc/fra1/aptmesh.yaml", "./etc/../etc/fra1/aptmesh.yaml"} {
		loaded, _, err := Loader{NoFiles: true}.Load(name)
		if err != nil {
			t.Fatal(err)
		}
		peeked, err := Peek(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, cfg := range []*Config{loaded, peeked} {
			in := dir + "/etc/fra1/"
			for got, want := range map[string]string{
				cfg.Data: in + "d", cfg.StateDir(): in + "d/state", cfg.Admin.Address: "unix:" + in + "run/socket", cfg.Admin.TokenFile: in + "token",
				cfg.Archives[0].Upstream: "mirror+file:" + in + "m.list", cfg.Archives[0].SignedBy[0]: in + "keys/*.gpg",
				cfg.Archives[1].Upstreams[0].TLS.CA: in + "ca.pem", cfg.Archives[1].SignedBy[0]: in + "k.gpg",
			} {
				if got != want {
					t.Errorf("%s: %q, want %q", name, got, want)
				}
			}
			cfg.SetAdmin("unix:run/s")
			cfg.SetData("x")
			if cfg.Data != dir+"/x" || cfg.StateDir() != dir+"/x/state" || cfg.Admin.Address != "unix:"+dir+"/run/s" {
				t.Errorf("of the command line: %q, %q, %q", cfg.Data, cfg.StateDir(), cfg.Admin.Address)
			}
			cfg.SetState("s")
			cfg.SetAdmin("127.0.0.1:1")
			if cfg.StateDir() != dir+"/s" || cfg.Admin.Address != "127.0.0.1:1" {
				t.Errorf("of the command line: %q, %q", cfg.StateDir(), cfg.Admin.Address)
			}
			cfg.SetState("")
			if cfg.SetAdmin(""); cfg.StateDir() != dir+"/x/state" || cfg.Admin.Address != "" {
				t.Errorf("without: %q, %q", cfg.StateDir(), cfg.Admin.Address)
			}
		}
	}
}

func TestStateDirectoryIsNoneOfTheCache(t *testing.T) {
	for state, bad := range map[string]bool{
		"/d": true, "/d/": true, "/d/blobs": true, "/d/blobs/ab": true, "/d/tmp/x": true, "/d/tables": true, "/d/only": true,
		"/d/state": false, "/d/mine": false, "/dd": false, "/": false, "": false, "/var/lib/aptmesh": false,
	} {
		cfg := Default()
		cfg.Data, cfg.State = "/d", state
		c := lenientChecker(cfg)
		c.directories()
		if got := len(c.Problems) > 0; got != bad {
			t.Errorf("state: %q: refused %v, want %v (%v)", state, got, bad, c.Problems)
		}
	}
}

// What docs/coming-from.md tells to write is a configuration without a problem, once the keyrings are there.
func TestConfigurationsOfThePageAboutOtherCaches(t *testing.T) {
	page, err := os.ReadFile("../../docs/coming-from.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := strings.Split(string(page), "```yaml\n")[1:]
	for i, block := range blocks {
		text, _, _ := strings.Cut(block, "```")
		file := filepath.Join(t.TempDir(), "aptmesh.yaml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		cfg, warnings, err := Loader{root: t.TempDir(), NoFiles: true}.Load(file)
		if err != nil || len(warnings) > 0 || len(cfg.Archives) == 0 {
			t.Errorf("block %d: %v %v\n%s", i, warnings, err, text)
		}
	}
	if len(blocks) != 2 {
		t.Errorf("%d blocks", len(blocks))
	}
}

// Addresses that cannot be listened on together are found, also where they are not spelt alike.
func TestAddressesThatClash(t *testing.T) {
	for text, clash := range map[string]bool{
		"listen: [127.0.15.1:34568]\nready_listen: :34568": true,
		"listen: :3144": true, // the admin interface has it
		"listen: :34568\ntls: {listen: ['127.0.0.1:34568']}":                     true,
		"listen: 0.0.0.0:34568\nready_listen: '[::1]:34568'":                     true,
		"listen: '[::]:34568'\nready_listen: 127.0.0.1:34568":                    true,
		"listen: localhost:34568\nready_listen: 127.0.0.1:34568":                 true,
		"listen: '[::ffff:127.0.0.1]:34568'\nready_listen: 127.0.0.1:34568":      true,
		"listen: 127.0.0.1:34568\nready_listen: 127.0.0.2:34568":                 false,
		"listen: 127.0.0.1:34568\nready_listen: '[::1]:34568'":                   false,
		"listen: :34568\nready_listen: 127.0.0.1:34569":                          false,
		"listen: :0\nready_listen: :0":                                           false,
		"listen: :7946":                                                          false, // there is no cluster
		"listen: 127.0.0.1:7946\ncluster: {name: x, insecure: true}":             true,
		"listen: 127.0.0.1:7946\ncluster: {insecure: true}\nready_listen: :3143": false,
	} {
		cfg, d := decode("f", []byte(text))
		c := lenientChecker(cfg)
		c.check()
		got := slices.ContainsFunc(c.Problems, func(f keys.Finding) bool {
			return strings.Contains(f.Message, "cannot both be listened on") || strings.Contains(f.Message, "already")
		})
		if len(d.Problems) > 0 || got != clash {
			t.Errorf("%q: clash %v, want %v: %v %v", text, got, clash, d.Problems, c.Problems)
		}
	}
}

// A directory inside an archive is most likely meant as the archive; apt takes it, so a node does.
func TestUpstreamInsideAnArchive(t *testing.T) {
	for upstream, want := range map[string]string{
		"http://ftp.debian.org/debian/dists/bookworm":     "warning: archives.a.upstream: http://ftp.debian.org/debian/dists/bookworm lies inside the archive: leave out /dists and what follows, as in http://ftp.debian.org/debian",
		"http://de.archive.ubuntu.com/ubuntu/dists/":      "warning: ",
		"https://tools.example.org/pub/dists/acme/ubuntu": "warning: ",
		"https://tools.example.org/flat/dists":            "warning: ",
		"https://tools.example.org/mydists/x":             "",
	} {
		cfg := Default()
		a := archiveconf.New("a")
		a.Upstream, a.Unsigned = upstream, true
		cfg.Archives = archiveconf.Archives{a}
		c := lenientChecker(cfg)
		c.check()
		got := ""
		for _, f := range c.Problems {
			got += f.Message
		}
		for _, f := range c.Warnings {
			if strings.Contains(f.Message, "/dists") {
				got += "warning: " + f.Message
			}
		}
		if !strings.Contains(got, want) || (got == "") != (want == "") || strings.HasPrefix(got, "warning: ") != strings.HasPrefix(want, "warning: ") {
			t.Errorf("%s: %q, want %q", upstream, got, want)
		}
	}
}

// A cap that the disk can never reach is not meant so.
func TestCapBeyondTheDisk(t *testing.T) {
	for size, want := range map[string]bool{"90000TiB": true, "1MiB": false, "80%": false} {
		file := filepath.Join(t.TempDir(), "aptmesh.yaml")
		text := "data: not/yet\ncache: {max_size: " + size + "}\narchives: {x: {upstream: \"http://example.org/x\", unsigned: true}}\n"
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, warnings, err := Load(file)
		if err != nil {
			t.Fatal(err)
		}
		got := slices.ContainsFunc(warnings, func(w keys.Problem) bool {
			return strings.HasPrefix(w.Message, "cache.max_size: ") && strings.Contains(w.Message, "more than the whole file system of") && w.Line == 2
		})
		if got != want {
			t.Errorf("%s: %v", size, warnings)
		}
	}
}

// The cache of the command line is the one whose disk counts.
func TestCapOfTheDirectoryGiven(t *testing.T) {
	file, data := filepath.Join(t.TempDir(), "aptmesh.yaml"), filepath.Join(t.TempDir(), "cache")
	text := "data: /proc/nowhere\nstate: /srv/state\ncache: {max_size: 90000TiB}\narchives: {x: {upstream: \"http://example.org/x\", unsigned: true}}\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, warnings, err := Loader{Data: data}.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Data != data || cfg.State != "/srv/state" {
		t.Errorf("cache in %s, state in %s", cfg.Data, cfg.State)
	}
	if !slices.ContainsFunc(warnings, func(w keys.Problem) bool {
		return strings.Contains(w.Message, "more than the whole file system of "+filepath.Dir(data))
	}) {
		t.Errorf("%v", warnings)
	}
}

// What the user of the service cannot read is named with its key, for every kind of file.
func TestUnreadableByTheService(t *testing.T) {
	nobody, err := files.LookUpUser("nobody")
	if err != nil || os.Getuid() != 0 {
		t.Skip("wants root, and the user nobody")
	}
	dir := t.TempDir()
	for _, open := range []string{dir, filepath.Dir(dir)} {
		if err := os.Chmod(open, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	closed := map[string]string{
		"key.gpg": testKey(), "keys/a.asc": testKey(), "list": "http://example.org/y\n", "token": strings.Repeat("a", 40) + "\n", "auth/x.conf": "machine example.org login a password b\n",
	}
	for name, text := range closed {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(dir, "aptmesh.yaml")
	text := "admin_token_file: token\nupstream_client: {auth_conf: auth}\narchives:\n  x: {upstream: \"http://example.org/x\", signed_by: [key.gpg, keys]}\n  y: {upstream: \"mirror+file:" + dir + "/list\", unsigned: true}\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	_, warnings, err := Loader{Service: nobody}.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, w := range warnings {
		if strings.Contains(w.Message, "the service's user") {
			got = append(got, strings.ReplaceAll(w.Message, dir, "DIR"))
		}
	}
	read := func(key, file string) string {
		return key + "the service's user nobody may not read DIR/" + file + "; run: "
	}
	want := []string{
		read("", "aptmesh.yaml") + "chgrp nobody DIR/aptmesh.yaml && chmod g+r DIR/aptmesh.yaml",
		read("admin_token_file: ", "token") + "chgrp nobody DIR/token && chmod g+r DIR/token",
		read("upstream_client.auth_conf[0]: ", "auth/x.conf") + "chgrp nobody DIR/auth/x.conf && chmod g+r DIR/auth/x.conf",
		read("archives.x.signed_by[0]: ", "key.gpg") + "chmod a+r DIR/key.gpg",
		read("archives.x.signed_by[1]: ", "keys/a.asc") + "chmod a+r DIR/keys/a.asc",
		read("archives.y.upstream: ", "list") + "chmod a+r DIR/list",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	_, warnings, _ = Loader{Service: nobody}.Load(file)
	if !slices.ContainsFunc(warnings, func(w keys.Problem) bool {
		return strings.Contains(w.Message, "may not enter "+dir+", and so cannot read "+dir+"/token; move the file, or run: chmod a+x "+dir)
	}) {
		t.Errorf("a closed directory: %v", warnings)
	}
}
