package config

import (
	"cmp"
	"fmt"
	"net/netip"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/aptmesh/aptmesh/node/blobstore"
	"github.com/aptmesh/aptmesh/node/upstream"
)

// Show writes the configuration as a file that Load would accept: every key in reading order with
// its meaning, the defaults filled in, and *** in the place of every secret. Keys of archives that
// are not in use are left out.
func (c *Config) Show() ([]byte, error) { return c.render(false) }

// render writes the configuration with the summary of each key, or with all its documentation.
func (c *Config) render(details bool) ([]byte, error) {
	comments := make(yaml.CommentMap)
	explained := make(map[string]bool) // once is enough for archives
	plain := make(map[string]bool)     // keys of mirrors that are written as their URLs alone
	c.walk(func(f field) bool {
		if strings.Contains(f.tag.Get("yaml"), ",omitempty") && isEmpty(f.value) {
			return false
		}
		if m, ok := f.value.Interface().([]Mirror); ok {
			for i := range m {
				plain[fmt.Sprintf("%s[%d]", f.path, i)] = m[i].isSimple()
			}
		}
		if section, _ := splitKey(f.path); f.doc() == "" || explained[f.row] || plain[section] {
			return true
		}
		explained[f.row] = true
		text := f.summary()
		if details && f.details() != "" {
			text += " " + f.details()
		}
		lines := wrap(text, 96-2*strings.Count(f.path, "."))
		for i := range lines {
			lines[i] = " " + lines[i]
		}
		comments["$."+f.path] = []*yaml.Comment{yaml.HeadComment(lines...)}
		return true
	})
	return yaml.MarshalWithOptions(c,
		yaml.CustomMarshaler(func(n int64) ([]byte, error) { return []byte(formatSize(n)), nil }),
		yaml.CustomMarshaler(func(d time.Duration) ([]byte, error) { return []byte(formatDuration(d)), nil }),
		yaml.CustomMarshaler(func(p netip.Prefix) ([]byte, error) {
			if p.Addr().Is6() {
				return []byte(strconv.Quote(formatNetwork(p))), nil
			}
			return []byte(formatNetwork(p)), nil
		}),
		yaml.CustomMarshaler(func(p upstream.Proxy) ([]byte, error) { return []byte(cmp.Or(p.Setting(), `""`)), nil }),
		yaml.CustomMarshaler(func(l blobstore.Limit) ([]byte, error) { return []byte(formatLimit(l)), nil }),
		yaml.WithComment(comments), yaml.IndentSequence(true), yaml.UseLiteralStyleIfMultiline(true))
}

func isEmpty(v reflect.Value) bool {
	if z, ok := v.Interface().(interface{ IsZero() bool }); ok {
		return z.IsZero()
	}
	return v.IsZero() || v.Kind() == reflect.Slice && v.Len() == 0
}

// wrap breaks a text into lines.
func wrap(text string, width int) (lines []string) {
	line := ""
	for word := range strings.FieldsSeq(text) {
		switch {
		case line == "":
			line = word
		case len(line)+1+len(word) > width:
			lines, line = append(lines, line), word
		default:
			line += " " + word
		}
	}
	return append(lines, line)
}

// sample is a configuration that uses every section, for the documentation.
func sample() *Config {
	c := Default()
	c.State = DefaultStateDir
	const ubuntuKeys = "/usr/share/keyrings/ubuntu-archive-keyring.gpg"
	named := func(name string, change func(*Archive)) Archive {
		a := NewArchive(name)
		change(&a)
		return a
	}
	second := NewMirror()
	second.URL, second.Priority, second.Weight = "https://packages.example.com/ubuntu", 2, 3
	second.Credentials = Credentials{User: "site1", PasswordFile: "/etc/aptmesh/packages.password"}
	second.TLS.CA = "/etc/aptmesh/mirror-ca.pem"
	first, listed := NewMirror(), NewMirror()
	first.URL, listed.URL = "https://mirror.example.org/pub/mirrors/ubuntu", "mirror+https://mirrors.example.org/ubuntu.txt"
	c.Archives = Archives{
		named("ubuntu", func(a *Archive) {
			a.Upstream, a.Aliases = "http://archive.ubuntu.com/ubuntu", []string{"http://*.archive.ubuntu.com/ubuntu"}
			a.Snapshot = "https://snapshot.ubuntu.com/ubuntu/{timestamp}"
			a.SignedBy, a.Suites = []string{ubuntuKeys}, []string{"noble", "noble-updates"}
		}),
		named("ubuntu-security", func(a *Archive) {
			a.Upstream, a.SignedBy = "http://security.ubuntu.com/ubuntu", []string{ubuntuKeys}
		}),
		named("ppa", func(a *Archive) {
			a.Upstream, a.SignedBy = "http://ppa.launchpadcontent.net/*/*/ubuntu", []string{"/etc/apt/keyrings"}
			a.Aliases, a.MaxArchives = []string{"http://ppa.launchpad.net/*/*/ubuntu"}, 200
		}),
		named("ubuntu-mirrored", func(a *Archive) {
			a.Upstreams, a.SignedBy, a.Allow = []Mirror{first, second, listed}, []string{ubuntuKeys}, []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
		}),
		named("private", func(a *Archive) {
			a.Upstream, a.SignedBy = "https://packages.example.net/apt", []string{"/etc/apt/keyrings/private.asc"}
			a.Credentials, a.Allow = Credentials{BearerFile: "/etc/aptmesh/token"}, []netip.Prefix{netip.MustParsePrefix("10.20.0.0/16")}
		}),
	}
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
	text, err := sample().render(true)
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
		keys []field
	}
	order := []string{""} // rows of the sections; "" is the top of the file
	sections := map[string]*section{"": {}}
	seen := make(map[string]bool)
	sample().walk(func(f field) bool {
		if f.row == archiveRow || seen[f.row] {
			return true
		}
		seen[f.row] = true
		row := f.row
		switch f.value.Interface().(type) {
		case Archives:
			row = archiveRow
		case []Mirror:
			row += "[]"
		}
		if f.leaf() {
			in := sections[strings.TrimSuffix(strings.TrimSuffix(row, f.name), ".")]
			in.keys = append(in.keys, f)
		} else {
			order = append(order, row)
			sections[row] = &section{doc: f.doc()}
		}
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
				b.WriteString("\n" + strings.Join(wrap(paragraph, 100), "\n") + "\n")
			}
		}
		b.WriteString("\n| key | value | default | change | meaning |\n|---|---|---|---|---|\n")
		for _, f := range sections[row].keys {
			def, change := "", "restart"
			if d, ok := f.tag.Lookup("default"); ok {
				def = "`" + d + "`"
			}
			if f.reload {
				change = "reload"
			}
			meaning := strings.ReplaceAll(strings.TrimSpace(f.summary()+" "+f.details()), "|", `\|`)
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", f.name, valueName(f.value), def, change, meaning)
		}
	}
	return []byte(b.String())
}

// valueName is what a value is called in the reference.
func valueName(v reflect.Value) string {
	switch v.Interface().(type) {
	case []string, []netip.Prefix:
		return "list"
	case int64:
		return "size"
	case blobstore.Limit:
		return "size, or share"
	case time.Duration, *time.Duration:
		return "duration"
	case int:
		return "number"
	case bool:
		return "true, false"
	}
	return "text"
}
