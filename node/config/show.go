package config

import (
	_ "embed"
	"fmt"
	"net/netip"
	"strings"
	"sync"

	"github.com/aptmesh/aptmesh/node/admin"
	"github.com/aptmesh/aptmesh/node/archives/archiveconf"
	"github.com/aptmesh/aptmesh/node/blobstore"
	"github.com/aptmesh/aptmesh/node/catalog"
	"github.com/aptmesh/aptmesh/node/cluster/clusterconf"
	"github.com/aptmesh/aptmesh/node/config/keys"
	"github.com/aptmesh/aptmesh/node/front"
	"github.com/aptmesh/aptmesh/node/holds/holdconf"
	"github.com/aptmesh/aptmesh/node/prefetch"
	"github.com/aptmesh/aptmesh/node/snapshot/snapshotconf"
	"github.com/aptmesh/aptmesh/node/upstream"
)

// docs are the comments of all keys. They are read when the first of them is needed, so that a running
// node never pays for it.
var docs = sync.OnceValue(func() keys.Docs {
	return keys.ReadDocs(source, admin.SettingsSource, archiveconf.SettingsSource, blobstore.SettingsSource, catalog.SettingsSource,
		clusterconf.SettingsSource, front.SettingsSource, holdconf.SettingsSource, prefetch.SettingsSource, snapshotconf.KeysSource, upstream.SettingsSource)
})

//go:embed keys.go
var source string

// Show writes the configuration as a file that Load would accept: every key in reading order with
// its meaning, the defaults filled in, and *** in the place of every secret. Keys of archives that
// are not in use are left out.
func (c *Config) Show() ([]byte, error) { return keys.Render(c, docs(), false) }

// sample is a configuration that uses every section, for the documentation.
func sample() *Config {
	c := Default()
	c.State = DefaultStateDir
	const ubuntuKeys = "/usr/share/keyrings/ubuntu-archive-keyring.gpg"
	named := func(name string, change func(*archiveconf.Archive)) archiveconf.Archive {
		a := archiveconf.New(name)
		change(&a)
		return a
	}
	second := archiveconf.NewMirror()
	second.URL, second.Priority, second.Weight = "https://packages.example.com/ubuntu", 2, 3
	second.Credentials = upstream.Credentials{User: "site1", PasswordFile: "/etc/aptmesh/packages.password"}
	second.TLS.CA = "/etc/aptmesh/mirror-ca.pem"
	first, listed := archiveconf.NewMirror(), archiveconf.NewMirror()
	first.URL, listed.URL = "https://mirror.example.org/pub/mirrors/ubuntu", "mirror+https://mirrors.example.org/ubuntu.txt"
	c.Archives = archiveconf.Archives{
		named("ubuntu", func(a *archiveconf.Archive) {
			a.Upstream, a.Aliases = "http://archive.ubuntu.com/ubuntu", []string{"http://*.archive.ubuntu.com/ubuntu"}
			a.History = "https://snapshot.ubuntu.com/ubuntu"
			a.SignedBy, a.Suites = []string{ubuntuKeys}, []string{"noble", "noble-updates"}
		}),
		named("ubuntu-security", func(a *archiveconf.Archive) {
			a.Upstream, a.SignedBy = "http://security.ubuntu.com/ubuntu", []string{ubuntuKeys}
		}),
		named("ppa", func(a *archiveconf.Archive) {
			a.Upstream, a.SignedBy = "http://ppa.launchpadcontent.net/*/*/ubuntu", []string{"/etc/apt/keyrings"}
			a.Aliases, a.MaxArchives = []string{"http://ppa.launchpad.net/*/*/ubuntu"}, 200
		}),
		named("ubuntu-mirrored", func(a *archiveconf.Archive) {
			a.Upstreams, a.SignedBy, a.Allow = []archiveconf.Mirror{first, second, listed}, []string{ubuntuKeys}, []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
		}),
		named("private", func(a *archiveconf.Archive) {
			a.Upstream, a.SignedBy = "https://packages.example.net/apt", []string{"/etc/apt/keyrings/private.asc"}
			a.Credentials, a.Allow = upstream.Credentials{BearerFile: "/etc/aptmesh/token"}, []netip.Prefix{netip.MustParsePrefix("10.20.0.0/16")}
		}),
	}
	mirror := keys.New[holdconf.Mirror]()
	mirror.Name, mirror.Archive, mirror.Suites = "noble-amd64", "ubuntu", []string{"noble", "noble-updates", "noble-security"}
	mirror.Components, mirror.Architectures, mirror.Window, mirror.Rate = []string{"main", "restricted"}, []string{"amd64"}, "01:00-05:00", 50<<20
	mirror.Only = holdconf.Only{Match: holdconf.Match{Section: []string{"net", "kernel"}, Package: []string{"nginx*"}}, Closure: true}
	c.Mirrors = holdconf.Mirrors{mirror}
	weekly, promote := keys.New[snapshotconf.Auto](), keys.New[snapshotconf.Promote]()
	weekly.Name, weekly.At, weekly.Archives, weekly.Into = "w{isoyear}-{isoweek}", "Mon 04:00 UTC", []string{"ubuntu"}, "canary"
	promote.From, promote.To = "canary", "stable"
	c.Snapshots.Schedule = snapshotconf.Settings{Auto: []snapshotconf.Auto{weekly}, Promote: []snapshotconf.Promote{promote}}
	return c
}

const sampleHead = `# aptmesh: a configuration to start from. Every line is commented out and shows the default, or an
# example for archives: take away the # of what you change, and of the section that it is in.
#
# As it stands, this file says nothing: the node serves the archives of this machine's own apt.
# "aptmesh config check" says what is wrong with a file, "aptmesh config show" prints it with the
# defaults filled in. docs/configuration.md has every key. Relative paths are relative to the file.
# Sizes: 256MiB, 200GB; durations: 500ms, 60s, 24h, 7d.

`

// sampleFile is deploy/aptmesh.yaml.
func sampleFile() ([]byte, error) {
	text, err := keys.Render(sample(), docs(), true)
	if err != nil {
		return nil, err
	}
	var b strings.Builder
	b.WriteString(sampleHead)
	before := "#"
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "#") && !strings.HasPrefix(before, "#") {
			b.WriteString("\n")
		}
		before = line
		if !strings.HasPrefix(strings.TrimSpace(line), "#") {
			line = "#" + line
		}
		b.WriteString(line)
	}
	return []byte(b.String()), nil
}

const referenceHead = `# Configuration

Every key of the file that ` + "`aptmesh serve --config FILE`" + ` reads, in reading order. This page is made from the
code by ` + "`make docs`" + `.

Without a file, a node serves the archives that this machine's own apt uses, with their keyrings. In a
file, a key that is left out has its default. An unknown key, or a value that makes no sense, is
refused with its line: ` + "`aptmesh config check`" + ` lists everything that is wrong, ` + "`aptmesh config show`" + `
prints the configuration with the defaults filled in. [deploy/aptmesh.yaml](../deploy/aptmesh.yaml) is a
file to start from.

- Sizes: ` + "`256MiB`, `200GB`" + `, or a number of bytes. Durations: ` + "`500ms`, `60s`, `24h`, `7d`" + `.
- A list with one entry may be written without brackets.
- Relative paths are relative to the directory of the file.
- On SIGHUP a node reads the file again. It applies the keys that say *reload*, and says which of the
  others wait for a restart.
`

// reference is docs/configuration.md.
func reference() []byte {
	type section struct {
		doc  string
		keys []keys.Field
	}
	order := []string{""} // rows of the sections; "" is the top of the file
	sections := map[string]*section{"": {}}
	seen := make(map[string]bool)
	keys.Walk(sample(), func(f keys.Field) bool {
		if f.IsEntry() || seen[f.Row] {
			return true
		}
		seen[f.Row] = true
		if f.Leaf() {
			in := sections[strings.TrimSuffix(strings.TrimSuffix(f.Row, f.Name), ".")]
			in.keys = append(in.keys, f)
			return true
		}
		row := f.EntryRow()
		order = append(order, row)
		sections[row] = &section{doc: docs().Text(f)}
		return true
	})
	var b strings.Builder
	b.WriteString(referenceHead)
	for _, row := range order {
		title := "`" + row + "`"
		if row == "" {
			title = "Top of the file"
		}
		fmt.Fprintf(&b, "\n## %s\n", title)
		for paragraph := range strings.SplitSeq(sections[row].doc, "\n\n") {
			if paragraph != "" {
				b.WriteString("\n" + strings.Join(keys.Wrap(paragraph, 100), "\n") + "\n")
			}
		}
		b.WriteString("\n| key | value | default | change | meaning |\n|---|---|---|---|---|\n")
		for _, f := range sections[row].keys {
			def, change := "", "restart"
			if d, ok := f.Tag.Lookup("default"); ok {
				def = "`" + d + "`"
			}
			if f.Reload {
				change = "reload"
			}
			summary, details := docs().Of(f)
			meaning := strings.ReplaceAll(strings.TrimSpace(summary+" "+details), "|", `\|`)
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", f.Name, f.What(), def, change, meaning)
		}
	}
	return []byte(b.String())
}
